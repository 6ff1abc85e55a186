//! Joins by key: of arrangements, one for each table and key, which all joins of the table share.

use std::sync::Arc;

use differential_dataflow::operators::join::join_traces;
use tidemill_operators::OperatorError;
use tidemill_operators::table::{MOST_COPIES, copies_after};
use timely::container::PushInto;
use timely::dataflow::operators::Concat;

use super::fold::{Fold, fold};
use super::handle::{Table, TableKey, TableRow};
use super::region::{At, Part, Region};
use super::rows::{ByKey, EdgeBuilder, Of, Time, Update, Updates, arrange, each, map_rows, negate_rows};
use super::time::Tick;
use crate::engine::{Edge, FragmentHost};
use crate::error::RunError;

/// Makes a row of two that have the same key.
pub(super) type Pair<K, V, W, U> = Arc<dyn Fn(&K, &V, &W) -> U + Send + Sync>;

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Returns a table of what `function` makes of each row and each row of `other` with the same key.
    ///
    /// A change of either table changes the rows that depend on it. `function` must return the same for the same rows.
    #[track_caller]
    pub fn join<W, U, F>(&self, other: &Table<K, W>, function: F) -> Table<K, U>
    where
        W: TableRow,
        U: TableRow,
        F: Fn(&K, &V, &W) -> U + Send + Sync + 'static,
    {
        let is_unique = self.is_unique && other.is_unique;
        Table::made(
            self.part("join").local(other.edge.clone()),
            is_unique,
            Join::<K, V, W, U>(Arc::new(function)),
        )
    }

    /// Returns a table of what `function` makes of each row and each row of `other` with the same key, or of the row alone if there
    /// is none.
    ///
    /// `function` must return the same for the same rows.
    #[track_caller]
    pub fn left_join<W, U, F>(&self, other: &Table<K, W>, function: F) -> Table<K, U>
    where
        W: TableRow,
        U: TableRow,
        F: Fn(&K, &V, Option<&W>) -> U + Send + Sync + 'static,
    {
        let is_unique = self.is_unique && other.is_unique;
        let part = LeftJoin::<K, V, W, U>(Arc::new(function));
        Table::made(self.part("left_join").local(other.edge.clone()), is_unique, part)
    }

    /// Returns a table of the rows whose key `other` has.
    #[track_caller]
    pub fn semi_join<W: TableRow>(&self, other: &Table<K, W>) -> Table<K, V> {
        let part = SemiJoin::<K, V, W> { is_anti: false, of: Of::default() };
        Table::made(self.part("semi_join").local(other.edge.clone()), self.is_unique, part)
    }

    /// Returns a table of the rows whose key `other` does not have.
    #[track_caller]
    pub fn anti_join<W: TableRow>(&self, other: &Table<K, W>) -> Table<K, V> {
        let part = SemiJoin::<K, V, W> { is_anti: true, of: Of::default() };
        Table::made(self.part("anti_join").local(other.edge.clone()), self.is_unique, part)
    }
}

struct Join<K, V, W, U>(Pair<K, V, W, U>);

impl<K: TableKey, V: TableRow, W: TableRow, U: TableRow> Part for Join<K, V, W, U> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let left = region.arranged::<K, V>(&at, 0)?;
        let right = region.arranged::<K, W>(&at, 1)?;
        let pairs = pairs(left, right, &at.host, Arc::clone(&self.0));
        region.keep(&at, pairs, true);
        Ok(Vec::new())
    }
}

struct SemiJoin<K, V, W> {
    is_anti: bool,
    of: Of<(K, V, W)>,
}

impl<K: TableKey, V: TableRow, W: TableRow> Part for SemiJoin<K, V, W> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let left = region.arranged::<K, V>(&at, 0)?;
        let matched = matched::<K, V, W>(left, &at, region)?;
        let rows = if self.is_anti { without::<K, V>(matched, &at, region)? } else { matched };
        region.keep(&at, rows, true);
        Ok(Vec::new())
    }
}

struct LeftJoin<K, V, W, U>(Arc<dyn Fn(&K, &V, Option<&W>) -> U + Send + Sync>);

impl<K: TableKey, V: TableRow, W: TableRow, U: TableRow> Part for LeftJoin<K, V, W, U> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let left = region.arranged::<K, V>(&at, 0)?;
        let right = region.arranged::<K, W>(&at, 1)?;
        let matched = matched::<K, V, W>(left.clone(), &at, region)?;
        let alone = without::<K, V>(matched, &at, region)?;
        let function = Arc::clone(&self.0);
        let pairs =
            pairs(left, right, &at.host, Arc::new(move |key, row, other| function(key, row, Some(other))));
        let function = Arc::clone(&self.0);
        let step = map_rows::<K, V, K, U, Tick>(move |key, row| {
            let made = function(&key, &row, None);
            Some((key, made))
        });
        let alone = each(alone, &at.host, "alone", step);
        region.keep(&at, pairs.concat(alone), true);
        Ok(Vec::new())
    }
}

/// What a function makes of each pair of rows with the same key.
pub(super) fn pairs<'i, K: TableKey, V: TableRow, W: TableRow, U: TableRow, T: Time>(
    left: ByKey<'i, K, V, T>,
    right: ByKey<'i, K, W, T>,
    host: &FragmentHost,
    function: Pair<K, V, W, U>,
) -> Updates<'i, T> {
    let host = host.clone();
    join_traces::<_, _, _, _, EdgeBuilder<Update<K, U, T>>>(
        left,
        right,
        "join",
        move |key: &K, row: &V, other: &W, tick, copies, others, out: &mut EdgeBuilder<Update<K, U, T>>| {
            // Differential says nowhere else when it begins to run this operator.
            host.enter();
            let made = function(key, row, other);
            match copies.checked_mul(*others).filter(|copies| copies.unsigned_abs() <= MOST_COPIES as u64) {
                Some(copies) => out.push_into(((key.clone(), made), tick, copies)),
                None => {
                    let row = format!("{key:?}, {made:?}");
                    host.fail(OperatorError::TooManyRows { most: MOST_COPIES as u64, row });
                }
            }
        },
    )
}

/// The rows of the left input whose key the right one has.
fn matched<'s, 'i, K: TableKey, V: TableRow, W: TableRow>(
    left: ByKey<'i, K, V>,
    at: &At<'_, 's>,
    region: &mut Region<'s, 'i>,
) -> Result<Updates<'i>, RunError> {
    let right = region.placed::<K, W>(at, 1)?;
    let keys = arrange::<K, (), _>(fold::<K, W, _>(right, &at.host, "keys", Presence), &at.host);
    let function: Pair<K, V, (), V> = Arc::new(|_, row, ()| row.clone());
    Ok(pairs(left, keys, &at.host, function))
}

/// The rows of the left input less others.
fn without<'s, 'i, K: TableKey, V: TableRow>(
    rows: Updates<'i>,
    at: &At<'_, 's>,
    region: &mut Region<'s, 'i>,
) -> Result<Updates<'i>, RunError> {
    let all = region.placed::<K, V>(at, 0)?;
    Ok(all.concat(each(rows, &at.host, "negate", negate_rows::<K, V, Tick>())))
}

/// Which keys have rows: one row for each.
struct Presence;

impl<K: TableKey, V: TableRow> Fold<K, V> for Presence {
    type State = i64;
    type Row = ();

    fn apply(
        &self,
        key: &K,
        rows: &mut i64,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<((), i64)>,
    ) -> Result<(), OperatorError> {
        let before = *rows > 0;
        for (row, diff) in changes.drain(..) {
            *rows = copies_after(*rows, diff, || format!("{key:?}, {row:?}"))?;
        }
        let now = *rows > 0;
        if before != now {
            out.push(((), if now { 1 } else { -1 }));
        }
        Ok(())
    }

    fn is_empty(rows: &i64) -> bool {
        *rows == 0
    }
}
