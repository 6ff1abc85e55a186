//! The operator by epoch: any rows, snapshots and restarts between any epochs, in both modes.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::Operator;
use tidemill::learn::{ModelVersion, Scored};
use tidemill::operator::{Dealt, Place};
use tidemill::prelude::*;
use tidemill::process::{Failed, FailedCall};
use tidemill::testing::{EpochInput, Harness, operator_of, restart_each_epoch, three_phases};

use super::common::MODES;
use super::model::{ALL, Chain, Emitted, Model, Row, Scores};

pub(crate) fn at(row: &Row) -> EventTime {
    EventTime::from_micros(row.time)
}

type Maker = Rc<dyn Fn(Place) -> Box<dyn Operator>>;

fn make(scores: Scores) -> Maker {
    let graph = Graph::new("learn");
    let rows =
        || graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO).key_by(|row| row.key);
    let learn = rows().learn(Chain, |row| row.number);
    match scores {
        Scores::Nothing => Rc::new(operator_of(learn.models_with_rejected().0)),
        Scores::Examples => Rc::new(operator_of(learn.test_then_learn_with_rejected().0)),
        Scores::Requests => Rc::new(operator_of(learn.score_with_rejected(rows(), |row| row.number).0)),
    }
}

fn failed_row(failed: Failed<u8, Row>) -> Row {
    let FailedCall::Row(row) = failed.call else { panic!("a timer failed: {failed:?}") };
    assert_eq!(
        (failed.key, failed.time, failed.error),
        (row.key, at(&row), format!("refuses {}", row.number))
    );
    row
}

fn emitted(scores: Scores) -> impl Fn(&mut Harness<Box<dyn Operator>>) -> Vec<Emitted> + Clone {
    move |instance| {
        let models = instance.take::<ModelVersion<u8, u64>>(0).into_iter();
        let mut all: Vec<_> = models.map(|it| Emitted::Model(it.key, it.version, it.model)).collect();
        if scores != Scores::Nothing {
            for (time, it) in instance.take::<(EventTime, Scored<u8, Row, u64>)>(1) {
                assert_eq!(it.key, it.row.key);
                all.push(Emitted::Scored(time.as_micros(), it.row, it.prediction, it.version));
            }
        }
        let failed = instance.take::<Failed<u8, Row>>(2).into_iter();
        all.extend(failed.map(|failed| Emitted::FailedExample(failed_row(failed))));
        let late = instance.take::<(EventTime, Row)>(4).into_iter();
        all.extend(late.map(|(_, row)| Emitted::LateExample(row)));
        if scores == Scores::Requests {
            let failed = instance.take::<Failed<u8, Row>>(3).into_iter();
            all.extend(failed.map(|failed| Emitted::FailedRequest(failed_row(failed))));
            let late = instance.take::<(EventTime, Row)>(5).into_iter();
            all.extend(late.map(|(_, row)| Emitted::LateRequest(row)));
        }
        all
    }
}

/// An epoch: rows as key and time ahead of the watermark, and how far the watermark advances at its end.
#[derive(Clone, Debug)]
struct Step {
    examples: Vec<(u8, i64)>,
    requests: Vec<(u8, i64)>,
    advance: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Some are late, some far ahead, and many have the same time.
    let rows = || {
        let times = prop_oneof![3 => (-2..10i64).prop_map(|n| n * 10), 1 => -20..100i64];
        proptest::collection::vec((0..3u8, times), 0..6)
    };
    let advance = prop_oneof![Just(0), (0..5i64).prop_map(|n| n * 10), 0..50i64];
    let step = (rows(), rows(), advance).prop_map(|(examples, requests, advance)| Step {
        examples,
        requests,
        advance,
    });
    proptest::collection::vec(step, 1..12)
}

/// The same rows, each in an epoch of its own, and another epoch that advances the watermark.
fn row_by_row(steps: &[Step]) -> Vec<Step> {
    let mut single = vec![];
    for Step { examples, requests, advance } in steps {
        let none = Step { examples: vec![], requests: vec![], advance: 0 };
        single.extend(requests.iter().map(|row| Step { requests: vec![*row], ..none.clone() }));
        single.extend(examples.iter().map(|row| Step { examples: vec![*row], ..none.clone() }));
        single.push(Step { advance: *advance, ..none });
    }
    single
}

fn play(scores: Scores, steps: &[Step]) -> (Vec<EpochInput>, Vec<Vec<Emitted>>) {
    // Numbers from one byte to two, so that their order is not that of their bytes.
    let (mut model, mut watermark, mut number) = (Model::new(scores), -100, 100);
    let (mut epochs, mut expected) = (vec![], vec![]);
    let mut add = |examples: Vec<Row>, requests: Vec<Row>, watermark: i64| {
        expected.push(model.epoch(&examples, &requests, watermark));
        let dealt = |rows: Vec<Row>| rows.into_iter().map(|row| Dealt::new(row.key, at(&row), row)).collect();
        let epoch = EpochInput::until(EventTime::from_micros(watermark)).keyed(0, dealt(examples));
        epochs.push(if scores == Scores::Requests { epoch.keyed(1, dealt(requests)) } else { epoch });
    };
    add(vec![], vec![], watermark);
    for step in steps {
        let mut rows = |rows: &[(u8, i64)]| {
            let row = |&(key, ahead): &(u8, i64)| {
                number += 29;
                Row { key, time: watermark + ahead, number }
            };
            rows.iter().map(row).collect::<Vec<_>>()
        };
        let (examples, requests) = (rows(&step.examples), rows(&step.requests));
        watermark += step.advance;
        add(examples, requests, watermark);
    }
    add(vec![], vec![], i64::MAX);
    (epochs, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn learning_by_epoch_agrees_with_loops(steps in steps()) {
        for scores in ALL {
            let (epochs, expected) = play(scores, &steps);
            let make = make(scores);
            three_phases(Mode::MicroBatch, &epochs, move |place| make(place), emitted(scores), &expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn learning_restarted_between_rows_agrees_with_loops(steps in steps()) {
        for (scores, mode) in ALL.into_iter().flat_map(|scores| MODES.map(|mode| (scores, mode))) {
            let (epochs, expected) = play(scores, &row_by_row(&steps));
            let make = make(scores);
            restart_each_epoch(mode, &epochs, move |place| make(place), emitted(scores), &expected);
        }
    }
}

#[test]
fn request_does_not_see_examples_of_its_own_instant() {
    let step = Step {
        examples: vec![(0, 5), (0, 5), (0, 5), (0, 6)],
        requests: vec![(0, 5), (0, 6), (1, 5)],
        advance: 20,
    };
    let (epochs, expected) = play(Scores::Requests, std::slice::from_ref(&step));
    let mut versions: Vec<u64> = expected
        .concat()
        .iter()
        .filter_map(|it| if let Emitted::Scored(.., version) = it { Some(*version) } else { None })
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, [0, 0, 2]);
    let make = make(Scores::Requests);
    three_phases(Mode::MicroBatch, &epochs, move |place| make(place), emitted(Scores::Requests), &expected);
}

#[test]
fn key_whose_examples_all_fail_keeps_no_model() {
    let make = make(Scores::Requests);
    let mut instance = Harness::new(Mode::MicroBatch, move || make(Place::new(0, 1, Mode::MicroBatch)));
    let dealt = |number: u32| {
        let row = Row { key: 1, time: 5, number };
        Dealt::new(row.key, at(&row), row)
    };
    instance.batch(0, vec![dealt(3), dealt(10)]).unwrap();
    instance.batch(1, vec![dealt(1)]).unwrap();
    instance.end_epoch(EventTime::from_micros(5)).unwrap();
    assert!(instance.state_rows() > 0);
    instance.end_epoch(EventTime::from_micros(6)).unwrap();
    assert_eq!(instance.take::<(EventTime, Scored<u8, Row, u64>)>(1)[0].1.version, 0);
    assert_eq!(instance.state_rows(), 0);
}
