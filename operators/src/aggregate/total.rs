//! What a sum is kept in while records come.

use serde::{Deserialize, Serialize};

use super::Number;
use crate::Data;

/// The running total of numbers of type `N`, from which their sum is read at the end.
///
/// Every [`Number`] is a total of itself: numbers are added one to the other, and the result of each addition is rounded,
/// or stops at the end of the range ("naive summation"). [`Wide`] and [`Exact`](super::Exact) do neither before the end, so
/// that their results do not depend on the order of additions, nor on how the numbers were divided among workers.
pub trait Total<N>: Data + Clone {
    /// Whether an addition can be undone without a trace; see [`Aggregate::RETRACTS`](crate::Aggregate::RETRACTS).
    const RETRACTS: bool = false;

    /// The total of one number.
    fn of(number: N) -> Self;

    /// Adds a number.
    fn add(&mut self, number: N);

    /// Adds all that another total has.
    fn merge(&mut self, other: Self);

    /// Returns the sum.
    fn value(&self) -> N;

    /// Whether `among` totals like this one can be merged and retracted in any order without a trace.
    fn can_retract(&self, _among: u64) -> bool {
        Self::RETRACTS
    }

    /// Retracts what was merged. Called only if [`RETRACTS`](Self::RETRACTS).
    fn retract(&mut self, _of: &Self) {}
}

impl<N: Number> Total<N> for N {
    const RETRACTS: bool = <N as Number>::RETRACTS;

    #[inline]
    fn of(number: N) -> N {
        number
    }

    #[inline]
    fn add(&mut self, number: N) {
        self.plus(number);
    }

    #[inline]
    fn merge(&mut self, other: N) {
        self.plus(other);
    }

    #[inline]
    fn value(&self) -> N {
        self.clone()
    }

    #[inline]
    fn can_retract(&self, among: u64) -> bool {
        self.fits(among)
    }

    #[inline]
    fn retract(&mut self, of: &N) {
        self.minus(of);
    }
}

/// The total of signed integers of up to 64 bits: 128 bits, in which 2⁶⁴ of them have room, so that only the result is cut
/// off at the end of the range. As two words, which need no more alignment than the integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "i128", into = "i128")]
pub struct Wide {
    low: u64,
    high: i64,
}

impl From<i128> for Wide {
    #[inline]
    fn from(total: i128) -> Wide {
        Wide { low: total as u64, high: (total >> 64) as i64 }
    }
}

impl From<Wide> for i128 {
    #[inline]
    fn from(total: Wide) -> i128 {
        i128::from(total.high) << 64 | i128::from(total.low)
    }
}

macro_rules! wide {
    ($($integer:ty),+) => {$(
        impl Total<$integer> for Wide {
            const RETRACTS: bool = true;

            #[inline]
            fn of(number: $integer) -> Wide {
                Wide::from(number as i128)
            }
            #[inline]
            fn add(&mut self, number: $integer) {
                *self = Wide::from(i128::from(*self).wrapping_add(number as i128));
            }
            #[inline]
            fn merge(&mut self, other: Wide) {
                *self = Wide::from(i128::from(*self).wrapping_add(other.into()));
            }
            #[inline]
            fn value(&self) -> $integer {
                let end = if self.high < 0 { <$integer>::MIN } else { <$integer>::MAX };
                <$integer>::try_from(i128::from(*self)).unwrap_or(end)
            }
            #[inline]
            fn retract(&mut self, of: &Wide) {
                *self = Wide::from(i128::from(*self).wrapping_sub((*of).into()));
            }
        }
    )+};
}

wide!(i8, i16, i32, i64, isize);

/// The total of 128-bit signed integers: 192 bits, in which 2⁶⁴ of them have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widest {
    low: u128,
    high: i64,
}

impl Widest {
    /// The high word of a number: its sign.
    fn sign(number: i128) -> i64 {
        if number < 0 { -1 } else { 0 }
    }
}

impl Total<i128> for Widest {
    const RETRACTS: bool = true;

    #[inline]
    fn of(number: i128) -> Widest {
        Widest { low: number.cast_unsigned(), high: Widest::sign(number) }
    }

    #[inline]
    fn add(&mut self, number: i128) {
        self.merge(Widest::of(number));
    }

    #[inline]
    fn merge(&mut self, other: Widest) {
        let (low, carries) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self.high.wrapping_add(other.high).wrapping_add(i64::from(carries));
    }

    fn value(&self) -> i128 {
        let low = self.low.cast_signed();
        match self.high {
            high if high == Widest::sign(low) => low,
            high if high < 0 => i128::MIN,
            _ => i128::MAX,
        }
    }

    #[inline]
    fn retract(&mut self, of: &Widest) {
        let (low, borrows) = self.low.overflowing_sub(of.low);
        self.low = low;
        self.high = self.high.wrapping_sub(of.high).wrapping_sub(i64::from(borrows));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a total is one of zero and of the numbers, merged in two parts and with the second retracted again.
    fn check<N: Number<Total = T>, T: Total<N> + PartialEq + std::fmt::Debug>(
        numbers: &[N],
        cut: usize,
        zero: N,
    ) -> N {
        let total = |numbers: &[N]| {
            let mut total = T::of(zero.clone());
            numbers.iter().for_each(|number| total.add(number.clone()));
            total
        };
        let (left, right) = numbers.split_at(cut.min(numbers.len()));
        let mut merged = total(left);
        merged.merge(total(right));
        assert_eq!(merged, total(numbers));
        let mut back = merged.clone();
        back.retract(&total(right));
        assert_eq!(back, total(left));
        let bytes = postcard::to_stdvec(&merged).unwrap();
        assert_eq!(postcard::from_bytes::<T>(&bytes).unwrap(), merged);
        merged.value()
    }

    proptest! {
        #[test]
        fn signed_sums_saturate_only_at_the_end(numbers: Vec<i64>, cut: usize) {
            let exact = numbers.iter().map(|n| i128::from(*n)).sum::<i128>();
            let sum = exact.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            prop_assert_eq!(check(&numbers, cut % 8, 0), sum);
            // Numbers of 128 bits whose sums leave the range by as much.
            let large: Vec<i128> = numbers.iter().map(|n| i128::from(*n) << 64).collect();
            let sum = if sum as i128 == exact { exact << 64 } else if sum < 0 { i128::MIN } else { i128::MAX };
            prop_assert_eq!(check(&large, cut % 8, 0), sum);
        }
    }

    #[test]
    fn a_signed_sum_has_one_result_in_every_order() {
        for numbers in [[100i8, 100, -100, -100], [100, -100, 100, -100], [-100, -100, 100, 100]] {
            assert_eq!((0..4).map(|cut| check(&numbers, cut, 0)).collect::<Vec<_>>(), [0; 4]);
        }
        assert_eq!(check(&[i64::MIN, -1], 1, 0), i64::MIN);
        assert_eq!(check(&[i128::MAX, 1, i128::MIN], 1, 0), 0);
        assert_eq!(check(&[i128::MIN, i128::MIN, 1], 1, 0), i128::MIN);
        assert_eq!(check(&[isize::MAX, 1], 1, 0), isize::MAX);
    }
}
