//! `filter_map`: one record in, one or none out. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::EventTime;
use crate::chain::feed::Rows;
use crate::chain::{Chain, Edge, Tap, WatermarkSpec};

/// The chain of [`Stream::filter_map`].
#[derive(Debug, Clone)]
pub struct FilterMap<P, F> {
    previous: P,
    function: F,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Turns every record into another, or drops it.
    ///
    /// ```
    /// # use tidemill_operators::{Graph, testing::{numbers, outputs}};
    /// let graph = Graph::new("halves");
    /// let halves = numbers(&graph, 5).filter_map(|n| (n % 2 == 0).then_some(n / 2));
    /// assert_eq!(outputs(halves), [0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn filter_map<U, F>(self, function: F) -> Stream<U, FilterMap<P, F>>
    where
        U: Send + 'static,
        F: Fn(T) -> Option<U> + Send + Sync + 'static,
    {
        self.step("filter_map", Location::caller(), |previous| FilterMap { previous, function })
    }
}

impl<P: Chain, U: Send + 'static, F: Fn(P::Out) -> Option<U> + Send + Sync + 'static> Chain
    for FilterMap<P, F>
{
    type In = P::In;
    type Out = U;
    type Time = P::Time;
    type Feed = P::Feed;
    type Closed = Edge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        Edge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, U)>(&self, rows: N, tap: &mut Tap, emit: &mut E) {
        self.previous.run(rows, tap, &mut |time, value| {
            if let Some(value) = (self.function)(value) {
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
    fn a_record_for_which_there_is_nothing_leaves_nothing() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 3).filter_map(|n| n.checked_sub(2))), [0]);
    }
}
