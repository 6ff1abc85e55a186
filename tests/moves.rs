//! Partitions that idle workers read for others: every row once, exact windows, after restarts with other numbers of workers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tidemill::aggregate::{Count, Sum};
use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{memory_sink, text_files};
use tidemill::{
    EventTime, Graph, Mode, Options, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Run, Source,
    SourceError, SourceInfo, tumbling,
};

use common::{MODES, PATIENCE, available_now, end, options, run_well, sorted};

/// How many partitions there are, how many rows each has, and how many rows of each are in an epoch.
const PARTITIONS: u32 = 8;
const ROWS: u64 = 60;
const EPOCH: u64 = 5;

/// What the readers know of each other.
#[derive(Default)]
struct Progress {
    /// How far each partition has been read.
    read: BTreeMap<u32, u64>,
    /// Up to where partition 1 is being read.
    begun: u64,
    /// The thread of the worker that owns each partition: it opens it.
    owners: BTreeMap<u32, ThreadId>,
    /// The thread that has read a partition up to there.
    readers: BTreeMap<(u32, u64), ThreadId>,
}

/// A source of which one worker is slow: the reader of partition 1 returns no row before all others have been read to the end of
/// the epoch. The reader of partition 0 waits until partition 1 is being read, so that another worker begins that.
#[derive(Clone)]
struct Uneven {
    progress: Arc<(Mutex<Progress>, Condvar)>,
    is_uneven: bool,
    /// How far it can be read for now; its end is one further than its last row.
    available: u64,
}

impl Uneven {
    fn new(is_uneven: bool, available: u64) -> Uneven {
        Uneven { progress: Arc::default(), is_uneven, available }
    }

    /// Waits until something is true of the progress.
    fn wait(&self, is_true: impl Fn(&Progress) -> bool) -> Result<(), SourceError> {
        let (progress, changed) = &*self.progress;
        let (guard, timeout) =
            changed.wait_timeout_while(progress.lock().unwrap(), PATIENCE, |it| !is_true(it)).unwrap();
        drop(guard);
        if timeout.timed_out() {
            return Err(SourceError::Setup("no worker has read the other partitions".to_owned()));
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.0.lock().unwrap());
        self.progress.1.notify_all();
    }

    /// The epochs, by their ends, in which a worker has read a partition of another one.
    fn epochs_with_moves(&self) -> BTreeSet<u64> {
        let Progress { owners, readers, .. } = &*self.progress.0.lock().unwrap();
        let moved = readers.iter().filter(|((partition, _), thread)| owners[partition] != **thread);
        moved.map(|((_, end), _)| *end).collect()
    }
}

impl Source for Uneven {
    type Item = (u32, u64);
    type Offset = u64;
    type Reader = UnevenReader;

    fn describe(&self) -> String {
        "uneven".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(PARTITIONS, |_| 0))
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn may_move(&self) -> bool {
        true
    }
    fn latest(&self, _: u32, from: &u64, _: &PlanLimits) -> Result<u64, SourceError> {
        Ok((from + EPOCH).min(self.available))
    }
    fn open(&self, partition: u32, from: &u64, _: ReaderContext) -> Result<UnevenReader, SourceError> {
        self.change(|progress| {
            progress.read.insert(partition, *from);
            progress.owners.insert(partition, thread::current().id());
        });
        Ok(UnevenReader { source: self.clone(), partition, at: *from })
    }
}

struct UnevenReader {
    source: Uneven,
    partition: u32,
    at: u64,
}

impl Reader for UnevenReader {
    type Item = (u32, u64);
    type Offset = u64;

    fn poll(
        &mut self,
        until: Option<&u64>,
        max: usize,
        out: &mut Vec<(u32, u64)>,
    ) -> Result<Poll, SourceError> {
        let end = until.map_or(ROWS, |until| ROWS.min(*until));
        if self.source.is_uneven && self.at < end {
            match self.partition {
                0 => self.source.wait(|progress| progress.begun >= end)?,
                1 => {
                    self.source.change(|progress| progress.begun = end);
                    self.source.wait(|progress| {
                        let others = progress.read.iter().filter(|(partition, _)| **partition != 1);
                        others.clone().count() == PARTITIONS as usize - 1
                            && others.clone().all(|(_, at)| *at >= end)
                    })?;
                }
                _ => {}
            }
        }
        let to = end.min(self.at + max as u64);
        out.extend((self.at..to).map(|n| (self.partition, n)));
        self.at = to;
        let partition = self.partition;
        self.source.change(|progress| {
            progress.read.insert(partition, to);
            progress.readers.insert((partition, end), thread::current().id());
        });
        Ok(match self.at {
            ROWS => Poll::End,
            at if at < end => Poll::Ready,
            _ => Poll::Idle,
        })
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.at = *offset;
        Ok(())
    }
}

/// The end of a window of ten rows of each partition, the number of rows in it, and their sum.
type Windows = Vec<(i64, u64, u64)>;
type Rows = Vec<(u32, u64)>;

/// A number of its own for each row.
fn number(row: &(u32, u64)) -> u64 {
    u64::from(row.0) * ROWS + row.1
}

/// Windows over the rows; returns the results, and the rows that have come to the windows.
///
/// A worker that is in a slow poll takes no rows of others, and then they pause. So rows stay on their worker until the epoch ends.
fn windows(source: Uneven) -> (Graph, impl Fn() -> (Windows, Rows)) {
    let graph = Graph::new("uneven");
    let (sink, table) = memory_sink();
    let rows = Arc::<Mutex<Rows>>::default();
    let seen = Arc::clone(&rows);
    graph
        .source(source)
        .uid("rows")
        .inspect(move |row| seen.lock().unwrap().push(*row))
        .with_watermark(|row: &(u32, u64)| EventTime::from_micros(row.1 as i64), Duration::ZERO)
        .window(tumbling(Duration::from_micros(10)))
        .aggregate((Count::new(), Sum::of(number)))
        .append()
        .uid("windows")
        .map(|window| (window.window.end.as_micros(), window.value.0, window.value.1))
        .sink(sink);
    (graph, move || (sorted(table.snapshot()), sorted(rows.lock().unwrap().clone())))
}

fn expected() -> (Windows, Rows) {
    let rows = |range: Range<u64>| {
        (0..PARTITIONS).flat_map(move |partition| range.clone().map(move |row| (partition, row)))
    };
    let window = |n: u64| {
        let rows = rows(10 * n..10 * n + 10);
        (10 * n as i64 + 10, rows.clone().count() as u64, rows.map(|row| number(&row)).sum())
    };
    ((0..ROWS / 10).map(window).collect(), rows(0..ROWS).collect())
}

#[test]
fn idle_workers_read_partitions_of_slow_one() {
    for workers in [1, 2, 4] {
        let source = Uneven::new(workers > 1, ROWS + 1);
        let (graph, results) = windows(source.clone());
        let summary = run_well(&graph, options(Mode::MicroBatch, workers));
        assert_eq!(results(), expected(), "{workers} workers");
        assert_eq!((summary.late_rows, summary.input_rows), (0, u64::from(PARTITIONS) * ROWS));
        let moved = source.epochs_with_moves();
        let wanted = if workers > 1 { ROWS / EPOCH } else { 0 };
        assert_eq!(moved.len() as u64, wanted, "{workers} workers: {moved:?}");
    }
}

#[test]
fn moved_partitions_are_read_on_after_restarts() {
    let storage = Arc::new(MemoryStorage::new());
    let mut found = (Windows::new(), Rows::new());
    for (workers, available) in [(2, 15), (4, 45), (1, ROWS + 1)] {
        let source = Uneven::new(workers > 1, available);
        let (graph, results) = windows(source.clone());
        let query = graph.start_in(storage.clone(), available_now(Mode::MicroBatch, workers)).unwrap();
        let summary = end(query, "a part of the rows").unwrap();
        assert_eq!(summary.late_rows, 0);
        let moved = source.epochs_with_moves();
        assert_eq!(moved.is_empty(), workers == 1, "{workers} workers: {moved:?}");
        let (windows, rows) = results();
        found.0.extend(windows);
        found.1.extend(rows);
    }
    assert_eq!((sorted(found.0), sorted(found.1)), expected());
}

#[test]
fn files_move_unless_results_would_show_who_read_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lines.txt");
    std::fs::write(&path, "a line\n").unwrap();
    let pattern = path.display().to_string();
    let explained = |options: Options, follow: bool, per_worker: bool| {
        let graph = Graph::new("files");
        let files = text_files(pattern.clone());
        let lines = graph.source(if follow { files.follow() } else { files }).map(|line| line.to_string());
        match per_worker {
            true => lines.sink_per_worker(|_| Ok(memory_sink().0)),
            false => lines.sink(memory_sink().0),
        }
        graph.explain_run(&options).unwrap().to_string().contains("idle workers take over partitions")
    };
    assert!(explained(options(Mode::MicroBatch, 2), false, false));
    assert!(!explained(options(Mode::MicroBatch, 1), false, false));
    assert!(!explained(options(Mode::Continuous, 2), false, false));
    assert!(!explained(options(Mode::MicroBatch, 2), true, false));
    assert!(!explained(options(Mode::MicroBatch, 2), false, true));
}

#[test]
fn each_line_is_read_once_by_any_number_of_workers() {
    let directory = tempfile::tempdir().unwrap();
    let mut wanted = Vec::new();
    for file in 0..40u64 {
        let mut text = String::new();
        for line in 0..file * 7 {
            writeln!(text, "{file} {line}").unwrap();
            wanted.push(format!("{file} {line}"));
        }
        std::fs::write(directory.path().join(format!("{file}.txt")), text).unwrap();
    }
    let wanted = sorted(wanted);
    for mode in MODES {
        for workers in [1, 2, 4] {
            for records in [1_000, 30] {
                let graph = Graph::new("files");
                let (sink, lines) = memory_sink();
                let files = text_files(directory.path().display().to_string()).bounded();
                graph.source(files).map(|line| line.to_string()).sink(sink);
                run_well(&graph, options(mode, workers).with_max_records_per_epoch(records));
                assert_eq!(
                    sorted(lines.snapshot()),
                    wanted,
                    "{mode:?}, {workers} workers, {records} records"
                );
            }
        }
    }
}
