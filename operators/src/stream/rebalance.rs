//! `rebalance` and `broadcast`: records change workers. Keep no state.

use std::panic::Location;

use super::Stream;
use crate::Data;
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::graph::{Input, NodeKind, NodeSpec, Route};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Distributes the records among all workers in turn, batch by batch: for a source with fewer partitions than workers, or
    /// with uneven ones.
    ///
    /// Records lose the order of their partition. So assign event times before it, not after: in continuous mode a watermark
    /// after it would follow the faster worker. Where that is certain to make records late (several
    /// workers, a source whose partitions are slices of one sequence, as those of files are), the query is refused. So are
    /// [upserts](crate::RowKind::Upsert): the last row of a key need not be its newest value behind this.
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
