//! Whole queries: one result in both modes and on any number of workers.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill::connectors::MemorySource;
use tidemill::prelude::*;

use super::common::{assert_same, run_well, ways};
use super::model::{Row, at};

const DELAY: Duration = Duration::from_micros(300);

/// Rows out of order by up to 90, from before the epoch of event time on; each comes one to three times, in any partitions.
fn rows() -> Vec<Row> {
    let row = |n: u32| {
        let time = i64::from(n) * 10 - 3_000 + (i64::from(n) * 37) % 90;
        let key = if n.is_multiple_of(3) { 5 } else { (n * n % 23) as u8 };
        std::iter::repeat_n(Row { key, time, number: n }, 1 + n as usize % 3)
    };
    (0..600).flat_map(row).collect()
}

fn parts() -> Vec<Vec<Row>> {
    (0..3).map(|n| rows().into_iter().skip(n).step_by(3).collect()).collect()
}

#[test]
fn rows_of_key_and_time_pass_once_in_all_ways() {
    let expected: BTreeSet<(u8, i64)> = rows().iter().map(|row| (row.key, row.time)).collect();
    let expected: Vec<_> = expected.into_iter().collect();
    for options in ways(&[0, usize::MAX], 70) {
        let graph = Graph::new("by time");
        let ((sink, passed), (late_sink, late)) = (memory_sink(), memory_sink());
        let (rows, late_rows) = graph
            .source(MemorySource::partitioned(parts()))
            .with_watermark(at, DELAY)
            .key_by(|row| row.key)
            .distinct_with_late();
        rows.map(|row| (row.key, row.time)).sink(sink);
        late_rows.sink(late_sink);
        let what = format!("{options:?}");
        let summary = run_well(&graph, options);
        assert_same(&passed.snapshot(), &expected, &what);
        assert_eq!((summary.late_rows, late.snapshot().len()), (0, 0), "{what}");
    }
}

#[test]
fn numbers_pass_once_and_are_in_time_for_windows_in_all_ways() {
    let numbers: Vec<u32> = (0..600).collect();
    for options in ways(&[0, usize::MAX], 70) {
        let graph = Graph::new("numbers");
        let (sink, passed) = memory_sink();
        graph
            .source(MemorySource::partitioned(parts()))
            .with_watermark(at, DELAY)
            .key_by(|row| row.number)
            .distinct_within_watermark()
            .window(tumbling(Duration::from_micros(200)))
            .aggregate(tidemill::aggregate::Collect::new())
            .append()
            .flat_map(|window| window.value.into_iter().map(|row: Row| row.number).collect::<Vec<_>>())
            .sink(sink);
        let what = format!("{options:?}");
        let summary = run_well(&graph, options);
        assert_same(&passed.snapshot(), &numbers, &what);
        assert_eq!(summary.late_rows, 0, "{what}");
    }
}

#[test]
fn keys_pass_once_within_a_long_ttl_in_all_ways() {
    let keys: BTreeSet<u8> = rows().iter().map(|row| row.key).collect();
    let keys: Vec<u8> = keys.into_iter().collect();
    for options in ways(&[0, usize::MAX], 70) {
        let graph = Graph::new("keys");
        let (sink, passed) = memory_sink();
        graph
            .source(MemorySource::partitioned(parts()))
            .key_by(|row| row.key)
            .distinct_for(Duration::from_secs(86_400))
            .map(|row| row.key)
            .sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&passed.snapshot(), &keys, &what);
    }
}

/// Also while the watermark stays where it is, as within an epoch or a backlog.
#[test]
fn rows_further_apart_than_the_span_pass_in_all_ways() {
    let seconds = [0i64, 2, 1, 59, 60, 61, 30, 119, 120, 7_300, 7_299, 7_359, 7_360];
    let expected = vec![0i64, 60, 120, 7_300, 7_360];
    for options in ways(&[0, 1, 3, usize::MAX], 70) {
        let graph = Graph::new("once a minute");
        let (sink, passed) = memory_sink();
        graph
            .source(memory(seconds))
            .with_watermark(|second| EventTime::from_secs(*second), Duration::from_secs(100_000))
            .key_by(|_| 1)
            .distinct_within(Duration::from_secs(60))
            .sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&passed.snapshot(), &expected, &what);
    }
}

/// Late rows go to their output in any mode; none passes, none is lost.
#[test]
fn each_row_passes_or_is_a_duplicate_or_late_in_all_ways() {
    let (all, mut all_late): (BTreeSet<u32>, _) = ((0..600).collect(), 0);
    for options in ways(&[usize::MAX], 70) {
        let graph = Graph::new("late");
        let ((sink, passed), (late_sink, late)) = (memory_sink(), memory_sink());
        let (rows, late_rows) = graph
            .source(MemorySource::partitioned(parts()))
            .with_watermark(at, Duration::from_micros(30))
            .key_by(|row| row.number)
            .distinct_within_with_late(DELAY);
        rows.map(|row| row.number).sink(sink);
        late_rows.map(|row| row.number).sink(late_sink);
        let what = format!("{options:?}");
        let summary = run_well(&graph, options);
        let (passed, late) = (passed.snapshot(), late.snapshot());
        let distinct: BTreeSet<u32> = passed.iter().copied().collect();
        assert_eq!(distinct.len(), passed.len(), "a number passes twice: {what}");
        assert_eq!(summary.late_rows, late.len() as u64, "{what}");
        all_late += late.len();
        let seen: BTreeSet<u32> = passed.into_iter().chain(late).collect();
        assert_eq!(seen, all, "{what}");
    }
    assert!(all_late > 0, "where epochs are short, rows are late");
}
