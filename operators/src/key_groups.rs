//! Key groups: the parts in which keyed state is dealt to workers and written to checkpoints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Into how many key groups the keyed state of every operator is divided: a power of two, 128 by default.
///
/// A checkpoint is bound to its number, so that a restart with another number of workers only assigns groups to other
/// workers.
///
/// ```
/// use tidemill::KeyGroups;
/// use tidemill::operator::HashedKey;
///
/// let groups = KeyGroups::new(8).ok_or("8 is a power of two")?;
/// let hash = HashedKey::of(&"tide").hash;
/// let group = groups.of(hash);
/// assert!(group.number() < 8 && group.contains(hash));
/// assert!(KeyGroups::new(10).is_none());
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct KeyGroups {
    /// The binary logarithm of their number.
    bits: u8,
}

impl KeyGroups {
    /// The most key groups that there can be.
    pub const MOST: u16 = 1 << 15;

    /// Returns that number of key groups; `None` unless it is a power of two, at most [`MOST`](Self::MOST).
    pub const fn new(count: u16) -> Option<KeyGroups> {
        if count.is_power_of_two() { Some(KeyGroups { bits: count.trailing_zeros() as u8 }) } else { None }
    }

    /// Returns how many there are.
    pub const fn count(self) -> u16 {
        1 << self.bits
    }

    /// Returns the group of a key, by its [hash](crate::hash_key).
    #[inline]
    pub fn of(self, hash: u64) -> KeyGroup {
        // In two steps: one group means a shift by all 64 bits.
        KeyGroup { number: ((hash >> 1) >> (63 - self.bits)) as u16, bits: self.bits }
    }

    /// Returns the group of that number; `None` if there are no more than that.
    pub const fn group(self, number: u16) -> Option<KeyGroup> {
        if number < self.count() { Some(KeyGroup { number, bits: self.bits }) } else { None }
    }

    /// Returns all groups, in order.
    pub fn iter(self) -> impl Iterator<Item = KeyGroup> {
        (0..self.count()).map(move |number| KeyGroup { number, bits: self.bits })
    }
}

impl Default for KeyGroups {
    fn default() -> Self {
        KeyGroups { bits: 7 }
    }
}

impl TryFrom<u16> for KeyGroups {
    type Error = String;
    fn try_from(count: u16) -> Result<Self, String> {
        KeyGroups::new(count).ok_or_else(|| format!("{count} key groups: the number must be a power of two"))
    }
}

impl From<KeyGroups> for u16 {
    fn from(groups: KeyGroups) -> u16 {
        groups.count()
    }
}

impl fmt::Display for KeyGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count())
    }
}

/// One of the [`KeyGroups`] of an operator's keyed state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyGroup {
    number: u16,
    /// Of the groups that it is one of.
    bits: u8,
}

impl KeyGroup {
    /// Returns its number, from 0.
    pub const fn number(self) -> u16 {
        self.number
    }

    /// Returns the groups that it is one of.
    pub const fn groups(self) -> KeyGroups {
        KeyGroups { bits: self.bits }
    }

    /// Returns whether the key of a hash is in the group.
    pub fn contains(self, hash: u64) -> bool {
        self.groups().of(hash) == self
    }

    /// Returns the worker that holds the group, of that many: contiguous ranges, as even as can be.
    #[inline]
    pub fn worker(self, workers: usize) -> usize {
        (self.number as usize * workers) >> self.bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_key;

    #[test]
    fn no_worker_is_without_a_group_where_groups_suffice() {
        for groups in [1, 2, 8, 128, 1024].map(|count| KeyGroups::new(count).unwrap()) {
            for workers in 1..=usize::from(groups.count()).min(200) {
                let mut held = vec![0usize; workers];
                groups.iter().for_each(|group| held[group.worker(workers)] += 1);
                let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
                assert!(*least > 0 && most - least <= 1, "{workers} workers: {held:?}");
            }
        }
    }

    #[test]
    fn hashes_spread_over_all_groups() {
        for groups in [1, 8, 128, 1024].map(|count| KeyGroups::new(count).unwrap()) {
            let found: std::collections::HashSet<_> =
                (0u64..16_384).map(|key| groups.of(hash_key(&key))).collect();
            assert_eq!(found.len(), usize::from(groups.count()));
            assert!(found.iter().all(|group| groups.group(group.number()) == Some(*group)));
        }
    }

    #[test]
    fn default_groups_are_the_seven_highest_bits_of_the_hash() {
        let hash = hash_key("tide");
        assert_eq!(u64::from(KeyGroups::default().of(hash).number()), hash >> 57);
        assert_eq!(KeyGroups::default().count(), 128);
    }

    #[test]
    fn number_that_is_no_power_of_two_is_no_number_of_groups() {
        for count in [0, 3, 127, 129, u16::MAX] {
            assert_eq!(KeyGroups::new(count), None);
        }
        assert_eq!(KeyGroups::new(KeyGroups::MOST).unwrap().count(), KeyGroups::MOST);
    }
}
