//! Aggregates that estimate: whole graphs give what a single accumulator of all records gives, in both modes, on any number of workers,
//! across restarts. The unit tests of each aggregate hold that against exact answers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill::aggregate::{
    Count, CountMin, FrequentKey, HyperLogLog, Quantiles, Sample, TopKeys, ValueCounts,
};
use tidemill::connectors::{MemorySource, Text};
use tidemill::prelude::*;
use tidemill::{Data, cumulative};

use common::{MODES, available_now, run_well, ways};

/// The key, the event time in microseconds, and a value.
type Row = (u8, i64, u64);

const SIZE: i64 = 2_000;
const SLIDE: i64 = 500;
const DELAY: Duration = Duration::from_micros(100);

/// Rows out of order by up to 90; most of one key. Of their values many occur once, and a few often.
fn rows() -> Vec<Row> {
    let row = |n: u64| {
        let time = n as i64 * 5 - 3_000 + (n as i64 * 37) % 90;
        let key = if n.is_multiple_of(3) { (n * n % 7) as u8 } else { 5 };
        let value = if n.is_multiple_of(4) { n % 9 } else { 100 + n * 7_919 % 3_001 };
        (key, time, value)
    };
    (0..2_400).map(row).collect()
}

fn source() -> MemorySource<Row> {
    MemorySource::partitioned((0..3).map(|n| rows().into_iter().skip(n).step_by(3).collect()))
}

fn at(row: &Row) -> EventTime {
    EventTime::from_micros(row.1)
}

/// The result of an aggregate over rows, one after the other in a single accumulator.
fn alone<A: Aggregate<In = Row>>(aggregate: &A, rows: &[Row]) -> A::Out {
    let mut acc = aggregate.create(&rows[0]);
    rows[1..].iter().for_each(|row| aggregate.add(&mut acc, row));
    aggregate.finish(&acc)
}

/// The rows by key, and by key and start of each window of that slide.
fn groups(slide: i64) -> (BTreeMap<u8, Vec<Row>>, BTreeMap<(u8, i64), Vec<Row>>) {
    let (mut by_key, mut by_window) = (BTreeMap::<_, Vec<Row>>::new(), BTreeMap::<_, Vec<Row>>::new());
    for row in rows() {
        by_key.entry(row.0).or_default().push(row);
        let last = row.1.div_euclid(slide) * slide;
        for start in (0..SIZE / slide).map(|n| last - n * slide) {
            by_window.entry((row.0, start)).or_default().push(row);
        }
    }
    (by_key, by_window)
}

/// Runs a graph with an aggregate of each kind in all ways: `show` makes a result comparable.
fn check<A: Aggregate<In = Row>, R: Data + Clone + PartialEq + std::fmt::Debug>(
    aggregate: &A,
    show: fn(A::Out) -> R,
) {
    let result = |rows: &Vec<Row>| show(alone(aggregate, rows));
    let ((by_key, tumbled), (_, slid)) = (groups(SIZE), groups(SLIDE));
    let by_key: BTreeMap<u8, R> = by_key.iter().map(|(key, rows)| (*key, result(rows))).collect();
    let windows = |groups: &BTreeMap<(u8, i64), Vec<Row>>| -> BTreeMap<(u8, i64), R> {
        groups.iter().map(|(group, rows)| (*group, result(rows))).collect()
    };
    let (tumbled, slid) = (windows(&tumbled), windows(&slid));
    let (size, slide) = (Duration::from_micros(SIZE as u64), Duration::from_micros(SLIDE as u64));
    for options in ways(&[0, usize::MAX], 300) {
        let graph = Graph::new("sketches");
        let (key_sink, keys) = memory_sink();
        let (all_sink, all) = memory_sink();
        let rows_of = graph.source(source()).with_watermark(at, DELAY).boxed();
        let keyed = || rows_of.clone().key_by(|row: &Row| row.0);
        keyed().aggregate(aggregate.clone()).update().map(move |(key, out)| (key, show(out))).sink(key_sink);
        rows_of.clone().aggregate(aggregate.clone()).update().map(show).sink(all_sink);
        let (tumbled_sink, of_tumbled) = memory_sink();
        let (slid_sink, of_slid) = memory_sink();
        let (fired_sink, of_fired) = memory_sink();
        let group =
            move |it: WindowResult<u8, A::Out>| ((it.key, it.window.start.as_micros()), show(it.value));
        let windows = keyed().window(tumbling(size));
        windows.aggregate(aggregate.clone()).append().map(group).sink(tumbled_sink);
        keyed().window(sliding(size, slide)).aggregate(aggregate.clone()).append().map(group).sink(slid_sink);
        // Windows that are not aggregated before the exchange.
        let windows = keyed().window_by(cumulative(size, size));
        windows.aggregate(aggregate.clone()).append().map(group).sink(fired_sink);
        let what = format!("{}: {options:?}", aggregate.describe());
        run_well(&graph, options);
        // The last row of a key counts.
        assert_eq!(keys.snapshot().into_iter().collect::<BTreeMap<_, _>>(), by_key, "{what}");
        assert_eq!(all.snapshot().last(), Some(&result(&rows())), "{what}");
        for (found, expected) in [(of_tumbled, &tumbled), (of_slid, &slid), (of_fired, &tumbled)] {
            let found = found.snapshot();
            assert_eq!(found.len(), expected.len(), "{what}");
            assert_eq!(&found.into_iter().collect::<BTreeMap<_, _>>(), expected, "{what}");
        }
    }
}

#[test]
fn samples_are_the_same_in_all_ways() {
    check(&Sample::of(20, |row: &Row| row.2), |sample| sample);
    check(&Sample::of(5, |row: &Row| row.2.to_string()), |sample| sample);
}

#[test]
fn distinct_counts_are_the_same_in_all_ways() {
    check(&HyperLogLog::of(14, |row: &Row| row.2), |count| count);
    // So few registers that windows have them, too.
    check(&HyperLogLog::of(7, |row: &Row| row.2), |count| count);
}

const QUANTILES: [f64; 4] = [0.0, 0.5, 0.9, 1.0];

#[test]
fn quantiles_are_the_same_in_all_ways() {
    check(&Quantiles::of(0.01, QUANTILES, |row: &Row| row.2), |quantiles| quantiles);
    // Also below zero, and in a tuple.
    let numbers = Quantiles::of(0.001, QUANTILES, |row: &Row| row.1 as f64 / 64.0);
    check(&(Count::new(), numbers), |(count, quantiles)| (count, quantiles));
}

fn counts(counts: ValueCounts) -> Vec<u64> {
    (0..200u64).map(|value| counts.of(&value)).chain([counts.total()]).collect()
}

#[test]
fn value_counts_are_the_same_in_all_ways() {
    check(&CountMin::of(0.01, |row: &Row| row.2), counts);
    check(&CountMin::of(0.01, |row: &Row| row.2 % 50), counts);
}

fn numbers(top: Vec<FrequentKey<u64>>) -> Vec<(u64, u64, u64)> {
    top.into_iter().map(|it| (it.key, it.at_least, it.at_most)).collect()
}

#[test]
fn top_keys_of_few_values_are_the_same_in_all_ways() {
    check(&TopKeys::of(3, |row: &Row| row.2 % 50), numbers);
}

#[test]
fn top_keys_of_many_values_are_within_bound_in_all_ways() {
    let mut exact = BTreeMap::<u64, u64>::new();
    rows().iter().for_each(|row| *exact.entry(row.2).or_default() += 1);
    for options in ways(&[usize::MAX], 300) {
        let graph = Graph::new("top keys");
        let (sink, table) = memory_sink();
        let top = TopKeys::of(9, |row: &Row| row.2).with_counters(100);
        graph.source(source()).aggregate(top).update().map(numbers).sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        let found = table.snapshot().pop().unwrap();
        // Nine values have 2.8 % of the rows each, and the bound is 1 %.
        let mut keys: Vec<u64> = found.iter().map(|it| it.0).collect();
        keys.sort();
        assert_eq!(keys, (0..9).collect::<Vec<u64>>(), "{what}");
        for (key, at_least, at_most) in found {
            assert!(at_least <= exact[&key] && exact[&key] <= at_most, "{key}: {what}");
            assert!(at_most - at_least <= 2_400 / 101, "{key}: {what}");
        }
    }
}

/// Runs on one checkpoint after the other, each with another number of workers, and in the other mode at the end.
fn restarted<A: Aggregate<In = Text>>(mode: Mode, aggregate: A) -> A::Out {
    let place = tempfile::tempdir().unwrap();
    let (input, checkpoint) = (place.path().join("in"), place.path().join("checkpoint"));
    std::fs::create_dir_all(&input).unwrap();
    let other = MODES.into_iter().find(|other| *other != mode).unwrap();
    let mut last = None;
    for (run, (mode, workers)) in [(mode, 1), (mode, 2), (mode, 4), (other, 1)].into_iter().enumerate() {
        for file in 0..3 {
            let numbers = rows().into_iter().skip(run * 600 + file * 200).take(200);
            let lines: String = numbers.map(|row| format!("{}\n", row.2)).collect();
            std::fs::write(input.join(format!("{run}-{file}")), lines).unwrap();
        }
        let graph = Graph::new("restarted");
        let (sink, table) = memory_sink();
        let lines = graph.source(text_files(input.display().to_string()));
        lines.key_by(|_| 0u8).aggregate(aggregate.clone()).update().sink(sink);
        run_well(&graph, available_now(mode, workers).with_checkpoint(&checkpoint));
        last = table.snapshot().pop();
    }
    last.unwrap().1
}

fn number(line: &Text) -> u64 {
    line.parse().unwrap()
}

#[test]
fn distinct_counts_survive_restarts_on_other_workers() {
    for (mode, precision) in MODES.into_iter().flat_map(|mode| [(mode, 7), (mode, 15)]) {
        let expected = alone(&HyperLogLog::of(precision, |row: &Row| row.2), &rows());
        assert_eq!(restarted(mode, HyperLogLog::of(precision, number)), expected, "{mode} {precision}");
    }
}

#[test]
fn other_sketches_survive_restarts_on_other_workers() {
    for mode in MODES {
        let expected = alone(&Quantiles::of(0.01, QUANTILES, |row: &Row| row.2), &rows());
        assert_eq!(restarted(mode, Quantiles::of(0.01, QUANTILES, number)), expected, "{mode}");
        let expected = alone(&CountMin::of(0.01, |row: &Row| row.2), &rows());
        assert_eq!(counts(restarted(mode, CountMin::of(0.01, number))), counts(expected), "{mode}");
        let expected = alone(&TopKeys::of(5, |row: &Row| row.2 % 70), &rows());
        assert_eq!(restarted(mode, TopKeys::of(5, |line| number(line) % 70)), expected, "{mode}");
        // Keys that share the memory of their rows.
        let top = restarted(mode, TopKeys::of(9, |line: &Text| line.clone()).with_counters(100));
        let keys: BTreeSet<u64> = top.iter().map(|it| number(&it.key)).collect();
        assert_eq!(keys, (0..9).collect(), "{mode}");
    }
}

#[test]
fn impossible_settings_are_refused_with_line() {
    let graph = Graph::new("impossible");
    let rows_of = graph.source(source()).with_watermark(at, DELAY).boxed();
    let keyed = || rows_of.clone().key_by(|row: &Row| row.0);
    let size = Duration::from_secs(1);
    let distinct = || HyperLogLog::of(40, |row: &Row| row.2);
    keyed().aggregate(distinct()).update().sink(discard().0);
    keyed().aggregate((Count::new(), distinct())).update().sink(discard().0);
    rows_of.clone().hyper_log_log(40, |row| row.2).update().sink(discard().0);
    keyed().window(tumbling(size)).hyper_log_log(40, |row| row.2).append().sink(discard().0);
    keyed().window_by(tumbling(size)).aggregate(distinct()).append().sink(discard().0);
    keyed().count_window(5).aggregate(distinct()).append().sink(discard().0);
    keyed().quantiles(0.0, [0.5], |row| row.2).update().sink(discard().0);
    keyed().quantiles(0.01, [99.0], |row| row.2).update().sink(discard().0);
    keyed().count_min(2.0, |row| row.2).update().map(|(_, counts)| counts.total()).sink(discard().0);
    keyed().top_keys(0, |row| row.2).update().sink(discard().0);
    let problems = graph.validate().unwrap_err().problems;
    let distinct = ["must be from 4 to 18 (got 40)"; 6].into_iter();
    let others =
        ["from 0.0001 to 0.5 (got 0)", "from 0 to 1 (got 99)", "to 0.5 (got 2)", "at least 1 (got 0)"];
    assert_eq!(problems.len(), 10, "{problems:?}");
    for (problem, says) in problems.iter().zip(distinct.chain(others)) {
        assert!(problem.location.contains("sketches.rs:"), "{problem}");
        assert!(problem.message.contains(says), "{problem}");
    }
}
