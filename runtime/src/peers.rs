//! The workers of a run, and those of them that this process runs.

use std::ops::Range;

/// How many workers a run has, and which of them this process runs.
///
/// What is placed by number (key groups, partitions, instances of sinks) goes by the total; threads, cores and memory go by
/// the local ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peers {
    total: usize,
    local: Range<usize>,
}

impl Peers {
    /// Returns the workers of a run in one process.
    pub(crate) fn in_one_process(workers: usize) -> Peers {
        Peers { total: workers, local: 0..workers }
    }

    /// Returns how many workers the run has.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Returns the numbers of the workers of this process.
    pub(crate) fn local(&self) -> Range<usize> {
        self.local.clone()
    }

    /// Returns the place of a worker among those of this process; none where another process runs it.
    pub(crate) fn local_index(&self, worker: usize) -> Option<usize> {
        self.local.contains(&worker).then(|| worker - self.local.start)
    }

    /// Returns the worker that reads a partition of a source.
    ///
    /// Every source spreads its partitions over all workers, from the first one on.
    pub(crate) fn placement(&self, partition: u32) -> usize {
        partition as usize % self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_placed_by_the_total_of_workers() {
        let second_process = Peers { total: 4, local: 2..4 };
        let readers: Vec<_> = (0..6).map(|partition| second_process.placement(partition)).collect();
        assert_eq!(readers, [0, 1, 2, 3, 0, 1]);
        let local: Vec<_> = (0..5).map(|worker| second_process.local_index(worker)).collect();
        assert_eq!(local, [None, None, Some(0), Some(1), None]);
    }
}
