//! Rows and windows that the tests have in common.

use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill::operator::Dealt;
use tidemill::prelude::*;
use tidemill::testing::EpochInput;
use tidemill::{ProcessingTime, WindowAssigner};

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

pub(crate) fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros as u64)
}

/// The windows of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Tumbling(i64),
    Sliding(i64, i64),
    Session(i64),
    /// The gap follows from the row.
    SessionBy,
    Cumulative(i64, i64),
    /// [`Uneven`].
    Own,
}

pub(crate) const KINDS: [Kind; 9] = [
    Kind::Tumbling(10),
    Kind::Tumbling(1),
    Kind::Sliding(20, 5),
    Kind::Sliding(12, 5),
    Kind::Session(7),
    Kind::Session(1),
    Kind::SessionBy,
    Kind::Cumulative(30, 10),
    Kind::Own,
];

/// The gap of a row: now and then long, now and then none, which counts as a microsecond.
pub(crate) fn gap(row: &Row) -> i64 {
    [0, 3, 7, 12, 30][row.number as usize % 5]
}

/// Windows of 4 and of 11 in turn; rows at multiples of 7 are in none.
#[derive(Clone)]
pub(crate) struct Uneven;

impl WindowAssigner<Row> for Uneven {
    fn assign(&self, time: EventTime, _: &Row, windows: &mut Vec<Window>) {
        windows.extend(uneven(time.as_micros()).map(|(start, end)| Window {
            start: EventTime::from_micros(start),
            end: EventTime::from_micros(end),
        }));
    }

    fn describe(&self) -> String {
        "uneven".to_owned()
    }
}

fn uneven(time: i64) -> Option<(i64, i64)> {
    let base = time.div_euclid(15) * 15;
    let window = if time < base + 4 { (base, base + 4) } else { (base + 4, base + 15) };
    (time % 7 != 0).then_some(window)
}

impl Kind {
    pub(crate) fn merges(self) -> bool {
        matches!(self, Kind::Session(_) | Kind::SessionBy)
    }

    /// The windows of a row at that time, by brute force.
    pub(crate) fn windows(self, row: &Row, time: i64) -> Vec<(i64, i64)> {
        let contains = |window: &(i64, i64)| window.0 <= time && time < window.1;
        match self {
            Kind::Tumbling(size) => self::Kind::Sliding(size, size).windows(row, time),
            Kind::Sliding(size, slide) => {
                let near = time.div_euclid(slide) * slide;
                let all = (-40..=2).map(|n| (near + n * slide, near + n * slide + size));
                all.filter(contains).collect()
            }
            Kind::Session(gap) => vec![(time, time + gap)],
            Kind::SessionBy => vec![(time, time + gap(row).max(1))],
            Kind::Cumulative(period, step) => {
                let start = time.div_euclid(period) * period;
                (1..=period / step).map(|n| (start, start + n * step)).filter(contains).collect()
            }
            Kind::Own => uneven(time).into_iter().collect(),
        }
    }
}

/// Rows as key and time ahead of the watermark, how far the watermark advances, and how far the clock.
pub(crate) type Step = (Vec<(u8, i64)>, i64, i64);

pub(crate) fn steps(rows: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![3 => Just(0u8), 1 => 1..4u8];
    let time = prop_oneof![4 => -20..30i64, 1 => -90..40i64, 1 => Just(0i64)];
    let rows = proptest::collection::vec((key, time), rows);
    let advance = prop_oneof![2 => Just(0i64), 3 => 0..12i64, 1 => 20..80i64];
    proptest::collection::vec((rows, advance, 0..9i64), 1..14)
}

/// An epoch: its rows, and the watermark and the clock at its end and its beginning.
pub(crate) type Epoch = (Vec<Row>, i64, i64);

/// The first has no rows and sets the watermark; the last is the end of the input.
pub(crate) fn epochs(steps: &[Step]) -> Vec<Epoch> {
    let (mut watermark, mut now, mut number) = (-60, 1_000, 0);
    let mut epochs = vec![(vec![], watermark, now)];
    for (rows, advance, passed) in steps {
        let row = |&(key, ahead): &(u8, i64)| {
            number += 1;
            Row { key, time: watermark + ahead, number }
        };
        let rows = rows.iter().map(row).collect();
        (watermark, now) = (watermark + advance, now + passed);
        epochs.push((rows, watermark, now));
    }
    epochs.push((vec![], i64::MAX, now));
    epochs
}

/// The same with at most one row in an epoch.
pub(crate) fn row_by_row(epochs: &[Epoch]) -> Vec<Epoch> {
    let mut before = i64::MIN;
    let mut all = vec![];
    for (rows, watermark, now) in epochs {
        all.extend(rows.iter().map(|row| (vec![*row], before, *now)));
        all.push((vec![], *watermark, *now));
        before = *watermark;
    }
    all
}

pub(crate) fn inputs(epochs: &[Epoch]) -> Vec<EpochInput> {
    let input = |(rows, watermark, now): &Epoch| {
        let dealt = rows.iter().map(|row| Dealt::new(row.key, at(row), *row)).collect();
        let epoch = EpochInput::until(EventTime::from_micros(*watermark));
        epoch.at(ProcessingTime::from_micros(*now)).keyed(0, dealt)
    };
    epochs.iter().map(input).collect()
}

pub(crate) fn timed_rows() -> Stream<Row, impl tidemill::Chain<Out = Row, Time = tidemill::Timed>> {
    Graph::new("firings").source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO)
}
