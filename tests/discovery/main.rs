//! Partitions that appear while a query runs: they are read exactly once, hold the watermark, and are in checkpoints.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod refusals;
mod shards;
mod watermarks;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{json_lines_sink, memory_sink};
use tidemill::testing::{SimClock, TestDriver, collecting_sink};
use tidemill::{Graph, Journal, Mode, Options, QueryHandle, Reader, Run, Source, SourceError, WrapSource};

use common::{MODES, available_now, options, sorted, wait_until};
use shards::{Row, Shards};

fn way(mode: Mode, workers: usize) -> Options {
    options(mode, workers).with_checkpoint_interval(Duration::from_millis(5))
}

/// The rows that a file has, in order.
fn shown(file: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be under way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    sorted(whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// How many partitions the progress of a query has.
fn partitions(handle: &QueryHandle) -> usize {
    handle.progress().sources.first().map_or(0, |source| source.end_offset.len())
}

fn start(source: &Shards, storage: &Arc<MemoryStorage>, out: &Path, options: Options) -> QueryHandle {
    let graph = Graph::new("shards");
    graph.source(source.clone()).uid("shards").rebalance().sink(json_lines_sink(out.display().to_string()));
    graph.start_in(storage.clone(), options).unwrap()
}

#[test]
fn new_shards_are_read_once_through_crash_and_rescale() {
    for mode in MODES {
        for (first, second, third) in [(1, 2, 4), (4, 1, 2), (2, 4, 1)] {
            let place = tempfile::tempdir().unwrap();
            let (out, storage) = (place.path().join("out.jsonl"), Arc::new(MemoryStorage::new()));
            let source = Shards::new(&[10]);
            let what = format!("{mode:?} {first} {second} {third}");
            let running = start(&source, &storage, &out, way(mode, first));
            wait_until(&running, &what, |_| shown(&out).len() == 10);
            // Found while it runs, with rows and without.
            source.add(7);
            source.add(0);
            wait_until(&running, &what, |handle| shown(&out).len() == 17 && partitions(handle) == 3);
            source.push(2, 0..5);
            source.push(0, 10..12);
            wait_until(&running, &what, |_| shown(&out).len() == 24);
            source.add(400);
            source.push(1, 7..300);
            // It ends where it stands, as in a crash.
            running.cancel();
            running.wait().unwrap_err();
            source.add(3);
            let running = start(&source, &storage, &out, way(mode, second));
            wait_until(&running, &what, |_| shown(&out).len() == source.rows().len());
            // Twice in a row.
            source.add(20);
            source.add(30);
            running.cancel();
            running.wait().unwrap_err();
            let running = start(&source, &storage, &out, way(mode, third));
            source.add(40);
            wait_until(&running, &what, |_| shown(&out).len() == source.rows().len());
            running.stop();
            running.wait().unwrap();
            assert_eq!(shown(&out), source.rows(), "{what}");
            // A checkpoint has them all.
            let running = start(&source, &storage, &out, available_now(mode, second));
            assert_eq!(running.wait().unwrap().input_rows, 0, "{what}");
        }
    }
}

#[test]
fn source_without_shards_waits_for_the_first() {
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("empty");
            let (sink, table) = memory_sink();
            let source = Shards::new(&[]);
            graph.source(source.clone()).sink(sink);
            let running = graph.start(way(mode, workers)).unwrap();
            let what = format!("{mode:?} {workers}");
            assert_eq!(partitions(&running), 0);
            source.add(3);
            wait_until(&running, &what, |_| table.snapshot().len() == 3);
            // That all its shards have ended is not its end.
            source.end(0);
            wait_until(&running, &what, |handle| handle.progress().num_input_rows == 0);
            source.add(4);
            wait_until(&running, &what, |_| table.snapshot().len() == 7);
            running.stop();
            running.wait().unwrap();
            assert_eq!(sorted(table.snapshot()), source.rows(), "{what}");
        }
    }
}

/// The last row of each pair.
struct Halved(Shards);

impl WrapSource for Halved {
    type Inner = Shards;
    type Item = Row;
    type Reader = <Shards as Source>::Reader;

    fn inner(&self) -> &Shards {
        &self.0
    }
    fn inner_mut(&mut self) -> &mut Shards {
        &mut self.0
    }
    fn wrap(&self, _: u32, reader: Self::Reader) -> Result<Self::Reader, SourceError> {
        assert!(reader.offset() < 100);
        Ok(reader)
    }
}

#[test]
fn new_shards_within_wrapper_and_journal_are_read_once() {
    for mode in MODES {
        for workers in [1, 2] {
            let storage = Arc::new(MemoryStorage::new());
            let source = Shards::new(&[2]);
            let what = format!("{mode:?} {workers}");
            let mut rows: Vec<Row> = Vec::new();
            for run in 1..3 {
                let graph = Graph::new("journal");
                let (sink, table) = memory_sink();
                graph.source(Halved(source.clone()).journaled()).uid("shards").sink(sink);
                let running = graph.start_in(storage.clone(), way(mode, workers)).unwrap();
                source.add(run);
                source.add(4);
                let left = source.rows().len() - rows.len();
                wait_until(&running, &what, |_| table.snapshot().len() >= left);
                running.stop();
                running.wait().unwrap();
                rows.extend(table.snapshot());
                assert_eq!(sorted(rows.clone()), source.rows(), "{what}");
            }
        }
    }
}

type Replay = (TestDriver, tidemill::testing::Collected<Row>);

/// A query over shards that a test steps.
fn stepped(mode: Mode, source: &Shards, storage: &Arc<MemoryStorage>, clock: &SimClock) -> Replay {
    let graph = Graph::new("replay");
    let (sink, rows) = collecting_sink();
    graph.source(source.clone()).uid("shards").sink(sink);
    let options = Options::default().with_mode(mode).without_ctrl_c();
    (TestDriver::with_checkpoint(&graph, options, clock, storage.clone()).unwrap(), rows)
}

/// What a run leaves that has committed the two rows of the first shard, and planned and not committed an epoch with rows 3 and
/// 4 of a second shard, which has rows up to 7 by then.
fn planned_shards() -> (Shards, Arc<MemoryStorage>, SimClock) {
    let (storage, clock) = (Arc::new(MemoryStorage::new()), SimClock::new());
    let source = Shards::new(&[2]);
    let (mut test, rows) = stepped(Mode::MicroBatch, &source, &storage, &clock);
    assert_eq!(test.epoch().unwrap().unwrap().num_input_rows, 2);
    // The second shard begins behind its first three rows. It is planned, and its reader fails.
    source.add(3);
    source.begin_at_end(1);
    source.push(1, 3..5);
    *source.broken.lock().unwrap() = Some(1);
    clock.set(clock.now() + source.every);
    let failed = test.epoch().unwrap_err().to_string();
    assert!(failed.contains("the shard cannot be read"), "{failed}");
    assert_eq!(rows.committed(), [(0, 0), (0, 1)]);
    drop(test);
    *source.broken.lock().unwrap() = None;
    // By the restart there are more rows, a third shard, and the second one would begin elsewhere.
    source.push(1, 5..8);
    source.begin_at_end(1);
    source.add(1);
    (source, storage, clock)
}

/// An epoch that was planned and not committed is read again as it was planned, whatever there is by then.
#[test]
fn replayed_epoch_has_ranges_and_shards_of_its_plan() {
    let (source, storage, clock) = planned_shards();
    let (mut test, rows) = stepped(Mode::MicroBatch, &source, &storage, &clock);
    let replayed = test.epoch().unwrap().unwrap();
    assert_eq!(rows.committed(), [(1, 3), (1, 4)]);
    let offsets = |progress: &tidemill::Progress| -> Vec<u64> {
        progress.sources[0].end_offset.values().map(|offset| offset.as_u64().unwrap()).collect()
    };
    assert_eq!(offsets(&replayed), [2, 5], "the third shard takes no part yet");
    let next = test.epoch().unwrap().unwrap();
    assert_eq!(rows.committed(), [(1, 3), (1, 4), (1, 5), (1, 6), (1, 7), (2, 0)]);
    assert_eq!(offsets(&next), [2, 8, 1]);
}

/// The first epoch of a continuous run has all rows of an epoch that was planned and not committed, however soon it is to end.
#[test]
fn continuous_run_begins_with_ranges_and_shards_of_plan() {
    let (source, storage, clock) = planned_shards();
    let (test, rows) = stepped(Mode::Continuous, &source, &storage, &clock);
    test.stop().unwrap();
    let mut shown = rows.committed();
    for row in [(1, 3), (1, 4)] {
        assert!(shown.contains(&row), "{shown:?}");
    }
    let (mut test, rows) = stepped(Mode::MicroBatch, &source, &storage, &clock);
    test.run_to_end().unwrap();
    shown.extend(rows.committed());
    assert_eq!(sorted(shown), [(1, 3), (1, 4), (1, 5), (1, 6), (1, 7), (2, 0)]);
}
