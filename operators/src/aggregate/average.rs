//! How much on average.

use super::{Aggregate, Number, Projection};

/// The arithmetic mean of a number over the records, as `f64`.
///
/// The numbers are summed as `f64`: integers above 2⁵³ lose their last digits, and the order of additions may show in
/// the last digit of the result.
///
/// ```
/// use tidemill_operators::Aggregate;
/// use tidemill_operators::aggregate::Average;
///
/// let average = Average::of(|order: &(&str, u64)| order.1);
/// let mut acc = average.create(&("tea", 3));
/// average.add(&mut acc, &("salt", 4));
/// assert_eq!(average.finish(&acc), 3.5);
/// ```
#[derive(Clone)]
pub struct Average<P> {
    number: P,
}

impl<T, N: Number, F: Fn(&T) -> N> Average<Projection<T, N, F>> {
    /// Averages what the function gives for each record.
    pub fn of(number: F) -> Self {
        Average { number: Projection::new(number) }
    }
}

impl<T, N, F> Aggregate for Average<Projection<T, N, F>>
where
    T: 'static,
    N: Number,
    F: Fn(&T) -> N + Send + Sync + 'static,
{
    type In = T;
    /// The sum and how many numbers are in it.
    type Acc = (f64, u64);
    type Out = f64;

    const RETRACTS: bool = N::RETRACTS;

    #[inline]
    fn create(&self, value: &T) -> (f64, u64) {
        (self.number.of(value).to_f64(), 1)
    }

    #[inline]
    fn add(&self, acc: &mut (f64, u64), value: &T) {
        self.merge(acc, self.create(value));
    }

    #[inline]
    fn merge(&self, acc: &mut (f64, u64), other: (f64, u64)) {
        acc.0 += other.0;
        acc.1 += other.1;
    }

    #[inline]
    fn finish(&self, acc: &(f64, u64)) -> f64 {
        acc.0 / acc.1 as f64
    }

    /// Whole numbers whose sums stay below 2⁵³ are added without rounding, in any order.
    #[inline]
    fn can_retract(&self, acc: &(f64, u64), among: u64) -> bool {
        N::RETRACTS && is_whole(acc.0) && acc.0.abs() * among as f64 <= EXACT
    }

    #[inline]
    fn retract(&self, acc: &mut (f64, u64), of: &(f64, u64)) {
        acc.0 -= of.0;
        acc.1 -= of.1;
    }
}

/// Up to here `f64` has every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Not for the zero below zero, which would not come back.
#[inline]
fn is_whole(number: f64) -> bool {
    (number as i64 as f64).to_bits() == number.to_bits()
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn an_average_of_parts_weighs_them_by_their_counts() {
        assert_eq!(over(&Average::of(|n: &u32| *n), &[1, 2, 6]), (3.0, 3.0));
    }

    #[test]
    fn only_whole_numbers_that_are_added_without_rounding_are_taken_back() {
        let average = Average::of(|n: &i64| *n);
        assert!(average.can_retract(&(EXACT / 4.0, 1), 4) && average.can_retract(&(-3.0, 1), 4));
        assert!(!average.can_retract(&(EXACT / 4.0 + 1.0, 1), 4));
        for odd in [0.5, -0.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(!average.can_retract(&(odd, 1), 4), "{odd}");
        }
        assert!(!Average::of(|n: &f32| *n).can_retract(&(1.0, 1), 4));
    }
}
