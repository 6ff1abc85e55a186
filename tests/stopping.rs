//! Stop and cancel: nothing that sinks, sources and functions of the user do can prevent a query from ending.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use tidemill::checkpoint::{CheckpointError, Lock, Log, MemoryStorage, Owner, Storage};
use tidemill::connectors::{channel_sink, discard, for_each, iterate, memory, memory_sink, rate};
use tidemill::{
    Fault, Graph, Mode, Options, PlanLimits, Poll, PrepareContext, QueryHandle, Reader, ReaderContext, Run,
    RunError, Source, SourceError, SourceInfo,
};

use common::{MODES, alone, end, no_thread_is_left, options, takes_at_most, wait_until};

/// Waits for the end, and returns how long that takes.
#[track_caller]
fn timed_end(query: QueryHandle, what: &str) -> (RunError, Duration) {
    let begun = Instant::now();
    let error = end(query, what).unwrap_err();
    (error, begun.elapsed())
}

fn fast(mode: Mode, workers: usize) -> Options {
    options(mode, workers).with_checkpoint_interval(Duration::from_millis(20))
}

/// A query whose output channel is full and not read.
fn blocked(options: Options) -> (QueryHandle, Receiver<u64>) {
    let (sender, rows) = bounded(4);
    let graph = Graph::new("blocked");
    graph.source(iterate(|| 0u64..)).sink(channel_sink(sender));
    let query = graph.start(options).unwrap();
    wait_until(&query, "the channel is full", |_| rows.is_full());
    (query, rows)
}

#[test]
fn cancel_ends_query_with_full_channel_sink() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2] {
            takes_at_most(Duration::from_secs(1), "a cancel", || {
                let (query, _rows) = blocked(fast(mode, workers));
                query.cancel();
                let (error, time) = timed_end(query, "cancelled");
                assert!(matches!(error, RunError::Cancelled { stop_timeout: None, .. }), "{error}");
                no_thread_is_left();
                time
            });
        }
    }
}

#[test]
fn stop_becomes_cancel_after_stop_timeout() {
    let _alone = alone();
    for mode in MODES {
        for workers in [1, 2] {
            let timeout = Duration::from_millis(300);
            takes_at_most(timeout + Duration::from_secs(1), "a stop", || {
                let (query, _rows) = blocked(fast(mode, workers).with_stop_timeout(timeout));
                let begun = Instant::now();
                query.stop();
                let (error, _) = timed_end(query, "stopped");
                let time = begun.elapsed();
                assert!(time >= timeout, "{time:?}");
                assert!(matches!(error, RunError::Cancelled { stop_timeout: Some(_), .. }), "{error}");
                assert!(error.to_string().contains("--stop-timeout of 300ms"), "{error}");
                no_thread_is_left();
                time
            });
        }
    }
}

#[test]
fn stop_with_full_channel_sink_drains_when_rows_are_taken() {
    let _alone = alone();
    for mode in MODES {
        let (query, rows) = blocked(fast(mode, 1).with_max_records_per_epoch(100));
        query.stop();
        let taking = std::thread::spawn(move || rows.iter().count() as u64);
        let summary = end(query, "drained").unwrap();
        assert_eq!(taking.join().unwrap(), summary.output_rows);
    }
}

#[test]
fn cancel_ends_slow_sink_before_its_epoch_is_written() {
    let _alone = alone();
    for mode in MODES {
        for durable in [false, true] {
            takes_at_most(Duration::from_secs(1), "a cancel", || {
                let directory = tempfile::tempdir().unwrap();
                let (sender, calls) = crossbeam_channel::unbounded();
                let graph = Graph::new("slow");
                let slow = move |n: u64| {
                    // Ends by the clock: an unpaced row would be no slow one.
                    std::thread::sleep(Duration::from_millis(5));
                    sender.send(n).unwrap();
                };
                graph.source(memory(0..10_000u64)).sink(for_each(slow));
                let mut way = fast(mode, 1);
                if durable {
                    way = way.with_checkpoint(directory.path().join("checkpoint"));
                }
                let query = graph.start(way).unwrap();
                wait_until(&query, "a row is written", |_| !calls.is_empty());
                query.cancel();
                let (error, time) = timed_end(query, "slow");
                assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
                no_thread_is_left();
                time
            });
        }
    }
}

/// A source that blocks, until it is released, where it is told to.
struct Blocks {
    place: &'static str,
    gate: Gate,
}

#[derive(Clone)]
struct Gate {
    reached: Sender<()>,
    open: Receiver<()>,
}

fn gate() -> (Gate, Receiver<()>, Sender<()>) {
    let ((reached, is_reached), (opens, open)) = (bounded(8), bounded(0));
    (Gate { reached, open }, is_reached, opens)
}

impl Gate {
    /// Returns when the other end has gone.
    fn pass(&self) {
        let _ = self.reached.try_send(());
        let _ = self.open.recv();
    }
}

impl Source for Blocks {
    type Item = u64;
    type Offset = u64;
    type Reader = Blocking;

    fn describe(&self) -> String {
        "blocks".to_owned()
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }
    fn refresh(&self, _: &PlanLimits) -> Result<(), SourceError> {
        if self.place == "refresh" {
            self.gate.pass();
        }
        Ok(())
    }
    fn latest(&self, _: u32, from: &u64, _: &PlanLimits) -> Result<u64, SourceError> {
        Ok(from + 10)
    }
    fn open(&self, _: u32, from: &u64, _: ReaderContext) -> Result<Blocking, SourceError> {
        let gate = (self.place == "poll").then(|| self.gate.clone());
        Ok(Blocking { at: *from, gate })
    }
}

struct Blocking {
    at: u64,
    gate: Option<Gate>,
}

impl Reader for Blocking {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, _: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        let until = until.map_or(self.at + 10, |until| *until);
        out.extend(self.at..until);
        self.at = until;
        Ok(Poll::Ready)
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, to: &u64) -> Result<(), SourceError> {
        self.at = *to;
        Ok(())
    }
}

/// Cancels a query while a function does not return, and looks at what is left of it.
fn left_alone(place: &'static str, mode: Mode, workers: usize) {
    let directory = tempfile::tempdir().unwrap();
    let way = fast(mode, workers).with_checkpoint(directory.path().join("checkpoint"));
    let (gate, reached, opens) = gate();
    let graph = Graph::new("stuck");
    let source = graph.source(Blocks { place, gate: gate.clone() });
    let line = line!() - 1;
    match place {
        "map" => source
            .map(move |n| {
                gate.pass();
                n
            })
            .sink(memory_sink().0),
        "sink" => source.sink(for_each(move |_| gate.pass())),
        _ => source.sink(memory_sink().0),
    }
    let query = graph.start(way.clone()).unwrap();
    reached.recv().unwrap();
    query.cancel();
    let (error, time) = timed_end(query, place);
    assert!(time > Duration::from_secs(4), "{place}: {time:?}");
    let RunError::Stuck { site, error: Some(why), .. } = &error else { panic!("{place}: {error}") };
    assert!(matches!(**why, RunError::Cancelled { .. }), "{why}");
    assert_eq!(error.fault(), Fault::User);
    let of: u32 = site.location.rsplit_once("stopping.rs:").unwrap().1.parse().unwrap();
    assert!((line..line + 12).contains(&of), "{place}: {error}");
    // The checkpoint stays locked, also when the function has returned at last.
    let again = || {
        let graph = Graph::new("stuck");
        graph.source(memory(0..10u64)).sink(memory_sink().0);
        graph.start(way.clone()).map(drop).unwrap_err().to_string()
    };
    assert!(again().contains("is in use by"), "{}", again());
    drop(opens);
    no_thread_is_left();
    assert!(again().contains("is in use by"), "{}", again());
}

#[test]
fn function_that_does_not_return_is_named_and_left_alone() {
    let _alone = alone();
    left_alone("map", Mode::Continuous, 2);
    left_alone("sink", Mode::MicroBatch, 1);
}

#[test]
fn source_that_blocks_is_named_and_left_alone() {
    let _alone = alone();
    left_alone("poll", Mode::Continuous, 1);
    left_alone("refresh", Mode::MicroBatch, 2);
}

/// A storage whose writes of states, or of commits, do not return.
struct Hangs {
    memory: MemoryStorage,
    at: &'static str,
    gate: Gate,
}

struct HangingLog {
    log: Box<dyn Log>,
    gate: Option<Gate>,
    appends: u32,
}

impl Log for HangingLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.appends += 1;
        self.gate.iter().filter(|_| self.appends > 2).for_each(Gate::pass);
        self.log.append(bytes)
    }
    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        self.log.read()
    }
    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        self.log.truncate(length)
    }
}

impl Storage for Hangs {
    fn describe(&self) -> String {
        self.memory.describe()
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        // Logs are begun by the thread that starts the query.
        if self.at == "state/" && name.starts_with(self.at) {
            self.gate.pass();
        }
        self.memory.put(name, bytes)
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.memory.get(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        self.memory.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        self.memory.delete(name)
    }
    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        let gate = name.starts_with(self.at).then(|| self.gate.clone());
        Ok(Box::new(HangingLog { log: self.memory.log(name)?, gate, appends: 0 }))
    }
    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        self.memory.lock(owner)
    }
}

#[test]
fn storage_that_does_not_return_is_named_and_left_alone() {
    let _alone = alone();
    for (at, mode, cancels) in [
        ("state/", Mode::MicroBatch, true),
        ("state/", Mode::Continuous, false),
        ("commits-", Mode::MicroBatch, false),
        ("commits-", Mode::Continuous, true),
    ] {
        let (gate, reached, opens) = gate();
        let memory = MemoryStorage::new();
        let storage = Arc::new(Hangs { memory: memory.clone(), at, gate });
        let graph = Graph::new("hangs");
        graph.source(rate(1_000)).key_by(|row| row.value % 7).count().update().sink(memory_sink().0);
        let way = fast(mode, 1).with_stop_timeout(Duration::from_millis(300));
        let query = graph.start_in(storage, way.clone()).unwrap();
        reached.recv().unwrap();
        if cancels {
            query.cancel();
        } else {
            query.stop();
        }
        let error = end(query, at).unwrap_err();
        let RunError::Stuck { site, error: Some(why), .. } = &error else { panic!("{at}: {error}") };
        assert_eq!(site.operator, "the storage of the checkpoint", "{at}: {error}");
        assert!(matches!(**why, RunError::Cancelled { .. }), "{why}");
        let again =
            || graph.start_in(Arc::new(memory.clone()), way.clone()).map(drop).unwrap_err().to_string();
        assert!(again().contains("is in use by"), "{}", again());
        drop(opens);
        no_thread_is_left();
        assert!(again().contains("is in use by"), "{}", again());
    }
}

/// Does not return from its `Drop` before the gate opens.
struct Clings(Option<Gate>);

impl Drop for Clings {
    fn drop(&mut self) {
        self.0.iter().for_each(Gate::pass);
    }
}

#[test]
fn drop_that_does_not_return_is_named_and_left_alone() {
    let _alone = alone();
    for (of, stops) in [("graph", false), ("graph", true), ("row", false)] {
        let memory = MemoryStorage::new();
        let (gate, reached, opens) = gate();
        let way = fast(Mode::MicroBatch, 1).with_stop_timeout(Duration::from_millis(300));
        let graph = || Graph::new("clings");
        let query = {
            let graph = graph();
            let rows = if stops { u64::MAX } else { 10 };
            let source = graph.source(iterate(move || 0..rows));
            let clings = Clings((of == "graph").then(|| gate.clone()));
            let rows = source.inspect(move |_| assert!(clings.0.is_some() || of == "row"));
            if of == "row" {
                let gate = gate.clone();
                rows.map(move |n| drop(Clings((n == 5).then(|| gate.clone())))).sink(discard().0);
            } else {
                rows.sink(discard().0);
            }
            graph.start_in(Arc::new(memory.clone()), way.clone()).unwrap()
        };
        if stops {
            wait_until(&query, "rows", |query| query.progress().total_input_rows > 0);
            query.stop();
        }
        if of == "row" {
            reached.recv().unwrap();
            query.stop();
        }
        let error = end(query, of).unwrap_err();
        let RunError::Stuck { site, error: why, .. } = &error else { panic!("{of}: {error}") };
        match of {
            "graph" => {
                assert_eq!(
                    (site.operator.as_str(), why.is_none()),
                    ("the drop of a value of the query", true)
                );
                assert!(!error.to_string().contains('('), "{error}");
            }
            _ => assert!(site.location.contains("stopping.rs"), "{error}"),
        }
        let again = || {
            let graph = graph();
            graph.source(iterate(|| 0..1u64)).sink(discard().0);
            graph.start_in(Arc::new(memory.clone()), way.clone()).map(drop).unwrap_err().to_string()
        };
        assert!(again().contains("is in use by"), "{}", again());
        drop(opens);
        no_thread_is_left();
        assert!(again().contains("is in use by"), "{}", again());
    }
}
