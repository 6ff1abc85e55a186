//! How long an event takes from the moment it was due to the sink; see
//! [`baseline::latency`](crate::baseline::latency).
//!
//! The counts are Renoir's own `rich_map` by key, which emits the count whenever it changes. Its sources never ask for
//! what they emitted to be sent on, and its batches go by size, or by a timeout that is looked at with the next element.
//! So the source here says when nothing is due any more, and an operator after it flushes: that is the least latency
//! that Renoir offers, and at high rates batches fill as before. (Batches of one element send each by itself, which
//! keeps up with a fraction of the rate.) After an exchange an operator does not see where a batch ends, so the clock
//! is read for every row there.
//!
//! A block is a thread: with one worker a count has two, and with two workers four. A source that waits awake yields
//! its core, as it would otherwise keep it from those that count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use renoir::Stream;
use renoir::operator::{ElementGenerator, Operator, StreamElement};
use renoir::prelude::{BatchMode, ParallelIteratorSource, StreamContext};

use super::{BATCH, context};
use crate::harness::answer::mapped;
use crate::harness::lateness::Lateness;
use crate::harness::recorder::{Recorder, Row};
use crate::harness::run::{Setting, Shape};
use crate::harness::schedule::{Schedule, Wait, Walk};
use crate::harness::source::{Emitted, Event};
use crate::harness::words;

/// Lines that a source takes at most before it looks again what is due.
const LOOK: u64 = 8_192;
/// Rows that a sink measures together where it sees the end of a batch.
const ROWS: usize = 256;

/// Emits what is due, divided among the workers, and measures it.
///
/// # Panics
/// If the graph says its windows only once.
#[must_use]
pub fn latency(setting: &Setting, workers: usize) -> Vec<Recorder> {
    let context = context(workers);
    let measure = Measure::new(setting);
    let all = Arc::clone(&measure.all);
    match setting.job.shape {
        Shape::Map => map(generate::<Event>(&context, setting), measure),
        Shape::KeyedCount => {
            let counts = generate::<Event>(&context, setting).group_by(|event| event.0).rich_map({
                let mut count = 0;
                move |_| {
                    count += 1;
                    count
                }
            });
            let mut measure = measure;
            counts.for_each(move |(key, count)| measure.write(Row::Counted(key, 0, count)));
        }
        Shape::WindowedCount => {
            // Microseconds, and stamps in nanoseconds.
            let size = setting.job.window * 1_000;
            let counts = generate::<Event>(&context, setting).group_by(|event| event.0).rich_map({
                let mut windows = HashMap::<u64, u64>::new();
                move |(_, event): (&u64, Event)| {
                    let window = event.1 / size;
                    let count = match windows.entry(window) {
                        Entry::Occupied(count) => count.into_mut(),
                        Entry::Vacant(place) => place.insert(0),
                    };
                    *count += 1;
                    (window, *count)
                }
            });
            let mut measure = measure;
            counts.for_each(move |(key, (window, count))| measure.write(Row::Counted(key, window, count)));
        }
        Shape::WordCount => {
            let words = generate::<String>(&context, setting)
                .flat_map(|line| tidemill::connectors::words(&line).map(str::to_owned).collect::<Vec<_>>());
            let counts = words.group_by(String::clone).rich_map({
                let mut count = 0;
                move |_| {
                    count += 1;
                    count
                }
            });
            let mut measure = measure;
            counts.for_each(move |(word, count)| measure.write(Row::Counted(words::read(&word), 0, count)));
        }
        other @ (Shape::WindowedCountOnce | Shape::Process) => panic!("{other:?} is not written on Renoir"),
    }
    context.execute_blocking();
    std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What is due by the schedule; flushed when nothing more is.
fn generate<T: Emitted + Clone>(
    context: &StreamContext,
    setting: &Setting,
) -> Stream<impl Operator<Out = T> + 'static> {
    let setting = setting.clone();
    let source = ParallelIteratorSource::new(move |partition: u64, _: u64| {
        let schedule = Arc::clone(&setting.schedule);
        let at = schedule.walk(schedule.first(partition));
        let lateness = setting.lateness();
        Due { schedule, at, lateness, left: 0, to_flush: false, emitted: std::marker::PhantomData }
    });
    context.stream(source).batch_mode(BatchMode::fixed(BATCH)).rich_map_custom(
        |mut elements: ElementGenerator<'_, _>| match elements.next() {
            StreamElement::Item(Some(item)) => StreamElement::Item(item),
            StreamElement::Item(None) => StreamElement::FlushBatch,
            StreamElement::FlushBatch => StreamElement::FlushBatch,
            StreamElement::FlushAndRestart => StreamElement::FlushAndRestart,
            StreamElement::Terminate => StreamElement::Terminate,
            StreamElement::Timestamped(..) | StreamElement::Watermark(_) => {
                panic!("no event has a timestamp")
            }
        },
    )
}

/// The due lines of one partition, and nothing where none is due any more; it waits for the next one by the schedule's
/// rule.
struct Due<T> {
    schedule: Arc<Schedule>,
    at: Walk,
    lateness: Lateness,
    /// Lines that were due at the last look.
    left: u64,
    to_flush: bool,
    emitted: std::marker::PhantomData<fn() -> T>,
}

impl<T: Emitted> Iterator for Due<T> {
    type Item = Option<T>;

    fn next(&mut self) -> Option<Option<T>> {
        while self.left == 0 {
            let (schedule, next) = (&*self.schedule, self.at.index());
            if next >= schedule.total() {
                return None;
            }
            let (end, now) = schedule.look();
            self.left = schedule.lines(next, end).min(LOOK);
            self.lateness.emitted(next, self.left, now);
            if self.left > 0 {
                break;
            }
            if std::mem::take(&mut self.to_flush) {
                return Some(None);
            }
            match schedule.wait(next) {
                Wait::Awake => std::thread::yield_now(),
                Wait::Asleep(time) => std::thread::sleep(time),
            }
        }
        self.left -= 1;
        self.to_flush = true;
        Some(Some(T::next(&mut self.at, &self.schedule)))
    }
}

/// A map and a filter in the block of the source.
fn map(events: Stream<impl Operator<Out = Event> + 'static>, mut measure: Measure) {
    events
        .filter_map(|(key, due)| Some((mapped(key)?, due)))
        .rich_map_custom(move |mut elements: ElementGenerator<'_, _>| {
            loop {
                let end = match elements.next() {
                    StreamElement::Item((value, due)) | StreamElement::Timestamped((value, due), _) => {
                        measure.gather(Row::Passed(value, due));
                        continue;
                    }
                    StreamElement::FlushBatch => StreamElement::FlushBatch,
                    StreamElement::FlushAndRestart => StreamElement::FlushAndRestart,
                    StreamElement::Terminate => StreamElement::Terminate,
                    StreamElement::Watermark(time) => StreamElement::Watermark(time),
                };
                measure.flush();
                return end;
            }
        })
        .for_each(|(): ()| ());
}

/// The sink of a replica: hands rows to its recorder, which the run collects when the replica has ended.
struct Measure {
    setting: Setting,
    recorder: Option<Recorder>,
    rows: Vec<Row>,
    all: Arc<Mutex<Vec<Recorder>>>,
}

impl Measure {
    fn new(setting: &Setting) -> Measure {
        Measure { setting: setting.clone(), recorder: None, rows: Vec::new(), all: Arc::default() }
    }

    fn write(&mut self, row: Row) {
        let recorder = self.recorder.get_or_insert_with(|| self.setting.recorder());
        recorder.write(0, std::iter::once(row));
    }

    fn gather(&mut self, row: Row) {
        self.rows.push(row);
        if self.rows.len() >= ROWS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.rows.is_empty() {
            let recorder = self.recorder.get_or_insert_with(|| self.setting.recorder());
            recorder.write(0, self.rows.drain(..));
        }
    }
}

impl Clone for Measure {
    fn clone(&self) -> Measure {
        // Renoir clones operators before the run to make replicas.
        let all = Arc::clone(&self.all);
        Measure { setting: self.setting.clone(), recorder: None, rows: Vec::new(), all }
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.flush();
        let recorder = self.recorder.take();
        self.all.lock().unwrap_or_else(PoisonError::into_inner).extend(recorder);
    }
}

#[cfg(test)]
mod tests {
    use crate::harness::run::{Job, Shape, on_renoir};
    use crate::harness::schedule::Load;

    #[test]
    fn the_program_on_renoir_answers_the_same() {
        for shape in [Shape::Map, Shape::KeyedCount, Shape::WindowedCount, Shape::WordCount] {
            for (workers, rate, closed) in [(1, 1_000, false), (2, 50_000, false), (2, 400_000, true)] {
                let load = Load { keys: 70, closed, ..Load::open(rate, 0.25) };
                let measured = on_renoir(
                    Job { shape, window: 50_000, sink_takes: std::time::Duration::ZERO },
                    &load,
                    workers,
                    &mut |_, _| (),
                );
                assert_eq!(measured.answer, measured.expected, "{shape:?} {workers} {rate}");
                let all = |slots: &crate::harness::slots::Slots| slots.total(std::time::Duration::ZERO).len();
                assert_eq!(all(&measured.record), if closed { 0 } else { measured.expected.events });
                assert!(closed || all(&measured.generator) >= measured.expected.events);
            }
        }
    }
}
