//! Keys: hashed once where the key is taken, and the same hash serves routing, look-up and key group.

use std::hash::{BuildHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

/// How many key groups the state of an operator is divided in. Fixed, so that a restart with another number of
/// workers is only another assignment of groups to workers.
pub const KEY_GROUPS: u16 = 128;

/// One of the [`KEY_GROUPS`] parts of an operator's keyed state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// The group of a key, by its hash.
    #[inline]
    pub fn of(hash: u64) -> KeyGroup {
        KeyGroup((hash >> (64 - KEY_GROUPS.trailing_zeros())) as u16)
    }

    /// The worker that holds the group when there are `workers`: contiguous ranges, as even as can be.
    #[inline]
    pub fn worker(self, workers: usize) -> usize {
        self.0 as usize * workers / KEY_GROUPS as usize
    }
}

/// The hash of a key: of fixed seed, so that every worker and every run agrees.
///
/// A borrowed form hashes as its owned one does (`str` as `String`).
#[inline(always)]
#[allow(
    clippy::manual_hash_one,
    reason = "that one is not always inlined, and then hashing a number is a call"
)]
pub fn hash_key<Q: Hash + ?Sized>(key: &Q) -> u64 {
    // The seed is arbitrary and must never change: key groups on disk depend on it.
    let mut hasher = foldhash::fast::FixedState::with_seed(0x7469_6465_6d69_6c6c).build_hasher();
    key.hash(&mut hasher);
    hasher.finish()
}

/// A record with its key and the key's hash, on its way to the worker that holds the key's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed<K, V> {
    /// [`hash_key`] of the key.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The record.
    pub value: V,
}

/// What a key must be: compared, hashed, copied, sent between workers and kept in checkpoints.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    note = "a key is `#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]`, `Send` and without borrows: it \
            is sent between workers and kept in checkpoints"
)]
pub trait Key: Clone + Eq + Hash + Data {}
impl<K: Clone + Eq + Hash + Data> Key for K {}

/// What a record must be to be sent between workers or kept in state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent between workers or kept in state",
    note = "such a record is `#[derive(serde::Serialize, serde::Deserialize)]`, `Send` and without borrows"
)]
pub trait Data: Send + Serialize + serde::de::DeserializeOwned + 'static {}
impl<T: Send + Serialize + serde::de::DeserializeOwned + 'static> Data for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_count_up_to_the_groups_leaves_no_worker_without_a_group() {
        for workers in 1..=KEY_GROUPS as usize {
            let mut groups = vec![0usize; workers];
            for group in 0..KEY_GROUPS {
                groups[KeyGroup(group).worker(workers)] += 1;
            }
            assert!(groups.iter().all(|n| *n > 0), "{workers} workers: {groups:?}");
        }
    }

    #[test]
    fn the_borrowed_key_hashes_as_the_owned_one() {
        assert_eq!(hash_key("tide"), hash_key(&"tide".to_owned()));
    }

    #[test]
    fn hashes_spread_over_all_groups() {
        let groups: std::collections::HashSet<_> = (0u64..4096).map(|k| KeyGroup::of(hash_key(&k))).collect();
        assert_eq!(groups.len(), KEY_GROUPS as usize);
    }
}
