//! A sorted map that is small when it has few entries, and fast where keys mostly come in order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, RangeBounds};

use either::Either;

use crate::state::fetch_value;

/// How far from either end of a run a key may be put before the run becomes a tree.
const NEAR: usize = 32;

/// How many entries a run has room for at first.
const FIRST: usize = 4;

/// Runs below this capacity are not worth giving back.
const SMALL: usize = 64;

/// Keys with what is kept for them, in order. One entry is kept in place; more are a run in one piece of memory as long
/// as keys are put near its ends, as event times and sequence numbers are; otherwise a tree.
#[derive(Debug)]
pub(super) enum Sorted<U, T> {
    Empty,
    One((U, T)),
    /// In order of the keys.
    Run(VecDeque<(U, T)>),
    Tree(BTreeMap<U, T>),
}

impl<U: Ord + Clone, T> Sorted<U, T> {
    pub(super) fn new() -> Self {
        Sorted::Empty
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Sorted::Empty => 0,
            Sorted::One(_) => 1,
            Sorted::Run(run) => run.len(),
            Sorted::Tree(tree) => tree.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn get(&self, key: &U) -> Option<&T> {
        match self {
            Sorted::Empty => None,
            Sorted::One((other, value)) => (other == key).then_some(value),
            Sorted::Run(run) => run.get(position(run, key).ok()?).map(|(_, value)| value),
            Sorted::Tree(tree) => tree.get(key),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: &U) -> Option<&mut T> {
        match self {
            Sorted::Empty => None,
            Sorted::One((other, value)) => (other == key).then_some(value),
            Sorted::Run(run) => {
                let at = position(run, key).ok()?;
                run.get_mut(at).map(|(_, value)| value)
            }
            Sorted::Tree(tree) => tree.get_mut(key),
        }
    }

    /// Has the memory fetched in which the first and the last entries are, where that is not in place.
    #[inline]
    pub(super) fn fetch(&self) {
        if let Sorted::Run(run) = self {
            run.front().into_iter().chain(run.back()).for_each(fetch_value);
        }
    }

    /// The least key.
    #[inline]
    pub(super) fn first(&self) -> Option<&U> {
        match self {
            Sorted::Empty => None,
            Sorted::One((key, _)) => Some(key),
            Sorted::Run(run) => run.front().map(|(key, _)| key),
            Sorted::Tree(tree) => tree.first_key_value().map(|(key, _)| key),
        }
    }

    /// The greatest key.
    #[inline]
    pub(super) fn last(&self) -> Option<&U> {
        match self {
            Sorted::Empty => None,
            Sorted::One((key, _)) => Some(key),
            Sorted::Run(run) => run.back().map(|(key, _)| key),
            Sorted::Tree(tree) => tree.last_key_value().map(|(key, _)| key),
        }
    }

    /// Adds an entry whose key is not there.
    #[inline]
    pub(super) fn insert(&mut self, key: U, value: T) {
        match self {
            Sorted::Empty => *self = Sorted::One((key, value)),
            Sorted::One(_) => {
                if let Some(one) = self.take_one() {
                    let new = (key, value);
                    let mut run = VecDeque::with_capacity(FIRST);
                    run.extend(if one.0 < new.0 { [one, new] } else { [new, one] });
                    *self = Sorted::Run(run);
                }
            }
            Sorted::Run(run) => {
                let (Ok(at) | Err(at)) = position(run, &key);
                if at.min(run.len() - at) <= NEAR {
                    run.insert(at, (key, value));
                } else {
                    let mut tree = BTreeMap::new();
                    for (key, value) in std::mem::take(run) {
                        insert(&mut tree, key, value);
                    }
                    insert(&mut tree, key, value);
                    *self = Sorted::Tree(tree);
                }
            }
            Sorted::Tree(tree) => insert(tree, key, value),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, key: &U) -> Option<(U, T)> {
        let removed = match self {
            Sorted::Empty => return None,
            Sorted::One((other, _)) if other != key => return None,
            Sorted::One(_) => return self.take_one(),
            Sorted::Run(run) => run.remove(position(run, key).ok()?),
            Sorted::Tree(tree) => tree.remove_entry(key),
        };
        self.fit();
        removed
    }

    #[inline]
    pub(super) fn range(
        &self,
        range: impl RangeBounds<U>,
    ) -> impl DoubleEndedIterator<Item = (&U, &T)> + Clone {
        match self {
            Sorted::Empty | Sorted::One(_) => {
                let one = self.one().filter(|(key, _)| range.contains(key));
                Either::Left(Either::Left(one.into_iter().map(|(key, value)| (key, value))))
            }
            Sorted::Run(run) => {
                let (from, to) = places(run, (range.start_bound(), range.end_bound()));
                Either::Left(Either::Right(run.range(from..to).map(|(key, value)| (key, value))))
            }
            // `BTreeMap::range` panics where the bounds are in the wrong order.
            Sorted::Tree(tree) => {
                let part = (!is_empty((range.start_bound(), range.end_bound()))).then(|| tree.range(range));
                Either::Right(part.into_iter().flatten())
            }
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&U, &T)> + Clone {
        self.range(..)
    }

    /// Passes each entry of a range to `with`, in order.
    #[inline]
    pub(super) fn for_range(&mut self, range: impl RangeBounds<U>, mut with: impl FnMut(&U, &mut T)) {
        match self {
            Sorted::Empty => {}
            Sorted::One((key, value)) => {
                if range.contains(key) {
                    with(key, value);
                }
            }
            Sorted::Run(run) => {
                let (from, to) = places(run, (range.start_bound(), range.end_bound()));
                run.range_mut(from..to).for_each(|(key, value)| with(key, value));
            }
            Sorted::Tree(tree) => {
                let range = (range.start_bound(), range.end_bound());
                if !is_empty(range) {
                    tree.range_mut::<U, _>(range).for_each(|(key, value)| with(key, value));
                }
            }
        }
    }

    /// Gives the memory of a run without entries back, so that the next entry is kept in place.
    #[inline]
    pub(super) fn fold_up(&mut self) {
        if let Sorted::Run(run) = self
            && run.is_empty()
        {
            *self = Sorted::Empty;
        }
    }

    /// Removes the entries of a range that `keep`, which is asked in order, does not want. They are passed to `gone`: in
    /// order if no entry of the range stays.
    pub(super) fn retain_range(
        &mut self,
        range: impl RangeBounds<U>,
        mut keep: impl FnMut(&U, &mut T) -> bool,
        mut gone: impl FnMut(U, T),
    ) {
        match self {
            Sorted::Empty => return,
            Sorted::One((key, value)) => {
                if range.contains(key)
                    && !keep(key, value)
                    && let Some((key, value)) = self.take_one()
                {
                    gone(key, value);
                }
                return;
            }
            Sorted::Run(run) => {
                let (from, to) = places(run, (range.start_bound(), range.end_bound()));
                let mut kept = from;
                for at in from..to {
                    let Some((key, value)) = run.get_mut(at) else { break };
                    if keep(key, value) {
                        if kept < at {
                            run.swap(kept, at);
                        }
                        kept += 1;
                    }
                }
                run.drain(kept..to).for_each(|(key, value)| gone(key, value));
            }
            Sorted::Tree(tree) => {
                let range = (range.start_bound(), range.end_bound());
                if !is_empty(range) {
                    retain(tree, range, &mut keep, &mut gone);
                }
            }
        }
        self.fit();
    }

    fn one(&self) -> Option<&(U, T)> {
        match self {
            Sorted::One(one) => Some(one),
            _ => None,
        }
    }

    fn take_one(&mut self) -> Option<(U, T)> {
        match std::mem::replace(self, Sorted::Empty) {
            Sorted::One(one) => Some(one),
            _ => None,
        }
    }

    /// Gives memory back.
    fn fit(&mut self) {
        match self {
            Sorted::Run(run) if run.capacity() > SMALL && run.capacity() / 8 > run.len() => {
                run.shrink_to(2 * run.len());
            }
            Sorted::Tree(tree) if tree.is_empty() => *self = Sorted::Run(VecDeque::new()),
            _ => {}
        }
    }
}

fn position<U: Ord, T>(run: &VecDeque<(U, T)>, key: &U) -> Result<usize, usize> {
    match run.back() {
        Some((last, _)) if last < key => Err(run.len()),
        _ => run.binary_search_by(|(other, _)| other.cmp(key)),
    }
}

/// From where to where the entries of a range are.
fn places<U: Ord, T>(run: &VecDeque<(U, T)>, range: (Bound<&U>, Bound<&U>)) -> (usize, usize) {
    let from = match range.0 {
        Bound::Unbounded => 0,
        Bound::Included(start) => first_not(run, 0, |key| key < start),
        Bound::Excluded(start) => first_not(run, 0, |key| key <= start),
    };
    let to = match range.1 {
        Bound::Unbounded => run.len(),
        Bound::Included(end) => first_not(run, from, |key| key <= end),
        Bound::Excluded(end) => first_not(run, from, |key| key < end),
    };
    (from, to)
}

/// The place of the first entry, from a place on, that is not `before` something. Mostly it is near that place, or the end.
#[inline]
fn first_not<U, T>(run: &VecDeque<(U, T)>, from: usize, before: impl Fn(&U) -> bool) -> usize {
    let is_before = |at: usize| run.get(at).is_some_and(|(key, _)| before(key));
    if !is_before(from) {
        return from;
    }
    if run.back().is_some_and(|(last, _)| before(last)) {
        return run.len();
    }
    let (mut low, mut high, mut step) = (from + 1, from + 1, 1);
    while is_before(high) {
        low = high + 1;
        step *= 2;
        high += step;
    }
    high = high.min(run.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Inserts a key that is not there.
#[inline(never)]
fn insert<U: Ord, T>(tree: &mut BTreeMap<U, T>, key: U, value: T) {
    tree.insert(key, value);
}

/// As [`Sorted::retain_range`], where there is a tree: entries came far out of order, and a call more of each is the
/// least. So it is compiled once for all that is kept and removed.
#[inline(never)]
fn retain<U: Ord + Clone, T>(
    tree: &mut BTreeMap<U, T>,
    range: (Bound<&U>, Bound<&U>),
    keep: &mut dyn FnMut(&U, &mut T) -> bool,
    gone: &mut dyn FnMut(U, T),
) {
    let mut unwanted = Vec::new();
    for (key, value) in tree.range_mut::<U, _>(range) {
        if !keep(key, value) {
            unwanted.push(key.clone());
        }
    }
    for key in &unwanted {
        if let Some((key, value)) = tree.remove_entry(key) {
            gone(key, value);
        }
    }
}

/// Returns whether no key can be in a range.
fn is_empty<U: Ord>(range: (Bound<&U>, Bound<&U>)) -> bool {
    match range {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start >= end
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound() -> impl Strategy<Value = Bound<u16>> {
        prop_oneof![
            Just(Bound::Unbounded),
            (0..300u16).prop_map(Bound::Included),
            (0..300u16).prop_map(Bound::Excluded)
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16),
        Append(u16),
        Remove(u16),
        Retain(Bound<u16>, Bound<u16>, u16),
        Range(Bound<u16>, Bound<u16>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..300u16).prop_map(Step::Insert),
            8 => (1..3u16).prop_map(Step::Append),
            4 => (0..300u16).prop_map(Step::Remove),
            1 => (bound(), bound(), 1..4u16).prop_map(|(from, to, modulo)| Step::Retain(from, to, modulo)),
            3 => (bound(), bound()).prop_map(|(from, to)| Step::Range(from, to)),
        ];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn sorted_agrees_with_btree_map(steps in steps()) {
            let (mut sorted, mut map) = (Sorted::new(), BTreeMap::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(key) => {
                        prop_assert_eq!(sorted.get(&key), map.get(&key));
                        if map.insert(key, number).is_none() {
                            sorted.insert(key, number);
                        } else {
                            *sorted.get_mut(&key).unwrap() = number;
                        }
                    }
                    Step::Append(by) => {
                        let key = sorted.last().copied().unwrap_or_default() + by;
                        prop_assert_eq!(sorted.last(), map.keys().next_back());
                        map.insert(key, number);
                        sorted.insert(key, number);
                    }
                    Step::Remove(key) => prop_assert_eq!(sorted.remove(&key), map.remove_entry(&key)),
                    Step::Retain(from, to, modulo) => {
                        let mut gone = vec![];
                        sorted.retain_range((from, to), |key, _| key % modulo != 0, |key, value| gone.push((key, value)));
                        let expected: Vec<_> = map
                            .iter()
                            .filter(|(key, _)| (from, to).contains(*key) && *key % modulo == 0)
                            .map(|(key, value)| (*key, *value))
                            .collect();
                        if modulo > 1 {
                            gone.sort_unstable();
                        }
                        prop_assert_eq!(&gone, &expected);
                        map.retain(|key, _| !gone.iter().any(|(other, _)| other == key));
                        sorted.fold_up();
                        prop_assert!(!map.is_empty() || matches!(sorted, Sorted::Empty));
                    }
                    Step::Range(from, to) => {
                        let expected: Vec<_> = map.iter().filter(|(key, _)| (from, to).contains(*key)).collect();
                        prop_assert_eq!(sorted.range((from, to)).collect::<Vec<_>>(), expected);
                        let mut passed = vec![];
                        sorted.for_range((from, to), |key, value| {
                            passed.push(*key);
                            *value += 1;
                        });
                        let expected: Vec<_> = map
                            .iter_mut()
                            .filter(|(key, _)| (from, to).contains(*key))
                            .map(|(key, value)| {
                                *value += 1;
                                *key
                            })
                            .collect();
                        prop_assert_eq!(passed, expected);
                    }
                }
                prop_assert!(sorted.iter().eq(map.iter()) && sorted.iter().rev().eq(map.iter().rev()));
                prop_assert_eq!(sorted.len(), map.len());
                prop_assert_eq!(sorted.first(), map.keys().next());
            }
        }
    }

    #[test]
    fn keys_near_the_ends_stay_in_one_run() {
        let mut sorted = Sorted::new();
        (0..10_000u64).for_each(|key| sorted.insert(key * 2, ()));
        sorted.insert(1, ());
        sorted.insert(19_997, ());
        assert!(matches!(sorted, Sorted::Run(_)));
        sorted.insert(9_999, ());
        assert!(matches!(sorted, Sorted::Tree(_)));
        sorted.retain_range(.., |_, ()| false, |_, ()| ());
        assert!(matches!(sorted, Sorted::Run(_)));
    }

    #[test]
    fn small_entry_takes_no_more_than_a_run() {
        assert_eq!(size_of::<Sorted<u64, (u64, u64)>>(), size_of::<VecDeque<()>>());
    }
}
