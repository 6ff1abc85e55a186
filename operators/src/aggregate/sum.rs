//! How much.

use super::{Aggregate, Number, Projection};

/// The sum of a number over the records; of the number's own type, and integers stop at the end of its range.
///
/// ```
/// use tidemill_operators::Aggregate;
/// use tidemill_operators::aggregate::Sum;
///
/// let sum = Sum::of(|order: &(&str, u64)| order.1);
/// let mut acc = sum.create(&("tea", 3));
/// sum.add(&mut acc, &("salt", 4));
/// assert_eq!(sum.finish(&acc), 7);
/// ```
#[derive(Clone)]
pub struct Sum<P> {
    number: P,
}

impl<T, N: Number, F: Fn(&T) -> N> Sum<Projection<T, N, F>> {
    /// Sums what the function gives for each record.
    pub fn of(number: F) -> Self {
        Sum { number: Projection::new(number) }
    }
}

impl<T, N, F> Aggregate for Sum<Projection<T, N, F>>
where
    T: 'static,
    N: Number,
    F: Fn(&T) -> N + Send + Sync + 'static,
{
    type In = T;
    type Acc = N;
    type Out = N;

    const RETRACTS: bool = N::RETRACTS;

    #[inline]
    fn create(&self, value: &T) -> N {
        self.number.of(value)
    }

    #[inline]
    fn add(&self, acc: &mut N, value: &T) {
        acc.plus(self.number.of(value));
    }

    #[inline]
    fn merge(&self, acc: &mut N, other: N) {
        acc.plus(other);
    }

    #[inline]
    fn finish(&self, acc: &N) -> N {
        acc.clone()
    }

    #[inline]
    fn can_retract(&self, acc: &N, among: u64) -> bool {
        acc.fits(among)
    }

    #[inline]
    fn retract(&self, acc: &mut N, of: &N) {
        acc.minus(of);
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn sums_add_up_however_the_records_are_divided() {
        assert_eq!(over(&Sum::of(|n: &i64| *n), &[5, -7, 9]), (7, 7));
        assert_eq!(over(&Sum::of(|n: &f64| *n), &[0.5, 0.25, 2.0]), (2.75, 2.75));
    }

    #[test]
    fn an_integer_sum_stops_at_the_end_of_its_range() {
        assert_eq!(over(&Sum::of(|n: &u8| *n), &[200, 100]), (255, 255));
        assert_eq!(over(&Sum::of(|n: &i64| *n), &[i64::MIN, -1]), (i64::MIN, i64::MIN));
    }
}
