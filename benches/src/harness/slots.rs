//! Latencies by the time at which their event was due: a histogram for every slot of 250 ms, and so one in total.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// How long a slot is.
pub const SLOT: Duration = Duration::from_millis(250);
const SLOT_NANOS: u64 = SLOT.as_nanos() as u64;

/// A histogram of nanoseconds from 1 to a minute, with three digits.
///
/// # Panics
/// Never: the bounds are valid.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

/// A histogram for every slot. Recording finds its histogram there: nothing is allocated, nothing is locked, and only
/// one is written to.
#[derive(Clone, Debug)]
pub struct Slots(Vec<Histogram<u32>>);

impl Slots {
    /// For events that are due within `nanos` after the beginning.
    ///
    /// # Panics
    /// Never: the bounds are valid.
    #[must_use]
    pub fn over(nanos: u64) -> Slots {
        let slots = nanos.div_ceil(SLOT_NANOS).max(1) as usize;
        let one = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid");
        Slots(vec![one; slots])
    }

    /// Records the latency of `count` events that were due then, all in nanoseconds.
    #[inline]
    pub fn record(&mut self, due: u64, latency: u64, count: u32) {
        let slot = ((due / SLOT_NANOS) as usize).min(self.0.len() - 1);
        self.0[slot].saturating_record_n(latency.max(1), count);
    }

    /// Adds what another worker has recorded.
    ///
    /// # Panics
    /// If it recorded over another time.
    pub fn merge(&mut self, other: &Slots) {
        assert_eq!(self.0.len(), other.0.len(), "slots of one run");
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            own.add(other).expect("the histograms have the same bounds");
        }
    }

    /// All slots that begin at or after `warmup`, in one.
    #[must_use]
    pub fn total(&self, warmup: Duration) -> Histogram<u64> {
        self.between(warmup, Duration::MAX)
    }

    /// All slots that begin in that time, in one.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Histogram<u64> {
        let mut total = histogram();
        for (_, slot) in self.iter().filter(|(at, _)| (from..to).contains(at)) {
            for value in slot.iter_recorded() {
                // The bounds are the same, so the value has its place.
                total.saturating_record_n(value.value_iterated_to(), value.count_at_value().into());
            }
        }
        total
    }

    /// The slots, each with when it begins.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, &Histogram<u32>)> {
        (0..).zip(&self.0).map(|(at, slot)| (SLOT * at, slot))
    }
}

/// The figures of a histogram, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half are at most this.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds.
    #[must_use]
    pub fn of<C: hdrhistogram::Counter>(histogram: &Histogram<C>) -> Percentiles {
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
        if histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
            mean: histogram.mean() / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn an_event_is_recorded_where_it_was_due_however_late_it_is() {
        let mut slots = Slots::over(SECOND);
        slots.record(0, 10, 1);
        slots.record(SLOT_NANOS - 1, 3 * SECOND, 2);
        slots.record(SLOT_NANOS, 20, 1);
        slots.record(5 * SECOND, 30, 1);
        let counts: Vec<u64> = slots.iter().map(|(_, slot)| slot.len()).collect();
        assert_eq!(counts, [3, 1, 0, 1]);
        assert_eq!(slots.total(Duration::ZERO).len(), 5);
        assert!(slots.total(Duration::ZERO).max() >= 3 * SECOND);
    }

    #[test]
    fn what_is_due_while_warming_up_is_cut_off() {
        let mut slots = Slots::over(SECOND);
        for due in [0, SLOT_NANOS, 2 * SLOT_NANOS] {
            slots.record(due, 1_000 + due, 1);
        }
        let total = slots.total(SLOT);
        assert_eq!((total.len(), total.min()), (2, total.lowest_equivalent(1_000 + SLOT_NANOS)));
    }

    #[test]
    fn workers_are_added_up() {
        let (mut one, mut other) = (Slots::over(SECOND), Slots::over(SECOND));
        one.record(0, 10, 1);
        other.record(0, 20, 4);
        other.record(SLOT_NANOS, 1, 1);
        one.merge(&other);
        let counts: Vec<u64> = one.iter().map(|(_, slot)| slot.len()).collect();
        assert_eq!(counts, [5, 1, 0, 0]);
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut all = histogram();
        (1..=1_000).for_each(|micros| all.record(micros * 1_000).unwrap());
        let figures = Percentiles::of(&all);
        for (figure, expected) in
            [(figures.p50, 500.0), (figures.p99, 990.0), (figures.max, 1_000.0), (figures.mean, 500.5)]
        {
            assert!((figure / expected - 1.0).abs() < 0.002, "{figure} is not {expected}");
        }
    }
}
