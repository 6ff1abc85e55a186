//! Joins in whole graphs: both modes, any number of workers, joins of joins, windows behind outer joins.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill::prelude::*;

use super::common::{MODES, run_well};
use super::model::{KINDS, Model, Row};
use super::steps::{at, join};

/// Rows that are out of order by less than `DELAY`.
fn rows(seed: u32, count: u32, keys: u32) -> Vec<Row> {
    let row = |n: u32| {
        let mixed = (n ^ seed).wrapping_mul(2_654_435_761) >> 7;
        Row { key: (mixed % keys) as u8, time: i64::from(n * 3 + mixed % 40), number: n }
    };
    (0..count).map(row).collect()
}

const DELAY: Duration = Duration::from_micros(40);

#[test]
fn joins_of_every_kind_agree_with_loops() {
    let (left, right) = (rows(1, 600, 7), rows(99, 500, 7));
    for kind in KINDS {
        for within in [(-30, 60), (5, 25), (-25, -5), (0, 0)] {
            let mut model = Model::new(kind, within);
            let (expected, late, other) = model.epoch(&left, &right, i64::MAX);
            assert!(late.is_empty() && other.is_empty());
            for mode in MODES {
                for workers in [1, 2, 4] {
                    let graph = Graph::new("join");
                    let source =
                        |rows: &Vec<Row>| graph.source(memory(rows.clone())).with_watermark(at, DELAY);
                    let (joined, _, _) = join(source(&left), source(&right), kind, within);
                    let (sink, table) = memory_sink();
                    joined.sink(sink);
                    let summary = run_well(&graph, Options::default().with_mode(mode).with_workers(workers));
                    let what = format!("{kind:?} {within:?} {mode} {workers}");
                    assert_eq!(summary.late_rows, 0, "{what}");
                    let found = table.snapshot();
                    assert_eq!(found.len(), expected.len(), "{what}");
                    let found: BTreeSet<_> = found.into_iter().collect();
                    let expected: BTreeSet<_> =
                        expected.iter().map(|(_, left, right)| (*left, *right)).collect();
                    assert_eq!(found, expected, "{what}");
                }
            }
        }
    }
}

/// Two outer joins, one behind the other, and a window behind both: rows that nothing matches come late behind the watermark of
/// the sources, and must not be late behind the joins.
#[test]
fn window_behind_two_outer_joins_counts_every_row() {
    let (a, b, c) = (rows(3, 400, 5), rows(17, 150, 5), rows(40, 150, 5));
    let window = Duration::from_micros(100);
    let hold = Duration::from_micros(70);
    let matches =
        |left: &Row, right: &Row| left.key == right.key && (0..=70).contains(&(right.time - left.time));
    let mut expected = std::collections::BTreeMap::<i64, u64>::new();
    for a in &a {
        let of_b: Vec<_> = b.iter().filter(|b| matches(a, b)).collect();
        let times: Vec<i64> =
            if of_b.is_empty() { vec![a.time] } else { of_b.iter().map(|b| b.time).collect() };
        for time in times {
            let joined = Row { time, ..*a };
            let of_c: Vec<_> = c.iter().filter(|c| matches(&joined, c)).collect();
            let times: Vec<i64> =
                if of_c.is_empty() { vec![time] } else { of_c.iter().map(|c| c.time).collect() };
            for time in times {
                *expected.entry(time.div_euclid(100) * 100).or_default() += 1;
            }
        }
    }
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("three ways");
            let source = |rows: &Vec<Row>| {
                graph.source(memory(rows.clone())).with_watermark(at, DELAY).key_by(|row| row.key)
            };
            let (sink, table) = memory_sink();
            source(&a)
                .join(source(&b))
                .within(Bounds::after(Duration::ZERO..=hold))
                .left_outer()
                .key_by(|(key, _, _)| *key)
                .join(source(&c))
                .within(Bounds::after(Duration::ZERO..=hold))
                .left_outer()
                .window(tumbling(window))
                .count()
                .append()
                .map(|it| (it.window.start.as_micros(), it.value))
                .sink(sink);
            let summary = run_well(&graph, Options::default().with_mode(mode).with_workers(workers));
            assert_eq!(summary.late_rows, 0, "{mode}, {workers} workers");
            let mut found = table.snapshot();
            found.sort_unstable();
            assert_eq!(found, expected.clone().into_iter().collect::<Vec<_>>(), "{mode}, {workers} workers");
        }
    }
}
