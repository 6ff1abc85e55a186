//! A uniform sample of distinct values.

use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;

use super::part::{Borrowed, Part};
use super::value_hash::hash_value;
use super::{Aggregate, Projection};
use crate::Key;

/// A sample of `n` of the distinct values of the records; all of them if there are no more.
///
/// The sample is the values with the `n` least hashes, in the order of their hashes. Hashes are as good as random numbers, so each set of `n`
/// values is equally likely; which one it is depends on the values alone. So the sample is the same in any order of records, on any number of
/// workers, in both modes and when an epoch is replayed, and those of parts merge exactly. Of two windows, the samples are of the same
/// values where these are in both.
///
/// A value counts once, however many records have it: take what identifies a record (`|order| order.id`) for a sample of records, a user
/// for a sample of users. Records without an identity can be sampled whole.
///
/// State is up to `n` values, and 8 bytes for each.
///
/// ```
/// use tidemill::aggregate::Sample;
/// use tidemill::prelude::*;
///
/// let users = Sample::of(3, |click: &(u64, &'static str)| click.0);
/// let sample = |clicks: &[(u64, &'static str)]| {
///     let mut acc = users.create(&clicks[0]);
///     clicks.iter().for_each(|click| users.add(&mut acc, click));
///     users.finish(&acc)
/// };
/// let clicks: Vec<_> = (0..1_000).map(|n| (n % 100, "home")).collect();
/// let mut reversed = clicks.clone();
/// reversed.reverse();
/// assert_eq!(sample(&clicks).len(), 3);
/// assert_eq!(sample(&clicks), sample(&reversed));
/// assert_eq!(sample(&[(7, "home"), (7, "help")]), [7]);
/// ```
///
/// It is the bottom-k sketch of E. Cohen and H. Kaplan, "Summarizing data using bottom-k sketches" (2007). The reservoir of J. S. Vitter,
/// "Random sampling with a reservoir" (1985), draws a random number for each record in its order: a replayed epoch or another number of
/// workers would give another sample, and merging needs random numbers, too.
pub struct Sample<T, P> {
    n: usize,
    value: P,
    records: PhantomData<fn(&T)>,
}

impl<T, N, F: Fn(&T) -> N> Sample<T, Projection<T, N, F>> {
    /// Samples the values that the function returns.
    pub fn of(n: usize, value: F) -> Self {
        Sample { n, value: Projection::new(value), records: PhantomData }
    }
}

impl<T, Q: ?Sized, F: Fn(&T) -> &Q> Sample<T, Borrowed<T, Q, F>> {
    /// As [`of`](Self::of), of values that are borrowed from the record: a string is cloned only when it enters the sample.
    ///
    /// ```
    /// use tidemill::aggregate::Sample;
    /// use tidemill::prelude::*;
    ///
    /// let pages = Sample::of_ref(3, |page: &String| page.as_str());
    /// assert_eq!(pages.finish(&pages.create(&"home".to_owned())), ["home"]);
    /// ```
    pub fn of_ref(n: usize, value: F) -> Self {
        Sample { n, value: Borrowed::new(value), records: PhantomData }
    }
}

impl<T, P: Clone> Clone for Sample<T, P> {
    fn clone(&self) -> Self {
        Sample { n: self.n, value: self.value.clone(), records: PhantomData }
    }
}

impl<T, P> Aggregate for Sample<T, P>
where
    T: 'static,
    P: Part<T>,
    P::Value: ToOwned<Owned: Key + Ord> + Hash + Ord,
{
    type In = T;
    /// The values with their hashes, the least hash first.
    type Acc = Vec<(u64, <P::Value as ToOwned>::Owned)>;
    type Out = Vec<<P::Value as ToOwned>::Owned>;

    fn create(&self, record: &T) -> Self::Acc {
        let mut acc = Vec::new();
        self.add(&mut acc, record);
        acc
    }

    #[inline]
    fn add(&self, acc: &mut Self::Acc, record: &T) {
        self.value.with(record, |value| {
            let hash = hash_value(value);
            if acc.len() >= self.n && acc.last().is_none_or(|last| last.0 < hash) {
                return;
            }
            let place =
                acc.binary_search_by(|(other, it)| other.cmp(&hash).then_with(|| it.borrow().cmp(value)));
            if let Err(place) = place {
                acc.insert(place, (hash, value.to_owned()));
                acc.truncate(self.n);
            }
        });
    }

    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        acc.extend(other);
        // Two sorted runs, which are merged.
        acc.sort();
        acc.dedup();
        acc.truncate(self.n);
    }

    fn finish(&self, acc: &Self::Acc) -> Self::Out {
        acc.iter().map(|(_, value)| value.clone()).collect()
    }

    fn finish_owned(&self, acc: Self::Acc) -> Self::Out {
        acc.into_iter().map(|(_, value)| value).collect()
    }

    fn describe(&self) -> String {
        format!("sample of {}", self.n)
    }

    fn problem(&self) -> Option<String> {
        (self.n == 0).then(|| "the size of a `sample` must be at least 1 (got 0)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    proptest! {
        #[test]
        fn sample_is_distinct_values_of_least_hashes(values in vec(0u64..60, 2..200), n in 1usize..40, by in 0usize..200) {
            let distinct: BTreeSet<u64> = values.iter().copied().collect();
            let mut expected: Vec<u64> = distinct.into_iter().collect();
            expected.sort_by_key(hash_value);
            expected.truncate(n);
            let sample = Sample::of(n, |value: &u64| *value);
            let (one, merged) = over(&sample, &values);
            prop_assert_eq!(&one, &expected);
            prop_assert_eq!(&merged, &expected);
            let mut rotated = values.clone();
            rotated.rotate_left(by % values.len());
            prop_assert_eq!(over(&sample, &rotated).1, expected);

            let texts: Vec<String> = values.iter().map(u64::to_string).collect();
            let mut expected: Vec<String> = texts.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
            expected.sort_by_key(hash_value);
            expected.truncate(n);
            let (one, merged) = over(&Sample::of_ref(n, |value: &String| &**value), &texts);
            prop_assert_eq!(&one, &expected);
            prop_assert_eq!(&merged, &expected);
        }
    }

    /// Of 50 values 10 are sampled, 5,000 times: each is expected 1,000 times, and each pair of neighbours 5,000 · 10/50 · 9/49 times.
    #[test]
    fn each_value_and_pair_is_sampled_equally_often() {
        let (mut each, mut pairs) = ([0u32; 50], [0u32; 49]);
        let sample = Sample::of(10, |value: &u64| *value);
        for round in 0..5_000u64 {
            let values: Vec<u64> = (0..50).map(|n| round * 50 + n).collect();
            let found: BTreeSet<u64> = over(&sample, &values).0.into_iter().map(|value| value % 50).collect();
            assert_eq!(found.len(), 10);
            found.iter().for_each(|n| each[*n as usize] += 1);
            (0..49)
                .filter(|n| found.contains(n) && found.contains(&(n + 1)))
                .for_each(|n| pairs[n as usize] += 1);
        }
        // The variance of each count is 5,000 · p · (1 − p), so the first sum is about 49 · (1 − p), and the second about 49 · (1 − p).
        let spread = |counts: &[u32], expected: f64| -> f64 {
            counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
        };
        let (of_each, of_pairs) = (spread(&each, 1_000.0), spread(&pairs, 5_000.0 * 0.2 * 9.0 / 49.0));
        assert!((20.0..65.0).contains(&of_each), "{of_each}: {each:?}");
        assert!((25.0..85.0).contains(&of_pairs), "{of_pairs}: {pairs:?}");
    }

    #[test]
    fn sample_of_nothing_is_refused() {
        let of = |n| Sample::of(n, |value: &u64| *value);
        assert_eq!((of(3).problem(), of(3).describe()), (None, "sample of 3".to_owned()));
        assert!(of(0).problem().unwrap().contains("at least 1 (got 0)"));
        // A graph with it is refused, but the aggregate can be called.
        assert!(over(&of(0), &[1, 2]).1.is_empty());
    }
}
