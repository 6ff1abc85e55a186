//! Floating-point sums without rounding before the end.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::Total;
use super::bins::Bins;

/// The exact total of floating-point numbers: the sum is rounded once, when it is read. So it does not depend on the order of
/// additions, nor on how the numbers were divided and merged: infinities, NaN, the zero below zero, subnormals and a total
/// that leaves the range on its way and comes back included.
///
/// Two floats while they hold the total exactly, some 106 bits; most sums never need more. Otherwise a list of 32-bit
/// digits in 64-bit bins as long as the numbers' range of exponents, at most 69.
///
/// The pair is that of D. E. Knuth's exact addition ("TwoSum", The Art of Computer Programming, volume 2, 4.2.2); the bins
/// are those of R. M. Neal, "Fast exact summation using small and large superaccumulators" (2015).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exact(Form);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Form {
    /// The total is the exact sum of the two. Where the second is zero, the first is the total, the sign of a zero
    /// included. A single number may be NaN or infinite.
    Pair(f64, f64),
    Bins(Box<Bins>),
}

/// How a total is rounded to a float.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// To the nearest, of two to the even one.
    Nearest,
    /// To the neighbour whose last bit is set, if the total is no float: rounded once more, to a shorter float, it becomes
    /// what the total itself would (S. Boldo and G. Melquiond, 2008).
    Odd,
}

/// The float nearest to a sum, and what is missing. The second is not a number if the sum leaves the range.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    let of_a = sum - of_b;
    (sum, (a - of_a) + (b - of_b))
}

impl Exact {
    #[inline(always)]
    fn plus(&mut self, number: f64) {
        if let Form::Pair(sum, rest) = &mut self.0 {
            let (next, missing) = two_sum(*sum, number);
            let (more, lost) = two_sum(*rest, missing);
            // Also false where anything was not finite.
            if lost == 0.0 {
                (*sum, *rest) = (next, more);
                return;
            }
        }
        self.plus_in_bins(number);
    }

    #[inline(never)]
    fn plus_in_bins(&mut self, number: f64) {
        self.bins().add(number);
    }

    /// The bins, which take over from the pair.
    fn bins(&mut self) -> &mut Bins {
        if let Form::Pair(sum, rest) = self.0 {
            let mut bins = Box::<Bins>::default();
            bins.add(sum);
            bins.add(rest);
            self.0 = Form::Bins(bins);
        }
        match &mut self.0 {
            Form::Bins(bins) => bins,
            Form::Pair(..) => unreachable!("the bins have taken over"),
        }
    }

    fn join(&mut self, other: &Exact, sign: f64) {
        match &other.0 {
            Form::Pair(sum, rest) => {
                self.plus(sign * sum);
                // A zero would take the sign of a zero away.
                if *rest != 0.0 {
                    self.plus(sign * rest);
                }
            }
            Form::Bins(bins) => self.bins().join(bins, sign < 0.0),
        }
    }

    fn round(&self, round: Round) -> f64 {
        let value = match &self.0 {
            Form::Pair(sum, 0.0) => *sum,
            Form::Pair(sum, rest) => {
                let (sum, missing) = two_sum(*sum, *rest);
                if round == Round::Odd && missing != 0.0 && sum.to_bits() & 1 == 0 {
                    let outwards = (missing > 0.0) == (sum > 0.0);
                    f64::from_bits(if outwards { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
                } else {
                    sum
                }
            }
            Form::Bins(bins) => bins.value(round),
        };
        if value.is_nan() { f64::NAN } else { value }
    }

    /// The total as a sum of floats, each the nearest to what the ones before it leave. One that is not finite is alone.
    pub(super) fn parts(&self) -> SmallVec<[f64; 2]> {
        let (mut rest, mut parts) = (self.clone(), SmallVec::new());
        loop {
            let nearest = rest.round(Round::Nearest);
            parts.push(nearest);
            rest.plus(-nearest);
            if !nearest.is_finite() || rest.round(Round::Nearest) == 0.0 {
                return parts;
            }
        }
    }

    /// Whether there are bins.
    #[cfg(test)]
    pub(super) fn has_bins(&self) -> bool {
        matches!(self.0, Form::Bins(_))
    }
}

macro_rules! exact {
    ($($float:ty: $round:expr),+) => {$(
        impl Total<$float> for Exact {
            const RETRACTS: bool = true;

            #[inline]
            fn of(number: $float) -> Exact {
                Exact(Form::Pair(f64::from(number), 0.0))
            }
            #[inline]
            fn add(&mut self, number: $float) {
                self.plus(f64::from(number));
            }
            #[inline]
            fn merge(&mut self, other: Exact) {
                self.join(&other, 1.0);
            }
            #[inline]
            fn value(&self) -> $float {
                self.round($round) as $float
            }
            /// Not where something would be left of it: an infinity, NaN, the sign of a zero.
            #[inline]
            fn can_retract(&self, _among: u64) -> bool {
                match &self.0 {
                    Form::Pair(sum, _) => sum.is_finite() && (*sum != 0.0 || sum.is_sign_positive()),
                    Form::Bins(bins) => bins.is_finite(),
                }
            }
            #[inline]
            fn retract(&mut self, of: &Exact) {
                self.join(of, -1.0);
            }
        }
    )+};
}

exact!(f32: Round::Odd, f64: Round::Nearest);

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
