//! The least and the greatest.

use super::{Aggregate, Projection};
use crate::Data;
use crate::keeping::{keep, watch};

/// The least value over the records. A value that does not compare to itself (a floating point NaN) yields to any that
/// does.
///
/// ```
/// use tidemill::aggregate::Min;
/// use tidemill::prelude::*;
///
/// let cheapest = Min::of(|order: &(&str, u64)| order.1);
/// let mut acc = cheapest.create(&("tea", 3));
/// cheapest.add(&mut acc, &("salt", 2));
/// assert_eq!(cheapest.finish(&acc), 2);
/// ```
#[derive(Clone)]
pub struct Min<P> {
    value: P,
}

/// The greatest value over the records. A value that does not compare to itself (a floating point NaN) yields to any
/// that does.
///
/// ```
/// use tidemill::aggregate::Max;
/// use tidemill::prelude::*;
///
/// let dearest = Max::of(|order: &(&str, u64)| order.1);
/// let mut acc = dearest.create(&("tea", 3));
/// dearest.add(&mut acc, &("salt", 2));
/// assert_eq!(dearest.finish(&acc), 3);
/// ```
#[derive(Clone)]
pub struct Max<P> {
    value: P,
}

/// Whether the value is a NaN or the like, which must not stay only because it came first.
fn incomparable<N: PartialOrd>(value: &N) -> bool {
    value.partial_cmp(value).is_none()
}

macro_rules! extreme {
    ($name:ident, $better:tt, $which:literal) => {
        impl<T, N: PartialOrd, F: Fn(&T) -> N> $name<Projection<T, N, F>> {
            #[doc = concat!("The ", $which, " of what the function gives for each record.")]
            pub fn of(value: F) -> Self {
                $name { value: Projection::new(value) }
            }
        }

        impl<T, N, F> Aggregate for $name<Projection<T, N, F>>
        where
            T: 'static,
            N: Data + Clone + PartialOrd,
            F: Fn(&T) -> N + Send + Sync + 'static,
        {
            type In = T;
            type Acc = N;
            type Out = N;

            const OWNS: bool = true;

            #[inline]
            fn create(&self, value: &T) -> N {
                keep(|| self.value.of(value))
            }

            #[inline]
            fn add(&self, acc: &mut N, value: &T) {
                let (other, shares) = watch(|| self.value.of(value));
                if other $better *acc || incomparable(acc) {
                    *acc = if shares { keep(|| other.clone()) } else { other };
                }
            }

            #[inline]
            fn merge(&self, acc: &mut N, other: N) {
                if other $better *acc || incomparable(acc) {
                    *acc = other;
                }
            }

            #[inline]
            fn finish(&self, acc: &N) -> N {
                acc.clone()
            }
        }
    };
}

extreme!(Min, <, "least");
extreme!(Max, >, "greatest");

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn the_extremes_are_found_however_the_records_are_divided() {
        assert_eq!(over(&Min::of(|n: &i32| *n), &[3, -1, 2]), (-1, -1));
        assert_eq!(over(&Max::of(|n: &i32| *n), &[3, -1, 2]), (3, 3));
    }

    #[test]
    fn a_nan_yields_to_any_number_wherever_it_stands() {
        for records in [[f64::NAN, 2.0, 1.0], [2.0, f64::NAN, 1.0], [2.0, 1.0, f64::NAN]] {
            assert_eq!(over(&Min::of(|n: &f64| *n), &records), (1.0, 1.0));
            assert_eq!(over(&Max::of(|n: &f64| *n), &records), (2.0, 2.0));
        }
    }

    #[test]
    fn texts_have_extremes_too() {
        let words = ["mill".to_owned(), "tide".to_owned(), "ebb".to_owned()];
        assert_eq!(over(&Min::of(String::clone), &words).0, "ebb");
    }
}
