//! `rebalance` and `broadcast`: records change workers. Keep no state.

use std::panic::Location;

use super::Stream;
use crate::Data;
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::graph::{Input, NodeKind, NodeSpec, Route};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Distributes the batches among all workers in turn.
    ///
    /// Use it if a source has fewer partitions than there are workers, or partitions of very different size.
    ///
    /// The records of a partition lose their order. So call `with_watermark` before `rebalance`, not after it: in
    /// continuous mode a watermark after it would follow the fastest worker and make records of the others late. If
    /// that is certain (with several workers and a source whose partitions are slices of one sequence, such as files),
    /// the query is refused. A stream of [upserts](crate::RowKind::Upsert) is refused, too, since the last row of a key
    /// would not always be its newest value.
    #[track_caller]
    pub fn rebalance(self) -> Stream<T, FromEdge<T, P::Time>>
    where
        T: Data,
    {
        self.reroute("rebalance", Location::caller(), Route::Rebalance)
    }

    /// Sends each record to every worker.
    #[track_caller]
    pub fn broadcast(self) -> Stream<T, FromEdge<T, P::Time>>
    where
        T: Data + Clone,
        <P::Time as TimeDomain>::Row<T>: Clone,
    {
        let location = Location::caller();
        self.reroute(
            "broadcast",
            location,
            Route::Broadcast(crate::cloner::<<P::Time as TimeDomain>::Row<T>>()),
        )
    }

    /// Sends all records to the first worker, which has them in one order.
    pub(crate) fn on_first_worker(
        self,
        location: &'static Location<'static>,
    ) -> Stream<T, FromEdge<T, P::Time>> {
        self.reroute("first worker", location, Route::Single)
    }

    #[track_caller]
    fn reroute(
        self,
        op: &'static str,
        location: &'static Location<'static>,
        route: Route,
    ) -> Stream<T, FromEdge<T, P::Time>> {
        let closed = self.boxed();
        let inputs = vec![Input::by(closed.node(), closed.port.output, route)];
        Stream::at(closed.graph().add(NodeSpec {
            kind: NodeKind::Forward,
            op,
            steps: Vec::new(),
            inputs,
            outputs: 1,
            location,
            detail: String::new(),
        }))
    }
}
