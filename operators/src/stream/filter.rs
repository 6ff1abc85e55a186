//! `filter`: passes the records that a predicate accepts. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::EventTime;
use crate::chain::feed::Rows;
use crate::chain::{Chain, Edge, Tap, WatermarkSpec};

/// The chain of [`Stream::filter`].
#[derive(Debug, Clone)]
pub struct Filter<P, F> {
    previous: P,
    predicate: F,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Keeps the records for which `predicate` is true.
    ///
    /// ```
    /// # use tidemill_operators::{Graph, testing::{numbers, outputs}};
    /// let graph = Graph::new("even");
    /// let even = numbers(&graph, 5).filter(|n| n % 2 == 0);
    /// assert_eq!(outputs(even), [0, 2, 4]);
    /// ```
    #[track_caller]
    pub fn filter<F>(self, predicate: F) -> Stream<T, Filter<P, F>>
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        self.step("filter", Location::caller(), |previous| Filter { previous, predicate })
    }
}

impl<P: Chain, F: Fn(&P::Out) -> bool + Send + Sync + 'static> Chain for Filter<P, F> {
    type In = P::In;
    type Out = P::Out;
    type Time = P::Time;
    type Feed = P::Feed;
    type Closed = Edge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        Edge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, P::Out)>(&self, rows: N, tap: &mut Tap, emit: &mut E) {
        self.previous.run(rows, tap, &mut |time, value| {
            if (self.predicate)(&value) {
                emit(time, value);
            }
        });
    }

    fn watermark(&self) -> Option<WatermarkSpec> {
        self.previous.watermark()
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
