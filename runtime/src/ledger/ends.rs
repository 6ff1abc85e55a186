//! Which readers have ended, and in which epochs.

use std::collections::BTreeMap;

use tidemill_operators::Epoch;

/// The ends of the readers of a source or of a partition.
#[derive(Debug)]
pub(super) struct Ends {
    readers: usize,
    /// Since which epochs there are more.
    joined: Vec<Epoch>,
    /// The epochs in which readers have reported their end in this run.
    reported: Vec<Epoch>,
    /// How many other readers had ended before a replayed epoch, in the run that planned it.
    replayed: BTreeMap<Epoch, usize>,
}

impl Ends {
    /// Creates the ends of readers that all read on.
    pub(super) fn of(readers: usize) -> Ends {
        Ends { readers, joined: Vec::new(), reported: Vec::new(), replayed: BTreeMap::new() }
    }

    /// Creates the ends of readers that more may join at any time: they have never all ended.
    pub(super) fn never() -> Ends {
        Ends::of(usize::MAX)
    }

    /// How many readers there were from the beginning.
    pub(super) fn readers(&self) -> usize {
        self.readers
    }

    /// Adds a reader that takes part from an epoch on.
    pub(super) fn join(&mut self, epoch: Epoch) {
        self.joined.push(epoch);
    }

    /// Notes that a reader has reported its end in an epoch.
    pub(super) fn report(&mut self, epoch: Epoch) {
        self.reported.push(epoch);
    }

    /// Notes that a reader had ended before a replayed epoch. It counts as ended in that epoch alone.
    pub(super) fn replay(&mut self, epoch: Epoch) {
        *self.replayed.entry(epoch).or_default() += 1;
    }

    /// Returns whether all readers had ended by the end of an epoch.
    pub(super) fn all_by(&self, epoch: Epoch) -> bool {
        let reported = self.reported.iter().filter(|end| **end <= epoch).count();
        let joined = self.joined.iter().filter(|join| **join <= epoch).count();
        reported + self.replayed.get(&epoch).copied().unwrap_or(0) >= self.readers.saturating_add(joined)
    }

    /// Returns whether all readers have reported their end in this run.
    pub(super) fn all(&self) -> bool {
        self.reported.len() >= self.readers.saturating_add(self.joined.len())
    }

    /// Forgets replayed epochs before this one.
    pub(super) fn forget_before(&mut self, epoch: Epoch) {
        if !self.replayed.is_empty() {
            self.replayed = self.replayed.split_off(&epoch);
        }
    }
}
