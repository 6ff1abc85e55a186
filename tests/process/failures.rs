//! Functions that return errors: the query fails with the key and the line, or the row leaves by the side.

use std::time::Duration;

use tidemill::Either;
use tidemill::operator::{Events, Rows, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{
    CloseContext, CoContext, CoProcessFunction, Failed, FailedCall, ProcessContext, ProcessFunction,
    ProcessResult,
};

use super::common::{MODES, assert_same, options, run, run_well};

/// Doubles numbers, but neither 13 nor those whose timers come at an uneven time; fails at the end if told so.
struct Doubles {
    seen: ValueState<String, u64>,
    fails_at_end: bool,
}

impl Doubles {
    fn new(fails_at_end: bool) -> Self {
        Doubles { seen: ValueState::new(), fails_at_end }
    }
}

impl ProcessFunction for Doubles {
    type Key = String;
    type Row = i64;
    type Outputs = (Events<i64>, Rows<u64>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("seen", &mut self.seen);
    }

    fn on_record(&mut self, row: i64, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        *self.seen.get_or_insert_with(cx.key, || 0) += 1;
        if row == 13 {
            return Err("13 is not for this machine".into());
        }
        cx.out.0.push(cx.time(), row * 2);
        cx.set_event_timer(cx.time());
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        if cx.time().as_micros() == 7 {
            return Err("a timer at 7".into());
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        if self.fails_at_end {
            return Err("not at the end either".into());
        }
        self.seen.iter().for_each(|(_, seen)| cx.out.1.push(*seen));
        Ok(())
    }
}

fn key(n: &i64) -> String {
    format!("k{}", n % 5)
}

fn failure(rows: Vec<i64>, fails_at_end: bool, mode: Mode) -> String {
    let graph = Graph::new("doubles");
    let timed = graph.source(memory(rows)).with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO);
    let (doubles, seen) = timed.key_by(key).process(move || Doubles::new(fails_at_end));
    doubles.sink(memory_sink().0);
    seen.sink(memory_sink().0);
    run(&graph, options(mode, 2)).unwrap_err().to_string()
}

#[test]
fn error_names_operator_line_key_and_text() {
    for mode in MODES {
        let of_row = failure((0..20).filter(|n| *n != 7).collect(), false, mode);
        for part in ["operator", "process", "failures.rs:", "key \"k3\": 13 is not for this machine"] {
            assert!(of_row.contains(part), "{part} is not in: {of_row}");
        }
        let of_timer = failure((0..9).collect(), false, mode);
        assert!(
            of_timer.contains("key \"k2\": a timer at 7") && of_timer.contains("failures.rs:"),
            "{of_timer}"
        );
        let at_end = failure((0..3).collect(), true, mode);
        assert!(at_end.contains("not at the end either") && at_end.contains("failures.rs:"), "{at_end}");
    }
}

#[test]
fn failed_rows_and_timers_leave_by_the_side() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("doubles");
            let timed =
                graph.source(memory(0..20i64)).with_watermark(|n| EventTime::from_micros(*n), Duration::ZERO);
            let ((doubles, seen), failed) = timed.key_by(key).process_with_failed(|| Doubles::new(false));
            let ((sink, rows), (seen_sink, counts), (failed_sink, failures)) =
                (memory_sink(), memory_sink(), memory_sink());
            doubles.sink(sink);
            seen.sink(seen_sink);
            failed.sink(failed_sink);
            run_well(&graph, options(mode, workers));
            assert_same(
                &rows.snapshot(),
                &(0..20).filter(|n| *n != 13).map(|n| n * 2).collect::<Vec<_>>(),
                mode,
            );
            assert_eq!(counts.snapshot(), [4; 5], "what was changed before the failure stays");
            let mut failures: Vec<Failed<String, i64>> = failures.snapshot();
            failures.sort_by(|a, b| a.key.cmp(&b.key));
            let at = EventTime::from_micros;
            let timer = Failed {
                key: "k2".to_owned(),
                time: at(7),
                call: FailedCall::Timer(Timer::Event(at(7))),
                error: "a timer at 7".to_owned(),
            };
            let row = Failed {
                key: "k3".to_owned(),
                time: at(13),
                call: FailedCall::Row(13),
                error: "13 is not for this machine".to_owned(),
            };
            assert_eq!(failures, [timer, row]);
        }
    }
}

/// Takes numbers of both sides, but of each side only even or only uneven ones.
struct Sides;

impl CoProcessFunction for Sides {
    type Key = u64;
    type Left = u64;
    type Right = String;
    type Outputs = (Rows<u64>,);

    fn on_left(&mut self, row: u64, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        if row % 2 == 1 {
            return Err("uneven".into());
        }
        cx.out.0.push(row);
        Ok(())
    }

    fn on_right(&mut self, row: String, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        cx.out.0.push(100 + row.parse::<u64>()?);
        Ok(())
    }
}

#[test]
fn failed_rows_of_two_sides_leave_together() {
    let graph = Graph::new("sides");
    let left = graph.source(memory(0..4u64)).key_by(|n| *n);
    let right = graph.source(memory(["8".to_owned(), "tide".to_owned()])).key_by(|text| text.len() as u64);
    let (rows, failed) = left.connect(right).process_with_failed(|| Sides);
    let ((sink, taken), (failed_sink, failures)) = (memory_sink(), memory_sink());
    rows.sink(sink);
    failed.sink(failed_sink);
    run_well(&graph, options(Mode::MicroBatch, 2));
    assert_same(&taken.snapshot(), &[0, 2, 108], "rows");
    let mut calls: Vec<_> = failures.snapshot().into_iter().map(|it| (it.key, it.call)).collect();
    calls.sort_by_key(|call| call.0);
    let row = FailedCall::Row;
    let expected = [(1, Either::Left(1)), (3, Either::Left(3)), (4, Either::Right("tide".to_owned()))];
    assert_eq!(calls, expected.map(|(key, it)| (key, row(it))));
}
