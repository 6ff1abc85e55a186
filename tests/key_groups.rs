//! The number of key groups is chosen when a checkpoint begins, and kept.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::checkpoint::{LocalDirectory, MemoryStorage, inspect};
use tidemill::connectors::{MemorySource, json_lines_dir};
use tidemill::{EventTime, Graph, Options, QueryHandle, Run, RunError, session, sliding, tumbling};

use common::Hold;

#[derive(Serialize, Deserialize)]
struct Row {
    of: String,
    key: u64,
    start: i64,
    count: u64,
}

/// The records of an epoch, which has some of all partitions.
const EPOCH: u64 = 10;
const PARTITIONS: u64 = 4;

/// Counts by windows of every kind, and a running count, of 101 keys in four partitions.
fn graph(output: &Path) -> Graph {
    graph_with(output, Hold::nothing())
}

fn graph_with(output: &Path, hold: Hold) -> Graph {
    let graph = Graph::new("groups");
    let rows = |partition| (partition..2_400u64).step_by(4).collect::<Vec<_>>();
    let events = graph
        .source(MemorySource::partitioned([0, 1, 2, 3].map(rows)))
        .uid("events")
        .inspect(move |_| hold.pass())
        .with_watermark(|n| EventTime::from_micros(*n as i64 * 10), Duration::from_micros(50))
        .boxed();
    let micros = Duration::from_micros;
    let key = |n: &u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 101;
    let row = |of: &str, key, start: EventTime, count| Row {
        of: of.to_owned(),
        key,
        start: start.as_micros(),
        count,
    };
    let tumbled = events.clone().key_by(key).window(tumbling(micros(3_000))).count().append();
    let slid = events.clone().key_by(key).window(sliding(micros(2_000), micros(700))).count().append();
    let sessions = events.clone().key_by(key).window(session(micros(900))).count().append();
    tumbled
        .map(move |r| row("tumbling", r.key, r.window.start, r.value))
        .boxed()
        .union(slid.map(move |r| row("sliding", r.key, r.window.start, r.value)).boxed())
        .union(sessions.map(move |r| row("session", r.key, r.window.start, r.value)).boxed())
        .sink_per_worker({
            let output = output.to_owned();
            move |_| Ok(json_lines_dir(&output).roll_at(20_000))
        });
    events.key_by(key).count().update().sink(tidemill::connectors::discard().0);
    graph
}

fn rows(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".jsonl") && !name.starts_with('.') {
            rows.extend(std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned));
        }
    }
    rows.sort();
    rows
}

fn options(workers: usize) -> Options {
    Options::default().with_workers(workers).with_max_records_per_epoch(EPOCH).without_ctrl_c()
}

/// Cancels a run once it has committed a few epochs more; returns whether it ended before.
fn run_a_while(output: &Path, storage: &Arc<MemoryStorage>, options: Options) -> bool {
    let epochs = 18;
    // All records of as many epochs, and of those that are in flight behind them.
    let hold = Hold::after((epochs + 5) * PARTITIONS * EPOCH);
    let handle = graph_with(output, hold.clone()).start_in(storage.clone(), options).unwrap();
    let from = handle.progress().epoch.unwrap_or(0);
    common::wait_until(&handle, "some epochs", |handle| {
        handle.is_finished() || handle.progress().epoch.is_some_and(|epoch| epoch >= from + epochs)
    });
    handle.cancel();
    hold.release();
    match handle.wait() {
        Ok(_) => true,
        Err(RunError::Cancelled { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn refusal(result: Result<QueryHandle, RunError>) -> String {
    result.and_then(QueryHandle::wait).unwrap_err().to_string()
}

#[test]
fn few_and_many_key_groups_rescale_with_the_same_results() {
    let dir = tempfile::tempdir().unwrap();
    let straight = dir.path().join("straight");
    graph(&straight).run(options(1)).unwrap();
    let expected = rows(&straight);
    assert!(expected.len() > 500, "{}", expected.len());
    for groups in [4, 8, 256] {
        let output = dir.path().join(format!("{groups}"));
        let storage = Arc::new(MemoryStorage::new());
        let (mut workers, mut ends) = ([1, 2, 4, 3, 1].into_iter().cycle(), 0);
        // Only the first start says the number.
        let mut first = options(workers.next().unwrap()).with_key_groups(groups);
        while !run_a_while(&output, &storage, first) {
            ends += 1;
            first = options(workers.next().unwrap());
            assert_eq!(inspect::list(&*storage).unwrap().key_groups, groups);
        }
        assert!(ends >= 2, "{ends}");
        assert_eq!(rows(&output), expected, "{groups}");
        inspect::verify(&*storage).unwrap();
    }
}

#[test]
fn restart_with_another_number_is_refused_with_both() {
    let dir = tempfile::tempdir().unwrap();
    for (begun, asked) in [(Some(8), 16), (None, 64), (Some(256), 128)] {
        let storage = Arc::new(MemoryStorage::new());
        let first = begun.map_or(options(2), |groups| options(2).with_key_groups(groups));
        let output = dir.path().join(format!("{asked}"));
        run_a_while(&output, &storage, first);
        let graph = graph(&output);
        let error = refusal(graph.start_in(storage.clone(), options(2).with_key_groups(asked)));
        let begun = begun.unwrap_or(128);
        let expected =
            format!("created with {begun} key groups, and its state cannot be divided into {asked}: leave");
        assert!(error.starts_with("--key-groups: ") && error.contains(&expected), "{error}");
        // The same number is well, and so is none.
        run_a_while(&output, &storage, options(2).with_key_groups(begun));
    }
}

#[test]
fn more_workers_than_key_groups_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let graph = graph(dir.path());
    let storage = Arc::new(MemoryStorage::new());
    // Before anything is written: the next start may still choose.
    let error = refusal(graph.start_in(storage.clone(), options(129)));
    let expected = "--workers: 129 workers need at least as many key groups, and there are 128: use at most 128 workers, \
                    or --key-groups 256 ";
    assert!(error.starts_with(expected), "{error}");
    run_a_while(dir.path(), &storage, options(2).with_key_groups(2));
    let error = refusal(graph.start_in(storage, options(3)));
    assert!(error.starts_with("--workers: 3 workers need") && error.contains("there are 2:"), "{error}");
    // Without a checkpoint too.
    let error = refusal(graph.start(options(4).with_key_groups(2)));
    assert!(error.starts_with("--workers: 4 workers need"), "{error}");
}

#[test]
fn number_that_is_no_power_of_two_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for groups in [0, 3, 100, u16::MAX] {
        let error = refusal(graph(dir.path()).start(options(1).with_key_groups(groups)));
        let expected = format!("--key-groups: must be a power of two, at most 32768 (got {groups})");
        assert_eq!(error, expected);
    }
}

#[test]
fn savepoint_has_the_key_groups_of_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let hold = Hold::after(10 * PARTITIONS * EPOCH);
    let first = graph_with(&at("first"), hold.clone());
    let handle = first.start(options(2).with_key_groups(8).with_checkpoint(at("one"))).unwrap();
    common::wait_until(&handle, "an epoch", |handle| handle.progress().epoch.is_some());
    handle.savepoint(at("saved")).unwrap();
    hold.release();
    handle.wait().unwrap();
    let saved = LocalDirectory::existing(at("saved")).unwrap();
    assert_eq!(inspect::list(&saved).unwrap().key_groups, 8);
    let copy = |options: Options| options.with_checkpoint(at("two")).with_from_savepoint(at("saved"));
    let error = refusal(graph(&at("second")).start(copy(options(2).with_key_groups(16))));
    assert!(error.contains("created with 8 key groups"), "{error}");
    graph(&at("second")).start(copy(options(4))).unwrap().wait().unwrap();
    let two = LocalDirectory::existing(at("two")).unwrap();
    assert_eq!(inspect::list(&two).unwrap().key_groups, 8);
}
