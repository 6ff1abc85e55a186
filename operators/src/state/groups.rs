//! A set of key groups.

use crate::{KEY_GROUPS, KeyGroup};

/// Some of the key groups: a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Groups(u128);

const _: () = assert!(KEY_GROUPS as u32 <= u128::BITS, "a bit for each key group");

impl Groups {
    pub(super) fn insert(&mut self, group: KeyGroup) {
        self.0 |= bit(group);
    }

    pub(super) fn remove(&mut self, group: KeyGroup) {
        self.0 &= !bit(group);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either set.
    pub(super) fn or(self, other: Groups) -> Groups {
        Groups(self.0 | other.0)
    }

    /// Those that the other set does not have.
    pub(super) fn without(self, other: Groups) -> Groups {
        Groups(self.0 & !other.0)
    }

    /// The groups, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = KeyGroup> {
        (0..KEY_GROUPS).map(KeyGroup).filter(move |group| self.0 & bit(*group) != 0)
    }
}

/// No bit for a group that there is not.
fn bit(group: KeyGroup) -> u128 {
    1u128.checked_shl(u32::from(group.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_groups_that_were_put_in_and_not_taken_out() {
        let mut groups = Groups::default();
        for group in [127, 0, 64, 3] {
            groups.insert(KeyGroup(group));
        }
        groups.remove(KeyGroup(64));
        assert_eq!(groups.iter().map(|group| group.0).collect::<Vec<_>>(), [0, 3, 127]);
        let mut other = Groups::default();
        other.insert(KeyGroup(3));
        assert_eq!(groups.without(other).iter().count(), 2);
        assert_eq!(groups.without(other).or(other), groups);
        assert!(groups.without(groups).is_empty());
    }
}
