//! How much.

use std::marker::PhantomData;

use super::{Aggregate, Number, Projection, Total};

/// The sum of a number over the records, of the number's own type.
///
/// The result does not depend on the order of the records, nor on how workers divide them: only the result is rounded
/// (floating point), or stops at the end of its range (integers). In between, the number's [`Total`](Number::Total) is exact.
///
/// ```
/// use tidemill::aggregate::Sum;
/// use tidemill::prelude::*;
///
/// let sum = Sum::of(|order: &(&str, f64)| order.1);
/// let mut acc = sum.create(&("tea", 1e100));
/// sum.add(&mut acc, &("salt", 0.1));
/// sum.add(&mut acc, &("tea, returned", -1e100));
/// assert_eq!(sum.finish(&acc), 0.1);
/// ```
pub struct Sum<P, T> {
    number: P,
    total: PhantomData<fn() -> T>,
}

impl<T, N: Number, F: Fn(&T) -> N> Sum<Projection<T, N, F>, N::Total> {
    /// Sums what the function gives for each record.
    pub fn of(number: F) -> Self {
        Sum { number: Projection::new(number), total: PhantomData }
    }
}

impl<T, N: Number, F: Fn(&T) -> N> Sum<Projection<T, N, F>, N> {
    /// Sums by plain addition ("naive summation"): less state, and somewhat faster, but every addition rounds or saturates,
    /// so that the result depends on the order of the records and on the number of workers.
    ///
    /// ```
    /// use tidemill::aggregate::Sum;
    /// use tidemill::prelude::*;
    ///
    /// let sum = Sum::naive(|n: &f64| *n);
    /// let mut acc = sum.create(&1e100);
    /// sum.add(&mut acc, &0.1);
    /// sum.add(&mut acc, &-1e100);
    /// assert_eq!(sum.finish(&acc), 0.0);
    /// ```
    pub fn naive(number: F) -> Self {
        Sum { number: Projection::new(number), total: PhantomData }
    }
}

impl<P: Clone, T> Clone for Sum<P, T> {
    fn clone(&self) -> Self {
        Sum { number: self.number.clone(), total: PhantomData }
    }
}

impl<V, N, F, T> Aggregate for Sum<Projection<V, N, F>, T>
where
    V: 'static,
    N: Number,
    F: Fn(&V) -> N + Send + Sync + 'static,
    T: Total<N>,
{
    type In = V;
    type Acc = T;
    type Out = N;

    const RETRACTS: bool = T::RETRACTS;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, value: &V) -> T {
        T::of(self.number.of(value))
    }

    #[inline]
    fn add(&self, acc: &mut T, value: &V) {
        acc.add(self.number.of(value));
    }

    #[inline]
    fn merge(&self, acc: &mut T, other: T) {
        acc.merge(other);
    }

    #[inline]
    fn finish(&self, acc: &T) -> N {
        acc.value()
    }

    #[inline]
    fn can_retract(&self, acc: &T, among: u64) -> bool {
        acc.can_retract(among)
    }

    #[inline]
    fn retract(&self, acc: &mut T, of: &T) {
        acc.retract(of);
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
        assert_eq!(over(&Sum::of(|n: &f32| *n), &[1e30, 0.25, -1e30]), (0.25, 0.25));
        assert_eq!(over(&Sum::naive(|n: &f64| *n), &[1e100, 0.25, -1e100]), (0.0, 0.0));
    }

    #[test]
    fn an_integer_sum_stops_at_the_end_of_its_range() {
        assert_eq!(over(&Sum::of(|n: &u8| *n), &[200, 100]), (255, 255));
        assert_eq!(over(&Sum::of(|n: &i64| *n), &[i64::MIN, -1]), (i64::MIN, i64::MIN));
        assert_eq!(over(&Sum::of(|n: &i8| *n), &[100, 100, -100, -100]), (0, 0));
    }
}
