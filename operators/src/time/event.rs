//! When something happened.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{TimeRangeError, between, micros, micros_up, of_system_time};

/// The time at which an event happened, in microseconds since 1970-01-01T00:00:00Z.
///
/// It is taken from the record, not from a clock. Times before 1970 are negative.
///
/// In text formats (JSON, CSV) it is written as RFC 3339 in UTC, and read from RFC 3339 or from a number of
/// microseconds. In binary formats, such as that of checkpoints, it is the number. Fields that hold milliseconds or
/// seconds are read with [`units::millis`](crate::units::millis) and [`units::secs`](crate::units::secs).
///
/// ```
/// use tidemill::prelude::*;
/// use std::time::Duration;
///
/// let noon: EventTime = "2026-03-01T12:00:00Z".parse()?;
/// assert_eq!((noon + Duration::from_secs(90)).to_string(), "2026-03-01T12:01:30Z");
/// # Ok::<(), tidemill::ParseTimeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventTime(i64);

impl EventTime {
    /// The least time: the watermark of a stream before its first record.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// The greatest time: the watermark of a stream that has ended.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// Returns the time `micros` microseconds after 1970-01-01T00:00:00Z.
    #[inline]
    pub const fn from_micros(micros: i64) -> Self {
        EventTime(micros)
    }

    /// Returns the time `millis` milliseconds after 1970-01-01T00:00:00Z; saturates at the ends of time.
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        EventTime(millis.saturating_mul(1_000))
    }

    /// Returns the time `secs` seconds after 1970-01-01T00:00:00Z; saturates at the ends of time.
    #[inline]
    pub const fn from_secs(secs: i64) -> Self {
        EventTime(secs.saturating_mul(1_000_000))
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    #[inline]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the whole milliseconds since 1970-01-01T00:00:00Z, rounded down.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// assert_eq!(EventTime::from_micros(1_999).as_millis(), 1);
    /// assert_eq!(EventTime::from_micros(-1).as_millis(), -1);
    /// ```
    #[inline]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Returns the whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[inline]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the duration from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: EventTime) -> Duration {
        between(earlier.0, self.0)
    }
}

/// Rounds down to a microsecond.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tidemill::prelude::*;
///
/// let time = EventTime::try_from(SystemTime::UNIX_EPOCH + Duration::from_millis(5))?;
/// assert_eq!(time, EventTime::from_millis(5));
/// # Ok::<(), tidemill::TimeRangeError>(())
/// ```
impl TryFrom<SystemTime> for EventTime {
    type Error = TimeRangeError;
    fn try_from(time: SystemTime) -> Result<Self, TimeRangeError> {
        of_system_time(time).map(EventTime)
    }
}

/// Rounds down to a microsecond. With the feature `jiff`.
#[cfg(feature = "jiff")]
impl From<jiff::Timestamp> for EventTime {
    fn from(time: jiff::Timestamp) -> Self {
        of_timestamp(time)
    }
}

/// Fails for times outside the range of `jiff`, such as [`EventTime::MAX`]. With the feature `jiff`.
#[cfg(feature = "jiff")]
impl TryFrom<EventTime> for jiff::Timestamp {
    type Error = jiff::Error;
    fn try_from(time: EventTime) -> Result<Self, jiff::Error> {
        jiff::Timestamp::from_microsecond(time.0)
    }
}

impl Serialize for EventTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() && jiff::Timestamp::from_microsecond(self.0).is_ok() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl serde::de::Visitor<'_> for Reads {
            type Value = EventTime;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time like 2026-03-01T12:00:00Z, or microseconds since 1970")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EventTime, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, micros: i64) -> Result<EventTime, E> {
                Ok(EventTime(micros))
            }
            fn visit_u64<E: serde::de::Error>(self, micros: u64) -> Result<EventTime, E> {
                i64::try_from(micros).map(EventTime).map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Reads)
        } else {
            i64::deserialize(deserializer).map(EventTime)
        }
    }
}

/// Rounds down to a microsecond.
impl std::ops::Add<Duration> for EventTime {
    type Output = EventTime;
    #[inline]
    fn add(self, duration: Duration) -> EventTime {
        EventTime(self.0.saturating_add(micros(duration)))
    }
}

/// Rounds down to a microsecond.
impl std::ops::Sub<Duration> for EventTime {
    type Output = EventTime;
    #[inline]
    fn sub(self, duration: Duration) -> EventTime {
        EventTime(self.0.saturating_sub(micros_up(duration)))
    }
}

/// RFC 3339 in UTC; the ends of time, which no calendar reaches, print as `-∞` and `+∞`.
impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventTime::MIN => f.pad("-∞"),
            EventTime::MAX => f.pad("+∞"),
            EventTime(micros) => match jiff::Timestamp::from_microsecond(micros) {
                Ok(time) => f.pad(&time.to_string()),
                Err(_) => write!(f, "{micros}µs"),
            },
        }
    }
}

impl fmt::Debug for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a date and time as RFC 3339 writes them.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a time like 2026-03-01T12:00:00Z")]
pub struct ParseTimeError {
    text: String,
    source: jiff::Error,
}

/// Rounds down to a microsecond, before 1970 as well.
impl std::str::FromStr for EventTime {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp =
            text.parse().map_err(|source| ParseTimeError { text: text.to_owned(), source })?;
        Ok(of_timestamp(time))
    }
}

/// A timestamp lies between the years -9999 and 9999, which 64 bits of microseconds hold.
fn of_timestamp(time: jiff::Timestamp) -> EventTime {
    EventTime(i64::try_from(time.as_nanosecond().div_euclid(1_000)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_prints_as_it_parses() {
        for text in ["2026-03-01T12:22:13.260535Z", "1969-12-31T23:59:59.999999Z"] {
            assert_eq!(text.parse::<EventTime>().unwrap().to_string(), text);
        }
        assert_eq!("1969-12-31T23:59:59.999999Z".parse::<EventTime>().unwrap(), EventTime(-1));
    }

    #[test]
    fn times_below_a_microsecond_round_down_on_both_sides_of_1970() {
        let micros = |text: &str| text.parse::<EventTime>().unwrap().as_micros();
        assert_eq!(micros("1969-12-31T23:59:59.999999999Z"), -1);
        assert_eq!(micros("1969-12-31T23:59:59.9999981Z"), -2);
        assert_eq!(micros("1970-01-01T00:00:00.000001999Z"), 1);
        let nanos = Duration::from_nanos;
        assert_eq!(EventTime(5) - nanos(1), EventTime(4));
        assert_eq!(EventTime(5) - nanos(2_000), EventTime(3));
        assert_eq!(EventTime(-5) + nanos(1_999), EventTime(-4));
    }

    #[test]
    fn times_are_rfc_3339_for_people_and_numbers_in_checkpoints() {
        let time: EventTime = "2026-03-01T12:22:13.260535Z".parse().unwrap();
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-03-01T12:22:13.260535Z\"");
        assert_eq!(serde_json::from_str::<EventTime>(&json).unwrap(), time);
        assert_eq!(serde_json::from_str::<EventTime>("-5").unwrap(), EventTime(-5));
        for end in [EventTime::MIN, EventTime::MAX] {
            assert_eq!(
                serde_json::from_str::<EventTime>(&serde_json::to_string(&end).unwrap()).unwrap(),
                end
            );
        }
        let bytes = postcard::to_stdvec(&time).unwrap();
        assert_eq!(postcard::from_bytes::<EventTime>(&bytes).unwrap(), time);
    }

    #[test]
    fn arithmetic_saturates_at_the_ends_of_time() {
        assert_eq!(EventTime::MAX + Duration::from_secs(1), EventTime::MAX);
        assert_eq!(EventTime::MIN - Duration::MAX, EventTime::MIN);
    }

    #[test]
    fn a_text_that_is_no_time_says_so() {
        let error = "noon".parse::<EventTime>().unwrap_err();
        assert!(error.to_string().starts_with("`noon` is not a time"), "{error}");
    }

    #[test]
    fn system_times_round_down_on_both_sides_of_1970() {
        let (epoch, nanos) = (SystemTime::UNIX_EPOCH, Duration::from_nanos);
        assert_eq!(EventTime::try_from(epoch + nanos(1_999)), Ok(EventTime(1)));
        assert_eq!(EventTime::try_from(epoch - nanos(1)), Ok(EventTime(-1)));
        assert_eq!(EventTime::try_from(epoch - nanos(1_000)), Ok(EventTime(-1)));
        let far = epoch.checked_add(Duration::from_secs(1 << 62)).unwrap();
        assert_eq!(EventTime::try_from(far), Err(TimeRangeError(())));
    }
}
