//! Results by key: `group` with an aggregate, `count`, `top_k`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::table::{MOST_COPIES, copies_after};
use tidemill_operators::{Aggregate, OperatorError};

use super::fold::{Fold, fold};
use super::handle::{Table, TableKey, TableRow};
use super::region::{At, Part, Region};
use super::rows::Of;
use crate::engine::Edge;
use crate::error::RunError;

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Returns a table of an aggregate of all rows of each key.
    ///
    /// A key without rows has no row in the result. A change costs as much as a merge where the aggregate can
    /// [undo one](Aggregate::RETRACTS), as counts, sums and averages can. Otherwise the aggregate is computed again over all rows of the
    /// key, sorted; so aggregates that depend on the order of records get them sorted by their value.
    ///
    /// ```
    /// use tidemill::aggregate::{Count, Max};
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("orders");
    /// // The third order replaces the first.
    /// let orders = graph.source(memory([(1u32, "Oslo", 30u64), (2, "Oslo", 5), (1, "Rome", 20)]));
    /// let orders = orders.map(|(id, city, amount)| (id, (city.to_owned(), amount))).key_by(|order| order.0);
    /// let by_city = orders.into_table().rekey(|_, (_, (city, amount))| (city, amount));
    /// let (sink, rows) = memory_sink();
    /// by_city.group((Count::new(), Max::of(|amount: &u64| *amount))).complete().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [("Oslo".to_owned(), (1, 5)), ("Rome".to_owned(), (1, 20))]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn group<A>(&self, aggregate: A) -> Table<K, A::Out>
    where
        A: Aggregate<In = V>,
        A::Out: TableRow,
    {
        self.group_with(aggregate, |_, result| result)
    }

    /// As [`group`](Self::group) with what `finish` makes of a result, which may itself not be a row of a table.
    ///
    /// ```
    /// use tidemill::aggregate::Average;
    /// use tidemill::prelude::*;
    /// use tidemill::table::Ordered;
    ///
    /// let graph = Graph::new("readings");
    /// let (sink, rows) = memory_sink();
    /// let readings = graph.source(memory([(1u32, 20u64), (2, 5), (1, 23)])).key_by(|it| it.0).into_append_table();
    /// let average = Average::of(|reading: &(u32, u64)| reading.1 as f64);
    /// readings.group_with(average, |_, it| Ordered(it)).complete().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(1, Ordered(21.5)), (2, Ordered(5.0))]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn group_with<A, W, F>(&self, aggregate: A, finish: F) -> Table<K, W>
    where
        A: Aggregate<In = V>,
        W: TableRow,
        F: Fn(&K, A::Out) -> W + Send + Sync + 'static,
    {
        let by = self.part("group").setting("aggregate", aggregate.describe());
        let fold = Group { aggregate, finish: Arc::new(finish), of: Of::<V>::default() };
        Table::made(by, true, Folded::<K, V, _> { fold, of: Of::default() })
    }

    /// Returns a table of the number of rows of each key.
    #[track_caller]
    pub fn count(&self) -> Table<K, u64> {
        Table::made(self.part("count"), true, Folded::<K, V, _> { fold: Count, of: Of::default() })
    }

    /// Returns a table of the `most` greatest rows of each key.
    ///
    /// Copies of a row count each.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("leaders");
    /// let scores = graph.source(memory([("ann", 7u64), ("bob", 9), ("eve", 3), ("bob", 2)].map(|(who, it)| (who.to_owned(), it))));
    /// let scores = scores.key_by(|score| score.0.clone()).into_table();
    /// let (sink, rows) = memory_sink();
    /// scores.rekey(|who, (_, score)| ((), (score, who))).top_k(2).complete().map(|(_, row)| row).sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = rows.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(3, "eve".to_owned()), (7, "ann".to_owned())]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn top_k(&self, most: usize) -> Table<K, V> {
        let by = self.part("top_k").setting("rows", most);
        Table::made(
            by,
            self.is_unique || most <= 1,
            Folded::<K, V, _> { fold: TopK { most }, of: Of::default() },
        )
    }
}

/// A part that keeps something for each key of its input.
pub(super) struct Folded<K, V, F> {
    pub(super) fold: F,
    pub(super) of: Of<(K, V)>,
}

impl<K: TableKey, V: TableRow, F: Fold<K, V> + Clone + Send + Sync> Part for Folded<K, V, F> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let rows = region.placed::<K, V>(&at, 0)?;
        let folded = fold::<K, V, F>(rows, &at.host, &at.node.label(), self.fold.clone());
        region.keep(&at, folded, true);
        Ok(Vec::new())
    }
}

/// The rows of a key, each with the number of its copies.
pub(super) type Copies<V> = BTreeMap<V, i64>;

/// Changes the number of copies of a row; says how many there were and are.
pub(super) fn change<K: TableKey, V: TableRow>(
    key: &K,
    rows: &mut Copies<V>,
    row: V,
    diff: i64,
) -> Result<(i64, i64), OperatorError> {
    let before = rows.get(&row).copied().unwrap_or(0);
    let now = copies_after(before, diff, || format!("{key:?}, {row:?}"))?;
    match now {
        0 => rows.remove(&row),
        1.. => rows.insert(row, now),
        _ => return Err(negative(key, &row, now)),
    };
    Ok((before, now))
}

/// The error of a row of which there are less than none.
pub(super) fn negative<K: TableKey, V: TableRow>(key: &K, row: &V, copies: i64) -> OperatorError {
    OperatorError::NegativeRows { copies: copies.unsigned_abs(), row: format!("{key:?}, {row:?}") }
}

#[derive(Clone)]
struct Count;

impl<K: TableKey, V: TableRow> Fold<K, V> for Count {
    type State = i64;
    type Row = u64;

    fn apply(
        &self,
        key: &K,
        rows: &mut i64,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<(u64, i64)>,
    ) -> Result<(), OperatorError> {
        let before = *rows;
        for (row, diff) in &*changes {
            *rows = copies_after(*rows, *diff, || format!("{key:?}, {row:?}"))?;
        }
        if *rows < 0 {
            return Err(changes
                .first()
                .map_or_else(|| negative(key, &(), *rows), |(row, _)| negative(key, row, *rows)));
        }
        if before != *rows {
            out.extend(
                [(before, -1), (*rows, 1)]
                    .into_iter()
                    .filter(|(rows, _)| *rows > 0)
                    .map(|(rows, diff)| (rows as u64, diff)),
            );
        }
        Ok(())
    }

    fn is_empty(rows: &i64) -> bool {
        *rows == 0
    }
}

struct Group<A, K, V, Out, W> {
    aggregate: A,
    finish: Arc<dyn Fn(&K, Out) -> W + Send + Sync>,
    of: Of<V>,
}

impl<A: Clone, K, V, Out, W> Clone for Group<A, K, V, Out, W> {
    fn clone(&self) -> Self {
        Group { aggregate: self.aggregate.clone(), finish: Arc::clone(&self.finish), of: self.of }
    }
}

/// The rows of a key, and what they come to.
struct Grouped<V, Acc, W> {
    rows: Copies<V>,
    /// The accumulator of all rows, where it can be changed row by row.
    acc: Option<Acc>,
    /// How many rows there are, with their copies.
    copies: i64,
    /// How many copies of rows there are whose accumulators cannot be retracted.
    fixed: i64,
    result: Option<W>,
}

impl<V, Acc, W> Default for Grouped<V, Acc, W> {
    fn default() -> Self {
        Grouped { rows: Copies::new(), acc: None, copies: 0, fixed: 0, result: None }
    }
}

/// How many copies of a row there may be if accumulators cannot be retracted, which may grow with each.
const MOST_MERGED: i64 = 1 << 24;

impl<A, K, W> Group<A, K, A::In, A::Out, W>
where
    A: Aggregate<In: TableRow>,
    K: TableKey,
{
    /// Changes the accumulator of a key. What is added comes first, since an accumulator of no rows cannot be retracted from.
    fn retract(
        &self,
        key: &K,
        state: &mut Grouped<A::In, A::Acc, W>,
        changes: &[(A::In, i64)],
    ) -> Result<(), OperatorError> {
        for (row, diff) in changes {
            state.copies = copies_after(state.copies, *diff, || format!("{key:?}, {row:?}"))?;
        }
        if state.copies <= 0 {
            state.acc = None;
        }
        for (row, diff) in changes.iter().filter(|(_, diff)| *diff > 0) {
            self.merge(state, row, *diff);
        }
        for (row, diff) in changes.iter().filter(|(_, diff)| *diff < 0) {
            self.merge(state, row, *diff);
        }
        Ok(())
    }

    /// Changes the accumulator of a key by copies of a row.
    fn merge(&self, state: &mut Grouped<A::In, A::Acc, W>, row: &A::In, diff: i64) {
        let single = self.aggregate.create(row);
        if !self.aggregate.can_retract(&single, MOST_COPIES as u64) {
            state.fixed += diff;
            state.acc = None;
            return;
        }
        let Some(acc) = &mut state.acc else { return };
        let copies = self.copies_of(single, diff.unsigned_abs());
        if diff > 0 { self.aggregate.merge(acc, copies) } else { self.aggregate.retract(acc, &copies) }
    }

    /// The accumulator of copies of a row, of which there is at least one: merged by doubling.
    fn copies_of(&self, single: A::Acc, copies: u64) -> A::Acc {
        let (mut power, mut left) = (single, copies);
        let mut merged: Option<A::Acc> = None;
        while left > 1 {
            if left % 2 == 1 {
                match &mut merged {
                    Some(merged) => self.aggregate.merge(merged, power.clone()),
                    None => merged = Some(power.clone()),
                }
            }
            let same = power.clone();
            self.aggregate.merge(&mut power, same);
            left /= 2;
        }
        if let Some(merged) = merged {
            self.aggregate.merge(&mut power, merged);
        }
        power
    }

    /// The accumulator of all rows.
    fn all(&self, key: &K, rows: &Copies<A::In>) -> Result<Option<A::Acc>, OperatorError> {
        let mut acc: Option<A::Acc> = None;
        for (row, copies) in rows {
            if *copies > MOST_MERGED && !A::RETRACTS {
                let row = format!("{key:?}, {row:?}");
                return Err(OperatorError::TooManyRows { most: MOST_MERGED as u64, row });
            }
            match &mut acc {
                Some(acc) if *copies == 1 => self.aggregate.add(acc, row),
                Some(acc) => {
                    let copies = self.copies_of(self.aggregate.create(row), copies.unsigned_abs());
                    self.aggregate.merge(acc, copies);
                }
                None => acc = Some(self.copies_of(self.aggregate.create(row), copies.unsigned_abs())),
            }
        }
        Ok(acc)
    }
}

impl<K, V, A, W> Fold<K, V> for Group<A, K, V, A::Out, W>
where
    K: TableKey,
    V: TableRow,
    A: Aggregate<In = V>,
    W: TableRow,
{
    type State = Grouped<V, A::Acc, W>;
    type Row = W;

    fn apply(
        &self,
        key: &K,
        state: &mut Grouped<V, A::Acc, W>,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<(W, i64)>,
    ) -> Result<(), OperatorError> {
        if A::RETRACTS {
            self.retract(key, state, changes)?;
        }
        for (row, diff) in changes.drain(..) {
            change(key, &mut state.rows, row, diff)?;
        }
        let of_all = match &state.acc {
            _ if state.rows.is_empty() => None,
            Some(acc) => Some(self.aggregate.finish(acc)),
            None => {
                let acc = self.all(key, &state.rows)?;
                let of_all = acc.as_ref().map(|acc| self.aggregate.finish(acc));
                state.acc = acc.filter(|_| A::RETRACTS && state.fixed == 0);
                of_all
            }
        };
        let result = of_all.map(|of_all| (self.finish)(key, of_all));
        if result != state.result {
            out.extend(std::mem::replace(&mut state.result, result.clone()).map(|result| (result, -1)));
            out.extend(result.map(|result| (result, 1)));
        }
        Ok(())
    }

    fn is_empty(state: &Grouped<V, A::Acc, W>) -> bool {
        state.rows.is_empty()
    }
}

/// The greatest rows of a key. A change costs as much as there are rows in the result.
#[derive(Clone)]
struct TopK {
    most: usize,
}

impl TopK {
    /// The rows of the result, from the greatest on.
    fn of<V: TableRow>(&self, rows: &Copies<V>) -> Vec<(V, i64)> {
        let (mut left, mut top) = (i64::try_from(self.most).unwrap_or(i64::MAX), Vec::new());
        for (row, copies) in rows.iter().rev() {
            if left == 0 {
                break;
            }
            let taken = left.min(*copies);
            left -= taken;
            top.push((row.clone(), taken));
        }
        top
    }
}

impl<K: TableKey, V: TableRow> Fold<K, V> for TopK {
    type State = Copies<V>;
    type Row = V;

    fn apply(
        &self,
        key: &K,
        rows: &mut Copies<V>,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<(V, i64)>,
    ) -> Result<(), OperatorError> {
        let before = self.of(rows);
        for (row, diff) in changes.drain(..) {
            change(key, rows, row, diff)?;
        }
        let mut changed: Copies<V> = self.of(rows).into_iter().collect();
        for (row, copies) in before {
            *changed.entry(row).or_default() -= copies;
        }
        out.extend(changed.into_iter().filter(|(_, diff)| *diff != 0));
        Ok(())
    }

    fn is_empty(rows: &Copies<V>) -> bool {
        rows.is_empty()
    }
}
