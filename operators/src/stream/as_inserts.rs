//! `as_inserts`: rows that replace earlier ones become rows of their own. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::chain::Chain;
use crate::graph::{OnKind, StepInfo};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Treats each row as an insert, whatever its [kind](crate::RowKind) is.
    ///
    /// What follows no longer sees that a row replaces an earlier one: an aggregate counts each version of a key's value, and a
    /// file becomes a log of all versions. Aggregates and watermarks refuse upserts and snapshots without it. The rows
    /// themselves stay the same.
    ///
    /// How often a key's value is emitted depends on the epochs of a run, and in continuous mode on its timing. So does
    /// what is computed from its versions.
    ///
    /// ```
    /// use tidemill_operators::{Graph, testing::{numbers, outputs}};
    ///
    /// let graph = Graph::new("versions");
    /// let counts = numbers(&graph, 5).key_by(|n| n % 2).count().update();
    /// let versions = counts.as_inserts().key_by(|(key, _)| *key).count().update();
    /// let mut rows = outputs(versions);
    /// rows.sort();
    /// assert_eq!(rows, [(0, 1), (1, 1)]);
    /// ```
    #[track_caller]
    pub fn as_inserts(mut self) -> Self {
        self.steps.push(StepInfo::new("as_inserts", Location::caller()));
        self.on_kind(OnKind::MakesInserts)
    }
}
