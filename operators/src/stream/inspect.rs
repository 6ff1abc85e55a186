//! `inspect`: looks at every record and passes it on. Keeps no state.

use std::panic::Location;

use super::Stream;
use crate::EventTime;
use crate::chain::feed::Rows;
use crate::chain::{Chain, Edge, Tap, WatermarkSpec};

/// The chain of [`Stream::inspect`].
#[derive(Debug, Clone)]
pub struct Inspect<P, F> {
    previous: P,
    function: F,
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Calls `function` with every record. After a restart a record may be seen again.
    ///
    /// ```
    /// # use tidemill_operators::{Graph, testing::{numbers, outputs}};
    /// let graph = Graph::new("printed");
    /// let printed = numbers(&graph, 2).inspect(|n| println!("{n}"));
    /// assert_eq!(outputs(printed), [0, 1]);
    /// ```
    #[track_caller]
    pub fn inspect<F>(self, function: F) -> Stream<T, Inspect<P, F>>
    where
        F: Fn(&T) + Send + Sync + 'static,
    {
        self.step("inspect", Location::caller(), |previous| Inspect { previous, function })
    }
}

impl<P: Chain, F: Fn(&P::Out) + Send + Sync + 'static> Chain for Inspect<P, F> {
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
            (self.function)(&value);
            emit(time, value);
        });
    }

    fn watermark(&self) -> Option<WatermarkSpec> {
        self.previous.watermark()
    }
}
