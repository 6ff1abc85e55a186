//! Publishes a table for other threads: the operator that offers what the table is at the end of each epoch.
//!
//! It adds the changes of an epoch to the runs of its worker and offers the list of runs. Until it has, it holds the epoch: the sink
//! behind it, which writes nothing, prepares the epoch only then, and so it is not committed before.

use std::any::{TypeId, type_name};
use std::sync::Arc;

use tidemill_operators::build::Rows;
use tidemill_operators::{Epoch, RowKind, Sink, SinkError, rows};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability, Leave};

use super::handle::{INSERTS, Table, TableKey, TableRow};
use super::region::{At, Part, REGION, Region, TablePart};
use super::rows::{Of, Update, Updates};
use super::runs::{Content, Runs};
use super::time::Tick;
use crate::engine::{Edge, EdgeBatch, PartLowering};
use crate::error::{RunError, Site};
use crate::published::{Board, PublishedTable};

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Lets other threads read the table under a name while the query runs.
    ///
    /// [`QueryHandle::table`](crate::QueryHandle::table) reads it at the last committed epoch. Each worker keeps its rows sorted in
    /// shared memory for that, so a read never waits for a worker, nor does a worker wait for a read. A table that is not queryable
    /// costs nothing. A graph with two queryable tables of one name is refused.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("prices");
    /// let prices = graph.source(memory([(1u32, 3u64), (2, 4), (1, 5)])).key_by(|price| price.0).into_table();
    /// prices.map(|_, price| price.1).queryable("prices");
    /// let query = graph.start(Options::default())?;
    /// let tables = query.table_reader();
    /// query.wait()?;
    /// let prices = tables.table::<u32, u64>("prices")?;
    /// assert_eq!((prices.get(&1), prices.get(&3), prices.len()), (Some(5), None, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn queryable(&self, name: &str) {
        let mut by = self.part("queryable");
        let location = std::panic::Location::caller();
        let location = format!("{}:{}", location.file(), location.line());
        let nodes = self.graph().nodes();
        let mut published = nodes.iter().filter_map(|node| PartLowering::of(node)?.publishes.as_ref());
        if let Some(other) = published.find(|other| other.name == name) {
            by = by.problem(format!(
                "the table that is queryable at {} has the name `{name}`, too: choose another one",
                other.location
            ));
        }
        let publishes = PublishedTable {
            name: name.to_owned(),
            of: TypeId::of::<(K, V)>(),
            types: (type_name::<K>(), type_name::<V>()),
            location,
        };
        let part: Box<dyn Part> = Box::new(Publish::<K, V>(Of::default()));
        let lowering =
            PartLowering { region: &REGION, part: Box::new(TablePart(part)), publishes: Some(publishes) };
        let edge = by.part::<(Rows<()>,)>(INSERTS, lowering.shared());
        edge.name(name).sink_per_worker(|_| Ok(Gate));
    }
}

/// The sink behind a table that is published. No rows come: it prepares an epoch once nothing of it is held.
struct Gate;

impl Sink<()> for Gate {
    fn describe(&self) -> String {
        "published".to_owned()
    }

    fn takes(&self, _: RowKind) -> bool {
        true
    }

    fn write(&mut self, _: Epoch, rows: &mut Vec<()>) -> Result<(), SinkError> {
        rows.clear();
        Ok(())
    }

    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

struct Publish<K, V>(Of<(K, V)>);

impl<K: TableKey, V: TableRow> Part for Publish<K, V> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let updates = region.placed::<K, V>(&at, 0)?;
        let board = at.host.published().map(Arc::clone);
        let table = board.as_ref().and_then(|board| board.table_of(at.node.id));
        let (Some(board), Some(table)) = (board, table) else {
            return Err(RunError::Engine(format!(
                "{} publishes a table that has no name",
                Site::of(at.node)
            )));
        };
        let publisher = Publisher::<K, V> {
            is_loading: board.restored().is_some(),
            load: Tick::load(at.host.first_epoch().number()),
            board,
            table,
            worker: at.host.worker(),
            runs: Runs::new(),
            rows: 0,
            open: Vec::new(),
            frontier: Some(Tick::default()),
        };
        Ok(vec![publish(updates, &at, region, publisher)])
    }
}

/// Builds the operator. The rows are on the workers of their keys.
fn publish<'s, 'i, K: TableKey, V: TableRow>(
    updates: Updates<'i>,
    at: &At<'_, 's>,
    region: &Region<'s, 'i>,
    mut publisher: Publisher<K, V>,
) -> Edge<'s> {
    let mut builder = OperatorBuilder::new(at.node.label(), region.scope);
    let mut input = builder.new_input(updates, Pipeline);
    let (_, held) = builder.new_output::<EdgeBatch>();
    let (host, ticks) = (at.host.clone(), region.ticks.clone());
    let number = ticks.add_exit();
    builder.build(move |capabilities| {
        drop(capabilities);
        move |frontiers| {
            host.enter();
            input.for_each(|capability, edge_batch| match rows::<Update<K, V>>(host.receive(edge_batch)) {
                Ok(updates) => publisher.take(&capability, updates),
                Err(error) => host.fail(error),
            });
            let frontier = frontiers.first().and_then(|frontier| frontier.frontier().first().copied());
            if frontier != publisher.frontier {
                if publisher.advance(frontier) {
                    host.report_state(usize::try_from(publisher.rows).unwrap_or(0));
                }
                ticks.has_left(number, frontier);
            }
        }
    });
    held.leave(region.outer)
}

/// The changes of an epoch, or those with which the run begins, that are not in the runs yet.
struct Open<D> {
    /// The first tick of the epoch, or that of what inputs have restored.
    from: Tick,
    changes: Vec<(D, i64)>,
    /// Holds the epoch.
    capability: Capability<Tick>,
}

/// How many changes are sorted at once before their epoch is over.
const SORTED: usize = 1 << 14;

/// The first tick of the epoch of a tick, or that of what inputs have restored.
fn begin_of(tick: Tick) -> Tick {
    if tick.is_load() { tick } else { Tick::first(tick.epoch()) }
}

/// What a worker has of a table.
struct Publisher<K, V> {
    board: Arc<Board>,
    table: usize,
    worker: usize,
    /// The tick of what inputs have restored.
    load: Tick,
    /// Whether it has yet to offer that.
    is_loading: bool,
    runs: Runs<(K, V)>,
    /// How many rows there are in the runs.
    rows: i64,
    /// In order.
    open: Vec<Open<(K, V)>>,
    /// The frontier of the last activation.
    frontier: Option<Tick>,
}

impl<K: TableKey, V: TableRow> Publisher<K, V> {
    /// Takes changes. `capability` is that of their message.
    fn take(&mut self, capability: &InputCapability<Tick>, updates: Vec<Update<K, V>>) {
        let mut at = 0;
        for (row, tick, diff) in updates {
            let from = begin_of(tick);
            if self.open.get(at).is_none_or(|open| open.from != from) {
                at = self.open.partition_point(|open| open.from < from);
                if self.open.get(at).is_none_or(|open| open.from != from) {
                    let capability = capability.delayed(&tick, 0);
                    self.open.insert(at, Open { from, changes: Vec::new(), capability });
                }
            }
            if let Some(open) = self.open.get_mut(at) {
                open.changes.push((row, diff));
            }
        }
        // Many changes of one epoch are sorted before it is over, unless earlier ones can still come.
        let frontier = self.frontier.map(begin_of);
        if let Some(open) = self.open.first_mut()
            && open.changes.len() >= SORTED
            && frontier.is_none_or(|frontier| open.from <= frontier)
        {
            let changes = std::mem::take(&mut open.changes);
            self.add(changes);
        }
    }

    fn add(&mut self, changes: Vec<((K, V), i64)>) {
        self.rows += changes.iter().map(|(_, diff)| diff).sum::<i64>();
        self.runs.add(changes, usize::try_from(self.rows).unwrap_or(0));
    }

    /// Offers what is before the frontier; returns whether anything is.
    fn advance(&mut self, frontier: Option<Tick>) -> bool {
        self.frontier = frontier;
        let mut has_offered = false;
        if self.is_loading && frontier.is_none_or(|frontier| frontier > self.load) {
            if self.open.first().is_some_and(|open| open.from.is_load()) {
                let open = self.open.remove(0);
                self.add(open.changes);
            }
            self.board.offer_restored(self.table, self.worker, self.content());
            (self.is_loading, has_offered) = (false, true);
        }
        while self
            .open
            .first()
            .is_some_and(|open| frontier.is_none_or(|frontier| open.from.epoch() < frontier.epoch()))
        {
            let Open { from, changes, capability } = self.open.remove(0);
            self.add(changes);
            self.board.offer(self.table, self.worker, Epoch::new(from.epoch()), self.content());
            // Only now may the epoch be committed.
            drop(capability);
            has_offered = true;
        }
        has_offered
    }

    fn content(&self) -> Arc<Content<K, V>> {
        Arc::new(Content { runs: self.runs.list(), rows: self.rows })
    }
}
