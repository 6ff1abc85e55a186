//! Where the entries are that have changed since the last snapshot.

use crate::state::relieve;

/// Equal items are one. An item whose entry has been removed stays until there are many such items.
#[derive(Debug)]
pub(super) struct Changes<T>(Vec<T>);

/// A list below this length is not worth tidying.
const SMALL: usize = 1024;

impl<T: Ord> Changes<T> {
    pub(super) fn new() -> Self {
        Changes(Vec::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        self.0.push(item);
    }

    /// Whether most items are of entries that have been removed: there are more than twice as many items as `entries`.
    #[inline]
    pub(super) fn is_full(&self, entries: usize) -> bool {
        self.0.len() > 2 * entries + SMALL
    }

    /// Drops duplicates and items without a changed entry. At least half of a full list goes, so that a push pays for a
    /// constant number of look-ups.
    #[cold]
    pub(super) fn tidy(&mut self, has_changed: impl FnMut(&T) -> bool) {
        self.0.sort_unstable();
        self.0.dedup();
        self.0.retain(has_changed);
        let used = self.0.len();
        relieve(&mut self.0, used);
    }

    /// Takes the items out; [`recycle`](Self::recycle) gives the memory back.
    pub(super) fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn recycle(&mut self, mut list: Vec<T>) {
        let used = list.len();
        list.clear();
        relieve(&mut list, used);
        self.0 = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The few that stay are far below the capacity of the list, which gives memory back.
    #[test]
    fn tidied_list_keeps_the_changes_that_there_are() {
        let mut changes = Changes::new();
        (0..5_000u32).for_each(|n| changes.push(n));
        assert!(changes.is_full(300));
        changes.tidy(|n| n % 20 == 0);
        assert_eq!(changes.take(), (0..5_000).step_by(20).collect::<Vec<_>>());
    }
}
