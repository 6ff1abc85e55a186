//! Loops as they are lowered: a scope in the region, in which times are pairs of tick and round.
//!
//! Inside, differential's own operators compute: what an operator keeps must be right at times that are only partially ordered,
//! which the hash tables of `fold` are not.

use std::any::Any;
use std::sync::Arc;

use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::implementations::ord_neu::VecOrdValBuilder;
use tidemill_operators::{OperatorError, rows};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Concat, ConnectLoop, Enter, Feedback, Leave};
use timely::order::Product;

use super::batches::SharedSpine;
use super::group::negative;
use super::handle::{TableKey, TableRow};
use super::join::{Pair, pairs};
use super::region::{At, Part, Region};
use super::rows::{
    ByKey, Of, Step, Trace, Update, Updates, arrange, each, edge_batch, erase, exchange, map_rows,
    negate_rows, restore,
};
use super::time::{Round, Tick};
use crate::engine::{Edge, FragmentHost};
use crate::error::RunError;

/// A table in a loop as it has been lowered.
pub(super) struct InLoop<'r> {
    updates: Updates<'r, Round>,
    /// As in the region.
    arranged: Option<(Updates<'r, Round>, Box<dyn Any>)>,
    is_placed: bool,
    /// Whether each row changes at most once at a time.
    is_consolidated: bool,
}

/// The body of a loop, as far as it has been lowered.
pub(super) struct Body<'r> {
    host: FragmentHost,
    /// Tables from outside, with times of the region, and whether each row is on the worker of its key.
    entered: Vec<(Updates<'r, Round>, bool)>,
    tables: Vec<InLoop<'r>>,
}

/// An operator in a loop.
pub(super) trait LoopNode: Send + Sync {
    fn build(&self, body: &mut Body<'_>) -> Result<(), RunError>;
}

fn missing() -> RunError {
    RunError::Engine("a loop is lowered without one of its tables".to_owned())
}

impl<'r> Body<'r> {
    fn keep(&mut self, updates: Updates<'r, Round>, is_placed: bool) {
        let is_placed = is_placed || self.host.workers() == 1;
        self.tables.push(InLoop { updates, arranged: None, is_placed, is_consolidated: false });
    }

    fn table(&self, number: usize) -> Result<&InLoop<'r>, RunError> {
        self.tables.get(number).ok_or_else(missing)
    }

    fn placed<K: TableKey, V: TableRow>(&mut self, number: usize) -> Result<Updates<'r, Round>, RunError> {
        let host = self.host.clone();
        let table = self.tables.get_mut(number).ok_or_else(missing)?;
        if !table.is_placed {
            table.updates = exchange::<K, V, _>(table.updates.clone(), &host);
            table.is_placed = true;
        }
        Ok(table.updates.clone())
    }

    fn arranged<K: TableKey, V: TableRow>(
        &mut self,
        number: usize,
    ) -> Result<ByKey<'r, K, V, Round>, RunError> {
        if let Some((batches, trace)) = &self.table(number)?.arranged {
            let trace = trace.downcast_ref::<Trace<K, V, Round>>().ok_or_else(missing)?.clone();
            return Ok(Arranged { stream: restore::<K, V, _>(batches.clone(), &self.host), trace });
        }
        let arranged = arrange::<K, V, _>(self.placed::<K, V>(number)?, &self.host);
        let shared =
            (erase::<K, V, _>(arranged.stream.clone()), Box::new(arranged.trace.clone()) as Box<dyn Any>);
        if let Some(table) = self.tables.get_mut(number) {
            table.arranged = Some(shared);
        }
        Ok(arranged)
    }

    /// The changes of a table, each row at most once at a time.
    fn consolidated<K: TableKey, V: TableRow>(
        &mut self,
        number: usize,
    ) -> Result<Updates<'r, Round>, RunError> {
        if self.table(number)?.is_consolidated {
            return Ok(self.table(number)?.updates.clone());
        }
        let updates = self.placed::<K, V>(number)?;
        Ok(flat(arrange::<K, V, _>(updates, &self.host)))
    }
}

/// The changes of an arrangement.
fn flat<K: TableKey, V: TableRow>(arranged: ByKey<'_, K, V, Round>) -> Updates<'_, Round> {
    let rows = arranged.as_collection(|key: &K, row: &V| (key.clone(), row.clone())).inner;
    rows.unary::<NoopBuilder<_>, _, _, _>(Pipeline, "flat", |_, _| {
        |input, output| {
            input.for_each(|capability, updates: &mut Vec<Update<K, V, Round>>| {
                let mut batch = edge_batch(std::mem::take(updates));
                output.session_with_builder(&capability).give_container(&mut batch);
            });
        }
    })
}

/// What a function makes of the rows of a key, of which there are copies.
pub(super) type Reduce<K, V, W> = Arc<dyn Fn(&K, &[(&V, i64)], &mut Vec<(W, i64)>) + Send + Sync>;

fn reduce<'r, K: TableKey, V: TableRow, W: TableRow>(
    rows: ByKey<'r, K, V, Round>,
    host: &FragmentHost,
    name: &str,
    function: Reduce<K, V, W>,
) -> ByKey<'r, K, W, Round> {
    let host = host.clone();
    rows.reduce_abelian::<_, VecOrdValBuilder<K, W, Round, i64>, SharedSpine<K, W, Round>, _, _>(
        name,
        move |key: &K, rows: &[(&V, i64)], made: &mut Vec<(W, i64)>| {
            host.enter();
            if let Some((row, copies)) = rows.iter().find(|(_, copies)| *copies < 0) {
                return host.fail(negative(key, *row, *copies));
            }
            function(key, rows, made);
        },
        |rows, key: &K, changes| {
            rows.clear();
            rows.extend(changes.drain(..).map(|(row, round, diff)| ((key.clone(), row), round, diff)));
        },
    )
}

/// The table that the loop changes, at the beginning of a round; and tables from outside.
pub(super) struct Enters<K, V> {
    pub(super) input: usize,
    /// The round in which a row comes.
    pub(super) round: Option<Arc<dyn Fn(&K, &V) -> u64 + Send + Sync>>,
}

impl<K: TableKey, V: TableRow> LoopNode for Enters<K, V> {
    fn build(&self, body: &mut Body<'_>) -> Result<(), RunError> {
        let (updates, is_placed) = body.entered.get(self.input).cloned().ok_or_else(missing)?;
        let round = self.round.clone();
        let step: Step = Box::new(move |batch, made| {
            let entered = rows::<Update<K, V>>(batch)?.into_iter().map(|((key, row), tick, diff)| {
                let round = round.as_ref().map_or(0, |round| round(&key, &row));
                ((key, row), Product::new(tick, round), diff)
            });
            made.push(edge_batch(entered.collect::<Vec<Update<K, V, Round>>>()));
            Ok(())
        });
        let updates = each(updates, &body.host, "enter", step);
        body.keep(updates, is_placed);
        Ok(())
    }
}

/// Makes of a row another one, or none.
pub(super) type MapRow<K, V, K2, W> = Arc<dyn Fn(K, V) -> Option<(K2, W)> + Send + Sync>;

pub(super) struct Maps<K, V, K2, W> {
    pub(super) of: usize,
    pub(super) function: MapRow<K, V, K2, W>,
    pub(super) keeps_key: bool,
}

impl<K: TableKey, V: TableRow, K2: TableKey, W: TableRow> LoopNode for Maps<K, V, K2, W> {
    fn build(&self, body: &mut Body<'_>) -> Result<(), RunError> {
        let table = body.table(self.of)?;
        let (updates, is_placed) = (table.updates.clone(), table.is_placed);
        let function = Arc::clone(&self.function);
        let step = map_rows::<K, V, K2, W, Round>(move |key, row| function(key, row));
        let updates = each(updates, &body.host, "map", step);
        body.keep(updates, is_placed && self.keeps_key);
        Ok(())
    }
}

pub(super) struct Joins<K, V, W, U> {
    pub(super) of: [usize; 2],
    pub(super) function: Pair<K, V, W, U>,
}

impl<K: TableKey, V: TableRow, W: TableRow, U: TableRow> LoopNode for Joins<K, V, W, U> {
    fn build(&self, body: &mut Body<'_>) -> Result<(), RunError> {
        let [left, right] = self.of;
        let (left, right) = (body.arranged::<K, V>(left)?, body.arranged::<K, W>(right)?);
        let updates = pairs(left, right, &body.host, Arc::clone(&self.function));
        body.keep(updates, true);
        Ok(())
    }
}

pub(super) struct Unites<K, V> {
    pub(super) of: [usize; 2],
    /// Whether the rows of the second are taken away.
    pub(super) negates: bool,
    pub(super) rows: Of<(K, V)>,
}

impl<K: TableKey, V: TableRow> LoopNode for Unites<K, V> {
    fn build(&self, body: &mut Body<'_>) -> Result<(), RunError> {
        let [left, right] = self.of;
        let (left, right) = (body.table(left)?, body.table(right)?);
        let is_placed = left.is_placed && right.is_placed;
        let (left, mut right) = (left.updates.clone(), right.updates.clone());
        if self.negates {
            right = each(right, &body.host, "negate", negate_rows::<K, V, Round>());
        }
        body.keep(left.concat(right), is_placed);
        Ok(())
    }
}

pub(super) struct Reduces<K, V, W> {
    pub(super) of: usize,
    pub(super) name: &'static str,
    pub(super) function: Reduce<K, V, W>,
}

impl<K: TableKey, V: TableRow, W: TableRow> LoopNode for Reduces<K, V, W> {
    fn build(&self, body: &mut Body<'_>) -> Result<(), RunError> {
        let rows = body.arranged::<K, V>(self.of)?;
        let reduced = reduce(rows, &body.host, self.name, Arc::clone(&self.function));
        let erased = erase::<K, W, _>(reduced.stream.clone());
        let trace: Box<dyn Any> = Box::new(reduced.trace.clone());
        let updates = flat(reduced);
        let arranged = Some((erased, trace));
        body.tables.push(InLoop { updates, arranged, is_placed: true, is_consolidated: true });
        Ok(())
    }
}

/// When a loop ends.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// At rest, which must be within this many rounds.
    Rest(u64),
    /// After this many rounds.
    Exactly(u64),
}

/// A loop: the part of the region, with its body.
pub(super) struct Iterate<K, V, K2, W> {
    pub(super) nodes: Vec<Box<dyn LoopNode>>,
    /// How many tables come from outside. The first is the one that the loop changes.
    pub(super) inputs: usize,
    /// The table with which the next round begins.
    pub(super) next: usize,
    /// The table that leaves.
    pub(super) result: usize,
    pub(super) bound: Bound,
    pub(super) rows: Of<(K, V, K2, W)>,
}

impl<K: TableKey, V: TableRow, K2: TableKey, W: TableRow> Part for Iterate<K, V, K2, W> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let inputs: Result<Vec<_>, RunError> =
            (0..self.inputs).map(|number| region.updates(&at, number)).collect();
        let (inputs, outer) = (inputs?, region.scope);
        let (updates, is_placed) = outer.scoped::<Round, _, _>(&at.node.label(), |scope| {
            let entered = inputs.into_iter().map(|(updates, is_placed)| (updates.enter(scope), is_placed));
            let (host, entered) = (at.host.clone(), entered.collect());
            let mut body = Body { host, entered, tables: Vec::new() };
            Enters::<K, V> { input: 0, round: None }.build(&mut body)?;
            let source = body.table(0)?;
            let (source, is_placed) = (source.updates.clone(), source.is_placed);
            let (handle, again) = scope.feedback(Product::new((), 1));
            // What comes back is on the worker of its key if the whole loop is.
            body.keep(again.concat(source.clone()), is_placed && at.host.workers() == 1);
            for node in &self.nodes {
                node.build(&mut body)?;
            }
            let next = body.consolidated::<K, V>(self.next)?;
            let source = each(source, &at.host, "negate", negate_rows::<K, V, Round>());
            let cut = self.bound.cut::<K, V>(&at.host);
            each(next.concat(source), &at.host, "next round", cut).connect_loop(handle);
            let result = body.table(self.result)?;
            let left = each(result.updates.clone(), &at.host, "leave", leaves::<K2, W>());
            Ok::<_, RunError>((left.leave(outer), result.is_placed))
        })?;
        region.keep(&at, updates, is_placed);
        Ok(Vec::new())
    }
}

/// Drops the rounds.
fn leaves<K: TableKey, V: TableRow>() -> Step {
    Box::new(|batch, made| {
        let updates = rows::<Update<K, V, Round>>(batch)?.into_iter();
        let left = updates.map(|(row, round, diff)| (row, round.outer, diff));
        made.push(edge_batch(left.collect::<Vec<Update<K, V, Tick>>>()));
        Ok(())
    })
}

impl Bound {
    /// Moves changes to the next round, and those of the last round nowhere.
    fn cut<K: TableKey, V: TableRow>(self, host: &FragmentHost) -> Step {
        let host = host.clone();
        let last = match self {
            Bound::Rest(rounds) => rounds,
            Bound::Exactly(rounds) => rounds.saturating_sub(1),
        };
        Box::new(move |batch, made| {
            let mut updates = rows::<Update<K, V, Round>>(batch)?;
            updates.retain_mut(|(row, round, _)| {
                if round.inner < last {
                    round.inner += 1;
                    return true;
                }
                if let Bound::Rest(rounds) = self {
                    host.fail(OperatorError::NotAtRest { rounds, row: format!("{row:?}") });
                }
                false
            });
            if !updates.is_empty() {
                made.push(edge_batch(updates));
            }
            Ok(())
        })
    }
}
