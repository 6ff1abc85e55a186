//! `map`: one record in, one record out. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::Row;
use crate::chain::{Chain, Step, Then, sealed};
use crate::graph::OnKind;

/// The step of [`Stream::map`].
#[derive(Debug, Clone)]
pub struct Map<F>(F);

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Transforms each record into another.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("doubled");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..3u64)).map(|n| n * 2).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 2, 4]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn map<U, F>(self, function: F) -> Stream<U, Then<P, Map<F>>>
    where
        U: Row,
        F: Fn(T) -> U + Send + Sync + 'static,
    {
        self.step("map", Location::caller(), |previous| Then::new(previous, Map(function)))
            .on_kind(OnKind::Makes)
    }
}

impl<F> sealed::Sealed for Map<F> {}

impl<T, U: Send + 'static, F: Fn(T) -> U + Send + Sync + 'static> Step<T> for Map<F> {
    type Out = U;

    #[inline(always)]
    fn apply<E: FnMut(U)>(&self, record: T, mut emit: E) {
        emit((self.0)(record));
    }
}

#[cfg(test)]
mod tests {
    use crate::Graph;
    use crate::testing::{numbers, outputs};

    #[test]
    fn every_record_becomes_one_record_in_the_same_order() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 3).map(|n| n.to_string())), ["0", "1", "2"]);
    }
}
