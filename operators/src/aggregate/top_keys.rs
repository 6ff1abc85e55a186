//! The most frequent values.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::part::{Borrowed, Part};
use super::{Aggregate, Projection};
use crate::frequent::Counters;
use crate::{Key, hash_key};

/// For each key asked for, this many counters stay.
const COUNTERS: usize = 16;

/// The `n` most frequent values of the records, with the numbers of their records, in memory that does not depend on the number of values.
///
/// Up to 32 `n` values have a counter each, and are counted exactly. If there are more, the counters of the least frequent half are
/// dropped. Then a value that more than one of 16 `n` + 1 records has is surely counted, and the numbers of a [`FrequentKey`] differ by no
/// more than that: with `n` = 10 by less than 0.7 % of all records. [`with_counters`](Self::with_counters) sets another number than 16 `n`.
///
/// State is the counters: a value and about 40 bytes each.
///
/// While there are no more than 32 `n` values, the result does not depend on the order of the records, nor on how workers divide them.
/// Otherwise it may, within the bounds above. Values with equal numbers are in no particular order, but always in the same one.
///
/// ```
/// use tidemill::aggregate::TopKeys;
/// use tidemill::prelude::*;
///
/// let pages = TopKeys::of(2, |page: &&'static str| page.to_string());
/// let mut acc = pages.create(&"home");
/// ["search", "home", "help", "home", "search"].iter().for_each(|page| pages.add(&mut acc, page));
/// let top = pages.finish(&acc);
/// assert_eq!((&*top[0].key, top[0].at_least, top[0].at_most), ("home", 3, 3));
/// assert_eq!((&*top[1].key, top[1].at_least, top[1].at_most), ("search", 2, 2));
/// assert_eq!(top.len(), 2);
/// ```
///
/// After J. Misra and D. Gries, "Finding repeated elements" (1982), and P. K. Agarwal and others, "Mergeable summaries" (2012), who show
/// that it counts as Space-Saving does (A. Metwally, D. Agrawal and A. El Abbadi, 2005).
pub struct TopKeys<T, P> {
    n: usize,
    counters: usize,
    value: P,
    records: PhantomData<fn(&T)>,
}

impl<T, P> TopKeys<T, P> {
    fn new(n: usize, value: P) -> Self {
        TopKeys { n, counters: n.saturating_mul(COUNTERS), value, records: PhantomData }
    }

    /// Sets how many counters stay when some are dropped: the numbers of a [`FrequentKey`] differ by at most the number of records divided by
    /// this one.
    ///
    /// ```
    /// use tidemill::aggregate::TopKeys;
    /// use tidemill::prelude::*;
    ///
    /// let top = TopKeys::of(3, |n: &u64| *n).with_counters(1_000);
    /// let mut acc = top.create(&7);
    /// (1_000..101_000).for_each(|n| top.add(&mut acc, &if n % 50 == 0 { 7 } else { n }));
    /// let first = &top.finish(&acc)[0];
    /// assert_eq!(first.key, 7);
    /// assert!(first.at_least <= 2_001 && 2_001 <= first.at_most && first.at_most - first.at_least <= 100);
    /// ```
    #[must_use]
    pub fn with_counters(mut self, counters: usize) -> Self {
        self.counters = counters;
        self
    }
}

impl<T, N, F: Fn(&T) -> N> TopKeys<T, Projection<T, N, F>> {
    /// Counts the values that the function returns.
    pub fn of(n: usize, value: F) -> Self {
        TopKeys::new(n, Projection::new(value))
    }
}

impl<T, Q: ?Sized, F: Fn(&T) -> &Q> TopKeys<T, Borrowed<T, Q, F>> {
    /// As [`of`](Self::of), of values that are borrowed from the record: a string is cloned only when it gets a counter.
    ///
    /// ```
    /// use tidemill::aggregate::TopKeys;
    /// use tidemill::prelude::*;
    ///
    /// let pages = TopKeys::of_ref(3, |page: &String| page.as_str());
    /// assert_eq!(pages.finish(&pages.create(&"home".to_owned()))[0].key, "home");
    /// ```
    pub fn of_ref(n: usize, value: F) -> Self {
        TopKeys::new(n, Borrowed::new(value))
    }
}

impl<T, P: Clone> Clone for TopKeys<T, P> {
    fn clone(&self) -> Self {
        let TopKeys { n, counters, value, .. } = self;
        TopKeys { n: *n, counters: *counters, value: value.clone(), records: PhantomData }
    }
}

/// A frequent value, in the result of [`TopKeys`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FrequentKey<K> {
    /// The value.
    pub key: K,
    /// How many records have it, at least.
    pub at_least: u64,
    /// How many records have it, at most.
    pub at_most: u64,
}

impl<T, P> Aggregate for TopKeys<T, P>
where
    T: 'static,
    P: Part<T>,
    P::Value: ToOwned<Owned: Key> + Hash + Eq,
{
    type In = T;
    type Acc = Counters<<P::Value as ToOwned>::Owned>;
    type Out = Vec<FrequentKey<<P::Value as ToOwned>::Owned>>;

    fn create(&self, record: &T) -> Self::Acc {
        let mut acc = Counters::default();
        self.add(&mut acc, record);
        acc
    }

    #[inline]
    fn add(&self, acc: &mut Self::Acc, record: &T) {
        self.value.with(record, |value| {
            let hash = hash_key(value);
            if !acc.count(hash, |key| key.borrow() == value, 1) {
                acc.insert(hash, value.to_owned(), 1, self.counters);
            }
        });
    }

    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        acc.merge(other, self.counters);
    }

    fn finish(&self, acc: &Self::Acc) -> Self::Out {
        let mut counters: Vec<_> = acc.iter().collect();
        counters.sort_unstable_by_key(|counter| Reverse((counter.at_most(), counter.count, counter.hash)));
        let found = counters.into_iter().take(self.n);
        found
            .map(|counter| FrequentKey {
                key: counter.key.clone(),
                at_least: counter.count,
                at_most: counter.at_most(),
            })
            .collect()
    }

    fn describe(&self) -> String {
        format!("top_keys with {} counters", self.counters)
    }

    fn problem(&self) -> Option<String> {
        let Self { n, counters, .. } = self;
        if *n == 0 {
            return Some("the number of keys of `top_keys` must be at least 1 (got 0)".to_owned());
        }
        (counters < n).then(|| {
            format!("`top_keys` must have at least as many counters as keys, {n} (got {counters}): `.with_counters(…)`")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    fn exact(values: &[u64]) -> BTreeMap<u64, u64> {
        let mut exact = BTreeMap::new();
        values.iter().for_each(|value| *exact.entry(*value).or_default() += 1);
        exact
    }

    proptest! {
        #[test]
        fn few_values_are_counted_exactly(values in vec(0u64..64, 2..700), n in 2usize..9) {
            let top = TopKeys::of(n, |value: &u64| *value);
            let (one, merged) = over(&top, &values);
            prop_assert_eq!(&one, &merged);
            let texts: Vec<String> = values.iter().map(u64::to_string).collect();
            let (of_texts, _) = over(&TopKeys::of_ref(n, |value: &String| &**value), &texts);
            let exact = exact(&values);
            let mut greatest: Vec<u64> = exact.values().copied().collect();
            greatest.sort_by_key(|count| Reverse(*count));
            greatest.truncate(n);
            let counts = |at_least: Vec<u64>, at_most: Vec<u64>| at_least == greatest && at_most == greatest;
            prop_assert!(counts(one.iter().map(|it| it.at_least).collect(), one.iter().map(|it| it.at_most).collect()));
            prop_assert!(counts(of_texts.iter().map(|it| it.at_least).collect(), of_texts.iter().map(|it| it.at_most).collect()));
            prop_assert!(one.iter().all(|it| exact[&it.key] == it.at_least));
        }

        #[test]
        fn many_values_are_counted_within_bound(values in vec(0u64..3_000, 2..3_000), n in 1usize..5) {
            // Skewed: the lower, the more frequent.
            let values: Vec<u64> = values.into_iter().map(|n| n * n * n / 9_000_000).collect();
            let top = TopKeys::of(n, |value: &u64| *value).with_counters(40);
            let exact = exact(&values);
            let bound = values.len() as u64 / 41;
            let (one, merged) = over(&top, &values);
            for found in [one, merged] {
                prop_assert!(found.is_sorted_by(|a, b| a.at_most >= b.at_most));
                for it in &found {
                    let exact = exact[&it.key];
                    prop_assert!(it.at_least <= exact && exact <= it.at_most, "{:?}: {}", it, exact);
                    prop_assert!(it.at_most - it.at_least <= bound);
                }
                // Whatever is left out is not clearly more frequent than the last that is not.
                let last = found.last().map_or(0, |it| it.at_most);
                for (value, count) in &exact {
                    prop_assert!(found.iter().any(|it| it.key == *value) || *count <= last, "{value}: {count}");
                }
            }
        }
    }

    #[test]
    fn name_has_the_counters_that_state_depends_on() {
        let of = |n| TopKeys::of(n, |value: &u64| *value);
        assert_eq!(of(10).describe(), "top_keys with 160 counters");
        assert_eq!(of(5).with_counters(160).describe(), "top_keys with 160 counters");
        assert_eq!(of(10).problem(), None);
        assert!(of(0).problem().unwrap().contains("(got 0)"));
        assert!(of(10).with_counters(9).problem().unwrap().contains("keys, 10 (got 9)"));
        // A graph with it is refused, but the aggregate can be called.
        assert!(over(&of(0), &[1, 2]).1.is_empty());
    }
}
