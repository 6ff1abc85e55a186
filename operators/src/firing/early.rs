//! When windows fire before their end.

use std::time::Duration;

use crate::ProcessingTime;
use crate::span::{span_problem, words};

/// When a window fires before its end: after a number of records, after a span of time, or both.
///
/// A restart may change it: windows that are open then fire by the new one.
///
/// It is Beam's early trigger, and Flink's `CountTrigger` and `ContinuousProcessingTimeTrigger`.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let early = Early::every_records(1_000).or_every(Duration::from_secs(1));
/// assert_eq!(early.to_string(), "every 1000 records or 1s");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Early {
    records: Option<u64>,
    interval: Option<Duration>,
    /// Whether the windows had been given another one before.
    is_second: bool,
}

impl Early {
    /// Fires once a window of a key has had `records` records since it last fired.
    ///
    /// It fires with all records that have come together: in micro-batch at the end of the epoch, in continuous mode at the end of
    /// an activation. So it fires with at least that many, as Beam's `elementCountAtLeast` does. For results of exactly `n`
    /// records there are [count windows](crate::KeyedStream::count_window).
    pub fn every_records(records: u64) -> Self {
        Early { records: Some(records), interval: None, is_second: false }
    }

    /// Fires `interval` after the first record since the window last fired, by the engine's clock.
    ///
    /// In micro-batch it fires in the first epoch whose clock has come to that time, before the records of the epoch. A due firing
    /// begins an epoch by itself, but not before the trigger: with `Trigger::Every(t)` the time since the first record's epoch is
    /// `interval`, rounded up to a multiple of `t`.
    pub fn every(interval: Duration) -> Self {
        Early { records: None, interval: Some(interval), is_second: false }
    }

    /// Fires after that number of records, too.
    #[must_use]
    pub fn or_every_records(self, records: u64) -> Self {
        Early { records: Some(records), ..self }
    }

    /// Fires after that time, too.
    #[must_use]
    pub fn or_every(self, interval: Duration) -> Self {
        Early { interval: Some(interval), ..self }
    }

    /// The policy of windows that have one already, which is a mistake.
    pub(super) fn again(self, second: Early) -> Early {
        Early { is_second: true, ..second }
    }

    /// Whether it fires after `fresh` records.
    #[inline]
    pub(super) fn fires_after(&self, fresh: u64) -> bool {
        self.records.is_some_and(|records| fresh >= records)
    }

    /// When a window fires that has had its first record at `now`.
    #[inline]
    pub(super) fn fires_at(&self, now: ProcessingTime) -> Option<ProcessingTime> {
        self.interval.map(|interval| now + interval)
    }

    /// Why it cannot work, if it cannot.
    pub(super) fn problem(&self) -> Option<String> {
        let none = (self.records == Some(0)).then(|| {
            "a window cannot fire every 0 records: choose at least 1, which fires with each record".to_owned()
        });
        let twice = || {
            self.is_second.then(|| {
                "`.early(…)` is called twice: give it both conditions at once, as in \
                 `Early::every_records(n).or_every(interval)`"
                    .to_owned()
            })
        };
        none.or_else(twice).or_else(|| span_problem("interval of early firing", self.interval?))
    }
}

impl std::fmt::Display for Early {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let records = self.records.map(|records| format!("{records} records"));
        let parts: Vec<String> = records.into_iter().chain(self.interval.map(words)).collect();
        write!(f, "every {}", parts.join(" or "))
    }
}
