//! The rows of two sides for each key, by side and event time: what an interval join buffers.
//!
//! Both sides of a key lie in one entry of one table, so that one look-up finds what a row matches and where it is to be kept.
//! The first row of each side lies in the entry itself: most keys of a large table have no more, and then no other memory is
//! read.

use std::ops::RangeInclusive;
use std::time::Duration;

use hashbrown::hash_table::{Entry as Slot, OccupiedEntry};
use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::life::Life;
use super::sorted::Sorted;
use super::store::{Held, Store};
use super::written::{self, dropped, read_value, value};
use super::{HashedKey, NamedState};
use crate::keeping::keep;
use crate::schema::StateSchema;
use crate::state::{Entry, Reach, Table, relieve};
use crate::{Change, Data, EventTime, Key, OperatorError, ProcessingTime, SnapshotWriter, decode, hash_key};

/// The number of the left side, and of the right one.
const LEFT: u8 = 0;
const RIGHT: u8 = 1;

/// What tells the rows of a key apart in a checkpoint: the side, the event time, and a number among those of one time.
type SidedId = (u8, EventTime, u64);

/// What tells the rows of a side apart.
type RowId = (EventTime, u64);

/// A row of either side, as a checkpoint has it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Side<L, R> {
    Left(L),
    Right(R),
}

/// A row, and whether another one has matched it, as a checkpoint has them.
#[derive(Serialize, Deserialize)]
struct Buffered<L, R> {
    row: Side<L, R>,
    is_matched: bool,
}

/// A buffered row.
#[derive(Debug)]
struct Cell<V> {
    row: V,
    /// Whether it has changed since the last snapshot.
    is_changed: bool,
    /// Whether snapshots hold it, so that its removal has to be written.
    is_saved: bool,
    /// Whether a row of the other side has matched it.
    is_matched: bool,
}

impl<V> Cell<V> {
    /// Notes that the row goes into a snapshot; returns whether it has changed since the last one.
    fn save(&mut self) -> bool {
        self.is_saved = true;
        std::mem::take(&mut self.is_changed)
    }
}

type RowsOfSide<V> = Sorted<RowId, Cell<V>>;

/// How many places ahead a sweep has the memory of rows fetched.
const SWEPT_AHEAD: usize = 8;

/// The rows of a key.
#[derive(Debug)]
struct Rows<L, R> {
    left: RowsOfSide<L>,
    right: RowsOfSide<R>,
}

impl<L, R> Rows<L, R> {
    fn new() -> Self {
        Rows { left: Sorted::new(), right: Sorted::new() }
    }

    fn is_empty(&self) -> bool {
        self.left.is_empty() && self.right.is_empty()
    }

    /// Has the memory fetched in which the rows are that do not lie here.
    #[inline]
    fn fetch(&self) {
        self.left.fetch();
        self.right.fetch();
    }

    fn contains(&self, &(side, time, number): &SidedId) -> bool {
        let id = (time, number);
        if side == LEFT { self.left.get(&id).is_some() } else { self.right.get(&id).is_some() }
    }

    fn has_changed(&self, &(side, time, number): &SidedId) -> bool {
        let id = (time, number);
        match side {
            LEFT => self.left.get(&id).is_some_and(|cell| cell.is_changed),
            _ => self.right.get(&id).is_some_and(|cell| cell.is_changed),
        }
    }
}

/// Whether the list of removed rows refers to the key, which then has to stay until the snapshot.
type Pinned = bool;

type KeyEntry<K, L, R> = Entry<K, Rows<L, R>, Pinned>;

/// Rows of two sides for each key in order of event time, any number at one time. In a checkpoint it is a map.
pub(crate) struct SidedRows<K, L, R> {
    table: Table<K, Rows<L, R>, Pinned>,
    book: Book,
}

/// What a write to any key changes.
struct Book {
    /// How many rows there are in all.
    rows: usize,
    /// Where every row is that has changed, if changes are tracked.
    changes: Changes<(u64, SidedId)>,
    /// Rows that snapshots hold and that were removed since the last one, each once; some may be back. The hash finds the
    /// key, which is therefore pinned.
    removed: Vec<(u64, SidedId)>,
    is_tracked: bool,
}

/// The rows of one key. [`close`](Self::close) must be called at the end.
pub(crate) struct OfKey<'n, K, L, R> {
    hash: u64,
    slot: OccupiedEntry<'n, KeyEntry<K, L, R>>,
    book: &'n mut Book,
}

/// The rows of one side of a key.
pub(crate) struct OfSide<'n, V> {
    side: u8,
    hash: u64,
    rows: &'n mut RowsOfSide<V>,
    pinned: &'n mut Pinned,
    book: &'n mut Book,
}

impl<K: Key, L: Data, R: Data> SidedRows<K, L, R> {
    pub(crate) fn new() -> Self {
        let book = Book { rows: 0, changes: Changes::new(), removed: Vec::new(), is_tracked: false };
        SidedRows { table: Table::new(), book }
    }

    /// Finds the rows of a key, which is added if it is not there.
    #[inline]
    pub(crate) fn open(&mut self, key: HashedKey<'_, K>) -> OfKey<'_, K, L, R> {
        if self.book.changes.is_full(self.book.rows) {
            self.tidy();
        }
        let slot = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => slot,
            Slot::Vacant(slot) => {
                slot.insert(Entry { key: keep(|| key.key.clone()), acc: Rows::new(), mark: false })
            }
        };
        OfKey { hash: key.hash, slot, book: &mut self.book }
    }

    /// Has the memory of the rows of some keys fetched, if there are many keys. Call it for
    /// [`AHEAD`](crate::state::Reach::AHEAD) rows at a time.
    #[inline]
    pub(crate) fn fetch<'k>(&self, keys: impl Iterator<Item = HashedKey<'k, K>> + Clone)
    where
        K: 'k,
    {
        let Some(reach) = self.table.reach() else { return };
        keys.clone().for_each(|key| reach.fetch(key.hash));
        keys.filter_map(|key| self.table.find(key.hash, key.key)).for_each(|entry| entry.acc.fetch());
    }

    /// Removes the rows of each side up to a time, `None` for none, in some places of the table, from `place` on. They are
    /// passed to `gone_left` and `gone_right`, with whether another row has matched them. Returns the place to look at next,
    /// `None` at the end of the table.
    pub(crate) fn sweep(
        &mut self,
        place: usize,
        places: usize,
        [left, right]: [Option<EventTime>; 2],
        mut gone_left: impl FnMut(L, bool),
        mut gone_right: impl FnMut(R, bool),
    ) -> Option<usize> {
        let end = place.saturating_add(places);
        for place in place..end {
            if place >= self.table.buckets() {
                self.table.shrink();
                return None;
            }
            if let Some(entry) = self.table.at(place + SWEPT_AHEAD) {
                entry.acc.fetch();
            }
            let Some(slot) = self.table.bucket(place) else { continue };
            let rows = &slot.get().acc;
            let has_old = rows.left.first().is_some_and(|id| Some(id.0) <= left)
                || rows.right.first().is_some_and(|id| Some(id.0) <= right);
            if has_old || rows.is_empty() {
                let mut of_key = OfKey { hash: hash_key(&slot.get().key), slot, book: &mut self.book };
                of_key.left().evict(left, |_, row, is_matched| gone_left(row, is_matched));
                of_key.right().evict(right, |_, row, is_matched| gone_right(row, is_matched));
                of_key.close();
            }
        }
        Some(end)
    }

    #[cold]
    fn tidy(&mut self) {
        let table = &self.table;
        self.book.changes.tidy(|(hash, id)| table.of_hash(*hash).any(|entry| entry.acc.has_changed(id)));
    }

    /// Writes that the removed rows are gone, and gives up keys that were kept for it.
    fn write_removed(
        &mut self,
        mut write: impl FnMut(u64, (&K, &SidedId)) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let mut removed = std::mem::take(&mut self.book.removed);
        for (hash, id) in &removed {
            // A row that is back is put with the changes.
            for entry in self.table.of_hash(*hash).filter(|entry| !entry.acc.contains(id)) {
                write(*hash, (&entry.key, id))?;
            }
        }
        for (hash, _) in &removed {
            self.table.of_hash_mut(*hash).for_each(|entry| entry.mark = false);
            let is_vacant = |entry: &KeyEntry<K, L, R>| entry.acc.is_empty() && hash_key(&entry.key) == *hash;
            while self.table.remove(*hash, is_vacant).is_some() {}
        }
        let gone = removed.len();
        removed.clear();
        relieve(&mut removed, gone);
        self.book.removed = removed;
        Ok(())
    }
}

impl<K, L, R> OfKey<'_, K, L, R> {
    /// Returns the rows of the left side.
    #[inline]
    pub(crate) fn left(&mut self) -> OfSide<'_, L> {
        let Entry { acc, mark, .. } = self.slot.get_mut();
        OfSide { side: LEFT, hash: self.hash, rows: &mut acc.left, pinned: mark, book: self.book }
    }

    /// Returns the rows of the right side.
    #[inline]
    pub(crate) fn right(&mut self) -> OfSide<'_, R> {
        let Entry { acc, mark, .. } = self.slot.get_mut();
        OfSide { side: RIGHT, hash: self.hash, rows: &mut acc.right, pinned: mark, book: self.book }
    }

    /// Removes the key if it has no rows left.
    #[inline]
    pub(crate) fn close(self) {
        let entry = self.slot.get();
        if entry.acc.is_empty() && !entry.mark {
            self.slot.remove();
        }
    }
}

impl<V> OfSide<'_, V> {
    /// Adds a row.
    #[inline]
    pub(crate) fn push(self, time: EventTime, row: V, is_matched: bool) {
        let number = match self.rows.last() {
            Some(last) if last.0 >= time => next_number(self.rows, time),
            _ => 0,
        };
        if self.book.is_tracked {
            self.book.changes.push((self.hash, (self.side, time, number)));
        }
        self.rows.insert((time, number), Cell { row, is_changed: true, is_saved: false, is_matched });
        self.book.rows += 1;
    }

    /// Passes each row whose time is in the range to `matched`, in order, with whether one has matched it before. With `MARK`
    /// it counts as matched from now on.
    #[inline]
    pub(crate) fn matches<const MARK: bool>(
        self,
        times: RangeInclusive<EventTime>,
        mut matched: impl FnMut(EventTime, &V),
    ) {
        let (book, hash, side) = (self.book, self.hash, self.side);
        self.rows.for_range(ids(&times), |&(time, number), cell| {
            if MARK && !cell.is_matched {
                cell.is_matched = true;
                if book.is_tracked && !cell.is_changed {
                    book.changes.push((hash, (side, time, number)));
                }
                cell.is_changed = true;
            }
            matched(time, &cell.row);
        });
    }

    /// Whether there is a row whose time is in the range.
    #[inline]
    pub(crate) fn any(&self, times: RangeInclusive<EventTime>) -> bool {
        self.rows.range(ids(&times)).next().is_some()
    }

    /// Removes the rows up to a time, `None` for none, and passes them to `gone` in order, with whether one has matched them.
    #[inline]
    pub(crate) fn evict(self, last: Option<EventTime>, gone: impl FnMut(EventTime, V, bool)) {
        let Some(last) = last else { return };
        if self.rows.first().is_some_and(|first| first.0 <= last) {
            self.take(EventTime::MIN..=last, gone);
        }
    }

    /// Removes the rows whose times are in the range, and passes them to `gone` in order, with whether one has matched them.
    #[inline]
    pub(crate) fn take(self, times: RangeInclusive<EventTime>, mut gone: impl FnMut(EventTime, V, bool)) {
        let (book, pinned, hash, side) = (self.book, self.pinned, self.hash, self.side);
        let gone = |(time, number): RowId, cell: Cell<V>| {
            book.rows -= 1;
            if book.is_tracked && cell.is_saved {
                book.removed.push((hash, (side, time, number)));
                *pinned = true;
            }
            gone(time, cell.row, cell.is_matched);
        };
        self.rows.retain_range(ids(&times), |_, _| false, gone);
        self.rows.fold_up();
    }
}

/// The rows of a side whose times are in a range.
#[inline]
fn ids(times: &RangeInclusive<EventTime>) -> RangeInclusive<RowId> {
    (*times.start(), 0)..=(*times.end(), u64::MAX)
}

/// The number of one more row of a time.
fn next_number<V>(rows: &RowsOfSide<V>, time: EventTime) -> u64 {
    let last = rows.range(ids(&(time..=time))).next_back();
    last.map_or(0, |(id, _)| id.1.saturating_add(1))
}

impl<K: Key, L: Data, R: Data> Store for SidedRows<K, L, R> {
    fn rows(&self) -> usize {
        self.book.rows
    }

    fn reach(&self) -> Option<Reach> {
        self.table.reach()
    }

    fn unsaved(&self) -> usize {
        self.book.changes.len() + self.book.removed.len()
    }

    fn track(&mut self) {
        self.book.is_tracked = true;
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let groups = writer.key_groups();
        if !self.book.is_tracked {
            return self.table.iter().try_for_each(|Entry { key, acc, .. }| {
                let mut put = |&id: &SidedId, row: &Buffered<&L, &R>| {
                    writer.put(groups.of(hash_key(key)), name, &(key, id), &value(Life::default(), row))
                };
                let mut left = acc.left.iter().map(|(id, cell)| (of_side(LEFT, *id), of_left(cell)));
                left.try_for_each(|(id, row)| put(&id, &row))?;
                let mut right = acc.right.iter().map(|(id, cell)| (of_side(RIGHT, *id), of_right(cell)));
                right.try_for_each(|(id, row)| put(&id, &row))
            });
        }
        self.write_removed(|hash, key| writer.remove(groups.of(hash), name, &key))?;
        let changes = self.book.changes.take();
        for (hash, id) in &changes {
            for Entry { key, acc, .. } in self.table.of_hash_mut(*hash) {
                let row_id = (id.1, id.2);
                let row = match id.0 {
                    LEFT => {
                        acc.left.get_mut(&row_id).and_then(|cell| cell.save().then(move || of_left(cell)))
                    }
                    _ => acc.right.get_mut(&row_id).and_then(|cell| cell.save().then(move || of_right(cell))),
                };
                if let Some(row) = row {
                    writer.put(groups.of(*hash), name, &(&*key, id), &value(Life::default(), &row))?;
                }
            }
        }
        self.book.changes.recycle(changes);
        Ok(())
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        match change {
            Change::Put { key, value, .. } => {
                let (key, id): (K, SidedId) = decode(key)?;
                let (_, Buffered { row, is_matched }): (_, Buffered<L, R>) = read_value(value)?;
                let rows = match self.table.entry(hash_key(&key), &key) {
                    Slot::Occupied(slot) => &mut slot.into_mut().acc,
                    Slot::Vacant(slot) => {
                        &mut slot.insert(Entry { key, acc: Rows::new(), mark: false }).into_mut().acc
                    }
                };
                let is_new = match (id.0, row) {
                    (LEFT, Side::Left(row)) => set(&mut rows.left, &id, row, is_matched),
                    (RIGHT, Side::Right(row)) => set(&mut rows.right, &id, row, is_matched),
                    _ => {
                        let reason = "a row of one side of a join has the id of the other side";
                        return Err(OperatorError::Changes { at: 0, reason });
                    }
                };
                self.book.rows += usize::from(is_new);
            }
            Change::Remove { key, .. } => {
                let (key, id): (K, SidedId) = decode(key)?;
                let slot = self.table.slot(hash_key(&key), |entry| entry.key == key);
                let Some(mut slot) = slot else { return Ok(()) };
                let (rows, row_id) = (&mut slot.get_mut().acc, (id.1, id.2));
                let is_gone = match id.0 {
                    LEFT => rows.left.remove(&row_id).is_some(),
                    _ => rows.right.remove(&row_id).is_some(),
                };
                self.book.rows -= usize::from(is_gone);
                if slot.get().acc.is_empty() {
                    slot.remove();
                }
            }
            Change::DropSlot { .. } => return Err(dropped()),
        }
        Ok(())
    }

    fn expire(&mut self) {}

    fn ttl(&self) -> Option<Duration> {
        None
    }

    fn set_now(&mut self, _now: ProcessingTime) {}
}

/// A row's id, as a checkpoint has it.
fn of_side(side: u8, (time, number): RowId) -> SidedId {
    (side, time, number)
}

/// A row of the left side, as a checkpoint has it.
fn of_left<L, R>(cell: &Cell<L>) -> Buffered<&L, R> {
    Buffered { row: Side::Left(&cell.row), is_matched: cell.is_matched }
}

/// A row of the right side, as a checkpoint has it.
fn of_right<L, R>(cell: &Cell<R>) -> Buffered<L, &R> {
    Buffered { row: Side::Right(&cell.row), is_matched: cell.is_matched }
}

/// Sets a row that snapshots hold; returns whether it is a new one.
fn set<V>(rows: &mut RowsOfSide<V>, id: &SidedId, row: V, is_matched: bool) -> bool {
    let (id, cell) = ((id.1, id.2), Cell { row, is_changed: false, is_saved: true, is_matched });
    match rows.get_mut(&id) {
        Some(old) => {
            *old = cell;
            false
        }
        None => {
            rows.insert(id, cell);
            true
        }
    }
}

impl<K: Key, L: Data, R: Data> Held for SidedRows<K, L, R> {
    fn store(&self) -> &dyn Store {
        self
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        self
    }
}

impl<K: Key, L: Data, R: Data> NamedState for SidedRows<K, L, R> {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, SidedId), Buffered<L, R>>()
    }
}

#[cfg(test)]
mod tests;
