//! How far apart in event time two rows may be that match.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::EventTime;
use crate::span::words;
use crate::time::micros;

/// The least distance of timers that evict rows: 100 ms. A checkpoint holds timers for rows by their grain, so a later version
/// that changes this must set timers for the rows that it restores.
pub(super) const LEAST_GRAIN: i64 = 100_000;

/// How far the event time of a right row may be from that of the left row it matches: both ends count.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let minutes = |n: u64| Duration::from_secs(60 * n);
/// // The right row is up to a minute older or up to five minutes younger than the left one.
/// assert_eq!(Bounds::between(minutes(1), minutes(5)).to_string(), "-1m..=5m");
/// // It is two to five minutes younger.
/// assert_eq!(Bounds::after(minutes(2)..=minutes(5)).to_string(), "2m..=5m");
/// // It is up to a minute older, and never younger.
/// assert_eq!(Bounds::before(minutes(0)..=minutes(1)).to_string(), "-1m..=0s");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The least `right - left`, in microseconds.
    least: i64,
    /// The greatest.
    greatest: i64,
    /// Whether the spans that were given are finer than event time is.
    is_fractional: bool,
}

impl Bounds {
    /// The right row is at most `before` older and at most `after` younger than the left one.
    pub fn between(before: Duration, after: Duration) -> Self {
        Self::of([before, after], -micros(before), micros(after))
    }

    /// The right row is younger than the left one, by a span in the range.
    pub fn after(span: RangeInclusive<Duration>) -> Self {
        let (start, end) = span.into_inner();
        Self::of([start, end], micros(start), micros(end))
    }

    /// The right row is older than the left one, by a span in the range.
    pub fn before(span: RangeInclusive<Duration>) -> Self {
        let (start, end) = span.into_inner();
        Self::of([start, end], -micros(end), -micros(start))
    }

    fn of(spans: [Duration; 2], least: i64, greatest: i64) -> Self {
        let is_fractional = spans.iter().any(|span| !span.subsec_nanos().is_multiple_of(1_000));
        Bounds { least, greatest, is_fractional }
    }

    /// Returns what is wrong with them.
    pub(super) fn problem(self) -> Option<String> {
        if self.is_fractional {
            return Some(
                "the bounds are not whole numbers of microseconds: event time has a resolution of one microsecond; \
                 round them"
                    .to_owned(),
            );
        }
        let is_empty = self.least > self.greatest;
        is_empty.then(|| {
            format!("no two rows can be within the bounds {self}: the first must not exceed the second")
        })
    }

    /// The times of right rows that match a left row.
    pub(super) fn of_left(self, left: EventTime) -> RangeInclusive<EventTime> {
        shift(left, self.least)..=shift(left, self.greatest)
    }

    /// The times of left rows that match a right row.
    pub(super) fn of_right(self, right: EventTime) -> RangeInclusive<EventTime> {
        shift(right, -self.greatest)..=shift(right, -self.least)
    }

    /// How much later than a left row, in microseconds, the last right row is that matches it; less than zero if all are earlier.
    pub(super) fn reach_of_left(self) -> i64 {
        self.greatest
    }

    /// How much later than a right row, in microseconds, the last left row is that matches it.
    pub(super) fn reach_of_right(self) -> i64 {
        -self.least
    }

    /// How far apart, in microseconds, the first and the last row are that match a row.
    pub(super) fn width(self) -> i64 {
        self.greatest.saturating_sub(self.least)
    }
}

/// Both ends, as a setting of the operator has them.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |micros: i64| {
            let sign = if micros < 0 { "-" } else { "" };
            format!("{sign}{}", words(Duration::from_micros(micros.unsigned_abs())))
        };
        write!(f, "{}..={}", span(self.least), span(self.greatest))
    }
}

/// A time moved by that many microseconds; saturates at the ends of time.
pub(super) fn shift(time: EventTime, micros: i64) -> EventTime {
    EventTime::from_micros(time.as_micros().saturating_add(micros))
}

/// The first multiple of `grain` microseconds at or after a time; the end of time if there is none.
#[inline]
pub(super) fn round_up(time: EventTime, grain: i64) -> EventTime {
    let micros = time.as_micros();
    let rest = micros.rem_euclid(grain);
    EventTime::from_micros(if rest == 0 { micros } else { micros.saturating_add(grain - rest) })
}
