//! One value for each key, with what its snapshots need: the store behind value and reducing state.

use std::time::Duration;

use hashbrown::hash_table::Entry as Slot;

use super::HashedKey;
use super::changes::Changes;
use super::life::{Life, Ttl};
use super::lives::Lives;
use super::store::Store;
use super::sweep::{STEPS_PER_CALL, STEPS_PER_ENTRY, Sweep};
use super::written::{dropped, read_value, value};
use crate::keeping::keep;
use crate::state::{Entry, Reach, Table, relieve};
use crate::{Change, Data, Key, OperatorError, ProcessingTime, SnapshotWriter, decode, hash_key};

/// A table whose changes are tracked, and whose entries expire.
pub(super) struct Flat<K, V> {
    table: Table<K, V, ()>,
    /// By the places of the table. While these are kept, the table is not to grow by itself.
    lives: Lives,
    /// The hash of every entry that has changed, if changes are tracked.
    changes: Changes<u64>,
    /// Keys that snapshots hold and that were removed since the last one, each once; some may be back.
    removed: Vec<K>,
    is_tracked: bool,
    ttl: Ttl,
    sweep: Sweep<()>,
    /// How many places the sweep has to look at for entries that were added.
    debt: usize,
}

impl<K: Key, V: Data> Flat<K, V> {
    pub(super) fn new(ttl: Ttl) -> Self {
        Flat {
            table: Table::new(),
            lives: Lives::new(&ttl),
            changes: Changes::new(),
            removed: Vec::new(),
            is_tracked: false,
            ttl,
            sweep: Sweep::new(),
            debt: 0,
        }
    }

    #[inline]
    pub(super) fn get(&self, key: HashedKey<'_, K>) -> Option<&V> {
        let entry = if self.ttl.span().is_none() {
            self.table.find(key.hash, key.key)
        } else {
            let place = self.table.place(key.hash, key.key)?;
            self.table.at(place).filter(|_| !self.lives.is_expired(place, &self.ttl))
        };
        entry.map(|entry| &entry.acc)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: HashedKey<'_, K>) -> Option<&mut V> {
        self.do_chores();
        let slot = self.table.slot(key.hash, |entry| entry.key == *key.key)?;
        if self.lives.is_kept() {
            let place = slot.bucket_index();
            if self.lives.is_expired(place, &self.ttl) {
                return None;
            }
            if self.lives.write(place, &self.ttl) && self.is_tracked {
                self.changes.push(key.hash);
            }
        }
        Some(&mut slot.into_mut().acc)
    }

    #[inline]
    pub(super) fn get_or_insert_with(&mut self, key: HashedKey<'_, K>, make: impl FnOnce() -> V) -> &mut V {
        self.do_chores();
        self.make_room();
        let slot = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(mut slot) => {
                if self.lives.is_expired(slot.bucket_index(), &self.ttl) {
                    slot.get_mut().acc = keep(make);
                }
                slot
            }
            Slot::Vacant(slot) => {
                self.debt += STEPS_PER_ENTRY;
                let (key, acc) = (keep(|| key.key.clone()), keep(make));
                slot.insert(Entry { key, acc, mark: () })
            }
        };
        if self.lives.is_kept() && self.lives.write(slot.bucket_index(), &self.ttl) && self.is_tracked {
            self.changes.push(key.hash);
        }
        &mut slot.into_mut().acc
    }

    /// Inserts a value, or passes it to `merge` with the one that is there.
    #[inline]
    pub(super) fn put<R>(
        &mut self,
        key: HashedKey<'_, K>,
        value: V,
        merge: impl FnOnce(&mut V, V) -> R,
    ) -> Option<R> {
        self.do_chores();
        self.make_room();
        let (place, merged) = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(mut slot) => {
                let place = slot.bucket_index();
                if self.lives.is_expired(place, &self.ttl) {
                    slot.get_mut().acc = value;
                    (place, None)
                } else {
                    (place, Some(merge(&mut slot.get_mut().acc, value)))
                }
            }
            Slot::Vacant(slot) => {
                self.debt += STEPS_PER_ENTRY;
                let key = keep(|| key.key.clone());
                (slot.insert(Entry { key, acc: value, mark: () }).bucket_index(), None)
            }
        };
        if self.lives.write(place, &self.ttl) && self.is_tracked {
            self.changes.push(key.hash);
        }
        merged
    }

    /// Inserts a value unless the key has one that has not expired; returns whether it was inserted. Otherwise this is no write.
    #[inline]
    pub(super) fn add(&mut self, key: HashedKey<'_, K>, value: V) -> bool {
        self.do_chores();
        self.make_room();
        let place = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(mut slot) => {
                let place = slot.bucket_index();
                if !self.lives.is_expired(place, &self.ttl) {
                    return false;
                }
                slot.get_mut().acc = value;
                place
            }
            Slot::Vacant(slot) => {
                self.debt += STEPS_PER_ENTRY;
                let key = keep(|| key.key.clone());
                slot.insert(Entry { key, acc: value, mark: () }).bucket_index()
            }
        };
        if self.lives.write(place, &self.ttl) && self.is_tracked {
            self.changes.push(key.hash);
        }
        true
    }

    pub(super) fn remove(&mut self, key: HashedKey<'_, K>) -> Option<V> {
        self.do_chores();
        let slot = self.table.slot(key.hash, |entry| entry.key == *key.key)?;
        let place = slot.bucket_index();
        let is_expired = self.lives.is_expired(place, &self.ttl);
        let entry = slot.remove().0;
        self.bury(place, entry.key);
        (!is_expired).then_some(entry.acc)
    }

    /// Notes that the entry of a key has been removed from its place.
    #[inline]
    fn bury(&mut self, place: usize, key: K) {
        if self.lives.is_kept() {
            if self.is_tracked && self.lives.get(place).is_saved() {
                self.removed.push(key);
            }
            self.lives.set(place, Life::default());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.live().map(|(_, entry)| (&entry.key, &entry.acc))
    }

    /// The entries that have not expired, with their places.
    fn live(&self) -> impl Iterator<Item = (usize, &Entry<K, V, ()>)> {
        self.table.places().filter(|(place, _)| !self.lives.is_expired(*place, &self.ttl))
    }

    /// How many entries have not expired.
    pub(super) fn len(&self) -> usize {
        if self.ttl.span().is_none() { self.rows() } else { self.live().count() }
    }

    /// Must be called before an entry is added.
    #[inline]
    fn make_room(&mut self) {
        if self.lives.is_kept() && self.table.is_full() {
            self.resize(self.table.next_room());
        }
    }

    /// Moves the entries to a table with room for that many, and their lives with them.
    #[inline(never)]
    fn resize(&mut self, entries: usize) {
        let mut table = Table::with_room(entries);
        let mut lives = self.lives.empty(table.buckets());
        self.table.move_to(&mut table, |from, to| lives.set(to, self.lives.get(from)));
        (self.table, self.lives) = (table, lives);
    }

    #[inline]
    fn do_chores(&mut self) {
        if self.debt > 0 {
            let places = std::mem::take(&mut self.debt);
            self.look(places);
        }
        if self.changes.is_full(self.table.len()) {
            let (table, lives) = (&self.table, &self.lives);
            self.changes
                .tidy(|hash| table.places_of_hash(*hash).any(|(place, _)| lives.get(place).is_changed()));
        }
    }

    /// Looks at some places of the table for entries that have expired, and removes these.
    #[inline]
    fn look(&mut self, places: usize) {
        if self.sweep.is_due(&self.ttl) {
            self.look_at(places);
        }
    }

    #[inline(never)]
    fn look_at(&mut self, places: usize) {
        for _ in 0..places {
            let place = self.sweep.bucket;
            if place >= self.table.buckets() {
                self.sweep.end();
                if self.table.is_sparse() {
                    self.resize(2 * self.table.len());
                }
                return;
            }
            self.sweep.next_bucket();
            let Some(slot) = self.table.bucket(place) else { continue };
            if self.lives.is_expired(place, &self.ttl) {
                let entry = slot.remove().0;
                self.bury(place, entry.key);
            } else if self.ttl.is_unknown(self.lives.get(place)) {
                let hash = hash_key(&slot.get().key);
                if self.lives.write(place, &self.ttl) && self.is_tracked {
                    self.changes.push(hash);
                }
            }
        }
    }
}

impl<K: Key, V: Data> Store for Flat<K, V> {
    fn rows(&self) -> usize {
        self.table.len()
    }

    fn reach(&self) -> Option<Reach> {
        self.table.reach().map(|reach| self.lives.reach(reach))
    }

    fn unsaved(&self) -> usize {
        self.changes.len() + self.removed.len()
    }

    fn track(&mut self) {
        self.is_tracked = true;
        self.lives.track(self.table.buckets());
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        if !self.is_tracked {
            return self.live().try_for_each(|(place, entry)| {
                let group = writer.key_groups().of(hash_key(&entry.key));
                writer.put(group, name, &entry.key, &value(self.lives.get(place), &entry.acc))
            });
        }
        let gone = self.removed.len();
        for key in self.removed.drain(..) {
            let hash = hash_key(&key);
            // A key that is back is put below.
            if self.table.find(hash, &key).is_none() {
                writer.remove(writer.key_groups().of(hash), name, &key)?;
            }
        }
        relieve(&mut self.removed, gone);
        let changes = self.changes.take();
        for hash in &changes {
            for (place, entry) in self.table.places_of_hash(*hash) {
                if self.lives.save(place) {
                    let group = writer.key_groups().of(*hash);
                    writer.put(group, name, &entry.key, &value(self.lives.get(place), &entry.acc))?;
                }
            }
        }
        self.changes.recycle(changes);
        Ok(())
    }

    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        match change {
            Change::Put { key, value, .. } => {
                let key: K = decode(key)?;
                let hash = hash_key(&key);
                let (life, acc) = read_value(value)?;
                self.make_room();
                let place = match self.table.entry(hash, &key) {
                    Slot::Occupied(mut slot) => {
                        slot.get_mut().acc = acc;
                        slot.bucket_index()
                    }
                    Slot::Vacant(slot) => slot.insert(Entry { key, acc, mark: () }).bucket_index(),
                };
                self.lives.set(place, life);
            }
            Change::Remove { key, .. } => {
                let key: K = decode(key)?;
                if let Some(slot) = self.table.slot(hash_key(&key), |entry| entry.key == key) {
                    self.lives.set(slot.bucket_index(), Life::default());
                    slot.remove();
                }
            }
            Change::DropSlot { .. } => return Err(dropped()),
        }
        Ok(())
    }

    fn expire(&mut self) {
        self.look(STEPS_PER_CALL);
    }

    fn ttl(&self) -> Option<Duration> {
        self.ttl.duration()
    }

    fn set_now(&mut self, now: ProcessingTime) {
        self.ttl.set_now(now);
    }
}
