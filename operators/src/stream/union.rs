//! `union`: the records of two streams in one, in the order in which they arrive. Keeps no state. The watermark of the
//! union is the lesser of the two watermarks.

use std::panic::Location;

use super::Stream;
use crate::chain::{Chain, FromEdge};
use crate::graph::{Input, NodeKind, NodeSpec, Route};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Merges this stream with another of the same type. Both must have rows of one [kind](crate::RowKind).
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("both");
    /// let both = graph.source(memory(0..3u64)).union(graph.source(memory(0..5u64)).map(|n| n + 100));
    /// # let _ = both;
    /// ```
    #[track_caller]
    pub fn union<Q>(self, other: Stream<T, Q>) -> Stream<T, FromEdge<T, P::Time>>
    where
        Q: Chain<Out = T, Time = P::Time>,
    {
        let location = Location::caller();
        let (left, right) = (self.boxed(), other.boxed());
        let graph = left.graph();
        let foreign = !graph.is(&right.graph());
        let inputs =
            [&left, &right].map(|s| Input::by(s.node(), s.port.output, Route::Local)).into_iter().collect();
        let port = graph.add(NodeSpec {
            kind: NodeKind::Forward,
            op: "union",
            steps: Vec::new(),
            inputs,
            outputs: 1,
            location,
            detail: String::new(),
        });
        if foreign {
            graph.problem(port.node, "the two streams belong to different graphs: build both on one `Graph`");
        }
        Stream::at(port)
    }
}
