//! A sum of floats as one long fixed-point number, in bins that hold carries back.
//!
//! After R. M. Neal, "Fast exact summation using small and large superaccumulators" (2015): every finite float is a whole
//! multiple of 2⁻¹⁰⁷⁴, so a sum is a whole number of some 2,200 bits. It is kept as digits of 32 bits in bins of 64; an
//! addition changes three bins, and carries are passed on only when bins could run full. Here only the bins between the
//! lowest and the highest digit so far are there.

use serde::{Deserialize, Serialize};

use super::exact::Round;

/// This many additions have room in a bin.
const ROOM: u32 = 1 << 30;
/// The bits of a digit.
const DIGIT: u32 = 32;
/// The bits of infinity.
const INFINITY: u64 = f64::INFINITY.to_bits();

/// A sum of floats.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Bins {
    /// The lowest first; the first one counts 2^(32 · `first` − 1074).
    bins: Vec<i64>,
    first: u16,
    /// No bin is beyond (`added` + 1) · 2³².
    added: u32,
    nan: bool,
    /// Whether there was an infinity, above and below zero.
    infinite: [bool; 2],
}

impl Bins {
    pub(super) fn add(&mut self, number: f64) {
        let bits = number.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as u32;
        if exponent == 0x7ff {
            let [above, below] = &mut self.infinite;
            *above |= number == f64::INFINITY;
            *below |= number == f64::NEG_INFINITY;
            self.nan |= number.is_nan();
            return;
        }
        let fraction = bits & ((1 << 52) - 1);
        let significand = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        if significand == 0 {
            return;
        }
        let position = exponent.max(1) - 1;
        let digits = u128::from(significand) << (position % DIGIT);
        let sign = if number < 0.0 { -1 } else { 1 };
        let place = self.place((position / DIGIT) as usize, 3);
        for (place, bin) in (0..3).zip(self.bins.iter_mut().skip(place)) {
            *bin = bin.wrapping_add(sign * i64::from((digits >> (place * DIGIT)) as u32));
        }
        self.added = self.added.saturating_add(1);
        if self.added >= ROOM {
            self.carry();
        }
    }

    /// Adds what another one has, or takes it away.
    pub(super) fn join(&mut self, other: &Bins, takes: bool) {
        let carried;
        let mut other = other;
        if self.added.saturating_add(other.added) >= ROOM {
            self.carry();
            let mut copy = other.clone();
            copy.carry();
            carried = copy;
            other = &carried;
        }
        let place = self.place(usize::from(other.first), other.bins.len());
        for (bin, theirs) in self.bins.iter_mut().skip(place).zip(&other.bins) {
            *bin = if takes { bin.wrapping_sub(*theirs) } else { bin.wrapping_add(*theirs) };
        }
        self.added = self.added.saturating_add(other.added).saturating_add(1);
        self.nan |= other.nan;
        for (mine, theirs) in self.infinite.iter_mut().zip(other.infinite) {
            *mine |= theirs;
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        !self.nan && self.infinite == [false; 2]
    }

    /// Makes room for `bins` bins from `first` on. Returns the index of the first one.
    fn place(&mut self, first: usize, bins: usize) -> usize {
        if self.bins.is_empty() {
            self.first = first as u16;
        }
        let mine = usize::from(self.first);
        if first < mine {
            self.bins.splice(0..0, std::iter::repeat_n(0, mine - first));
            self.first = first as u16;
        }
        let place = first.saturating_sub(mine);
        if self.bins.len() < place + bins {
            self.bins.resize(place + bins, 0);
        }
        place
    }

    /// Passes carries on, which makes room for as many additions again.
    fn carry(&mut self) {
        let carry = carry(&mut self.bins);
        if carry != 0 {
            self.bins.push(carry);
        }
        self.added = 1;
    }

    pub(super) fn value(&self, round: Round) -> f64 {
        match (self.nan, self.infinite) {
            (true, _) | (_, [true, true]) => return f64::NAN,
            (_, [true, _]) => return f64::INFINITY,
            (_, [_, true]) => return f64::NEG_INFINITY,
            _ => {}
        }
        let mut digits = self.bins.clone();
        let mut top = carry(&mut digits);
        let negative = top < 0;
        if negative {
            digits = self.bins.iter().map(|bin| bin.wrapping_neg()).collect();
            top = carry(&mut digits);
        }
        // What is beyond the last bin is less than a bin.
        digits.extend([top & 0xffff_ffff, top >> DIGIT]);
        let Some(highest) = digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
        // The highest three digits have 65 significant bits or more; of what is below them only counts whether it is zero.
        let digit = |below: usize| highest.checked_sub(below).and_then(|place| digits.get(place)).copied();
        let head = (0..3)
            .fold(0u128, |head, below| head << DIGIT | u128::from(digit(below).unwrap_or(0).cast_unsigned()));
        let more = digits.iter().take(highest.saturating_sub(2)).any(|digit| *digit != 0);
        let lowest = (i64::from(self.first) + highest as i64 - 2) * i64::from(DIGIT);
        let length = i64::from(u128::BITS - head.leading_zeros());
        // The position of the last bit of the result; subnormals end at 0.
        let last = (lowest + length - 53).max(0);
        let dropped = (last - lowest) as u32;
        let (mut kept, rest) = ((head >> dropped) as u64, head & ((1 << dropped) - 1));
        let half = 1u128 << (dropped - 1);
        match round {
            Round::Nearest => kept += u64::from(rest > half || rest == half && (more || kept & 1 == 1)),
            Round::Odd => kept |= u64::from(rest > 0 || more),
        }
        // The leading bit of a normal number adds one to the exponent, as does one that comes of rounding up.
        let bits = if last > 0x7fe { INFINITY } else { ((last as u64) << 52) + kept };
        let magnitude = f64::from_bits(bits.min(INFINITY));
        if negative { -magnitude } else { magnitude }
    }
}

/// Makes each bin a digit, from 0 to 2³² − 1, but for what is left over at the end, with its sign.
fn carry(bins: &mut [i64]) -> i64 {
    let mut carry = 0i64;
    for bin in bins {
        let sum = bin.wrapping_add(carry);
        *bin = sum & 0xffff_ffff;
        carry = sum >> DIGIT;
    }
    carry
}
