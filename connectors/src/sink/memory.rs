//! A table in memory that can be read while the query runs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tidemill_operators::{Epoch, RowKind, Sink, SinkContext, SinkError};

use super::Pending;
use crate::lock;

/// A sink into memory; see [`memory_sink`].
pub struct MemorySink<T> {
    pending: Pending<T>,
    table: MemoryTable<T>,
}

/// The rows that a [`MemorySink`] has published. Cheap to clone, readable from any thread while the query runs.
pub struct MemoryTable<T> {
    shared: Arc<Mutex<Shown<T>>>,
}

struct Shown<T> {
    /// In order. A map would be compiled for each type of rows, and new epochs come at the end.
    epochs: Vec<(Epoch, Vec<T>)>,
    committed: Option<Epoch>,
}

impl<T> Shown<T> {
    /// Returns the rows of an epoch, none at first.
    fn rows(&mut self, epoch: Epoch) -> &mut Vec<T> {
        let place = match self.epochs.last() {
            Some((last, _)) if *last >= epoch => {
                self.epochs.iter().position(|(other, _)| *other >= epoch).unwrap_or_default()
            }
            _ => self.epochs.len(),
        };
        if self.epochs.get(place).is_none_or(|(other, _)| *other != epoch) {
            self.epochs.insert(place, (epoch, Vec::new()));
        }
        match self.epochs.get_mut(place) {
            Some((_, rows)) => rows,
            None => unreachable!("the epoch is there, or was put there"),
        }
    }
}

impl<T> Clone for MemoryTable<T> {
    fn clone(&self) -> Self {
        MemoryTable { shared: Arc::clone(&self.shared) }
    }
}

/// Returns a sink into memory and the table that it fills.
///
/// The table has the rows of committed epochs; in continuous mode each row at once. Snapshots replace earlier rows.
///
/// ```
/// use tidemill::Sink;
/// use tidemill::prelude::*;
///
/// let (mut sink, table) = memory_sink();
/// sink.write(Epoch::new(0), &mut vec!["a", "b"])?;
/// assert!(table.snapshot().is_empty());
/// sink.commit(Epoch::new(0))?;
/// assert_eq!(table.snapshot(), ["a", "b"]);
/// # Ok::<(), tidemill::SinkError>(())
/// ```
pub fn memory_sink<T: Clone + Send + 'static>() -> (MemorySink<T>, MemoryTable<T>) {
    let shown = Shown { epochs: Vec::new(), committed: None };
    let table = MemoryTable { shared: Arc::new(Mutex::new(shown)) };
    (MemorySink { pending: Pending::new(), table: table.clone() }, table)
}

impl<T: Clone> MemoryTable<T> {
    /// Returns all rows, in the order of their epochs.
    pub fn snapshot(&self) -> Vec<T> {
        let shown = lock(&self.shared);
        let mut all = Vec::with_capacity(shown.epochs.iter().map(|(_, rows)| rows.len()).sum());
        shown.epochs.iter().for_each(|(_, rows)| all.extend_from_slice(rows));
        all
    }

    /// Returns the last row of each key: the current table of an update stream.
    ///
    /// ```
    /// use tidemill::Sink;
    /// use tidemill::prelude::*;
    ///
    /// let (mut sink, table) = memory_sink();
    /// sink.write(Epoch::new(0), &mut vec![("sea", 1), ("tide", 1), ("sea", 2)])?;
    /// sink.commit(Epoch::new(0))?;
    /// assert_eq!(table.latest_by(|(word, _)| *word)["sea"], ("sea", 2));
    /// # Ok::<(), tidemill::SinkError>(())
    /// ```
    pub fn latest_by<K: Hash + Eq>(&self, key: impl Fn(&T) -> K) -> HashMap<K, T> {
        self.snapshot().into_iter().map(|row| (key(&row), row)).collect()
    }

    /// Removes and returns all rows, for queries that run for long.
    pub fn take(&self) -> Vec<T> {
        let epochs = std::mem::take(&mut lock(&self.shared).epochs);
        let mut all = Vec::with_capacity(epochs.iter().map(|(_, rows)| rows.len()).sum());
        epochs.into_iter().for_each(|(_, mut rows)| all.append(&mut rows));
        all
    }

    /// Returns the rows of each epoch that had any.
    pub fn by_epoch(&self) -> Vec<(Epoch, Vec<T>)> {
        lock(&self.shared).epochs.clone()
    }

    /// Returns the last committed epoch.
    pub fn committed_epoch(&self) -> Option<Epoch> {
        lock(&self.shared).committed
    }
}

impl<T: Clone + Send + 'static> Sink<T> for MemorySink<T> {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.pending.open(context);
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        if let Some(rows) = self.pending.add(epoch, rows) {
            let mut shown = lock(&self.table.shared);
            if self.pending.replaces() {
                shown.epochs.retain(|(other, _)| *other == epoch);
            }
            shown.rows(epoch).extend(rows);
        }
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let mut shown = lock(&self.table.shared);
        for (epoch, rows) in self.pending.commit(epoch) {
            if self.pending.replaces() {
                shown.epochs.clear();
            }
            // The same epoch again, after a restart, takes the place of the first time.
            *shown.rows(epoch) = rows;
        }
        shown.committed = shown.committed.max(Some(epoch));
        Ok(())
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::RowKind;

    use super::super::testing::{open, write};
    use super::*;

    #[test]
    fn rows_are_shown_when_their_epoch_commits() {
        let (mut sink, table) = memory_sink();
        open(&mut sink, RowKind::Insert, false);
        write(&mut sink, 0, vec![1, 2]);
        write(&mut sink, 1, vec![3]);
        sink.commit(Epoch::new(0)).unwrap();
        assert_eq!((table.snapshot(), table.committed_epoch()), (vec![1, 2], Some(Epoch::new(0))));
        sink.abort();
        sink.commit(Epoch::new(1)).unwrap();
        assert_eq!(table.by_epoch(), [(Epoch::new(0), vec![1, 2])]);
    }

    #[test]
    fn in_continuous_mode_rows_are_shown_at_once() {
        let (mut sink, table) = memory_sink();
        open(&mut sink, RowKind::Upsert, true);
        write(&mut sink, 0, vec![1, 2]);
        assert_eq!((table.snapshot(), table.committed_epoch()), (vec![1, 2], None));
    }

    #[test]
    fn a_complete_table_replaces_the_one_before() {
        for immediate in [false, true] {
            let (mut sink, table) = memory_sink();
            open(&mut sink, RowKind::Snapshot, immediate);
            for epoch in 0..3 {
                write(&mut sink, epoch, vec![epoch, epoch + 10]);
                sink.commit(Epoch::new(epoch)).unwrap();
            }
            sink.commit(Epoch::new(3)).unwrap();
            assert_eq!(table.by_epoch(), [(Epoch::new(2), vec![2, 12])]);
        }
    }
}
