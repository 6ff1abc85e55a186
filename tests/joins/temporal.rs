//! As-of joins against loops: which version a row has, whatever the order in which both come.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::Operator;
use tidemill::prelude::*;
use tidemill::testing::{Harness, operator_of};

use super::common::{MODES, assert_same, options, run_well};
use super::model::Row;
use super::steps::{Maker, Restarts, Step, at, play, row_by_row, run, steps};
use super::windows::rows;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Emitted {
    Joined(i64, Row, Option<Row>),
    LateLeft(Row),
    LateRight(Row),
}

struct Model {
    is_outer: bool,
    waiting: Vec<Row>,
    versions: BTreeMap<(u8, i64), Row>,
    watermark: i64,
}

impl Model {
    fn new(is_outer: bool) -> Self {
        Model { is_outer, waiting: vec![], versions: BTreeMap::new(), watermark: i64::MIN }
    }

    fn epoch(&mut self, left: &[Row], right: &[Row], watermark: i64) -> Vec<Emitted> {
        let mut rows = vec![];
        for row in left {
            if row.time < self.watermark {
                rows.push(Emitted::LateLeft(*row));
            } else {
                self.waiting.push(*row);
            }
        }
        for row in right {
            if row.time < self.watermark {
                rows.push(Emitted::LateRight(*row));
            } else {
                self.versions.insert((row.key, row.time), *row);
            }
        }
        self.watermark = watermark;
        for row in self.waiting.extract_if(.., |row| watermark == i64::MAX || row.time < watermark) {
            let version = self.versions.range((row.key, i64::MIN)..=(row.key, row.time)).next_back();
            if version.is_some() || self.is_outer {
                rows.push(Emitted::Joined(row.time, row, version.map(|(_, version)| *version)));
            }
        }
        rows
    }
}

fn results(is_outer: bool) -> impl Fn(&mut Harness<Box<dyn Operator>>) -> Vec<Emitted> + Clone {
    move |instance| {
        let mut all: Vec<Emitted> = if is_outer {
            let rows = instance.take::<(EventTime, (u8, Row, Option<Row>))>(0);
            rows.into_iter().map(|(time, (_, l, r))| Emitted::Joined(time.as_micros(), l, r)).collect()
        } else {
            let rows = instance.take::<(EventTime, (u8, Row, Row))>(0);
            rows.into_iter().map(|(time, (_, l, r))| Emitted::Joined(time.as_micros(), l, Some(r))).collect()
        };
        all.extend(instance.take::<(EventTime, Row)>(1).into_iter().map(|(_, row)| Emitted::LateLeft(row)));
        all.extend(instance.take::<(EventTime, Row)>(2).into_iter().map(|(_, row)| Emitted::LateRight(row)));
        all
    }
}

fn make(is_outer: bool) -> Maker {
    let graph = Graph::new("join");
    let side = || {
        let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
        rows.key_by(|row| row.key)
    };
    let join = side().join(side()).as_of();
    match is_outer {
        true => Rc::new(operator_of(join.left_outer())),
        false => Rc::new(operator_of(join.inner())),
    }
}

fn check(restarts: Restarts, steps: &[Step]) {
    for is_outer in [false, true] {
        let (make, mut model) = (make(is_outer), Model::new(is_outer));
        let (epochs, expected) = play(steps, |left, right, watermark| model.epoch(left, right, watermark));
        run(restarts, &epochs, &make, results(is_outer), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn temporal_join_by_epoch_agrees_with_loops(steps in steps()) {
        check(Restarts::Phases, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn temporal_join_restarted_between_rows_agrees_with_loops(steps in steps()) {
        check(Restarts::EachEpoch, &row_by_row(&steps));
    }
}

#[test]
fn version_of_the_same_instant_is_valid() {
    let step = Step { left: vec![(0, 5), (0, 4)], right: vec![(0, 5), (0, 5), (1, 4)], advance: 20 };
    check(Restarts::Phases, std::slice::from_ref(&step));
    let left = Step { left: vec![(0, 5)], right: vec![], advance: 20 };
    let right = Step { left: vec![], right: vec![(0, 5)], advance: 20 };
    check(Restarts::Phases, &vec![left.clone(); 4]);
    check(Restarts::Phases, &vec![right.clone(); 4]);
    check(Restarts::Phases, &[right.clone(), left.clone(), left, right]);
}

/// Of a key whose versions have been passed by the watermark the last one stays, however long ago it was.
#[test]
fn old_versions_are_evicted_and_the_last_one_stays() {
    let second = |n: i64| n * 1_000_000;
    let make = make(true);
    let mut instance =
        Harness::new(Mode::MicroBatch, move || make(tidemill::operator::Place::new(0, 1, Mode::MicroBatch)));
    let dealt = |time: i64| {
        let row = Row { key: 1, time, number: 0 };
        tidemill::operator::Dealt::new(row.key, at(&row), row)
    };
    let mut most = 0;
    for n in 0..1_000 {
        instance.batch(1, vec![dealt(second(n))]).unwrap();
        instance.end_epoch(EventTime::from_micros(second(n) - 2)).unwrap();
        most = most.max(instance.state_rows());
    }
    // Two versions and two timers around the watermark.
    assert!(most <= 5, "{most}");
    instance.end_epoch(EventTime::from_micros(second(1_000_000))).unwrap();
    assert_eq!(instance.state_rows(), 1);
    instance.batch(0, vec![dealt(second(2_000_000))]).unwrap();
    instance.end_epoch(EventTime::MAX).unwrap();
    let rows = instance.take::<(EventTime, (u8, Row, Option<Row>))>(0);
    assert_eq!(rows[0].1.2.map(|version| version.time), Some(second(999)));
}

#[test]
fn temporal_joins_agree_with_loops_in_both_modes() {
    let (left, right) = (rows(1, 300), rows(99, 100));
    // Versions of a key differ in time, so that their order does not matter.
    let versions: BTreeMap<(u8, i64), Row> = right.iter().map(|row| ((row.key, row.time), *row)).collect();
    let right: Vec<Row> = versions.into_values().collect();
    for is_outer in [false, true] {
        let expected = Model::new(is_outer).epoch(&left, &right, i64::MAX);
        for mode in MODES {
            for workers in [1, 2, 4] {
                let graph = Graph::new("join");
                let delay = Duration::from_micros(40);
                let orders =
                    graph.source(memory(left.clone())).with_watermark(at, delay).key_by(|row| row.key);
                // In order of keys, so far out of order of time.
                let delay = Duration::from_micros(10_000);
                let rates =
                    graph.source(memory(right.clone())).with_watermark(at, delay).key_by(|row| row.key);
                let join = orders.join(rates).as_of();
                let (sink, table) = memory_sink();
                match is_outer {
                    true => join.left_outer().map(|(_, left, right)| (left, right)).sink(sink),
                    false => join.inner().map(|(_, left, right)| (left, Some(right))).sink(sink),
                }
                let way = options(mode, workers).with_max_records_per_epoch(50);
                assert_eq!(run_well(&graph, way).late_rows, 0);
                let found: Vec<Emitted> = table
                    .snapshot()
                    .into_iter()
                    .map(|(left, right)| Emitted::Joined(left.time, left, right))
                    .collect();
                assert_same(&found, &expected, format!("{is_outer} {mode} {workers}"));
            }
        }
    }
}
