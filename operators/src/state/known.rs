//! The keys of a table that was emitted, kept for when they come again.
//!
//! A table that is filled and emitted many times a second has the same keys each time. A key that owns memory would
//! be allocated again, in whatever holes the allocator has just then: soon the keys that nearly every record looks at lie
//! far apart, and comparing them waits for memory. So the table keeps its keys and hands copies over, which are allocated
//! one after the other. A key that did not come between two times is forgotten.

use std::borrow::Borrow;
use std::hash::Hash;

use super::Mark;
use super::table::Table;
use crate::hash_key;
use crate::keeping::keep;

/// With fewer keys a table is emitted whole: a record that comes alone should cost one copy of its key.
const MANY: usize = 64;

/// The keys that a table had when it was last emitted, without those that it has again.
pub(super) struct Known<K, Acc, M> {
    keys: Table<K, Acc, M>,
}

impl<K: Hash + Eq + Clone, Acc: Clone, M: Mark> Known<K, Acc, M> {
    /// Whether it can pay at all: keys own memory, and accumulators do not, for they are copied too.
    pub(super) const PAYS: bool =
        std::mem::needs_drop::<K>() && !std::mem::needs_drop::<Acc>() && !M::TRACKED;

    pub(super) fn new() -> Self {
        Known { keys: Table::new() }
    }

    /// As [`Table::bump`], with the key from here if it is here.
    #[inline(always)]
    pub(super) fn bump<Q>(
        &mut self,
        table: &mut Table<K, Acc, M>,
        hash: u64,
        key: &Q,
        first: impl FnOnce() -> Acc,
        add: impl FnOnce(&mut Acc),
    ) where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        match table.find_mut(hash, key) {
            Some(entry) => add(&mut entry.acc),
            None => self.insert(table, hash, key, first()),
        }
    }

    /// Out of line and all of it, so that the loop over records that find their entry has one call in it and no more.
    #[inline(never)]
    fn insert<Q>(&mut self, table: &mut Table<K, Acc, M>, hash: u64, key: &Q, acc: Acc)
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let known = self.keys.remove(hash, |entry| entry.key.borrow() == key);
        let key = known.map_or_else(|| keep(|| key.to_owned()), |entry| entry.key);
        table.insert(hash, key, acc);
    }

    /// Empties the table, handing its entries over.
    pub(super) fn hand_over(&mut self, table: &mut Table<K, Acc, M>, mut emit: impl FnMut(u64, K, Acc)) {
        let entries = table.len();
        if Self::PAYS && entries >= MANY {
            for entry in table.iter() {
                emit(hash_key(&entry.key), entry.key.clone(), entry.acc.clone());
            }
            std::mem::swap(table, &mut self.keys);
            table.clear(entries);
        } else {
            table.drain(|key, acc| emit(hash_key(&key), key, acc));
            if self.keys.len() > 0 {
                self.keys = Table::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Counts = Table<String, u64, ()>;

    fn add(table: &mut Counts, known: &mut Known<String, u64, ()>, key: &str) {
        known.bump(table, hash_key(key), key, || 1, |n| *n += 1);
    }

    fn handed_over(table: &mut Counts, known: &mut Known<String, u64, ()>) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        known.hand_over(table, |hash, key, n| {
            assert_eq!(hash, hash_key(&key));
            assert_eq!(all.insert(key, n), None, "a key is emitted once");
        });
        assert_eq!(table.len(), 0);
        all
    }

    proptest! {
        #[test]
        fn what_is_handed_over_is_what_has_come_since(times in proptest::collection::vec(
            (0..300usize, 1..300usize, 0..600usize), 1..12,
        )) {
            let (mut table, mut known) = (Table::new(), Known::new());
            for (from, keys, records) in times {
                let mut expected = BTreeMap::new();
                for record in 0..records {
                    let key = format!("key {}", from + record % keys);
                    *expected.entry(key.clone()).or_insert(0) += 1;
                    add(&mut table, &mut known, &key);
                }
                prop_assert_eq!(table.len(), expected.len());
                prop_assert_eq!(handed_over(&mut table, &mut known), expected);
            }
        }
    }

    #[test]
    fn repeated_key_keeps_its_place_and_absent_key_is_dropped() {
        let (mut table, mut known) = (Table::new(), Known::new());
        let keys: Vec<String> = (0..2 * MANY).map(|n| format!("key {n}")).collect();
        let address = |table: &Counts, key: &String| table.find(hash_key(key), key).unwrap().key.as_ptr();
        keys.iter().for_each(|key| add(&mut table, &mut known, key));
        let before: Vec<_> = keys.iter().map(|key| address(&table, key)).collect();
        handed_over(&mut table, &mut known);
        for (key, before) in keys.iter().zip(before).take(MANY) {
            add(&mut table, &mut known, key);
            assert_eq!(address(&table, key), before);
        }
        assert_eq!(known.keys.len(), MANY);
        handed_over(&mut table, &mut known);
        assert_eq!(known.keys.len(), MANY, "those of the last time only");
        add(&mut table, &mut known, "a single one");
        handed_over(&mut table, &mut known);
        assert_eq!(known.keys.len(), 0);
    }
}
