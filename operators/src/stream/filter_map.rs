//! `filter_map`: one record in, one or none out. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::Row;
use crate::chain::{Chain, Step, Then, sealed};
use crate::graph::OnKind;

/// The step of [`Stream::filter_map`].
#[derive(Debug, Clone)]
pub struct FilterMap<F>(F);

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Transforms each record into another, or drops it.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("halves");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..5u64)).filter_map(|n| (n % 2 == 0).then_some(n / 2)).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 1, 2]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn filter_map<U, F>(self, function: F) -> Stream<U, Then<P, FilterMap<F>>>
    where
        U: Row,
        F: Fn(T) -> Option<U> + Send + Sync + 'static,
    {
        self.step("filter_map", Location::caller(), |previous| Then::new(previous, FilterMap(function)))
            .on_kind(OnKind::Makes)
    }
}

impl<F> sealed::Sealed for FilterMap<F> {}

impl<T, U: Send + 'static, F: Fn(T) -> Option<U> + Send + Sync + 'static> Step<T> for FilterMap<F> {
    type Out = U;

    #[inline(always)]
    fn apply<E: FnMut(U)>(&self, record: T, mut emit: E) {
        if let Some(out) = (self.0)(record) {
            emit(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Graph;
    use crate::testing::{numbers, outputs};

    #[test]
    fn a_record_for_which_there_is_nothing_leaves_nothing() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 3).filter_map(|n| n.checked_sub(2))), [0]);
    }
}
