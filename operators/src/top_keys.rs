//! Which keys most rows of an operator have: a sample of its rows, counted in a few dozen counters.
//!
//! Only operators that get their rows by key do so, and no aggregates: of these each worker aggregates its own rows first, so that a hot key
//! costs no more than others. An operator counts down to the next row of the sample, by whole batches. A row of the sample counts for all rows
//! that it stands for: of the first thousand for itself alone, later for about a thousand. The distances between such rows are
//! random, so that keys that come in a pattern are found as often as they occur.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::frequent::{Counter, Counters};
use crate::turn;

/// The number of counters that stay when those of rare keys are dropped.
pub const COUNTERS: usize = 64;
/// After this many rows of the sample the next ones stand for twice as many rows.
const SAMPLES: u32 = 1_024;
/// Of how many rows one is in the sample, at most.
const LONGEST: u64 = 1_024;
/// A longer key is cut off.
const CHARACTERS: usize = 200;

/// The counters of an operator instance.
#[derive(Debug, Default)]
pub struct KeySketch {
    counters: Counters<Arc<str>>,
}

/// A key in the merged counters of all instances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CountedKey {
    /// The key's hash.
    pub hash: u64,
    /// The key as JSON.
    pub key: Arc<str>,
    /// How many of the rows have it, at least.
    pub rows: u64,
}

impl KeySketch {
    /// Returns how many rows have been counted.
    pub fn rows(&self) -> u64 {
        self.counters.total()
    }

    /// Counts rows of a key that has a counter; returns false if it has none.
    fn count(&mut self, hash: u64, rows: u64) -> bool {
        self.counters.count(hash, |_| true, rows)
    }

    /// Counts rows of a key that has no counter yet.
    fn insert(&mut self, hash: u64, key: Arc<str>, rows: u64) {
        self.counters.insert(hash, key, rows, COUNTERS);
    }

    /// Halves all counts, so that later rows count more.
    pub fn halve(&mut self) {
        self.counters.halve();
    }

    /// Merges the counters of several instances: returns the keys, those of most rows first, with how many rows they have at least.
    pub fn merged<'a>(sketches: impl IntoIterator<Item = &'a KeySketch>) -> Vec<CountedKey> {
        let mut all = Counters::default();
        sketches.into_iter().for_each(|sketch| all.merge(sketch.counters.clone(), COUNTERS));
        let counted = |counter: &Counter<Arc<str>>| CountedKey {
            hash: counter.hash,
            key: Arc::clone(&counter.key),
            rows: counter.count,
        };
        let mut keys: Vec<CountedKey> = all.iter().map(counted).collect();
        keys.sort_unstable_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.key.cmp(&b.key)));
        keys
    }
}

/// Chooses the rows of an operator instance whose keys are counted.
#[derive(Debug)]
pub struct KeySampler {
    /// Rows up to the next one of the sample: at least one.
    left: u64,
    sample: Option<Box<Sample>>,
}

#[derive(Debug)]
struct Sample {
    sketch: Arc<Mutex<KeySketch>>,
    /// How many rows one of the sample stands for.
    interval: u64,
    /// How many rows of the sample have stood for that many.
    taken: u32,
    random: u64,
}

/// Counts nothing.
impl Default for KeySampler {
    fn default() -> Self {
        KeySampler { left: u64::MAX, sample: None }
    }
}

impl KeySampler {
    /// Returns a sampler that counts in a sketch. Its random numbers begin with `seed`.
    pub fn new(sketch: Arc<Mutex<KeySketch>>, seed: u64) -> Self {
        // Not zero, which would stay zero.
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        KeySampler { left: 1, sample: Some(Box::new(Sample { sketch, interval: 1, taken: 0, random })) }
    }

    /// Takes note of rows, whose hash and key `key` returns.
    #[inline]
    pub fn note_all<T, K: Serialize>(&mut self, rows: &[T], key: impl Fn(&T) -> (u64, &K)) {
        if const { size_of::<K>() == 0 } {
            return;
        }
        let mut rows = rows;
        while let Some((row, after)) = self.due(rows) {
            let (hash, key) = key(row);
            self.left = take(&mut self.sample, hash, key);
            rows = after;
        }
        self.left -= rows.len() as u64;
    }

    /// The next row of the sample and the rows after it, if it is among these.
    #[inline]
    fn due<'r, T>(&self, rows: &'r [T]) -> Option<(&'r T, &'r [T])> {
        let (until, after) = rows.split_at_checked(usize::try_from(self.left).ok()?)?;
        Some((until.last()?, after))
    }
}

/// Counts a row of the sample; returns how many rows there are up to the next one.
#[cold]
#[inline(never)]
fn take<K: Serialize>(sample: &mut Option<Box<Sample>>, hash: u64, key: &K) -> u64 {
    let Some(sample) = sample else { return u64::MAX };
    if !sample.count(hash) {
        // Without the lock: it runs code of the user.
        sample.insert(hash, serde_json::to_string(key));
    }
    sample.next()
}

impl Sample {
    fn count(&mut self, hash: u64) -> bool {
        turn::lock(&self.sketch).count(hash, self.interval)
    }

    fn insert(&mut self, hash: u64, json: Result<String, serde_json::Error>) {
        let mut key = json.unwrap_or_else(|error| format!("({error})"));
        if let Some((end, _)) = key.char_indices().nth(CHARACTERS) {
            key.truncate(end);
            key.push('…');
        }
        turn::lock(&self.sketch).insert(hash, key.into(), self.interval);
    }

    /// Returns how many rows there are up to the next one of the sample: `interval` on average.
    fn next(&mut self) -> u64 {
        self.taken += 1;
        if self.taken >= SAMPLES && self.interval < LONGEST {
            (self.taken, self.interval) = (0, self.interval * 2);
        }
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + self.random % (2 * self.interval - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::Hash;

    use proptest::prelude::*;

    use super::*;
    use crate::hash_key;

    fn sampler() -> (KeySampler, Arc<Mutex<KeySketch>>) {
        let sketch = Arc::new(Mutex::new(KeySketch::default()));
        (KeySampler::new(Arc::clone(&sketch), 7), sketch)
    }

    fn note<K: Hash + Serialize>(sampler: &mut KeySampler, key: &K) {
        sampler.note_all(&[key], |key| (hash_key(*key), *key));
    }

    /// The merged counts, by key.
    fn counted(sketches: &[Arc<Mutex<KeySketch>>]) -> BTreeMap<String, u64> {
        let locked: Vec<_> = sketches.iter().map(|sketch| sketch.lock().unwrap()).collect();
        let merged = KeySketch::merged(locked.iter().map(|sketch| &**sketch));
        assert!(merged.is_sorted_by(|a, b| a.rows >= b.rows));
        merged.into_iter().map(|it| (it.key.to_string(), it.rows)).collect()
    }

    proptest! {
        #[test]
        fn count_is_below_true_one_by_bound_at_most(
            keys in prop::collection::vec((0u64..400, 1u64..40), 1..400),
            workers in 1usize..4,
            halves in any::<bool>(),
        ) {
            let made: Vec<_> = (0..workers).map(|_| sampler()).collect();
            let (mut samplers, sketches): (Vec<_>, Vec<_>) = made.into_iter().unzip();
            let mut exact: BTreeMap<String, u64> = BTreeMap::new();
            // Skewed: the lower its number, the more rows has a key.
            for (n, (key, rows)) in keys.into_iter().enumerate() {
                let key = key * key / 400;
                for _ in 0..rows {
                    // No more than all of which are in the sample.
                    if sketches[n % workers].lock().unwrap().rows() < u64::from(SAMPLES) {
                        *exact.entry(key.to_string()).or_default() += 1;
                        note(&mut samplers[n % workers], &key);
                    }
                }
            }
            if halves {
                sketches.iter().for_each(|sketch| sketch.lock().unwrap().halve());
            }
            let divisor = if halves { 2 } else { 1 };
            let all: u64 = exact.values().sum();
            let counted = counted(&sketches);
            // The excess of each worker's counters, and what halving rounds.
            let bound = all / COUNTERS as u64 / divisor + 2 * workers as u64;
            for (key, rows) in &exact {
                let found = counted.get(key).copied().unwrap_or(0);
                prop_assert!(found <= rows / divisor, "{key}: {found} of {rows}");
                prop_assert!(found + bound >= rows / divisor, "{key}: {found} of {rows}");
            }
        }

        #[test]
        fn rows_of_a_batch_are_noted_as_one_by_one(sizes in prop::collection::vec(0usize..900, 1..60)) {
            let ((mut single, of_single), (mut batches, of_batches)) = (sampler(), sampler());
            let mut key = 0u64;
            for size in sizes {
                let rows: Vec<u64> = (key..).take(size).map(|key| key % 5).collect();
                key += size as u64;
                rows.iter().for_each(|key| note(&mut single, key));
                batches.note_all(&rows, |key| (hash_key(key), key));
                prop_assert_eq!(single.left, batches.left);
            }
            prop_assert_eq!(counted(&[of_single]), counted(&[of_batches]));
        }
    }

    #[test]
    fn sample_of_many_rows_counts_each_key_by_its_share() {
        const ROWS: u64 = 10_000_000;
        // Keys in a fixed pattern, whose length divides that of a batch.
        let (mut sampler, sketch) = sampler();
        for n in 0..ROWS {
            let key = ["tide", "tide", "mill", "sea"][n as usize % 4];
            note(&mut sampler, &key);
        }
        let rows = sketch.lock().unwrap().rows();
        assert!(rows.abs_diff(ROWS) < ROWS / 50, "{rows}");
        let counted = counted(&[sketch]);
        for (key, percent) in [("\"tide\"", 50), ("\"mill\"", 25), ("\"sea\"", 25)] {
            let found = counted[key] * 100 / rows;
            assert!(found.abs_diff(percent) <= 2, "{key}: {found} %");
        }
    }

    #[test]
    fn long_key_is_cut_off() {
        let (mut sampler, sketch) = sampler();
        let key = "ü".repeat(CHARACTERS);
        note(&mut sampler, &key);
        let counted = counted(&[sketch]);
        let (text, _) = counted.first_key_value().unwrap();
        assert_eq!(text.chars().count(), CHARACTERS + 1);
        assert!(text.ends_with("ü…"));
    }

    #[test]
    fn sampler_without_sketch_counts_nothing() {
        let mut sampler = KeySampler::default();
        note(&mut sampler, &1u64);
        sampler.note_all(&[2u64, 3], |key| (*key, key));
        assert_eq!(sampler.left, u64::MAX - 3);
    }
}
