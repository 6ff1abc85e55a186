//! The graph as a value: nodes and edges, built on the caller's thread before anything runs.

mod explain;
mod node;
mod row_kind;
mod state_spec;
mod validate;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use self::explain::Plan;
pub use self::node::{
    FragmentSpec, GroupedSpec, Input, Kinds, Make, Node, NodeId, NodeKind, OperatorSpec, Output, Place,
    Route, SinkSpec, StepInfo,
};
pub use self::row_kind::refused_by_sink;
pub use self::state_spec::StateSpec;
pub use self::validate::{GraphError, Problem};

pub(crate) use self::node::NodeSpec;
pub(crate) use self::row_kind::{OnKind, after};

pub use crate::setting::Setting;
use crate::turn;
use crate::{Cloner, RowKind};

/// A graph of operators: built by methods on its streams, then run.
///
/// Cheap to clone: all clones are the same graph.
///
/// ```
/// use tidemill::prelude::*;
///
/// let graph = Graph::new("squares");
/// let (sink, table) = memory_sink();
/// graph.source(memory(0..4u64)).map(|n| n * n).sink(sink);
/// graph.run(Options::default())?;
/// assert_eq!(table.snapshot(), [0, 1, 4, 9]);
/// # Ok::<(), RunError>(())
/// ```
///
/// If a graph with sinks is dropped without being run, validated or explained, a warning is logged (by `tracing`).
#[derive(Clone)]
#[must_use = "a graph does nothing until it is run: `graph.run(options)?`"]
pub struct Graph {
    shared: Arc<Mutex<Inner>>,
}

struct Inner {
    name: String,
    nodes: Vec<Node>,
    problems: Vec<(NodeId, String)>,
    /// Whether it was run, validated or explained.
    is_used: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let is_sink = |node: &&Node| matches!(node.kind, NodeKind::Sink { .. });
        if let Some(sink) = self.nodes.iter().find(is_sink)
            && !self.is_used
            && !std::thread::panicking()
        {
            tracing::warn!(
                graph = %self.name, sink = %sink.label(), at = %sink.location,
                "the graph is dropped and was never run, so its sinks have written nothing: call `graph.run(options)?`"
            );
        }
    }
}

impl Graph {
    /// Returns an empty graph.
    ///
    /// `name` is the name of the query in progress reports, logs, errors and checkpoints.
    pub fn new(name: &str) -> Self {
        Graph {
            shared: Arc::new(Mutex::new(Inner {
                name: name.to_owned(),
                nodes: Vec::new(),
                problems: Vec::new(),
                is_used: false,
            })),
        }
    }

    /// Returns the name of the query.
    pub fn name(&self) -> String {
        self.lock().name.clone()
    }

    /// Returns the plan of the graph: nodes, chains, exchanges, state and source lines.
    ///
    /// It prints as text, Mermaid, DOT or JSON.
    pub fn explain(&self) -> Plan {
        let inner = self.used();
        Plan::of(&inner.name, &inner.nodes)
    }

    /// Checks the graph without running it.
    ///
    /// # Errors
    ///
    /// [`GraphError`] lists each problem with the name of the operator and its line in your program.
    pub fn validate(&self) -> Result<(), GraphError> {
        let inner = self.used();
        validate::validate(&inner.nodes, &inner.problems)
    }

    /// Returns a number that is the same for graphs with the same operators, uids and edges.
    ///
    /// Names, closures and source lines do not change it.
    pub fn fingerprint(&self) -> u64 {
        let inner = self.lock();
        let shape: Vec<_> = inner
            .nodes
            .iter()
            .map(|n| {
                let inputs: Vec<_> =
                    n.inputs.iter().map(|i| (i.from.0, i.port, i.route.describe())).collect();
                (n.op, n.uid.clone(), n.detail.clone(), n.outputs.len(), inputs)
            })
            .collect();
        crate::hash_key(&shape)
    }

    /// The nodes, in an order in which every node comes after its inputs. For those who run graphs.
    pub fn nodes(&self) -> Vec<Node> {
        self.used().nodes.clone()
    }

    /// Whether both are handles on one graph.
    pub(crate) fn is(&self, other: &Graph) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(crate) fn problem(&self, node: NodeId, message: impl Into<String>) {
        self.lock().problems.push((node, message.into()));
    }

    pub(crate) fn add(&self, spec: NodeSpec) -> Port {
        let mut inner = self.lock();
        let node = NodeId(inner.nodes.len());
        let built = Node::new(node, spec, &inner.nodes);
        inner.nodes.push(built);
        drop(inner);
        Port { graph: self.clone(), node, output: 0 }
    }

    fn used(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        inner.is_used = true;
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding the lock, and a graph half changed is still a graph.
        turn::lock(&self.shared)
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.lock();
        f.debug_struct("Graph").field("name", &inner.name).field("nodes", &inner.nodes.len()).finish()
    }
}

/// An output of a node: where a stream hangs on.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) graph: Graph,
    pub(crate) node: NodeId,
    pub(crate) output: usize,
}

impl Port {
    pub(crate) fn sibling(&self, output: usize) -> Port {
        Port { output, ..self.clone() }
    }

    /// The kind of the rows of this output.
    pub(crate) fn row_kind(&self) -> RowKind {
        let inner = self.graph.lock();
        let output = inner.nodes.get(self.node.0).and_then(|node| node.outputs.get(self.output));
        output.map_or(RowKind::Insert, |output| output.row_kind)
    }

    /// The kind that rows had before [`as_inserts`](crate::Stream::as_inserts) made them inserts, in steps that follow this
    /// output or in front of it.
    pub(crate) fn made_inserts_of(&self, steps: &[StepInfo]) -> Option<RowKind> {
        let inner = self.graph.lock();
        row_kind::made_inserts_of(&inner.nodes, self, steps)
    }

    /// The greatest delay of the watermarks that this output depends on; `None` if there is none, or one is punctuated.
    pub(crate) fn watermark_delay(&self) -> Option<Duration> {
        let inner = self.graph.lock();
        let (mut delay, mut next, mut seen) = (None, vec![self.node], BTreeSet::new());
        while let Some(node) = next.pop() {
            let Some(node) = inner.nodes.get(node.0).filter(|node| seen.insert(node.id)) else { continue };
            match node.watermark() {
                Some(spec) => delay = delay.max(Some(spec.delay?)),
                None => next.extend(node.inputs.iter().map(|input| input.from)),
            }
        }
        delay
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.graph.lock().nodes.get_mut(self.node.0) {
            change(node);
        }
    }

    pub(crate) fn set_cloner(&self, cloner: Cloner) {
        self.update(|node| {
            if let Some(output) = node.outputs.get_mut(self.output) {
                output.cloner = Some(cloner);
            }
        });
    }
}
