//! The most frequent keys, in a bounded number of counters.
//!
//! The counters are those of J. Misra and D. Gries, "Finding repeated elements" (1982), with the merge of P. K. Agarwal and others,
//! "Mergeable summaries" (2012), who also show that Space-Saving (A. Metwally, D. Agrawal and A. El Abbadi, 2005) has the same ones:
//! a key without a counter gets one and, if there are too many, those of the least frequent keys are dropped. Here half of them are
//! dropped at once, so that a key costs the same however many counters there are.
//!
//! With `k` counters that stay, no key that was dropped has occurred more often than in one of `k` + 1 cases. Each counter records how
//! often its key may have occurred before it got the counter.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

/// Among fewer counters a key is looked for one by one.
const FEW: usize = 16;

/// Counters of keys: up to twice as many as the most that stay when some are dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counters<K> {
    counters: Vec<Counter<K>>,
    total: u64,
    /// No key without a counter has occurred more often.
    missed: u64,
    /// The places of the counters by hash, if there are not few; made when it is needed.
    #[serde(skip)]
    index: HashTable<u32>,
}

/// How often a key has occurred.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counter<K> {
    /// The hash of the key.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// How often it has occurred since it has this counter.
    pub count: u64,
    /// How often it may have occurred before, at most.
    pub missed: u64,
}

impl<K> Counter<K> {
    /// How often the key has occurred, at most.
    pub fn at_most(&self) -> u64 {
        self.count + self.missed
    }
}

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Counters { counters: Vec::new(), total: 0, missed: 0, index: HashTable::new() }
    }
}

impl<K> Counters<K> {
    /// Returns how much has been counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the counters, in no order.
    pub fn iter(&self) -> std::slice::Iter<'_, Counter<K>> {
        self.counters.iter()
    }

    /// Counts a key that has a counter; returns false if it has none.
    #[inline]
    pub fn count(&mut self, hash: u64, is: impl Fn(&K) -> bool, count: u64) -> bool {
        let Some(counter) = self.find(hash, is) else { return false };
        counter.count += count;
        self.total += count;
        true
    }

    /// Counts a key that has no counter; `most` counters stay if there are too many.
    pub fn insert(&mut self, hash: u64, key: K, count: u64, most: usize) {
        self.total += count;
        self.push(Counter { hash, key, count, missed: self.missed });
        self.limit(most);
    }

    /// Merges other counters into these.
    pub fn merge(&mut self, other: Counters<K>, most: usize)
    where
        K: PartialEq,
    {
        let missed = self.missed;
        // A key without a counter among the others has been missed there.
        self.counters.iter_mut().for_each(|counter| counter.missed += other.missed);
        self.missed += other.missed;
        self.total += other.total;
        for mut counter in other.counters {
            if let Some(mine) = self.find(counter.hash, |key| *key == counter.key) {
                mine.count += counter.count;
                mine.missed = mine.missed - other.missed + counter.missed;
            } else {
                counter.missed += missed;
                self.push(counter);
            }
        }
        self.limit(most);
    }

    /// Halves all counts, so that later ones count more.
    pub fn halve(&mut self) {
        self.total /= 2;
        self.missed = self.missed.div_ceil(2);
        for counter in &mut self.counters {
            counter.count /= 2;
            counter.missed = counter.missed.div_ceil(2);
        }
    }

    #[inline]
    fn find(&mut self, hash: u64, is: impl Fn(&K) -> bool) -> Option<&mut Counter<K>> {
        let is = |counter: &Counter<K>| counter.hash == hash && is(&counter.key);
        if self.counters.len() <= FEW {
            return self.counters.iter_mut().find(|counter| is(counter));
        }
        if self.index.len() != self.counters.len() {
            self.reindex();
        }
        let Counters { counters, index, .. } = self;
        let place = *index.find(hash, |place| counters.get(*place as usize).is_some_and(is))?;
        counters.get_mut(place as usize)
    }

    fn push(&mut self, counter: Counter<K>) {
        let place = self.counters.len();
        if self.index.len() == place && place > 0 {
            let Counters { counters, index, .. } = self;
            let hash_at = |place: &u32| counters.get(*place as usize).map_or(0, |counter| counter.hash);
            index.insert_unique(counter.hash, place as u32, hash_at);
        }
        self.counters.push(counter);
    }

    fn reindex(&mut self) {
        let Counters { counters, index, .. } = self;
        index.clear();
        let hash_at = |place: &u32| counters.get(*place as usize).map_or(0, |counter| counter.hash);
        for (place, counter) in (0..).zip(&*counters) {
            index.insert_unique(counter.hash, place, hash_at);
        }
    }

    /// Drops the counters of the least frequent keys if there are more than twice `most`.
    fn limit(&mut self, most: usize) {
        if self.counters.len() <= most.saturating_mul(2) {
            return;
        }
        let mut counts: Vec<u64> = self.counters.iter().map(Counter::at_most).collect();
        // The greatest count that is dropped, of `most` + 1 at least that are as great or greater.
        let (_, count, _) = counts.select_nth_unstable_by(most, |a, b| b.cmp(a));
        self.missed = self.missed.max(*count);
        let missed = self.missed;
        self.counters.retain(|counter| counter.at_most() > missed);
        self.index.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::hash_key;

    fn count(counters: &mut Counters<u64>, key: u64, times: u64, most: usize) {
        if !counters.count(hash_key(&key), |other| *other == key, times) {
            counters.insert(hash_key(&key), key, times, most);
        }
    }

    proptest! {
        #[test]
        fn counts_are_within_bound_of_exact_ones(
            keys in vec((0u64..3_000, 1u64..9), 1..3_000),
            most in 1usize..80,
            parts in 1usize..5,
        ) {
            let mut exact = BTreeMap::<u64, u64>::new();
            let mut counters = vec![Counters::default(); parts];
            for (n, (key, times)) in keys.iter().enumerate() {
                // Skewed: the lower its number, the more frequent is a key.
                let key = key * key * key / 9_000_000;
                *exact.entry(key).or_default() += times;
                count(&mut counters[n % parts], key, *times, most);
            }
            let mut all = Counters::default();
            counters.into_iter().for_each(|part| all.merge(part, most));
            prop_assert_eq!(all.total(), exact.values().sum::<u64>());
            prop_assert!(all.counters.len() <= 2 * most);
            prop_assert!(all.missed <= all.total() / (most as u64 + 1), "{}", all.missed);
            for counter in all.iter() {
                let exact = exact.remove(&counter.key).unwrap();
                prop_assert!(counter.count <= exact && exact <= counter.at_most(), "{counter:?}: {exact}");
                prop_assert!(counter.missed <= all.missed);
            }
            // Those without a counter.
            prop_assert!(exact.values().all(|times| *times <= all.missed));
        }

        #[test]
        fn counts_of_few_keys_are_exact(keys in vec(0u64..40, 1..500), parts in 1usize..5) {
            let mut exact = BTreeMap::<u64, u64>::new();
            let mut counters = vec![Counters::default(); parts];
            for (n, key) in keys.iter().enumerate() {
                *exact.entry(*key).or_default() += 1;
                count(&mut counters[n % parts], *key, 1, 20);
            }
            let mut all = Counters::default();
            counters.into_iter().for_each(|part| all.merge(part, 20));
            let found: BTreeMap<u64, u64> = all.iter().map(|counter| (counter.key, counter.count)).collect();
            prop_assert_eq!(found, exact);
            prop_assert_eq!(all.missed, 0);
        }
    }

    #[test]
    fn restored_counters_count_the_same() {
        let mut counters = Counters::default();
        (0..100).for_each(|key| count(&mut counters, key, 1 + key % 3, 60));
        let mut restored: Counters<u64> =
            postcard::from_bytes(&postcard::to_stdvec(&counters).unwrap()).unwrap();
        for counters in [&mut counters, &mut restored] {
            (50..150).for_each(|key| count(counters, key, 2, 60));
        }
        assert_eq!(postcard::to_stdvec(&counters), postcard::to_stdvec(&restored));
    }
}
