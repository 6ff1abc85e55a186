//! The rows of a stream of changes.

use serde::{Deserialize, Serialize};

/// A row that is added to a table or taken from it: a row of a stream of [changes](crate::RowKind::Changes).
///
/// Changes add up: a table has a row as often as the sum of its `diff`s.
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
    /// How often the row is added; less than zero if it is taken away.
    pub diff: i64,
}

impl<T> RowChange<T> {
    /// Adds a row.
    pub fn insert(row: T) -> Self {
        RowChange { row, diff: 1 }
    }

    /// Takes a row away.
    pub fn delete(row: T) -> Self {
        RowChange { row, diff: -1 }
    }
}
