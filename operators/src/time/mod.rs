//! The three clocks of a stream: when a thing happened, when it is processed, and which commit it belongs to.

mod epoch;
mod event;
mod processing;
pub mod units;

use std::time::{Duration, SystemTime};

pub use self::epoch::Epoch;
pub use self::event::{EventTime, ParseTimeError};
pub use self::processing::ProcessingTime;

/// The time is further from 1970 than 64 bits of microseconds reach: 292,000 years.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the time is more than 292,000 years away from 1970: it does not fit into 64 bits of microseconds")]
pub struct TimeRangeError(());

/// Returns a span of time in whole microseconds, rounded down; saturates at `i64::MAX` (292,000 years).
#[inline]
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Returns a span of time in whole microseconds, rounded up: what is subtracted from a time that is rounded down.
#[inline]
fn micros_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// Returns how long `later` is after `earlier`, both in microseconds; zero if it is not.
fn between(earlier: i64, later: i64) -> Duration {
    Duration::from_micros(u64::try_from(i128::from(later) - i128::from(earlier)).unwrap_or(0))
}

/// Returns microseconds since 1970, rounded down before 1970 as well.
fn of_system_time(time: SystemTime) -> Result<i64, TimeRangeError> {
    let micros = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()),
        Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000)).map(|micros| -micros),
    };
    micros.map_err(|_| TimeRangeError(()))
}
