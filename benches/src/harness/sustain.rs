//! Whether a rate can be kept up, and which is the greatest that can.

use std::time::Duration;

use serde::Serialize;

use super::run::Measured;
use super::schedule::Load;
use super::slots::Percentiles;
use crate::measure::median;

/// How much greater a figure of the last third may be than that of the middle third.
pub const GROWTH: f64 = 1.2;

/// What a run at one rate says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Trial {
    /// Events a second.
    pub rate: u64,
    /// p99 of the middle third of the run, in microseconds.
    pub p99_middle: f64,
    /// p99 of the last third.
    pub p99_last: f64,
    /// How many events waited in the middle third (median).
    pub waiting_middle: f64,
    /// How many waited in the last third.
    pub waiting_last: f64,
    /// Whether the rate was kept up.
    pub kept_up: bool,
}

impl Trial {
    /// Judges a run. It has kept up if the answer is right, p99 of the last third is at most [`GROWTH`] times that of
    /// the middle third, and as many events wait in the last third as in the middle one, with the same allowance.
    ///
    /// `slack` is what does not count: a p99 below it is flat whatever it does, and so is a backlog of fewer events than
    /// are due in that time. Without it the machine's own noise of a millisecond would decide about a rate at which
    /// everything takes microseconds; in micro-batch it is the interval of the trigger, which the thirds of a short run
    /// do not divide evenly.
    #[must_use]
    pub fn of(load: &Load, measured: &Measured, slack: Duration) -> Trial {
        let third = Duration::from_nanos(load.events * 1_000_000_000 / load.rate / 3);
        let p99 = |from, to| Percentiles::of(&measured.record.between(from, to)).p99;
        let waiting = |from: Duration, to: Duration| {
            let looks =
                measured.backlog.iter().filter(|look| (from..to).contains(&Duration::from_nanos(look.at)));
            median(&looks.map(|look| look.events as f64).collect::<Vec<_>>())
        };
        let mut trial = Trial {
            rate: load.rate,
            p99_middle: p99(third, 2 * third),
            p99_last: p99(2 * third, 3 * third),
            waiting_middle: waiting(third, 2 * third),
            waiting_last: waiting(2 * third, 3 * third),
            kept_up: false,
        };
        trial.kept_up = measured.is_right() && trial.is_flat(slack);
        trial
    }

    fn is_flat(&self, slack: Duration) -> bool {
        let micros = slack.as_secs_f64() * 1e6;
        let events = self.rate as f64 * slack.as_secs_f64();
        self.p99_last <= (GROWTH * self.p99_middle).max(micros)
            && self.waiting_last <= GROWTH * self.waiting_middle + events
    }
}

/// The greatest rate that is kept up, by halving between 0 and `most`, which hardly can be; `steps` is how many rates
/// are tried. `None` if not even the least of them is.
pub fn bisect(most: u64, steps: u32, mut try_rate: impl FnMut(u64) -> Trial) -> (Option<u64>, Vec<Trial>) {
    let (mut low, mut high) = (0_u64, most.max(2));
    let mut trials = Vec::new();
    for _ in 0..steps {
        let rate = low.midpoint(high);
        if rate == low {
            break;
        }
        let trial = try_rate(rate);
        trials.push(trial);
        if trial.kept_up {
            low = rate;
        } else {
            high = rate;
        }
    }
    ((low > 0).then_some(low), trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_finds_the_rate() {
        for limit in [1_000, 437_000, 999_999] {
            let mut tried = 0;
            let (found, trials) = bisect(1_000_000, 12, |rate| {
                tried += 1;
                Trial { rate, kept_up: rate <= limit, ..Trial::default() }
            });
            let found = found.unwrap();
            assert!(found <= limit && limit - found <= 1_000, "{found} for {limit}");
            assert_eq!(trials.len(), tried);
        }
    }

    #[test]
    fn where_nothing_is_kept_up_there_is_no_rate() {
        let always = |kept_up| move |rate| Trial { rate, kept_up, ..Trial::default() };
        assert_eq!(bisect(500, 4, always(false)).0, None);
        assert_eq!(bisect(512, 4, always(true)).0, Some(480));
        // Nothing is left to halve.
        assert_eq!(bisect(2, 9, always(true)).1.len(), 1);
    }

    #[test]
    fn a_rate_is_kept_up_if_neither_latency_nor_backlog_grows() {
        let flat = Trial {
            rate: 1_000,
            p99_middle: 50_000.0,
            p99_last: 59_000.0,
            waiting_middle: 100.0,
            waiting_last: 119.0,
            kept_up: false,
        };
        let slack = Duration::from_millis(1);
        assert!(flat.is_flat(slack));
        assert!(!Trial { p99_last: 61_000.0, ..flat }.is_flat(slack));
        assert!(!Trial { waiting_last: 125.0, ..flat }.is_flat(slack));
        assert!(Trial { p99_middle: 20.0, p99_last: 900.0, ..flat }.is_flat(slack));
        assert!(Trial { waiting_last: 125.0, ..flat }.is_flat(10 * slack));
    }
}
