//! Any number of entries for each key, in order, each tracked for itself: the store behind map, list and shared state
//! and behind timers.

use std::ops::{Bound, RangeBounds};
use std::time::Duration;

use hashbrown::hash_table::Entry as Slot;

use super::HashedKey;
use super::changes::Changes;
use super::life::{Life, Ttl};
use super::sorted::Sorted;
use super::store::Store;
use super::sweep::{STEPS_PER_CALL, STEPS_PER_ENTRY, Sweep};
use super::written::{dropped, read_value, value};
use crate::keeping::keep;
use crate::state::{Entry, Reach, Table, relieve};
use crate::{Change, Data, Key, OperatorError, ProcessingTime, SnapshotWriter, decode, hash_key};

/// What an entry of a key must be told apart by.
pub trait UserKey: Ord + Clone + Data {}
impl<U: Ord + Clone + Data> UserKey for U {}

/// An entry of a key.
#[derive(Debug)]
pub(super) struct Cell<V> {
    life: Life,
    value: V,
}

/// Whether the list of removed entries refers to the key, which then has to stay until the snapshot.
type Pinned = bool;

type Keys<K, U, V> = Table<K, Sorted<U, Cell<V>>, Pinned>;
type KeyEntry<K, U, V> = Entry<K, Sorted<U, Cell<V>>, Pinned>;

/// A table of sorted maps whose entries are tracked and expire one by one.
pub(super) struct Nested<K, U, V> {
    table: Keys<K, U, V>,
    /// How many entries there are in all.
    rows: usize,
    /// Where every entry is that has changed, if changes are tracked.
    changes: Changes<(u64, U)>,
    /// Entries that snapshots hold and that were removed since the last one, each once; some may be back. The hash
    /// finds the key, which is therefore pinned.
    removed: Vec<(u64, U)>,
    is_tracked: bool,
    ttl: Ttl,
    sweep: Sweep<U>,
    /// How many places the sweep has to look at for entries that were added.
    debt: usize,
    /// If it belongs to no key and all is written under key group 0: whether this worker writes it.
    shared: Option<bool>,
}

impl<K: Key, U: UserKey, V: Data> Nested<K, U, V> {
    pub(super) fn new(ttl: Ttl) -> Self {
        Nested {
            table: Table::new(),
            rows: 0,
            changes: Changes::new(),
            removed: Vec::new(),
            is_tracked: false,
            ttl,
            sweep: Sweep::new(),
            debt: 0,
            shared: None,
        }
    }

    /// Writes everything under key group 0, if this worker `writes` at all.
    pub(super) fn share(&mut self, writes: bool) {
        self.shared = Some(writes);
    }

    fn of(&self, key: HashedKey<'_, K>) -> Option<&Sorted<U, Cell<V>>> {
        self.table.find(key.hash, key.key).map(|entry| &entry.acc)
    }

    #[inline]
    pub(super) fn get(&self, key: HashedKey<'_, K>, user: &U) -> Option<&V> {
        let cell = self.of(key)?.get(user)?;
        (!self.ttl.is_expired(cell.life)).then_some(&cell.value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: HashedKey<'_, K>, user: &U) -> Option<&mut V> {
        self.do_chores();
        let cell = self.table.find_mut(key.hash, key.key)?.acc.get_mut(user)?;
        if self.ttl.is_expired(cell.life) {
            return None;
        }
        if self.ttl.write(&mut cell.life) && self.is_tracked {
            self.changes.push((key.hash, user.clone()));
        }
        Some(&mut cell.value)
    }

    /// Sets the value of an entry; returns the one that it had.
    #[inline]
    pub(super) fn insert(&mut self, key: HashedKey<'_, K>, user: U, value: V) -> Option<V> {
        self.do_chores();
        let sorted = &mut Self::entry(&mut self.table, key).acc;
        if let Some(cell) = sorted.get_mut(&user) {
            let old = std::mem::replace(&mut cell.value, value);
            let was_expired = self.ttl.is_expired(cell.life);
            if self.ttl.write(&mut cell.life) && self.is_tracked {
                self.changes.push((key.hash, user));
            }
            return (!was_expired).then_some(old);
        }
        let mut life = Life::default();
        self.ttl.write(&mut life);
        if self.is_tracked {
            self.changes.push((key.hash, user.clone()));
        }
        sorted.insert(user, Cell { life, value });
        self.rows += 1;
        self.debt += STEPS_PER_ENTRY;
        None
    }

    /// Adds an entry unless it is there; returns whether it was added.
    #[inline]
    pub(super) fn add(&mut self, key: HashedKey<'_, K>, user: U, value: V) -> bool {
        self.do_chores();
        let entry = Self::entry(&mut self.table, key);
        if entry.acc.get(&user).is_some() {
            return false;
        }
        let mut life = Life::default();
        self.ttl.write(&mut life);
        if self.is_tracked {
            self.changes.push((key.hash, user.clone()));
        }
        entry.acc.insert(user, Cell { life, value });
        self.rows += 1;
        self.debt += STEPS_PER_ENTRY;
        true
    }

    /// Adds an entry unless it is there; returns whether it was added. One that `is_saved` is no change.
    pub(super) fn load(&mut self, key: HashedKey<'_, K>, user: U, value: V, is_saved: bool) -> bool {
        let acc = &mut Self::entry(&mut self.table, key).acc;
        if let Some(cell) = acc.get_mut(&user) {
            if is_saved {
                cell.life.save();
            }
            return false;
        }
        let mut life = Life::default();
        if is_saved {
            life.save();
        } else {
            self.ttl.write(&mut life);
            if self.is_tracked {
                self.changes.push((key.hash, user.clone()));
            }
        }
        acc.insert(user, Cell { life, value });
        self.rows += 1;
        true
    }

    /// Notes that snapshots hold an entry which has been removed.
    pub(super) fn load_removed(&mut self, key: HashedKey<'_, K>, user: U) {
        Self::entry(&mut self.table, key).mark = true;
        self.removed.push((key.hash, user));
    }

    /// Whether changes are tracked.
    pub(super) fn is_tracked(&self) -> bool {
        self.is_tracked
    }

    /// Adds an entry under a name that `name` chooses, which none of the key's entries has.
    #[inline]
    pub(super) fn push(
        &mut self,
        key: HashedKey<'_, K>,
        value: V,
        name: impl FnOnce(&Sorted<U, Cell<V>>) -> U,
    ) {
        self.do_chores();
        let entry = Self::entry(&mut self.table, key);
        let user = name(&entry.acc);
        let mut life = Life::default();
        self.ttl.write(&mut life);
        if self.is_tracked {
            self.changes.push((key.hash, user.clone()));
        }
        entry.acc.insert(user, Cell { life, value });
        self.rows += 1;
        self.debt += STEPS_PER_ENTRY;
    }

    /// The entries of a key, which is added if it has none.
    #[inline]
    fn entry<'t>(table: &'t mut Keys<K, U, V>, key: HashedKey<'_, K>) -> &'t mut KeyEntry<K, U, V> {
        match table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let key = keep(|| key.key.clone());
                slot.insert(Entry { key, acc: Sorted::new(), mark: false }).into_mut()
            }
        }
    }

    pub(super) fn remove(&mut self, key: HashedKey<'_, K>, user: &U) -> Option<V> {
        self.do_chores();
        let mut slot = self.table.slot(key.hash, |entry| entry.key == *key.key)?;
        let entry = slot.get_mut();
        let (user, cell) = entry.acc.remove(user)?;
        self.rows -= 1;
        if self.is_tracked && cell.life.is_saved() {
            self.removed.push((key.hash, user));
            entry.mark = true;
        }
        if entry.acc.is_empty() && !entry.mark {
            slot.remove();
        }
        (!self.ttl.is_expired(cell.life)).then_some(cell.value)
    }

    /// Removes one entry of that name of any key with that hash, and returns the key. Which one, where two keys have the
    /// hash and the entry, does not matter to timers.
    #[inline]
    pub(super) fn take_of_hash(&mut self, hash: u64, user: &U) -> Option<K> {
        let is_it = |entry: &KeyEntry<K, U, V>| entry.acc.get(user).is_some() && hash_key(&entry.key) == hash;
        let mut slot = self.table.slot(hash, is_it)?;
        let entry = slot.get_mut();
        let (user, cell) = entry.acc.remove(user)?;
        self.rows -= 1;
        if self.is_tracked && cell.life.is_saved() {
            self.removed.push((hash, user));
            entry.mark = true;
        }
        if entry.acc.is_empty() && !entry.mark {
            return Some(slot.remove().0.key);
        }
        Some(entry.key.clone())
    }

    /// How many keys of that hash have the entry.
    pub(super) fn count_of_hash(&self, hash: u64, user: &U) -> usize {
        self.table.of_hash(hash).filter(|entry| entry.acc.get(user).is_some()).count()
    }

    /// Iterates over the entries of a key in a range, in order.
    #[inline]
    pub(super) fn range(
        &self,
        key: HashedKey<'_, K>,
        range: impl RangeBounds<U>,
    ) -> impl DoubleEndedIterator<Item = (&U, &V)> {
        let cells = self.of(key).map(|sorted| sorted.range(range)).into_iter().flatten();
        let live = cells.filter(|(_, cell)| !self.ttl.is_expired(cell.life));
        live.map(|(user, cell)| (user, &cell.value))
    }

    /// Removes the entries of a key in a range that `keep` does not want.
    pub(super) fn retain_range(
        &mut self,
        key: HashedKey<'_, K>,
        range: impl RangeBounds<U>,
        keep: impl FnMut(&U, &V) -> bool,
    ) {
        self.take_range(key, range, keep, |user, _, _| Some(user));
    }

    /// Removes the entries of a key in a range and returns them, in order.
    pub(super) fn drain_range(&mut self, key: HashedKey<'_, K>, range: impl RangeBounds<U>) -> Vec<(U, V)> {
        let mut drained = Vec::new();
        self.take_range(
            key,
            range,
            |_, _| false,
            |user, value, is_needed| {
                let needed = is_needed.then(|| user.clone());
                drained.push((user, value));
                needed
            },
        );
        drained
    }

    /// Removes what `keep` does not want and passes it to `gone`, which returns the name if it `is_needed` on. What has
    /// expired is removed without a question.
    pub(super) fn take_range(
        &mut self,
        key: HashedKey<'_, K>,
        range: impl RangeBounds<U>,
        mut keep: impl FnMut(&U, &V) -> bool,
        mut gone: impl FnMut(U, V, bool) -> Option<U>,
    ) {
        self.do_chores();
        let Some(mut slot) = self.table.slot(key.hash, |entry| entry.key == *key.key) else { return };
        let entry = slot.get_mut();
        entry.acc.retain_range(
            range,
            |user, cell| !self.ttl.is_expired(cell.life) && keep(user, &cell.value),
            |user, cell| {
                self.rows -= 1;
                let is_needed = self.is_tracked && cell.life.is_saved();
                let needed = if self.ttl.is_expired(cell.life) {
                    is_needed.then_some(user)
                } else {
                    gone(user, cell.value, is_needed).filter(|_| is_needed)
                };
                if let Some(user) = needed {
                    self.removed.push((key.hash, user));
                    entry.mark = true;
                }
            },
        );
        if entry.acc.is_empty() && !entry.mark {
            slot.remove();
        }
    }

    /// Iterates over all keys of this worker and their entries: keys in no order, the entries of each in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &U, &V)> {
        self.table.iter().flat_map(|entry| {
            let live = entry.acc.iter().filter(|(_, cell)| !self.ttl.is_expired(cell.life));
            live.map(|(user, cell)| (&entry.key, user, &cell.value))
        })
    }

    /// How many keys are in the table.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.table.len()
    }

    /// How many entries have not expired.
    pub(super) fn len(&self) -> usize {
        if self.ttl.span().is_none() { self.rows } else { self.iter().count() }
    }

    #[inline]
    fn do_chores(&mut self) {
        if self.debt > 0 {
            let places = std::mem::take(&mut self.debt);
            if self.sweep.is_due(&self.ttl) {
                self.look(places);
            }
        }
        if self.changes.is_full(self.rows) {
            let table = &self.table;
            self.changes.tidy(|(hash, user)| {
                let mut cells = table.of_hash(*hash).filter_map(|entry| entry.acc.get(user));
                cells.any(|cell| cell.life.is_changed())
            });
        }
    }

    /// Looks at some entries and places of the table, and removes what has expired.
    #[inline(never)]
    fn look(&mut self, mut places: usize) {
        while places > 0 {
            if self.sweep.bucket >= self.table.buckets() {
                self.sweep.end();
                self.table.shrink();
                return;
            }
            let Some(mut slot) = self.table.bucket(self.sweep.bucket) else {
                self.sweep.next_bucket();
                places -= 1;
                continue;
            };
            let entry = slot.get_mut();
            let from = self.sweep.after.take().map_or(Bound::Unbounded, Bound::Excluded);
            let last = entry
                .acc
                .range((from.clone(), Bound::Unbounded))
                .nth(places - 1)
                .map(|(user, _)| user.clone());
            let to = last.clone().map_or(Bound::Unbounded, Bound::Included);
            let hash = hash_key(&entry.key);
            let mut seen = 0;
            entry.acc.retain_range(
                (from, to),
                |user, cell| {
                    seen += 1;
                    if self.ttl.is_unknown(cell.life) && self.ttl.write(&mut cell.life) && self.is_tracked {
                        self.changes.push((hash, user.clone()));
                    }
                    !self.ttl.is_expired(cell.life)
                },
                |user, cell| {
                    self.rows -= 1;
                    if self.is_tracked && cell.life.is_saved() {
                        self.removed.push((hash, user));
                        entry.mark = true;
                    }
                },
            );
            if entry.acc.is_empty() && !entry.mark {
                slot.remove();
            }
            places = places.saturating_sub(seen.max(1));
            match last {
                Some(last) => self.sweep.after = Some(last),
                None => self.sweep.next_bucket(),
            }
        }
    }

    /// Writes that the removed entries are gone, and gives up keys that were kept for it.
    fn write_removed(
        &mut self,
        mut write: impl FnMut(u64, (&K, &U)) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let mut removed = std::mem::take(&mut self.removed);
        for (hash, user) in &removed {
            for entry in self.table.of_hash(*hash) {
                // An entry that is back is put with the changes.
                if entry.acc.get(user).is_none() {
                    write(*hash, (&entry.key, user))?;
                }
            }
        }
        for (hash, _) in &removed {
            self.table.of_hash_mut(*hash).for_each(|entry| entry.mark = false);
            let is_vacant = |entry: &KeyEntry<K, U, V>| entry.acc.is_empty() && hash_key(&entry.key) == *hash;
            while self.table.remove(*hash, is_vacant).is_some() {}
        }
        let gone = removed.len();
        removed.clear();
        relieve(&mut removed, gone);
        self.removed = removed;
        Ok(())
    }
}

impl<K: Key, U: UserKey, V: Data> Store for Nested<K, U, V> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn reach(&self) -> Option<Reach> {
        self.table.reach()
    }

    fn unsaved(&self) -> usize {
        self.changes.len() + self.removed.len()
    }

    fn track(&mut self) {
        self.is_tracked = true;
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let (groups, is_shared) = (writer.key_groups(), self.shared.is_some());
        let group = |hash| groups.of(if is_shared { 0 } else { hash });
        let writes = self.shared.unwrap_or(true);
        if !self.is_tracked {
            if !writes {
                return Ok(());
            }
            return self.table.iter().try_for_each(|entry| {
                let group = group(hash_key(&entry.key));
                let mut live = entry.acc.iter().filter(|(_, cell)| !self.ttl.is_expired(cell.life));
                live.try_for_each(|(user, cell)| {
                    writer.put(group, name, &(&entry.key, user), &value(cell.life, &cell.value))
                })
            });
        }
        self.write_removed(|hash, key| if writes { writer.remove(group(hash), name, &key) } else { Ok(()) })?;
        let changes = self.changes.take();
        for (hash, user) in &changes {
            for entry in self.table.of_hash_mut(*hash) {
                let Some(cell) = entry.acc.get_mut(user) else { continue };
                if cell.life.save() && writes {
                    let (key, value) = ((&entry.key, user), value(cell.life, &cell.value));
                    writer.put(group(*hash), name, &key, &value)?;
                }
            }
        }
        self.changes.recycle(changes);
        Ok(())
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        match change {
            Change::Put { key, value, .. } => {
                let (key, user): (K, U) = decode(key)?;
                let (life, value) = read_value(value)?;
                let sorted = match self.table.entry(hash_key(&key), &key) {
                    Slot::Occupied(slot) => &mut slot.into_mut().acc,
                    Slot::Vacant(slot) => {
                        &mut slot.insert(Entry { key, acc: Sorted::new(), mark: false }).into_mut().acc
                    }
                };
                if let Some(cell) = sorted.get_mut(&user) {
                    *cell = Cell { life, value };
                } else {
                    sorted.insert(user, Cell { life, value });
                    self.rows += 1;
                }
            }
            Change::Remove { key, .. } => {
                let (key, user): (K, U) = decode(key)?;
                let slot = self.table.slot(hash_key(&key), |entry| entry.key == key);
                let Some(mut slot) = slot else { return Ok(()) };
                self.rows -= usize::from(slot.get_mut().acc.remove(&user).is_some());
                if slot.get().acc.is_empty() {
                    slot.remove();
                }
            }
            Change::DropSlot { .. } => return Err(dropped()),
        }
        Ok(())
    }

    fn expire(&mut self) {
        if self.sweep.is_due(&self.ttl) {
            self.look(STEPS_PER_CALL);
        }
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl.duration()
    }

    fn set_now(&mut self, now: ProcessingTime) {
        self.ttl.set_now(now);
    }
}
