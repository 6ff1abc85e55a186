//! Lowers the plan to a dataflow, the same on every worker.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use tidemill_operators::graph::{
    FragmentSpec, GroupedSpec, Input, Make, Node, NodeId, NodeKind, Place, Route, SinkSpec, refused_by_sink,
};
use tidemill_operators::{DynSource, Mode, Operator, SinkContext, SinkError};
use timely::dataflow::Scope;

use super::Time;
use super::aligned::{AlignedInput, OutputDomain, Role, aligned};
use super::assigner::{Assigner, Locals};
use super::fragment::{FragmentHost, Inside, Lanes, Lowering};
use super::host::{Forward, Hosted, enter, within};
use super::hosted_sink::{HeldSink, HostedSink};
use super::output::{HostedSinks, Outlets};
use super::part::{LowerPart, PartLowering, PartSpec};
use super::route::{Inflow, Router, Routing};
use super::sink::sink;
use super::source::{Setting, SourceStatus, source};
use super::stateless::{Edge, copies, stateless};
use super::turns::Rounds;
use crate::control::Control;
use crate::error::{RunError, Site};
use crate::ledger::EpochEnds;
use crate::plan::{
    Aligned, Layout, Plan, PlannedSink, PlannedSource, Runs, Watermarks, stateful_operator_of,
};
use crate::recovery::{state_uid, states_of};

/// Builds the dataflow of one worker.
pub(super) fn lower<'scope>(
    plan: &Plan,
    scope: Scope<'scope, Time>,
    worker: usize,
    control: &Arc<Control>,
    ends: &Arc<dyn EpochEnds>,
) -> Result<(), RunError> {
    let nodes = &plan.layout.nodes;
    let mut consumers: BTreeMap<(NodeId, usize), usize> = BTreeMap::new();
    for input in nodes.iter().flat_map(|n| &n.inputs) {
        *consumers.entry((input.from, input.port)).or_default() += 1;
    }
    let mut building = Building {
        plan,
        layout: &plan.layout,
        scope,
        worker,
        control,
        ends,
        consumers,
        edges: BTreeMap::new(),
        statuses: BTreeMap::new(),
        rounds: Rc::default(),
        restored: BTreeMap::new(),
        has_state: BTreeSet::new(),
    };
    building.restore()?;
    match nodes.iter().find_map(|node| Some((node, PartLowering::of(node)?.region))) {
        None => nodes.iter().try_for_each(|node| building.node(node, None)),
        Some((first, region)) => {
            let host = FragmentHost::new(first, worker, control);
            let inside = Inside { scope, inputs: Vec::new(), host };
            let has_state = std::mem::take(&mut building.has_state);
            region.open(&inside, nodes, &has_state, &mut |parts| {
                nodes.iter().try_for_each(|node| building.node(node, Some(&mut *parts)))
            })
        }
    }
}

struct Building<'a, 'scope> {
    plan: &'a Plan,
    layout: &'a Layout,
    scope: Scope<'scope, Time>,
    worker: usize,
    control: &'a Arc<Control>,
    ends: &'a Arc<dyn EpochEnds>,
    /// How many inputs still want each output.
    consumers: BTreeMap<(NodeId, usize), usize>,
    edges: BTreeMap<(NodeId, usize), Edge<'scope>>,
    statuses: BTreeMap<NodeId, Rc<SourceStatus>>,
    /// Which source's turn it is to be read.
    rounds: Rc<Rounds>,
    /// Operators that have been given their state back.
    restored: BTreeMap<NodeId, Box<dyn Operator>>,
    /// Those of which there was state for this worker.
    has_state: BTreeSet<NodeId>,
}

impl<'scope> Building<'_, 'scope> {
    /// Makes the operators that keep state and gives them back what they had at the last commit.
    fn restore(&mut self) -> Result<(), RunError> {
        let Some(state) = &self.control.state else { return Ok(()) };
        let place = self.place();
        let memory = self.control.memory_of(self.worker);
        let mut operators: BTreeMap<NodeId, (&Node, Box<dyn Operator>)> = BTreeMap::new();
        // Whose state is under a uid, which of its states, and whether all workers have all of it.
        let mut owners: BTreeMap<String, (NodeId, Option<&str>, bool)> = BTreeMap::new();
        for node in &self.layout.nodes {
            if let Some(mut operator) = stateful_operator_of(node, place) {
                operator.track();
                owners.insert(node.uid().to_owned(), (node.id, None, false));
                for named in states_of(node) {
                    let owner = (node.id, Some(named.name.as_str()), operator.is_shared(&named.name));
                    owners.insert(state_uid(node, &named.name), owner);
                }
                operators.insert(node.id, (node, operator));
            }
        }
        let has_state = &mut self.has_state;
        let is_shared = |uid: &str| owners.get(uid).is_some_and(|(_, _, is_shared)| *is_shared);
        state.load(self.worker, self.control.peers.total(), &is_shared, |uid, group, bytes| {
            let Some((owner, name, _)) = owners.get(uid) else { return Ok(()) };
            let Some((node, operator)) = operators.get_mut(owner) else { return Ok(()) };
            has_state.insert(node.id);
            enter(node.id);
            within(memory, || match name {
                Some(name) => operator.restore_named(name, group, bytes),
                None => operator.restore(group, bytes),
            })
            .map_err(|error| RunError::Operator { site: Site::of(node), error })
        })?;
        self.restored = operators.into_values().map(|(node, operator)| (node.id, operator)).collect();
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

    /// Lowers a node. Where the graph has parts, this happens while their nested dataflow is open.
    fn node(&mut self, node: &Node, parts: Option<&mut dyn LowerPart<'scope>>) -> Result<(), RunError> {
        let plan = self.plan;
        match (plan.runs(node.id), &node.kind) {
            (Some(Runs::Source(planned)), NodeKind::Source(from)) => self.source(node, from, planned),
            (Some(Runs::Stateless), kind) => {
                let operator = self.operator(node, kind);
                let hosted = self.host(node, operator, (true, true));
                let inflows = self.inflows(node);
                let edges = stateless(self.scope, &node.label(), inflows, hosted);
                self.keep(node.id, edges.into_iter().enumerate());
            }
            (Some(Runs::Aligned(planned)), kind) => {
                let operator = self.operator(node, kind);
                self.whole(node, planned, operator)?;
            }
            (Some(Runs::OnePhase(planned)), NodeKind::Grouped(spec)) => {
                let operator = self.make(node, &spec.direct);
                self.whole(node, planned, operator)?;
            }
            (Some(Runs::TwoPhases(planned)), NodeKind::Grouped(spec)) => {
                self.two_phases(node, planned, spec)?
            }
            (Some(Runs::Fragment(planned)), NodeKind::Fragment(spec)) => {
                self.fragment(node, planned, spec)?
            }
            (Some(Runs::Part), _) => self.part(node, parts)?,
            (Some(Runs::Sink { steps }), NodeKind::Sink { sink: spec, .. }) => {
                let hosted = self.hosted_sink(node, spec, *steps)?;
                let steps = steps.and_then(|steps| self.layout.nodes.get(steps.0));
                if let Some(inflow) = self.inflows(steps.unwrap_or(node)).pop() {
                    sink(self.scope, node.label(), inflow, hosted, self.worker, Arc::clone(self.control));
                }
            }
            // It runs inside another one.
            _ => {}
        }
        Ok(())
    }

    /// The operator of a node that is no aggregation.
    fn operator(&mut self, node: &Node, kind: &NodeKind) -> Box<dyn Operator> {
        match kind {
            NodeKind::Operator(spec) => self.make(node, &spec.make),
            _ => Box::new(Forward),
        }
    }

    fn source(&mut self, node: &Node, from: &Arc<dyn DynSource>, planned: &PlannedSource) {
        let status = Rc::new(SourceStatus::default());
        self.statuses.insert(node.id, Rc::clone(&status));
        let (hops, rounds) = (self.layout.hops(), Rc::clone(&self.rounds));
        let plan = planned.clone();
        let info = self.layout.source_info(node.id);
        let setting = Setting { node, source: from, info, worker: self.worker, status, hops, plan, rounds };
        let edge = source(self.scope, setting, Arc::clone(self.control));
        self.keep(node.id, [(0, edge)]);
    }

    /// An operator that stands in an epoch, and the only one of its node.
    fn whole(&mut self, node: &Node, planned: &Aligned, operator: Box<dyn Operator>) -> Result<(), RunError> {
        let sinks = self.hosted_sinks(planned)?;
        let hosted = self.host(node, operator, (true, true));
        let outlets = if planned.feeds_parts { Outlets::Fragment } else { Outlets::Timed(sinks) };
        let edges = self.aligned(node, planned, hosted, outlets);
        self.keep(node.id, edges);
        Ok(())
    }

    /// A fragment between its entry and its exit.
    fn fragment(&mut self, node: &Node, planned: &Aligned, spec: &FragmentSpec) -> Result<(), RunError> {
        let entry = self.host(node, Box::new(Lanes), (true, false)).with_outputs(node.inputs.len());
        let inputs = self.aligned(node, planned, entry, Outlets::Fragment);
        let inside = Inside {
            scope: self.scope,
            inputs: inputs.into_iter().map(|(_, edge)| edge).collect(),
            host: FragmentHost::new(node, self.worker, self.control),
        };
        let outputs = Lowering::lower(&*spec.lowering, node, inside)?;
        self.exit(node, outputs);
        Ok(())
    }

    /// The exit of a fragment, which counts the rows that leave it.
    fn exit(&mut self, node: &Node, outputs: Vec<Edge<'scope>>) {
        let inflows = outputs.into_iter().map(|edge| Inflow { edge, router: None }).collect();
        let exit = self.host(node, Box::new(Lanes), (false, true));
        let edges = stateless(self.scope, &node.label(), inflows, exit);
        self.keep(node.id, edges.into_iter().enumerate());
    }

    /// A part of the nested dataflow. Only edges that lead out of it have an exit.
    fn part(&mut self, node: &Node, parts: Option<&mut dyn LowerPart<'scope>>) -> Result<(), RunError> {
        let (Some(parts), Some(lowering)) = (parts, PartLowering::of(node)) else {
            return Err(RunError::Engine(format!("{} is a part for another engine", Site::of(node))));
        };
        let inputs = node.inputs.iter().map(|input| self.edge(input)).collect();
        let host = FragmentHost::new(node, self.worker, self.control);
        let outputs = parts.part(PartSpec { node, host, inputs, part: &*lowering.part })?;
        if !outputs.is_empty() {
            self.exit(node, outputs);
        }
        Ok(())
    }

    fn two_phases(&mut self, node: &Node, planned: &Aligned, spec: &GroupedSpec) -> Result<(), RunError> {
        let sinks = self.hosted_sinks(planned)?;
        let hosted = self.host(node, (spec.local)(self.place()), (true, false));
        let mut edges = self.aligned(node, planned, hosted, Outlets::Timed(HostedSinks::new())).into_iter();
        let (partials, late) = (edges.next(), edges.next());
        let Some((_, partials)) = partials else { return Ok(()) };
        let operator = self.make(node, &spec.merge);
        let hosted = self.host(node, operator, (false, true));
        let router = self.router(Routing::Labelled);
        let input =
            AlignedInput { inflow: Inflow { edge: partials, router }, domain: self.layout.domain(node.id) };
        let sources = self.statuses_of(planned);
        let role = (Role::Passes, Arc::clone(self.ends));
        let merged =
            aligned(self.scope, &node.label(), vec![input], hosted, role, sources, Outlets::Timed(sinks));
        let results = merged.into_iter().filter(|(output, _)| *output == 0);
        self.keep(node.id, results.chain(late));
        Ok(())
    }

    fn aligned(
        &mut self,
        node: &Node,
        planned: &Aligned,
        hosted: Hosted,
        outlets: Outlets,
    ) -> Vec<(usize, Edge<'scope>)> {
        let role = (self.role(node, &planned.watermarks), Arc::clone(self.ends));
        let sources = self.statuses_of(planned);
        let inflows = self.inflows(node).into_iter().zip(&planned.domains);
        let inputs = inflows.map(|(inflow, domain)| AlignedInput { inflow, domain: *domain }).collect();
        aligned(self.scope, &node.label(), inputs, hosted, role, sources, outlets)
    }

    /// The sources that reach an operator without leaving the worker.
    fn statuses_of(&self, planned: &Aligned) -> Vec<Rc<SourceStatus>> {
        planned.sources.iter().filter_map(|id| self.statuses.get(id).map(Rc::clone)).collect()
    }

    fn role(&self, node: &Node, watermarks: &Watermarks) -> Role {
        match watermarks {
            Watermarks::Passes => Role::Passes,
            Watermarks::Joins(domain) => {
                Role::Joins(OutputDomain { domain: *domain, is_derived: false, behind: node.behind() })
            }
            Watermarks::Derives(domain) => {
                Role::Joins(OutputDomain { domain: *domain, is_derived: true, behind: node.behind() })
            }
            Watermarks::Assigns(assigns) => {
                let status = |id: &NodeId| self.statuses.get(id).map(|status| (*id, Rc::clone(status)));
                let statuses = assigns.silent.iter().filter_map(status).collect();
                let locals = Locals { statuses, hops: self.layout.hops() };
                let control = Arc::clone(self.control);
                Role::Assigns(Box::new(Assigner::new(node, assigns, self.worker, control, locals)))
            }
        }
    }

    /// The sinks that an operator writes to itself, by output.
    fn hosted_sinks(&self, planned: &Aligned) -> Result<HostedSinks, RunError> {
        let hosted = |PlannedSink { port, sink, steps }: &PlannedSink| {
            let node = self.layout.nodes.get(sink.0)?;
            let NodeKind::Sink { sink: spec, .. } = &node.kind else { return None };
            Some(self.hosted_sink(node, spec, *steps).map(|hosted| (*port, hosted)))
        };
        planned.sinks.iter().filter_map(hosted).collect()
    }

    /// A sink, with the node whose steps it runs before.
    fn hosted_sink(
        &self,
        node: &Node,
        spec: &SinkSpec,
        steps: Option<NodeId>,
    ) -> Result<HostedSink, RunError> {
        let held = match spec {
            SinkSpec::One(shared) if self.worker == 0 => HeldSink::Shared(Arc::clone(shared)),
            SinkSpec::One(_) => HeldSink::Elsewhere,
            SinkSpec::PerWorker(make) => {
                let taken = make(self.worker).and_then(|sink| match sink.takes(node.row_kind()) {
                    true => Ok(sink),
                    false => Err(SinkError::Setup(refused_by_sink(&self.layout.nodes, node))),
                });
                HeldSink::Own(taken.map_err(|error| RunError::Sink { site: Site::of(node), error })?)
            }
        };
        let immediate = self.control.mode == Mode::Continuous;
        let mut context = SinkContext::new(&self.layout.query, node.row_kind(), immediate)
            .on_worker(self.worker, self.control.peers.total())
            .of_sink(&Site::of(node).to_string(), self.control.node_numbers + node.id.0 as u64)
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
            context = context.identified(Arc::new(identity.clone()));
        }
        let steps = steps.and_then(|steps| self.layout.nodes.get(steps.0));
        let steps = steps.and_then(|steps| match &steps.kind {
            NodeKind::Operator(spec) => Some(self.host(steps, (spec.make)(self.place()), (true, true))),
            _ => None,
        });
        Ok(HostedSink::new(node, held, steps, context, Arc::clone(self.control)))
    }

    fn place(&self) -> Place {
        let place = Place::new(self.worker, self.control.peers.total(), self.control.mode);
        place.in_run(self.control.node_numbers)
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
        if !self.plan.crosses(input) {
            return Some(Inflow { edge, router: None });
        }
        Some(match &input.route {
            Route::Local => Inflow { edge, router: None },
            Route::Rebalance => Inflow { edge, router: self.router(Routing::Rebalance(self.worker)) },
            Route::ByKey | Route::Single => Inflow { edge, router: self.router(Routing::Labelled) },
            Route::Broadcast(cloner) => Inflow {
                edge: copies(self.scope, edge, *cloner, self.control.peers.total()),
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
