//! The content of a table as sorted runs of changes behind `Arc`s, merged as they grow.
//!
//! A run never changes. What is published is a list of runs, and stays valid when the worker merges them into others: so a merge
//! cannot remove anything that a reader still sees. The runs are in levels by their size, at most two in each, so there are few of
//! them, and each row is copied about once per level. Merges are spread over the changes that come: a large one delays no epoch.

use std::cmp::Ordering;
use std::sync::Arc;

use differential_dataflow::consolidation::consolidate;

/// Rows, each once and sorted, with the number of copies that are added.
pub(super) type Run<D> = Arc<Vec<(D, i64)>>;

/// What a worker has of a table at the end of an epoch.
pub(super) struct Content<K, V> {
    pub(super) runs: Vec<Run<(K, V)>>,
    /// How many rows there are, with their copies.
    pub(super) rows: i64,
}

/// Runs of fewer rows than that are in the lowest level.
const LEAST: usize = 64;
/// How many rows are merged for each one that comes: enough that the runs of a level are merged before the next one comes to it.
const FUEL: usize = 4;
/// The largest runs are merged, whatever their sizes, if there are this many times as many rows in runs as the table has, and more.
const MOST: (usize, usize) = (3, 4096);

/// Runs of changes.
pub(super) struct Runs<D> {
    levels: Vec<Level<D>>,
}

enum Level<D> {
    Empty,
    One(Run<D>),
    Two(Merge<D>),
}

impl<D: Ord + Clone> Runs<D> {
    pub(super) fn new() -> Self {
        Runs { levels: Vec::new() }
    }

    /// Adds changes, in any order, to what has `rows` rows afterwards.
    pub(super) fn add(&mut self, mut changes: Vec<(D, i64)>, rows: usize) {
        consolidate(&mut changes);
        let fuel = changes.len().saturating_mul(FUEL);
        self.place(changes);
        for at in 0..self.levels.len() {
            let Some(Level::Two(merge)) = self.levels.get_mut(at) else { continue };
            if merge.work(fuel) {
                self.finish(at);
            }
        }
        if self.len() > rows.saturating_mul(MOST.0).saturating_add(MOST.1) {
            self.merge_largest();
        }
    }

    /// How many rows there are in all runs.
    fn len(&self) -> usize {
        let of_level = |level: &Level<D>| match level {
            Level::Empty => 0,
            Level::One(run) => run.len(),
            Level::Two(merge) => merge.of.iter().map(|run| run.len()).sum(),
        };
        self.levels.iter().map(of_level).sum()
    }

    /// Begins to merge the two largest runs: rows that have been deleted leave with those that delete them.
    fn merge_largest(&mut self) {
        let mut largest = self.levels.iter_mut().rev().filter(|level| !matches!(level, Level::Empty));
        if let (Some(first), Some(second)) = (largest.next(), largest.next())
            && let (Level::One(run), Level::One(other)) = (&*first, &*second)
        {
            *first = Level::Two(Merge::new([Arc::clone(run), Arc::clone(other)]));
            *second = Level::Empty;
        }
    }

    /// All runs, the largest first.
    pub(super) fn list(&self) -> Vec<Run<D>> {
        let mut list = Vec::new();
        for level in self.levels.iter().rev() {
            match level {
                Level::Empty => {}
                Level::One(run) => list.push(Arc::clone(run)),
                Level::Two(merge) => list.extend(merge.of.iter().map(Arc::clone)),
            }
        }
        list
    }

    fn place(&mut self, run: Vec<(D, i64)>) {
        if run.is_empty() {
            return;
        }
        let at = level_of(run.len());
        if self.levels.len() <= at {
            self.levels.resize_with(at + 1, || Level::Empty);
        }
        if matches!(self.levels.get(at), Some(Level::Two(_))) {
            self.finish(at);
        }
        let run = Arc::new(run);
        if let Some(level) = self.levels.get_mut(at) {
            *level = match std::mem::replace(level, Level::Empty) {
                Level::Empty => Level::One(run),
                Level::One(other) => Level::Two(Merge::new([other, run])),
                // Its runs are in another level, unless they have cancelled each other in part.
                Level::Two(mut merge) => {
                    merge.work(usize::MAX);
                    Level::Two(Merge::new([Arc::new(merge.into), run]))
                }
            };
        }
    }

    /// Completes the merge of a level.
    fn finish(&mut self, at: usize) {
        let Some(level) = self.levels.get_mut(at) else { return };
        match std::mem::replace(level, Level::Empty) {
            Level::Two(mut merge) => {
                merge.work(usize::MAX);
                self.place(merge.into);
            }
            other => *level = other,
        }
    }
}

fn level_of(rows: usize) -> usize {
    (usize::BITS - (rows / LEAST).leading_zeros()) as usize
}

/// Two runs on their way to be one.
struct Merge<D> {
    of: [Run<D>; 2],
    /// How many rows of each have been merged.
    at: [usize; 2],
    into: Vec<(D, i64)>,
}

impl<D: Ord + Clone> Merge<D> {
    fn new(of: [Run<D>; 2]) -> Self {
        Merge { of, at: [0, 0], into: Vec::new() }
    }

    /// Merges that many rows; returns whether all are.
    fn work(&mut self, fuel: usize) -> bool {
        let [left, right] = &self.of;
        if self.into.capacity() == 0 {
            self.into.reserve(left.len() + right.len());
        }
        let [i, j] = &mut self.at;
        let until = (*i + *j).saturating_add(fuel);
        while *i + *j < until {
            let order = match (left.get(*i), right.get(*j)) {
                (Some(left), Some(right)) => left.0.cmp(&right.0),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return true,
            };
            match order {
                Ordering::Less => {
                    self.into.extend(left.get(*i).cloned());
                    *i += 1;
                }
                Ordering::Greater => {
                    self.into.extend(right.get(*j).cloned());
                    *j += 1;
                }
                Ordering::Equal => {
                    if let (Some((row, of_left)), Some((_, of_right))) = (left.get(*i), right.get(*j))
                        && of_left + of_right != 0
                    {
                        self.into.push((row.clone(), of_left + of_right));
                    }
                    *i += 1;
                    *j += 1;
                }
            }
        }
        *i == left.len() && *j == right.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn content(list: &[Run<u32>]) -> BTreeMap<u32, i64> {
        let mut content = BTreeMap::new();
        for (row, diff) in list.iter().flat_map(|run| run.iter()) {
            *content.entry(*row).or_default() += diff;
        }
        content.retain(|_, copies| *copies != 0);
        content
    }

    proptest! {
        #[test]
        fn runs_have_the_sum_of_all_changes(
            batches in prop::collection::vec(prop::collection::vec((0..400u32, -2..3i64), 0..300), 1..60),
        ) {
            let (mut runs, mut all, mut before) = (Runs::new(), Vec::new(), Vec::new());
            for batch in batches {
                runs.add(batch.clone(), 0);
                let list = runs.list();
                for run in &list {
                    prop_assert!(run.is_sorted_by(|left, right| left.0 < right.0), "each row once");
                }
                all.extend(batch);
                let expected = content(&[Arc::new(all.clone())]);
                prop_assert_eq!(content(&list), expected.clone());
                before.push((list, expected));
            }
            // What was published is as it was.
            for (list, expected) in before {
                prop_assert_eq!(content(&list), expected);
            }
        }
    }

    #[test]
    fn many_small_runs_become_few() {
        let mut runs = Runs::new();
        for batch in 0..20_000u32 {
            let rows = (0..10).map(|n| (batch.wrapping_mul(2_654_435_761).wrapping_add(n), 1));
            runs.add(rows.collect(), 10 * (batch as usize + 1));
            let most = 2 * (2 + level_of(10 * (batch as usize + 1)));
            assert!(runs.list().len() <= most, "{} runs after {batch}", runs.list().len());
        }
    }

    #[test]
    fn deleted_rows_leave_nothing() {
        let mut runs = Runs::new();
        let starts = || (0..100_000u32).step_by(1_000);
        for start in starts() {
            runs.add((start..start + 1_000).map(|n| (n, 1)).collect(), start as usize + 1_000);
        }
        for start in starts() {
            runs.add((start..start + 1_000).map(|n| (n, -1)).collect(), 99_000 - start as usize);
        }
        for _ in 0..100 {
            runs.add((0..1_000).map(|n| (n, 1)).collect(), 1_000);
            runs.add((0..1_000).map(|n| (n, -1)).collect(), 0);
        }
        let rows: usize = runs.list().iter().map(|run| run.len()).sum();
        assert!(rows < 10_000, "{rows} rows are kept of none");
    }
}
