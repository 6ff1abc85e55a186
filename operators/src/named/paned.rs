//! Rows by key in a table for each tumbling window: what a join in such windows buffers.
//!
//! A window closes as a whole: its table is read once from one end to the other, and then emptied. So no key has a timer, and the
//! rows of a key are sorted once, when the window closes.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::hash_table::Entry as Slot;

use super::life::{Life, Ttl};
use super::store::{Held, Store};
use super::timed::RowId;
use super::written::{dropped, read_value, schema, value};
use super::{HashedKey, NamedState};
use crate::keeping::keep;
use crate::schema::StateSchema;
use crate::state::{Entry, Reach, Table, relieve};
use crate::window::Grid;
use crate::{
    Change, Data, EventTime, Key, OperatorError, ProcessingTime, SnapshotWriter, Window, decode, hash_key,
};

/// Rows for each tumbling window and key, any number at one time. In a checkpoint it is a map.
pub(crate) struct PanedRows<K, V>(Panes<K, V>);

struct Panes<K, V> {
    grid: Grid,
    /// In order of time.
    open: VecDeque<Pane<K, V>>,
    /// The place of the one used last: most rows fall in the same one as the row before.
    recent: usize,
    /// How many rows there are in all.
    rows: usize,
    /// Rows of windows that have closed which snapshots hold, by key.
    removed: Vec<(K, Vec<RowId>)>,
    /// An emptied table, for the next window.
    spare: Option<Table<K, OfKey<V>, ()>>,
    is_tracked: bool,
}

/// A window and its rows.
pub(crate) struct Pane<K, V> {
    pub(crate) window: Window,
    /// The first and the last instant.
    instants: (EventTime, EventTime),
    table: Table<K, OfKey<V>, ()>,
    /// The hash of every key with rows that no snapshot holds, if changes are tracked.
    changes: Vec<u64>,
}

/// The rows of a key in a window.
struct OfKey<V> {
    /// Numbered in the order in which they came.
    rows: Vec<Row<V>>,
    /// The number of the next row.
    next: u64,
    /// Snapshots hold rows with a lower number.
    saved: u64,
}

struct Row<V> {
    id: RowId,
    value: V,
}

impl<V> OfKey<V> {
    fn new() -> Self {
        OfKey { rows: Vec::new(), next: 0, saved: 0 }
    }

    fn is_saved(&self) -> bool {
        self.saved == self.next
    }

    #[inline]
    fn push(&mut self, time: EventTime, value: V) {
        self.rows.push(Row { id: (time, self.next), value });
        self.next += 1;
    }

    /// Puts the rows in the order of their event time; those of one time in that in which they came.
    fn sort(&mut self) {
        if !self.rows.is_sorted_by_key(|row| row.id) {
            self.rows.sort_unstable_by_key(|row| row.id);
        }
    }
}

impl<K: Key, V: Data> Pane<K, V> {
    /// Iterates over the keys, in no order, and the rows of each, in order of event time.
    pub(crate) fn by_key(&mut self) -> impl Iterator<Item = (&K, impl Iterator<Item = &V>)> {
        self.table.iter_mut().map(|Entry { key, acc, .. }| {
            acc.sort();
            (&*key, acc.rows.iter().map(|row| &row.value))
        })
    }

    /// The rows of a key, which is added if it has none.
    #[inline]
    fn of(&mut self, key: HashedKey<'_, K>) -> &mut OfKey<V> {
        let entry = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let key = keep(|| key.key.clone());
                slot.insert(Entry { key, acc: OfKey::new(), mark: () }).into_mut()
            }
        };
        &mut entry.acc
    }
}

impl<K: Key, V: Data> PanedRows<K, V> {
    /// Without rows. Each instant must be in one window of the grid.
    pub(crate) fn new(grid: Grid) -> Self {
        PanedRows(Panes {
            grid,
            open: VecDeque::new(),
            recent: 0,
            rows: 0,
            removed: Vec::new(),
            spare: None,
            is_tracked: false,
        })
    }

    /// Adds a row; returns it if its window has closed by the watermark.
    #[inline]
    pub(crate) fn push(
        &mut self,
        key: HashedKey<'_, K>,
        time: EventTime,
        row: V,
        watermark: EventTime,
    ) -> Result<(), V> {
        let is_tracked = self.0.is_tracked;
        let Some(pane) = self.0.pane(time).filter(|pane| pane.window.end > watermark) else {
            return Err(row);
        };
        let of_key = pane.of(key);
        let is_first = of_key.is_saved();
        of_key.push(time, row);
        if is_tracked && is_first {
            pane.changes.push(key.hash);
        }
        self.0.rows += 1;
        Ok(())
    }

    /// Takes out the first window that has closed by the watermark. It must be given to [`clear`](Self::clear).
    pub(crate) fn take_closed(&mut self, watermark: EventTime) -> Option<Pane<K, V>> {
        let first = self.0.open.front()?;
        if first.window.end > watermark {
            return None;
        }
        self.0.recent = 0;
        self.0.open.pop_front()
    }

    /// Removes the rows of a window that has been taken out.
    pub(crate) fn clear(&mut self, Pane { mut table, .. }: Pane<K, V>) {
        let Panes { rows, removed, is_tracked, spare, .. } = &mut self.0;
        table.drain(|key, of_key| {
            *rows -= of_key.rows.len();
            if *is_tracked && of_key.saved > 0 {
                let saved = of_key.rows.iter().map(|row| row.id).filter(|id| id.1 < of_key.saved);
                removed.push((key, saved.collect()));
            }
        });
        *spare = Some(table);
    }
}

impl<K: Key, V: Data> Panes<K, V> {
    /// The window around an instant, opened if it is not open. Divides only when it is another window than last time.
    #[inline]
    fn pane(&mut self, time: EventTime) -> Option<&mut Pane<K, V>> {
        let holds = |pane: &Pane<K, V>| pane.instants.0 <= time && time <= pane.instants.1;
        if !self.open.get(self.recent).is_some_and(holds) {
            self.recent = self.seek(time);
        }
        self.open.get_mut(self.recent)
    }

    #[inline(never)]
    fn seek(&mut self, time: EventTime) -> usize {
        let instants = self.grid.pane(time);
        self.open.binary_search_by_key(&instants.0, |pane| pane.instants.0).unwrap_or_else(|place| {
            let window = self.grid.window(self.grid.last(time));
            let table = self.spare.take().unwrap_or_else(Table::new);
            self.open.insert(place, Pane { window, instants, table, changes: Vec::new() });
            place
        })
    }
}

impl<K: Key, V: Data> Store for Panes<K, V> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn unsaved(&self) -> usize {
        self.removed.len() + self.open.iter().map(|pane| pane.changes.len()).sum::<usize>()
    }

    fn reach(&self) -> Option<Reach> {
        self.open.get(self.recent)?.table.reach()
    }

    fn track(&mut self) {
        self.is_tracked = true;
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let groups = writer.key_groups();
        let gone = self.removed.len();
        for (key, ids) in self.removed.drain(..) {
            let group = groups.of(hash_key(&key));
            ids.into_iter().try_for_each(|id| writer.remove(group, name, &(&key, id)))?;
        }
        relieve(&mut self.removed, gone);
        let mut write = |Entry { key, acc, .. }: &mut Entry<K, OfKey<V>, ()>,
                         is_tracked: bool|
         -> Result<(), OperatorError> {
            let saved = if is_tracked { acc.saved } else { 0 };
            let group = groups.of(hash_key(key));
            for row in acc.rows.iter().rev().take_while(|row| row.id.1 >= saved) {
                writer.put(group, name, &(&*key, row.id), &value(Life::default(), &row.value))?;
            }
            if is_tracked {
                acc.saved = acc.next;
            }
            Ok(())
        };
        for Pane { table, changes, .. } in &mut self.open {
            if !self.is_tracked {
                table.iter_mut().try_for_each(|entry| write(entry, false))?;
            }
            for hash in changes.drain(..) {
                table.of_hash_mut(hash).try_for_each(|entry| write(entry, true))?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        match change {
            Change::Put { key, value, .. } => {
                let (key, id): (K, RowId) = decode(key)?;
                let (_, value) = read_value(value)?;
                let Some(pane) = self.pane(id.0) else { return Ok(()) };
                let of_key = pane.of(HashedKey::of(&key));
                of_key.next = of_key.next.max(id.1.saturating_add(1));
                of_key.saved = of_key.next;
                // A row does not change, so it is put once.
                of_key.rows.push(Row { id, value });
                self.rows += 1;
            }
            Change::Remove { key, .. } => {
                let (key, id): (K, RowId) = decode(key)?;
                let Some(pane) = self.pane(id.0) else { return Ok(()) };
                let hash = hash_key(&key);
                let Some(mut slot) = pane.table.slot(hash, |entry| entry.key == key) else { return Ok(()) };
                let rows = &mut slot.get_mut().acc.rows;
                if let Some(at) = rows.iter().position(|row| row.id == id) {
                    rows.swap_remove(at);
                    if rows.is_empty() {
                        slot.remove();
                    }
                    self.rows -= 1;
                }
            }
            Change::DropSlot { .. } => return Err(dropped()),
        }
        Ok(())
    }

    fn expire(&mut self) {}

    fn ttl(&self) -> Option<Duration> {
        Ttl::none().duration()
    }

    fn set_now(&mut self, _: ProcessingTime) {}
}

impl<K: Key, V: Data> Held for PanedRows<K, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<K: Key, V: Data> NamedState for PanedRows<K, V> {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn schema(&self) -> StateSchema {
        schema::<(K, RowId), V>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::States;

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    fn tens() -> PanedRows<u32, char> {
        let ten = Duration::from_micros(10);
        PanedRows::new(Grid::new(ten, ten, Duration::ZERO))
    }

    fn add(rows: &mut PanedRows<u32, char>, key: u32, time: i64, row: char) {
        assert!(rows.push(HashedKey::of(&key), at(time), row, EventTime::MIN).is_ok());
    }

    /// The rows of the windows that close, by window and key.
    fn close(rows: &mut PanedRows<u32, char>, watermark: i64) -> Vec<(i64, u32, String)> {
        let mut found = Vec::new();
        while let Some(mut pane) = rows.take_closed(at(watermark)) {
            let start = pane.window.start.as_micros();
            found.extend(pane.by_key().map(|(key, rows)| (start, *key, rows.collect())));
            rows.clear(pane);
        }
        found.sort();
        found
    }

    fn delta(rows: &mut PanedRows<u32, char>) -> Vec<Vec<u8>> {
        let mut writer = SnapshotWriter::new();
        States::snapshot(|states| states.add("rows", rows), &mut writer, |_| None).unwrap();
        writer.into_groups().map(|(_, bytes)| bytes).collect()
    }

    fn restored(chain: &[Vec<u8>]) -> PanedRows<u32, char> {
        let mut rows = tens();
        rows.track();
        for bytes in chain {
            States::restore(|states| states.add("rows", &mut rows), bytes, true).unwrap();
        }
        rows
    }

    #[test]
    fn window_closes_with_its_rows_in_order() {
        let mut rows = tens();
        for (key, time, row) in
            [(1, 5, 'c'), (2, 12, 'x'), (1, 5, 'd'), (1, -3, 'a'), (1, 9, 'e'), (1, 10, 'f'), (1, 0, 'b')]
        {
            add(&mut rows, key, time, row);
        }
        assert_eq!(close(&mut rows, 9), [(-10, 1, "a".to_owned())]);
        assert_eq!(rows.rows(), 6);
        assert_eq!(rows.push(HashedKey::of(&1), at(9), 'z', at(10)), Err('z'));
        let expected = [(0, 1, "bcde"), (10, 1, "f"), (10, 2, "x")];
        assert_eq!(close(&mut rows, 20), expected.map(|(start, key, row)| (start, key, row.to_owned())));
        assert_eq!(rows.rows(), 0);
    }

    #[test]
    fn last_instants_of_time_have_windows() {
        let mut rows = tens();
        for time in [i64::MAX, i64::MAX - 1, i64::MIN] {
            add(&mut rows, 1, time, 'a');
        }
        assert_eq!(close(&mut rows, i64::MAX).iter().map(|found| found.2.len()).sum::<usize>(), 3);
    }

    #[test]
    fn snapshots_hold_what_was_added_and_closed_between_them() {
        let mut rows = tens();
        rows.track();
        (0..100).for_each(|key| add(&mut rows, key, 5, 'a'));
        add(&mut rows, 1, 15, 'b');
        let mut chain = delta(&mut rows);
        assert_eq!(restored(&chain).rows(), 101);
        add(&mut rows, 7, 6, 'c');
        assert_eq!(close(&mut rows, 10).len(), 100);
        add(&mut rows, 1, 15, 'd');
        chain.extend(delta(&mut rows));
        // A table that has been used is used again.
        add(&mut rows, 2, 25, 'e');
        chain.extend(delta(&mut rows));
        assert!(delta(&mut rows).is_empty());
        for rows in [&mut rows, &mut restored(&chain)] {
            assert_eq!(rows.rows(), 3);
            let expected = [(10, 1, "bd".to_owned()), (20, 2, "e".to_owned())];
            assert_eq!(close(rows, 30), expected);
            chain.extend(delta(rows));
            assert_eq!((restored(&chain).rows(), rows.unsaved()), (0, 0));
        }
    }
}
