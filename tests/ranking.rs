//! Rankings against plain loops: by key and window, of whole streams, with limits; in both modes, on any number of workers, across
//! restarts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::connectors::MemorySource;
use tidemill::operator::Place;
use tidemill::prelude::*;
use tidemill::testing::{EpochInput, operator_of, restart_each_epoch, three_phases};

use common::{MODES, assert_same, run_well, sorted, ways};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    key: u8,
    time: i64,
    points: u32,
}

const SIZE: i64 = 500;
const DELAY: Duration = Duration::from_micros(100);

/// Rows out of order by up to 90, from before the epoch of event time on; many of one key, and many with the same points.
fn rows() -> Vec<Row> {
    let row = |n: u32| {
        let time = i64::from(n) * 10 - 3_000 + (i64::from(n) * 37) % 90;
        let key = if n.is_multiple_of(3) { 5 } else { (n * n % 7) as u8 };
        Row { key, time, points: n * 31 % 11 }
    };
    (0..600).map(row).collect()
}

fn source() -> MemorySource<Row> {
    MemorySource::partitioned((0..3).map(|n| rows().into_iter().skip(n).step_by(3).collect()))
}

fn at(row: &Row) -> EventTime {
    EventTime::from_micros(row.time)
}

/// The rows of each key and window.
fn groups() -> BTreeMap<(u8, i64), Vec<Row>> {
    let mut groups = BTreeMap::<_, Vec<Row>>::new();
    rows()
        .into_iter()
        .for_each(|row| groups.entry((row.key, row.time.div_euclid(SIZE) * SIZE)).or_default().push(row));
    groups
}

/// What a ranking makes of each key and window.
fn ranked<T>(rank: impl Fn(Vec<Row>) -> T) -> Vec<(u8, i64, T)> {
    groups().into_iter().map(|((key, start), rows)| (key, start, rank(rows))).collect()
}

fn first(mut rows: Vec<Row>, count: usize, order: impl Fn(&Row) -> (i64, Row)) -> Vec<Row> {
    rows.sort_by_key(order);
    rows.truncate(count);
    rows
}

fn top(rows: Vec<Row>) -> Vec<Row> {
    first(rows, 3, |row| (-i64::from(row.points), *row))
}

fn bottom(rows: Vec<Row>) -> Vec<Row> {
    first(rows, 2, |row| (i64::from(row.points), *row))
}

/// Runs a ranking of key and window in all ways, and compares it.
macro_rules! check_windows {
    (|$windows:ident| $ranking:expr, $expected:expr) => {
        let expected = ranked($expected);
        for options in ways(&[0, usize::MAX], 70) {
            let graph = Graph::new("ranking");
            let (sink, table) = memory_sink();
            let timed = graph.source(source()).with_watermark(at, DELAY);
            let $windows = timed.key_by(|row| row.key).window(tumbling(Duration::from_micros(SIZE as u64)));
            let rows = $ranking.append();
            rows.map(|row| (row.key, row.window.start.as_micros(), row.value)).sink(sink);
            let what = format!("{options:?}");
            let summary = run_well(&graph, options);
            assert_same(&table.snapshot(), &expected, &what);
            assert_eq!(summary.late_rows, 0, "{what}");
        }
    };
}

#[test]
fn top_and_bottom_of_windows_are_the_same_in_all_ways() {
    check_windows!(|windows| windows.top_n(3, |row| row.points), top);
    check_windows!(|windows| windows.bottom_n(2, |row| row.points), bottom);
    let last = |rows: Vec<Row>| first(rows, 1, |row| (-row.time, *row));
    check_windows!(|windows| windows.top_n_by(1, |a, b| (a.time, b.points).cmp(&(b.time, a.points))), last);
}

#[test]
fn all_rows_of_windows_are_ranked_and_sorted_in_all_ways() {
    let numbered = |rows: Vec<Row>| -> Vec<(u64, Row)> {
        let before = |row: &Row| rows.iter().filter(|other| other.points > row.points).count() as u64;
        sorted(rows.iter().map(|row| (1 + before(row), *row)).collect())
    };
    check_windows!(|windows| windows.rank(|row| row.points), numbered);
    let by_time = |rows: Vec<Row>| first(rows, usize::MAX, |row| (row.time, *row));
    check_windows!(|windows| windows.sort_within_window(|row| row.time), by_time);
    check_windows!(
        |windows| windows.sort_within_window_by(|a, b| (a.time, a.points).cmp(&(b.time, b.points))),
        by_time
    );
}

#[test]
fn running_top_of_keys_and_stream_ends_the_same_in_all_ways() {
    let mut by_key = BTreeMap::<u8, Vec<Row>>::new();
    rows().into_iter().for_each(|row| by_key.entry(row.key).or_default().push(row));
    let expected: BTreeMap<u8, Vec<Row>> = by_key.into_iter().map(|(key, rows)| (key, top(rows))).collect();
    for options in ways(&[0, usize::MAX], 70) {
        let graph = Graph::new("running");
        let ((key_sink, keys), (all_sink, all)) = (memory_sink(), memory_sink());
        let rows_of = graph.source(source()).boxed();
        rows_of.clone().key_by(|row| row.key).top_n(3, |row| row.points).update().sink(key_sink);
        rows_of.top_n(3, |row| row.points).update().sink(all_sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        // The last row of a key counts.
        assert_eq!(keys.snapshot().into_iter().collect::<BTreeMap<_, _>>(), expected, "{what}");
        assert_eq!(all.snapshot().last(), Some(&top(rows())), "{what}");
    }
}

#[test]
fn windows_over_results_rank_keys() {
    // The two keys with the most rows of each window.
    let mut counts = BTreeMap::<i64, Vec<(Reverse<u64>, u8)>>::new();
    for ((key, start), rows) in groups() {
        counts.entry(start).or_default().push((Reverse(rows.len() as u64), key));
    }
    let expected: Vec<(i64, Vec<u8>)> = counts
        .into_iter()
        .map(|(start, counts)| (start, sorted(counts).into_iter().take(2).map(|(_, key)| key).collect()))
        .collect();
    for options in ways(&[usize::MAX], 70) {
        let graph = Graph::new("keys");
        let (sink, table) = memory_sink();
        let size = Duration::from_micros(SIZE as u64);
        let counts = graph
            .source(source())
            .with_watermark(at, DELAY)
            .key_by(|row| row.key)
            .window(tumbling(size))
            .count();
        let top = counts.append().window(tumbling(size)).top_n(2, |count| count.value).append();
        let keys = |rows: Vec<WindowResult<u8, u64>>| rows.into_iter().map(|row| row.key).collect::<Vec<_>>();
        top.map(move |row| (row.window.start.as_micros(), keys(row.value))).sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&table.snapshot(), &expected, what);
    }
}

#[test]
fn limit_is_exact_in_all_ways() {
    let all: BTreeSet<Row> = rows().into_iter().collect();
    for options in ways(&[0, usize::MAX], 70) {
        for limit in [0, 1, 100, 599, 600, 601, u64::MAX] {
            let graph = Graph::new("limit");
            let (sink, table) = memory_sink();
            graph.source(source()).with_watermark(at, DELAY).limit(limit).sink(sink);
            let what = format!("{limit}: {options:?}");
            let is_one_worker = options.workers == 1;
            run_well(&graph, options.clone());
            let passed = table.snapshot();
            assert_eq!(passed.len() as u64, limit.min(600), "{what}");
            let distinct: BTreeSet<Row> = passed.iter().copied().collect();
            assert!(distinct.len() == passed.len() && distinct.is_subset(&all), "{what}");
            // Each partition gives its first rows.
            if is_one_worker && limit == 100 {
                let parts: Vec<Vec<Row>> =
                    (0..3).map(|n| rows().into_iter().skip(n).step_by(3).collect()).collect();
                for part in parts {
                    let of_part = part.iter().filter(|row| distinct.contains(row)).count();
                    assert!(part.iter().take(of_part).all(|row| distinct.contains(row)), "{what}");
                }
            }
        }
    }
}

/// The operator that counts, by epoch: a restart continues with the number that has passed.
#[test]
fn limit_counts_rows_from_before_restarts() {
    let numbers = Graph::new("limit").source(memory(Vec::<u32>::new()));
    let limit = operator_of(numbers.limit(7));
    let input = |numbers: std::ops::Range<u32>| {
        EpochInput::until(EventTime::MIN).single(0, numbers.collect::<Vec<u32>>())
    };
    let epochs = [input(0..3), input(3..3), input(3..6), input(6..10), input(10..12)];
    let expected = [vec![0, 1, 2], vec![], vec![3, 4, 5], vec![6], vec![]];
    for mode in MODES {
        three_phases(mode, &epochs, limit.clone(), |it| it.take::<u32>(0), &expected);
        restart_each_epoch(mode, &epochs, limit.clone(), |it| it.take::<u32>(0), &expected);
        let harness = tidemill::testing::Harness::new(mode, {
            let limit = limit.clone();
            move || limit(Place::new(0, 1, Mode::MicroBatch))
        });
        assert_eq!(harness.state_rows(), 0);
    }
}

/// A restart from a checkpoint, with another number of workers and another limit.
#[test]
fn limit_may_be_raised_by_a_restart() {
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let (input, checkpoint) = (place.path().join("in"), place.path().join("checkpoint"));
        std::fs::create_dir_all(&input).unwrap();
        let run = |file: &str, limit, workers| {
            let lines: String = (0..50).map(|n| format!("{file}{n}\n")).collect();
            std::fs::write(input.join(file), lines).unwrap();
            let graph = Graph::new("limit");
            let (sink, table) = memory_sink();
            graph.source(text_files(input.display().to_string())).limit(limit).sink(sink);
            let options = common::available_now(mode, workers).with_checkpoint(&checkpoint);
            run_well(&graph, options);
            table.snapshot().len()
        };
        assert_eq!(
            [run("a", 60, 1), run("b", 60, 2), run("c", 60, 1), run("d", 75, 4)],
            [50, 10, 0, 15],
            "{mode}"
        );
    }
}
