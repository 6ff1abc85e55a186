//! The rules of Spark that its users rely on, line by line: which test answers which, and what is different here on purpose.
//!
//! | line | rule | test |
//! |---|---|---|
//! | 1 | windows of 12 minutes every 5 from minute 2; times before 1970 | `operators/src/state/conformance.rs`: `windows_of_12_minutes_every_5_from_minute_2_hold_12_05_twice`, `a_second_before_1970_is_in_the_ten_seconds_before_1970` |
//! | 2 | the end of a window belongs to the next one; the time of a result is the last instant | `result_has_last_instant_of_window_and_can_be_windowed` |
//! | 3 | rows exactly a gap apart are one session; a row between two makes them one | `conformance.rs`: `records_at_gap_join_and_a_microsecond_more_split_session`, `a_record_between_two_sessions_makes_them_one` |
//! | 4 | a session ends where the longest gap of its rows does | `conformance.rs`: `a_session_ends_where_the_longest_gap_of_its_records_does`. Different: a row with a gap of zero is not dropped, `a_record_without_a_gap_is_a_session_of_a_microsecond` |
//! | 5 | which windows an epoch closes, and which rows are late | `windows_close_in_the_epoch_of_the_watermark_that_ends_them`, `row_at_the_watermark_is_not_late`. Different: both |
//! | 6 | a silent stream holds the watermark | `silent_stream_holds_watermark_until_idle_and_loses_no_row`. Different: `idle_after`, and no policy by which the fastest stream decides |
//! | 7 | what append, update and complete emit | `append_update_and_complete_emit_as_they_say` |
//! | 8 | joins do not depend on the order of arrival; outer and semi rows come once | `tests/joins/steps.rs`: `join_by_epoch_agrees_with_loops`; whole graphs in `chained.rs`: `joins_of_every_kind_agree_with_loops`; results of Spark in `spark.rs` |
//! | 9 | a duplicate does not prolong what is remembered | `tests/distinct/steps.rs`: `duplicate_passes_once_watermark_has_reached_the_end` |
//! | 10 | a timer fires at its time, a timeout of groups after it | `tests/process/short_forms.rs`: `idle_keys_are_visited_by_update_and_else_at_timeout_only` |
//! | 11 | a crash at each step of the protocol changes no output | `tests/epochs.rs`: `epochs_of_micro_batch_runs_are_exactly_once`; `tests/kill`; at least once for functions: `continuous_function_gets_rows_at_least_once` there |
//! | 12, 13 | a replay has the range and the clock of the logged plan | `replay_has_range_and_clock_of_its_plan` |
//! | 14 | the PID controller | `runtime/src/driver/rate.rs`: `rate_of_the_worked_example` |
//! | 15 | windows with and without inverse agree | `inverse_agrees_over_many_steps_and_forgets_keys`; `tests/dstream`: `windows_with_and_without_inverse_are_those_of_loops` |
//! | 16 | `update_state_by_key` visits idle keys, others only at the timeout | `tests/process/short_forms.rs`: `idle_keys_are_visited_by_update_and_else_at_timeout_only` |
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use tidemill::checkpoint::{MemoryStorage, Storage};
use tidemill::connectors::channel;
use tidemill::operator::{Dealt, Place, Rows, StatefulOperator, Takes, To};
use tidemill::prelude::*;
use tidemill::testing::{
    Break, Collected, FaultyStorage, Harness, ScriptedSource, SimClock, TestDriver, collecting_sink,
    operator_of,
};
use tidemill::{Operator, OperatorError, ProcessingTime, WindowResult};

use common::run_well;

const MINUTE: i64 = 60;

fn at(secs: i64) -> EventTime {
    EventTime::from_secs(secs)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn start<V>(result: &WindowResult<(), V>) -> i64 {
    result.window.start.as_micros() / 1_000_000
}

fn driver(graph: &Graph, clock: &SimClock) -> TestDriver {
    TestDriver::new(graph, Options::default(), clock).unwrap()
}

#[test]
fn result_has_last_instant_of_window_and_can_be_windowed() {
    let graph = Graph::new("line 2");
    let (sink, table) = memory_sink();
    let rows = [9_999_999i64, 10_000_000, 19_999_999];
    let seconds = graph.source(memory(rows)).with_watermark(|it| EventTime::from_micros(*it), secs(0));
    let inner = seconds.window(tumbling(secs(10))).count().append();
    let outer = inner.window(tumbling(secs(10))).sum(|it| it.value).append();
    outer.map(|it| (it.window.end, it.window.last_instant(), it.value)).sink(sink);
    run_well(&graph, Options::default().without_ctrl_c());
    let last = |micros| EventTime::from_micros(micros);
    assert_eq!(table.snapshot(), [(at(10), last(9_999_999), 1), (at(20), last(19_999_999), 2)]);
}

/// Spark emits what a watermark closes one batch later, and until then takes rows that the watermark has passed.
#[test]
fn windows_close_in_the_epoch_of_the_watermark_that_ends_them() {
    let noon = 12 * 60;
    let minute = |minute: i64| at((noon + minute) * MINUTE);
    let graph = Graph::new("line 5");
    let script = ScriptedSource::new().row(minute(14), 14).watermark(minute(4)).end_epoch();
    let script =
        script.row(minute(9), 9).row(minute(4), 4).row(minute(21), 21).watermark(minute(11)).end_epoch();
    let script = script.row(minute(4), 40).end_epoch();
    let windows = script.stream(&graph).window(sliding(secs(600), secs(300))).count();
    let (counts, late) = windows.append_with_late();
    let ((sink, counted), (late_sink, late_rows)) = (collecting_sink(), collecting_sink());
    counts.map(move |it| (start(&it) / MINUTE - noon, it.value)).sink(sink);
    late.sink(late_sink);
    let mut driver = driver(&graph, &SimClock::new());
    driver.epoch().unwrap();
    assert_eq!(counted.committed(), []);
    // The row of 12:04 is taken, because its windows end after the watermark of 12:04 with which the epoch begins.
    driver.epoch().unwrap();
    assert_eq!(common::sorted(counted.committed()), [(-5, 1), (0, 2)]);
    assert_eq!(late_rows.committed(), [0i64; 0]);
    driver.epoch().unwrap();
    assert_eq!((counted.committed().len(), late_rows.committed()), (2, vec![40]));
}

/// Spark drops a row whose time is that of the watermark.
#[test]
fn row_at_the_watermark_is_not_late() {
    let graph = Graph::new("line 5, ties");
    let script = ScriptedSource::new().row(at(10), 1).watermark(at(10)).end_epoch();
    let script = script.row(at(10), 2).row(at(9), 3).end_epoch();
    let (rows, late) = script.stream(&graph).key_by(|n: &i64| *n).distinct_with_late();
    let ((sink, passed), (late_sink, late_rows)) = (collecting_sink(), collecting_sink());
    rows.sink(sink);
    late.sink(late_sink);
    driver(&graph, &SimClock::new()).run_to_end().unwrap();
    assert_eq!((passed.committed(), late_rows.committed()), (vec![1, 2], vec![3]));
}

#[test]
fn silent_stream_holds_watermark_until_idle_and_loses_no_row() {
    for idle_after in [None, Some(secs(30))] {
        let graph = Graph::new("line 6");
        let ((fast, first), (silent, second)) = (channel(1_000), channel(1_000));
        let timed = |stream: Stream<i64>| {
            let timed = stream.with_watermark(|n| at(*n), secs(0));
            match idle_after {
                Some(idle_after) => timed.idle_after(idle_after).boxed(),
                None => timed.boxed(),
            }
        };
        let both = timed(graph.source(first).boxed()).union(timed(graph.source(second).boxed()));
        let (sink, counted) = collecting_sink();
        both.window(tumbling(secs(10))).count().append().map(|it| (start(&it), it.value)).sink(sink);
        let mut driver = driver(&graph, &SimClock::new());
        (0..100).for_each(|n| fast.send(n).unwrap());
        driver.settle().unwrap();
        driver.advance(secs(29)).unwrap();
        assert_eq!(counted.committed(), []);
        fast.send(100).unwrap();
        driver.settle().unwrap();
        driver.advance(secs(1)).unwrap();
        let closed = if idle_after.is_some() { 10 } else { 0 };
        assert_eq!(counted.committed().len(), closed, "{idle_after:?}");
        // With Spark's policy `max` this row would be late at once.
        silent.send(3).unwrap();
        driver.settle().unwrap();
        drop((fast, silent));
        let late = driver.run_to_end().unwrap().late_rows;
        let first = counted.committed().into_iter().find(|(start, _)| *start == 0);
        let expected = if idle_after.is_some() { (1, Some((0, 10))) } else { (0, Some((0, 11))) };
        assert_eq!((late, first), expected);
    }
}

/// Rows of a window in the epoch before it closes, in which it closes, and after it.
fn three_epochs() -> ScriptedSource<i64> {
    let script =
        ScriptedSource::new().row(at(1), 1).row(at(2), 2).row(at(11), 11).watermark(at(0)).end_epoch();
    let script = script.row(at(3), 3).row(at(12), 12).watermark(at(10)).end_epoch();
    script.row(at(4), 4).row(at(13), 13).end_epoch()
}

fn by_epoch(mut driver: TestDriver, rows: &Collected<(i64, u64)>) -> [Vec<(i64, u64)>; 3] {
    std::array::from_fn(|_| {
        let before = rows.committed().len();
        driver.epoch().unwrap();
        common::sorted(rows.committed().split_off(before))
    })
}

#[test]
fn append_update_and_complete_emit_as_they_say() {
    let run = |mode: &str| {
        let graph = Graph::new("line 7");
        let (sink, rows) = collecting_sink();
        let windows = three_epochs().stream(&graph).window(tumbling(secs(10))).count();
        match mode {
            "append" => windows.append().map(|it| (start(&it), it.value)).sink(sink),
            "update" => windows.update().map(|it| (start(&it), it.value)).sink(sink),
            _ => windows.complete().map(|it| (start(&it), it.value)).sink(sink),
        }
        by_epoch(driver(&graph, &SimClock::new()), &rows)
    };
    assert_eq!(run("append"), [vec![], vec![(0, 3)], vec![]]);
    assert_eq!(run("update"), [vec![(0, 2), (10, 1)], vec![(0, 3), (10, 2)], vec![(10, 3)]]);
    // The row of second 4 is late for the others.
    assert_eq!(run("complete"), [vec![(0, 2), (10, 1)], vec![(0, 3), (10, 2)], vec![(0, 4), (10, 3)]]);
}

/// Emits each row with the clock of its epoch.
struct Clocked;

impl StatefulOperator for Clocked {
    type Key = ();
    type Outputs = (Rows<(i64, u64)>,);
}

impl Takes<0> for Clocked {
    type Row = (EventTime, u64);

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let now = to.now().as_micros() / 1_000_000;
        rows.for_each(|(_, row)| to.out.0.push((now, row)));
        Ok(())
    }
}

/// Runs until the storage breaks or the input ends, from a second of the clock on, with that many records in each epoch.
fn clocked(storage: Arc<dyn Storage>, second: i64, records: u64) -> Collected<(i64, u64)> {
    let graph = Graph::new("lines 12 and 13");
    let (sink, rows) = collecting_sink();
    let numbers = graph.source(memory(0..40u64)).uid("in");
    graph.operator("clocked").local(numbers).stateful(|_| Clocked).sink(sink);
    let clock = SimClock::new();
    clock.set(ProcessingTime::from_secs(second));
    let options = Options::default().with_max_records_per_epoch(records);
    let driver = TestDriver::with_checkpoint(&graph, options, &clock, storage);
    if let Ok(mut driver) = driver {
        while let Ok(Some(_)) = driver.epoch() {}
    }
    rows
}

#[test]
fn replay_has_range_and_clock_of_its_plan() {
    let mut replays = 0;
    for change in 1..40 {
        for how in [Break::CrashBefore, Break::CrashWithin, Break::CrashAfter] {
            let memory = MemoryStorage::new();
            let broken = FaultyStorage::new(memory.clone(), change, how);
            let before = clocked(Arc::new(broken), 100, 7);
            let after = clocked(Arc::new(memory), 500, 5);
            let what = format!("{how:?} at change {change}");
            let mut read: u64 = before.committed().len() as u64;
            let epochs = after.committed_epochs().into_iter().map(|epoch| after.of_epoch(epoch));
            for (n, rows) in epochs.filter(|rows| !rows.is_empty()).enumerate() {
                let is_replay = rows[0].0 == 100;
                replays += usize::from(is_replay);
                assert!(n == 0 || !is_replay, "{what}: only the last epoch is replayed");
                let (clock, records) = if is_replay { (100, 7) } else { (500, 5) };
                if n == 0 {
                    // The sink may have what the run before did not commit.
                    read = rows[0].1;
                }
                let end = 40.min(read + records);
                assert_eq!(rows, (read..end).map(|row| (clock, row)).collect::<Vec<_>>(), "{what}");
                read = end;
            }
            assert!(read == 40 || read == before.committed().len() as u64, "{what}: {read}");
        }
    }
    assert!(replays > 10, "{replays}");
}

type Sum = (u8, i64, i64);

fn sums(harness: &mut Harness<Box<dyn Operator>>) -> Vec<Sum> {
    let results = harness.take::<WindowResult<u8, (u8, i64)>>(0).into_iter();
    common::sorted(results.map(|it| (it.key, it.window.end.as_micros(), it.value.1)).collect())
}

#[test]
fn inverse_agrees_over_many_steps_and_forgets_keys() {
    let (second, length, slide) = (secs(1), secs(10), secs(2));
    let rows =
        || Graph::new("line 15").source(memory(Vec::<(u8, i64)>::new())).batches(second).key_by(|row| row.0);
    let add = |a: (u8, i64), b: (u8, i64)| (a.0, a.1 + b.1);
    let take_out = |a: (u8, i64), b: (u8, i64)| (a.0, a.1 - b.1);
    let direct = operator_of(rows().reduce_by_key_and_window(add, length, slide));
    let inverse = operator_of(rows().reduce_by_key_and_window_inverse(add, take_out, length, slide));
    let place = || Place::new(0, 1, Mode::MicroBatch);
    let mut direct = Harness::new(Mode::MicroBatch, move || direct(place()));
    let mut inverse = Harness::new(Mode::MicroBatch, move || inverse(place()));
    let (mut random, mut now, mut results) = (7u64, 0, 0);
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % end
    };
    for step in 0..100_000 {
        // Once in a while nothing comes for longer than a window.
        now += if below(500) == 0 { 15_000 } else { below(700) };
        let count = if below(3) == 0 { 0 } else { 1 };
        let row = (below(20) as u8, below(11) as i64 - 5);
        for it in [&mut direct, &mut inverse] {
            it.advance_to(ProcessingTime::from_millis(now as i64)).unwrap();
            it.batch(0, vec![Dealt::new(row.0, EventTime::MIN, row); count]).unwrap();
            it.end_epoch(EventTime::MIN).unwrap();
        }
        let expected = sums(&mut direct);
        results += expected.len();
        assert_eq!(sums(&mut inverse), expected, "step {step}");
    }
    assert!(results > 100_000, "{results}");
    inverse.advance_to(ProcessingTime::from_millis(now as i64 + 60_000)).unwrap();
    inverse.end_epoch(EventTime::MIN).unwrap();
    assert_eq!(inverse.state_rows(), 0);
}
