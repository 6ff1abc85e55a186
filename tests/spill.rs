//! Queries whose collected rows exceed the memory that they may take.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::{MODES, available_now, run, run_well};
use serde::{Deserialize, Serialize};
use tidemill::codec::{Codec, Postcard};
use tidemill::prelude::*;
use tidemill::{Fault, Summary};

const MIB: u64 = 1 << 20;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Visit {
    number: u64,
    page: String,
}

#[cfg(feature = "abomonation")]
tidemill::abomonate!(Visit { number: u64, page: String });

fn visit(number: u64) -> Visit {
    Visit { number, page: format!("/page/{number:020}/{number:030}") }
}

type Windows = BTreeMap<(u64, i64), Vec<u64>>;

/// `count` visits of `keys` users in ten windows, each user's gathered.
fn gather<C: Codec<Visit>>(codec: C, options: Options, (count, keys): (u64, u64)) -> (Windows, Summary) {
    let graph = Graph::new("gather");
    let (sink, table) = memory_sink();
    let partitions = options.workers as u32;
    graph
        .source(iterate_partitions(partitions, move |partition| {
            (u64::from(partition)..count).step_by(partitions as usize)
        }))
        .with_watermark(move |n| EventTime::from_secs((n * 100 / count) as i64), Duration::ZERO)
        .map(visit)
        .key_by(move |visit| visit.number % keys)
        .window(tumbling(Duration::from_secs(10)))
        .collect_with(codec)
        .append()
        .map(|result| {
            let mut numbers: Vec<u64> = result
                .value
                .iter()
                .map(|row| {
                    assert_eq!(*row, visit(row.number));
                    row.number
                })
                .collect();
            numbers.sort_unstable();
            ((result.key, result.window.start.as_micros()), numbers)
        })
        .sink(sink);
    let summary = run_well(&graph, options);
    let rows = table.snapshot();
    let windows: Windows = rows.iter().cloned().collect();
    assert_eq!(windows.len(), rows.len(), "no window is emitted twice");
    (windows, summary)
}

fn check<C: Codec<Visit> + Copy>(codec: C, (count, keys): (u64, u64)) {
    let directory = tempfile::tempdir().unwrap();
    for mode in MODES {
        for workers in [1, 2] {
            let (expected, whole) = gather(codec, available_now(mode, workers), (count, keys));
            assert_eq!((whole.last.state_memory, whole.last.spilled), (0, 0));
            let limit = 2 * MIB;
            let options = available_now(mode, workers)
                .with_state_memory(limit)
                .with_spill_dir(directory.path())
                // Rows on their way are another matter.
                .with_max_records_per_epoch(20_000);
            let (windows, summary) = gather(codec, options, (count, keys));
            assert!(windows == expected, "{mode}, {workers} workers");
            let (most, spilled) = (summary.last.state_memory, summary.last.spilled);
            assert!(spilled > 4 * MIB, "{mode}, {workers} workers: {spilled} bytes spilled");
            // A batch is taken whole before it is looked at what is held.
            let batch = 2 * MIB * workers as u64;
            assert!(most <= limit + batch, "{mode}, {workers} workers: {most} bytes at most");
        }
    }
    assert_eq!(names(directory.path()), 0);
}

fn names(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_few_large_groups_are_the_same_in_little_memory() {
    check(Postcard, (200_000, 3));
}

#[test]
fn many_small_groups_are_the_same_in_little_memory() {
    check(Postcard, (200_000, 2_000));
}

#[cfg(feature = "abomonation")]
#[test]
fn rows_may_leave_memory_as_they_lie_in_it() {
    check(tidemill::codec::Abomonated, (200_000, 100));
}

#[test]
fn results_are_the_same_in_little_memory() {
    type Results = (Vec<(i64, Vec<u64>)>, Vec<(i64, Vec<u64>)>, BTreeMap<u64, Vec<u64>>);
    let results = |options: Options| -> (Results, u64) {
        let graph = Graph::new("all kinds");
        let ((sessions, s), (slides, l), (running, r)) = (memory_sink(), memory_sink(), memory_sink());
        let seconds = Duration::from_secs;
        let visits = graph
            .source(iterate(|| 0..30_000u64))
            .with_watermark(|n| EventTime::from_secs((n / 1_000 * 7 + n % 3) as i64), Duration::ZERO)
            .boxed();
        let sorted = |mut rows: Vec<u64>| {
            rows.sort_unstable();
            rows
        };
        visits
            .clone()
            .key_by(|n| n % 5)
            .window(session(seconds(3)))
            .collect()
            .append()
            .map(move |w| (w.window.start.as_micros(), sorted(w.value)))
            .sink(sessions);
        visits
            .clone()
            .key_by(|n| n % 5)
            .window(sliding(seconds(20), seconds(10)))
            .collect()
            .append()
            .map(move |w| (w.window.start.as_micros(), sorted(w.value)))
            .sink(slides);
        visits.key_by(|n| n % 5).collect().update().map(move |(k, rows)| (k, sorted(rows))).sink(running);
        let summary = run_well(&graph, options);
        let (mut s, mut l) = (s.snapshot(), l.snapshot());
        s.sort();
        l.sort();
        ((s, l, r.snapshot().into_iter().collect()), summary.last.spilled)
    };
    for workers in [1, 2] {
        let options = || available_now(Mode::MicroBatch, workers).with_max_records_per_epoch(10_000);
        let (expected, none) = results(options());
        let (found, spilled) = results(options().with_state_memory(128 << 10));
        assert_eq!(none, 0);
        assert!(spilled > 0);
        assert!(found == expected, "{workers} workers");
    }
}

#[test]
fn failing_disk_ends_query_with_error_and_place() {
    for mode in MODES {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("spill");
        let gone = place.clone();
        let graph = Graph::new("no room");
        let (sink, table) = memory_sink();
        graph
            .source(iterate(|| 0..200_000u64))
            .map(move |n| {
                if n == 0 {
                    std::fs::remove_dir(&gone).unwrap();
                }
                visit(n)
            })
            .with_watermark(|visit: &Visit| EventTime::from_secs((visit.number / 100) as i64), Duration::ZERO)
            .window(tumbling(Duration::from_secs(1_000)))
            .collect()
            .append()
            .map(|result| result.value.len())
            .sink(sink);
        let options = available_now(mode, 1).with_state_memory(MIB).with_spill_dir(&place);
        let error = run(&graph, options).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("operator `map → with_watermark → key_by → window` at "), "{text}");
        assert!(text.contains("tests/spill.rs:"), "{text}");
        assert!(text.contains(&format!("written to a new file in {}", place.display())), "{text}");
        assert_eq!(error.fault(), Fault::World);
        assert!(table.snapshot().is_empty());
    }
}

#[test]
fn a_checkpoint_holds_what_was_spilled_and_no_trace_of_where() {
    let directory = tempfile::tempdir().unwrap();
    let (input, checkpoint) = (directory.path().join("in"), directory.path().join("checkpoint"));
    std::fs::create_dir(&input).unwrap();
    let gather = |options: Options| -> (Windows, Summary) {
        let graph = Graph::new("gather");
        let (sink, table) = memory_sink();
        graph
            .source(json_lines::<Visit>(format!("{}/*.jsonl", input.display())))
            .with_watermark(|visit: &Visit| EventTime::from_micros(visit.number as i64), Duration::ZERO)
            .key_by(|visit| visit.number % 4)
            .window(tumbling(Duration::from_micros(100_000)))
            .collect()
            .append()
            .map(|result| {
                let mut numbers: Vec<u64> = result.value.iter().map(|visit| visit.number).collect();
                numbers.sort_unstable();
                ((result.key, result.window.start.as_micros()), numbers)
            })
            .sink(sink);
        let summary = run_well(&graph, options.with_trigger(Trigger::AvailableNow));
        (table.snapshot().into_iter().collect(), summary)
    };
    let write = |number: u64| {
        let lines: Vec<String> = (number * 15_000..(number + 1) * 15_000)
            .map(|n| serde_json::to_string(&visit(if n == 44_999 { 1_000_000 } else { n })).unwrap())
            .collect();
        std::fs::write(input.join(format!("{number}.jsonl")), lines.join("\n") + "\n").unwrap();
    };
    // Nothing closes before the last record of the third run, which has other workers and another limit.
    for (run, workers, limit) in [(0, 1, 1 << 18), (1, 2, 1 << 18), (2, 1, 1 << 19)] {
        write(run);
        let options =
            common::options(Mode::MicroBatch, workers).with_checkpoint(&checkpoint).with_state_memory(limit);
        let (windows, summary) = gather(options);
        assert!(summary.last.spilled > 0, "run {run}");
        assert_eq!(names(&checkpoint.join("spill")), 0);
        if run < 2 {
            assert!(windows.is_empty(), "run {run}");
            continue;
        }
        let numbers = |key| (0..44_999).filter(|n| n % 4 == key).collect();
        assert!(windows == (0..4).map(|key| ((key, 0), numbers(key))).collect());
    }
}
