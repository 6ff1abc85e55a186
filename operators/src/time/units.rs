//! Serde helpers for event times that are numbers in another unit than microseconds.
//!
//! ```
//! use tidemill::prelude::*;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Click {
//!     user: u64,
//!     #[serde(with = "tidemill::units::millis")]
//!     at: EventTime,
//! }
//!
//! let click: Click = serde_json::from_str(r#"{"user": 7, "at": 1772366400000}"#)?;
//! assert_eq!(click.at.to_string(), "2026-03-01T12:00:00Z");
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! In formats for people (JSON, CSV) the number is read and written in that unit, and a time as RFC 3339 writes it is read too. In
//! binary formats, such as checkpoints, a time is kept to the microsecond, as [`EventTime`] alone is.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::EventTime;

/// Event times as numbers of milliseconds since 1970-01-01T00:00:00Z: `#[serde(with = "tidemill::units::millis")]`.
pub mod millis {
    use super::*;

    /// Writes the milliseconds since 1970, rounded down.
    ///
    /// # Errors
    ///
    /// Those of the format.
    pub fn serialize<S: Serializer>(time: &EventTime, serializer: S) -> Result<S::Ok, S::Error> {
        write(*time, time.as_millis(), serializer)
    }

    /// Reads milliseconds since 1970, with a fraction if there is one, or a time as RFC 3339 writes it.
    ///
    /// # Errors
    ///
    /// If the value is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventTime, D::Error> {
        read(Unit { name: "milliseconds", micros: 1_000 }, deserializer)
    }
}

/// Event times as numbers of seconds since 1970-01-01T00:00:00Z: `#[serde(with = "tidemill::units::secs")]`.
pub mod secs {
    use super::*;

    /// Writes the seconds since 1970, rounded down.
    ///
    /// # Errors
    ///
    /// Those of the format.
    pub fn serialize<S: Serializer>(time: &EventTime, serializer: S) -> Result<S::Ok, S::Error> {
        write(*time, time.as_secs(), serializer)
    }

    /// Reads seconds since 1970, with a fraction if there is one, or a time as RFC 3339 writes it.
    ///
    /// # Errors
    ///
    /// If the value is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventTime, D::Error> {
        read(Unit { name: "seconds", micros: 1_000_000 }, deserializer)
    }
}

#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    micros: i64,
}

fn write<S: Serializer>(time: EventTime, number: i64, serializer: S) -> Result<S::Ok, S::Error> {
    // The ends of time are no numbers of any unit.
    if serializer.is_human_readable() && time != EventTime::MIN && time != EventTime::MAX {
        serializer.serialize_i64(number)
    } else {
        time.serialize(serializer)
    }
}

fn read<'de, D: Deserializer<'de>>(unit: Unit, deserializer: D) -> Result<EventTime, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(unit)
    } else {
        EventTime::deserialize(deserializer)
    }
}

impl Visitor<'_> for Unit {
    type Value = EventTime;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} since 1970, or a time like 2026-03-01T12:00:00Z", self.name)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<EventTime, E> {
        if number == i64::MIN || number == i64::MAX {
            return Ok(EventTime::from_micros(number));
        }
        let micros = number.checked_mul(self.micros);
        micros
            .map(EventTime::from_micros)
            .ok_or_else(|| E::custom(format_args!("{number} {} are out of range", self.name)))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<EventTime, E> {
        self.visit_i64(i64::try_from(number).map_err(E::custom)?)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<EventTime, E> {
        let micros = (number * self.micros as f64).round();
        // 2^63, the first float that 64 bits do not hold.
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros) {
            return Err(E::custom(format_args!("{number} {} are out of range", self.name)));
        }
        Ok(EventTime::from_micros(micros as i64))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<EventTime, E> {
        text.parse().map_err(|error| E::custom(format_args!("{error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Copy)]
    struct Both {
        #[serde(with = "super::millis")]
        millis: EventTime,
        #[serde(with = "super::secs")]
        secs: EventTime,
    }

    fn both(micros: i64) -> Both {
        Both { millis: EventTime::from_micros(micros), secs: EventTime::from_micros(micros) }
    }

    #[test]
    fn numbers_are_read_in_their_unit() {
        let read = |text: &str| serde_json::from_str::<Both>(text).unwrap();
        assert_eq!(read(r#"{"millis": 1500, "secs": 1.5}"#), both(1_500_000));
        assert_eq!(read(r#"{"millis": -1, "secs": -0.001}"#), both(-1_000));
        assert_eq!(read(r#"{"millis": "1970-01-01T00:00:02Z", "secs": 2}"#), both(2_000_000));
    }

    #[test]
    fn numbers_are_written_in_their_unit_rounded_down() {
        let written = serde_json::to_string(&both(-1)).unwrap();
        assert_eq!(written, r#"{"millis":-1,"secs":-1}"#);
        for end in [i64::MIN, i64::MAX] {
            let written = serde_json::to_string(&both(end)).unwrap();
            assert_eq!(serde_json::from_str::<Both>(&written).unwrap(), both(end));
        }
    }

    #[test]
    fn binary_formats_keep_microseconds() {
        let bytes = postcard::to_stdvec(&both(1_234_567)).unwrap();
        assert_eq!(postcard::from_bytes::<Both>(&bytes).unwrap(), both(1_234_567));
        assert_eq!(crate::schema::probe::<Both>().unwrap().to_string(), "Both { millis, secs }");
    }

    #[test]
    fn number_out_of_range_is_refused() {
        for text in ["9300000000000000000", "-9223372036854775", "1e30", "true"] {
            let json = format!(r#"{{"millis": 0, "secs": {text}}}"#);
            assert!(serde_json::from_str::<Both>(&json).is_err(), "{text}");
        }
    }
}
