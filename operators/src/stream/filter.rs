//! `filter`: passes the records that a predicate accepts. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::chain::{Chain, Step, Then, sealed};

/// The step of [`Stream::filter`].
#[derive(Debug, Clone)]
pub struct Filter<F>(F);

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Keeps the records for which `predicate` is true.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("even");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..5u64)).filter(|n| n % 2 == 0).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 2, 4]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn filter<F>(self, predicate: F) -> Stream<T, Then<P, Filter<F>>>
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        self.step("filter", Location::caller(), |previous| Then::new(previous, Filter(predicate)))
    }
}

impl<F> sealed::Sealed for Filter<F> {}

impl<T: Send + 'static, F: Fn(&T) -> bool + Send + Sync + 'static> Step<T> for Filter<F> {
    type Out = T;

    #[inline(always)]
    fn apply<E: FnMut(T)>(&self, record: T, mut emit: E) {
        if (self.0)(&record) {
            emit(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Graph;
    use crate::testing::{numbers, outputs};

    #[test]
    fn refused_records_leave_no_gap() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 10).filter(|n| n % 3 == 0).filter(|n| *n > 0)), [3, 6, 9]);
    }
}
