//! Aggregates over whole streams, without keys: in both modes, with any number of workers, against plain loops.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::aggregate::{Average, Count, Max, Min, Sum};
use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{MemorySource, memory_sink, text_files};
use tidemill::{Aggregate, Graph, Mode, Options, RowKind, Run};

use common::{MODES, available_now, options, run_well, ways};

/// Wide enough to be read by the chain behind the source.
type Wide = (i64, [u64; 8]);

type Totals = (u64, i64, i64, i64, f64);

fn totals() -> impl Aggregate<In = Wide, Out = Totals> {
    let value = |(value, _): &Wide| *value;
    (Count::new(), Sum::of(value), Min::of(value), Max::of(value), Average::of(value))
}

fn naive(values: &[i64]) -> Totals {
    let sum: i64 = values.iter().sum();
    let (min, max) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
    (values.len() as u64, sum, min, max, sum as f64 / values.len() as f64)
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Update,
    UpdateEvery,
    Complete,
}

/// What a query says of the partitions, epoch by epoch.
fn said(partitions: &[Vec<i64>], said: Said, options: Options) -> Vec<(u64, Vec<Totals>)> {
    let graph = Graph::new("totals");
    let (sink, table) = memory_sink();
    let wide = partitions.iter().map(|values| values.iter().map(|value| (*value, [0; 8])).collect());
    let source = graph.source(MemorySource::partitioned(wide.collect::<Vec<Vec<Wide>>>()));
    let totals =
        source.map(|(value, wide)| (value - 1, wide)).filter(|(value, _)| value % 7 != 0).aggregate(totals());
    let totals = match said {
        Said::Update => totals.update(),
        Said::UpdateEvery => totals.update_every(Duration::from_millis(2)),
        Said::Complete => totals.complete(),
    };
    totals.sink(sink);
    run_well(&graph, options);
    table.by_epoch().into_iter().map(|(epoch, rows)| (epoch.number(), rows)).collect()
}

fn kept(values: &[i64]) -> Vec<i64> {
    values.iter().map(|value| value - 1).filter(|value| value % 7 != 0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn each_total_covers_all_records_so_far(
        partitions in prop::collection::vec(prop::collection::vec(-1_000i64..1_000, 0..60), 1..4),
    ) {
        let all: Vec<i64> = partitions.iter().flat_map(|values| kept(values)).collect();
        for way in ways(&[1, usize::MAX], 5) {
            for mode in [Said::Update, Said::UpdateEvery, Said::Complete] {
                let what = format!("{mode:?} {way:?}");
                let epochs = said(&partitions, mode, way.clone());
                let rows: Vec<Totals> = epochs.iter().flat_map(|(_, rows)| rows.clone()).collect();
                if all.is_empty() {
                    prop_assert!(rows.is_empty(), "{}", what);
                    continue;
                }
                prop_assert_eq!(*rows.last().unwrap(), naive(&all), "{}", &what);
                prop_assert!(rows.is_sorted_by(|before, after| before.0 < after.0), "{} {:?}", what, rows);
                if matches!(mode, Said::Complete) {
                    prop_assert_eq!(rows.len(), 1, "the value replaces the one before: {}", &what);
                }
                if way.mode == Mode::MicroBatch {
                    prop_assert!(epochs.iter().all(|(_, rows)| rows.len() == 1), "{}", &what);
                }
                if let [only] = &partitions[..] {
                    let in_order = kept(only);
                    for row in &rows {
                        prop_assert_eq!(*row, naive(&in_order[..row.0 as usize]), "{}", &what);
                    }
                }
            }
        }
    }
}

#[test]
fn micro_batch_epoch_emits_total_of_all_epochs_so_far() {
    for workers in [1, 2, 4] {
        let graph = Graph::new("epochs");
        let (sink, table) = memory_sink();
        let input = MemorySource::partitioned([(0..50).collect::<Vec<i64>>(), (50..100).collect()]);
        let stream = graph.source(input).sum(|n| *n).update();
        stream.sink(sink);
        run_well(&graph, options(Mode::MicroBatch, workers).with_max_records_per_epoch(10));
        let sums: Vec<i64> = table.snapshot();
        let expected: Vec<i64> = (1..=5).map(|epochs| (0..epochs * 10).map(|n| n + n + 50).sum()).collect();
        assert_eq!(sums, expected, "{workers} workers");
    }
}

#[test]
fn every_shortcut_is_there_for_a_whole_stream() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("shortcuts");
            let numbers = graph
                .source(MemorySource::partitioned([vec![3i64, 1, 4], vec![1, 5, 9], vec![2, 6]]))
                .boxed();
            let mut tables = Vec::new();
            macro_rules! total {
                ($total:expr) => {{
                    let (sink, table) = memory_sink();
                    $total.complete().map(|value| format!("{value:?}")).sink(sink);
                    tables.push(table);
                }};
            }
            total!(numbers.clone().count());
            total!(numbers.clone().sum(|n| *n));
            total!(numbers.clone().min(|n| *n));
            total!(numbers.clone().max(|n| *n));
            total!(numbers.clone().average(|n| *n));
            total!(numbers.clone().reduce(|a, b| a * b));
            total!(numbers.clone().fold(0, |sum, n| *sum += n * n, |sum, other| *sum += other));
            let (sink, all) = memory_sink();
            numbers.collect().complete().sink(sink);
            run_well(&graph, options(mode, workers));
            let said: Vec<String> = tables.iter().flat_map(|table| table.snapshot()).collect();
            assert_eq!(said, ["8", "31", "1", "9", "3.875", "6480", "173"], "{mode:?}, {workers} workers");
            assert_eq!(common::sorted(all.snapshot().concat()), [1, 1, 2, 3, 4, 5, 6, 9]);
        }
    }
}

#[test]
fn total_resumes_after_restart_in_other_mode_and_workers() {
    for (first, second) in [(MODES[0], MODES[1]), (MODES[1], MODES[0])] {
        for (before, after) in [(1, 2), (4, 1), (2, 4)] {
            let directory = tempfile::tempdir().unwrap();
            let storage = Arc::new(MemoryStorage::new());
            let total = |options: Options| {
                let graph = Graph::new("lengths");
                let (sink, table) = memory_sink();
                let lines = graph.source(text_files(directory.path().display().to_string()));
                lines
                    .map(|line| line.len() as u64)
                    .aggregate((Count::new(), Sum::of(|n: &u64| *n)))
                    .update()
                    .sink(sink);
                graph.start_in(storage.clone(), options).unwrap().wait().unwrap();
                table.snapshot().last().copied()
            };
            std::fs::write(directory.path().join("a"), "one\nthree\n").unwrap();
            assert_eq!(total(available_now(first, before)), Some((2, 8)));
            assert_eq!(total(available_now(second, after)), None, "nothing has changed");
            std::fs::write(directory.path().join("b"), "seven\n").unwrap();
            assert_eq!(total(available_now(second, after)), Some((3, 13)), "{second:?}, {after} workers");
        }
    }
}

#[test]
fn a_total_is_an_aggregate_without_a_key_in_the_plan() {
    let graph = Graph::new("plan");
    let (sink, _) = memory_sink();
    graph.source(MemorySource::partitioned([vec![1u64]])).map(|n| n + 1).count().complete().sink(sink);
    let node = graph.nodes().into_iter().find(|node| node.op == "aggregate").unwrap();
    assert_eq!(node.row_kind(), RowKind::Snapshot);
    assert!(node.location.file().ends_with("totals.rs"));
    assert_eq!(node.steps.iter().map(|step| step.op).collect::<Vec<_>>(), ["map"]);
    let plan = graph.explain().to_string();
    assert!(plan.contains("map → aggregate: count"), "{plan}");
}
