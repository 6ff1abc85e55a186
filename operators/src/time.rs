//! The three clocks of a stream: when a thing happened, when it is processed, and which commit it belongs to.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When something happened, by the data's own account: microseconds since 1970-01-01T00:00:00Z.
///
/// Negative values are times before 1970 and are as good as any other.
///
/// In formats for people (JSON, CSV) it is written as RFC 3339 in UTC, and read as that or as a number of microseconds;
/// in others, such as checkpoints, it is the number.
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
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: the watermark of a stream that has shown nothing yet.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After every event: the watermark of a stream that has ended.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// The time that many microseconds after 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        EventTime(micros)
    }

    /// The time that many milliseconds after 1970-01-01T00:00:00Z; saturates at the ends of time.
    pub const fn from_millis(millis: i64) -> Self {
        EventTime(millis.saturating_mul(1_000))
    }

    /// The time that many seconds after 1970-01-01T00:00:00Z; saturates at the ends of time.
    pub const fn from_secs(secs: i64) -> Self {
        EventTime(secs.saturating_mul(1_000_000))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: EventTime) -> Duration {
        Duration::from_micros(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
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
#[error("`{text}` is not a time like 2026-03-01T12:00:00Z: {reason}")]
pub struct ParseTimeError {
    text: String,
    reason: String,
}

/// Rounds down to a microsecond, before 1970 as well.
impl std::str::FromStr for EventTime {
    type Err = ParseTimeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|e: jiff::Error| ParseTimeError { text: text.to_owned(), reason: e.to_string() })?;
        let micros = time.as_nanosecond().div_euclid(1_000);
        i64::try_from(micros)
            .map(EventTime)
            .map_err(|e| ParseTimeError { text: text.to_owned(), reason: e.to_string() })
    }
}

/// When the engine looks at its own clock: microseconds since 1970-01-01T00:00:00Z.
///
/// In micro-batch all records of an epoch see one reading, which is logged with the epoch; so a replay sees it too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessingTime(pub i64);

impl std::ops::Add<Duration> for ProcessingTime {
    type Output = ProcessingTime;
    fn add(self, duration: Duration) -> ProcessingTime {
        ProcessingTime(self.0.saturating_add(micros(duration)))
    }
}

impl ProcessingTime {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: ProcessingTime) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The unit of commit: everything of an epoch becomes visible and durable together, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
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
        let micros = |text: &str| text.parse::<EventTime>().unwrap().0;
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
}
