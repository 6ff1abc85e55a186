//! What a graph is made of.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Port;
use super::StateSpec;
use super::row_kind::{self, OnKind};
use crate::chain::pull::Pull;
use crate::chain::{Chain, WatermarkSpec};
use crate::erased::{DynSink, DynSource};
use crate::schema::StateSchema;
use crate::setting::Setting;
use crate::{Cloner, Mode, Operator, RowKind, SinkError};

/// A node of a graph, by its place in [`Graph::nodes`](crate::Graph::nodes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub usize);

/// Where an operator instance runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Place {
    /// Its worker, from 0.
    pub worker: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The mode of the run.
    pub mode: Mode,
    /// A number of the run that no other run in this process has.
    run: u64,
}

impl Place {
    /// A place, for those who run operators.
    pub fn new(worker: usize, workers: usize, mode: Mode) -> Self {
        Place { worker, workers, mode, run: 0 }
    }

    /// The same in the run of that number.
    #[must_use]
    pub fn in_run(self, run: u64) -> Self {
        Place { run, ..self }
    }

    /// Returns the number of the run, which its instances on all workers share: 0 outside of a run.
    pub fn run(self) -> u64 {
        self.run
    }
}

/// Makes one instance of an operator, on the worker that will run it.
pub type Make = Arc<dyn Fn(Place) -> Box<dyn Operator> + Send + Sync>;

/// How rows get from one node to the next.
#[derive(Clone)]
pub enum Route {
    /// They stay on their worker.
    Local,
    /// To the worker that holds their key's state: the sender has [labelled](crate::Batch::for_worker) each batch with it.
    ByKey,
    /// To all workers in turn, batch by batch.
    Rebalance,
    /// To every worker.
    Broadcast(Cloner),
    /// To the first worker.
    Single,
}

impl Route {
    /// The route in a word, for plans.
    pub fn describe(&self) -> &'static str {
        match self {
            Route::Local => "local",
            Route::ByKey => "by key",
            Route::Rebalance => "rebalance",
            Route::Broadcast(_) => "broadcast",
            Route::Single => "to one worker",
        }
    }
}

/// An edge, seen from the node that it leads to.
#[derive(Clone)]
pub struct Input {
    /// The node that it comes from.
    pub from: NodeId,
    /// Which of that node's outputs.
    pub port: usize,
    /// How rows travel.
    pub route: Route,
    /// Whether the node can [pull](crate::Batch::is_pulled) the rows of the source that it comes from.
    pub pulls: bool,
}

impl Input {
    /// An edge that rows travel so.
    pub(crate) fn by(from: NodeId, port: usize, route: Route) -> Self {
        Input { from, port, route, pulls: false }
    }

    /// An edge to a node that takes its rows through a chain.
    pub(crate) fn of_chain<P: Chain>(port: &Port) -> Self {
        let pulls = <P::Pulled as Pull<P::In>>::POSSIBLE;
        Input { from: port.node, port: port.output, route: Route::Local, pulls }
    }
}

/// What an operator does with the [kinds](RowKind) of rows.
#[derive(Clone, Copy, Debug)]
pub enum Kinds {
    /// Its outputs have rows of its input.
    Keeps,
    /// Its outputs have rows that it makes of those of its input, and of the same kind. It takes no changes, since what it
    /// makes of one need not be one.
    Makes,
    /// It takes and emits these.
    Declared {
        /// By input.
        takes: &'static [&'static [RowKind]],
        /// By output.
        emits: &'static [RowKind],
    },
}

/// The shortest time: what a watermark that stays behind another one is behind.
const INSTANT: Duration = Duration::from_micros(1);

/// An operator that runs as it is.
#[derive(Clone)]
pub struct OperatorSpec {
    /// Makes an instance.
    pub make: Make,
    /// Whether it keeps state, and so must take its records epoch by epoch.
    pub stateful: bool,
    /// How it assigns watermarks, if it does.
    pub watermark: Option<WatermarkSpec>,
    /// Whether its outputs have a watermark of their own, derived from that of the inputs.
    pub derives_watermark: bool,
    /// Whether its watermark is a microsecond behind that of its inputs. So it is where windows that touch are one: a
    /// row at the very end of a session belongs to it, and can come while the watermark is there.
    pub stays_behind: bool,
    /// Whether it loads rows from outside at the ends of epochs, and [waits](crate::Context::await_commit) for their commits.
    pub awaits_commits: bool,
    /// How many rows an instance holds at most while [others](crate::Holding) work on them, if it does; none is left at the end of an
    /// epoch.
    pub in_flight: Option<usize>,
    /// Its states that have names.
    pub states: Vec<StateSpec>,
    /// What it does with the kinds of rows.
    pub kinds: Kinds,
}

impl OperatorSpec {
    /// That of a chain of steps.
    pub(crate) fn of_chain(make: Make, watermark: Option<WatermarkSpec>) -> Self {
        let states = Vec::new();
        let kinds = Kinds::Keeps;
        OperatorSpec {
            make,
            stateful: false,
            watermark,
            derives_watermark: false,
            stays_behind: false,
            awaits_commits: false,
            in_flight: None,
            states,
            kinds,
        }
    }
}

/// An aggregation by key, in the three parts from which a run chooses.
#[derive(Clone)]
pub struct GroupedSpec {
    /// With one worker: the chain before, and the aggregation, as one operator.
    pub direct: Make,
    /// With several: the chain before, and what each worker can aggregate of its own records. Its batches are labelled
    /// with the worker that they are for.
    pub local: Make,
    /// With several: what merges it.
    pub merge: Make,
    /// How the chain before assigns watermarks, if it does.
    pub watermark: Option<WatermarkSpec>,
    /// See [`OperatorSpec::stays_behind`].
    pub stays_behind: bool,
    /// Whether the order in which records reach the first phase counts over several epochs: then a partition must stay on its
    /// worker.
    pub is_ordered: bool,
    /// The types of its state.
    pub schema: Arc<StateSchema>,
    /// The kind of the rows of output 0. Output 1, the late rows, has inserts.
    pub emits: RowKind,
}

/// A part of the graph that is typed at its edges and opaque inside: its maker lowers it into the engine's dataflow.
#[doc(hidden)]
#[derive(Clone)]
pub struct FragmentSpec {
    /// How it is lowered: a value that only the engine knows.
    pub lowering: Arc<dyn Any + Send + Sync>,
    /// The kinds of rows at its inputs and outputs.
    pub kinds: Kinds,
    /// Whether it is a part of the one nested dataflow that all parts of a graph share. Edges between parts are inside of it, and no
    /// part has event time.
    pub is_part: bool,
}

/// The two ways to place a sink.
#[derive(Clone)]
pub enum SinkSpec {
    /// One, written by the first worker.
    One(Arc<Mutex<Box<dyn DynSink>>>),
    /// One on each worker.
    PerWorker(Arc<dyn Fn(usize) -> Result<Box<dyn DynSink>, SinkError> + Send + Sync>),
}

/// What a node does.
#[derive(Clone)]
pub enum NodeKind {
    /// Reads.
    Source(Arc<dyn DynSource>),
    /// Computes.
    Operator(OperatorSpec),
    /// Aggregates by key. Output 0 is the result, output 1 the late rows.
    Grouped(GroupedSpec),
    /// Runs whatever its maker lowers it to.
    #[doc(hidden)]
    Fragment(FragmentSpec),
    /// Forwards what comes on any of its inputs.
    Forward,
    /// Writes.
    Sink {
        /// How.
        sink: SinkSpec,
        /// The kind of its rows.
        row_kind: RowKind,
        /// Whether it does not take rows of that kind, as far as that is known before it runs.
        refuses: bool,
        /// The node of the steps before it, which the sink runs itself where their results would not leave the worker.
        steps: Option<NodeId>,
        /// What it needs for itself alone, as far as that is known before it runs: see [`Sink::place`](crate::Sink::place).
        place: Option<PathBuf>,
    },
}

/// A stateless step inside a chain.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// The method: `map`.
    pub op: &'static str,
    /// The name that the user gave it.
    pub name: Option<String>,
    /// The user's line.
    pub location: &'static Location<'static>,
    /// What it does with the kind of its rows.
    pub(crate) on_kind: OnKind,
}

impl StepInfo {
    pub(crate) fn new(op: &'static str, location: &'static Location<'static>) -> Self {
        StepInfo { op, name: None, location, on_kind: OnKind::Keeps }
    }

    pub(super) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.op)
    }
}

/// A file and line of the user's.
pub(super) fn at(location: &Location<'_>) -> String {
    format!("{}:{}", location.file(), location.line())
}

/// A node of a graph.
#[derive(Clone)]
pub struct Node {
    /// Its place.
    pub id: NodeId,
    /// What it does.
    pub kind: NodeKind,
    /// The method that made it: `window`, `union`, `sink`.
    pub op: &'static str,
    /// The name that the user gave it.
    pub name: Option<String>,
    /// The identity that the user gave it.
    pub uid: Option<String>,
    /// The identity that follows from its place in the graph, for a node that has been given none.
    pub derived_uid: String,
    /// The stateless steps that are fused into it, in front of its own work.
    pub steps: Vec<StepInfo>,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// Its outputs.
    pub outputs: Vec<Output>,
    /// The user's line.
    pub location: &'static Location<'static>,
    /// More about it, for plans: the window, the aggregate, the file.
    pub detail: String,
    /// The settings that its state depends on, in order: see [`Setting`]. Those of a watermark are not among them.
    pub settings: Vec<Setting>,
}

/// An output of a node.
#[derive(Clone)]
pub struct Output {
    /// How to copy its batches, if it has several consumers.
    pub cloner: Option<Cloner>,
    /// What its rows mean.
    pub row_kind: RowKind,
    /// The node that made them of this kind: this one, or one above it.
    pub kind_from: NodeId,
}

pub(crate) struct NodeSpec {
    pub(crate) kind: NodeKind,
    pub(crate) op: &'static str,
    pub(crate) steps: Vec<StepInfo>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: usize,
    pub(crate) location: &'static Location<'static>,
    pub(crate) detail: String,
}

impl Node {
    pub(super) fn new(id: NodeId, spec: NodeSpec, before: &[Node]) -> Node {
        let parent = spec.inputs.first().and_then(|i| before.get(i.from.0));
        let outputs = row_kind::emitted(id, &spec, before)
            .into_iter()
            .map(|rows| Output { cloner: None, row_kind: rows.kind, kind_from: rows.by })
            .collect();
        let path = match parent {
            Some(parent) => format!("{}/{}", parent.uid(), spec.op),
            None => spec.op.to_owned(),
        };
        let twins = before
            .iter()
            .filter(|n| n.derived_uid == path || n.derived_uid.starts_with(&format!("{path}#")))
            .count();
        let derived_uid = if twins == 0 { path } else { format!("{path}#{}", twins + 1) };
        Node {
            id,
            kind: spec.kind,
            op: spec.op,
            name: None,
            uid: None,
            derived_uid,
            steps: spec.steps,
            inputs: spec.inputs,
            outputs,
            location: spec.location,
            detail: spec.detail,
            settings: Vec::new(),
        }
    }

    /// The identity of the node: given, or derived from the path of operators that leads to it.
    pub fn uid(&self) -> &str {
        self.uid.as_deref().unwrap_or(&self.derived_uid)
    }

    /// What the node is called: the given name, or its steps and its own work: `flat_map → filter → count`.
    pub fn label(&self) -> String {
        let own = match (&self.name, self.op) {
            (Some(name), _) => Some(name.as_str()),
            (None, "chain") => None,
            (None, op) => Some(op),
        };
        let parts: Vec<&str> = self.steps.iter().map(StepInfo::label).chain(own).collect();
        // A chain without steps is there only to take event times off.
        if parts.is_empty() { "pass".to_owned() } else { parts.join(" → ") }
    }

    /// Whether the node keeps state.
    pub fn is_stateful(&self) -> bool {
        match &self.kind {
            NodeKind::Grouped(_) => true,
            NodeKind::Operator(operator) => operator.stateful,
            NodeKind::Source(_) | NodeKind::Fragment(_) | NodeKind::Forward | NodeKind::Sink { .. } => false,
        }
    }

    /// The kind of rows that the node emits at its first output, or that a sink writes.
    pub fn row_kind(&self) -> RowKind {
        match &self.kind {
            NodeKind::Sink { row_kind, .. } => *row_kind,
            _ => self.outputs.first().map_or(RowKind::Insert, |output| output.row_kind),
        }
    }

    /// Whether the node is a part of the nested dataflow that all such nodes share.
    #[doc(hidden)]
    pub fn is_part(&self) -> bool {
        matches!(&self.kind, NodeKind::Fragment(fragment) if fragment.is_part)
    }

    /// Whether the outputs of the node have a watermark of their own, derived from that of its inputs.
    pub fn derives_watermark(&self) -> bool {
        matches!(&self.kind, NodeKind::Operator(operator) if operator.derives_watermark)
    }

    /// How far its watermark, and so that of its outputs, stays behind that of its inputs.
    pub fn behind(&self) -> Duration {
        let stays_behind = match &self.kind {
            NodeKind::Operator(operator) => operator.stays_behind,
            NodeKind::Grouped(grouped) => grouped.stays_behind,
            _ => false,
        };
        if stays_behind { INSTANT } else { Duration::ZERO }
    }

    /// Whether the node loads rows from outside at the ends of epochs.
    pub fn awaits_commits(&self) -> bool {
        matches!(&self.kind, NodeKind::Operator(operator) if operator.awaits_commits)
    }

    /// How many rows an instance holds at most while others work on them, if it does.
    pub fn in_flight(&self) -> Option<usize> {
        match &self.kind {
            NodeKind::Operator(operator) => operator.in_flight,
            _ => None,
        }
    }

    /// How the node assigns watermarks, if it does.
    pub fn watermark(&self) -> Option<WatermarkSpec> {
        match &self.kind {
            NodeKind::Operator(operator) => operator.watermark,
            NodeKind::Grouped(grouped) => grouped.watermark,
            NodeKind::Source(_) | NodeKind::Fragment(_) | NodeKind::Forward | NodeKind::Sink { .. } => None,
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.label(), self.location.file(), self.location.line())
    }
}
