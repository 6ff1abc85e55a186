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
use tidemill::connectors::{
    MemorySource, channel, discard, iterate, json_lines, json_lines_dir, memory_sink,
};
use tidemill::{
    EventTime, Graph, Journal, Mode, Options, Restart, Run, RunError, Trigger, session, sliding, tumbling,
};

use common::{Hold, MODES};

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

/// The most records of an epoch: 40 of each of the five files.
const EPOCH: u64 = 200;

/// Counts by tumbling, sliding and session windows, and of all: rows of one sort.
fn graph(input: &Path, output: &Path) -> Graph {
    graph_with(input, output, Hold::nothing())
}

fn graph_with(input: &Path, output: &Path, hold: Hold) -> Graph {
    let graph = Graph::new("windows");
    let events = graph
        .source(json_lines::<Event>(format!("{}/*.jsonl", input.display())).bounded())
        .inspect(move |_| hold.pass())
        .with_watermark(|event| EventTime::from_micros(event.time), Duration::from_micros(500))
        .boxed();
    let micros = Duration::from_micros;
    let tumbled = events.clone().key_by(|event| event.key).window(tumbling(micros(3_000))).count().append();
    let slid =
        events.clone().key_by(|event| event.key).window(sliding(micros(2_000), micros(700))).count().append();
    let sessions = events.clone().key_by(|event| event.key).window(session(micros(900))).count().append();
    let all = events.key_by(|event| event.key % 3).count().complete();
    let windows = tumbled
        .map(|r| Row {
            of: "tumbling".to_owned(),
            key: r.key,
            start: r.window.start.as_micros(),
            count: r.value,
        })
        .boxed()
        .union(
            slid.map(|r| Row {
                of: "sliding".to_owned(),
                key: r.key,
                start: r.window.start.as_micros(),
                count: r.value,
            })
            .boxed(),
        )
        .union(
            sessions
                .map(|r| Row {
                    of: "session".to_owned(),
                    key: r.key,
                    start: r.window.start.as_micros(),
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
            let epochs = 3 + run as u64;
            // All records of as many epochs, and of those that are in flight behind them.
            let hold = Hold::after((epochs + 5) * EPOCH);
            let graph = graph_with(&input_dir, &output, hold.clone());
            let handle =
                graph.start_in(storage.clone(), options(Mode::MicroBatch, workers[run % 3])).unwrap();
            let from = handle.progress().epoch;
            common::wait_until(&handle, "some epochs", |handle| {
                let far = |epoch| epoch >= from.unwrap_or(0) + epochs;
                handle.is_finished() || handle.progress().epoch.is_some_and(far)
            });
            handle.cancel();
            hold.release();
            match handle.wait() {
                Ok(_) => break,
                Err(RunError::Cancelled { .. }) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(ends > 0, "{ends}");
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
        .with_watermark(|event| EventTime::from_micros(event.time), Duration::from_micros(500))
        .inspect(move |_| {
            let n = counter.fetch_add(1, Ordering::SeqCst);
            assert!(n != 700 && n != 1_500, "not this one");
        })
        .key_by(|event| event.key)
        .window(tumbling(Duration::from_micros(3_000)))
        .count()
        .append()
        .map(|r| Row {
            of: "tumbling".to_owned(),
            key: r.key,
            start: r.window.start.as_micros(),
            count: r.value,
        })
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

#[test]
fn what_is_available_is_read_on_where_the_last_run_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let input_dir = dir.path().join("in");
    input(&input_dir, 2_000);
    let storage = Arc::new(MemoryStorage::new());
    let output = dir.path().join("out");
    let unbounded = || {
        let graph = Graph::new("available");
        graph
            .source(json_lines::<Event>(format!("{}/*.jsonl", input_dir.display())))
            .sink(json_lines_dir(&output));
        graph
    };
    let mut read = 0;
    for run in 0.. {
        let options =
            options(Mode::MicroBatch, 1).with_trigger(Trigger::AvailableNow).with_max_records_per_epoch(10);
        let handle = unbounded().start_in(storage.clone(), options).unwrap();
        if run < 3 {
            common::wait_until(&handle, "some rows", |handle| {
                handle.is_finished() || handle.progress().total_input_rows > 300
            });
            handle.stop();
        }
        read += handle.wait().unwrap().input_rows;
        if run == 3 {
            break;
        }
    }
    assert_eq!(read, 2_000);
    assert_eq!(rows(&output).len(), 2_000);
}

/// A graph over numbers with one stateful operator, or none.
fn numbers(shape: &str) -> Graph {
    let graph = Graph::new("numbers");
    let numbers = graph
        .source(MemorySource::partitioned([(0..100u64).collect::<Vec<_>>()]))
        .uid("numbers")
        .map(|n| n + 1);
    match shape {
        "count" => numbers.key_by(|n| n % 7).count().update().uid("counts").sink(discard().0),
        "sum" => numbers.key_by(|n| n % 7).sum(|n| *n as f64).update().uid("counts").sink(discard().0),
        "more" => {
            let numbers = numbers.filter(|n| n % 2 == 0).boxed();
            numbers.clone().key_by(|n| n % 7).count().update().uid("counts").sink(discard().0);
            numbers.key_by(|n| n % 5).count().update().uid("others").sink(discard().0);
        }
        _ => numbers.sink(discard().0),
    }
    graph
}

#[test]
fn a_changed_graph_goes_on_by_uid_or_says_what_does_not_fit() {
    let storage = Arc::new(MemoryStorage::new());
    let run = |shape: &str, options: Options| {
        numbers(shape).start_in(storage.clone(), options).and_then(tidemill::QueryHandle::wait)
    };
    let plain = || options(Mode::MicroBatch, 2);
    assert_eq!(run("count", plain()).unwrap().input_rows, 100);
    // Stateless steps may change, and an operator that is new starts empty.
    assert_eq!(run("more", plain()).unwrap().input_rows, 0);
    let error = run("count", plain()).unwrap_err().to_string();
    assert!(error.contains("uid `others`") && error.contains("--drop-state others"), "{error}");
    assert!(error.contains("tests/checkpoints.rs:"), "{error}");
    run("count", plain().with_drop_state("others")).unwrap();
    let error = run("sum", plain()).unwrap_err().to_string();
    assert!(error.contains("aggregate count → sum") && error.contains("--drop-state counts"), "{error}");
    let error = run("none", plain()).unwrap_err().to_string();
    assert!(error.contains("--drop-state counts"), "{error}");
    run("none", plain().with_drop_state("counts")).unwrap();
}

#[test]
fn unreplayable_source_and_second_query_are_refused() {
    let storage = Arc::new(MemoryStorage::new());
    let graph = Graph::new("channel");
    let (sender, source) = channel::<u64>(8);
    graph.source(source).sink(discard().0);
    let refused = graph.start_in(storage.clone(), options(Mode::MicroBatch, 1)).map(drop).unwrap_err();
    assert!(refused.to_string().contains(".journaled()"), "{refused}");
    drop(sender);

    let graph = Graph::new("journaled");
    let (sender, source) = channel::<u64>(8);
    graph.source(source.journaled()).sink(discard().0);
    let storage = Arc::new(MemoryStorage::new());
    let first = graph.start_in(storage.clone(), options(Mode::MicroBatch, 1)).unwrap();
    let second = numbers("count").start_in(storage.clone(), options(Mode::MicroBatch, 1)).map(drop);
    let error = second.unwrap_err().to_string();
    assert!(error.contains("journaled") && error.contains("process"), "{error}");
    (0..5).for_each(|n| sender.send(n).unwrap());
    drop(sender);
    assert_eq!(first.wait().unwrap().output_rows, 5);
}

#[test]
fn a_query_begins_with_a_savepoint_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    input(&at("in"), 2_000);
    graph(&at("in"), &at("straight")).run(options(Mode::MicroBatch, 1)).unwrap();
    let hold = Hold::after(6 * EPOCH);
    let handle = graph_with(&at("in"), &at("first"), hold.clone())
        .start(options(Mode::MicroBatch, 2).with_checkpoint(at("checkpoint")))
        .unwrap();
    common::wait_until(&handle, "an epoch", |handle| handle.progress().epoch.is_some());
    let epoch = handle.savepoint(at("savepoint")).unwrap();
    hold.release();
    handle.wait().unwrap();
    assert_eq!(rows(&at("first")), rows(&at("straight")));
    // What the first query had shown by then is not the second one's business: it adds what comes after.
    let options = options(Mode::MicroBatch, 3)
        .with_checkpoint(at("second checkpoint"))
        .with_from_savepoint(at("savepoint"));
    let handle = graph(&at("in"), &at("second")).start(options).unwrap();
    let summary = handle.wait().unwrap();
    assert!(summary.last.epoch.unwrap() > epoch);
    let (all, later) = (rows(&at("straight")), rows(&at("second")));
    assert!(!later.is_empty() && later.iter().all(|row| all.contains(row)), "{}", later.len());
}

#[test]
fn a_state_that_was_given_up_does_not_come_back() {
    let storage = Arc::new(MemoryStorage::new());
    let run = |counted: bool, until: u64, drop_state: &str| {
        let graph = Graph::new("given up");
        let numbers = graph.source(iterate(move || 0..until)).uid("numbers").boxed();
        let (sink, table) = memory_sink();
        if counted {
            numbers.key_by(|_| 0u8).count().update().uid("counts").sink(sink);
        } else {
            numbers.sink(discard().0);
        }
        let mut options = options(Mode::MicroBatch, 1).with_max_records_per_epoch(1_000);
        if !drop_state.is_empty() {
            options = options.with_drop_state(drop_state);
        }
        graph.start_in(storage.clone(), options).unwrap().wait().unwrap();
        table.snapshot().last().map(|(_, count): &(u8, u64)| *count)
    };
    assert_eq!(run(true, 10, ""), Some(10));
    assert_eq!(run(false, 20, "counts"), None);
    assert_eq!(run(true, 25, ""), Some(5));
    assert_eq!(run(true, 27, ""), Some(7));
}

#[test]
fn changed_partitions_and_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    input(&at("in"), 2_000);
    let storage = Arc::new(MemoryStorage::new());
    let start = |partitions: u32, output: &str| {
        let graph = Graph::new("moved");
        let source = json_lines::<Event>(format!("{}/*.jsonl", at("in").display())).partitions(partitions);
        graph.source(source.bounded()).sink(json_lines_dir(at(output)));
        graph.start_in(storage.clone(), options(Mode::MicroBatch, 1))
    };
    let handle = start(4, "out").unwrap();
    common::wait_until(&handle, "an epoch", |handle| handle.progress().epoch.is_some());
    handle.cancel();
    let cancelled = handle.wait().is_err();
    for partitions in [3, 8] {
        let error = start(partitions, "out").map(drop).unwrap_err().to_string();
        assert!(error.contains("had 4 partitions"), "{error}");
    }
    if cancelled && rows(&at("out")).is_empty() {
        let error = start(4, "elsewhere").unwrap().wait().unwrap_err().to_string();
        assert!(
            error.contains("out") && error.contains("let the sink write to the old directory"),
            "{error}"
        );
    }
    start(4, "out").unwrap().wait().unwrap();
    assert_eq!(rows(&at("out")).len(), 2_000);
}

#[test]
fn a_watermark_that_nothing_goes_on_from_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = |wider: bool, drop_state: &str| {
        let graph = Graph::new("watermark");
        let numbers = graph.source(MemorySource::partitioned([vec![1i64, 2, 3]])).uid("numbers").boxed();
        let numbers = if wider {
            numbers.union(graph.source(MemorySource::partitioned([vec![4i64]])).uid("more").boxed())
        } else {
            numbers
        };
        let timed = numbers.with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO).boxed();
        let counts = timed.window(tumbling(Duration::from_micros(10))).count().append().uid("counts");
        counts.sink(memory_sink().0);
        let mut options = Options::default().without_ctrl_c().with_checkpoint(dir.path());
        if !drop_state.is_empty() {
            options = options.with_drop_state(drop_state);
        }
        graph.run(options)
    };
    run(false, "").unwrap();
    let error = run(true, "").unwrap_err().to_string();
    let uid = error.split("--drop-state ").nth(1).unwrap().to_owned();
    assert!(error.contains("holds the watermark of this uid") && error.contains(&uid), "{error}");
    run(true, &uid).unwrap();
}
