//! The plan of a run: what each node runs as, on every worker alike.
//!
//! Whether there is one worker or more is asked here and nowhere else. With one worker nothing is exchanged, and an aggregation
//! is one operator. With more it is two: of each worker's own records, and of the keys that each worker holds.
//!
//! A sink is an operator of its own, unless an operator that keeps something is the only one before it and on the same worker:
//! that writes to the sink itself, without a channel between them. The steps in front of a sink run inside the sink where
//! they stay on the worker. ARCHITECTURE.md says what both save.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_operators::graph::{Input, Node, NodeId, NodeKind, Place, Route};
use tidemill_operators::{DynSource, Mode, Operator};

use super::moves::leaves_no_trace;
use super::{Layout, from_origin};
use crate::ledger::{DomainId, DomainSpec};

/// What a node runs as.
#[derive(Debug)]
pub(crate) enum Runs {
    /// An operator that reads.
    Source(PlannedSource),
    /// An operator that keeps nothing between batches.
    Stateless,
    /// An operator aligned by epoch, which may keep state.
    Aligned(Aligned),
    /// An aggregation in one operator.
    OnePhase(Aligned),
    /// An aggregation in two operators; the sinks are those of the second.
    TwoPhases(Aligned),
    /// What the maker of the fragment lowers it to, behind an operator that is aligned by epoch.
    Fragment(Aligned),
    /// A part of the nested dataflow of all parts, as its maker lowers it.
    Part,
    /// An operator that writes; it first runs the steps of that node.
    Sink { steps: Option<NodeId> },
    /// Inside the operator of another node.
    Inside,
}

/// How a source reads.
#[derive(Clone, Debug)]
pub(crate) struct PlannedSource {
    /// The node that takes all rows on the worker that reads them, and may pull them.
    pub(crate) pulled_by: Option<NodeId>,
    /// The domains to which it announces its batches.
    pub(crate) announces: Option<Arc<[DomainId]>>,
    /// Whether the run before had read ahead in a sequence.
    pub(crate) had_read_ahead: bool,
    /// How often it is polled at most before the worker looks at its other operators, while it says that rows will come
    /// within microseconds and none have come. A step of a worker takes five times as long as a poll, and a row waits for
    /// half a step on average; but other sources, and rows of other workers, wait for the polls. So it is more than one
    /// where there are neither.
    pub(crate) polls: usize,
    /// Whether idle workers read its partitions for others (micro-batch).
    pub(crate) moves: bool,
}

/// The polls of a source that has its worker to itself: some microseconds. With 8 polls rows that came at the beat of the steps
/// waited for a step each.
const POLLS: usize = 32;

/// An operator that is aligned by epoch: it is in one epoch, and buffers batches of later ones.
#[derive(Debug)]
pub(crate) struct Aligned {
    pub(crate) watermarks: Watermarks,
    /// For each input, the domain of its watermark.
    pub(crate) domains: Vec<Option<DomainId>>,
    /// The sources that reach it without leaving the worker.
    pub(crate) sources: BTreeSet<NodeId>,
    /// The sinks that it writes to itself.
    pub(crate) sinks: Vec<PlannedSink>,
    /// Whether its outputs lead to parts only, which know no watermarks.
    pub(crate) feeds_parts: bool,
}

/// A sink inside an operator.
#[derive(Debug)]
pub(crate) struct PlannedSink {
    /// The output that it takes.
    pub(crate) port: usize,
    pub(crate) sink: NodeId,
    /// The node whose steps it runs before.
    pub(crate) steps: Option<NodeId>,
}

/// What an operator is to the watermarks of its outputs.
#[derive(Debug)]
pub(crate) enum Watermarks {
    /// It passes on that of its inputs.
    Passes,
    /// It assigns them.
    Assigns(Assigns),
    /// It joins streams whose watermarks differ: the result is a domain of its own.
    Joins(DomainId),
    /// It derives them from those of its inputs: a domain of its own.
    Derives(DomainId),
}

#[derive(Clone, Debug)]
pub(crate) struct Assigns {
    pub(crate) domain: DomainId,
    /// Whether other workers assign watermarks of the same domain.
    pub(crate) is_shared: bool,
    /// The sources on its worker that announce no batches: it sees itself when their rows have arrived.
    pub(crate) silent: Vec<NodeId>,
}

/// The plan of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) layout: Arc<Layout>,
    workers: usize,
    nodes: Vec<Runs>,
}

impl Plan {
    /// Plans a run. `read_ahead` has the sources of which rows had been observed at the last commit that stand behind unread
    /// ones in their sequence.
    pub(crate) fn new(
        layout: &Arc<Layout>,
        mode: Mode,
        workers: usize,
        read_ahead: &BTreeSet<NodeId>,
    ) -> Plan {
        let planner = Planner { layout, mode, workers, read_ahead };
        let nodes = layout.nodes.iter().map(|node| planner.runs(node)).collect();
        Plan { layout: Arc::clone(layout), workers, nodes }
    }

    /// What a node runs as.
    pub(crate) fn runs(&self, node: NodeId) -> Option<&Runs> {
        self.nodes.get(node.0)
    }

    /// The sources whose partitions idle workers read for others.
    pub(crate) fn moving(&self) -> BTreeSet<NodeId> {
        let moves = |node: &&Node| matches!(self.runs(node.id), Some(Runs::Source(it)) if it.moves);
        self.layout.nodes.iter().filter(moves).map(|node| node.id).collect()
    }

    /// Whether rows of an input may come from another worker.
    pub(crate) fn crosses(&self, input: &Input) -> bool {
        crosses(input, self.workers)
    }

    /// The domains of watermarks, with the partitions whose batches are announced by rank.
    pub(crate) fn domains(&self) -> Vec<DomainSpec> {
        let mut specs = self.layout.specs.clone();
        for partition in specs.iter_mut().flat_map(|spec| &mut spec.partitions) {
            let (source, _) = from_origin(partition.origin);
            let announced = |source: NodeId| match self.runs(source) {
                Some(Runs::Source(planned)) => planned.announces.is_some() || planned.had_read_ahead,
                _ => false,
            };
            partition.has_ranks &= source.is_some_and(announced);
        }
        specs
    }
}

fn crosses(input: &Input, workers: usize) -> bool {
    workers > 1 && !matches!(input.route, Route::Local)
}

/// The operator of a node that keeps its state.
pub(crate) fn stateful_operator_of(node: &Node, place: Place) -> Option<Box<dyn Operator>> {
    match &node.kind {
        NodeKind::Operator(spec) if spec.stateful => Some((spec.make)(place)),
        NodeKind::Grouped(spec) if place.workers == 1 => Some((spec.direct)(place)),
        NodeKind::Grouped(spec) => Some((spec.merge)(place)),
        _ => None,
    }
}

struct Planner<'a> {
    layout: &'a Layout,
    mode: Mode,
    workers: usize,
    read_ahead: &'a BTreeSet<NodeId>,
}

impl Planner<'_> {
    fn runs(&self, node: &Node) -> Runs {
        let has_domain = self.layout.domain_of.contains_key(&node.id);
        match &node.kind {
            NodeKind::Source(source) => Runs::Source(PlannedSource {
                pulled_by: self.reader_of(node.id),
                announces: self.announces(node.id),
                had_read_ahead: self.read_ahead.contains(&node.id),
                polls: if self.is_alone(node) { POLLS } else { 1 },
                moves: self.moves(node.id, &**source),
            }),
            NodeKind::Fragment(_) if node.is_part() => Runs::Part,
            NodeKind::Fragment(_) => Runs::Fragment(self.aligned(node)),
            NodeKind::Forward if has_domain => Runs::Aligned(self.aligned(node)),
            NodeKind::Forward => Runs::Stateless,
            NodeKind::Operator(_) if self.is_in_sink(node.id) => Runs::Inside,
            NodeKind::Operator(spec) if spec.stateful || spec.in_flight.is_some() || has_domain => {
                Runs::Aligned(self.aligned(node))
            }
            NodeKind::Operator(_) => Runs::Stateless,
            NodeKind::Grouped(_) if self.workers == 1 => Runs::OnePhase(self.aligned(node)),
            NodeKind::Grouped(_) => Runs::TwoPhases(self.aligned(node)),
            NodeKind::Sink { .. } if self.writer_of(node).is_some() => Runs::Inside,
            NodeKind::Sink { .. } => Runs::Sink { steps: self.steps_of(node).map(|steps| steps.id) },
        }
    }

    /// Whether nothing but the rows of this source comes to its workers.
    fn is_alone(&self, source: &Node) -> bool {
        let mut nodes = self.layout.nodes.iter();
        self.mode == Mode::Continuous
            && nodes.all(|node| match &node.kind {
                NodeKind::Source(_) => node.id == source.id,
                NodeKind::Fragment(_) => false,
                // Of two phases, the second has rows of all workers.
                NodeKind::Grouped(_) if self.workers > 1 => false,
                _ => !node.inputs.iter().any(|input| crosses(input, self.workers)),
            })
    }

    /// Whether idle workers read partitions of a source for others.
    fn moves(&self, node: NodeId, source: &dyn DynSource) -> bool {
        self.workers > 1
            && self.mode == Mode::MicroBatch
            && self.layout.source_info(node).partitions() > 1
            && source.may_move()
            && leaves_no_trace(self.layout, node)
    }

    fn aligned(&self, node: &Node) -> Aligned {
        let sink = |sink: &Node| {
            let (writer, port) = self.writer_of(sink)?;
            let steps = self.steps_of(sink).map(|steps| steps.id);
            (writer == node.id).then_some(PlannedSink { port, sink: sink.id, steps })
        };
        Aligned {
            watermarks: self.watermarks(node),
            domains: node.inputs.iter().map(|input| self.layout.domain(input.from)).collect(),
            sources: self.layout.local_of(node).0,
            sinks: self.layout.nodes.iter().filter_map(sink).collect(),
            feeds_parts: self.feeds_parts(node.id),
        }
    }

    /// Whether a node has readers, and all of them are parts.
    fn feeds_parts(&self, node: NodeId) -> bool {
        let reads = |other: &&Node| other.inputs.iter().any(|input| input.from == node);
        let mut readers = self.layout.nodes.iter().filter(reads).peekable();
        readers.peek().is_some() && readers.all(Node::is_part)
    }

    fn watermarks(&self, node: &Node) -> Watermarks {
        let Some(domain) = self.layout.domain_of.get(&node.id).copied() else { return Watermarks::Passes };
        if node.derives_watermark() {
            return Watermarks::Derives(domain);
        }
        if node.watermark().is_none() {
            return Watermarks::Joins(domain);
        }
        let reach = self.layout.reach_of(node).0.into_keys();
        let silent = reach.filter(|source| self.announces(*source).is_none()).collect();
        Watermarks::Assigns(Assigns { domain, is_shared: self.workers > 1, silent })
    }

    /// The domains to which a source announces its batches, if it has to: where the order in which they are observed may
    /// be another one than that in which they were read, or somebody else asks what is on its way, or an earlier run has read
    /// ahead in a sequence.
    fn announces(&self, source: NodeId) -> Option<Arc<[DomainId]>> {
        let reached = |(node, domain): (&NodeId, &DomainId)| {
            let node = self.layout.nodes.get(node.0).filter(|node| node.watermark().is_some())?;
            self.layout.reach_of(node).0.get(&source).map(|ways| (*domain, *ways))
        };
        let domains: Vec<_> = self.layout.domain_of.iter().filter_map(reached).collect();
        let is_joined = |domain: &DomainId| {
            self.layout.specs.iter().any(|spec| spec.members.len() > 1 && spec.members.contains(domain))
        };
        let must = self.workers > 1
            || self.read_ahead.contains(&source)
            || domains.iter().any(|(domain, ways)| *ways > 1 || is_joined(domain));
        let domains: Arc<[DomainId]> = domains.into_iter().map(|(domain, _)| domain).collect();
        (must && self.mode == Mode::Continuous && !domains.is_empty()).then_some(domains)
    }

    /// The node that takes all rows of a source where they are read, if it can read them itself.
    fn reader_of(&self, source: NodeId) -> Option<NodeId> {
        let from_here = |node: &&Node| node.inputs.iter().any(|input| input.from == source);
        let mut consumers = self.layout.nodes.iter().filter(from_here);
        let only = consumers.next().filter(|_| consumers.next().is_none())?;
        let pulls = only.inputs.iter().all(|input| input.pulls && !self.crosses(input));
        pulls.then_some(only.id)
    }

    /// The node of the steps that a sink runs itself: what comes of them would not leave the worker.
    fn steps_of(&self, sink: &Node) -> Option<&Node> {
        let NodeKind::Sink { steps: Some(steps), .. } = &sink.kind else { return None };
        let stay = !sink.inputs.iter().any(|input| self.crosses(input));
        stay.then(|| self.layout.nodes.get(steps.0)).flatten()
    }

    /// Whether a sink runs the steps of a node.
    fn is_in_sink(&self, node: NodeId) -> bool {
        self.layout.nodes.iter().filter_map(|sink| self.steps_of(sink)).any(|steps| steps.id == node)
    }

    /// The operator, and its output, that writes to a sink itself: it keeps something, and the sink and its steps take
    /// all of the output where it comes out.
    fn writer_of(&self, sink: &Node) -> Option<(NodeId, usize)> {
        if !matches!(sink.kind, NodeKind::Sink { .. }) {
            return None;
        }
        let taker = self.steps_of(sink).unwrap_or(sink);
        let [input] = taker.inputs.as_slice() else { return None };
        let writer = self.layout.nodes.get(input.from.0)?;
        let holds = match &writer.kind {
            NodeKind::Operator(spec) => spec.stateful || spec.in_flight.is_some() || spec.watermark.is_some(),
            // What comes late comes out of the first phase, if there are two.
            NodeKind::Grouped(_) => self.workers == 1 || input.port == 0,
            _ => false,
        };
        let readers = self.layout.nodes.iter().flat_map(|node| &node.inputs);
        let readers = readers.filter(|other| (other.from, other.port) == (input.from, input.port));
        (!self.crosses(input) && holds && readers.count() == 1).then_some((input.from, input.port))
    }

    fn crosses(&self, input: &Input) -> bool {
        crosses(input, self.workers)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill_operators::testing::{nowhere, numbers};
    use tidemill_operators::{EventTime, Graph, tumbling};

    use super::*;

    /// What the nodes of a graph run as.
    fn planned(graph: &Graph, mode: Mode, workers: usize) -> Vec<&'static str> {
        let layout = Arc::new(Layout::of(graph.name(), graph.nodes()).learned());
        let plan = Plan::new(&layout, mode, workers, &BTreeSet::new());
        let words = |node: &Node| match plan.runs(node.id).unwrap() {
            Runs::Source(PlannedSource { announces: Some(_), .. }) => "announcing source",
            Runs::Source(_) => "source",
            Runs::Stateless => "stateless",
            Runs::Aligned(_) => "aligned",
            Runs::OnePhase(it) if it.sinks.is_empty() => "one phase",
            Runs::OnePhase(_) => "one phase and sink",
            Runs::TwoPhases(it) if it.sinks.is_empty() => "two phases",
            Runs::TwoPhases(_) => "two phases and sink",
            Runs::Fragment(_) => "fragment",
            Runs::Part => "part",
            Runs::Sink { steps: None } => "sink",
            Runs::Sink { steps: Some(_) } => "steps and sink",
            Runs::Inside => "inside",
        };
        layout.nodes.iter().map(words).collect()
    }

    #[test]
    fn sink_runs_inside_operator_that_writes_all_of_it() {
        let count = |per_worker: bool| {
            let graph = Graph::new("count");
            let counts = numbers(&graph, 3).key_by(|n| *n).count().update();
            match per_worker {
                true => counts.sink_per_worker(|_| Ok(nowhere())),
                false => counts.sink(nowhere()),
            }
            graph
        };
        let of = |per_worker, workers| planned(&count(per_worker), Mode::MicroBatch, workers);
        assert_eq!(of(false, 1), ["source", "one phase and sink", "inside"]);
        assert_eq!(of(true, 1), ["source", "one phase and sink", "inside"]);
        assert_eq!(of(true, 2), ["source", "two phases and sink", "inside"]);
        // The one sink is on the first worker.
        assert_eq!(of(false, 2), ["source", "two phases", "sink"]);
    }

    #[test]
    fn steps_run_inside_sink_that_is_on_their_worker() {
        let mapped = |per_worker: bool| {
            let graph = Graph::new("mapped");
            let mapped = numbers(&graph, 3).map(|n| n + 1);
            match per_worker {
                true => mapped.sink_per_worker(|_| Ok(nowhere())),
                false => mapped.sink(nowhere()),
            }
            graph
        };
        let of = |per_worker, workers| planned(&mapped(per_worker), Mode::MicroBatch, workers);
        assert_eq!(of(true, 2), ["source", "inside", "steps and sink"]);
        assert_eq!(of(false, 1), ["source", "inside", "steps and sink"]);
        assert_eq!(of(false, 2), ["source", "stateless", "sink"]);
    }

    #[test]
    fn sources_announce_where_workers_share_a_watermark() {
        let graph = Graph::new("windows");
        numbers(&graph, 3)
            .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO)
            .window(tumbling(Duration::from_secs(1)))
            .count()
            .append()
            .sink(nowhere());
        let source = |mode, workers| planned(&graph, mode, workers)[0];
        assert_eq!(source(Mode::Continuous, 2), "announcing source");
        assert_eq!(source(Mode::Continuous, 1), "source");
        assert_eq!(source(Mode::MicroBatch, 2), "source");
    }

    #[test]
    fn source_that_has_its_worker_to_itself_is_polled_again() {
        let polls = |graph: &Graph, mode, workers| {
            let layout = Arc::new(Layout::of(graph.name(), graph.nodes()).learned());
            let plan = Plan::new(&layout, mode, workers, &BTreeSet::new());
            let polls = |node: &Node| match plan.runs(node.id) {
                Some(Runs::Source(planned)) => Some(planned.polls),
                _ => None,
            };
            layout.nodes.iter().filter_map(polls).collect::<Vec<_>>()
        };
        let counted = Graph::new("counted");
        numbers(&counted, 3).key_by(|n| *n).count().update().sink_per_worker(|_| Ok(nowhere()));
        assert_eq!(polls(&counted, Mode::Continuous, 1), [POLLS]);
        assert_eq!(polls(&counted, Mode::Continuous, 2), [1], "the second phase has rows of both workers");
        assert_eq!(polls(&counted, Mode::MicroBatch, 1), [1]);
        let mapped = Graph::new("mapped");
        numbers(&mapped, 3).map(|n| n + 1).sink_per_worker(|_| Ok(nowhere()));
        assert_eq!(polls(&mapped, Mode::Continuous, 2), [POLLS]);
        let both = Graph::new("both");
        numbers(&both, 3).union(numbers(&both, 4)).sink_per_worker(|_| Ok(nowhere()));
        assert_eq!(polls(&both, Mode::Continuous, 1), [1, 1]);
    }
}
