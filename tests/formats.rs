//! A checkpoint of the current format version is resumed; one of an older version is refused with its number.
//!
//! `WRITE_FIXTURE=1 cargo test --test formats` writes the fixture of the current version, which is done once for each
//! version of the format.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::connectors::{MemorySource, MemoryTable, memory_sink};
use tidemill::testing::{SimClock, TestDriver};
use tidemill::{EventTime, Graph, Options, session, sliding, tumbling};

type Row = (String, i64, u64);

/// One of each kind of state: panes, sessions, keys for ever, with marks and without.
fn graph() -> (Graph, [MemoryTable<Row>; 2]) {
    let graph = Graph::new("fixture");
    let events = graph
        .source(MemorySource::partitioned([(0..200i64).step_by(2).collect(), (1..200).step_by(2).collect()]))
        .with_watermark(|n| EventTime::from_micros(n * 10), Duration::from_micros(30))
        .boxed();
    let micros = Duration::from_micros;
    let key = |n: &i64| format!("key {}", n % 3);
    let (sink, table) = memory_sink();
    let tumbled = events.clone().key_by(key).window(tumbling(micros(300))).count().append();
    let slid =
        events.clone().key_by(key).window(sliding(micros(400), micros(150))).sum(|n| *n as u64).update();
    let sessions =
        events.clone().key_by(|n| format!("session {}", n / 17)).window(session(micros(50))).count().append();
    let (running_sink, running) = memory_sink();
    events.key_by(key).count().update().map(|(key, count)| (key, -1, count)).sink(running_sink);
    tumbled
        .map(|r| (r.key, r.window.start.as_micros(), r.value))
        .boxed()
        .union(slid.map(|r| (r.key, r.window.start.as_micros(), r.value)).as_inserts().boxed())
        .union(sessions.map(|r| (r.key, r.window.start.as_micros(), r.value)).boxed())
        .sink(sink);
    (graph, [table, running])
}

fn options() -> Options {
    Options::default().with_max_records_per_epoch(10)
}

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/checkpoint-v{version}"))
}

/// All rows that the query says in its epochs from the fifth on.
fn from_the_fifth_epoch(driver: &mut TestDriver, tables: &[MemoryTable<Row>; 2], skip: usize) -> Vec<Row> {
    for _ in 0..skip {
        driver.epoch().unwrap();
    }
    let before = tables.each_ref().map(|table| table.snapshot().len());
    driver.run_to_end().unwrap();
    let mut rows: Vec<Row> =
        tables.iter().zip(before).flat_map(|(table, before)| table.snapshot().split_off(before)).collect();
    rows.sort();
    rows
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn checkpoint_of_version_1_is_refused_by_number() {
    let place = tempfile::tempdir().unwrap();
    copy(&fixture(1), place.path());
    let storage = Arc::new(LocalDirectory::open(place.path()).unwrap());
    let error = TestDriver::with_checkpoint(&graph().0, options(), &SimClock::new(), storage).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("is of format version 1, and this program reads version 2"), "{message}");
}

#[test]
fn checkpoint_of_version_2_is_resumed() {
    let clock = SimClock::new();
    if std::env::var_os("WRITE_FIXTURE").is_some() {
        let storage = Arc::new(LocalDirectory::open(fixture(2)).unwrap());
        let (graph, _) = graph();
        let mut driver = TestDriver::with_checkpoint(&graph, options(), &clock, storage).unwrap();
        (0..5).for_each(|_| drop(driver.epoch().unwrap()));
    }
    let (straight, tables) = graph();
    let expected =
        from_the_fifth_epoch(&mut TestDriver::new(&straight, options(), &clock).unwrap(), &tables, 5);
    assert!(expected.len() > 30, "{}", expected.len());

    let place = tempfile::tempdir().unwrap();
    copy(&fixture(2), place.path());
    let storage = Arc::new(LocalDirectory::open(place.path()).unwrap());
    assert!(inspect::verify(&*storage).is_ok());
    let (graph, tables) = graph();
    let mut driver = TestDriver::with_checkpoint(&graph, options(), &clock, storage).unwrap();
    assert_eq!(from_the_fifth_epoch(&mut driver, &tables, 0), expected);
}
