//! Medians, percentiles and other quantiles, in little memory.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Aggregate, Number, Projection};

/// The relative errors that are possible.
const ERRORS: std::ops::RangeInclusive<f64> = 0.0001..=0.5;
/// The most bits of its fraction that a bucket may have, for the least error.
const MOST_BITS: u32 = 13;
/// The bits of a float's fraction.
const FRACTION: u32 = f64::MANTISSA_DIGITS - 1;

/// Quantiles of a number over the records: of 0.5 the median, of 0.99 the 99th percentile.
///
/// The result has one number for each quantile asked for, in that order. Each is within the relative `error` of the exact one: with 0.01,
/// a 99th percentile of 250 ms comes out as 247.5 to 252.5 ms. The quantile `q` of `n` numbers is the least one that at least `q · n` of
/// them do not exceed; quantiles below 0 count as 0, those above 1 as 1.
///
/// The result does not depend on the order of the records, nor on how workers divide them. Numbers are taken as `f64`. Zero and infinities
/// are exact, NaN is above all others, and the bound holds for all other numbers that are not subnormal (2.3·10⁻³⁰⁸ from zero or more).
///
/// State is 16 bytes for each bucket that has numbers. With an error of 0.01 there are 64 buckets from a number to its double, and at most
/// 2,048 in all (32 KiB). That is enough if the greatest number is at most four billion times the least. In a wider range buckets are
/// merged two by two, and the error is twice as large. A smaller error takes proportionally more buckets for the same range; it is
/// at least 0.0001, and at most 0.5.
///
/// ```
/// use tidemill::aggregate::Quantiles;
/// use tidemill::prelude::*;
///
/// let latency = Quantiles::of(0.01, [0.5, 0.99], |request: &(&str, u32)| request.1);
/// let mut acc = latency.create(&("/", 12));
/// for request in [("/", 15), ("/search", 240), ("/", 14)] {
///     latency.add(&mut acc, &request);
/// }
/// let [median, p99] = latency.finish(&acc)[..] else { panic!("two quantiles") };
/// assert!((median / 14.0 - 1.0).abs() <= 0.01);
/// assert!((p99 / 240.0 - 1.0).abs() <= 0.01);
/// ```
///
/// After C. Masson, J. E. Rim and H. K. Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (2019),
/// with buckets that are the first bits of a float, as in HdrHistogram; and I. Epicoco and others, "UDDSketch" (2020): if there are too
/// many buckets, all are merged two by two.
pub struct Quantiles<P> {
    error: f64,
    /// The number of bits of a fraction that tell the bucket: as few as keep the middle of a bucket within the error.
    bits: u32,
    quantiles: Vec<f64>,
    number: P,
}

/// The relative error of the middle of a bucket, of numbers with that many bits of the fraction in common.
fn bound(bits: u32) -> f64 {
    1.0 / f64::from((2u32 << bits) + 1)
}

impl<T, N: Number, F: Fn(&T) -> N> Quantiles<Projection<T, N, F>> {
    /// Computes quantiles of what the function returns for each record, within that relative error.
    pub fn of(error: f64, quantiles: impl IntoIterator<Item = f64>, number: F) -> Self {
        let bits = (0..MOST_BITS).find(|bits| bound(*bits) <= error).unwrap_or(MOST_BITS);
        Quantiles { error, bits, quantiles: quantiles.into_iter().collect(), number: Projection::new(number) }
    }
}

impl<P: Clone> Clone for Quantiles<P> {
    fn clone(&self) -> Self {
        let Quantiles { error, bits, quantiles, number } = self;
        Quantiles { error: *error, bits: *bits, quantiles: quantiles.clone(), number: number.clone() }
    }
}

impl<P> Quantiles<P> {
    /// How many buckets there may be: enough for 32 doublings at least.
    fn most(&self) -> usize {
        32 << self.bits.max(6)
    }
}

/// The accumulator of [`Quantiles`]: how many numbers are in each bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Buckets {
    /// How often all buckets have been merged two by two.
    merged: u32,
    /// The lowest first.
    buckets: SmallVec<[(i32, u64); 1]>,
}

impl Buckets {
    fn of(number: f64, bits: u32) -> Buckets {
        Buckets { merged: 0, buckets: SmallVec::from_buf([(place(number, FRACTION - bits), 1)]) }
    }

    /// How many of the last bits of a number do not tell its bucket.
    #[inline]
    fn shift(&self, bits: u32) -> u32 {
        FRACTION.saturating_sub(bits).saturating_add(self.merged).min(u64::BITS - 2)
    }

    #[inline]
    fn add(&mut self, number: f64, bits: u32, most: usize) {
        let place = place(number, self.shift(bits));
        match self.buckets.binary_search_by_key(&place, |bucket| bucket.0) {
            Ok(at) => self.buckets.iter_mut().skip(at).take(1).for_each(|bucket| bucket.1 += 1),
            Err(at) => {
                self.buckets.insert(at, (place, 1));
                self.limit(most);
            }
        }
    }

    fn merge(&mut self, mut other: Buckets, most: usize) {
        while self.merged < other.merged {
            self.coarsen();
        }
        while other.merged < self.merged {
            other.coarsen();
        }
        self.buckets.extend_from_slice(&other.buckets);
        // Both are in order, which this sort makes use of.
        self.buckets.sort_by_key(|bucket| bucket.0);
        self.unite();
        self.limit(most);
    }

    /// Merges buckets until there are few enough. Which ones that takes depends only on all numbers so far: it is done for these if
    /// it was done for some of them.
    fn limit(&mut self, most: usize) {
        while self.buckets.len() > most {
            self.coarsen();
        }
    }

    /// Merges all buckets two by two.
    fn coarsen(&mut self) {
        self.merged += 1;
        self.buckets.iter_mut().for_each(|bucket| bucket.0 >>= 1);
        self.unite();
    }

    /// Merges successive buckets that have become one.
    fn unite(&mut self) {
        self.buckets.dedup_by(|next, bucket| {
            let is_same = next.0 == bucket.0;
            if is_same {
                bucket.1 += next.1;
            }
            is_same
        });
    }

    /// Takes the numbers of another accumulator away, which is not coarser.
    fn retract(&mut self, of: &Buckets) {
        let mut taken = of.buckets.iter().peekable();
        self.buckets.retain(|bucket| {
            if let Some((_, numbers)) = taken.next_if(|next| next.0 == bucket.0) {
                bucket.1 -= numbers;
            }
            bucket.1 > 0
        });
    }

    /// Returns the middle of the bucket that has the number of that rank, counted from 1.
    fn ranked(&self, rank: u64, shift: u32) -> f64 {
        let mut below = 0;
        let has = |bucket: &&(i32, u64)| {
            below += bucket.1;
            below >= rank
        };
        let bucket = self.buckets.iter().find(has).or(self.buckets.last());
        bucket.map_or(f64::NAN, |bucket| middle(bucket.0, shift))
    }
}

/// The bucket of a number. Buckets are in the order of their numbers, and that of -x is the complement of that of x.
#[inline]
fn place(number: f64, shift: u32) -> i32 {
    // Zero has no sign, and there is one NaN.
    let number = if number.is_nan() { f64::NAN } else { number + 0.0 };
    let bits = number.abs().to_bits().cast_signed() >> shift;
    // As few bits as an `i32` has are left of the sign, the exponent and the first bits of the fraction.
    (if number < 0.0 { !bits } else { bits }) as i32
}

/// The number that has the same relative distance from both ends of a bucket.
fn middle(place: i32, shift: u32) -> f64 {
    if place < 0 {
        return -middle(!place, shift);
    }
    let (bits, next) = (i64::from(place) << shift, (i64::from(place) + 1) << shift);
    let low = f64::from_bits(bits.cast_unsigned());
    if low == 0.0 || !low.is_finite() {
        return low;
    }
    // The last number of the bucket; that of the highest one is followed by infinity.
    let high = f64::from_bits(next.cast_unsigned() - 1).min(f64::MAX);
    low + (high - low) * (low / 2.0 / (low / 2.0 + high / 2.0))
}

impl<V, N, F> Aggregate for Quantiles<Projection<V, N, F>>
where
    V: 'static,
    N: Number,
    F: Fn(&V) -> N + Send + Sync + 'static,
{
    type In = V;
    type Acc = Buckets;
    type Out = Vec<f64>;

    const RETRACTS: bool = true;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, value: &V) -> Buckets {
        Buckets::of(self.number.of(value).to_f64(), self.bits)
    }

    #[inline]
    fn add(&self, acc: &mut Buckets, value: &V) {
        acc.add(self.number.of(value).to_f64(), self.bits, self.most());
    }

    fn merge(&self, acc: &mut Buckets, other: Buckets) {
        acc.merge(other, self.most());
    }

    fn finish(&self, acc: &Buckets) -> Vec<f64> {
        let count: u64 = acc.buckets.iter().map(|bucket| bucket.1).sum();
        let rank = |quantile: &f64| ((quantile * count as f64).ceil() as u64).clamp(1, count.max(1));
        self.quantiles.iter().map(|quantile| acc.ranked(rank(quantile), acc.shift(self.bits))).collect()
    }

    fn describe(&self) -> String {
        format!("quantiles within {:.3} %", 100.0 * bound(self.bits))
    }

    fn problem(&self) -> Option<String> {
        let Self { error, quantiles, .. } = self;
        if !ERRORS.contains(error) {
            return Some(format!(
                "the relative error of `quantiles` must be from 0.0001 to 0.5 (got {error})"
            ));
        }
        let wrong = quantiles.iter().find(|quantile| !(0.0..=1.0).contains(*quantile));
        wrong.map(|quantile| {
            format!(
                "a quantile must be from 0 to 1 (got {quantile}): 0.5 is the median, 0.99 the 99th percentile"
            )
        })
    }

    /// Only if no buckets have to be merged meanwhile.
    fn can_retract(&self, acc: &Buckets, among: u64) -> bool {
        acc.merged == 0 && (acc.buckets.len() as u64).saturating_mul(among) <= self.most() as u64
    }

    fn retract(&self, acc: &mut Buckets, of: &Buckets) {
        acc.retract(of);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    const QUANTILES: [f64; 7] = [0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0];

    fn exact(numbers: &[f64], quantile: f64) -> f64 {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[((quantile * numbers.len() as f64).ceil() as usize).max(1) - 1]
    }

    fn accumulated<F: Fn(&f64) -> f64 + Send + Sync + 'static>(
        quantiles: &Quantiles<Projection<f64, f64, F>>,
        numbers: &[f64],
    ) -> Buckets {
        let mut acc = quantiles.create(&numbers[0]);
        numbers[1..].iter().for_each(|number| quantiles.add(&mut acc, number));
        acc
    }

    /// Numbers of a few doublings, with both signs, and of any size.
    fn numbers() -> impl Strategy<Value = Vec<f64>> {
        let narrow = (-1_000_000i32..1_000_000).prop_map(|n| f64::from(n) / 64.0);
        let normal = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE;
        prop_oneof![vec(narrow, 2..600), vec(normal, 2..600)]
    }

    proptest! {
        #[test]
        fn quantiles_are_within_error_of_exact_ones(
            numbers in numbers(),
            error in prop_oneof![Just(0.5), Just(0.1), Just(0.01), Just(0.001), Just(0.0001)],
        ) {
            let quantiles = Quantiles::of(error, QUANTILES, |number: &f64| *number);
            let acc = accumulated(&quantiles, &numbers);
            prop_assert_eq!(acc.merged, 0);
            let (one, merged) = over(&quantiles, &numbers);
            prop_assert_eq!(&one, &merged);
            for (quantile, found) in QUANTILES.iter().zip(one) {
                let exact = exact(&numbers, *quantile);
                let fits = found == exact || (found - exact).abs() <= error * exact.abs();
                prop_assert!(fits, "{}: {} instead of {}", quantile, found, exact);
            }
        }

        #[test]
        fn state_depends_only_on_numbers(
            numbers in vec(prop::num::f64::ANY, 3..400),
            at in any::<prop::sample::Index>(),
            most in 4usize..40,
        ) {
            let divided = |order: &[f64], at: usize| {
                let of = |numbers: &[f64]| {
                    let mut acc = Buckets::of(numbers[0], 6);
                    numbers[1..].iter().for_each(|number| acc.add(*number, 6, most));
                    acc
                };
                let mut acc = of(&order[..at]);
                acc.merge(of(&order[at..]), most);
                (acc.merged, acc.buckets)
            };
            let mut reversed = numbers.clone();
            reversed.reverse();
            let at = 1 + at.index(numbers.len() - 1);
            let one = divided(&numbers, at);
            prop_assert!(one.1.len() <= most);
            prop_assert_eq!(&one, &divided(&reversed, at));
            prop_assert_eq!(&one, &divided(&numbers, 1));
        }

        #[test]
        fn retracted_numbers_leave_no_trace(numbers in numbers(), more in numbers()) {
            let quantiles = Quantiles::of(0.01, QUANTILES, |number: &f64| *number);
            let (acc, more) = (accumulated(&quantiles, &numbers), accumulated(&quantiles, &more));
            let mut both = acc.clone();
            quantiles.merge(&mut both, more.clone());
            prop_assert!(!quantiles.can_retract(&more, 2_049));
            if quantiles.can_retract(&acc, 2) && quantiles.can_retract(&more, 2) {
                quantiles.retract(&mut both, &more);
                prop_assert_eq!((both.merged, both.buckets), (0, acc.buckets));
            }
        }
    }

    #[test]
    fn numbers_of_a_wide_range_have_twice_the_error() {
        let quantiles = Quantiles::of(0.01, QUANTILES, |number: &f64| *number);
        let numbers: Vec<f64> = (0..30_000).map(|n| 1.001f64.powi(n)).collect();
        let acc = accumulated(&quantiles, &numbers);
        assert_eq!(acc.merged, 1);
        for (quantile, found) in QUANTILES.iter().zip(quantiles.finish(&acc)) {
            assert!((found / exact(&numbers, *quantile) - 1.0).abs() <= 0.02, "{quantile}");
        }
        assert!(!quantiles.can_retract(&acc, 1));
    }

    #[test]
    fn nan_is_above_infinity() {
        let quantiles = Quantiles::of(0.01, [0.25, 0.5, 0.75, 1.0], |number: &f64| *number);
        let (one, _) = over(&quantiles, &[-f64::NAN, f64::INFINITY, -0.0, f64::NEG_INFINITY]);
        assert_eq!(one[..3], [f64::NEG_INFINITY, 0.0, f64::INFINITY]);
        assert!(one[2].is_infinite() && one[3].is_nan());
        assert!(one[1].is_sign_positive());
    }

    #[test]
    fn name_has_the_error_that_state_depends_on() {
        let of = |error, quantiles: &[f64]| Quantiles::of(error, quantiles.to_vec(), |number: &f64| *number);
        assert_eq!(of(0.01, &[0.5]).describe(), "quantiles within 0.775 %");
        assert_eq!(of(0.01, &[0.5]).describe(), of(0.009, &[0.9, 0.99]).describe());
        assert_eq!(of(0.0001, &[0.5]).describe(), "quantiles within 0.006 %");
        assert_eq!(of(0.01, &[0.5]).problem(), None);
        for (error, quantile, says) in
            [(0.0, 0.5, "got 0)"), (f64::NAN, 0.5, "got NaN"), (0.01, 99.0, "got 99")]
        {
            assert!(of(error, &[quantile]).problem().unwrap().contains(says), "{error} {quantile}");
        }
    }
}
