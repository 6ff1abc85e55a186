//! Loops: `iterate`, and the tables inside of one.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use tidemill_operators::build::OperatorBuilder;

use super::handle::{MOST_INPUTS, Table, TableKey, TableRow};
use super::looped::{Bound, Enters, Iterate, Joins, LoopNode, MapRow, Maps, Reduces, Unites};
use super::rows::Of;

/// A loop that is being built: brings tables into it.
///
/// The lifetime belongs to one loop: its tables can be used neither outside of it nor in another one.
///
/// ```compile_fail
/// # use tidemill::prelude::*;
/// # let graph = Graph::new("loop");
/// # let rows = graph.source(memory([(1u32, 2u32)])).key_by(|row| row.0).into_table();
/// let mut inside = None;
/// let result = rows.iterate(9, |rows, _| {
///     inside = Some(rows.clone()); // leaves the loop: does not compile
///     rows
/// });
/// ```
pub struct Loop<'l> {
    body: Rc<RefCell<Recipe>>,
    brand: Brand<'l>,
}

/// Equal only to itself.
type Brand<'l> = PhantomData<fn(&'l ()) -> &'l ()>;

/// What has been built of a loop.
struct Recipe {
    builder: Option<OperatorBuilder<()>>,
    inputs: usize,
    nodes: Vec<Box<dyn LoopNode>>,
}

/// Nodes before those of the body: the table that the loop changes, and the same at the beginning of each round.
const FIRST: usize = 2;

/// A table inside of a loop: its rows in each round.
///
/// It has the operators that are right in a loop. The others, and outputs, are methods of [`Table`], for the result of the loop:
///
/// ```compile_fail
/// # use tidemill::prelude::*;
/// # let graph = Graph::new("loop");
/// # let rows = graph.source(memory([(1u32, 2u32)])).key_by(|row| row.0).into_table();
/// let result = rows.iterate(9, |rows, _| rows.top_k(3)); // not in a loop
/// ```
///
/// A table from outside has to be [brought in](Loop::enter):
///
/// ```compile_fail
/// # use tidemill::prelude::*;
/// # let graph = Graph::new("loop");
/// # let rows = graph.source(memory([(1u32, 2u32)])).key_by(|row| row.0).into_table();
/// let result = rows.iterate(9, |inner, _| inner.semi_join(&rows));
/// ```
pub struct LoopTable<'l, K, V> {
    body: Rc<RefCell<Recipe>>,
    node: usize,
    brand: Brand<'l>,
    rows: Of<(K, V)>,
}

impl<K, V> Clone for LoopTable<'_, K, V> {
    fn clone(&self) -> Self {
        LoopTable { body: Rc::clone(&self.body), node: self.node, brand: PhantomData, rows: PhantomData }
    }
}

impl std::fmt::Debug for Loop<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loop").finish_non_exhaustive()
    }
}

impl<K, V> std::fmt::Debug for LoopTable<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoopTable").field("of", &std::any::type_name::<(K, V)>()).finish_non_exhaustive()
    }
}

impl<'l> Loop<'l> {
    /// Brings a table from outside into the loop: it is the same in each round.
    pub fn enter<K: TableKey, V: TableRow>(&self, table: &Table<K, V>) -> LoopTable<'l, K, V> {
        self.enters(table, None)
    }

    /// As [`enter`](Self::enter), with each row from the round on that `round` returns, counted from 0.
    ///
    /// Rows that come first may make later ones unnecessary: this saves work where one row wins over others, as the least label
    /// does in connected components (the idea is from differential dataflow's `propagate_core`).
    pub fn enter_at<K, V, F>(&self, table: &Table<K, V>, round: F) -> LoopTable<'l, K, V>
    where
        K: TableKey,
        V: TableRow,
        F: Fn(&K, &V) -> u64 + Send + Sync + 'static,
    {
        self.enters(table, Some(Arc::new(round)))
    }

    fn enters<K: TableKey, V: TableRow>(
        &self,
        table: &Table<K, V>,
        round: Option<Arc<dyn Fn(&K, &V) -> u64 + Send + Sync>>,
    ) -> LoopTable<'l, K, V> {
        let input = {
            let body = &mut *self.body.borrow_mut();
            body.builder = body.builder.take().map(|builder| builder.also(table.edge.clone()));
            body.inputs += 1;
            body.inputs - 1
        };
        added(&self.body, Enters::<K, V> { input, round })
    }
}

/// The table that a node makes.
fn added<'l, K, V>(body: &Rc<RefCell<Recipe>>, node: impl LoopNode + 'static) -> LoopTable<'l, K, V> {
    let nodes = &mut body.borrow_mut().nodes;
    nodes.push(Box::new(node));
    let node = FIRST + nodes.len() - 1;
    LoopTable { body: Rc::clone(body), node, brand: PhantomData, rows: PhantomData }
}

impl<'l, K: TableKey, V: TableRow> LoopTable<'l, K, V> {
    /// Returns the rows that `function` makes, under the same keys.
    pub fn map<W, F>(&self, function: F) -> LoopTable<'l, K, W>
    where
        W: TableRow,
        F: Fn(&K, V) -> W + Send + Sync + 'static,
    {
        self.maps(true, move |key: K, row| {
            let row = function(&key, row);
            Some((key, row))
        })
    }

    /// Returns the rows for which `predicate` returns `true`.
    pub fn filter<F>(&self, predicate: F) -> LoopTable<'l, K, V>
    where
        F: Fn(&K, &V) -> bool + Send + Sync + 'static,
    {
        self.maps(true, move |key: K, row: V| predicate(&key, &row).then_some((key, row)))
    }

    /// Returns other rows under other keys.
    pub fn rekey<K2, W, F>(&self, function: F) -> LoopTable<'l, K2, W>
    where
        K2: TableKey,
        W: TableRow,
        F: Fn(K, V) -> (K2, W) + Send + Sync + 'static,
    {
        self.maps(false, move |key, row| Some(function(key, row)))
    }

    fn maps<K2: TableKey, W: TableRow>(
        &self,
        keeps_key: bool,
        function: impl Fn(K, V) -> Option<(K2, W)> + Send + Sync + 'static,
    ) -> LoopTable<'l, K2, W> {
        let function: MapRow<K, V, K2, W> = Arc::new(function);
        added(&self.body, Maps { of: self.node, function, keeps_key })
    }

    /// Returns what `function` makes of each row and each row of `other` with the same key.
    pub fn join<W, U, F>(&self, other: &LoopTable<'l, K, W>, function: F) -> LoopTable<'l, K, U>
    where
        W: TableRow,
        U: TableRow,
        F: Fn(&K, &V, &W) -> U + Send + Sync + 'static,
    {
        added(&self.body, Joins { of: [self.node, other.node], function: Arc::new(function) })
    }

    /// Returns the rows whose key `other` has.
    pub fn semi_join<W: TableRow>(&self, other: &LoopTable<'l, K, W>) -> LoopTable<'l, K, V> {
        let keys = other.group(|_, _| Some(()));
        self.join(&keys, |_, row, ()| row.clone())
    }

    /// Returns the rows whose key `other` does not have.
    pub fn anti_join<W: TableRow>(&self, other: &LoopTable<'l, K, W>) -> LoopTable<'l, K, V> {
        let matched = self.semi_join(other);
        added(&self.body, Unites::<K, V> { of: [self.node, matched.node], negates: true, rows: PhantomData })
    }

    /// Returns the rows of both tables. The copies of a row add up.
    pub fn union(&self, other: &LoopTable<'l, K, V>) -> LoopTable<'l, K, V> {
        added(&self.body, Unites::<K, V> { of: [self.node, other.node], negates: false, rows: PhantomData })
    }

    /// Returns the rows that `function` makes of all rows of each key, which come sorted, each with the number of its copies.
    ///
    /// It is called again with all rows of a key when one of them changes.
    pub fn group<W, I, F>(&self, function: F) -> LoopTable<'l, K, W>
    where
        W: TableRow,
        I: IntoIterator<Item = W>,
        F: Fn(&K, &[(&V, i64)]) -> I + Send + Sync + 'static,
    {
        self.reduced("group", move |key, rows, made| {
            made.extend(function(key, rows).into_iter().map(|row| (row, 1)))
        })
    }

    fn reduced<W: TableRow>(
        &self,
        name: &'static str,
        function: impl Fn(&K, &[(&V, i64)], &mut Vec<(W, i64)>) + Send + Sync + 'static,
    ) -> LoopTable<'l, K, W> {
        added(&self.body, Reduces::<K, V, W> { of: self.node, name, function: Arc::new(function) })
    }

    /// Returns the least row of each key.
    pub fn min(&self) -> LoopTable<'l, K, V> {
        self.reduced("min", |_, rows, made| made.extend(rows.first().map(|(row, _)| ((*row).clone(), 1))))
    }

    /// Returns the greatest row of each key.
    pub fn max(&self) -> LoopTable<'l, K, V> {
        self.reduced("max", |_, rows, made| made.extend(rows.last().map(|(row, _)| ((*row).clone(), 1))))
    }

    /// Returns the same rows, each once.
    pub fn distinct(&self) -> LoopTable<'l, K, V> {
        self.reduced("distinct", |_, rows, made| made.extend(rows.iter().map(|(row, _)| ((*row).clone(), 1))))
    }
}

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Returns the table after `function` has been applied again and again, until nothing changes.
    ///
    /// `function` gets the table that a round begins with, and the loop, by which other tables
    /// [come in](Loop::enter); it returns the table with which the next round begins. When an input changes, only those rows of each round
    /// are computed again that depend on it. A loop that is not at rest after `most_rounds` rounds ends the query with an error that
    /// names it; choose a bound that no right input reaches. Conclude `function` with an operator that makes rows distinct (`distinct`,
    /// `min`, `max`, `group`): copies that add up in each round never come to rest.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("who reports to whom");
    /// let reports = graph.source(memory([(1u32, 2u32), (2, 3), (3, 4)])); // (employee, manager)
    /// let reports = reports.key_by(|report| report.1).into_append_table().map(|_, (employee, _)| employee);
    ///
    /// let boss = reports.filter(|manager, _| *manager == 4).map(|_, _| ()).distinct();
    /// let below = boss.iterate(100, |below, scope| {
    ///     let reports = scope.enter(&reports);
    ///     let more = below.join(&reports, |_, (), employee| *employee).rekey(|_, employee| (employee, ()));
    ///     below.union(&more).distinct()
    /// });
    ///
    /// let (sink, rows) = memory_sink();
    /// below.complete().map(|row| row.0).sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [1, 2, 3, 4]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn iterate<F>(&self, most_rounds: u64, function: F) -> Table<K, V>
    where
        F: for<'l> FnOnce(LoopTable<'l, K, V>, &Loop<'l>) -> LoopTable<'l, K, V>,
    {
        self.looped(Bound::Rest(most_rounds), |table, scope| {
            let next = function(table, scope);
            (next.clone(), next)
        })
    }

    /// Returns the table after `function` has been applied `rounds` times, at rest or not.
    ///
    /// As [`iterate`](Self::iterate), without its error.
    #[track_caller]
    pub fn iterate_exactly<F>(&self, rounds: u64, function: F) -> Table<K, V>
    where
        F: for<'l> FnOnce(LoopTable<'l, K, V>, &Loop<'l>) -> LoopTable<'l, K, V>,
    {
        self.looped(Bound::Exactly(rounds), |table, scope| {
            let next = function(table, scope);
            (next.clone(), next)
        })
    }

    /// As [`iterate`](Self::iterate) with two tables that `function` returns: that with which the next round begins, and the
    /// one that is the result once nothing changes.
    #[track_caller]
    pub fn iterate_into<K2, W, F>(&self, most_rounds: u64, function: F) -> Table<K2, W>
    where
        K2: TableKey,
        W: TableRow,
        F: for<'l> FnOnce(LoopTable<'l, K, V>, &Loop<'l>) -> (LoopTable<'l, K, V>, LoopTable<'l, K2, W>),
    {
        self.looped(Bound::Rest(most_rounds), function)
    }

    #[track_caller]
    fn looped<K2, W, F>(&self, bound: Bound, function: F) -> Table<K2, W>
    where
        K2: TableKey,
        W: TableRow,
        F: for<'l> FnOnce(LoopTable<'l, K, V>, &Loop<'l>) -> (LoopTable<'l, K, V>, LoopTable<'l, K2, W>),
    {
        let builder = self.graph().operator("iterate").also(self.edge.clone());
        let recipe = Recipe { builder: Some(builder), inputs: 1, nodes: Vec::new() };
        let body = Rc::new(RefCell::new(recipe));
        let table =
            LoopTable { body: Rc::clone(&body), node: FIRST - 1, brand: PhantomData, rows: PhantomData };
        let scope = Loop { body: Rc::clone(&body), brand: PhantomData };
        let (next, result) = function(table, &scope);
        let (next, result) = (next.node, result.node);
        let body = &mut *body.borrow_mut();
        let builder = body.builder.take().unwrap_or_else(|| self.graph().operator("iterate"));
        let builder = match bound {
            Bound::Rest(0) | Bound::Exactly(0) => {
                builder.problem("a loop has at least one round, and this one has none".to_owned())
            }
            _ if body.inputs > MOST_INPUTS => {
                builder.problem(format!("a loop takes at most {MOST_INPUTS} tables (got {})", body.inputs))
            }
            _ => builder,
        };
        let (nodes, inputs) = (std::mem::take(&mut body.nodes), body.inputs);
        let part = Iterate::<K, V, K2, W> { nodes, inputs, next, result, bound, rows: PhantomData };
        Table::made(builder, false, part)
    }
}
