//! How many distinct values there are, in little memory.

use std::hash::Hash;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::part::{Borrowed, Part};
use super::value_hash::hash_value;
use super::{Aggregate, Projection};

/// The precisions that are possible.
const PRECISIONS: std::ops::RangeInclusive<u8> = 4..=18;
/// No more hashes are kept, whatever the precision.
const HASHES: usize = 2_048;

/// How many distinct values there are among the records, about.
///
/// `precision` is from 4 to 18; 14 is usual. The standard error of the result is 1.04 / √2ᵖ: 0.8 % with 14, 3.3 % with 10. So two of
/// three results are within 0.8 %, and nearly all within 2.5 %. Up to 2ᵖ / 8 distinct values, and at most 2,048, are counted exactly:
/// of them the hashes are kept, eight bytes each. State is then 2ᵖ bytes, 16 KiB with 14.
///
/// The result depends only on which values there are: not on their order or number, nor on how workers divide them. Values are compared
/// by a hash of 64 bits that is the same in every run and on every platform. Floats have no hash: return their `to_bits()`.
///
/// ```
/// use tidemill::aggregate::HyperLogLog;
/// use tidemill::prelude::*;
///
/// let users = HyperLogLog::of(14, |visit: &(u64, &str)| visit.0);
/// let mut acc = users.create(&(7, "home"));
/// for visit in [(8, "home"), (7, "search")] {
///     users.add(&mut acc, &visit);
/// }
/// assert_eq!(users.finish(&acc), 2);
/// ```
///
/// After P. Flajolet, É. Fusy, O. Gandouet and F. Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
/// algorithm" (2007). The estimate is that of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), which is
/// unbiased for all numbers, without tables.
pub struct HyperLogLog<T, P> {
    precision: u8,
    value: P,
    records: PhantomData<fn(&T)>,
}

impl<T, N, F: Fn(&T) -> N> HyperLogLog<T, Projection<T, N, F>> {
    /// Counts the distinct values that the function returns.
    pub fn of(precision: u8, value: F) -> Self {
        HyperLogLog { precision, value: Projection::new(value), records: PhantomData }
    }
}

impl<T, Q: ?Sized, F: Fn(&T) -> &Q> HyperLogLog<T, Borrowed<T, Q, F>> {
    /// As [`of`](Self::of), of values that are borrowed from the record, such as strings, which need not be cloned.
    ///
    /// ```
    /// use tidemill::aggregate::HyperLogLog;
    /// use tidemill::prelude::*;
    ///
    /// let users = HyperLogLog::of_ref(14, |user: &String| user.as_str());
    /// assert_eq!(users.finish(&users.create(&"ada".to_owned())), 1);
    /// ```
    pub fn of_ref(precision: u8, value: F) -> Self {
        HyperLogLog { precision, value: Borrowed::new(value), records: PhantomData }
    }
}

impl<T, P: Clone> Clone for HyperLogLog<T, P> {
    fn clone(&self) -> Self {
        HyperLogLog { precision: self.precision, value: self.value.clone(), records: PhantomData }
    }
}

/// The accumulator of [`HyperLogLog`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DistinctValues(Form);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Form {
    /// The hashes of all values, in order.
    Few(SmallVec<[u64; 1]>),
    Many(Box<Registers>),
}

/// For each of 2ᵖ parts of the values, by the first `p` bits of their hashes: the position of the first one among the further bits.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Registers {
    registers: Vec<u8>,
    /// How many registers have each value, so that a result does not need all of them. Empty after a restart.
    #[serde(skip)]
    counts: Vec<u32>,
}

impl Registers {
    fn new(precision: u32, hashes: &[u64]) -> Registers {
        let mut registers = Registers { registers: vec![0; 1 << precision], counts: Vec::new() };
        hashes.iter().for_each(|hash| registers.set(precision, *hash));
        registers.count();
        registers
    }

    /// Returns the register of a hash and its value.
    #[inline]
    fn place(precision: u32, hash: u64) -> (usize, u8) {
        let rest = hash << precision | 1 << (precision - 1);
        ((hash >> (u64::BITS - precision)) as usize, rest.leading_zeros() as u8 + 1)
    }

    #[inline]
    fn set(&mut self, precision: u32, hash: u64) {
        let (place, value) = Self::place(precision, hash);
        if let Some(register) = self.registers.get_mut(place) {
            *register = value.max(*register);
        }
    }

    #[inline]
    fn add(&mut self, precision: u32, hash: u64) {
        let (place, value) = Self::place(precision, hash);
        if let Some(register) = self.registers.get_mut(place)
            && *register < value
        {
            // Empty after a restart.
            for (value, change) in [(*register, u32::MAX), (value, 1)] {
                if let Some(count) = self.counts.get_mut(usize::from(value)) {
                    *count = count.wrapping_add(change);
                }
            }
            *register = value;
        }
    }

    fn merge(&mut self, other: &Registers) {
        for (register, other) in self.registers.iter_mut().zip(&other.registers) {
            *register = (*register).max(*other);
        }
        self.count();
    }

    fn count(&mut self) {
        self.counts = counts(&self.registers);
    }

    /// Ertl's improved raw estimator.
    fn estimate(&self, precision: u32) -> u64 {
        let counted;
        let counts = if self.counts.is_empty() {
            counted = counts(&self.registers);
            &counted
        } else {
            &self.counts
        };
        let size = self.registers.len() as f64;
        let last = (u64::BITS - precision + 1) as usize;
        let of = |value: usize| counts.get(value).copied().map_or(0.0, f64::from);
        let mut sum = size * tau(1.0 - of(last) / size);
        for value in (1..last).rev() {
            sum = 0.5 * (sum + of(value));
        }
        sum += size * sigma(of(0) / size);
        (size * size / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
    }
}

fn counts(registers: &[u8]) -> Vec<u32> {
    let mut counts = vec![0u32; u64::BITS as usize + 1];
    for register in registers {
        if let Some(count) = counts.get_mut(usize::from(*register)) {
            *count += 1;
        }
    }
    counts
}

/// x + Σ x^(2ᵏ) · 2ᵏ⁻¹ for all k ≥ 1.
fn sigma(mut x: f64) -> f64 {
    let (mut sum, mut weight) = (x, 1.0);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before || sum.is_infinite() {
            return sum;
        }
    }
}

/// (1 − x − Σ (1 − x^(2⁻ᵏ))² · 2⁻ᵏ for all k ≥ 1) / 3.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut sum, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

impl<T, P> HyperLogLog<T, P> {
    #[inline]
    fn precision(&self) -> u32 {
        self.precision.clamp(*PRECISIONS.start(), *PRECISIONS.end()).into()
    }

    #[inline]
    fn add_hash(&self, acc: &mut DistinctValues, hash: u64) {
        match &mut acc.0 {
            Form::Many(registers) => registers.add(self.precision(), hash),
            Form::Few(hashes) => {
                if let Err(place) = hashes.binary_search(&hash) {
                    hashes.insert(place, hash);
                    self.check(acc);
                }
            }
        }
    }

    /// Changes over to registers if there are too many hashes.
    fn check(&self, acc: &mut DistinctValues) {
        let precision = self.precision();
        if let Form::Few(hashes) = &acc.0
            && hashes.len() > ((1 << precision) / 8).min(HASHES)
        {
            acc.0 = Form::Many(Box::new(Registers::new(precision, hashes)));
        }
    }
}

impl<T, P> Aggregate for HyperLogLog<T, P>
where
    T: 'static,
    P: Part<T>,
    P::Value: Hash,
{
    type In = T;
    type Acc = DistinctValues;
    type Out = u64;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, record: &T) -> DistinctValues {
        DistinctValues(Form::Few(SmallVec::from_buf([self.value.with(record, hash_value)])))
    }

    #[inline]
    fn add(&self, acc: &mut DistinctValues, record: &T) {
        self.add_hash(acc, self.value.with(record, hash_value));
    }

    fn merge(&self, acc: &mut DistinctValues, other: DistinctValues) {
        let more = match (&mut acc.0, other.0) {
            (Form::Many(registers), Form::Many(more)) => return registers.merge(&more),
            (Form::Few(hashes), Form::Many(more)) => {
                let hashes = std::mem::take(hashes);
                acc.0 = Form::Many(more);
                hashes
            }
            (Form::Few(hashes), Form::Few(more)) if more.len() > 1 => {
                // Both are in order, which the sort makes use of.
                hashes.extend_from_slice(&more);
                hashes.sort();
                hashes.dedup();
                return self.check(acc);
            }
            (_, Form::Few(more)) => more,
        };
        more.iter().for_each(|hash| self.add_hash(acc, *hash));
    }

    fn finish(&self, acc: &DistinctValues) -> u64 {
        match &acc.0 {
            Form::Few(hashes) => hashes.len() as u64,
            Form::Many(registers) => registers.estimate(self.precision()),
        }
    }

    fn describe(&self) -> String {
        format!("hyper_log_log {}", self.precision)
    }

    fn problem(&self) -> Option<String> {
        let Self { precision, .. } = self;
        (!PRECISIONS.contains(precision)).then(|| {
            format!("the precision of `hyper_log_log` must be from 4 to 18 (got {precision}): 14 is usual")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    fn accumulated(precision: u8, values: impl IntoIterator<Item = u64>) -> DistinctValues {
        let distinct = HyperLogLog::of(precision, |value: &u64| *value);
        let mut values = values.into_iter();
        let mut acc = distinct.create(&values.next().unwrap());
        values.for_each(|value| distinct.add(&mut acc, &value));
        acc
    }

    proptest! {
        #[test]
        fn few_values_are_counted_exactly(values in vec(any::<u64>().prop_map(|n| n % 400), 2..900)) {
            let exact = values.iter().collect::<BTreeSet<_>>().len() as u64;
            prop_assert_eq!(over(&HyperLogLog::of(14, |value: &u64| *value), &values), (exact, exact));
            // Texts, which are borrowed.
            let values: Vec<String> = values.iter().map(u64::to_string).collect();
            prop_assert_eq!(over(&HyperLogLog::of_ref(14, |value: &String| &**value), &values), (exact, exact));
        }

        #[test]
        fn many_values_are_counted_within_error(
            precision in 7u8..=18,
            first in any::<u64>(),
            count in (1u32..=17).prop_flat_map(|bits| 1u64..(1 << bits) + 1),
        ) {
            let values = (0..count).map(|n| first.wrapping_add(n));
            let distinct = HyperLogLog::of(precision, |value: &u64| *value);
            let found = distinct.finish(&accumulated(precision, values)) as f64;
            let error = 1.04 / f64::from(1 << precision).sqrt();
            // Six times the standard error.
            prop_assert!((found / count as f64 - 1.0).abs() <= 6.0 * error, "{} instead of {}", found, count);
        }

        #[test]
        fn result_depends_only_on_distinct_values(
            values in vec((0u64..3_000).prop_map(|n| n * n % 2_999), 2..2_000),
            precision in 4u8..=15,
        ) {
            let distinct = HyperLogLog::of(precision, |value: &u64| *value);
            let once: BTreeSet<u64> = values.iter().copied().collect();
            let expected = distinct.finish(&accumulated(precision, once));
            prop_assert_eq!(over(&distinct, &values), (expected, expected));
            // As restored from a checkpoint, and with more values after that.
            let acc = accumulated(precision, values.iter().copied());
            let bytes = postcard::to_stdvec(&acc).unwrap();
            let mut restored: DistinctValues = postcard::from_bytes(&bytes).unwrap();
            prop_assert_eq!(distinct.finish(&restored), expected);
            let mut acc = acc;
            for value in 5_000..5_100 {
                distinct.add(&mut acc, &value);
                distinct.add(&mut restored, &value);
            }
            prop_assert_eq!(distinct.finish(&restored), distinct.finish(&acc));
        }
    }

    #[test]
    fn estimates_have_the_standard_error_and_no_bias() {
        // From before registers to a hundred values for each of 1,024.
        for count in [100u64, 300, 1_000, 3_000, 10_000, 100_000] {
            let distinct = HyperLogLog::of(10, |value: &u64| *value);
            let errors: Vec<f64> = (0..100)
                .map(|run: u64| accumulated(10, (0..count).map(|n| run << 40 | n)))
                .map(|acc| distinct.finish(&acc) as f64 / count as f64 - 1.0)
                .collect();
            let mean = errors.iter().sum::<f64>() / 100.0;
            let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / 100.0).sqrt();
            let standard = 1.04 / 32.0;
            assert!(mean.abs() < 0.4 * standard, "{count}: bias {mean}");
            assert!(deviation < 1.3 * standard, "{count}: {deviation}");
        }
    }

    #[test]
    fn state_is_as_large_as_documented() {
        for precision in [4u8, 10, 14, 18] {
            let few = (1u64 << precision) / 8;
            let acc = accumulated(precision, 0..few.min(HASHES as u64));
            assert!(matches!(&acc.0, Form::Few(hashes) if hashes.len() as u64 == few.min(2_048)));
            let Form::Many(registers) = accumulated(precision, 0..40_000).0 else { panic!("{precision}") };
            assert_eq!(registers.registers.len(), 1 << precision);
        }
    }

    #[test]
    fn name_has_the_precision_that_state_depends_on() {
        let of = |precision| HyperLogLog::of(precision, |value: &u64| *value);
        assert_eq!(of(14).describe(), "hyper_log_log 14");
        assert_eq!(of(18).problem(), None);
        for precision in [0, 3, 19, 255] {
            assert!(of(precision).problem().unwrap().contains(&format!("(got {precision})")));
            // A graph with it is refused, but the aggregate can be called.
            assert_eq!(over(&of(precision), &[1, 2]), (2, 2));
        }
    }
}
