//! Progress of a query, with the names of Spark's `StreamingQueryProgress`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidemill_operators::{EventTime, Mode, ProcessingTime};

/// The last committed epoch, and the totals of the query so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Progress {
    /// The name of the query.
    pub name: String,
    /// The mode in which it runs.
    pub mode: Mode,
    /// The clock when the epoch was committed, in microseconds since 1970-01-01T00:00:00Z.
    pub timestamp: ProcessingTime,
    /// The epoch; `None` before the first commit.
    pub epoch: Option<u64>,
    /// Rows read in the epoch, over all sources.
    pub num_input_rows: u64,
    /// Rows per second since the epoch before was committed.
    pub input_rows_per_second: f64,
    /// Rows per second of the epoch's own duration.
    pub processed_rows_per_second: f64,
    /// Rows written in the epoch, over all sinks.
    pub num_output_rows: u64,
    /// Rows per second since the epoch before was committed.
    pub output_rows_per_second: f64,
    /// How long the epoch took, in microseconds by phase.
    pub duration_us: Durations,
    /// The watermark, the least over all streams; `None` without event time.
    pub watermark: Option<EventTime>,
    /// The sources; before the first commit as the query begins with them.
    pub sources: Vec<SourceProgress>,
    /// The operators that keep state.
    pub state_operators: Vec<StateProgress>,
    /// Maximum of the memory that rows in state have taken so far, in bytes, summed over workers; 0 without `--state-memory`.
    pub state_memory: u64,
    /// Bytes of state that have been spilled to temporary files so far.
    pub spilled: u64,
    /// Late rows so far, over all operators.
    pub late_rows: u64,
    /// Rows read so far, over all sources, also in epochs that are not committed yet.
    pub total_input_rows: u64,
    /// Rows written so far, over all sinks.
    pub total_output_rows: u64,
}

/// How long an epoch took, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Durations {
    /// Asking the sources and fixing the ranges (micro-batch).
    pub planning: u64,
    /// From the plan until everything was read.
    pub reading: u64,
    /// From then until every sink had everything.
    pub processing: u64,
    /// From then until every sink had committed.
    pub commit: u64,
    /// All of it.
    pub trigger_execution: u64,
}

/// A source in [`Progress`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SourceProgress {
    /// What it reads.
    pub description: String,
    /// Rows read in the epoch.
    pub num_input_rows: u64,
    /// Malformed rows skipped so far.
    pub skipped_rows: u64,
    /// With [`Backpressure::Pid`](crate::Backpressure): the rate at which it is read, in rows per second, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<f64>,
    /// The next row to be read after the last commit, of every partition.
    pub end_offset: BTreeMap<u32, serde_json::Value>,
}

/// An operator with state in [`Progress`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StateProgress {
    /// The operator.
    pub operator_name: String,
    /// Its identity.
    pub uid: String,
    /// Entries of state.
    pub num_rows_total: u64,
    /// Rows taken so far.
    pub rows_in: u64,
    /// Rows sent so far.
    pub rows_out: u64,
    /// Late rows so far.
    pub late_rows: u64,
    /// With [`Options::with_top_keys`](crate::Options::with_top_keys): the keys of most rows, in that order. Aggregates
    /// have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_keys: Vec<TopKey>,
}

/// A key of an operator with state, in [`StateProgress`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TopKey {
    /// The key as JSON; a key of more than 200 characters is cut off.
    pub key: String,
    /// The share of the operator's rows that have the key, in percent, rounded down; keys of less than one percent are left out.
    ///
    /// It is an estimate, which can be a few percent too low and is hardly too high: each worker counts 64 keys, in a sample of its rows.
    /// Later rows count more: after every eight million rows all counts are halved.
    pub percent: u8,
}

/// How a query ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Summary {
    /// How many epochs were committed.
    pub epochs: u64,
    /// Rows read, over all sources.
    pub input_rows: u64,
    /// Rows written, over all sinks.
    pub output_rows: u64,
    /// Late rows, over all operators.
    pub late_rows: u64,
    /// Malformed rows skipped, over all sources.
    pub skipped_rows: u64,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// How often it was [started again](crate::Options::with_restart); the other figures count from the last start.
    #[serde(default)]
    pub restarts: u64,
    /// The last progress.
    pub last: Progress,
}

/// Prints one line without the figures that are zero: `1000 rows in, 500 out, 3 late, 2 epochs, 0.125 s`.
///
/// ```
/// use tidemill::prelude::*;
///
/// let graph = Graph::new("count");
/// graph.source(memory(0..1_000u64)).sink(discard().0);
/// let summary = graph.run(Options::default())?.to_string();
/// assert!(summary.starts_with("1000 rows in, 1000 out, "));
/// # Ok::<(), tidemill::RunError>(())
/// ```
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in, {} out", self.input_rows, one_or("row", self.input_rows), self.output_rows)?;
        if self.late_rows > 0 {
            write!(f, ", {} late", self.late_rows)?;
        }
        if self.skipped_rows > 0 {
            write!(f, ", {} malformed", self.skipped_rows)?;
        }
        write!(f, ", {} {}, {:.3} s", self.epochs, one_or("epoch", self.epochs), self.seconds)?;
        if self.restarts > 0 {
            write!(f, ", after {} {}", self.restarts, one_or("restart", self.restarts))?;
        }
        Ok(())
    }
}

fn one_or(what: &str, number: u64) -> String {
    format!("{what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_in_a_line_leaves_out_what_is_nothing() {
        let mut summary = Summary { input_rows: 1, epochs: 2, seconds: 0.1254, ..Summary::default() };
        assert_eq!(summary.to_string(), "1 row in, 0 out, 2 epochs, 0.125 s");
        (summary.late_rows, summary.skipped_rows, summary.epochs) = (3, 4, 1);
        assert_eq!(summary.to_string(), "1 row in, 0 out, 3 late, 4 malformed, 1 epoch, 0.125 s");
        summary.restarts = 1;
        assert!(summary.to_string().ends_with(", 1 epoch, 0.125 s, after 1 restart"), "{summary}");
    }
}
