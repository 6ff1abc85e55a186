//! A hash table that is given the hashes: they were computed once, where the keys were taken.

use std::borrow::Borrow;
use std::hash::Hash;

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry as Slot, OccupiedEntry};

use super::{Mark, Reach};
use crate::keeping::keep;
use crate::{KeyGroup, hash_key};

/// What is kept for a key. As small as its parts: `(u64, u64)` with an untracked mark is 16 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Entry<K, Acc, M> {
    pub(crate) key: K,
    pub(crate) acc: Acc,
    pub(crate) mark: M,
}

/// Accumulators by key. Hashes are not kept; [`hash_key`] makes them again when the table grows.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, Acc, M> {
    entries: HashTable<Entry<K, Acc, M>>,
}

/// Tables below this capacity are not worth giving back.
pub(crate) const SMALL: usize = 1024;

impl<K: Hash + Eq, Acc, M: Default> Table<K, Acc, M> {
    pub(crate) fn new() -> Self {
        Table { entries: HashTable::new() }
    }

    /// Makes room for that many entries in all.
    pub(crate) fn reserve(&mut self, entries: usize) {
        self.entries.reserve(entries.saturating_sub(self.entries.len()), rehash);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How to have entries fetched, if the table is large.
    #[inline]
    pub(crate) fn reach(&self) -> Option<Reach> {
        Reach::of(&self.entries)
    }

    /// The entry of a key: with an accumulator that `first` makes if the key is new, otherwise passed to `add`. The
    /// key is copied only if it is new, and the copy owns its bytes.
    #[inline]
    pub(crate) fn upsert<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        first: impl FnOnce() -> Acc,
        add: impl FnOnce(&mut Acc),
    ) -> &mut Entry<K, Acc, M>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        match self.entries.entry(hash, |entry| entry.key.borrow() == key, rehash) {
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                add(&mut entry.acc);
                entry
            }
            Slot::Vacant(slot) => slot
                .insert(Entry { key: keep(|| key.to_owned()), acc: first(), mark: M::default() })
                .into_mut(),
        }
    }

    /// As [`upsert`](Self::upsert), and marks the entry; says whether it was not marked before.
    #[inline(always)]
    pub(crate) fn bump<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        first: impl FnOnce() -> Acc,
        add: impl FnOnce(&mut Acc),
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
        M: Mark,
    {
        if let Some(entry) = self.entries.find_mut(hash, |entry| entry.key.borrow() == key) {
            add(&mut entry.acc);
            return entry.mark.set();
        }
        self.insert(hash, keep(|| key.to_owned()), first())
    }

    /// Adds an entry for a key that has none, and marks it; says whether it was not marked before. Out of line, so that
    /// the loop over records that find theirs has nothing else in it.
    #[inline(never)]
    pub(crate) fn insert(&mut self, hash: u64, key: K, acc: Acc) -> bool
    where
        M: Mark,
    {
        let mut mark = M::default();
        let marked = mark.set();
        self.entries.insert_unique(hash, Entry { key, acc, mark }, rehash);
        marked
    }

    /// The entry of a key after an accumulator was put there, or merged with the one that was there already.
    #[inline]
    pub(crate) fn merge(
        &mut self,
        hash: u64,
        key: K,
        acc: Acc,
        merge: impl FnOnce(&mut Acc, Acc),
    ) -> &mut Entry<K, Acc, M> {
        self.merge_key(hash, key, acc, merge).0
    }

    /// As [`merge`](Self::merge), and gives the key back if the table had it already.
    #[inline]
    pub(crate) fn merge_key(
        &mut self,
        hash: u64,
        key: K,
        acc: Acc,
        merge: impl FnOnce(&mut Acc, Acc),
    ) -> (&mut Entry<K, Acc, M>, Option<K>) {
        match self.entries.entry(hash, |entry| entry.key == key, rehash) {
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                merge(&mut entry.acc, acc);
                (entry, Some(key))
            }
            Slot::Vacant(slot) => (slot.insert(Entry { key, acc, mark: M::default() }).into_mut(), None),
        }
    }

    /// Puts an accumulator in the place of any that was there, which is given back. The entry keeps its mark.
    pub(crate) fn set(&mut self, hash: u64, key: K, acc: Acc) -> Option<Acc> {
        match self.entries.entry(hash, |entry| entry.key == key, rehash) {
            Slot::Occupied(slot) => Some(std::mem::replace(&mut slot.into_mut().acc, acc)),
            Slot::Vacant(slot) => {
                slot.insert(Entry { key, acc, mark: M::default() });
                None
            }
        }
    }

    /// Removes all entries of a key group, handing their accumulators over.
    pub(crate) fn drop_group(&mut self, group: KeyGroup, mut gone: impl FnMut(Acc)) {
        let of_group = |entry: &mut Entry<K, Acc, M>| group.contains(hash_key(&entry.key));
        self.entries.extract_if(of_group).for_each(|entry| gone(entry.acc));
    }

    #[inline(always)]
    pub(crate) fn find_mut<Q>(&mut self, hash: u64, key: &Q) -> Option<&mut Entry<K, Acc, M>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.entries.find_mut(hash, |entry| entry.key.borrow() == key)
    }

    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<&Entry<K, Acc, M>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.entries.find(hash, |entry| entry.key.borrow() == key)
    }

    /// All entries whose key has that hash: nearly always one.
    pub(crate) fn of_hash(&self, hash: u64) -> impl Iterator<Item = &Entry<K, Acc, M>> {
        self.entries.iter_hash(hash).filter(move |entry| hash_key(&entry.key) == hash)
    }

    /// All entries whose key has that hash, and by chance a few others: for those who can tell them from a mark, which
    /// is cheaper than hashing the key again.
    pub(crate) fn near_hash_mut(&mut self, hash: u64) -> impl Iterator<Item = &mut Entry<K, Acc, M>> {
        self.entries.iter_hash_mut(hash)
    }

    /// All entries whose key has that hash: nearly always one.
    pub(crate) fn of_hash_mut(&mut self, hash: u64) -> impl Iterator<Item = &mut Entry<K, Acc, M>> {
        self.entries.iter_hash_mut(hash).filter(move |entry| hash_key(&entry.key) == hash)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<K, Acc, M>> {
        self.entries.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry<K, Acc, M>> {
        self.entries.iter_mut()
    }

    pub(crate) fn each_mut(&mut self, mut each: impl FnMut(&mut Acc)) {
        self.entries.iter_mut().for_each(|entry| each(&mut entry.acc));
    }

    /// One entry of that hash that `is_it`, to be changed or taken out.
    #[inline]
    pub(crate) fn slot(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&Entry<K, Acc, M>) -> bool,
    ) -> Option<OccupiedEntry<'_, Entry<K, Acc, M>>> {
        self.entries.find_entry(hash, is_it).ok()
    }

    /// Returns the place of a key: its entry, or where that goes.
    #[inline]
    pub(crate) fn entry(&mut self, hash: u64, key: &K) -> Slot<'_, Entry<K, Acc, M>> {
        self.entries.entry(hash, |entry| entry.key == *key, rehash)
    }

    /// Returns the entry at a place, if it is taken; places are numbered below [`buckets`](Self::buckets). An entry keeps
    /// its place until the table grows or shrinks.
    pub(crate) fn bucket(&mut self, bucket: usize) -> Option<OccupiedEntry<'_, Entry<K, Acc, M>>> {
        self.entries.get_bucket_entry(bucket).ok()
    }

    /// Gives memory back if the table is much larger than needed; entries then change their places.
    pub(crate) fn shrink(&mut self) {
        if self.is_sparse() {
            self.entries.shrink_to(2 * self.entries.len(), rehash);
        }
    }

    /// Whether the table is much larger than needed.
    pub(crate) fn is_sparse(&self) -> bool {
        self.entries.capacity() > SMALL && self.entries.capacity() / 8 > self.entries.len()
    }

    /// Whether the next [`entry`](Self::entry) makes room first, and so gives entries other places.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() == self.entries.capacity()
    }

    /// How many entries a table should have room for that replaces this one when it [is full](Self::is_full): as many, if
    /// removed entries take half of the room, or twice as many.
    pub(crate) fn next_room(&self) -> usize {
        let room = self.entries.num_buckets() / 8 * 7;
        let is_half_empty = self.entries.len() < room / 2;
        if is_half_empty { room } else { (room + 1).max(self.entries.len() + 1) }
    }

    /// Returns an empty table with room for some entries.
    pub(crate) fn with_room(entries: usize) -> Self {
        Table { entries: HashTable::with_capacity(entries) }
    }

    /// Moves all entries to an empty table, and passes the old and the new place of each to `moved`.
    pub(crate) fn move_to(&mut self, other: &mut Self, mut moved: impl FnMut(usize, usize)) {
        for from in 0..self.entries.num_buckets() {
            if let Ok(slot) = self.entries.get_bucket_entry(from) {
                let entry = slot.remove().0;
                let to = other.entries.insert_unique(rehash(&entry), entry, rehash);
                moved(from, to.bucket_index());
            }
        }
    }

    /// Returns the place of a key's entry.
    #[inline]
    pub(crate) fn place(&self, hash: u64, key: &K) -> Option<usize> {
        self.entries.find_bucket_index(hash, |entry| entry.key == *key)
    }

    /// Returns the entry at a place.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Option<&Entry<K, Acc, M>> {
        self.entries.get_bucket(place)
    }

    /// Iterates over all entries with their places.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, &Entry<K, Acc, M>)> {
        self.entries.iter_buckets().filter_map(|place| Some((place, self.at(place)?)))
    }

    /// Iterates over the entries whose key has that hash, with their places: nearly always one.
    pub(crate) fn places_of_hash(&self, hash: u64) -> impl Iterator<Item = (usize, &Entry<K, Acc, M>)> {
        let near = self.entries.iter_hash_buckets(hash).filter_map(|place| Some((place, self.at(place)?)));
        near.filter(move |(_, entry)| hash_key(&entry.key) == hash)
    }

    /// How many entries there are places for, taken or not: what it costs to go through them.
    pub(crate) fn buckets(&self) -> usize {
        self.entries.num_buckets()
    }

    /// Goes through all entries and removes those that `is_done`.
    #[inline]
    pub(crate) fn extract_if(
        &mut self,
        is_done: impl FnMut(&mut Entry<K, Acc, M>) -> bool,
    ) -> impl Iterator<Item = Entry<K, Acc, M>> {
        self.entries.extract_if(is_done)
    }

    /// Removes one entry of that hash that `is_done`.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        is_done: impl FnMut(&Entry<K, Acc, M>) -> bool,
    ) -> Option<Entry<K, Acc, M>> {
        let slot = self.entries.find_entry(hash, is_done).ok()?;
        Some(slot.remove().0)
    }

    /// Empties the table. The memory is kept for as many entries as there were, not for the
    /// most there ever were: emptying costs as much as there is memory.
    pub(crate) fn drain(&mut self, mut emit: impl FnMut(K, Acc)) {
        let used = self.entries.len();
        for Entry { key, acc, .. } in self.entries.drain() {
            emit(key, acc);
        }
        self.fit(used);
    }

    /// Drops all entries, and what removed ones leave behind, which emptying a table without entries would not. The memory
    /// is kept for about this many.
    pub(crate) fn clear(&mut self, expected: usize) {
        drop(self.entries.drain());
        self.fit(expected);
    }

    /// Gives memory back, of an empty table that is much larger than needed.
    fn fit(&mut self, expected: usize) {
        if self.entries.capacity() > SMALL && self.entries.capacity() / 8 > expected {
            self.entries = HashTable::with_capacity(2 * expected);
        }
    }
}

/// Gives memory of a list back if it is much more than what was used this time. What the list holds stays.
pub(crate) fn relieve<T>(list: &mut Vec<T>, used: usize) {
    if list.capacity() > SMALL && list.capacity() / 8 > used {
        list.shrink_to(0);
    }
}

fn rehash<K: Hash, Acc, M>(entry: &Entry<K, Acc, M>) -> u64 {
    hash_key(&entry.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Stamp;

    #[test]
    fn an_entry_of_two_words_is_sixteen_bytes() {
        assert_eq!(size_of::<Entry<u64, u64, ()>>(), 16);
        assert_eq!(size_of::<Entry<u32, u32, Stamp>>(), 12);
    }

    #[test]
    fn a_key_is_made_owned_only_when_it_is_new() {
        let mut table: Table<String, u64, ()> = Table::new();
        let hash = hash_key("tide");
        table.upsert(hash, "tide", || 1, |n| *n += 1);
        let address = table.find(hash, &"tide".to_owned()).unwrap().key.as_ptr();
        assert_eq!(table.upsert(hash, "tide", || 1, |n| *n += 1).acc, 2);
        assert_eq!(table.find(hash, &"tide".to_owned()).unwrap().key.as_ptr(), address);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn entries_move_only_when_table_is_full() {
        let mut table: Table<u64, u64, ()> = Table::new();
        let place = |table: &Table<u64, u64, ()>, key: u64| table.place(hash_key(&key), &key);
        let (mut moves, mut rooms) = (0, vec![]);
        for key in 0..10_000u64 {
            if table.is_full() {
                rooms.push(table.next_room());
                let mut larger = Table::with_room(table.next_room());
                table.move_to(&mut larger, |_, _| moves += 1);
                table = larger;
            }
            let before: Vec<_> = (key.saturating_sub(9)..key).map(|key| place(&table, key)).collect();
            table.entry(hash_key(&key), &key).or_insert(Entry { key, acc: key, mark: () });
            assert!(before.into_iter().eq((key.saturating_sub(9)..key).map(|key| place(&table, key))));
            // Half of them go, so that places of removed entries are used again.
            if key % 2 == 0 {
                table.remove(hash_key(&(key / 2)), |entry| entry.key == key / 2);
            }
        }
        assert!(
            table.places().all(|(at, entry)| place(&table, entry.key) == Some(at) && entry.acc == entry.key)
        );
        assert_eq!(table.places().count(), table.len());
        // It grows by doubling: few entries are moved often.
        assert!(rooms.len() < 20 && moves < 20_000, "{rooms:?} {moves}");
    }

    #[test]
    fn a_table_that_was_large_once_does_not_stay_so() {
        let mut table: Table<u64, u64, ()> = Table::new();
        for key in 0..20_000 {
            table.merge(hash_key(&key), key, 1, |a, b| *a += b);
        }
        table.drain(|_, _| ());
        assert!(table.entries.capacity() >= 20_000);
        table.merge(hash_key(&1), 1, 1, |a, b| *a += b);
        table.drain(|_, _| ());
        assert!(table.entries.capacity() <= SMALL);
    }
}
