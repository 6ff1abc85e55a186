//! What tables keep in the checkpoint: their inputs, and a checksum of each of their outputs.
//!
//! A table is derived from inputs, which are ordinary operators with state: `latest` has the newest row of each key, `append` and
//! `changelog` all rows, `newest` and `recent` the last ones. Each emits the changes of its rows, and in its first epoch of a run all rows that it has restored. What is derived from
//! them is not in the checkpoint, but computed again. `content` compares the result with the one before the restart.
//!
//! The rest is in `tidemill-runtime`, since this crate does not know the engine.

mod complete;
mod content;
mod latest;
mod multiset;
mod recent;

use std::panic::Location;

pub use self::complete::complete;
pub use self::content::{ContentChange, content};
pub use self::latest::latest;
pub use self::multiset::{append, changelog};
pub use self::recent::{newest, recent};

use crate::build::Rows;
use crate::keeping::{keep, watch};
use crate::{OperatorError, Stream};

/// How many copies of a row a table may have: so few that a product of two numbers of copies fits, or is recognised.
pub const MOST_COPIES: i64 = 1 << 32;

/// Returns a number of copies after a change.
///
/// # Errors
/// If it is out of bounds.
pub fn copies_after(copies: i64, diff: i64, row: impl FnOnce() -> String) -> Result<i64, OperatorError> {
    match copies.saturating_add(diff) {
        now if now.saturating_abs() <= MOST_COPIES => Ok(now),
        now if now > 0 => Err(OperatorError::TooManyRows { most: MOST_COPIES as u64, row: row() }),
        now => Err(OperatorError::NegativeRows { copies: now.unsigned_abs(), row: row() }),
    }
}

/// A change of a table's input: copies of a row that are added, or removed if there are less than none.
pub type InputChange<K, V> = (K, V, i64);

/// A row that an input had at the beginning of a run; `None` once all have come.
pub type InputLoad<K, V> = Option<(K, V, i64)>;

/// The outputs of an input.
pub type InputRows<K, V> = (Rows<InputChange<K, V>>, Rows<InputLoad<K, V>>);

/// The streams of an input: its changes, and what it had at the beginning of a run.
pub type InputStreams<K, V> = (Stream<InputChange<K, V>>, Stream<InputLoad<K, V>>);

/// Returns a value twice, without memory that it shares with a record.
fn twice<T: Clone>(value: T) -> (T, T) {
    let (copy, shares) = watch(|| value.clone());
    if !shares {
        return (value, copy);
    }
    let own = keep(|| value.clone());
    (own.clone(), own)
}

/// What an input is called, and where the user's program asks for it.
#[derive(Clone, Copy, Debug)]
pub struct InputPlace {
    /// The method.
    pub op: &'static str,
    /// The user's line.
    pub location: &'static Location<'static>,
}
