//! What has been lowered of the region on a worker.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::operators::arrange::Arranged;
use tidemill_operators::graph::{Node, NodeId};
use timely::dataflow::Scope;
use timely::dataflow::operators::Enter;

use super::exit::CONTENT;
use super::handle::{TableKey, TableRow};
use super::rows::{ByKey, Trace, Updates, arrange, erase, exchange, restore};
use super::ticks::Ticks;
use super::time::Tick;
use crate::engine::{Edge, FragmentHost, Inside, LowerAll, LowerPart, OpenRegion, PartSpec, Time};
use crate::error::{RunError, Site};

/// The region of tables.
pub(super) static REGION: Tables = Tables;

/// Opens the region.
pub(super) struct Tables;

impl OpenRegion for Tables {
    fn open<'s>(
        &self,
        inside: &Inside<'s>,
        nodes: &[Node],
        has_state: &BTreeSet<NodeId>,
        lower: &mut LowerAll<'_, 's>,
    ) -> Result<(), RunError> {
        let mut readers = BTreeMap::new();
        for input in nodes.iter().filter(|node| node.is_part()).flat_map(|node| &node.inputs) {
            *readers.entry(input.from).or_default() += 1;
        }
        // The checksum of an output is on all workers, and there is one once an epoch of it has been committed.
        let recorded = nodes.iter().filter(|node| has_state.contains(&node.id)).flat_map(|node| &node.inputs);
        let recorded = recorded.filter(|input| input.port == CONTENT).map(|input| input.from).collect();
        let outer = inside.scope;
        let ticks = Ticks::new(&inside.host)?;
        inside.scoped::<Tick, _>("tables", |scope| {
            lower(&mut Region { outer, scope, ticks, readers, recorded, tables: BTreeMap::new() })
        })
    }
}

/// What a node of the graph holds of a part, and the region lowers. `Part` is a trait so that types are known only to who made it.
pub(super) struct TablePart(pub(super) Box<dyn Part>);

/// A part of the region.
pub(super) trait Part: Send + Sync + 'static {
    /// Builds the operators of the part. Returns the edges that lead out of the region.
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError>;
}

/// A part's place in the graph.
pub(super) struct At<'a, 's> {
    pub(super) node: &'a Node,
    pub(super) host: FragmentHost,
    /// Edges from outside of the region.
    outside: Vec<Option<Edge<'s>>>,
}

impl<'s> At<'_, 's> {
    /// The node from which an input comes.
    pub(super) fn input(&self, number: usize) -> Result<NodeId, RunError> {
        let input = self.node.inputs.get(number).ok_or_else(|| missing(self.node))?;
        Ok(input.from)
    }

    /// An input from outside of the region.
    pub(super) fn outside(&mut self, number: usize) -> Result<Edge<'s>, RunError> {
        let edge = self.outside.get_mut(number).and_then(Option::take);
        edge.ok_or_else(|| missing(self.node))
    }
}

/// Which does not happen: nodes come after their inputs.
fn missing(node: &Node) -> RunError {
    RunError::Engine(format!("{} is lowered without one of its inputs", Site::of(node)))
}

/// A table as it has been lowered.
struct Lowered<'i> {
    updates: Updates<'i>,
    /// Its batches, and the trace that belongs to them: `Any` has no lifetime and a stream has one, so the batches are erased.
    arranged: Option<(Updates<'i>, Box<dyn Any>)>,
    /// Whether each row is on the worker of its key.
    is_placed: bool,
}

pub(super) struct Region<'s, 'i> {
    pub(super) outer: Scope<'s, Time>,
    pub(super) scope: Scope<'i, Tick>,
    pub(super) ticks: Ticks,
    /// How many inputs of parts read each node.
    readers: BTreeMap<NodeId, usize>,
    /// The ways out whose content the checkpoint knows.
    recorded: BTreeSet<NodeId>,
    tables: BTreeMap<NodeId, Lowered<'i>>,
}

impl<'s> LowerPart<'s> for Region<'s, '_> {
    fn part(&mut self, spec: PartSpec<'_, 's>) -> Result<Vec<Edge<'s>>, RunError> {
        let PartSpec { node, host, inputs, part } = spec;
        let Some(TablePart(part)) = part.downcast_ref() else {
            return Err(RunError::Engine(format!("{} is not a part of the tables", Site::of(node))));
        };
        part.build(At { node, host, outside: inputs }, self)
    }
}

impl<'s, 'i> Region<'s, 'i> {
    /// Whether the checkpoint knows the content of a way out: then its rows have been emitted before.
    pub(super) fn is_recorded(&self, exit: NodeId) -> bool {
        self.recorded.contains(&exit)
    }

    /// An edge from outside, in the region.
    pub(super) fn enter(&self, edge: Edge<'s>) -> Updates<'i> {
        edge.enter(self.scope)
    }

    /// Keeps the changes of a table. `is_placed`: each row is on the worker of its key.
    pub(super) fn keep(&mut self, at: &At<'_, 's>, updates: Updates<'i>, is_placed: bool) {
        let is_placed = is_placed || at.host.workers() == 1;
        self.tables.insert(at.node.id, Lowered { updates, arranged: None, is_placed });
    }

    /// The changes of an input of a part, and whether each row is on the worker of its key.
    pub(super) fn updates(&self, at: &At<'_, 's>, input: usize) -> Result<(Updates<'i>, bool), RunError> {
        let table = self.tables.get(&at.input(input)?).ok_or_else(|| missing(at.node))?;
        Ok((table.updates.clone(), table.is_placed))
    }

    /// The changes of an input of a part, with each row on the worker of its key.
    pub(super) fn placed<K: TableKey, V: TableRow>(
        &mut self,
        at: &At<'_, 's>,
        input: usize,
    ) -> Result<Updates<'i>, RunError> {
        let (updates, is_placed) = self.updates(at, input)?;
        if is_placed {
            return Ok(updates);
        }
        // The other readers have them there, too.
        let placed = exchange::<K, V, _>(updates, &at.host);
        if let Some(table) = self.tables.get_mut(&at.input(input)?) {
            (table.updates, table.is_placed) = (placed.clone(), true);
        }
        Ok(placed)
    }

    /// An input of a part, arranged by key: by the first who asks, for all.
    pub(super) fn arranged<K: TableKey, V: TableRow>(
        &mut self,
        at: &At<'_, 's>,
        input: usize,
    ) -> Result<ByKey<'i, K, V>, RunError> {
        let from = at.input(input)?;
        if let Some((batches, trace)) = self.tables.get(&from).and_then(|table| table.arranged.as_ref()) {
            let trace = trace.downcast_ref::<Trace<K, V>>().ok_or_else(|| missing(at.node))?;
            return Ok(Arranged {
                stream: restore::<K, V, _>(batches.clone(), &at.host),
                trace: trace.clone(),
            });
        }
        let arranged = arrange::<K, V, _>(self.placed::<K, V>(at, input)?, &at.host);
        // Who reads alone keeps it to itself.
        if self.readers.get(&from).is_some_and(|readers| *readers > 1)
            && let Some(table) = self.tables.get_mut(&from)
        {
            table.arranged =
                Some((erase::<K, V, _>(arranged.stream.clone()), Box::new(arranged.trace.clone())));
        }
        Ok(arranged)
    }
}
