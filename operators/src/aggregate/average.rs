//! How much on average.

use std::marker::PhantomData;

use super::{Aggregate, Exact, Number, Projection, Total};

/// The arithmetic mean of a number over the records, as `f64`.
///
/// Each number is taken as `f64` (integers above 2⁵³ lose their last digits) and added exactly; the sum and the quotient are
/// rounded. So the result does not depend on the order of the records, nor on how workers divide them.
///
/// ```
/// use tidemill::aggregate::Average;
/// use tidemill::prelude::*;
///
/// let average = Average::of(|order: &(&str, u64)| order.1);
/// let mut acc = average.create(&("tea", 3));
/// average.add(&mut acc, &("salt", 4));
/// assert_eq!(average.finish(&acc), 3.5);
/// ```
pub struct Average<P, T = Exact> {
    number: P,
    total: PhantomData<fn() -> T>,
}

impl<T, N: Number, F: Fn(&T) -> N> Average<Projection<T, N, F>> {
    /// Averages what the function gives for each record.
    pub fn of(number: F) -> Self {
        Average { number: Projection::new(number), total: PhantomData }
    }
}

impl<T, N: Number, F: Fn(&T) -> N> Average<Projection<T, N, F>, f64> {
    /// Averages by plain addition ("naive summation"): less state, and somewhat faster, but every addition rounds, so that the
    /// last digits depend on the order of the records and on the number of workers.
    ///
    /// ```
    /// use tidemill::aggregate::Average;
    /// use tidemill::prelude::*;
    ///
    /// let average = Average::naive(|n: &f64| *n);
    /// let mut acc = average.create(&0.1);
    /// average.add(&mut acc, &0.3);
    /// assert_eq!(average.finish(&acc), 0.2);
    /// ```
    pub fn naive(number: F) -> Self {
        Average { number: Projection::new(number), total: PhantomData }
    }
}

impl<P: Clone, T> Clone for Average<P, T> {
    fn clone(&self) -> Self {
        Average { number: self.number.clone(), total: PhantomData }
    }
}

impl<V, N, F, T> Aggregate for Average<Projection<V, N, F>, T>
where
    V: 'static,
    N: Number,
    F: Fn(&V) -> N + Send + Sync + 'static,
    T: Total<f64>,
{
    type In = V;
    /// The sum and how many numbers are in it.
    type Acc = (T, u64);
    type Out = f64;

    const RETRACTS: bool = T::RETRACTS;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, value: &V) -> (T, u64) {
        (T::of(self.number.of(value).to_f64()), 1)
    }

    #[inline]
    fn add(&self, acc: &mut (T, u64), value: &V) {
        acc.0.add(self.number.of(value).to_f64());
        acc.1 += 1;
    }

    #[inline]
    fn merge(&self, acc: &mut (T, u64), other: (T, u64)) {
        acc.0.merge(other.0);
        acc.1 += other.1;
    }

    #[inline]
    fn finish(&self, acc: &(T, u64)) -> f64 {
        acc.0.value() / acc.1 as f64
    }

    #[inline]
    fn can_retract(&self, acc: &(T, u64), among: u64) -> bool {
        acc.0.can_retract(among)
    }

    #[inline]
    fn retract(&self, acc: &mut (T, u64), of: &(T, u64)) {
        acc.0.retract(&of.0);
        acc.1 -= of.1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn an_average_of_parts_weighs_them_by_their_counts() {
        assert_eq!(over(&Average::of(|n: &u32| *n), &[1, 2, 6]), (3.0, 3.0));
        assert_eq!(over(&Average::naive(|n: &u32| *n), &[1, 2, 6]), (3.0, 3.0));
    }

    #[test]
    fn an_average_adds_exactly() {
        assert_eq!(over(&Average::of(|n: &f64| *n), &[1e100, 0.75, -1e100]), (0.25, 0.25));
        assert_eq!(over(&Average::of(|n: &i64| *n), &[i64::MAX, 6, -i64::MAX]), (2.0, 2.0));
    }
}
