//! The function by epoch, without an engine: any rows, snapshots and restarts between any epochs.

use std::time::Duration;

use proptest::prelude::*;
use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::testing::{Checkpoint, EpochInput, Harness, operator_of, three_phases};
use tidemill::{Operator, ProcessingTime};

use super::common::MODES;
use super::function::{Out, Row, Watch, at};
use super::model::Model;

/// An epoch: rows as key and time ahead of the watermark, and how far watermark and clock advance.
type Step = (Vec<(u8, i64)>, i64, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = proptest::collection::vec((0..4u8, -40..120i64), 0..6);
    // The watermark often stays where it is.
    let advance = prop_oneof![Just(0i64), 0..60i64];
    proptest::collection::vec((rows, advance, 0..40i64), 1..14)
}

struct Trial {
    epochs: Vec<(i64, Vec<Row>, i64)>,
    initial: Vec<Row>,
    expected: Vec<Vec<Out>>,
    late: u64,
}

/// Epochs from a watermark of -100 to the end of time, and what comes out of them.
fn trial(steps: &[Step], initial: &[Row]) -> Trial {
    let (mut watermark, mut now, mut number) = (-100, 0, 0);
    let mut model = Model::new();
    initial.iter().for_each(|row| model.seen(*row));
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
    let mut expected: Vec<Vec<Out>> =
        epochs.iter().map(|(now, rows, watermark)| model.epoch(*now, rows, *watermark)).collect();
    expected.last_mut().unwrap().extend(model.left());
    let late = expected.iter().flatten().filter(|out| matches!(out, Out::Late(_))).count() as u64;
    Trial { epochs, initial: initial.to_vec(), expected, late }
}

fn emitted<O: Operator>(instance: &mut Harness<O>) -> Vec<Out> {
    let mut out: Vec<Out> = instance.take::<(EventTime, Out)>(0).into_iter().map(|(_, out)| out).collect();
    out.extend(instance.take::<Out>(1));
    // Each instance says once that it has closed.
    out.retain(|out| *out != Out::Left(u8::MAX, 0));
    out
}

fn make(initial: &[Row]) -> impl Fn(Place) -> Box<dyn Operator> + Clone + 'static {
    let graph = Graph::new("watch");
    let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
    let keyed = rows.key_by(|row| row.key);
    let (out, _) = keyed.with_initial_state(initial.iter().map(|row| (row.key, *row))).process(Watch::new);
    operator_of(out)
}

fn dealt(rows: &[Row]) -> Vec<Dealt<u8, Row>> {
    rows.iter().map(|row| Dealt::new(row.key, at(row), *row)).collect()
}

fn check(trial: &Trial) {
    let input = |(now, rows, watermark): &(i64, Vec<Row>, i64)| {
        let epoch = EpochInput::until(EventTime::from_micros(*watermark));
        epoch.at(ProcessingTime::from_micros(*now)).keyed(0, dealt(rows))
    };
    let epochs: Vec<EpochInput> = trial.epochs.iter().map(input).collect();
    for mode in MODES {
        three_phases(mode, &epochs, make(&trial.initial), emitted, &trial.expected);
    }
}

/// The same with an epoch for each row, after each of which the instance is replaced by one that has read what was written.
fn check_restarts_between_rows(trial: &Trial) {
    for mode in MODES {
        let make = make(&trial.initial);
        let place = Place::new(0, 1, mode);
        let mut harness = Harness::restored(place, make, &Checkpoint::new()).unwrap();
        for ((now, rows, watermark), expected) in trial.epochs.iter().zip(&trial.expected) {
            harness.advance_to(ProcessingTime::from_micros(*now)).unwrap();
            let mut out = emitted(&mut harness);
            let before = trial.epochs.iter().take_while(|epoch| epoch.2 < *watermark).last();
            for row in dealt(rows) {
                harness.batch(0, vec![row]).unwrap();
                harness.end_epoch(EventTime::from_micros(before.map_or(i64::MIN, |it| it.2))).unwrap();
                out.extend(emitted(&mut harness));
                harness.snapshot_and_restore().unwrap();
            }
            harness.end_epoch(EventTime::from_micros(*watermark)).unwrap();
            out.extend(emitted(&mut harness));
            harness.snapshot_and_restore().unwrap();
            out.sort();
            let mut expected = expected.clone();
            expected.sort();
            assert_eq!(out, expected, "at watermark {watermark}");
        }
        assert_eq!(harness.late_rows(), trial.late);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn function_by_epoch_agrees_with_loops(steps in steps()) {
        check(&trial(&steps, &[]));
    }

    #[test]
    fn initial_state_is_taken_once_whatever_restarts(steps in steps()) {
        let row = |key: u8| Row { key, time: 10 * i64::from(key) - 90, number: 1_000 + u32::from(key) };
        check(&trial(&steps, &[1, 3, 9].map(row)));
    }

    #[test]
    fn restart_between_any_two_rows_changes_nothing(steps in steps()) {
        check_restarts_between_rows(&trial(&steps, &[]));
    }
}

#[test]
fn hot_key_and_many_keys_agree_with_loops() {
    let hot = |n: i64| (vec![(7u8, n % 50); 40], n % 7, n % 3);
    check(&trial(&(0..30).map(hot).collect::<Vec<_>>(), &[]));
    let wide = |n: i64| ((0..=200u8).map(|key| (key, (n * 13 + i64::from(key)) % 60)).collect(), 9, 5);
    check(&trial(&(0..10).map(wide).collect::<Vec<_>>(), &[]));
}
