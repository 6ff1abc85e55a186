//! A sink that counts and drops its rows, for benchmarks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_operators::{Epoch, RowKind, Sink, SinkError};

/// A sink that drops its rows; see [`discard`].
#[derive(Debug)]
pub struct Discard {
    count: DiscardCount,
}

/// How many rows a [`Discard`] has dropped. Readable from any thread while the query runs.
#[derive(Clone, Debug, Default)]
pub struct DiscardCount(Arc<AtomicU64>);

impl DiscardCount {
    /// The number of rows so far, whether their epoch has committed or not.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Returns a sink that drops each row, and the count of the dropped rows.
///
/// ```
/// use tidemill::Sink;
/// use tidemill::prelude::*;
///
/// let (mut sink, count) = discard();
/// sink.write(Epoch::new(0), &mut vec!["a", "b"])?;
/// assert_eq!(count.get(), 2);
/// # Ok::<(), tidemill::SinkError>(())
/// ```
pub fn discard() -> (Discard, DiscardCount) {
    let count = DiscardCount::default();
    (Discard { count: count.clone() }, count)
}

impl<T: Send + 'static> Sink<T> for Discard {
    fn describe(&self) -> String {
        "discard".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        self.count.0.fetch_add(rows.len() as u64, Ordering::Relaxed);
        rows.clear();
        Ok(())
    }

    const ONE_BY_ONE: bool = true;

    fn one_by_one(&self) -> bool {
        // Others cost nothing to drop, and are counted sooner together.
        std::mem::needs_drop::<T>()
    }

    fn write_one(&mut self, _epoch: Epoch, _row: T) -> Result<(), SinkError> {
        self.count.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}
