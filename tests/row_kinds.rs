//! Kinds of rows: what would take a row for another kind than it is refuses it before anything runs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{
    at_commit, csv_dir, csv_sink, discard, for_each, json_lines_dir, json_lines_sink, memory, memory_sink,
};
use tidemill::{EventTime, Graph, Options, Run, Stream, tumbling};

use common::{MODES, options, run, run_well, ways};

const ROWS: u64 = 60;

/// The numbers from 0, with a count of those that have been read.
fn numbers(graph: &Graph) -> (Stream<u64>, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&read);
    let rows = graph.source(memory(0..ROWS)).inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (rows.boxed(), read)
}

/// What refuses a graph before a row is read, which must be the same in every way to run it.
#[track_caller]
fn refusal(build: impl Fn(Stream<u64>)) -> String {
    let mut said = Vec::new();
    for workers in [1, 2] {
        for mode in MODES {
            let graph = Graph::new("kinds");
            let (rows, read) = numbers(&graph);
            build(rows);
            said.push(run(&graph, options(mode, workers)).unwrap_err().to_string());
            assert_eq!(read.load(Ordering::Relaxed), 0, "{said:?}");
        }
    }
    said.dedup();
    let [one] = said.as_slice() else { panic!("the ways differ: {said:#?}") };
    one.clone()
}

#[test]
fn sum_over_running_counts_is_refused_with_both_lines() {
    let counted = line!() + 2;
    let said = refusal(|rows| {
        let counts = rows.key_by(|n| n % 3).count().update();
        counts.key_by(|row| row.0 % 2).sum(|row| row.1).update().sink(discard().0);
    });
    let expected = format!(
        "the graph cannot run:\n  `key_by → aggregate` at tests/row_kinds.rs:{}: `key_by → aggregate` at \
         tests/row_kinds.rs:{counted} emits upserts (each row replaces an earlier one of its key), but it would count each of \
         them as one more row: emit each result once, as a window with `.append()` does; or make a table of the \
         newest rows, with `.key_by(…)` and `.into_table()` (feature `tables`); or call `.as_inserts()` on the upserts to treat \
         each as a row of its own",
        counted + 1
    );
    assert_eq!(said, expected);
}

#[test]
fn union_of_two_kinds_is_refused_with_all_three_lines() {
    let counted = line!() + 2;
    let said = refusal(|rows| {
        let table = rows.clone().key_by(|n| n % 3).count().complete();
        let pairs = rows.map(|n| (n, n));
        table.union(pairs).sink(discard().0);
    });
    for (line, what) in [(counted, " emits snapshots (the rows of"), (counted + 2, ": `key_by → aggregate`")]
    {
        let here = format!("tests/row_kinds.rs:{line}{what}");
        assert!(said.contains(&here), "{here} is not in {said}");
    }
    assert!(said.contains(" emits inserts, and all rows of a stream have one kind: "), "{said}");
}

#[test]
fn file_sinks_refuse_kinds_that_they_cannot_hold() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let updates = |rows: Stream<u64>| rows.key_by(|n| n % 3).count().update();
    let tables = |rows: Stream<u64>| rows.key_by(|n| n % 3).count().complete();
    for said in [
        refusal(|rows| updates(rows).sink(json_lines_sink(at("x.jsonl")))),
        refusal(|rows| updates(rows).sink(at_commit(csv_sink(at("x.csv"))))),
        refusal(|rows| updates(rows).sink(json_lines_dir(at("x")))),
        refusal(|rows| updates(rows).sink(csv_dir(at("x")))),
        refusal(|rows| tables(rows).sink(json_lines_dir(at("x")))),
        refusal(|rows| tables(rows).sink(csv_sink(at("x.csv")).append())),
        // One that is made when the query starts is asked then.
        refusal(|rows| {
            let place = at("x");
            updates(rows).sink_per_worker(move |_| Ok(json_lines_dir(&place)));
        }),
        refusal(|rows| {
            let place = at("x");
            updates(rows).map(|row| row.0).sink_per_worker(move |_| Ok(at_commit(json_lines_dir(&place))));
        }),
    ] {
        assert!(said.contains("tests/row_kinds.rs:") && said.contains("`.as_inserts()`"), "{said}");
        assert!(said.contains(&format!("{}", place.path().display())) || said.contains("DirSink"), "{said}");
        assert!(said.contains("does not take"), "{said}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

/// The rows of a file of JSON Lines.
fn rows_of(path: &Path) -> Vec<(u64, u64)> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn file_of_upserts_as_inserts_is_a_log_of_versions() {
    for way in ways(&[1, usize::MAX], 5) {
        let place = tempfile::tempdir().unwrap();
        let (log, table) = (place.path().join("log.jsonl"), place.path().join("table.jsonl"));
        let graph = Graph::new("kinds");
        let (rows, _) = numbers(&graph);
        let changes = rows.clone().key_by(|n| n % 3).count().update();
        changes.as_inserts().sink(json_lines_sink(&log));
        rows.key_by(|n| n % 3).count().complete().sink(json_lines_sink(&table));
        run_well(&graph, way.clone());
        let expected: BTreeMap<u64, u64> = (0..3).map(|key| (key, ROWS / 3)).collect();
        let versions = rows_of(&log);
        assert!(versions.len() >= 3, "{versions:?}");
        assert_eq!(versions.into_iter().collect::<BTreeMap<_, _>>(), expected, "{way:?}");
        let mut newest = rows_of(&table);
        newest.sort_unstable();
        assert_eq!(newest, expected.into_iter().collect::<Vec<_>>(), "{way:?}");
    }
}

#[test]
fn steps_and_unions_of_upserts_reach_an_upserting_sink() {
    for way in ways(&[1, usize::MAX], 5) {
        let graph = Graph::new("kinds");
        let (rows, _) = numbers(&graph);
        let changes = rows.key_by(|n| n % 6).count().update();
        let (even, odd) =
            (changes.clone().filter(|row| row.0 % 2 == 0), changes.filter(|row| row.0 % 2 == 1));
        let table = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
        let kept = Arc::clone(&table);
        let doubled = even.map(|(key, count)| (key, 2 * count)).union(odd);
        doubled.sink(for_each(move |(key, count)| {
            kept.lock().unwrap().insert(key, count);
        }));
        run_well(&graph, way.clone());
        let expected: BTreeMap<u64, u64> =
            (0..6).map(|key| (key, ROWS / 6 * if key % 2 == 0 { 2 } else { 1 })).collect();
        assert_eq!(*table.lock().unwrap(), expected, "{way:?}");
    }
}

#[test]
fn windows_over_closed_windows_and_late_rows_need_no_name() {
    for way in ways(&[1, usize::MAX], 5) {
        let graph = Graph::new("kinds");
        let (rows, _) = numbers(&graph);
        let seconds = |n| Duration::from_secs(n);
        let timed = rows.with_watermark(|n| EventTime::from_secs(*n as i64), seconds(0));
        let (small, late) = timed.key_by(|n| n % 2).window(tumbling(seconds(10))).count().append_with_late();
        late.count().update().sink(discard().0);
        let (sink, table) = memory_sink();
        let large = small.key_by(|_| ()).window(tumbling(seconds(30))).sum(|row| row.value).append();
        large.map(|row| row.value).sink(sink);
        run_well(&graph, way.clone());
        let mut rows: Vec<u64> = table.snapshot();
        rows.sort_unstable();
        assert_eq!(rows, [30, 30], "{way:?}");
    }
}

#[test]
fn file_refuses_a_restart_with_rows_of_another_kind() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let storage = Arc::new(MemoryStorage::new());
        let file = place.path().join("counts.jsonl");
        let count = |complete: bool, upto: u64| {
            let graph = Graph::new("kinds");
            let totals = graph.source(memory(0..upto)).uid("in").key_by(|n| n % 3).count();
            match complete {
                true => totals.complete().uid("counts").sink(json_lines_sink(&file)),
                false => totals.update().uid("counts").as_inserts().sink(json_lines_sink(&file)),
            }
            let way: Options = options(mode, 1);
            graph.start_in(storage.clone(), way).unwrap().wait().map(drop).map_err(|error| error.to_string())
        };
        count(false, 30).unwrap();
        let before = fs::read_to_string(&file).unwrap();
        let said = count(true, 60).unwrap_err();
        assert!(said.contains("wrote inserts to") && said.contains("counts.jsonl"), "{said}");
        assert!(said.contains("tests/row_kinds.rs:"), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        count(false, 60).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with(&before));
    }
}
