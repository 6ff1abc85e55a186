//! The epoch numbers of a run.
//!
//! A number stands for the same rows in all runs of a query: a run replays the plans that were made after the last
//! commit, each under its number, and then counts on from the first number that no run has used. So numbers may have
//! gaps, between runs and behind the replayed plans, and nothing in the engine steps from one epoch to the next by adding one.

use serde::{Deserialize, Serialize};
use tidemill_operators::Epoch;

/// Which epochs a run has, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// The epochs to be replayed, in order.
    replayed: Vec<Epoch>,
    /// The first epoch that no run has used; those that follow are consecutive.
    free: Epoch,
}

impl Numbers {
    /// The numbers of a run that replays epochs and then counts on from `free`.
    pub(crate) fn new(mut replayed: Vec<Epoch>, free: Epoch) -> Numbers {
        replayed.sort_unstable();
        Numbers { replayed, free }
    }

    /// The first epoch of the run.
    pub(crate) fn first(&self) -> Epoch {
        self.replayed.first().copied().unwrap_or(self.free)
    }

    /// The epoch that follows.
    pub(crate) fn after(&self, epoch: Epoch) -> Epoch {
        let later = self.replayed.partition_point(|replayed| *replayed <= epoch);
        self.replayed.get(later).copied().unwrap_or(epoch.next().max(self.free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(numbers: &Numbers, count: usize) -> Vec<u64> {
        std::iter::successors(Some(numbers.first()), |epoch| Some(numbers.after(*epoch)))
            .map(|epoch| epoch.number())
            .take(count)
            .collect()
    }

    #[test]
    fn numbers_replay_plans_and_count_on_behind_what_was_used() {
        assert_eq!(some(&Numbers::default(), 3), [0, 1, 2]);
        assert_eq!(some(&Numbers::new(vec![], Epoch::new(7)), 3), [7, 8, 9]);
        let plans = vec![Epoch::new(4), Epoch::new(3), Epoch::new(9)];
        assert_eq!(some(&Numbers::new(plans.clone(), Epoch::new(10)), 5), [3, 4, 9, 10, 11]);
        assert_eq!(some(&Numbers::new(plans, Epoch::new(15)), 5), [3, 4, 9, 15, 16]);
    }
}
