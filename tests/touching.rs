//! Sessions that touch are one, whatever the watermark shows first: a row at the very end of a session can still come when the
//! watermark is there. Every epoch takes one row, so that the watermark stands at each row's time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use tidemill::prelude::*;
use tidemill::{Early, EventStream, Options, WindowResult};

use common::{assert_same, run_well, ways};

/// Key and time in microseconds.
type Row = (char, i64);

const GAP: Duration = Duration::from_micros(10);

/// In order of time. A row of `b` takes the watermark to the end of the session of `a` that the next row extends.
const ROWS: [Row; 9] =
    [('a', 0), ('b', 10), ('a', 10), ('b', 20), ('a', 20), ('b', 31), ('a', 41), ('b', 41), ('a', 52)];

/// By key, start and end, the number of rows.
type Session = (char, i64, i64, u64);

/// The sessions of those rows, by plain loops.
fn sessions(rows: &[Row]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for (key, time) in rows {
        let end = time + GAP.as_micros() as i64;
        match sessions.iter_mut().rev().find(|it| it.0 == *key && *time <= it.2) {
            Some(session) => (session.2, session.3) = (end, session.3 + 1),
            None => sessions.push((*key, *time, end, 1)),
        }
    }
    sessions
}

fn timed(graph: &Graph, rows: impl IntoIterator<Item = Row>) -> EventStream<Row> {
    let rows: Vec<Row> = rows.into_iter().collect();
    graph.source(memory(rows)).with_watermark(|row| EventTime::from_micros(row.1), Duration::ZERO).boxed()
}

fn said<V: Into<u64>>(it: WindowResult<char, V>) -> Session {
    (it.key, it.window.start.as_micros(), it.window.end.as_micros(), it.value.into())
}

/// Runs a graph with these sessions in each way, and compares.
fn try_all(expected: &[Session], made: impl Fn(&Graph) -> EventStream<Session>) {
    for options in ways(&[0, usize::MAX], 1) {
        let graph = Graph::new("touching");
        let (sink, found) = memory_sink();
        made(&graph).sink(sink);
        let what = format!("{options:?}");
        let summary = run_well(&graph, options);
        assert_same(&found.snapshot(), expected, &what);
        assert_eq!(summary.late_rows, 0, "{what}");
    }
}

#[test]
fn a_row_at_the_end_of_a_session_extends_it() {
    assert_eq!(
        sessions(&ROWS),
        [('a', 0, 30, 3), ('b', 10, 30, 2), ('b', 31, 51, 2), ('a', 41, 51, 1), ('a', 52, 62, 1)]
    );
    // The watermark is assigned where the sessions are.
    try_all(&sessions(&ROWS), |graph| {
        let rows = graph.source(memory(ROWS));
        let timed = rows.with_watermark(|row| EventTime::from_micros(row.1), Duration::ZERO);
        timed.key_by(|row| row.0).window(session(GAP)).count().append().map(said).boxed()
    });
    // It comes from another operator.
    try_all(&sessions(&ROWS), |graph| {
        let by_gap = session_by(|_: &Row| GAP);
        timed(graph, ROWS).key_by(|row| row.0).window(by_gap).count().append().map(said).boxed()
    });
}

#[test]
fn a_row_at_the_end_of_a_session_extends_it_behind_union() {
    let (even, odd) = ROWS.into_iter().partition::<Vec<Row>, _>(|row| row.1 % 2 == 0);
    try_all(&sessions(&ROWS), |graph| {
        let both = timed(graph, even.clone()).union(timed(graph, odd.clone()));
        both.key_by(|row| row.0).window(session(GAP)).count().append().map(said).boxed()
    });
}

#[test]
fn a_row_at_the_end_of_a_session_extends_it_in_firings() {
    try_all(&sessions(&ROWS), |graph| {
        let windows = timed(graph, ROWS).key_by(|row| row.0).window_by(session(GAP));
        windows.count().append().map(said).boxed()
    });
    for lateness in [0, 5, 100].map(Duration::from_micros) {
        for options in ways(&[usize::MAX], 1) {
            let graph = Graph::new("touching firings");
            let (sink, table) = memory_sink();
            let windows = timed(&graph, ROWS).key_by(|row| row.0).window_by(session(GAP));
            let fired = windows.allowed_lateness(lateness).early(Early::every_records(2)).count().firings();
            fired.sink(sink);
            let what = format!("{lateness:?} {options:?}");
            assert_eq!(run_well(&graph, options).late_rows, 0, "{what}");
            // The last firing of each window that was not retracted.
            let mut left = std::collections::BTreeMap::new();
            for it in table.snapshot() {
                left.insert((it.key, it.window.start.as_micros(), it.window.end.as_micros()), it.value);
            }
            let left: Vec<Session> =
                left.into_iter().filter_map(|((key, start, end), n)| Some((key, start, end, n?))).collect();
            assert_same(&left, &sessions(&ROWS), what);
        }
    }
}

#[test]
fn a_row_at_the_end_of_a_session_extends_it_in_joins() {
    // The watermark is that of the left side.
    let right = [('a', 70), ('z', 1_000)];
    let expected = sessions(&[&ROWS[..], &right[..]].concat());
    let side = |graph: &Graph, rows: &[Row]| timed(graph, rows.to_vec()).key_by(|row| row.0);
    try_all(&expected, |graph| {
        let joined = side(graph, &ROWS).join(side(graph, &right)).window(session(GAP));
        joined.co_group(|_, left, right| (left.len() + right.len()) as u64).map(said).boxed()
    });
}

#[test]
fn results_of_sessions_are_in_time_for_windows_behind_them() {
    // A session that ends at 30 belongs to the window that ends there.
    let mut expected = std::collections::BTreeMap::<i64, u64>::new();
    for (.., end, count) in sessions(&ROWS) {
        *expected.entry((end - 1).div_euclid(10) * 10).or_default() += count;
    }
    let expected: Vec<Session> =
        expected.into_iter().map(|(start, count)| ('-', start, start + 10, count)).collect();
    try_all(&expected, |graph| {
        let sessions = timed(graph, ROWS).key_by(|row| row.0).window(session(GAP)).count().append();
        sessions.key_by(|_| '-').window(tumbling(GAP)).sum(|it| it.value).append().map(said).boxed()
    });
    // Sessions of sessions.
    let ends: Vec<Row> = {
        let mut ends: Vec<Row> = sessions(&ROWS).into_iter().map(|it| ('-', it.2 - 1)).collect();
        ends.sort_by_key(|row| row.1);
        ends
    };
    try_all(&sessions(&ends), |graph| {
        let first = timed(graph, ROWS).key_by(|row| row.0).window(session(GAP)).count().append();
        first.key_by(|_| '-').window(session(GAP)).count().append().map(said).boxed()
    });
}

#[test]
fn a_session_closes_once_watermark_is_beyond_its_end() {
    // Nothing waits for the end of the input: a row a microsecond beyond the end suffices.
    let (sink, found) = memory_sink();
    let graph = Graph::new("beyond");
    let rows = timed(&graph, [('a', 0), ('b', 10), ('b', 11), ('b', 12)]);
    rows.key_by(|row| row.0).window(session(GAP)).count().append().map(said).sink(sink);
    run_well(&graph, Options::default().with_max_records_per_epoch(1));
    let by_epoch: Vec<(u64, Vec<Session>)> =
        found.by_epoch().into_iter().map(|(epoch, rows)| (epoch.number(), rows)).collect();
    assert_eq!(by_epoch.first(), Some(&(2, vec![('a', 0, 10, 1)])), "{by_epoch:?}");
}
