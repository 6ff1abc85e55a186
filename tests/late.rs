//! Records that keep the promise of their watermark are not late, however workers share the reading.
//!
//! `TIDEMILL_LATE_RUNS` sets how many runs each case takes (`ci/late.sh`). They run against the wall clock and the file system's own
//! times of change, which a simulation does not have; `tests/simulate` has the same promise in any order of the threads.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{MemorySource, memory_sink, text_files};
use tidemill::{
    EventTime, Graph, Mode, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Run, Source,
    SourceError, SourceInfo, tumbling,
};

use common::{MODES, end, options, run_well, wait_until};

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

/// Files of rows in the order of their times appear, this many milliseconds apart, while a query idles. Returns how many
/// rows were late.
fn late_of_files(workers: usize, apart: u64, interval: u64, poll: Duration) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let graph = Graph::new("files");
    let (sink, table) = memory_sink();
    graph
        .source(text_files(directory.path().join("*.txt").to_str().unwrap()).poll_interval(poll))
        .map(|line| line.parse::<i64>().unwrap())
        .with_watermark(|milliseconds| EventTime::from_micros(*milliseconds * 1_000), Duration::from_secs(2))
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
                .with_watermark(|milliseconds| EventTime::from_micros(*milliseconds * 1_000), Duration::ZERO)
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
            .with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO)
            .window(tumbling(Duration::from_micros(10)))
            .count()
            .append()
            .sink(sink);
        let summary = run_well(&graph, options(Mode::Continuous, workers));
        assert_eq!(summary.late_rows, 0, "{workers} workers");
    }
}

/// A sequence of rows, distributed to two readers in turn. The first reads nothing while its gate is closed.
#[derive(Clone)]
struct Dealt {
    gate: Arc<AtomicBool>,
    /// How many rows have been read in all.
    total: Arc<AtomicU64>,
}

struct DealtReader {
    partition: u64,
    read: u64,
    of: Dealt,
}

/// How many rows each reader has.
const DEALT: u64 = 4;

impl Source for Dealt {
    type Item = u64;
    type Offset = u64;
    type Reader = DealtReader;

    fn describe(&self) -> String {
        "dealt".to_owned()
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(2, |_| 0).in_one_sequence())
    }
    fn latest(&self, _: u32, from: &u64, _: &PlanLimits) -> Result<u64, SourceError> {
        Ok((from + 1).min(DEALT))
    }
    fn open(&self, partition: u32, from: &u64, _: ReaderContext) -> Result<DealtReader, SourceError> {
        Ok(DealtReader { partition: partition.into(), read: *from, of: self.clone() })
    }
}

impl Reader for DealtReader {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, _: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        let waits = self.partition == 0 && !self.of.gate.load(Ordering::SeqCst);
        if waits || self.read >= *until.unwrap_or(&DEALT) {
            return Ok(Poll::Idle);
        }
        out.push(self.rank());
        self.read += 1;
        self.of.total.fetch_add(1, Ordering::SeqCst);
        Ok(Poll::Ready)
    }
    fn offset(&self) -> u64 {
        self.read
    }
    fn seek(&mut self, to: &u64) -> Result<(), SourceError> {
        self.read = *to;
        Ok(())
    }
    fn rank(&self) -> u64 {
        2 * self.read + self.partition
    }
}

#[test]
fn slices_read_ahead_before_a_restart_do_not_make_others_late() {
    for (mode, workers) in MODES.into_iter().flat_map(|mode| [1, 2].map(|workers| (mode, workers))) {
        let what = format!("{mode:?}, {workers} workers");
        let dealt = Dealt { gate: Arc::default(), total: Arc::default() };
        let total = || dealt.total.load(Ordering::SeqCst);
        let storage = Arc::new(MemoryStorage::new());
        let graph = Graph::new("dealt");
        let (sink, windows) = memory_sink();
        graph
            .source(dealt.clone())
            .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO)
            .window(tumbling(Duration::from_micros(1)))
            .count()
            .append()
            .map(|window| (window.window.start.as_micros(), window.value))
            .sink(sink);
        let first = options(Mode::Continuous, 2).with_checkpoint_interval(Duration::from_millis(1));
        let query = graph.start_in(storage.clone(), first).unwrap();
        wait_until(&query, &what, |_| total() == DEALT);
        query.stop();
        assert_eq!(end(query, &what).unwrap().late_rows, 0, "{what}");
        assert!(windows.snapshot().is_empty(), "the watermark waits for the other reader: {what}");

        dealt.gate.store(true, Ordering::SeqCst);
        // Twice: what is known of rows that were read ahead outlives a run that does not get that far.
        let way = options(mode, workers).with_checkpoint_interval(Duration::from_millis(1));
        let some = graph.start_in(storage.clone(), way.clone()).unwrap();
        wait_until(&some, &what, |_| total() > DEALT);
        some.stop();
        assert_eq!(end(some, &what).unwrap().late_rows, 0, "{what}");
        let rest = graph.start_in(storage, way).unwrap();
        wait_until(&rest, &what, |_| windows.snapshot().len() as u64 == 2 * DEALT - 1);
        rest.stop();
        assert_eq!(end(rest, &what).unwrap().late_rows, 0, "{what}");
        let mut rows = windows.snapshot();
        rows.sort_unstable();
        assert_eq!(rows, (0..2 * DEALT as i64 - 1).map(|start| (start, 1)).collect::<Vec<_>>(), "{what}");
    }
}
