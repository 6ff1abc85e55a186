//! Whole queries: one result in both modes and on any number of workers.

use std::time::Duration;

use tidemill::aggregate::Collect;
use tidemill::connectors::MemorySource;
use tidemill::operator::{Events, MapState, States, Timer};
use tidemill::prelude::*;
use tidemill::process::{CloseContext, ProcessContext, ProcessFunction, ProcessResult};

use super::common::{assert_same, run_well, ways};
use super::function::{Row, at};

/// A run ends when no row follows within this time.
const GAP: Duration = Duration::from_micros(40);

/// The key, the time of the last row, and the numbers of the rows in order of time.
type Run = (u8, i64, Vec<u32>);

/// Emits runs of rows. A timer for each row finds the end of a run, whatever comes in which order and epoch.
struct Runs {
    rows: MapState<u8, (EventTime, u32), ()>,
}

impl ProcessFunction for Runs {
    type Key = u8;
    type Row = Row;
    type Outputs = (Events<Run>, Events<String>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_record(&mut self, row: Row, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        if cx.is_late() {
            return Err(format!("{row:?} is late at {}", cx.watermark()).into());
        }
        self.rows.insert(cx.key, (cx.time(), row.number), ());
        cx.set_event_timer(cx.time() + GAP);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let last = cx.time() - GAP;
        let after = (last, u32::MAX)..(cx.time(), 0);
        if self.rows.range(cx.key, after).next().is_none() {
            let rows = self.rows.drain_range(cx.key, ..=(last, u32::MAX));
            let numbers = rows.into_iter().map(|((_, number), ())| number).collect();
            cx.out.0.push(cx.time(), (*cx.key, last.as_micros(), numbers));
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        if !self.rows.is_empty() {
            return Err("rows are left".into());
        }
        cx.out.1.push(EventTime::from_micros(1 << 40), "closed".to_owned());
        Ok(())
    }
}

/// Rows out of order by up to 90, many of one key, from before the epoch of event time on.
fn rows() -> Vec<Row> {
    let row = |n: u32| {
        let n64 = i64::from(n);
        let key = if n.is_multiple_of(3) { 5 } else { (n * n % 23) as u8 };
        Row { key, time: n64 * 10 - 3_000 + (n64 * 37) % 90, number: n }
    };
    (0..600).map(row).collect()
}

fn expected() -> Vec<Run> {
    let mut rows = rows();
    rows.sort_by_key(|row| (row.key, row.time, row.number));
    let mut runs: Vec<Run> = vec![];
    for row in rows {
        match runs.last_mut() {
            Some((key, last, numbers)) if *key == row.key && row.time - *last < GAP.as_micros() as i64 => {
                *last = row.time;
                numbers.push(row.number);
            }
            _ => runs.push((row.key, row.time, vec![row.number])),
        }
    }
    runs
}

#[test]
fn runs_of_rows_are_the_same_in_all_ways() {
    let wanted = expected();
    assert!(wanted.len() > 100 && wanted.iter().any(|run| run.2.len() > 3), "{}", wanted.len());
    for options in ways(&[0, usize::MAX], 70) {
        let graph = Graph::new("runs");
        let ((sink, runs), (closed_sink, closed)) = (memory_sink(), memory_sink());
        let parts: Vec<Vec<Row>> = (0..3).map(|n| rows().into_iter().skip(n).step_by(3).collect()).collect();
        let (out, closes) = graph
            .source(MemorySource::partitioned(parts))
            .with_watermark(at, Duration::from_micros(200))
            .key_by(|row| row.key)
            .process(|| Runs { rows: MapState::new() });
        // Rows of timers are in time for windows behind the function.
        let windows = out.window(tumbling(Duration::from_micros(500))).aggregate(Collect::new()).append();
        windows.flat_map(|window| window.value).sink(sink);
        // So are those of the last call.
        let closes = closes.window(tumbling(Duration::from_secs(1))).aggregate(Collect::new()).append();
        closes.flat_map(|window| window.value).sink(closed_sink);
        let (workers, what) = (options.workers, format!("{options:?}"));
        let summary = run_well(&graph, options);
        assert_same(&runs.snapshot(), &wanted, &what);
        assert_eq!(closed.snapshot(), vec!["closed"; workers], "{what}");
        assert_eq!(summary.late_rows, 0, "{what}");
    }
}

#[test]
fn stream_without_rows_closes() {
    for options in ways(&[usize::MAX], 70) {
        let graph = Graph::new("nothing");
        let (out, closes) = graph
            .source(memory(Vec::<Row>::new()))
            .with_watermark(at, Duration::ZERO)
            .key_by(|row| row.key)
            .process(|| Runs { rows: MapState::new() });
        let ((sink, runs), (closed_sink, closed)) = (memory_sink(), memory_sink());
        out.sink(sink);
        closes.sink(closed_sink);
        let workers = options.workers;
        run_well(&graph, options);
        assert_eq!((runs.snapshot().len(), closed.snapshot().len()), (0, workers));
    }
}
