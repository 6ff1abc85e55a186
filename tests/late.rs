//! Records that keep the promise of their watermark are not late, however workers share the reading.
//!
//! `TIDEMILL_LATE_RUNS` sets how many runs each case takes (`ci/late.sh`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use tidemill::connectors::{MemorySource, memory_sink, text_files};
use tidemill::{EventTime, Graph, Mode, Run, tumbling};

use common::{end, options, run_well, wait_until};

const FILES: i64 = 30;
const ROWS: i64 = 500;

fn runs(default: usize) -> usize {
    std::env::var("TIDEMILL_LATE_RUNS").map_or(default, |runs| runs.parse().unwrap())
}

/// Puts a file where the query finds it, at once and whole.
fn appear(directory: &Path, name: &str, rows: impl Iterator<Item = i64>) {
    let text: String = rows.map(|row| format!("{row}\n")).collect();
    let hidden = directory.join(format!(".{name}"));
    std::fs::write(&hidden, text).unwrap();
    std::fs::rename(hidden, directory.join(name)).unwrap();
}

/// Files of rows in the order of their times appear, so many milliseconds apart, while a query idles. Returns how many
/// rows were late.
fn late_of_files(workers: usize, apart: u64, interval: u64, poll: Duration) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let graph = Graph::new("files");
    let (sink, table) = memory_sink();
    graph
        .source(text_files(directory.path().join("*.txt").to_str().unwrap()).poll_interval(poll))
        .map(|line| line.parse::<i64>().unwrap())
        .with_watermark(|milliseconds| EventTime(*milliseconds * 1_000), Duration::from_secs(2))
        .window(tumbling(Duration::from_secs(1)))
        .count()
        .append()
        .map(|window| window.value)
        .sink(sink);
    let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_millis(interval));
    let handle = graph.start(way).unwrap();
    wait_until(&handle, "the query idles", |handle| handle.progress().epoch.is_some());
    for file in 0..FILES {
        // A hundred rows a second.
        let first = file * ROWS;
        appear(directory.path(), &format!("{file:03}.txt"), (first..first + ROWS).map(|n| n * 10));
        let due = Instant::now() + Duration::from_millis(apart);
        while Instant::now() < due {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    appear(directory.path(), "999.txt", [FILES * ROWS * 10 + 60_000].into_iter());
    wait_until(&handle, "all windows close", |_| {
        table.snapshot().iter().sum::<u64>() + handle.progress().late_rows >= (FILES * ROWS) as u64
    });
    handle.stop();
    let summary = end(handle, "stopped").unwrap();
    summary.late_rows
}

#[test]
fn rows_of_files_that_appear_quickly_are_not_late() {
    for workers in [2, 3, 4] {
        for run in 0..runs(3) {
            let (interval, poll) = ([2, 20, 1_000][run % 3], Duration::from_millis([1, 100][run % 2]));
            assert_eq!(late_of_files(workers, 3, interval, poll), 0, "{workers} workers, run {run}");
        }
    }
}

#[test]
fn rows_of_files_that_appear_slowly_are_not_late() {
    for workers in [2, 3, 4] {
        for run in 0..runs(1) {
            let (interval, poll) =
                ([20, 1_000][run % 2], Duration::from_millis(if run % 4 < 2 { 5 } else { 100 }));
            assert_eq!(late_of_files(workers, 100, interval, poll), 0, "{workers} workers, run {run}");
        }
    }
}

#[test]
fn rows_in_order_are_not_late_behind_a_rebalance() {
    let directory = tempfile::tempdir().unwrap();
    for file in 0..10 {
        appear(
            directory.path(),
            &format!("{file}.txt"),
            (file * 3_000..file * 3_000 + 3_000).map(|n| n * 10),
        );
    }
    let pattern = directory.path().join("*.txt").to_str().unwrap().to_owned();
    for workers in [1, 2, 4] {
        for _ in 0..runs(5) {
            let graph = Graph::new("rebalance");
            let (sink, _) = memory_sink();
            graph
                .source(text_files(&pattern).bounded())
                .rebalance()
                .map(|line| line.parse::<i64>().unwrap())
                .filter(|n| n % 70 != 0)
                .with_watermark(|milliseconds| EventTime(*milliseconds * 1_000), Duration::ZERO)
                .window(tumbling(Duration::from_secs(1)))
                .count()
                .append()
                .sink(sink);
            let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_millis(2));
            assert_eq!(run_well(&graph, way).late_rows, 0, "{workers} workers");
        }
    }
}

#[test]
fn rows_that_take_two_ways_to_their_watermark_are_not_late() {
    for workers in [1, 2] {
        let graph = Graph::new("two ways");
        let (sink, _) = memory_sink();
        let numbers = graph.source(MemorySource::partitioned([(0..50_000i64).collect::<Vec<_>>()])).boxed();
        let short = numbers.clone().filter(|n| n % 2 == 0).boxed();
        let long = numbers.filter(|n| n % 2 == 1).boxed().map(|n| n).boxed().rebalance().map(|n| n).boxed();
        short
            .union(long)
            .with_watermark(|n| EventTime(*n), Duration::ZERO)
            .window(tumbling(Duration::from_micros(10)))
            .count()
            .append()
            .sink(sink);
        let summary = run_well(&graph, options(Mode::Continuous, workers));
        assert_eq!(summary.late_rows, 0, "{workers} workers");
    }
}
