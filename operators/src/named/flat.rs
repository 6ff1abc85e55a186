//! One value for each key, with what its snapshots need: the store behind value and reducing state.

use std::time::Duration;

use hashbrown::hash_table::Entry as Slot;

use super::HashedKey;
use super::changes::Changes;
use super::life::{Life, Ttl};
use super::store::Store;
use super::sweep::{STEPS_PER_CALL, STEPS_PER_ENTRY, Sweep};
use super::written::{dropped, read_value, value};
use crate::keeping::keep;
use crate::state::{Entry, Reach, Table, relieve};
use crate::{Change, Data, Key, OperatorError, ProcessingTime, SnapshotWriter, decode, hash_key};

/// A table whose changes are tracked, and whose entries expire.
pub(super) struct Flat<K, V> {
    table: Table<K, V, Life>,
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
        let entry = self.table.find(key.hash, key.key)?;
        (!self.ttl.is_expired(entry.mark)).then_some(&entry.acc)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: HashedKey<'_, K>) -> Option<&mut V> {
        self.do_chores();
        let entry = self.table.find_mut(key.hash, key.key)?;
        if self.ttl.is_expired(entry.mark) {
            return None;
        }
        if self.ttl.write(&mut entry.mark) && self.is_tracked {
            self.changes.push(key.hash);
        }
        Some(&mut entry.acc)
    }

    #[inline]
    pub(super) fn get_or_insert_with(&mut self, key: HashedKey<'_, K>, make: impl FnOnce() -> V) -> &mut V {
        self.do_chores();
        let entry = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                if self.ttl.is_expired(entry.mark) {
                    entry.acc = keep(make);
                }
                entry
            }
            Slot::Vacant(slot) => {
                self.debt += STEPS_PER_ENTRY;
                let (key, acc) = (keep(|| key.key.clone()), keep(make));
                slot.insert(Entry { key, acc, mark: Life::default() }).into_mut()
            }
        };
        if self.ttl.write(&mut entry.mark) && self.is_tracked {
            self.changes.push(key.hash);
        }
        &mut entry.acc
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
        let (entry, merged) = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                if self.ttl.is_expired(entry.mark) {
                    entry.acc = value;
                    (entry, None)
                } else {
                    let merged = merge(&mut entry.acc, value);
                    (entry, Some(merged))
                }
            }
            Slot::Vacant(slot) => {
                self.debt += STEPS_PER_ENTRY;
                let key = keep(|| key.key.clone());
                (slot.insert(Entry { key, acc: value, mark: Life::default() }).into_mut(), None)
            }
        };
        if self.ttl.write(&mut entry.mark) && self.is_tracked {
            self.changes.push(key.hash);
        }
        merged
    }

    pub(super) fn remove(&mut self, key: HashedKey<'_, K>) -> Option<V> {
        self.do_chores();
        let entry = self.table.remove(key.hash, |entry| entry.key == *key.key)?;
        if self.is_tracked && entry.mark.is_saved() {
            self.removed.push(entry.key);
        }
        (!self.ttl.is_expired(entry.mark)).then_some(entry.acc)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let live = self.table.iter().filter(|entry| !self.ttl.is_expired(entry.mark));
        live.map(|entry| (&entry.key, &entry.acc))
    }

    /// How many entries have not expired.
    pub(super) fn len(&self) -> usize {
        if self.ttl.span().is_none() { self.rows() } else { self.iter().count() }
    }

    #[inline]
    fn do_chores(&mut self) {
        if self.debt > 0 {
            let places = std::mem::take(&mut self.debt);
            self.look(places);
        }
        if self.changes.is_full(self.table.len()) {
            let table = &self.table;
            self.changes.tidy(|hash| table.of_hash(*hash).any(|entry| entry.mark.is_changed()));
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
            if self.sweep.bucket >= self.table.buckets() {
                self.sweep.end();
                self.table.shrink();
                return;
            }
            let slot = self.table.bucket(self.sweep.bucket);
            self.sweep.next_bucket();
            let Some(mut slot) = slot else { continue };
            let mark = slot.get().mark;
            if self.ttl.is_expired(mark) {
                let entry = slot.remove().0;
                if self.is_tracked && mark.is_saved() {
                    self.removed.push(entry.key);
                }
            } else if self.ttl.is_unknown(mark) {
                let entry = slot.get_mut();
                if self.ttl.write(&mut entry.mark) && self.is_tracked {
                    self.changes.push(hash_key(&entry.key));
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
        self.table.reach()
    }

    fn unsaved(&self) -> usize {
        self.changes.len() + self.removed.len()
    }

    fn track(&mut self) {
        self.is_tracked = true;
    }

    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        if !self.is_tracked {
            let mut live = self.table.iter().filter(|entry| !self.ttl.is_expired(entry.mark));
            return live.try_for_each(|entry| {
                let group = writer.key_groups().of(hash_key(&entry.key));
                writer.put(group, name, &entry.key, &value(entry.mark, &entry.acc))
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
            for entry in self.table.of_hash_mut(*hash) {
                if entry.mark.save() {
                    writer.put(
                        writer.key_groups().of(*hash),
                        name,
                        &entry.key,
                        &value(entry.mark, &entry.acc),
                    )?;
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
                let (mark, acc) = read_value(value)?;
                match self.table.entry(hash, &key) {
                    Slot::Occupied(mut slot) => *slot.get_mut() = Entry { key, acc, mark },
                    Slot::Vacant(slot) => drop(slot.insert(Entry { key, acc, mark })),
                }
            }
            Change::Remove { key, .. } => {
                let key: K = decode(key)?;
                self.table.remove(hash_key(&key), |entry| entry.key == key);
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
