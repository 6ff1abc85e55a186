//! What can be summed.

use super::{Exact, Total, Wide, Widest};
use crate::Data;

/// A number as sums and averages need it. Implement it for your own (a decimal, an amount of money) to sum that.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidemill::aggregate::Number;
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Cents(u64);
///
/// impl Number for Cents {
///     type Total = Cents;
///
///     fn plus(&mut self, other: Cents) {
///         self.0 = self.0.saturating_add(other.0);
///     }
///     fn to_f64(&self) -> f64 {
///         self.0 as f64
///     }
/// }
///
/// let mut total = Cents(250);
/// total.plus(Cents(10));
/// assert_eq!(total.0, 260);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be added up",
    note = "return a number from the closure, or `impl tidemill::aggregate::Number` for a type of your own"
)]
pub trait Number: Data + Clone {
    /// What a sum is kept in: the number's own type, if the order of additions does not show in it (unsigned integers, which
    /// can only saturate upwards), or one that has room for what comes in between (signed integers: [`Wide`], [`Widest`];
    /// floating point: [`Exact`]).
    type Total: Total<Self>;

    /// Adds to this one. Must not panic: integers saturate at the ends of their range; floating point rounds as it does.
    fn plus(&mut self, other: Self);

    /// The nearest 64-bit floating point value.
    fn to_f64(&self) -> f64;

    /// Whether an addition can be undone to the last digit, by [`minus`](Self::minus): so for integers, and not for
    /// floating point. Sums are then kept up to date in sliding windows of many panes; see
    /// [`Aggregate::RETRACTS`](crate::Aggregate::RETRACTS).
    const RETRACTS: bool = false;

    /// Whether `among` numbers like this one, or nearer to zero, surely add up within the range, in any order.
    fn fits(&self, _among: u64) -> bool {
        Self::RETRACTS
    }

    /// Retracts an addition of a number that [fits](Self::fits). Called only if [`RETRACTS`](Self::RETRACTS).
    fn minus(&mut self, _other: &Self) {}
}

macro_rules! integers {
    ($($integer:ty: $total:ty),+) => {$(
        impl Number for $integer {
            type Total = $total;

            #[inline]
            fn plus(&mut self, other: Self) {
                *self = self.saturating_add(other);
            }
            #[inline]
            fn to_f64(&self) -> f64 {
                *self as f64
            }

            const RETRACTS: bool = true;

            #[inline]
            fn fits(&self, among: u64) -> bool {
                // Shifts, for a division takes longer than all the rest.
                let bits = u64::BITS - among.saturating_sub(1).leading_zeros();
                let end = |end: $integer| end.checked_shr(bits).unwrap_or(0);
                (end(<$integer>::MIN)..=end(<$integer>::MAX)).contains(self)
            }
            #[inline]
            fn minus(&mut self, other: &Self) {
                *self = self.saturating_sub(*other);
            }
        }
    )+};
}

integers!(i8: Wide, i16: Wide, i32: Wide, i64: Wide, i128: Widest, isize: Wide);
integers!(u8: u8, u16: u16, u32: u32, u64: u64, u128: u128, usize: usize);

macro_rules! floats {
    ($($float:ty),+) => {$(
        impl Number for $float {
            type Total = Exact;

            #[inline]
            fn plus(&mut self, other: Self) {
                *self += other;
            }
            #[inline]
            fn to_f64(&self) -> f64 {
                f64::from(*self)
            }
        }
    )+};
}

floats!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_numbers_that_fit_do_not_reach_the_end_of_the_range() {
        for among in [1, 2, 3, 7, 8, 9, 128, 129, 300, u64::MAX] {
            let least = (i8::MIN..=i8::MAX).find(|n| n.fits(among)).unwrap();
            let most = (i8::MIN..=i8::MAX).rfind(|n| n.fits(among)).unwrap();
            assert!(i128::from(most) * i128::from(among) <= 127);
            assert!(i128::from(least) * i128::from(among) >= -128);
            let most = (0..=u8::MAX).rfind(|n| n.fits(among)).unwrap();
            assert!(i128::from(most) * i128::from(among) <= 255);
        }
        assert!(i64::MIN.fits(1) && !i64::MIN.fits(2) && i64::MAX.fits(1) && !i64::MAX.fits(2));
        assert!((1u64 << 57).fits(61) && !(1u64 << 58).fits(61));
    }

    #[test]
    fn floating_point_is_not_taken_back() {
        const fn retracts<N: Number>() -> bool {
            N::RETRACTS
        }
        assert!(!retracts::<f64>() && !retracts::<f32>() && retracts::<u8>());
        assert!(!0.0f64.fits(1));
    }
}
