//! `flat_map`: one record in, any number out. Keeps no state; its results have the record's event time.

use std::panic::Location;

use super::Stream;
use crate::Row;
use crate::chain::{Chain, Step, Then, sealed};
use crate::graph::OnKind;

/// The step of [`Stream::flat_map`].
#[derive(Debug, Clone)]
pub struct FlatMap<F>(F);

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Transforms each record into the items of an iterator.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("below");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..4u64)).flat_map(|n| 0..n).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 0, 1, 0, 1, 2]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn flat_map<I, F>(self, function: F) -> Stream<I::Item, Then<P, FlatMap<F>>>
    where
        I: IntoIterator<Item: Row>,
        F: Fn(T) -> I + Send + Sync + 'static,
    {
        self.step("flat_map", Location::caller(), |previous| Then::new(previous, FlatMap(function)))
            .on_kind(OnKind::Makes)
    }
}

impl<F> sealed::Sealed for FlatMap<F> {}

impl<T, I, F> Step<T> for FlatMap<F>
where
    I: IntoIterator,
    I::Item: Send + 'static,
    F: Fn(T) -> I + Send + Sync + 'static,
{
    type Out = I::Item;

    #[inline(always)]
    fn apply<E: FnMut(I::Item)>(&self, record: T, mut emit: E) {
        for item in (self.0)(record) {
            emit(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Graph;
    use crate::testing::{numbers, outputs};

    #[test]
    fn the_items_of_a_record_stay_together_and_in_order() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 3).flat_map(|n| vec![n, n * 10])), [0, 0, 1, 10, 2, 20]);
    }
}
