//! How often each value occurs, in memory that does not depend on the number of values.

use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::part::{Borrowed, Part};
use super::value_hash::{hash_value, mix};
use super::{Aggregate, Projection};

/// The errors that are possible.
const ERRORS: std::ops::RangeInclusive<f64> = 0.000_001..=0.5;
/// The rows of counters: a count is too high by more than the bound with a probability of e⁻⁵, 0.7 %.
const ROWS: usize = 5;
/// As long as there are no more distinct values, each has a counter of its own.
const FEW: usize = 256;

/// How many of the records have each value, about: a table that answers for any value.
///
/// A count is never too low. It is too high by at most `error` times the number of all records, with a probability of 99.3 % for each value
/// asked about: with 0.001, of a million records, by 1,000. So counts of frequent values are nearly exact, and those of rare
/// ones say little. Up to 256 distinct values are counted exactly. Which values there are the table does not know:
/// [`TopKeys`](super::TopKeys) finds the most frequent ones.
///
/// State is 16 bytes for each of up to 256 values; then five rows of counters of eight bytes, e / `error` in each row, rounded up to
/// a power of two: 160 KiB for 0.001. Results are [`ValueCounts`], which are as large. `error` is from 0.000001 to 0.5.
///
/// The result depends only on the values and their numbers: not on their order, nor on how workers divide them. Values are compared by a
/// hash of 64 bits that is the same in every run and on every platform.
///
/// ```
/// use tidemill::aggregate::CountMin;
/// use tidemill::prelude::*;
///
/// let pages = CountMin::of(0.001, |visit: &(u64, &'static str)| visit.1);
/// let mut acc = pages.create(&(7, "home"));
/// for visit in [(8, "home"), (7, "search")] {
///     pages.add(&mut acc, &visit);
/// }
/// let counts = pages.finish(&acc);
/// assert_eq!((counts.of("home"), counts.of("search"), counts.of("help")), (2, 1, 0));
/// assert_eq!(counts.total(), 3);
/// ```
///
/// After G. Cormode and S. Muthukrishnan, "An improved data stream summary: the count-min sketch and its applications" (2005).
pub struct CountMin<T, P> {
    error: f64,
    /// Counters in a row: two to this power.
    width_bits: u32,
    value: P,
    records: PhantomData<fn(&T)>,
}

impl<T, P> CountMin<T, P> {
    fn new(error: f64, value: P) -> Self {
        // Also if the error is not possible: then the graph is refused.
        let width = std::f64::consts::E / error.clamp(*ERRORS.start(), *ERRORS.end());
        let width_bits = (width.ceil() as u32).next_power_of_two().trailing_zeros();
        CountMin { error, width_bits, value, records: PhantomData }
    }
}

impl<T, N, F: Fn(&T) -> N> CountMin<T, Projection<T, N, F>> {
    /// Counts the values that the function returns, within that error.
    pub fn of(error: f64, value: F) -> Self {
        CountMin::new(error, Projection::new(value))
    }
}

impl<T, Q: ?Sized, F: Fn(&T) -> &Q> CountMin<T, Borrowed<T, Q, F>> {
    /// As [`of`](Self::of), of values that are borrowed from the record, such as strings, which need not be cloned.
    ///
    /// ```
    /// use tidemill::aggregate::CountMin;
    /// use tidemill::prelude::*;
    ///
    /// let pages = CountMin::of_ref(0.001, |page: &String| page.as_str());
    /// assert_eq!(pages.finish(&pages.create(&"home".to_owned())).of("home"), 1);
    /// ```
    pub fn of_ref(error: f64, value: F) -> Self {
        CountMin::new(error, Borrowed::new(value))
    }
}

impl<T, P: Clone> Clone for CountMin<T, P> {
    fn clone(&self) -> Self {
        let CountMin { error, width_bits, value, .. } = self;
        CountMin { error: *error, width_bits: *width_bits, value: value.clone(), records: PhantomData }
    }
}

/// How many records have each value: the result of [`CountMin`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValueCounts {
    width_bits: u32,
    total: u64,
    form: Form,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Form {
    /// The hashes of all values, in order, with their numbers.
    Few(SmallVec<[(u64, u64); 1]>),
    /// Row after row.
    Many(Vec<u64>),
}

/// The counters of a hash, one in each row.
#[inline]
fn places(hash: u64, width_bits: u32) -> impl Iterator<Item = usize> {
    // A hash function for each row.
    (0..ROWS).map(move |row| {
        let of_row = mix(hash.wrapping_add((row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        (row << width_bits) + (of_row >> (u64::BITS - width_bits)) as usize
    })
}

impl ValueCounts {
    /// Returns how many records have that value: at least as many as there are.
    ///
    /// The value is of the type that was counted, or a borrowed form of it (`str` for `String`).
    pub fn of<Q: Hash + ?Sized>(&self, value: &Q) -> u64 {
        let hash = hash_value(value);
        match &self.form {
            Form::Few(counts) => {
                let at = counts.binary_search_by_key(&hash, |count| count.0).ok();
                at.and_then(|at| counts.get(at)).map_or(0, |count| count.1)
            }
            Form::Many(counters) => {
                let of_row = |place| counters.get(place).copied().unwrap_or(0);
                places(hash, self.width_bits).map(of_row).min().unwrap_or(0)
            }
        }
    }

    /// Returns the number of all records.
    pub fn total(&self) -> u64 {
        self.total
    }

    #[inline]
    fn add(&mut self, hash: u64, count: u64) {
        match &mut self.form {
            Form::Many(counters) => add(counters, self.width_bits, hash, count),
            Form::Few(counts) => match counts.binary_search_by_key(&hash, |count| count.0) {
                Ok(at) => counts.iter_mut().skip(at).take(1).for_each(|of| of.1 += count),
                Err(at) => {
                    counts.insert(at, (hash, count));
                    self.limit();
                }
            },
        }
    }

    /// Changes over to rows of counters if there are too many values.
    fn limit(&mut self) {
        if let Form::Few(counts) = &self.form
            && counts.len() > FEW
        {
            let mut counters = vec![0; ROWS << self.width_bits];
            counts.iter().for_each(|(hash, count)| add(&mut counters, self.width_bits, *hash, *count));
            self.form = Form::Many(counters);
        }
    }

    fn merge(&mut self, other: ValueCounts) {
        self.total += other.total;
        let more = match (&mut self.form, other.form) {
            (Form::Many(counters), Form::Many(more)) => {
                return counters.iter_mut().zip(more).for_each(|(counter, more)| *counter += more);
            }
            (Form::Few(counts), Form::Many(more)) => {
                let counts = std::mem::take(counts);
                self.form = Form::Many(more);
                counts
            }
            (_, Form::Few(more)) => more,
        };
        more.iter().for_each(|(hash, count)| self.add(*hash, *count));
    }
}

#[inline]
fn add(counters: &mut [u64], width_bits: u32, hash: u64, count: u64) {
    for place in places(hash, width_bits) {
        if let Some(counter) = counters.get_mut(place) {
            *counter += count;
        }
    }
}

impl<T, P> Aggregate for CountMin<T, P>
where
    T: 'static,
    P: Part<T>,
    P::Value: Hash,
{
    type In = T;
    type Acc = ValueCounts;
    type Out = ValueCounts;

    const RETRACTS: bool = true;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, record: &T) -> ValueCounts {
        let hash = self.value.with(record, hash_value);
        let form = Form::Few(SmallVec::from_buf([(hash, 1)]));
        ValueCounts { width_bits: self.width_bits, total: 1, form }
    }

    #[inline]
    fn add(&self, acc: &mut ValueCounts, record: &T) {
        acc.total += 1;
        acc.add(self.value.with(record, hash_value), 1);
    }

    fn merge(&self, acc: &mut ValueCounts, other: ValueCounts) {
        acc.merge(other);
    }

    fn finish(&self, acc: &ValueCounts) -> ValueCounts {
        acc.clone()
    }

    fn finish_owned(&self, acc: ValueCounts) -> ValueCounts {
        acc
    }

    fn describe(&self) -> String {
        format!("count_min {ROWS} x {}", 1u64 << self.width_bits)
    }

    fn problem(&self) -> Option<String> {
        let Self { error, .. } = self;
        (!ERRORS.contains(error))
            .then(|| format!("the error of `count_min` must be from 0.000001 to 0.5 (got {error})"))
    }

    /// Only if the merged values are still few.
    fn can_retract(&self, acc: &ValueCounts, among: u64) -> bool {
        matches!(&acc.form, Form::Few(counts) if (counts.len() as u64).saturating_mul(among) <= FEW as u64)
    }

    fn retract(&self, acc: &mut ValueCounts, of: &ValueCounts) {
        acc.total -= of.total;
        if let (Form::Few(counts), Form::Few(taken)) = (&mut acc.form, &of.form) {
            let mut taken = taken.iter().peekable();
            counts.retain(|count| {
                if let Some((_, records)) = taken.next_if(|next| next.0 == count.0) {
                    count.1 -= records;
                }
                count.1 > 0
            });
        }
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

    /// Of every value one to three, and of a few many: by square, so that the lowest are the most frequent.
    fn skewed(distinct: u64, count: usize) -> impl Strategy<Value = Vec<u64>> {
        vec(0..distinct, 2..count)
            .prop_map(move |values| values.into_iter().map(|n| n * n / distinct).collect())
    }

    proptest! {
        #[test]
        fn counts_of_few_values_are_exact(values in skewed(FEW as u64, 900)) {
            let (one, merged) = over(&CountMin::of(0.1, |value: &u64| *value), &values);
            let exact = exact(&values);
            for counts in [one, merged] {
                prop_assert_eq!(counts.total(), values.len() as u64);
                for value in 0..1_000 {
                    prop_assert_eq!(counts.of(&value), exact.get(&value).copied().unwrap_or(0));
                }
            }
        }

        #[test]
        fn counts_of_many_values_are_within_error_of_exact_ones(
            values in skewed(20_000, 8_000),
            error in prop_oneof![Just(0.1), Just(0.01), Just(0.001)],
        ) {
            let (one, merged) = over(&CountMin::of(error, |value: &u64| *value), &values);
            let (exact, bound) = (exact(&values), (error * values.len() as f64) as u64);
            let mut beyond = 0;
            for value in 0..20_000 {
                let count = one.of(&value);
                prop_assert_eq!(count, merged.of(&value), "however the records are divided");
                let exact = exact.get(&value).copied().unwrap_or(0);
                prop_assert!(count >= exact, "{}: {} instead of {}", value, count, exact);
                beyond += usize::from(count > exact + bound);
            }
            // 0.7 % on average.
            prop_assert!(beyond < 400, "{} of 20000", beyond);
        }

        #[test]
        fn retracted_records_leave_no_trace(values in skewed(120, 300), more in skewed(120, 300)) {
            let count_min = CountMin::of(0.01, |value: &u64| *value);
            let of = |values: &[u64]| {
                let mut acc = count_min.create(&values[0]);
                values[1..].iter().for_each(|value| count_min.add(&mut acc, value));
                acc
            };
            let (acc, more) = (of(&values), of(&more));
            prop_assert!(count_min.can_retract(&acc, 2) && !count_min.can_retract(&acc, 257));
            let mut both = acc.clone();
            count_min.merge(&mut both, more.clone());
            count_min.retract(&mut both, &more);
            prop_assert_eq!(format!("{both:?}"), format!("{acc:?}"));
        }
    }

    #[test]
    fn name_has_the_sizes_that_state_depends_on() {
        let of = |error| CountMin::of(error, |value: &u64| *value);
        assert_eq!(of(0.001).describe(), "count_min 5 x 4096");
        assert_eq!(of(0.5).describe(), "count_min 5 x 8");
        assert_eq!(of(0.001).problem(), None);
        for (error, says) in [(0.0, "got 0)"), (f64::NAN, "got NaN)"), (1.0, "got 1)")] {
            assert!(of(error).problem().unwrap().contains(says), "{error}");
            // A graph with it is refused, but the aggregate can be called.
            assert_eq!(over(&of(error), &[1, 2]).1.of(&1), 1);
        }
    }
}
