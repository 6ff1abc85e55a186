//! `map`: one record in, one record out. Keeps no state; a record keeps its event time.

use std::panic::Location;

use super::Stream;
use crate::EventTime;
use crate::chain::feed::Rows;
use crate::chain::{Chain, Edge, Tap, WatermarkSpec};

/// The chain of [`Stream::map`].
#[derive(Debug, Clone)]
pub struct Map<P, F> {
    previous: P,
    function: F,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Turns every record into another.
    ///
    /// ```
    /// # use tidemill_operators::{Graph, testing::{numbers, outputs}};
    /// let graph = Graph::new("doubled");
    /// let doubled = numbers(&graph, 3).map(|n| n * 2);
    /// assert_eq!(outputs(doubled), [0, 2, 4]);
    /// ```
    #[track_caller]
    pub fn map<U, F>(self, function: F) -> Stream<U, Map<P, F>>
    where
        U: Send + 'static,
        F: Fn(T) -> U + Send + Sync + 'static,
    {
        self.step("map", Location::caller(), |previous| Map { previous, function })
    }
}

impl<P: Chain, U: Send + 'static, F: Fn(P::Out) -> U + Send + Sync + 'static> Chain for Map<P, F> {
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
        self.previous.run(rows, tap, &mut |time, value| emit(time, (self.function)(value)));
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
    fn every_record_becomes_one_record_in_the_same_order() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 3).map(|n| n.to_string())), ["0", "1", "2"]);
    }
}
