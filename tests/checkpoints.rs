//! A query that is killed, stopped, restarted with other workers or in the other mode says the same as one that was left
//! alone.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{json_lines, json_lines_dir};
use tidemill::{
    EventTime, Graph, Mode, Options, Restart, Run, RunError, Trigger, session, sliding, tumbling,
};

use common::MODES;

#[derive(Clone, Serialize, Deserialize)]
struct Event {
    key: u64,
    time: i64,
}

#[derive(Serialize, Deserialize)]
struct Row {
    of: String,
    key: u64,
    start: i64,
    count: u64,
}

/// Writes events, a few thousand in several files, somewhat out of order.
fn input(dir: &Path, events: u64) {
    std::fs::create_dir_all(dir).unwrap();
    let mut files: Vec<String> = vec![String::new(); 5];
    for n in 0..events {
        let scrambled = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let event = Event { key: scrambled % 37, time: n as i64 * 10 - (scrambled % 200) as i64 };
        let file = (n * 5 / events) as usize;
        files[file] += &serde_json::to_string(&event).unwrap();
        files[file].push('\n');
    }
    for (number, text) in files.iter().enumerate() {
        std::fs::write(dir.join(format!("{number}.jsonl")), text).unwrap();
    }
}

/// Counts by tumbling, sliding and session windows, and of all: rows of one sort.
fn graph(input: &Path, output: &Path) -> Graph {
    let graph = Graph::new("windows");
    let events = graph
        .source(json_lines::<Event>(format!("{}/*.jsonl", input.display())).bounded())
        .with_watermark(|event| EventTime(event.time), Duration::from_micros(500))
        .boxed();
    let micros = Duration::from_micros;
    let tumbled = events.clone().key_by(|event| event.key).window(tumbling(micros(3_000))).count().append();
    let slid =
        events.clone().key_by(|event| event.key).window(sliding(micros(2_000), micros(700))).count().append();
    let sessions = events.clone().key_by(|event| event.key).window(session(micros(900))).count().append();
    let all = events.key_by(|event| event.key % 3).count().complete();
    let windows = tumbled
        .map(|r| Row { of: "tumbling".to_owned(), key: r.key, start: r.window.start.0, count: r.value })
        .boxed()
        .union(
            slid.map(|r| Row {
                of: "sliding".to_owned(),
                key: r.key,
                start: r.window.start.0,
                count: r.value,
            })
            .boxed(),
        )
        .union(
            sessions
                .map(|r| Row {
                    of: "session".to_owned(),
                    key: r.key,
                    start: r.window.start.0,
                    count: r.value,
                })
                .boxed(),
        );
    windows.sink_per_worker({
        let output = output.to_owned();
        move |_| Ok(json_lines_dir(&output).roll_at(20_000))
    });
    // Keeps state until the end of the query; what it says is not of interest here.
    all.sink(tidemill::connectors::discard().0);
    graph
}

/// The rows of all files, in order.
fn rows(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "jsonl")
            && !path.file_name().unwrap().to_str().unwrap().starts_with('.')
        {
            rows.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    rows.sort();
    rows
}

fn options(mode: Mode, workers: usize) -> Options {
    Options::default()
        .with_mode(mode)
        .with_workers(workers)
        .with_max_records_per_epoch(40)
        .with_checkpoint_interval(Duration::from_millis(2))
        .without_ctrl_c()
}

#[test]
fn a_query_that_is_ended_again_and_again_says_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let input_dir = dir.path().join("in");
    input(&input_dir, 4_000);
    let straight = dir.path().join("straight");
    graph(&input_dir, &straight).run(options(Mode::MicroBatch, 1)).unwrap();
    let expected = rows(&straight);
    assert!(expected.len() > 1_000, "{}", expected.len());
    for workers in [[1, 1, 1], [2, 2, 2], [1, 4, 2], [3, 1, 4]] {
        let output = dir.path().join(format!("{workers:?}"));
        let storage = Arc::new(MemoryStorage::new());
        let mut ends = 0;
        for run in 0.. {
            let graph = graph(&input_dir, &output);
            let handle =
                graph.start_in(storage.clone(), options(Mode::MicroBatch, workers[run % 3])).unwrap();
            let from = handle.progress().epoch;
            common::wait_until(&handle, "some epochs", |handle| {
                let far = |epoch| epoch >= from.unwrap_or(0) + 3 + run as u64;
                handle.is_finished() || handle.progress().epoch.is_some_and(far)
            });
            handle.cancel();
            match handle.wait() {
                Ok(_) => break,
                Err(RunError::Cancelled { .. }) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(ends > 2, "{ends}");
        assert_eq!(rows(&output), expected, "{workers:?}");
    }
}

#[test]
fn a_query_that_is_done_has_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (input_dir, output) = (dir.path().join("in"), dir.path().join("out"));
    input(&input_dir, 500);
    let storage = Arc::new(MemoryStorage::new());
    let mut before = Vec::new();
    for mode in MODES.into_iter().chain(MODES) {
        let graph = graph(&input_dir, &output);
        let summary = graph.start_in(storage.clone(), options(mode, 2)).unwrap().wait().unwrap();
        if before.is_empty() {
            assert_eq!(summary.input_rows, 500);
            before = rows(&output);
        }
        assert_eq!(rows(&output), before);
    }
}

#[test]
fn a_failed_function_is_tried_again_from_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let input_dir = dir.path().join("in");
    input(&input_dir, 2_000);
    let straight = dir.path().join("straight");
    graph(&input_dir, &straight).run(options(Mode::MicroBatch, 1)).unwrap();
    let expected: Vec<String> = rows(&straight).into_iter().filter(|row| row.contains("tumbling")).collect();

    let output = dir.path().join("out");
    let seen = Arc::new(AtomicU32::new(0));
    let graph = Graph::new("fails twice");
    let counter = Arc::clone(&seen);
    graph
        .source(json_lines::<Event>(format!("{}/*.jsonl", input_dir.display())).bounded())
        .with_watermark(|event| EventTime(event.time), Duration::from_micros(500))
        .inspect(move |_| {
            let n = counter.fetch_add(1, Ordering::SeqCst);
            assert!(n != 700 && n != 1_500, "not this one");
        })
        .key_by(|event| event.key)
        .window(tumbling(Duration::from_micros(3_000)))
        .count()
        .append()
        .map(|r| Row { of: "tumbling".to_owned(), key: r.key, start: r.window.start.0, count: r.value })
        .sink(json_lines_dir(&output));
    let restart = Restart::Times { times: 2, backoff: Duration::from_millis(1) };
    let options = options(Mode::MicroBatch, 2).with_restart(restart);
    graph.start_in(Arc::new(MemoryStorage::new()), options).unwrap().wait().unwrap();
    assert!(seen.load(Ordering::SeqCst) >= 2_000);
    assert_eq!(rows(&output), expected);
}

#[test]
fn the_mode_may_change_from_run_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let input_dir = dir.path().join("in");
    // Nothing is late, so that both modes say the same.
    std::fs::create_dir_all(&input_dir).unwrap();
    let text: String = (0..30_000i64)
        .map(|n| serde_json::to_string(&Event { key: n as u64 % 7, time: n * 10 }).unwrap() + "\n")
        .collect();
    std::fs::write(input_dir.join("0.jsonl"), text).unwrap();
    let straight = dir.path().join("straight");
    graph(&input_dir, &straight).run(options(Mode::MicroBatch, 1)).unwrap();
    let expected = rows(&straight);
    for workers in [1, 2] {
        let output = dir.path().join(format!("{workers}"));
        let storage = Arc::new(MemoryStorage::new());
        for run in 0.. {
            let graph = graph(&input_dir, &output);
            let mut options = options(MODES[run % 2], workers).with_max_records_per_epoch(1_000);
            options.trigger = Trigger::Asap;
            let handle = graph.start_in(storage.clone(), options).unwrap();
            common::wait_until(&handle, "some rows", |handle| {
                handle.is_finished() || handle.progress().total_input_rows > 2_000
            });
            handle.stop();
            let summary = handle.wait().unwrap();
            if summary.input_rows == 0 {
                break;
            }
            assert!(run < 100);
        }
        assert_eq!(rows(&output), expected, "{workers} workers");
    }
}
