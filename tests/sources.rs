//! What sources find out when a query starts: their partitions, and that they cannot be read.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{BadRecords, for_each, json_lines, memory, memory_sink, text_files};
use tidemill::{
    EventTime, Graph, Journal, Mode, Options, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Run,
    Source, SourceError, SourceInfo, Trigger, tumbling,
};

use common::{MODES, available_now, options, run};

/// What a source of numbers has been asked.
#[derive(Default)]
struct Asked {
    prepared: AtomicU64,
    opened: AtomicU64,
}

/// Partitions of numbers, each of as many as it says. It grows, or refuses to be read.
#[derive(Clone)]
struct Numbers {
    partitions: Vec<u64>,
    may_grow: bool,
    refuses: bool,
    asked: Arc<Asked>,
}

fn numbers(partitions: &[u64]) -> Numbers {
    Numbers { partitions: partitions.to_vec(), may_grow: false, refuses: false, asked: Arc::default() }
}

impl Source for Numbers {
    type Item = (u32, u64);
    type Offset = u64;
    type Reader = NumbersReader;

    fn describe(&self) -> String {
        "numbers".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        self.asked.prepared.fetch_add(1, Ordering::SeqCst);
        if self.refuses {
            return Err(SourceError::Setup("the broker knows no topic `numbers`".to_owned()));
        }
        let info = SourceInfo::new(self.partitions.len() as u32, |_| 0);
        Ok(if self.may_grow { info.may_grow() } else { info })
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(self.partitions[partition as usize].min(from.saturating_add(limits.records())))
    }
    fn open(&self, partition: u32, from: &u64, _: ReaderContext) -> Result<NumbersReader, SourceError> {
        self.asked.opened.fetch_add(1, Ordering::SeqCst);
        Ok(NumbersReader { partition, at: *from, end: self.partitions[partition as usize] })
    }
}

struct NumbersReader {
    partition: u32,
    at: u64,
    end: u64,
}

impl Reader for NumbersReader {
    type Item = (u32, u64);
    type Offset = u64;

    fn poll(
        &mut self,
        until: Option<&u64>,
        max: usize,
        out: &mut Vec<(u32, u64)>,
    ) -> Result<Poll, SourceError> {
        let end = until.map_or(self.end, |until| self.end.min(*until)).min(self.at + max as u64);
        out.extend((self.at..end).map(|n| (self.partition, n)));
        self.at = end;
        Ok(if self.at < self.end { Poll::Ready } else { Poll::Idle })
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.at = *offset;
        Ok(())
    }
}

#[test]
fn refused_source_is_named_before_anything_is_read() {
    for mode in MODES {
        for durable in [false, true] {
            let graph = Graph::new("refused");
            let (fine, refused) = (numbers(&[9]), Numbers { refuses: true, ..numbers(&[9]) });
            let asked = [&fine, &refused].map(|source| Arc::clone(&source.asked));
            let (sink, table) = memory_sink();
            let first = graph.source(fine);
            let line = line!() + 1;
            let second = graph.source(refused);
            first.union(second).sink(sink);
            let way = options(mode, 2);
            let started = match durable {
                true => graph.start_in(Arc::new(MemoryStorage::new()), way),
                false => graph.start(way),
            };
            let said = started.and_then(|handle| handle.wait()).unwrap_err().to_string();
            assert_eq!(
                said,
                format!("source `source` at tests/sources.rs:{line}: the broker knows no topic `numbers`"),
            );
            assert_eq!(asked.map(|asked| asked.opened.load(Ordering::SeqCst)), [0, 0]);
            assert!(table.snapshot().is_empty());
        }
    }
}

/// The counts by partition of what two runs have read, of sources with these partitions; the second with `--drop-state`.
fn counts(
    storage: &Arc<MemoryStorage>,
    source: Numbers,
    options: Options,
) -> Result<BTreeMap<u32, u64>, String> {
    let graph = Graph::new("counts");
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    let kept = Arc::clone(&counts);
    let keyed = graph.source(source).uid("numbers").key_by(|row| row.0).count().update().uid("counts");
    keyed.sink(for_each(move |(key, count)| {
        kept.lock().unwrap().insert(key, count);
    }));
    let ended = graph.start_in(storage.clone(), options).and_then(|handle| handle.wait());
    ended.map_err(|error| error.to_string())?;
    let counts = counts.lock().unwrap().clone();
    Ok(counts)
}

#[test]
fn refused_source_leaves_state_that_was_to_be_dropped() {
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        let way = || available_now(mode, 1);
        assert_eq!(counts(&storage, numbers(&[5]), way()).unwrap(), [(0, 5)].into());
        let refused = Numbers { refuses: true, ..numbers(&[8]) };
        counts(&storage, refused, way().with_drop_state("counts")).unwrap_err();
        // Neither does one with other partitions than the checkpoint has.
        let other = counts(&storage, numbers(&[8, 1]), way().with_drop_state("counts")).unwrap_err();
        assert!(other.contains("had 1 partitions in the checkpoint and has 2 now"), "{other}");
        assert_eq!(counts(&storage, numbers(&[8]), way()).unwrap(), [(0, 8)].into(), "{mode:?}");
    }
}

#[test]
fn growing_source_reads_new_partitions_after_restart() {
    for mode in MODES {
        for workers in [1, 2] {
            let storage = Arc::new(MemoryStorage::new());
            let growing = |partitions: &[u64]| Numbers { may_grow: true, ..numbers(partitions) };
            let way = || available_now(mode, workers);
            assert_eq!(counts(&storage, growing(&[5, 6]), way()).unwrap(), [(0, 5), (1, 6)].into());
            // Those that the checkpoint knows resume at their positions.
            let read = counts(&storage, growing(&[5, 7, 8, 9]), way()).unwrap();
            assert_eq!(read, [(1, 7), (2, 8), (3, 9)].into(), "{mode:?} {workers}");
            let read = counts(&storage, growing(&[6, 7, 8, 9]), way()).unwrap();
            assert_eq!(read, [(0, 6)].into(), "{mode:?} {workers}");
            let said = counts(&storage, growing(&[6, 7]), way()).unwrap_err();
            assert!(said.contains("had 4 partitions in the checkpoint and has 2 now"), "{said}");
        }
    }
}

#[test]
fn growing_source_within_journal_reads_new_partitions() {
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        let read = |partitions: &[u64]| {
            let graph = Graph::new("journal");
            let (sink, table) = memory_sink();
            let source = Numbers { may_grow: true, ..numbers(partitions) };
            graph.source(source.journaled()).uid("numbers").sink(sink);
            let way = options(mode, 1).with_trigger(Trigger::AvailableNow);
            graph.start_in(storage.clone(), way).unwrap().wait().unwrap();
            let mut rows: Vec<(u32, u64)> = table.snapshot();
            rows.sort_unstable();
            rows
        };
        assert_eq!(read(&[2]), [(0, 0), (0, 1)]);
        assert_eq!(read(&[3, 2]), [(0, 2), (1, 0), (1, 1)], "{mode:?}");
    }
}

/// A partition without records counts from its discovery: it holds the watermark until it shows something.
#[test]
fn new_partition_takes_part_in_watermark_after_restart() {
    for mode in MODES {
        let storage = Arc::new(MemoryStorage::new());
        let windows = |partitions: &[u64]| {
            let graph = Graph::new("windows");
            let (sink, table) = memory_sink();
            let source = Numbers { may_grow: true, ..numbers(partitions) };
            let seconds = Duration::from_secs;
            let timed = graph.source(source).uid("numbers");
            let timed =
                timed.with_watermark(|row| EventTime::from_secs(row.1 as i64), seconds(0)).uid("time");
            let closed = timed.window(tumbling(seconds(10))).count().append().uid("windows");
            closed.map(|row| (row.window.start.as_micros() / 10_000_000, row.value)).sink(sink);
            graph.start_in(storage.clone(), available_now(mode, 1)).unwrap().wait().unwrap();
            let mut rows: Vec<(i64, u64)> = table.snapshot();
            rows.sort_unstable();
            rows
        };
        assert_eq!(windows(&[25]), [(0, 10), (1, 10)]);
        // The new partition's first 20 records are late, the others are not; both hold the third window open.
        assert_eq!(windows(&[45, 28]), [], "{mode:?}");
        assert_eq!(windows(&[45, 41]), [(2, 20), (3, 20)], "{mode:?}");
    }
}

#[test]
fn wrong_file_setting_is_refused_when_query_resumes() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a.txt"), "1\n2\n").unwrap();
        let storage = Arc::new(MemoryStorage::new());
        let start = |exclude: &str| {
            let graph = Graph::new("lines");
            let (sink, table) = memory_sink();
            let files = text_files(place.path().join("*.txt").display().to_string()).exclude(exclude);
            graph.source(files).uid("lines").map(|line| line.to_string()).sink(sink);
            let ended = graph.start_in(storage.clone(), available_now(mode, 1)).and_then(|it| it.wait());
            ended.map(|_| table.snapshot().len()).map_err(|error| error.to_string())
        };
        assert_eq!(start("b.txt"), Ok(2));
        let said = start("old/b.txt").unwrap_err();
        assert!(said.contains("tests/sources.rs:") && said.contains("cannot exclude `old/b.txt`"), "{said}");
    }
}

#[test]
fn sources_are_prepared_once_for_each_run() {
    let source = numbers(&[3]);
    let asked = Arc::clone(&source.asked);
    let graph = Graph::new("once");
    let (sink, _table) = memory_sink();
    let others = graph.source(memory([(9, 9)]));
    graph.source(source).union(others).sink(sink);
    for run_number in 1..3 {
        run(&graph, available_now(Mode::MicroBatch, 2)).unwrap();
        assert_eq!(asked.prepared.load(Ordering::SeqCst), run_number);
    }
}

/// A plan shows partitions. To ask the source again while a run reads it would take that run's state away.
#[test]
fn plan_of_running_graph_asks_no_source() {
    let source = numbers(&[3, 4]);
    let asked = Arc::clone(&source.asked);
    let graph = Graph::new("plan");
    graph.source(source).sink(memory_sink().0);
    let way = || options(Mode::MicroBatch, 1);
    let plan = |count: u64| {
        assert!(graph.explain_run(&way()).unwrap().to_string().contains("source of 2 partitions"));
        assert_eq!(asked.prepared.load(Ordering::SeqCst), count);
    };
    // Before there is a run the plan has it find out.
    plan(1);
    let running = graph.start(way()).unwrap();
    plan(2);
    running.stop();
    running.wait().unwrap();
    plan(2);
}

/// Reads the numbers of the files that are new in a directory.
fn read_numbers(place: &std::path::Path, way: Options, bad: BadRecords) -> Result<Vec<u64>, String> {
    let graph = Graph::new("numbers");
    let (sink, rows) = memory_sink();
    let files = json_lines::<u64>(place.join("*.jsonl").display().to_string());
    graph.source(files.on_bad_record(bad)).sink(sink);
    run(&graph, way.with_checkpoint(place.join("checkpoint"))).map_err(|error| error.to_string())?;
    let mut rows = rows.take();
    rows.sort_unstable();
    Ok(rows)
}

#[test]
fn file_repaired_in_place_is_read_once() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let place = tempfile::tempdir().unwrap();
            let read = || read_numbers(place.path(), available_now(mode, workers), BadRecords::Fail);
            let at = |name: &str| place.path().join(name);
            fs::write(at("a.jsonl"), "17\n18!\n19\n").unwrap();
            for _ in 0..2 {
                let error = read().unwrap_err();
                assert!(error.contains("a.jsonl") && error.contains("line 2"), "{error}");
            }
            fs::write(at("a.jsonl"), "17\n18 \n19\n").unwrap();
            assert_eq!(read().unwrap(), [17, 18, 19], "{mode}, {workers} workers");
            // What has been read is known by its path alone, and up to its length.
            fs::write(at("a.jsonl"), "27\n28 \n29\n30\n").unwrap();
            assert_eq!(read().unwrap(), [0; 0], "{mode}, {workers} workers");
            fs::write(at("a.jsonl"), "27\n").unwrap();
            assert_eq!(read().unwrap(), [0; 0], "{mode}, {workers} workers");
            fs::rename(at("a.jsonl"), at("b.jsonl")).unwrap();
            assert_eq!(read().unwrap(), [27], "{mode}, {workers} workers");
        }
    }
}

#[test]
fn file_with_bad_record_can_be_skipped_by_next_run() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let read = |bad| read_numbers(place.path(), available_now(mode, 2), bad);
        fs::write(place.path().join("a.jsonl"), "17\n18!\n19\n").unwrap();
        read(BadRecords::Fail).unwrap_err();
        assert_eq!(read(BadRecords::Skip).unwrap(), [17, 19], "{mode}");
        assert_eq!(read(BadRecords::Fail).unwrap(), [0; 0], "{mode}");
        fs::write(place.path().join("b.jsonl"), "18\n").unwrap();
        assert_eq!(read(BadRecords::Fail).unwrap(), [18], "{mode}");
        // Shorter than it was found: what is missing has not been read.
        fs::write(place.path().join("c.jsonl"), "20\n21!\n22\n").unwrap();
        read(BadRecords::Fail).unwrap_err();
        fs::write(place.path().join("c.jsonl"), "20\n").unwrap();
        let error = read(BadRecords::Fail).unwrap_err();
        assert!(error.contains("c.jsonl") && error.contains("truncated"), "{error}");
    }
}
