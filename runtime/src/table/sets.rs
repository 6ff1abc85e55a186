//! Tables as sets: `distinct`, `union`, `difference`.

use tidemill_operators::OperatorError;
use tidemill_operators::table::copies_after;
use timely::dataflow::operators::Concat;

use super::fold::{Fold, fold};
use super::group::{Copies, Folded, change};
use super::handle::{Table, TableKey, TableRow};
use super::region::{At, Part, Region};
use super::rows::{Of, each, negate_rows};
use super::time::Tick;
use crate::engine::Edge;
use crate::error::RunError;

impl<K: TableKey, V: TableRow> Table<K, V> {
    /// Returns a table of the same rows, each once.
    #[track_caller]
    pub fn distinct(&self) -> Table<K, V> {
        let part = Folded::<K, V, _> { fold: Distinct, of: Of::default() };
        Table::made(self.part("distinct"), self.is_unique, part)
    }

    /// Returns a table of the rows of both tables. The copies of a row add up.
    #[track_caller]
    pub fn union(&self, other: &Table<K, V>) -> Table<K, V> {
        Table::made(self.part("union").local(other.edge.clone()), false, Union::<K, V>(Of::default()))
    }

    /// Returns a table of the rows of this one without those of `other`.
    ///
    /// Each copy in `other` takes one copy away: of a row with three copies here and one there, two stay.
    #[track_caller]
    pub fn difference(&self, other: &Table<K, V>) -> Table<K, V> {
        let part = Difference::<K, V>(Of::default());
        Table::made(self.part("difference").local(other.edge.clone()), self.is_unique, part)
    }
}

#[derive(Clone)]
struct Distinct;

impl<K: TableKey, V: TableRow> Fold<K, V> for Distinct {
    type State = Copies<V>;
    type Row = V;

    fn apply(
        &self,
        key: &K,
        rows: &mut Copies<V>,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<(V, i64)>,
    ) -> Result<(), OperatorError> {
        for (row, diff) in changes.drain(..) {
            match change(key, rows, row.clone(), diff)? {
                (0, 1..) => out.push((row, 1)),
                (1.., 0) => out.push((row, -1)),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_empty(rows: &Copies<V>) -> bool {
        rows.is_empty()
    }
}

struct Union<K, V>(Of<(K, V)>);

impl<K: TableKey, V: TableRow> Part for Union<K, V> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let (left, left_is_placed) = region.updates(&at, 0)?;
        let (right, right_is_placed) = region.updates(&at, 1)?;
        region.keep(&at, left.concat(right), left_is_placed && right_is_placed);
        Ok(Vec::new())
    }
}

struct Difference<K, V>(Of<(K, V)>);

impl<K: TableKey, V: TableRow> Part for Difference<K, V> {
    fn build<'s>(&self, at: At<'_, 's>, region: &mut Region<'s, '_>) -> Result<Vec<Edge<'s>>, RunError> {
        let left = region.placed::<K, V>(&at, 0)?;
        let right = region.placed::<K, V>(&at, 1)?;
        let both = left.concat(each(right, &at.host, "negate", negate_rows::<K, V, Tick>()));
        let more = fold::<K, V, _>(both, &at.host, &at.node.label(), More);
        region.keep(&at, more, true);
        Ok(Vec::new())
    }
}

/// The rows of which there are more than none.
struct More;

impl<K: TableKey, V: TableRow> Fold<K, V> for More {
    type State = Copies<V>;
    type Row = V;

    fn apply(
        &self,
        key: &K,
        rows: &mut Copies<V>,
        changes: &mut Vec<(V, i64)>,
        out: &mut Vec<(V, i64)>,
    ) -> Result<(), OperatorError> {
        for (row, diff) in changes.drain(..) {
            let before = rows.get(&row).copied().unwrap_or(0);
            let now = copies_after(before, diff, || format!("{key:?}, {row:?}"))?;
            let changed = now.max(0) - before.max(0);
            if changed != 0 {
                out.push((row.clone(), changed));
            }
            match now {
                0 => rows.remove(&row),
                now => rows.insert(row, now),
            };
        }
        Ok(())
    }

    fn is_empty(rows: &Copies<V>) -> bool {
        rows.is_empty()
    }
}
