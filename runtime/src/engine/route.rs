//! How batches get to other workers.

use std::sync::Arc;

use tidemill_operators::Batch;
use timely::communication::allocator::thread::ThreadPuller;
use timely::communication::{Pull, Push};
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{DistributorPact, LogPuller, Pipeline};
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::InputCapability;
use timely::dataflow::operators::generic::InputHandleCore;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Stamp;

use super::Time;
use super::announcement::Announcement;
use super::edge_batch::EdgeBatch;
use super::stateless::Edge;
use crate::control::Control;

/// Where a batch goes.
pub(crate) enum Routing {
    /// To all workers in turn.
    Rebalance(usize),
    /// To the worker on the label.
    Labelled,
}

/// Deals batches out at once: nothing is held back to make fuller ones.
pub(crate) struct Router {
    pub(crate) routing: Routing,
    pub(crate) worker: usize,
    pub(crate) control: Arc<Control>,
}

impl Router {
    fn deliver<T: Clone, P: Push<Message<T, EdgeBatch>>>(
        control: &Control,
        from: usize,
        worker: usize,
        (batch, announcement): (Batch, Option<Arc<Announcement>>),
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let crossed = worker != from;
        if crossed {
            control.sources.sent(from, worker, batch.len());
        }
        let mut edge_batch = EdgeBatch { batch, crossed, announcement };
        if let Some(pusher) = pushers.get_mut(worker) {
            Message::push_at(&mut edge_batch, stamp.clone(), pusher);
        }
    }
}

impl Distributor<EdgeBatch> for Router {
    fn partition<T: Clone, P: Push<Message<T, EdgeBatch>>>(
        &mut self,
        edge_batch: &mut EdgeBatch,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let EdgeBatch { batch, announcement, .. } = std::mem::take(edge_batch);
        let (control, from) = (&self.control, self.worker);
        match &mut self.routing {
            Routing::Rebalance(next) => {
                let worker = *next % pushers.len();
                *next = worker + 1;
                Self::deliver(control, from, worker, (batch, announcement), stamp, pushers);
            }
            Routing::Labelled => {
                Self::deliver(control, from, batch.worker(), (batch, announcement), stamp, pushers);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, EdgeBatch>>>(&mut self, _stamp: &Stamp<T>, _pushers: &mut [P]) {}
}

/// An edge that leads into an operator, and how batches change workers on it.
pub(crate) struct Inflow<'scope> {
    pub(crate) edge: Edge<'scope>,
    pub(crate) router: Option<Router>,
}

impl<'scope> Inflow<'scope> {
    /// Connects the edge as an input of the operator. A connected input's times are promised to the outputs; the
    /// outputs of an operator with disconnected inputs depend only on what it holds.
    pub(crate) fn connect(self, builder: &mut OperatorBuilder<'scope, Time>, connected: bool) -> Inlet {
        match (self.router, connected) {
            (None, true) => Inlet::Local(builder.new_input(self.edge, Pipeline)),
            (None, false) => Inlet::Local(builder.new_input_connection(self.edge, Pipeline, [])),
            (Some(router), true) => {
                Inlet::Exchanged(builder.new_input(self.edge, DistributorPact(move |_| router)))
            }
            (Some(router), false) => Inlet::Exchanged(builder.new_input_connection(
                self.edge,
                DistributorPact(move |_| router),
                [],
            )),
        }
    }
}

type Handle<P> = InputHandleCore<Time, EdgeBatch, LogPuller<P>>;

/// An input of an operator.
pub(crate) enum Inlet {
    Local(Handle<ThreadPuller<Message<Time, EdgeBatch>>>),
    Exchanged(Handle<Box<dyn Pull<Message<Time, EdgeBatch>>>>),
}

impl Inlet {
    pub(crate) fn for_each(&mut self, take: impl FnMut(InputCapability<Time>, &mut EdgeBatch)) {
        match self {
            Inlet::Local(handle) => handle.for_each(take),
            Inlet::Exchanged(handle) => handle.for_each(take),
        }
    }
}
