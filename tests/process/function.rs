//! A process function that uses every call there is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::EventTime;
use tidemill::ProcessingTime;
use tidemill::operator::{Events, ListState, Rows, States, Timer, ValueState};
use tidemill::process::{CloseContext, InitialState, ProcessContext, ProcessFunction, ProcessResult};

/// A row: its key, its event time, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: u8,
    pub(crate) time: i64,
    pub(crate) number: u32,
}

pub(crate) fn at(row: &Row) -> EventTime {
    EventTime::from_micros(row.time)
}

/// What the function emits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Out {
    /// The key, the time of the last row, and the numbers of the rows since the last silence.
    Silent(u8, i64, Vec<u32>),
    /// A timer that goes off every [`PERIOD`] while rows are kept: the key, its time, and how many there are.
    Tick(u8, i64, usize),
    /// No row for [`PATIENCE`] by the clock: the key and the time of the timer.
    Clock(u8, i64),
    Late(Row),
    /// At the end of the input: keys that still have rows.
    Left(u8, usize),
}

/// A key is silent once the watermark is that far beyond its last row.
pub(crate) const GAP: i64 = 20;
pub(crate) const PERIOD: i64 = 15;
/// By the clock.
pub(crate) const PATIENCE: i64 = 50;
/// How long a key is known as recent after its last row, by the clock.
pub(crate) const TTL: i64 = 30;

/// Collects the rows of each key until it is silent. A key that is seen for the first time in a while begins to tick.
pub(crate) struct Watch {
    last: ValueState<u8, (i64, i64)>,
    rows: ListState<u8, u32>,
    recent: ValueState<u8, ()>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Watch {
            last: ValueState::new(),
            rows: ListState::new(),
            recent: ValueState::with_ttl(Duration::from_micros(TTL as u64)),
        }
    }

    /// Notes that a row of that time has come.
    fn seen(&mut self, time: i64, number: u32, cx: &mut ProcessContext<'_, Self>) {
        let now = cx.now().as_micros();
        let mut last = time;
        if let Some((before, clock)) = self.last.get(cx.key).copied() {
            cx.delete_event_timer(EventTime::from_micros(before + GAP));
            cx.delete_processing_timer(ProcessingTime::from_micros(clock + PATIENCE));
            last = before.max(time);
        }
        self.last.insert(cx.key, (last, now));
        self.rows.push(cx.key, number);
        cx.set_event_timer(EventTime::from_micros(last + GAP));
        cx.set_processing_timer(ProcessingTime::from_micros(now + PATIENCE));
        if self.recent.insert(cx.key, ()).is_none() {
            // Ticks have odd times, and the end of a silence an even one.
            cx.set_event_timer(EventTime::from_micros((time + PERIOD) | 1));
        }
    }
}

impl ProcessFunction for Watch {
    type Key = u8;
    type Row = Row;
    type Outputs = (Events<Out>, Rows<Out>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("last", &mut self.last);
        states.add("rows", &mut self.rows);
        states.add("recent", &mut self.recent);
    }

    fn on_record(&mut self, row: Row, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        assert_eq!((*cx.key, cx.time()), (row.key, at(&row)));
        if cx.is_late() {
            cx.count_late();
            cx.out.1.push(Out::Late(row));
        } else {
            self.seen(row.time & !1, row.number, cx);
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let key = *cx.key;
        match timer {
            Timer::Processing(time) => cx.out.1.push(Out::Clock(key, time.as_micros())),
            Timer::Event(time) if time.as_micros() % 2 == 0 => {
                let (last, clock) = self.last.remove(cx.key).ok_or("a silence of no row")?;
                cx.out.0.push(time, Out::Silent(key, last, self.rows.drain(cx.key)));
                cx.delete_processing_timer(ProcessingTime::from_micros(clock + PATIENCE));
            }
            Timer::Event(time) => {
                let rows = self.rows.get(cx.key).count();
                if rows > 0 {
                    cx.out.0.push(cx.time(), Out::Tick(key, time.as_micros(), rows));
                    cx.set_event_timer(EventTime::from_micros((time.as_micros() + PERIOD) | 1));
                }
            }
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        let mut left = std::collections::BTreeMap::<u8, usize>::new();
        self.rows.iter().for_each(|(key, _)| *left.entry(*key).or_default() += 1);
        left.into_iter().for_each(|(key, rows)| cx.out.1.push(Out::Left(key, rows)));
        cx.out.1.push(Out::Left(u8::MAX, 0));
        Ok(())
    }
}

impl InitialState for Watch {
    type Initial = Row;

    fn on_initial(&mut self, row: Row, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        self.seen(row.time & !1, row.number, cx);
        Ok(())
    }
}
