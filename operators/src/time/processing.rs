//! When the engine looks at its clock.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{EventTime, TimeRangeError, between, micros, of_system_time};

/// When the engine looks at its own clock: microseconds since 1970-01-01T00:00:00Z.
///
/// In micro-batch all records of an epoch see one reading, which is logged with the epoch; so a replay sees it too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessingTime(i64);

impl ProcessingTime {
    /// Returns the time `micros` microseconds after 1970-01-01T00:00:00Z.
    #[inline]
    pub const fn from_micros(micros: i64) -> Self {
        ProcessingTime(micros)
    }

    /// Returns the time `millis` milliseconds after 1970-01-01T00:00:00Z; saturates at the ends of time.
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        ProcessingTime(millis.saturating_mul(1_000))
    }

    /// Returns the time `secs` seconds after 1970-01-01T00:00:00Z; saturates at the ends of time.
    #[inline]
    pub const fn from_secs(secs: i64) -> Self {
        ProcessingTime(secs.saturating_mul(1_000_000))
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    #[inline]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the whole milliseconds since 1970-01-01T00:00:00Z, rounded down.
    #[inline]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Returns the whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[inline]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns how long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: ProcessingTime) -> Duration {
        between(earlier.0, self.0)
    }
}

impl std::ops::Add<Duration> for ProcessingTime {
    type Output = ProcessingTime;
    fn add(self, duration: Duration) -> ProcessingTime {
        ProcessingTime(self.0.saturating_add(micros(duration)))
    }
}

/// Rounds down to a microsecond.
impl TryFrom<SystemTime> for ProcessingTime {
    type Error = TimeRangeError;
    fn try_from(time: SystemTime) -> Result<Self, TimeRangeError> {
        of_system_time(time).map(ProcessingTime)
    }
}

/// RFC 3339 in UTC, as [`EventTime`] is written.
impl fmt::Display for ProcessingTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&EventTime::from_micros(self.0), f)
    }
}

impl fmt::Debug for ProcessingTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
