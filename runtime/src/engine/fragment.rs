//! Hosts a fragment: a part of the dataflow that its maker builds, between two operators of the engine.
//!
//! The *entry* has all inputs of the fragment. It is aligned by epoch, like an operator with state: it passes batches on epoch
//! by epoch, and decides with which watermark an epoch ends. Its outputs are held at the least watermark, so the inside sees
//! times that differ in the epoch only. A nested scope may therefore have a timestamp without a watermark: timely derives the
//! time at which a message was consumed from the one inside, and one that had entered under a watermark would be reported as
//! consumed at a time at which none was sent.
//!
//! The *exit* counts the rows that leave, at the time at which they leave. An epoch is complete behind it once nothing of it
//! is left inside, whatever the inside consists of; its watermark is in the ledger, by number. So behind a fragment event time
//! advances only at the ends of epochs.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::{Batch, Context, Epoch, Mode, Operator, OperatorError, Waker};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::DistributorPact;
use timely::progress::operate::{Connectivity, FrontierInterest, SharedProgress};
use timely::progress::timestamp::Refines;
use timely::progress::{Operate, Timestamp};
use timely::scheduling::Schedule;

use super::Time;
use super::edge_batch::EdgeBatch;
use super::host::{enter, receive, waker};
use super::route::{Router, Routing};
use super::stateless::Edge;
use crate::control::Control;
use crate::error::{RunError, Site};
#[cfg(feature = "tables")]
use crate::published::Board;

/// How a fragment is lowered: what its node in the graph holds.
pub(crate) struct Lowering(Box<dyn Lower>);

/// Builds the inside of a fragment. Called once on each worker, and again at each restart.
pub(crate) trait Lower: Send + Sync + 'static {
    /// Returns an edge for each output of the fragment. All workers build the same operators in the same order.
    ///
    /// Batches come in at (epoch, least watermark). What comes out must be at such a time too, that of the epoch to which it
    /// belongs.
    fn lower<'scope>(&self, inside: Inside<'scope>) -> Vec<Edge<'scope>>;
}

impl Lowering {
    /// As the graph holds it.
    pub(crate) fn shared(lower: impl Lower) -> Arc<dyn Any + Send + Sync> {
        Arc::new(Lowering(Box::new(lower)))
    }

    /// Builds the inside of a node's fragment.
    pub(super) fn lower<'scope>(
        spec: &(dyn Any + Send + Sync),
        node: &Node,
        inside: Inside<'scope>,
    ) -> Result<Vec<Edge<'scope>>, RunError> {
        let refused = |problem: String| RunError::Engine(format!("{} {problem}", Site::of(node)));
        let Some(Lowering(lower)) = spec.downcast_ref() else {
            return Err(refused("is a fragment for another engine".to_owned()));
        };
        let edges = lower.lower(inside);
        if edges.len() != node.outputs.len() {
            let (there, outputs) = (edges.len(), node.outputs.len());
            return Err(refused(format!("is a fragment of {outputs} outputs, but `lower` returned {there}")));
        }
        Ok(edges)
    }
}

/// Where a fragment is built.
pub(crate) struct Inside<'scope> {
    pub(crate) scope: Scope<'scope, Time>,
    /// An edge for each input of the fragment.
    pub(crate) inputs: Vec<Edge<'scope>>,
    pub(crate) host: FragmentHost,
}

impl<'scope> Inside<'scope> {
    /// Builds a nested scope. What panics in it while it runs is taken for code of the fragment's node; an operator outside of
    /// it [enters](FragmentHost::enter) the node itself.
    pub(crate) fn scoped<T, R>(&self, name: &str, build: impl FnOnce(Scope<'_, T>) -> R) -> R
    where
        T: Timestamp + Refines<Time>,
    {
        let (result, subgraph, slot) = self.scope.scoped_raw::<T, R, _>(name, build);
        let host = self.host.clone();
        slot.install(Box::new(OfNode { host, operator: Box::new(subgraph) }));
        result
    }
}

/// What the operators inside a fragment have to do with the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FragmentHost {
    node: NodeId,
    site: Site,
    worker: usize,
    control: Arc<Control>,
}

impl FragmentHost {
    pub(super) fn new(node: &Node, worker: usize, control: &Arc<Control>) -> FragmentHost {
        FragmentHost { node: node.id, site: Site::of(node), worker, control: Arc::clone(control) }
    }

    /// Exchanges batches by their [labels](Batch::for_worker), in any scope. What is on its way counts as queued for its
    /// worker, until it is [received](Self::receive).
    pub(crate) fn exchange(&self) -> DistributorPact<impl FnOnce(usize) -> Router + use<>> {
        let control = Arc::clone(&self.control);
        let router = Router { routing: Routing::Labelled, worker: self.worker, control };
        DistributorPact(move |_| router)
    }

    /// Takes a batch off an edge.
    pub(crate) fn receive(&self, edge_batch: &mut EdgeBatch) -> Batch {
        receive(&self.control, self.worker, edge_batch).0
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.control.peers.total()
    }

    /// How the graph is run.
    pub(crate) fn mode(&self) -> Mode {
        self.control.mode
    }

    /// The first epoch of the run.
    pub(crate) fn first_epoch(&self) -> Epoch {
        self.control.resume.first()
    }

    /// The worker that holds the keys of a hash.
    pub(crate) fn worker_of(&self, hash: u64) -> usize {
        self.control.resume.key_groups.of(hash).worker(self.workers())
    }

    /// What all workers of the run share; the first that asks makes it. None if that is of another type.
    pub(crate) fn shared<T: Default + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let shared = self.control.parts.get_or_init(|| Arc::new(T::default()));
        Arc::clone(shared).downcast().ok()
    }

    /// Where tables are published; none if the graph publishes none.
    #[cfg(feature = "tables")]
    pub(crate) fn published(&self) -> Option<&Arc<Board>> {
        self.control.published.as_ref()
    }

    /// The worker of this thread.
    #[cfg(feature = "tables")]
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Wakes an operator of any scope, from any thread.
    pub(crate) fn waker<T: Timestamp>(&self, scope: Scope<'_, T>, address: &[usize]) -> Waker {
        waker(scope, address)
    }

    /// Notes that this thread runs code of the fragment's node from here on.
    pub(crate) fn enter(&self) {
        enter(self.node);
    }

    /// Ends the query with an error of the fragment's node.
    pub(crate) fn fail(&self, error: OperatorError) {
        self.control.fail(RunError::Operator { site: self.site.clone(), error });
    }

    /// Reports how many entries the fragment keeps on this worker.
    pub(crate) fn report_state(&self, rows: usize) {
        if let Some(counters) = self.control.counters(self.node, self.worker) {
            counters.state_rows.set(rows as u64);
        }
    }
}

/// An operator of timely, a nested scope for one, that runs code of a node.
struct OfNode {
    host: FragmentHost,
    operator: Box<dyn Operate<Time>>,
}

impl Operate<Time> for OfNode {
    fn local(&self) -> bool {
        self.operator.local()
    }

    fn inputs(&self) -> usize {
        self.operator.inputs()
    }

    fn outputs(&self) -> usize {
        self.operator.outputs()
    }

    fn initialize(
        self: Box<Self>,
    ) -> (Connectivity<()>, Rc<RefCell<SharedProgress<Time>>>, Box<dyn Schedule>) {
        let OfNode { host, operator } = *self;
        let (connectivity, progress, schedule) = operator.initialize();
        (connectivity, progress, Box::new(ScheduleOfNode { host, schedule }))
    }

    fn notify_me(&self) -> &[FrontierInterest] {
        self.operator.notify_me()
    }
}

struct ScheduleOfNode {
    host: FragmentHost,
    schedule: Box<dyn Schedule>,
}

impl Schedule for ScheduleOfNode {
    fn name(&self) -> &str {
        self.schedule.name()
    }

    fn path(&self) -> &[usize] {
        self.schedule.path()
    }

    fn schedule(&mut self) -> bool {
        self.host.enter();
        let reports = &self.host.control.reports;
        if reports.timers.is_stepped() {
            reports.counters.note_scope();
        }
        self.schedule.schedule()
    }
}

/// Passes each input on to the output of the same number: both ends of a fragment.
pub(super) struct Lanes;

impl Operator for Lanes {
    fn batch(&mut self, input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        context.send(input, batch);
        Ok(())
    }
}
