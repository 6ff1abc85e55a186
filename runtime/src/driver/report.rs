//! What the driver reports of a committed epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::{Node, NodeId, NodeKind};
use tidemill_operators::{Epoch, EventTime, Mode, ProcessingTime};

use super::Driver;
use super::flight::Flight;
use super::rate::Rate;
use super::stragglers::Straggler;
use crate::progress::{Durations, Progress, SourceProgress, StateProgress};
use crate::user_code::code_of;

/// Times from 2001 to 2051, as seconds and as milliseconds: where these numbers are read as a smaller unit, they fall in January
/// 1970.
const SECONDS: std::ops::Range<i64> = 1_000_000_000..2_550_000_000;

/// From here on, in the year 10000, no time can be written as RFC 3339: microseconds or nanoseconds that were read as a larger
/// unit lie there.
const YEAR_10000: i64 = 253_402_300_800_000_000;

/// Whether an event time looks like a number of seconds or milliseconds that was read as a smaller unit.
fn is_of_another_unit(time: EventTime) -> bool {
    // Seconds as microseconds; seconds as milliseconds, or milliseconds as microseconds.
    SECONDS.contains(&time.as_micros()) || SECONDS.contains(&time.as_millis())
}

impl Driver {
    /// Warns once if the first event times are numbers of another unit.
    fn look_at_unit(&mut self) {
        if self.knows_unit {
            return;
        }
        let Some(latest) = self.control.ledger.latest() else { return };
        self.knows_unit = true;
        if latest.as_micros() >= YEAR_10000 && latest != EventTime::MAX {
            tracing::warn!(
                query = %self.layout.query, %latest,
                "an event time lies behind the year 9999: numbers of milliseconds, microseconds or nanoseconds were read as a larger \
                 unit, and the watermark is there now; make event times with the function of their unit, as `EventTime::from_micros`"
            );
        }
        if is_of_another_unit(latest) {
            tracing::warn!(
                query = %self.layout.query, %latest,
                "all event times lie in January 1970: numbers of seconds or milliseconds were read as a smaller unit; make event \
                 times with `EventTime::from_secs` or `from_millis`, or read the field with \
                 `#[serde(with = \"tidemill::units::millis\")]`"
            );
        }
    }

    /// Warns of a worker that is slower than the others.
    pub(super) fn look_for_stragglers(&mut self, flight: &Flight, now: ProcessingTime) {
        if let Some(Straggler { worker, times }) = self.stragglers.note(flight.planned, &flight.shares, now) {
            tracing::warn!(
                query = %self.layout.query, worker, times,
                "worker {worker} takes {times:.1} times as long for a row as the other workers: other processes may use its core, or its \
                 partitions have rows that take longer to process"
            );
        }
    }

    pub(super) fn report(&mut self, epoch: Epoch, flight: &Flight, now: ProcessingTime) {
        self.look_at_unit();
        let per_second = |rows: u64, time: Duration| {
            let seconds = time.as_secs_f64();
            if seconds > 0.0 { rows as f64 / seconds } else { 0.0 }
        };
        let whole = now.since(flight.begun);
        let micros = |later: ProcessingTime, earlier: ProcessingTime| later.since(earlier).as_micros() as u64;
        let keeps = |node: &&Node| node.is_stateful() || matches!(node.kind, NodeKind::Fragment(_));
        let top_keys = &mut self.top_keys;
        let states = self.layout.nodes.iter().filter(keeps).map(|node| {
            let total = self.control.reports.counters.total(node.id);
            StateProgress {
                operator_name: node.label(),
                uid: node.uid().to_owned(),
                num_rows_total: total.state_rows,
                rows_in: total.rows_in,
                rows_out: total.rows_out,
                late_rows: total.late_rows,
                top_keys: top_keys.of(node, &self.layout.query, &self.control, now),
            }
        });
        let states = states.collect();
        let rows_in = flight.rows_in.values().sum();
        self.progress = Arc::new(Progress {
            name: self.layout.query.clone(),
            mode: self.options.mode,
            timestamp: now,
            epoch: Some(epoch.number()),
            num_input_rows: rows_in,
            input_rows_per_second: per_second(rows_in, now.since(self.last_commit)),
            processed_rows_per_second: per_second(rows_in, whole),
            num_output_rows: flight.rows_out,
            output_rows_per_second: per_second(flight.rows_out, now.since(self.last_commit)),
            duration_us: Durations {
                planning: micros(flight.planned, flight.begun),
                reading: micros(flight.last_read, flight.planned),
                processing: micros(flight.last_prepared, flight.last_read),
                commit: micros(now, flight.last_prepared),
                trigger_execution: whole.as_micros() as u64,
            },
            watermark: self.control.ledger.progress(epoch, self.options.mode == Mode::Continuous),
            sources: self.sources_with(&flight.rows_in),
            state_operators: states,
            state_memory: self.control.memory.iter().map(|memory| memory.most() as u64).sum(),
            spilled: self.control.memory.iter().map(|memory| memory.spilled()).sum(),
            late_rows: self.control.reports.counters.totals().map(|total| total.late_rows).sum(),
            total_input_rows: self.summary.input_rows,
            total_output_rows: self.summary.output_rows,
        });
    }

    /// The sources as of the last commit, with the rows that were read in its epoch.
    pub(super) fn sources_with(&self, rows_in: &BTreeMap<NodeId, u64>) -> Vec<SourceProgress> {
        let sources = self.sources.iter().map(|planned| SourceProgress {
            description: code_of(planned.node, || planned.source.describe()),
            num_input_rows: rows_in.get(&planned.node).copied().unwrap_or(0),
            skipped_rows: self.control.reports.counters.total(planned.node).skipped_rows,
            rate_limit: planned.rate.as_ref().and_then(Rate::per_second),
            end_offset: (0..).zip(planned.committed.iter().cloned()).collect(),
        });
        sources.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_another_unit_are_told_from_small_ones() {
        let now = "2026-03-01T12:00:00Z".parse::<EventTime>().unwrap();
        for wrong in [
            EventTime::from_micros(now.as_secs()),
            EventTime::from_micros(now.as_millis()),
            EventTime::from_millis(now.as_secs()),
        ] {
            assert!(is_of_another_unit(wrong), "{wrong}");
        }
        for right in [now, EventTime::from_secs(3), EventTime::from_secs(900), EventTime::from_secs(86_400)] {
            assert!(!is_of_another_unit(right), "{right}");
        }
    }
}
