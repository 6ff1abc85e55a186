//! `as_inserts`: declares that rows do not replace each other. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::chain::Chain;
use crate::graph::{OnKind, StepInfo};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Declares that each row is an insert, also if it was of another [kind](crate::RowKind).
    ///
    /// Later operators then ignore that a row replaces an earlier one: an aggregate counts each version of a key's
    /// value, and a file contains all versions. Without this call, aggregates and watermarks refuse upserts and
    /// snapshots. The rows themselves stay the same.
    ///
    /// The number of versions of a value depends on the epochs of a run, and in continuous mode on timing. So do
    /// results that are computed from the versions.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("versions");
    /// let counts = graph.source(memory(0..5u64)).key_by(|n| n % 2).count().update();
    /// let (sink, table) = memory_sink();
    /// counts.as_inserts().key_by(|(key, _)| *key).count().update().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(0, 1), (1, 1)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn as_inserts(mut self) -> Self {
        self.steps.push(StepInfo::new("as_inserts", Location::caller()));
        self.on_kind(OnKind::MakesInserts)
    }
}
