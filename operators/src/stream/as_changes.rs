//! `as_changes`: declares that the rows are changes. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::RowChange;
use crate::chain::Chain;
use crate::graph::{OnKind, StepInfo};

impl<T: Send + 'static, P: Chain<Out = RowChange<T>>> Stream<RowChange<T>, P> {
    /// Declares that the rows are [changes](crate::RowKind::Changes): each adds a row to a table or removes one.
    ///
    /// Use it on a source that reads a changelog, and after `.as_inserts().map(…)` that transforms changes. Accepts
    /// inserts and changes.
    ///
    /// ```
    /// use tidemill::{RowChange, prelude::*};
    ///
    /// let graph = Graph::new("changelog");
    /// let changes = graph.source(memory(0..5u64)).map(RowChange::insert).as_changes();
    /// // An aggregate would count each of them as one more row.
    /// changes.count().update().sink(discard().0);
    /// assert!(graph.validate().is_err());
    /// ```
    #[track_caller]
    pub fn as_changes(mut self) -> Self {
        self.steps.push(StepInfo::new("as_changes", Location::caller()));
        self.on_kind(OnKind::MakesChanges)
    }
}
