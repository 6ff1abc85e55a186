//! Joins by key alone against loops, for ever and with a TTL.

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

/// What an inner join emits with its event time, and a semi join.
type Emitted = (i64, Row, Option<Row>);

/// Rows, each with the epoch's clock when it came.
struct Model {
    is_semi: bool,
    ttl: i64,
    left: Vec<(i64, Row)>,
    right: Vec<(i64, Row)>,
    now: i64,
    watermark: i64,
}

impl Model {
    fn new(is_semi: bool, ttl: Option<i64>) -> Self {
        let ttl = ttl.unwrap_or(i64::MAX);
        Model { is_semi, ttl, left: vec![], right: vec![], now: 0, watermark: -100 }
    }

    fn epoch(&mut self, left: &[Row], right: &[Row], watermark: i64) -> Vec<Emitted> {
        let now = self.now;
        let lives = |came: &i64| now - came < self.ttl;
        self.left.retain(|(came, _)| lives(came));
        self.right.retain(|(came, _)| lives(came));
        let old = (self.left.len(), self.right.len());
        self.left.extend(left.iter().map(|row| (now, *row)));
        self.right.extend(right.iter().map(|row| (now, *row)));
        let mut rows = vec![];
        if self.is_semi {
            let right = &self.right;
            let matched = self.left.extract_if(.., |(_, left)| right.iter().any(|it| it.1.key == left.key));
            rows.extend(matched.map(|(_, left)| (0, left, None)));
        } else {
            for (l, (_, left)) in self.left.iter().enumerate() {
                for (r, (_, right)) in self.right.iter().enumerate() {
                    let is_new = l >= old.0 || r >= old.1;
                    if is_new && left.key == right.key {
                        rows.push((left.time.max(right.time), *left, Some(*right)));
                    }
                }
            }
        }
        // The clock moves with the watermark, but stands still in the first epoch and the last one.
        if watermark != i64::MAX {
            self.now += watermark - self.watermark;
            self.watermark = watermark;
        }
        rows
    }
}

fn check(restarts: Restarts, steps: &[Step], ttl: Option<i64>) {
    for is_semi in [false, true] {
        let graph = Graph::new("join");
        let side = || {
            let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
            rows.key_by(|row| row.key)
        };
        let join = side().join(side());
        let join = match ttl {
            Some(ttl) => join.with_ttl(Duration::from_micros(ttl as u64)),
            None => join.unbounded(),
        };
        let make: Maker = match is_semi {
            true => Rc::new(operator_of(join.semi())),
            false => Rc::new(operator_of(join.inner())),
        };
        let results = move |instance: &mut Harness<Box<dyn Operator>>| -> Vec<Emitted> {
            if is_semi {
                let rows = instance.take::<(u8, Row)>(0);
                return rows.into_iter().map(|(_, left)| (0, left, None)).collect();
            }
            let rows = instance.take::<(EventTime, (u8, Row, Row))>(0);
            rows.into_iter().map(|(time, (_, left, right))| (time.as_micros(), left, Some(right))).collect()
        };
        let mut model = Model::new(is_semi, ttl);
        let (epochs, expected) = play(steps, |left, right, watermark| model.epoch(left, right, watermark));
        run(restarts, &epochs, &make, results, &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn equi_join_by_epoch_agrees_with_loops(steps in steps(), ttl in proptest::option::of(1..120i64)) {
        check(Restarts::Phases, &steps, ttl);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn equi_join_restarted_between_rows_agrees_with_loops(
        steps in steps(),
        ttl in proptest::option::of(1..120i64),
    ) {
        check(Restarts::EachEpoch, &row_by_row(&steps), ttl);
    }
}

#[test]
fn equi_joins_agree_with_loops_in_both_modes() {
    let (left, right) = (rows(1, 200), rows(99, 100));
    for is_semi in [false, true] {
        let expected: Vec<(Row, Option<Row>)> = Model::new(is_semi, None)
            .epoch(&left, &right, i64::MAX)
            .into_iter()
            .map(|(_, left, right)| (left, right))
            .collect();
        for mode in MODES {
            for workers in [1, 2, 4] {
                for ttl in [None, Some(Duration::from_secs(3_600))] {
                    let graph = Graph::new("join");
                    // One side has event time and the other one has not.
                    let left = graph.source(memory(left.clone())).with_watermark(at, Duration::ZERO);
                    let right = graph.source(memory(right.clone()));
                    let join = left.key_by(|row| row.key).join(right.key_by(|row| row.key));
                    let join = match ttl {
                        Some(ttl) => join.with_ttl(ttl),
                        None => join.unbounded(),
                    };
                    let (sink, table) = memory_sink();
                    match is_semi {
                        true => join.semi().map(|(_, left)| (left, None)).sink(sink),
                        false => join.inner().map(|(_, left, right)| (left, Some(right))).sink(sink),
                    }
                    run_well(&graph, options(mode, workers).with_max_records_per_epoch(50));
                    assert_same(&table.snapshot(), &expected, format!("{is_semi} {mode} {workers} {ttl:?}"));
                }
            }
        }
    }
}

#[test]
fn zero_ttl_and_other_kind_are_refused_and_other_ttl_is_not() {
    let place = tempfile::tempdir().unwrap();
    let run = |ttl: u64, is_semi: bool| {
        let graph = Graph::new("join");
        let side = || graph.source(memory(rows(1, 20))).key_by(|row| row.key);
        let join = side().join(side()).with_ttl(Duration::from_secs(ttl));
        match is_semi {
            true => join.semi().map(|row| row.0).sink(memory_sink().0),
            false => join.inner().map(|row| row.0).sink(memory_sink().0),
        }
        graph.run(Options::default().without_ctrl_c().with_checkpoint(place.path()))
    };
    let said = run(0, false).unwrap_err().to_string();
    assert!(said.contains("the TTL of the join is zero") && said.contains("equi.rs:"), "{said}");
    run(60, false).unwrap();
    let said = run(60, true).unwrap_err().to_string();
    assert!(["equi_join", "inner", "semi"].iter().all(|part| said.contains(part)), "{said}");
    run(90, false).unwrap();
}
