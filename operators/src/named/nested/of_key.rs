//! The entries of one key, found once for several reads and writes.

use std::ops::RangeBounds;

use hashbrown::hash_table::{Entry as Slot, OccupiedEntry};

use super::{Cell, KeyEntry, Nested, STEPS_PER_ENTRY, UserKey};
use crate::keeping::keep;
use crate::named::HashedKey;
use crate::named::changes::Changes;
use crate::named::life::{Life, Ttl};
use crate::named::sorted::Sorted;
use crate::state::Entry;
use crate::{Data, Key, hash_key};

/// Entries of a state without a TTL. [`close`](Self::close) must be called at the end.
pub(in crate::named) struct OfKey<'n, K, U, V> {
    hash: u64,
    slot: OccupiedEntry<'n, KeyEntry<K, U, V>>,
    book: Book<'n, U>,
}

/// What a write to any key changes.
struct Book<'n, U> {
    rows: &'n mut usize,
    debt: &'n mut usize,
    changes: &'n mut Changes<(u64, U)>,
    removed: &'n mut Vec<(u64, U)>,
    is_tracked: bool,
    ttl: Ttl,
}

impl<K: Key, U: UserKey, V: Data> Nested<K, U, V> {
    /// Finds a key, and adds it if it is not there.
    #[inline]
    pub(in crate::named) fn open(&mut self, key: HashedKey<'_, K>) -> OfKey<'_, K, U, V> {
        self.do_chores();
        let slot = match self.table.entry(key.hash, key.key) {
            Slot::Occupied(slot) => slot,
            Slot::Vacant(slot) => {
                slot.insert(Entry { key: keep(|| key.key.clone()), acc: Sorted::new(), mark: false })
            }
        };
        let book = Book {
            rows: &mut self.rows,
            debt: &mut self.debt,
            changes: &mut self.changes,
            removed: &mut self.removed,
            is_tracked: self.is_tracked,
            ttl: self.ttl,
        };
        OfKey { hash: key.hash, slot, book }
    }

    /// Has the memory of the entries of some keys fetched, if there are many keys. Call it for [`AHEAD`](crate::state::Reach::AHEAD) rows at a time.
    #[inline]
    pub(in crate::named) fn fetch<'k>(&self, keys: impl Iterator<Item = HashedKey<'k, K>> + Clone)
    where
        K: 'k,
    {
        let Some(reach) = self.table.reach() else { return };
        keys.clone().for_each(|key| reach.fetch(key.hash));
        keys.filter_map(|key| self.of(key)).for_each(Sorted::fetch);
    }

    /// Passes the entries of the key in that place of the table to `with`, if there is a key; returns whether there is such
    /// a place.
    pub(in crate::named) fn open_bucket(
        &mut self,
        bucket: usize,
        with: impl FnOnce(&mut OfKey<'_, K, U, V>),
    ) -> bool {
        if bucket >= self.table.buckets() {
            return false;
        }
        if let Some(slot) = self.table.bucket(bucket) {
            let book = Book {
                rows: &mut self.rows,
                debt: &mut self.debt,
                changes: &mut self.changes,
                removed: &mut self.removed,
                is_tracked: self.is_tracked,
                ttl: self.ttl,
            };
            let mut of_key = OfKey { hash: hash_key(&slot.get().key), slot, book };
            with(&mut of_key);
            of_key.close();
        }
        true
    }

    /// Gives memory back that the table does not need.
    pub(in crate::named) fn shrink(&mut self) {
        self.table.shrink();
    }
}

impl<K: Key, U: UserKey, V: Data> OfKey<'_, K, U, V> {
    /// Iterates over the entries in a range, in order.
    #[inline]
    pub(in crate::named) fn range(
        &self,
        range: impl RangeBounds<U>,
    ) -> impl DoubleEndedIterator<Item = (&U, &V)> {
        self.slot.get().acc.range(range).map(|(user, cell)| (user, &cell.value))
    }

    /// Changes an entry.
    #[inline]
    pub(in crate::named) fn change(&mut self, user: &U, change: impl FnOnce(&mut V)) {
        if let Some(cell) = self.slot.get_mut().acc.get_mut(user) {
            change(&mut cell.value);
            if self.book.ttl.write(&mut cell.life) && self.book.is_tracked {
                self.book.changes.push((self.hash, user.clone()));
            }
        }
    }

    /// Adds an entry that is not there.
    #[inline]
    pub(in crate::named) fn insert(&mut self, user: U, value: V) {
        let (book, mut life) = (&mut self.book, Life::default());
        book.ttl.write(&mut life);
        if book.is_tracked {
            book.changes.push((self.hash, user.clone()));
        }
        self.slot.get_mut().acc.insert(user, Cell { life, value });
        *book.rows += 1;
        *book.debt += STEPS_PER_ENTRY;
    }

    /// Removes the entries in a range, and passes them to `gone` in order.
    #[inline]
    pub(in crate::named) fn take(&mut self, range: impl RangeBounds<U>, mut gone: impl FnMut(U, V)) {
        let (book, hash, entry) = (&mut self.book, self.hash, self.slot.get_mut());
        let mark = &mut entry.mark;
        let gone = |user: U, cell: Cell<V>| {
            *book.rows -= 1;
            if book.is_tracked && cell.life.is_saved() {
                book.removed.push((hash, user.clone()));
                *mark = true;
            }
            gone(user, cell.value);
        };
        entry.acc.retain_range(range, |_, _| false, gone);
    }

    /// Removes the key if it has no entries left.
    #[inline]
    pub(in crate::named) fn close(self) {
        let entry = self.slot.get();
        if entry.acc.is_empty() && !entry.mark {
            self.slot.remove();
        }
    }
}
