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
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn an_average_of_parts_weighs_them_by_their_counts() {
        assert_eq!(over(&Average::of(|n: &u32| *n), &[1, 2, 6]), (3.0, 3.0));
    }
}
