//! Lowers the graph to a dataflow, the same on every worker.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use tidemill_operators::graph::{GroupedSpec, Input, Make, Node, NodeId, NodeKind, Place, Route, SinkSpec};
use tidemill_operators::{DynSource, Mode, Operator, OutputMode, SinkContext};
use timely::dataflow::Scope;

use super::Time;
use super::assigner::{Assigner, Locals, from_origin, is_sliced, origin};
use super::host::{Forward, Hosted, enter, within};
use super::port::Seats;
use super::route::{Inflow, Router, Routing};
use super::seat::{HeldSink, Seat};
use super::sink::sink;
use super::source::{Setting, SourceStatus, source};
use super::stateful::{Role, StatefulInput, stateful};
use super::stateless::{Edge, copies, stateless};
use super::turns::Rounds;
use crate::control::Control;
use crate::error::{RunError, Site};
use crate::ledger::{DomainId, DomainSpec, PartitionSpec};
use crate::recovery::{Resume, keeper_of};
use crate::user_code::code_of;

/// What follows from the graph alone, worked out once and shared by all workers.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) query: String,
    pub(crate) nodes: Vec<Node>,
    /// The domain of each node that assigns watermarks, or joins streams whose watermarks differ.
    domain_of: BTreeMap<NodeId, DomainId>,
    /// For each node, the domain whose watermarks hold on its outputs.
    domains: Vec<Option<DomainId>>,
    /// What each domain comes from.
    specs: Vec<DomainSpec>,
    /// For each node, the sources whose rows reach it with their partition known, on so many ways; and whether others do.
    reach: Vec<(BTreeMap<NodeId, usize>, bool)>,
    /// For each node, the sources that reach it without leaving the worker; `None` if anything comes from elsewhere.
    local_sources: Vec<(BTreeSet<NodeId>, bool)>,
}

/// Where a sink sits: how many instances report.
pub(crate) struct SinkSeat {
    pub(crate) instances: usize,
}

impl Layout {
    pub(crate) fn of(query: String, nodes: Vec<Node>) -> Layout {
        let mut layout = Layout {
            query,
            domain_of: BTreeMap::new(),
            domains: Vec::new(),
            specs: Vec::new(),
            reach: Vec::new(),
            local_sources: Vec::new(),
            nodes: Vec::new(),
        };
        let mut sources: Vec<BTreeSet<NodeId>> = Vec::new();
        for node in &nodes {
            let mut from: BTreeSet<NodeId> =
                node.inputs.iter().filter_map(|i| sources.get(i.from.0)).flatten().copied().collect();
            if matches!(node.kind, NodeKind::Source(_)) {
                from.insert(node.id);
            }
            let reach = layout.reach_of(node);
            let domain = layout.new_domain(node, &from, &reach, &nodes);
            layout.domains.push(domain);
            let (mut local, mut way) = (layout.local_of(node), reach);
            match &node.kind {
                NodeKind::Source(_) => {
                    local.0.insert(node.id);
                    way.0.insert(node.id, 1);
                }
                // What comes out of an aggregation has been exchanged.
                NodeKind::Grouped(_) => local = (BTreeSet::new(), true),
                _ => {}
            }
            if node.is_stateful() || node.watermark().is_some() {
                way = (BTreeMap::new(), true);
            }
            layout.local_sources.push(local);
            layout.reach.push(way);
            sources.push(from);
        }
        layout.nodes = nodes;
        layout
    }

    /// The sources whose rows come to a node with their partition known, and whether others do.
    fn reach_of(&self, node: &Node) -> (BTreeMap<NodeId, usize>, bool) {
        let mut reach = (BTreeMap::new(), false);
        for (ways, is_mixed) in node.inputs.iter().filter_map(|input| self.reach.get(input.from.0)) {
            for (source, ways) in ways {
                *reach.0.entry(*source).or_default() += ways;
            }
            reach.1 |= is_mixed;
        }
        reach
    }

    /// The domain of a node's outputs: a new one if it assigns watermarks or joins streams whose watermarks differ.
    fn new_domain(
        &mut self,
        node: &Node,
        from: &BTreeSet<NodeId>,
        reach: &(BTreeMap<NodeId, usize>, bool),
        nodes: &[Node],
    ) -> Option<DomainId> {
        let of_inputs: BTreeSet<DomainId> =
            node.inputs.iter().filter_map(|i| self.domains.get(i.from.0).copied().flatten()).collect();
        let mut spec = DomainSpec { sources: from.iter().copied().collect(), ..DomainSpec::default() };
        if let Some(watermark) = node.watermark() {
            spec.partitions = reach.0.keys().flat_map(|id| partitions_of(*id, nodes)).collect();
            (spec.is_mixed, spec.idle_after) = (reach.1, watermark.idle_after);
        } else if of_inputs.len() > 1 {
            spec.members = of_inputs.into_iter().collect();
        } else {
            return of_inputs.first().copied();
        }
        let domain = self.specs.len();
        self.specs.push(spec);
        self.domain_of.insert(node.id, domain);
        Some(domain)
    }

    /// Returns the parts of each domain for a run in this mode, with so many workers, that resumes from there.
    pub(crate) fn specs(&self, mode: Mode, workers: usize, resume: &Resume) -> Vec<DomainSpec> {
        let mut specs = self.specs.clone();
        for partition in specs.iter_mut().flat_map(|spec| &mut spec.partitions) {
            let needs_ranks = |source| {
                resume.has_read_ahead(source) || self.announces(source, mode, workers, resume).is_some()
            };
            partition.has_ranks &= from_origin(partition.origin).0.is_some_and(needs_ranks);
        }
        specs
    }

    /// The domains to which a source announces its batches, if it has to: where the order in which they are observed may
    /// be another one than that in which they were read, or somebody else asks what is on its way, or an earlier run has read
    /// ahead in a sequence.
    fn announces(
        &self,
        source: NodeId,
        mode: Mode,
        workers: usize,
        resume: &Resume,
    ) -> Option<Arc<[DomainId]>> {
        let reached = |(node, domain): (&NodeId, &DomainId)| {
            let node = self.nodes.get(node.0).filter(|node| node.watermark().is_some())?;
            self.reach_of(node).0.get(&source).map(|ways| (*domain, *ways))
        };
        let domains: Vec<_> = self.domain_of.iter().filter_map(reached).collect();
        let is_joined = |domain: &DomainId| self.specs.iter().any(|spec| spec.members.contains(domain));
        let must = workers > 1
            || resume.has_read_ahead(source)
            || domains.iter().any(|(domain, ways)| *ways > 1 || is_joined(domain));
        let domains: Arc<[DomainId]> = domains.into_iter().map(|(domain, _)| domain).collect();
        (must && mode == Mode::Continuous && !domains.is_empty()).then_some(domains)
    }

    fn local_of(&self, node: &Node) -> (BTreeSet<NodeId>, bool) {
        let mut local = (BTreeSet::new(), false);
        for input in &node.inputs {
            match (&input.route, self.local_sources.get(input.from.0)) {
                (Route::Local, Some((reach, open))) => {
                    local.0.extend(reach);
                    local.1 |= open;
                }
                _ => local.1 = true,
            }
        }
        local
    }

    /// An upper bound on the operators that a row passes on its way (an aggregation is two).
    pub(crate) fn hops(&self) -> u64 {
        2 * self.nodes.len() as u64
    }

    /// The node that takes all rows of a source where they are read, if it can read them itself.
    fn reader_of(&self, source: NodeId, workers: usize) -> Option<NodeId> {
        let from_here = |node: &&Node| node.inputs.iter().any(|input| input.from == source);
        let mut consumers = self.nodes.iter().filter(from_here);
        let only = consumers.next().filter(|_| consumers.next().is_none())?;
        let stays = |route: &Route| workers == 1 || matches!(route, Route::Local);
        let pulls = only.inputs.iter().all(|input| input.pulls && stays(&input.route));
        pulls.then_some(only.id)
    }

    /// The node of the steps that a sink runs itself: what comes of them would not leave the worker.
    fn steps_of(&self, sink: &Node, workers: usize) -> Option<&Node> {
        let NodeKind::Sink { steps: Some(steps), .. } = &sink.kind else { return None };
        let stays = |input: &Input| workers == 1 || matches!(input.route, Route::Local);
        sink.inputs.iter().all(stays).then(|| self.nodes.get(steps.0)).flatten()
    }

    /// Whether a sink runs the steps of a node.
    fn is_in_sink(&self, node: NodeId, workers: usize) -> bool {
        self.nodes.iter().filter_map(|sink| self.steps_of(sink, workers)).any(|steps| steps.id == node)
    }

    /// The operator, and its output, that writes to a sink itself: it keeps something, and the sink and its steps take
    /// all of the output where it comes out.
    fn writer_of(&self, sink: &Node, workers: usize) -> Option<(NodeId, usize)> {
        if !matches!(sink.kind, NodeKind::Sink { .. }) {
            return None;
        }
        let taker = self.steps_of(sink, workers).unwrap_or(sink);
        let [input] = taker.inputs.as_slice() else { return None };
        let stays = workers == 1 || matches!(input.route, Route::Local);
        let writer = self.nodes.get(input.from.0)?;
        let holds = match &writer.kind {
            NodeKind::Operator(spec) => spec.stateful || spec.watermark.is_some(),
            // What comes late comes out of the first phase, if there are two.
            NodeKind::Grouped(_) => workers == 1 || input.port == 0,
            _ => false,
        };
        let readers = self.nodes.iter().flat_map(|node| &node.inputs);
        let readers = readers.filter(|other| (other.from, other.port) == (input.from, input.port));
        (stays && holds && readers.count() == 1).then_some((input.from, input.port))
    }

    /// The sinks that an operator writes to itself, by output.
    fn sinks_in(&self, writer: NodeId, workers: usize) -> impl Iterator<Item = (usize, &Node)> {
        let port = move |sink| self.writer_of(sink, workers).filter(|(node, _)| *node == writer);
        self.nodes.iter().filter_map(move |sink| Some((port(sink)?.1, sink)))
    }

    /// The sources, each with its number of partitions.
    pub(crate) fn sources(&self) -> Vec<(NodeId, Arc<dyn DynSource>)> {
        let source = |node: &Node| match &node.kind {
            NodeKind::Source(source) => Some((node.id, Arc::clone(source))),
            _ => None,
        };
        self.nodes.iter().filter_map(source).collect()
    }

    /// The sinks.
    pub(crate) fn sinks(&self, workers: usize) -> Vec<SinkSeat> {
        let seat = |node: &Node| match &node.kind {
            NodeKind::Sink { sink: SinkSpec::One(_), .. } => Some(SinkSeat { instances: 1 }),
            NodeKind::Sink { sink: SinkSpec::PerWorker(_), .. } => Some(SinkSeat { instances: workers }),
            _ => None,
        };
        self.nodes.iter().filter_map(seat).collect()
    }

    /// Builds the dataflow of one worker.
    pub(crate) fn build<'scope>(
        &self,
        scope: Scope<'scope, Time>,
        worker: usize,
        control: &Arc<Control>,
    ) -> Result<(), RunError> {
        let mut consumers: BTreeMap<(NodeId, usize), usize> = BTreeMap::new();
        for input in self.nodes.iter().flat_map(|n| &n.inputs) {
            *consumers.entry((input.from, input.port)).or_default() += 1;
        }
        let mut building = Building {
            layout: self,
            scope,
            worker,
            control,
            consumers,
            edges: BTreeMap::new(),
            statuses: BTreeMap::new(),
            rounds: Rc::default(),
            restored: BTreeMap::new(),
        };
        building.restore()?;
        self.nodes.iter().try_for_each(|node| building.node(node))
    }

    /// The nodes that assign or join watermarks, by domain.
    pub(crate) fn domains(&self) -> Vec<Option<&Node>> {
        let mut nodes = vec![None; self.specs.len()];
        for (node, domain) in &self.domain_of {
            if let Some(slot) = nodes.get_mut(*domain) {
                *slot = self.nodes.get(node.0);
            }
        }
        nodes
    }

    /// How many operators of a worker keep state.
    pub(crate) fn stateful(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_stateful()).count()
    }

    /// Where in the user's program a node was made.
    pub(crate) fn site(&self, node: NodeId) -> Site {
        let nowhere = || Site { operator: "engine".to_owned(), location: String::new() };
        self.nodes.get(node.0).map_or_else(nowhere, Site::of)
    }
}

/// The partitions of a source, as watermarks count them, with their readers.
fn partitions_of(id: NodeId, nodes: &[Node]) -> Vec<PartitionSpec> {
    let Some(NodeKind::Source(source)) = nodes.get(id.0).map(|node| &node.kind) else { return Vec::new() };
    let mut readers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let has_ranks = code_of(id, || {
        for reader in 0..source.partitions() {
            readers.entry(origin(id, source.watermark_partition(reader))).or_default().push(reader);
        }
        is_sliced(&**source)
    });
    readers.into_iter().map(|(origin, readers)| PartitionSpec { origin, readers, has_ranks }).collect()
}

struct Building<'a, 'scope> {
    layout: &'a Layout,
    scope: Scope<'scope, Time>,
    worker: usize,
    control: &'a Arc<Control>,
    /// How many inputs still want each output.
    consumers: BTreeMap<(NodeId, usize), usize>,
    edges: BTreeMap<(NodeId, usize), Edge<'scope>>,
    statuses: BTreeMap<NodeId, Rc<SourceStatus>>,
    /// Which source's turn it is to be read.
    rounds: Rc<Rounds>,
    /// Operators that have been given their state back.
    restored: BTreeMap<NodeId, Box<dyn Operator>>,
}

impl<'scope> Building<'_, 'scope> {
    /// Makes the operators that keep state and gives them back what they had at the last commit.
    fn restore(&mut self) -> Result<(), RunError> {
        let Some(state) = &self.control.resume.state else { return Ok(()) };
        let place = self.place();
        let memory = self.control.memory.get(self.worker);
        let mut by_uid: BTreeMap<&str, (&Node, Box<dyn Operator>)> = BTreeMap::new();
        for node in &self.layout.nodes {
            if let Some(mut operator) = keeper_of(node, place) {
                operator.track();
                by_uid.insert(node.uid(), (node, operator));
            }
        }
        state.load(self.worker, self.control.workers, |uid, group, bytes| {
            enter(by_uid.get(uid).map_or(NodeId(usize::MAX), |(node, _)| node.id));
            let Some((node, operator)) = by_uid.get_mut(uid) else { return Ok(()) };
            within(memory, || operator.restore(group, bytes))
                .map_err(|error| RunError::Operator { site: Site::of(node), error })
        })?;
        self.restored = by_uid.into_values().map(|(node, operator)| (node.id, operator)).collect();
        Ok(())
    }

    /// The operator of a node: one that has its state back, or a new one.
    fn make(&mut self, node: &Node, make: &Make) -> Box<dyn Operator> {
        self.restored.remove(&node.id).unwrap_or_else(|| {
            let mut operator = make(self.place());
            if self.control.resume.durable {
                operator.track();
            }
            operator
        })
    }

    fn node(&mut self, node: &Node) -> Result<(), RunError> {
        match &node.kind {
            NodeKind::Source(from) => self.source(node, from),
            NodeKind::Forward if self.layout.domain_of.contains_key(&node.id) => {
                let hosted = self.host(node, Box::new(Forward), (true, true));
                let edges = self.stateful(node, hosted, Seats::new());
                self.keep(node.id, edges);
            }
            NodeKind::Forward => {
                let hosted = self.host(node, Box::new(Forward), (true, true));
                let inflows = self.inflows(node);
                let edges = stateless(self.scope, &node.label(), inflows, hosted);
                self.keep(node.id, edges.into_iter().enumerate());
            }
            NodeKind::Operator(_) if self.layout.is_in_sink(node.id, self.control.workers) => {}
            NodeKind::Operator(spec) => {
                let operator = self.make(node, &spec.make);
                let hosted = self.host(node, operator, (true, true));
                let has_domain = self.layout.domain_of.contains_key(&node.id);
                if spec.stateful || has_domain {
                    let seats = self.seats(node)?;
                    let edges = self.stateful(node, hosted, seats);
                    self.keep(node.id, edges);
                } else {
                    let inflows = self.inflows(node);
                    let edges = stateless(self.scope, &node.label(), inflows, hosted);
                    self.keep(node.id, edges.into_iter().enumerate());
                }
            }
            NodeKind::Grouped(spec) => return self.grouped(node, spec),
            NodeKind::Sink { .. } if self.layout.writer_of(node, self.control.workers).is_some() => {}
            NodeKind::Sink { sink: spec, output_mode, .. } => {
                let seat = self.seat(node, spec, *output_mode)?;
                let steps = self.layout.steps_of(node, self.control.workers);
                if let Some(inflow) = self.inflows(steps.unwrap_or(node)).pop() {
                    sink(self.scope, node.label(), inflow, seat, self.worker, Arc::clone(self.control));
                }
            }
        }
        Ok(())
    }

    fn source(&mut self, node: &Node, from: &Arc<dyn DynSource>) {
        let status = Rc::new(SourceStatus::default());
        self.statuses.insert(node.id, Rc::clone(&status));
        let hops = self.layout.hops();
        let fed = self.layout.reader_of(node.id, self.control.workers);
        let announces =
            self.layout.announces(node.id, self.control.mode, self.control.workers, &self.control.resume);
        let rounds = Rc::clone(&self.rounds);
        let setting =
            Setting { node, source: from, worker: self.worker, status, hops, fed, announces, rounds };
        let edge = source(self.scope, setting, Arc::clone(self.control));
        self.keep(node.id, [(0, edge)]);
    }

    fn grouped(&mut self, node: &Node, spec: &GroupedSpec) -> Result<(), RunError> {
        let seats = self.seats(node)?;
        if self.control.workers == 1 {
            let operator = self.make(node, &spec.direct);
            let hosted = self.host(node, operator, (true, true));
            let edges = self.stateful(node, hosted, seats);
            self.keep(node.id, edges);
            return Ok(());
        }
        let hosted = self.host(node, (spec.local)(self.place()), (true, false));
        let mut edges = self.stateful(node, hosted, Seats::new()).into_iter();
        let (partials, late) = (edges.next(), edges.next());
        let Some((_, partials)) = partials else { return Ok(()) };
        let operator = self.make(node, &spec.merge);
        let hosted = self.host(node, operator, (false, true));
        let router = self.router(Routing::Labelled);
        let input = StatefulInput {
            inflow: Inflow { edge: partials, router },
            domain: self.layout.domains.get(node.id.0).copied().flatten(),
        };
        let sources = self.sources_of(node);
        let merged = stateful(self.scope, &node.label(), vec![input], hosted, Role::Passes, sources, seats);
        let results = merged.into_iter().filter(|(output, _)| *output == 0);
        self.keep(node.id, results.chain(late));
        Ok(())
    }

    fn stateful(&mut self, node: &Node, hosted: Hosted, seats: Seats) -> Vec<(usize, Edge<'scope>)> {
        let domain_of = |input: &Input| self.layout.domains.get(input.from.0).copied().flatten();
        let domains: Vec<_> = node.inputs.iter().map(domain_of).collect();
        let role = self.role(node);
        let sources = self.sources_of(node);
        let inflows = self.inflows(node);
        let inputs = inflows
            .into_iter()
            .zip(domains)
            .map(|(inflow, domain)| StatefulInput { inflow, domain })
            .collect();
        stateful(self.scope, &node.label(), inputs, hosted, role, sources, seats)
    }

    /// The sources that reach a node without leaving the worker.
    fn sources_of(&self, node: &Node) -> Vec<Rc<SourceStatus>> {
        let (reach, _) = self.layout.local_of(node);
        reach.iter().filter_map(|id| self.statuses.get(id).map(Rc::clone)).collect()
    }

    fn role(&self, node: &Node) -> Role {
        let Some(domain) = self.layout.domain_of.get(&node.id).copied() else { return Role::Passes };
        if node.watermark().is_none() {
            return Role::Joins(domain);
        }
        let (mode, workers) = (self.control.mode, self.control.workers);
        let resume = &self.control.resume;
        let silent = |source: &NodeId| self.layout.announces(*source, mode, workers, resume).is_none();
        let statuses = self.layout.reach_of(node).0.into_keys().filter(silent);
        let statuses = statuses.filter_map(|id| self.statuses.get(&id).map(|it| (id, Rc::clone(it))));
        let locals = Locals { statuses: statuses.collect(), hops: self.layout.hops() };
        let assigner = Assigner::new((domain, node), self.worker, Arc::clone(self.control), locals);
        Role::Assigns(Box::new(assigner))
    }

    /// The sinks that an operator writes to itself, by output.
    fn seats(&self, node: &Node) -> Result<Seats, RunError> {
        let sinks = self.layout.sinks_in(node.id, self.control.workers);
        let seat = |(port, node): (usize, &Node)| match &node.kind {
            NodeKind::Sink { sink, output_mode, .. } => {
                Some(self.seat(node, sink, *output_mode).map(|seat| (port, seat)))
            }
            _ => None,
        };
        sinks.filter_map(seat).collect()
    }

    fn seat(&self, node: &Node, spec: &SinkSpec, output_mode: OutputMode) -> Result<Seat, RunError> {
        let held = match spec {
            SinkSpec::One(shared) if self.worker == 0 => HeldSink::Shared(Arc::clone(shared)),
            SinkSpec::One(_) => HeldSink::Nobody,
            SinkSpec::PerWorker(make) => HeldSink::Own(
                make(self.worker).map_err(|error| RunError::Sink { site: Site::of(node), error })?,
            ),
        };
        let immediate = self.control.mode == Mode::Continuous;
        let mut context = SinkContext::new(&self.layout.query, output_mode, immediate)
            .on_worker(self.worker, self.control.workers)
            .of_sink(&Site::of(node).to_string(), self.control.groups + node.id.0 as u64)
            .with_clock(self.control.clock.clone())
            .with_cancellation(self.control.cancellation.clone());
        let resume = &self.control.resume;
        if resume.durable {
            context = context.durable(resume.execution).as_fork(resume.fork).taking_over(resume.take_over);
        }
        if let Some(committed) = resume.committed {
            context = context.after_commit(committed);
        }
        if let Some(identity) = &resume.identity {
            context = context.identified(Arc::clone(identity));
        }
        let steps = self.layout.steps_of(node, self.control.workers);
        let steps = steps.and_then(|steps| match &steps.kind {
            NodeKind::Operator(spec) => Some(self.host(steps, (spec.make)(self.place()), (true, true))),
            _ => None,
        });
        Ok(Seat::new(node, held, steps, context, Arc::clone(self.control)))
    }

    fn place(&self) -> Place {
        Place::new(self.worker, self.control.workers, self.control.mode)
    }

    fn host(
        &self,
        node: &Node,
        operator: Box<dyn tidemill_operators::Operator>,
        phases: (bool, bool),
    ) -> Hosted {
        Hosted::new(node, operator, self.worker, Arc::clone(self.control), phases)
    }

    fn inflows(&mut self, node: &Node) -> Vec<Inflow<'scope>> {
        node.inputs.iter().filter_map(|input| self.inflow(input)).collect()
    }

    fn inflow(&mut self, input: &Input) -> Option<Inflow<'scope>> {
        let edge = self.edge(input)?;
        if self.control.workers == 1 {
            return Some(Inflow { edge, router: None });
        }
        Some(match &input.route {
            Route::Local => Inflow { edge, router: None },
            Route::ByKey(partition) => {
                Inflow { edge, router: self.router(Routing::ByKey(Arc::clone(partition))) }
            }
            Route::Rebalance => Inflow { edge, router: self.router(Routing::Rebalance(self.worker)) },
            Route::Single => Inflow { edge, router: self.router(Routing::Labelled) },
            Route::Broadcast(cloner) => Inflow {
                edge: copies(self.scope, edge, *cloner, self.control.workers),
                router: self.router(Routing::Labelled),
            },
        })
    }

    fn router(&self, routing: Routing) -> Option<Router> {
        Some(Router { routing, worker: self.worker, control: Arc::clone(self.control) })
    }

    /// The edge of an output: itself for its last consumer, a copy for the others.
    fn edge(&mut self, input: &Input) -> Option<Edge<'scope>> {
        let at = (input.from, input.port);
        let left = self.consumers.get_mut(&at)?;
        *left = left.saturating_sub(1);
        if *left == 0 { self.edges.remove(&at) } else { self.edges.get(&at).cloned() }
    }

    fn keep(&mut self, node: NodeId, edges: impl IntoIterator<Item = (usize, Edge<'scope>)>) {
        self.edges.extend(edges.into_iter().map(|(output, edge)| ((node, output), edge)));
    }
}
