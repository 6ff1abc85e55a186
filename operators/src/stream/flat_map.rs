//! `flat_map`: one record in, any number out. Keeps no state; what comes of a record has the record's event time.

use std::panic::Location;

use super::Stream;
use crate::EventTime;
use crate::chain::feed::Rows;
use crate::chain::{Chain, Edge, Tap, WatermarkSpec};

/// The chain of [`Stream::flat_map`].
#[derive(Debug, Clone)]
pub struct FlatMap<P, F> {
    previous: P,
    function: F,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Turns every record into all items of an iterator.
    ///
    /// ```
    /// # use tidemill_operators::{Graph, testing::{numbers, outputs}};
    /// let graph = Graph::new("below");
    /// let below = numbers(&graph, 4).flat_map(|n| 0..n);
    /// assert_eq!(outputs(below), [0, 0, 1, 0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn flat_map<I, F>(self, function: F) -> Stream<I::Item, FlatMap<P, F>>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(T) -> I + Send + Sync + 'static,
    {
        self.step("flat_map", Location::caller(), |previous| FlatMap { previous, function })
    }
}

impl<P, I, F> Chain for FlatMap<P, F>
where
    P: Chain,
    I: IntoIterator,
    I::Item: Send + 'static,
    F: Fn(P::Out) -> I + Send + Sync + 'static,
{
    type In = P::In;
    type Out = I::Item;
    type Time = P::Time;
    type Feed = P::Feed;
    type Closed = Edge<Self::Out, Self::Time>;

    fn closed() -> Self::Closed {
        Edge::new()
    }

    #[inline(always)]
    fn run<N: Rows<P::In>, E: FnMut(EventTime, I::Item)>(&self, rows: N, tap: &mut Tap, emit: &mut E) {
        self.previous.run(rows, tap, &mut |time, value| {
            for item in (self.function)(value) {
                emit(time, item);
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
    fn the_items_of_a_record_stay_together_and_in_order() {
        let graph = Graph::new("test");
        assert_eq!(outputs(numbers(&graph, 3).flat_map(|n| vec![n, n * 10])), [0, 0, 1, 10, 2, 20]);
    }
}
