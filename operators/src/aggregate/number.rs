//! What can be summed.

use crate::Data;

/// A number as sums and averages need it. Implement it for your own (a decimal, an amount of money) to sum that.
///
/// ```
/// use tidemill_operators::aggregate::Number;
///
/// let mut total = 250u8;
/// total.plus(10);
/// assert_eq!(total, u8::MAX);
/// ```
pub trait Number: Data + Clone {
    /// Adds to this one. Must not panic, and the order of additions should not matter: integers saturate at the ends
    /// of their range; floating point rounds as it does.
    fn plus(&mut self, other: Self);

    /// The nearest 64-bit floating point value.
    fn to_f64(&self) -> f64;
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl Number for $integer {
            #[inline]
            fn plus(&mut self, other: Self) {
                *self = self.saturating_add(other);
            }
            #[inline]
            fn to_f64(&self) -> f64 {
                *self as f64
            }
        }
    )+};
}

integers!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

macro_rules! floats {
    ($($float:ty),+) => {$(
        impl Number for $float {
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
