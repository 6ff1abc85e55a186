//! Whole queries: one result in both modes and on any number of workers.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::prelude::*;
use tidemill::{Early, FiringKind, WindowFiring, cumulative};

use super::common::{assert_same, run_well, ways};
use super::input::{Kind, Row, Uneven, at, gap, micros};

/// Rows out of order by up to 90, many of one key, from before the epoch of event time on; some are alike.
fn rows() -> Vec<Row> {
    let row = |n: u32| {
        let n64 = i64::from(n);
        let key = if n.is_multiple_of(3) { 5 } else { (n * n % 23) as u8 };
        Row { key, time: n64 / 2 * 20 - 3_000 + (n64 * 37) % 90, number: n }
    };
    (0..600).map(row).collect()
}

/// By key, start and end, the numbers of the rows.
type Table = BTreeMap<(u8, i64, i64), Vec<u32>>;

/// The windows of all rows, by plain loops.
fn table(kind: Kind) -> Vec<((u8, i64, i64), Vec<u32>)> {
    let mut table = Table::new();
    for row in rows() {
        for (mut start, mut end) in kind.windows(&row, row.time) {
            let mut numbers = vec![row.number];
            if kind.merges() {
                let meets = |it: &(u8, i64, i64)| it.0 == row.key && it.1 <= end && it.2 >= start;
                let met: Vec<_> = table.keys().copied().filter(meets).collect();
                for one in met {
                    numbers.extend(table.remove(&one).unwrap());
                    (start, end) = (start.min(one.1), end.max(one.2));
                }
            }
            table.entry((row.key, start, end)).or_default().extend(numbers);
        }
    }
    table.values_mut().for_each(|numbers| numbers.sort());
    table.into_iter().collect()
}

/// Applies firings, as a table of upserts does, and checks their order.
fn applied(firings: Vec<WindowFiring<u8, Vec<Row>>>, what: &str) -> Table {
    let mut table = Table::new();
    let mut last = BTreeMap::new();
    for WindowFiring { window, key, value, kind, revision } in firings {
        let place = (key, window.start.as_micros(), window.end.as_micros());
        let before = last.insert(place, (revision, kind));
        let follows = |(former, was): (u64, FiringKind)| {
            former < revision && was <= kind && (was != kind || kind != FiringKind::OnTime)
        };
        assert!(
            value.is_none() || before.is_none_or(follows),
            "{what}: {place:?} {kind} {revision} after {before:?}"
        );
        match value {
            Some(rows) => {
                let mut numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
                numbers.sort();
                table.insert(place, numbers);
            }
            None => assert!(table.remove(&place).is_some(), "{what}: {place:?} was not there"),
        }
    }
    table
}

/// Runs windows whose lateness is as long as rows are out of order.
fn try_windows(kind: Kind, assigner: impl tidemill::WindowAssigner<Row> + Clone) {
    let expected = table(kind);
    for options in ways(&[0, usize::MAX], 40) {
        let graph = Graph::new("firings");
        let (sink, firings) = memory_sink();
        let (late_sink, late) = memory_sink();
        let (fired, too_late) = graph
            .source(memory(rows()))
            .with_watermark(at, Duration::ZERO)
            .key_by(|row| row.key)
            .window_by(assigner.clone())
            .allowed_lateness(micros(90))
            .early(Early::every_records(2).or_every(Duration::from_millis(1)))
            .collect()
            .firings_with_late();
        fired.sink(sink);
        too_late.sink(late_sink);
        let what = format!("{kind:?} {options:?}");
        let summary = run_well(&graph, options);
        let found: Vec<_> = applied(firings.snapshot(), &what).into_iter().collect();
        assert_same(&found, &expected, &what);
        // The rows without a window.
        let is_in_none = |row: &Row| kind.windows(row, row.time).is_empty();
        let in_none: Vec<Row> = rows().into_iter().filter(is_in_none).collect();
        assert_same(&late.snapshot(), &in_none, &what);
        assert_eq!(summary.late_rows, in_none.len() as u64, "{what}");
    }
}

#[test]
fn tumbling_and_sliding_windows_end_as_tables_of_all_rows() {
    try_windows(Kind::Tumbling(50), tumbling(micros(50)));
    try_windows(Kind::Sliding(120, 50), sliding(micros(120), micros(50)));
}

#[test]
fn sessions_end_as_tables_of_all_rows() {
    try_windows(Kind::Session(40), session(micros(40)));
    try_windows(Kind::SessionBy, session_by(|row: &Row| micros(gap(row))));
}

#[test]
fn cumulative_and_own_windows_end_as_tables_of_all_rows() {
    try_windows(Kind::Cumulative(90, 30), cumulative(micros(90), micros(30)));
    try_windows(Kind::Own, Uneven);
}

#[test]
fn windows_without_policy_emit_once() {
    let expected = table(Kind::Own);
    for options in ways(&[usize::MAX], 40) {
        let graph = Graph::new("own windows");
        let (sink, results) = memory_sink();
        graph
            .source(memory(rows()))
            .with_watermark(at, micros(90))
            .key_by(|row| row.key)
            .window_by(Uneven)
            .collect()
            .append()
            .sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        let results = results.snapshot().into_iter().map(|it| {
            let mut numbers: Vec<u32> = it.value.iter().map(|row| row.number).collect();
            numbers.sort();
            ((it.key, it.window.start.as_micros(), it.window.end.as_micros()), numbers)
        });
        assert_same(&results.collect::<Vec<_>>(), &expected, what);
    }
}

#[test]
fn firings_are_not_late_in_windows_behind_them() {
    // Each window counts the rows of its last firing only once: on time, and what late firings have added.
    for options in ways(&[usize::MAX], 40) {
        let graph = Graph::new("windows of firings");
        let (sink, wide) = memory_sink();
        let firings = graph
            .source(memory(rows()))
            .with_watermark(at, Duration::ZERO)
            .key_by(|row| row.key)
            .window(tumbling(micros(50)))
            .allowed_lateness(micros(90))
            .count()
            .firings();
        let newest = firings.as_inserts().boxed();
        newest
            .key_by(|_| ())
            .window(tumbling(micros(500)))
            .collect()
            .append()
            .flat_map(|wide| {
                let mut newest = BTreeMap::new();
                for firing in wide.value {
                    assert_eq!(
                        firing.window.start.as_micros().div_euclid(500) * 500,
                        wide.window.start.as_micros()
                    );
                    let value = newest.entry((firing.key, firing.window)).or_insert((0, 0));
                    *value = (*value).max((firing.revision, firing.value.unwrap()));
                }
                newest.into_iter().map(|((key, window), (_, count))| (key, window.start.as_micros(), count))
            })
            .sink(sink);
        let what = format!("{options:?}");
        let summary = run_well(&graph, options);
        assert_eq!(summary.late_rows, 0, "{what}");
        let expected = table(Kind::Tumbling(50)).into_iter();
        let expected: Vec<_> =
            expected.map(|((key, start, _), rows)| (key, start, rows.len() as u64)).collect();
        assert_same(&wide.snapshot(), &expected, what);
    }
}

#[test]
fn windows_over_windows_over_windows_lose_no_row() {
    // Counts by key in windows of 50, their sums over all keys in sliding windows of 200 by 100, the greatest of these by 1,000.
    let sum_of =
        |from: i64, to: i64| rows().iter().filter(|row| from <= row.time && row.time < to).count() as u64;
    let starts = (-4_000..10_000i64).filter(|start| start % 100 == 0);
    let mut expected = BTreeMap::<i64, u64>::new();
    for (start, sum) in starts.map(|start| (start, sum_of(start, start + 200))).filter(|(_, sum)| *sum > 0) {
        let greatest = expected.entry((start + 199).div_euclid(1_000) * 1_000).or_default();
        *greatest = (*greatest).max(sum);
    }
    let expected: Vec<_> = expected.into_iter().collect();
    for options in ways(&[usize::MAX], 40) {
        let graph = Graph::new("chained");
        let (sink, found) = memory_sink();
        let (late_sink, late) = memory_sink();
        let counts = graph
            .source(memory(rows()))
            .with_watermark(at, micros(90))
            .key_by(|row| row.key)
            // Its outputs have a watermark of their own, unlike those of the others.
            .window_by(tumbling(micros(50)))
            .count()
            .append();
        let (sums, late_counts) =
            counts.window(sliding(micros(200), micros(100))).sum(|count| count.value).append_with_late();
        sums.window_by(tumbling(micros(1_000)))
            .max(|sum| sum.value)
            .append()
            .map(|row| (row.window.start.as_micros(), row.value))
            .sink(sink);
        late_counts.sink(late_sink);
        let what = format!("{options:?}");
        let summary = run_well(&graph, options);
        assert_eq!((summary.late_rows, late.snapshot().len()), (0, 0), "{what}");
        assert_same(&found.snapshot(), &expected, what);
    }
}

#[test]
fn windows_of_the_clock_have_each_row_once() {
    for options in ways(&[0, usize::MAX], 40) {
        for has_time in [false, true] {
            let graph = Graph::new("clock");
            let (sink, results) = memory_sink();
            let source = graph.source(memory(rows()));
            let size = tumbling(Duration::from_millis(1));
            if has_time {
                let timed = source.with_watermark(at, Duration::ZERO);
                timed.key_by(|row| row.key).processing_time_window(size).collect().append().sink(sink);
            } else {
                source.key_by(|row| row.key).processing_time_window(size).collect().append().sink(sink);
            }
            let what = format!("{options:?}");
            let summary = run_well(&graph, options.clone());
            assert_eq!(summary.late_rows, 0, "{what}");
            let results = results.snapshot();
            for result in &results {
                assert_eq!(result.window.end.since(result.window.start), Duration::from_millis(1));
                assert!(result.value.iter().all(|row| row.key == result.key));
                assert!(result.value.is_sorted_by_key(|row| row.number), "{what}");
            }
            let all: Vec<Row> = results.into_iter().flat_map(|result| result.value).collect();
            assert_same(&all, &rows(), what);
        }
    }
}

#[test]
fn count_windows_are_the_same_in_all_ways() {
    let mut of_key = BTreeMap::<u8, Vec<u32>>::new();
    let mut expected = vec![];
    for row in rows() {
        let numbers = of_key.entry(row.key).or_default();
        numbers.push(row.number);
        if numbers.len().is_multiple_of(4) {
            expected.push((row.key, numbers[numbers.len().saturating_sub(10)..].to_vec()));
        }
    }
    for options in ways(&[0, usize::MAX], 40) {
        let graph = Graph::new("count windows");
        let (sink, results) = memory_sink();
        let keyed = graph.source(memory(rows())).key_by(|row| row.key);
        let numbers = keyed.count_window(10).every(4).collect().append();
        numbers.map(|it| (it.key, it.value.iter().map(|row| row.number).collect::<Vec<_>>())).sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        assert_same(&results.snapshot(), &expected, what);
    }
}

#[test]
fn input_without_rows_has_no_windows() {
    for options in ways(&[usize::MAX], 40) {
        let graph = Graph::new("nothing");
        let (sink, results) = memory_sink();
        let (clock_sink, by_clock) = memory_sink();
        let source = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO).boxed();
        let early = Early::every_records(1);
        source.clone().window(session(micros(5))).early(early).count().firings().sink(sink);
        source.processing_time_window(tumbling(micros(5))).count().append().sink(clock_sink);
        run_well(&graph, options);
        assert!(results.snapshot().is_empty() && by_clock.snapshot().is_empty());
    }
}
