//! What follows from the graph and its sources: domains of watermarks, and which sources reach what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[cfg(test)]
use tidemill_operators::PrepareContext;
use tidemill_operators::graph::{Node, NodeId, NodeKind, Route, SinkSpec};
use tidemill_operators::{DynSource, ErasedOffset, SourceInfo};

use super::origin::partitions_of;
use crate::error::Site;
use crate::ledger::{DomainId, DomainSpec};

/// What follows from the graph and from the partitions of its sources, worked out once and shared by all workers.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) query: String,
    pub(crate) nodes: Vec<Node>,
    /// The domain of each node that assigns watermarks, or joins streams whose watermarks differ.
    pub(super) domain_of: BTreeMap<NodeId, DomainId>,
    /// For each node, the domain whose watermarks hold on its outputs.
    domains: Vec<Option<DomainId>>,
    /// What each domain comes from.
    pub(super) specs: Vec<DomainSpec>,
    /// For each node, the sources whose rows reach it with their partition known, each with the number of its ways; and whether rows of others
    /// come.
    reach: Vec<(BTreeMap<NodeId, usize>, bool)>,
    /// For each node, the sources that reach it without leaving the worker; `None` if anything comes from elsewhere.
    local_sources: Vec<(BTreeSet<NodeId>, bool)>,
    /// What the sources have found out for this run.
    sources: BTreeMap<NodeId, Arc<SourceInfo<ErasedOffset>>>,
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
            sources: BTreeMap::new(),
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
            let domain = layout.new_domain(node, &from, &reach);
            layout.domains.push(domain);
            let (mut local, mut way) = (layout.local_of(node), reach);
            match &node.kind {
                NodeKind::Source(_) => {
                    local.0.insert(node.id);
                    way.0.insert(node.id, 1);
                }
                // What comes out of an aggregation counts as exchanged, also with one worker.
                NodeKind::Grouped(_) => local = (BTreeSet::new(), true),
                // Rows may change workers inside, and they are others when they come out.
                NodeKind::Fragment(_) => {
                    local = (BTreeSet::new(), true);
                    way = (BTreeMap::new(), true);
                }
                _ => {}
            }
            if node.is_stateful() || node.in_flight().is_some() || node.watermark().is_some() {
                way = (BTreeMap::new(), true);
            }
            layout.local_sources.push(local);
            layout.reach.push(way);
            sources.push(from);
        }
        layout.nodes = nodes;
        layout.align();
        layout
    }

    /// Numbers the domains whose streams meet where rows are kept until the watermark passes: their sources are aligned.
    fn align(&mut self) {
        let mut groups: Vec<BTreeSet<DomainId>> = Vec::new();
        // Of each domain, those that assign the watermarks that it comes from.
        let mut roots: Vec<BTreeSet<DomainId>> = Vec::new();
        for (domain, spec) in self.specs.iter().enumerate() {
            let of_members = spec.members.iter().filter_map(|member| roots.get(*member)).flatten().copied();
            let mut own: BTreeSet<DomainId> = of_members.collect();
            // Rows that no longer belong to a partition of a source have no reader that could wait.
            if spec.members.is_empty() && !spec.is_mixed {
                own.insert(domain);
            }
            roots.push(own);
        }
        let keeps = |node: &&Node| node.is_stateful() || matches!(node.kind, NodeKind::Fragment(_));
        for node in self.nodes.iter().filter(keeps) {
            let domain = self.domain(node.id).and_then(|domain| roots.get(domain));
            let Some(mut group) = domain.filter(|roots| !roots.is_empty()).cloned() else { continue };
            let (meeting, others) = groups.into_iter().partition(|other| !other.is_disjoint(&group));
            group.extend(Vec::into_iter(meeting).flatten());
            groups = others;
            groups.push(group);
        }
        for (number, group) in groups.iter().enumerate() {
            for domain in group {
                if let Some(spec) = self.specs.get_mut(*domain) {
                    spec.aligned = Some(number);
                }
            }
        }
    }

    /// Learns the partitions of the sources.
    pub(crate) fn learn(&mut self, sources: BTreeMap<NodeId, SourceInfo<ErasedOffset>>) {
        self.sources = sources.into_iter().map(|(node, info)| (node, Arc::new(info))).collect();
        for spec in &mut self.specs {
            let grows = |source: &NodeId| self.sources.get(source)?.discovery_interval();
            spec.may_grow = spec.sources.iter().any(|source| grows(source).is_some());
        }
        let assigns: Vec<_> = self.domain_of.iter().map(|(node, domain)| (*node, *domain)).collect();
        for (node, domain) in assigns {
            let Some(node) = self.nodes.get(node.0).filter(|node| node.watermark().is_some()) else {
                continue;
            };
            let (reach, _) = self.reach_of(node);
            let partitions = |id: &NodeId| Some(partitions_of(*id, self.sources.get(id)?));
            let partitions = reach.keys().filter_map(partitions).flatten().collect();
            if let Some(spec) = self.specs.get_mut(domain) {
                spec.partitions = partitions;
                spec.counted = reach.into_keys().collect();
            }
        }
    }

    /// The same with what the sources find out without a checkpoint.
    #[cfg(test)]
    pub(crate) fn learned(mut self) -> Layout {
        let prepare = |(node, source): (NodeId, Arc<dyn DynSource>)| {
            (node, source.prepare(&PrepareContext::default()).unwrap())
        };
        self.learn(self.sources().into_iter().map(prepare).collect());
        self
    }

    /// What a source has found out for this run.
    pub(crate) fn source_info(&self, source: NodeId) -> Arc<SourceInfo<ErasedOffset>> {
        let nothing = || Arc::new(SourceInfo::new(0, |_| ErasedOffset::Null));
        self.sources.get(&source).map_or_else(nothing, Arc::clone)
    }

    /// The sources whose rows come to a node with their partition known, and whether others do.
    pub(super) fn reach_of(&self, node: &Node) -> (BTreeMap<NodeId, usize>, bool) {
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
    ) -> Option<DomainId> {
        // Rows of a table have no event time.
        if node.is_part() {
            return None;
        }
        let of_inputs: BTreeSet<DomainId> =
            node.inputs.iter().filter_map(|i| self.domains.get(i.from.0).copied().flatten()).collect();
        let mut spec = DomainSpec { sources: from.iter().copied().collect(), ..DomainSpec::default() };
        if let Some(watermark) = node.watermark() {
            (spec.is_mixed, spec.idle_after) = (reach.1, watermark.idle_after);
            spec.delay = watermark.delay.unwrap_or_default() + node.behind();
        } else if of_inputs.len() > 1
            || (node.derives_watermark() || !node.behind().is_zero()) && !of_inputs.is_empty()
        {
            spec.members = of_inputs.into_iter().collect();
            spec.behind = node.behind();
            spec.is_derived = node.derives_watermark();
        } else {
            return of_inputs.first().copied();
        }
        let domain = self.specs.len();
        self.specs.push(spec);
        self.domain_of.insert(node.id, domain);
        Some(domain)
    }

    pub(super) fn local_of(&self, node: &Node) -> (BTreeSet<NodeId>, bool) {
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

    /// The domain whose watermarks hold on the outputs of a node.
    pub(crate) fn domain(&self, node: NodeId) -> Option<DomainId> {
        self.domains.get(node.0).copied().flatten()
    }

    /// An upper bound on the operators that a row passes on its way (an aggregation is two).
    pub(crate) fn hops(&self) -> u64 {
        2 * self.nodes.len() as u64
    }

    /// The sources, each with its number of partitions.
    pub(crate) fn sources(&self) -> Vec<(NodeId, Arc<dyn DynSource>)> {
        let source = |node: &Node| match &node.kind {
            NodeKind::Source(source) => Some((node.id, Arc::clone(source))),
            _ => None,
        };
        self.nodes.iter().filter_map(source).collect()
    }

    /// How many instances of sinks there are.
    pub(crate) fn sink_instances(&self, workers: usize) -> usize {
        let instances = |node: &Node| match &node.kind {
            NodeKind::Sink { sink: SinkSpec::One(_), .. } => 1,
            NodeKind::Sink { sink: SinkSpec::PerWorker(_), .. } => workers,
            _ => 0,
        };
        self.nodes.iter().map(instances).sum()
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

    /// How many rows operators take at most that hold them while others work on them: the least of them all.
    pub(crate) fn in_flight(&self) -> Option<usize> {
        self.nodes.iter().filter_map(Node::in_flight).min()
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
