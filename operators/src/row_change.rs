//! The rows of a stream of changes.

use serde::{Deserialize, Serialize};

/// A row that is added to a table or removed from it: a row of a stream of [changes](crate::RowKind::Changes).
///
/// The number of copies of a row in the table is the sum of the `diff`s of its changes.
///
/// ```
/// use tidemill::RowChange;
///
/// let newer = [RowChange::delete(("apples", 3)), RowChange::insert(("apples", 5))];
/// assert_eq!(newer.map(|change| change.diff), [-1, 1]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowChange<T> {
    /// The row.
    pub row: T,
    /// The number of copies that are added; negative if copies are removed.
    pub diff: i64,
}

impl<T> RowChange<T> {
    /// Returns a change that adds one copy of `row`.
    pub fn insert(row: T) -> Self {
        RowChange { row, diff: 1 }
    }

    /// Returns a change that removes one copy of `row`.
    pub fn delete(row: T) -> Self {
        RowChange { row, diff: -1 }
    }
}
