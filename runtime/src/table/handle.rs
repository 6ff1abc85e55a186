//! The handle of a table, and what its keys and rows must be.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use tidemill_operators::build::{OperatorBuilder, Rows, Whole};
use tidemill_operators::table::InputChange;
use tidemill_operators::{Data, Graph, Key, RowKind, Stream, Untimed};

use super::region::{Part, REGION, TablePart};
use crate::engine::PartLowering;

/// What a key of a table must be: a key of a stream that can also be sorted.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a table",
    note = "such a key is `#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]`, \
            `Send`, `Sync` and without borrows",
    note = "floats have no order: wrap an `f64` in `tidemill::table::Ordered`"
)]
pub trait TableKey: Key + Ord + Debug + Sync {}
#[diagnostic::do_not_recommend]
impl<K: Key + Ord + Debug + Sync> TableKey for K {}

/// What a row of a table must be: it is sorted, compared and copied.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a row of a table",
    note = "such a row is `#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]`, `Send`, \
            `Sync` and without borrows",
    note = "floats have no order: wrap an `f64` in `tidemill::table::Ordered`"
)]
pub trait TableRow: Data + Ord + Clone + Debug + Sync {}
#[diagnostic::do_not_recommend]
impl<V: Data + Ord + Clone + Debug + Sync> TableRow for V {}

/// A table: rows with keys, which change as the streams do that it comes from.
///
/// A handle, cheap to clone. A table may have several rows of a key, and several copies of a row. The module's documentation
/// has an [example](crate::table).
#[must_use = "a table does nothing until a stream that is made of it ends in a sink"]
pub struct Table<K, V> {
    /// The edge of the region.
    pub(super) edge: Stream<Inner<K, V>>,
    /// The operator that keeps the rows, of a table that is an input.
    pub(super) input: Option<Stream<InputChange<K, V>>>,
    /// Whether no key has more than one row.
    pub(super) is_unique: bool,
}

/// What travels on an edge inside the region, as the graph sees it.
pub(super) struct Inner<K, V>(PhantomData<fn() -> (K, V)>);

impl<K, V> Clone for Inner<K, V> {
    fn clone(&self) -> Self {
        Inner(PhantomData)
    }
}

/// An input of a part that comes from another part.
pub(super) type Within<K, V> = Whole<Inner<K, V>, Untimed>;

/// What parts take from each of their inputs.
pub(super) const INSERTS: &[&[RowKind]] = &[&[RowKind::Insert] as &[RowKind]; MOST_INPUTS];

/// How many inputs a part may have.
pub(super) const MOST_INPUTS: usize = 32;

impl<K: TableKey, V: TableRow> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Table { edge: self.edge.clone(), input: self.input.clone(), is_unique: self.is_unique }
    }
}

impl<K, V> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("of", &std::any::type_name::<(K, V)>()).finish_non_exhaustive()
    }
}

/// What the graph holds of a part.
pub(super) fn lowering(part: impl Part) -> Arc<dyn std::any::Any + Send + Sync> {
    PartLowering { region: &REGION, part: Box::new(TablePart(Box::new(part))), publishes: None }.shared()
}

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Begins a part that reads this table.
    #[track_caller]
    pub(super) fn part(&self, op: &'static str) -> OperatorBuilder<(Within<K, V>,)> {
        self.graph().operator(op).local(self.edge.clone())
    }

    /// The table that a part makes.
    #[track_caller]
    pub(super) fn made<I>(by: OperatorBuilder<I>, is_unique: bool, part: impl Part) -> Table<K, V> {
        let edge = by.part::<(Rows<Inner<K, V>>,)>(INSERTS, lowering(part));
        Table { edge, input: None, is_unique }
    }

    /// Returns the graph that the table belongs to.
    pub fn graph(&self) -> Graph {
        self.edge.graph()
    }

    /// Sets the uid of the table.
    ///
    /// The checkpoint has the rows of an input under its uid, and the checksum of an output under one that is made of the uid
    /// of its table. With uids of their own they are found when the graph around them changes between runs.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("orders");
    /// let orders = graph.source(memory([(1u32, 30u64)])).key_by(|order| order.0).into_table().uid("orders");
    /// # let _ = orders;
    /// ```
    #[track_caller]
    pub fn uid(mut self, uid: &str) -> Self {
        match self.input.take() {
            Some(input) => {
                self.input = Some(input.uid(uid));
                self.edge = self.edge.uid(&format!("{uid}/table"));
            }
            None => self.edge = self.edge.uid(uid),
        }
        self
    }

    /// Sets the name of the table in plans, metrics and errors.
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        self.input = self.input.map(|input| input.name(name));
        self.edge = self.edge.name(name);
        self
    }
}
