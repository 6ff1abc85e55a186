//! The operators by epoch, without an engine: any rows, snapshots and restarts between any epochs and any rows.

use std::hash::Hash;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::testing::{Checkpoint, EpochInput, Harness, operator_of, restart_each_epoch, three_phases};
use tidemill::{Operator, ProcessingTime};

use super::common::MODES;
use super::model::{Kind, Model, Out, Row, at};

/// An epoch: rows as key and time ahead of the watermark, and how far watermark and clock advance.
type Step = (Vec<(u8, i64)>, i64, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = proptest::collection::vec((0..4u8, -15..25i64), 0..8);
    // The watermark often stays where it is.
    let advance = prop_oneof![Just(0i64), 0..20i64];
    proptest::collection::vec((rows, advance, 0..20i64), 1..14)
}

const KINDS: [Kind; 4] = [Kind::ByTime, Kind::WithinWatermark(12), Kind::Within(20), Kind::For(30)];

struct Trial {
    kind: Kind,
    epochs: Vec<(i64, Vec<Row>, i64)>,
    expected: Vec<Vec<Out>>,
}

impl Trial {
    fn of(kind: Kind, epochs: Vec<(i64, Vec<Row>, i64)>) -> Trial {
        let mut model = Model::new(kind);
        let expected =
            epochs.iter().map(|(now, rows, watermark)| model.epoch(*now, rows, *watermark)).collect();
        Trial { kind, epochs, expected }
    }

    /// Epochs from a watermark of -100 to the end of time.
    fn new(kind: Kind, steps: &[Step]) -> Trial {
        let (mut watermark, mut now, mut number) = (-100, 0, 0);
        let mut epochs = vec![(0, vec![], watermark)];
        for (rows, advance, passed) in steps {
            now += passed;
            let row = |&(key, ahead): &(u8, i64)| {
                number += 1;
                Row { key, time: watermark + ahead, number }
            };
            let rows = rows.iter().map(row).collect();
            watermark += advance;
            epochs.push((now, rows, watermark));
        }
        epochs.push((now, vec![], i64::MAX));
        Trial::of(kind, epochs)
    }

    /// The same with an epoch for each row.
    fn row_by_row(&self) -> Trial {
        let (mut before, mut epochs) = (i64::MIN, vec![]);
        for (now, rows, watermark) in &self.epochs {
            epochs.extend(rows.iter().map(|row| (*now, vec![*row], before)));
            epochs.push((*now, vec![], *watermark));
            before = *watermark;
        }
        Trial::of(self.kind, epochs)
    }

    fn make(&self) -> Box<dyn Fn(Place) -> Box<dyn Operator>> {
        let graph = Graph::new("distinct");
        let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::from_micros(12));
        let keyed = rows.key_by(|row| row.key);
        match self.kind {
            Kind::ByTime => Box::new(operator_of(keyed.distinct())),
            Kind::WithinWatermark(_) => Box::new(operator_of(keyed.distinct_within_watermark())),
            Kind::Within(span) => {
                Box::new(operator_of(keyed.distinct_within(Duration::from_micros(span.unsigned_abs()))))
            }
            Kind::For(ttl) => {
                Box::new(operator_of(keyed.distinct_for(Duration::from_micros(ttl.unsigned_abs()))))
            }
        }
    }

    fn input(&self) -> Vec<EpochInput> {
        let input = |(now, rows, watermark): &(i64, Vec<Row>, i64)| {
            let epoch = EpochInput::until(EventTime::from_micros(*watermark));
            let epoch = epoch.at(ProcessingTime::from_micros(*now));
            match self.kind {
                Kind::ByTime => epoch.keyed(0, dealt(rows, |row| (row.key, at(row)))),
                _ => epoch.keyed(0, dealt(rows, |row| row.key)),
            }
        };
        self.epochs.iter().map(input).collect()
    }

    fn check(&self) {
        for mode in MODES {
            let make = std::rc::Rc::new(self.make());
            three_phases(mode, &self.input(), move |place| make(place), emitted, &self.expected);
        }
    }

    fn check_restarts_between_rows(&self) {
        let trial = self.row_by_row();
        for mode in MODES {
            let make = std::rc::Rc::new(trial.make());
            restart_each_epoch(mode, &trial.input(), move |place| make(place), emitted, &trial.expected);
        }
    }
}

fn dealt<K: Key>(rows: &[Row], key: impl Fn(&Row) -> K) -> Vec<Dealt<K, Row>> {
    rows.iter().map(|row| Dealt::new(key(row), at(row), *row)).collect()
}

fn emitted<O: Operator>(instance: &mut Harness<O>) -> Vec<Out> {
    let passed = instance.take::<(EventTime, Row)>(0).into_iter();
    let mut out: Vec<Out> = passed
        .map(|(time, row)| {
            assert_eq!(time, at(&row), "a row keeps its event time");
            Out::Passes(row)
        })
        .collect();
    out.extend(instance.take::<(EventTime, Row)>(1).into_iter().map(|(_, row)| Out::Late(row)));
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn deduplication_by_epoch_agrees_with_loops(steps in steps()) {
        KINDS.into_iter().for_each(|kind| Trial::new(kind, &steps).check());
    }

    #[test]
    fn restart_between_any_two_rows_changes_nothing(steps in steps()) {
        KINDS.into_iter().for_each(|kind| Trial::new(kind, &steps).check_restarts_between_rows());
    }
}

#[test]
fn hot_key_and_many_keys_agree_with_loops() {
    for kind in KINDS {
        let hot = |n: i64| ((0..40).map(|m| (7u8, (n * m) % 25 - 5)).collect(), n % 7, n % 9);
        Trial::new(kind, &(0..30).map(hot).collect::<Vec<_>>()).check();
        let wide = |n: i64| ((0..=200u8).map(|key| (key, (n * 13 + i64::from(key)) % 20)).collect(), 9, 5);
        Trial::new(kind, &(0..10).map(wide).collect::<Vec<_>>()).check();
        Trial::new(kind, &[]).check();
    }
}

#[test]
fn rows_at_the_ends_of_time_are_kept_apart() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    let rows: Vec<Row> = (0..)
        .zip(times.into_iter().cycle().take(18))
        .map(|(number, time)| Row { key: 1, time, number })
        .collect();
    for kind in [Kind::ByTime, Kind::Within(i64::MAX), Kind::Within(5)] {
        let epochs =
            vec![(0, rows.clone(), i64::MIN), (1, rows.clone(), i64::MAX - 1), (2, rows.clone(), i64::MAX)];
        Trial::of(kind, epochs).check();
    }
}

/// The end of a key is the time of its first row plus the delay, and counts from when the watermark has reached it.
#[test]
fn duplicate_passes_once_watermark_has_reached_the_end() {
    let row = |time, number| Row { key: 3, time, number };
    let epochs = vec![
        (0, vec![row(100, 0), row(104, 1)], 95),
        // The duplicate does not prolong it: 112 is the end, not 116.
        (0, vec![row(105, 2)], 111),
        (0, vec![row(112, 3)], 112),
        (0, vec![row(112, 4), row(111, 5), row(113, 6)], 113),
    ];
    let trial = Trial::of(Kind::WithinWatermark(12), epochs);
    let passed = [
        vec![Out::Passes(row(100, 0))],
        vec![],
        vec![],
        vec![Out::Passes(row(112, 4)), Out::Late(row(111, 5))],
    ];
    assert_eq!(trial.expected, passed);
    trial.check();
}

#[test]
fn late_rows_are_counted_and_leave_no_trace() {
    for kind in [Kind::ByTime, Kind::WithinWatermark(12), Kind::Within(12)] {
        let row = |time, number| Row { key: 3, time, number };
        let epochs = vec![(0, vec![row(10, 0)], 10), (0, vec![row(9, 1), row(9, 2), row(11, 3)], 10)];
        let trial = Trial::of(kind, epochs);
        for mode in MODES {
            let place = Place::new(0, 1, mode);
            let mut harness = Harness::restored(place, trial.make(), &Checkpoint::new()).unwrap();
            for (_, rows, watermark) in &trial.epochs {
                match kind {
                    Kind::ByTime => harness.batch(0, dealt(rows, |row| (row.key, at(row)))).unwrap(),
                    _ => harness.batch(0, dealt(rows, |row| row.key)).unwrap(),
                }
                harness.end_epoch(EventTime::from_micros(*watermark)).unwrap();
            }
            let rows = trial.expected.iter().flatten().filter(|out| matches!(out, Out::Passes(_))).count();
            assert_eq!((harness.late_rows(), harness.state_rows()), (2, rows), "{kind:?}");
        }
    }
}

/// Rows of a day, each second one of a new key, with the state looked at each minute.
#[test]
fn state_is_flat_over_a_day() {
    const MINUTE: i64 = 60_000_000;
    for kind in [Kind::ByTime, Kind::WithinWatermark(10 * MINUTE), Kind::For(10 * MINUTE)] {
        let graph = Graph::new("day");
        let rows = graph.source(memory(Vec::<(u64, i64)>::new()));
        let rows = rows.with_watermark(|row| EventTime::from_micros(row.1), Duration::from_secs(600));
        let (keyed, span) = (rows.key_by(|row| row.0), Duration::from_secs(600));
        let make: Box<dyn Fn(Place) -> Box<dyn Operator>> = match kind {
            Kind::ByTime => Box::new(operator_of(keyed.distinct())),
            Kind::WithinWatermark(_) | Kind::Within(_) => {
                Box::new(operator_of(keyed.distinct_within_watermark()))
            }
            Kind::For(_) => Box::new(operator_of(keyed.distinct_for(span))),
        };
        let place = Place::new(0, 1, Mode::MicroBatch);
        let mut harness = Harness::restored(place, make, &Checkpoint::new()).unwrap();
        let (mut most, mut passed) = (0, 0);
        for minute in 0..24 * 60 {
            let row = |n: u64| (minute as u64 * 100 + n / 2, minute * MINUTE + n as i64 / 2);
            let time = |row: &(u64, i64)| EventTime::from_micros(row.1);
            harness.advance_to(ProcessingTime::from_micros(minute * MINUTE)).unwrap();
            let rows = (0..200).map(row);
            match kind {
                Kind::ByTime => harness
                    .batch(0, rows.map(|row| Dealt::new((row.0, time(&row)), time(&row), row)).collect()),
                _ => harness.batch(0, rows.map(|row| Dealt::new(row.0, time(&row), row)).collect()),
            }
            .unwrap();
            harness.end_epoch(EventTime::from_micros((minute - 10) * MINUTE)).unwrap();
            harness.snapshot(&mut Checkpoint::new()).unwrap();
            passed += harness.take::<(EventTime, (u64, i64))>(0).len();
            most = most.max(harness.state_rows());
        }
        assert_eq!(passed, 24 * 60 * 100, "{kind:?}");
        // 1000 keys come in ten minutes; twice as many are there when those are remembered for twenty.
        assert!(most < 5_000, "{kind:?}: {most}");
    }
}

/// Bound of a key in these tests.
trait Key: tidemill::Key + Hash {}
impl<K: tidemill::Key + Hash> Key for K {}
