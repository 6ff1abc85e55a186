//! How much numbers differ from their mean.

use serde::{Deserialize, Serialize};

use super::{Aggregate, Exact, Number, Projection, Total};

/// The number of records, their mean and their variance, as [`Spread`].
///
/// Numbers and their squares are added exactly, each square with the part that a float has no room for. Only the sum of the squares
/// of the differences from the mean is rounded, and then its quotient. So the result does not depend on the order of the records, nor
/// on how workers divide them, and is right where the mean is large and the variance small. State: two exact totals and a count, 40
/// bytes and more where exponents differ much.
///
/// Where the sum of the numbers is beyond 1.34 × 10¹⁵⁴, its square has no room in `f64`, and the variance is infinite or not a number.
///
/// ```
/// use tidemill::aggregate::Variance;
/// use tidemill::prelude::*;
///
/// let graph = Graph::new("spread of waiting times");
/// let (sink, table) = memory_sink();
/// graph
///     .source(memory([("a", 1_000_001.0), ("a", 1_000_003.0), ("b", 7.0)]))
///     .key_by(|row| row.0.to_owned())
///     .aggregate(Variance::of(|row: &(&str, f64)| row.1))
///     .update()
///     .sink(sink);
/// graph.run(Options::default())?;
/// let mut rows = table.snapshot();
/// rows.sort_by(|one, other| one.0.cmp(&other.0));
/// let (a, b) = (rows[0].1, rows[1].1);
/// assert_eq!((a.count, a.mean, a.variance, a.sample_variance()), (2, 1_000_002.0, 1.0, Some(2.0)));
/// assert_eq!((b.variance, b.sample_variance()), (0.0, None));
/// # Ok::<(), RunError>(())
/// ```
pub struct Variance<P> {
    number: P,
}

impl<T, N: Number, F: Fn(&T) -> N> Variance<Projection<T, N, F>> {
    /// Takes what the function gives for each record, as `f64`: integers above 2⁵³ lose their last digits.
    pub fn of(number: F) -> Self {
        Variance { number: Projection::new(number) }
    }
}

impl<P: Clone> Clone for Variance<P> {
    fn clone(&self) -> Self {
        Variance { number: self.number.clone() }
    }
}

/// What [`Variance`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The number of records.
    pub count: u64,
    /// Their arithmetic mean.
    pub mean: f64,
    /// The mean of the squares of the differences from the mean: the variance of these records ("population variance").
    pub variance: f64,
}

impl Spread {
    /// Returns the square root of the variance.
    pub fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }

    /// Returns the estimate of the variance of all that the records are a sample of, which divides by one record less; `None` for
    /// one record.
    pub fn sample_variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.variance * (self.count as f64 / (self.count - 1) as f64))
    }
}

/// The product of two floats and what rounding took from it.
#[inline]
fn product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// Adds a product without rounding.
#[inline]
fn add_product(total: &mut Exact, a: f64, b: f64) {
    let (product, missing) = product(a, b);
    total.add(product);
    if missing != 0.0 {
        total.add(missing);
    }
}

/// The sum of the squares of the differences from the mean, times the number of records: the one thing that cancels, computed exactly
/// and rounded once.
fn differences(sum: &Exact, squares: &Exact, count: f64) -> f64 {
    let mut total = <Exact as Total<f64>>::of(0.0);
    squares.parts().iter().for_each(|part| add_product(&mut total, count, *part));
    let parts = sum.parts();
    for a in &parts {
        parts.iter().for_each(|b| add_product(&mut total, -a, *b));
    }
    total.value()
}

impl<V, N, F> Aggregate for Variance<Projection<V, N, F>>
where
    V: 'static,
    N: Number,
    F: Fn(&V) -> N + Send + Sync + 'static,
{
    type In = V;
    /// The sum of the numbers, that of their squares, and how many there are.
    type Acc = (Exact, Exact, u64);
    type Out = Spread;

    const RETRACTS: bool = true;

    const OWNS: bool = true;

    fn create(&self, value: &V) -> Self::Acc {
        let number = self.number.of(value).to_f64();
        let mut squares = <Exact as Total<f64>>::of(0.0);
        add_product(&mut squares, number, number);
        (Exact::of(number), squares, 1)
    }

    #[inline]
    fn add(&self, (sum, squares, count): &mut Self::Acc, value: &V) {
        let number = self.number.of(value).to_f64();
        sum.add(number);
        add_product(squares, number, number);
        *count += 1;
    }

    fn merge(&self, (sum, squares, count): &mut Self::Acc, other: Self::Acc) {
        Total::<f64>::merge(sum, other.0);
        Total::<f64>::merge(squares, other.1);
        *count += other.2;
    }

    fn finish(&self, (sum, squares, count): &Self::Acc) -> Spread {
        let (total, n): (f64, f64) = (sum.value(), *count as f64);
        Spread { count: *count, mean: total / n, variance: differences(sum, squares, n) / n / n }
    }

    fn can_retract(&self, (sum, squares, _): &Self::Acc, among: u64) -> bool {
        Total::<f64>::can_retract(sum, among) && Total::<f64>::can_retract(squares, among)
    }

    fn retract(&self, (sum, squares, count): &mut Self::Acc, of: &Self::Acc) {
        Total::<f64>::retract(sum, &of.0);
        Total::<f64>::retract(squares, &of.1);
        *count -= of.2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::over;
    use super::*;

    fn variance_of(numbers: &[f64]) -> Spread {
        let (whole, merged) = over(&Variance::of(|n: &f64| *n), numbers);
        assert_eq!(format!("{whole:?}"), format!("{merged:?}"));
        whole
    }

    #[test]
    fn a_large_mean_hides_no_variance() {
        let near = |mean: f64| variance_of(&[mean + 4.0, mean + 7.0, mean + 13.0, mean + 16.0]);
        for mean in [0.0, 1e9, 1e15, -1e15] {
            assert_eq!((near(mean).mean, near(mean).variance), (mean + 10.0, 22.5), "{mean}");
        }
        assert_eq!(near(1e9).sample_variance(), Some(30.0));
        assert_eq!(near(1e9).deviation(), 22.5f64.sqrt());
    }

    #[test]
    fn equal_numbers_have_no_variance() {
        for number in [0.1, 1.0 / 3.0, 1e-160, 1e150, -7.7e77] {
            assert_eq!(variance_of(&[number; 7]).variance, 0.0, "{number}");
        }
    }

    #[test]
    fn squares_beyond_the_range_are_no_finite_variance() {
        assert!(!variance_of(&[1e200, 2e200]).variance.is_finite());
        assert!(variance_of(&[f64::INFINITY, 1.0]).variance.is_nan());
        assert!(variance_of(&[f64::NAN, 1.0]).variance.is_nan());
    }

    #[test]
    fn retracted_records_leave_no_trace() {
        let variance = Variance::of(|n: &f64| *n);
        let of = |numbers: &[f64]| {
            let mut acc = variance.create(&numbers[0]);
            numbers[1..].iter().for_each(|n| variance.add(&mut acc, n));
            acc
        };
        let mut all = of(&[0.1, 0.7, 1e12, -3.3]);
        assert!(variance.can_retract(&all, 9));
        variance.retract(&mut all, &of(&[1e12, -3.3]));
        assert_eq!(variance.finish(&all), variance.finish(&of(&[0.1, 0.7])));
    }

    proptest! {
        /// Whole numbers, whose variance over all of them 128 bits have room for.
        #[test]
        fn a_variance_is_that_of_whole_numbers(
            numbers in prop::collection::vec(-1_000_000i64..1_000_000, 2..40),
            shift in prop_oneof![Just(0i64), Just(4_000_000_000_000_000), -1_000_000_000..1_000_000_000i64],
        ) {
            let numbers: Vec<i64> = numbers.iter().map(|n| n + shift).collect();
            let n = numbers.len() as i128;
            let sum: i128 = numbers.iter().map(|n| i128::from(*n)).sum();
            let squares: i128 = numbers.iter().map(|n| i128::from(*n) * i128::from(*n)).sum();
            let exact = (n * squares - sum * sum) as f64 / (n * n) as f64;
            let floats: Vec<f64> = numbers.iter().map(|n| *n as f64).collect();
            let found = variance_of(&floats);
            prop_assert!((found.variance - exact).abs() <= exact * 1e-15, "{} {exact}", found.variance);
            prop_assert_eq!(found.count, numbers.len() as u64);
            let mut turned = floats;
            turned.reverse();
            prop_assert_eq!(variance_of(&turned), found);
        }
    }
}
