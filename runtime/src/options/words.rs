//! Settings that are a word or two on a command line: trigger, idle policy, restart policy.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_operators::ParseOptionError;

#[cfg(doc)]
use super::Options;

/// When an epoch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Trigger {
    /// As soon as the last one is done and input is available.
    #[default]
    Asap,
    /// At the multiples of an interval since 1970-01-01T00:00:00Z, if input is available.
    ///
    /// If an epoch takes longer than the interval, the next one begins at once. So do replayed epochs, which an earlier
    /// run planned and did not commit. Continuous mode refuses this trigger, since
    /// [`checkpoint_interval`](Options::checkpoint_interval) ends its epochs.
    Every(Duration),
    /// Reads all input available at the start, in as many epochs as the limits require; then stops.
    AvailableNow,
    /// Reads all input available at the start, as one epoch; then stops.
    Once,
}

impl Trigger {
    /// Whether the query reads the input available when it starts, and then ends.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Trigger::AvailableNow | Trigger::Once)
    }
}

impl FromStr for Trigger {
    type Err = ParseOptionError;
    fn from_str(text: &str) -> Result<Self, ParseOptionError> {
        match text {
            "asap" => Ok(Trigger::Asap),
            "available-now" => Ok(Trigger::AvailableNow),
            "once" => Ok(Trigger::Once),
            other => parse_duration(other)
                .map(|d| if d.is_zero() { Trigger::Asap } else { Trigger::Every(d) })
                .map_err(|_| {
                    ParseOptionError::new(other, "`asap`, `available-now`, `once` or a time like `500ms`")
                }),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Asap => f.write_str("asap"),
            Trigger::AvailableNow => f.write_str("available-now"),
            Trigger::Once => f.write_str("once"),
            Trigger::Every(interval) => write!(f, "{}us", interval.as_micros()),
        }
    }
}

impl TryFrom<String> for Trigger {
    type Error = ParseOptionError;
    fn try_from(text: String) -> Result<Self, ParseOptionError> {
        text.parse()
    }
}

impl From<Trigger> for String {
    fn from(trigger: Trigger) -> String {
        trigger.to_string()
    }
}

/// What an idle worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Idle {
    /// It parks until it is woken: no CPU time, some microseconds to wake up.
    #[default]
    Park,
    /// It polls for this long before it parks, and before a time at which a timer or a source is due: lower latency, more CPU
    /// time.
    Spin(Duration),
}

impl Idle {
    /// For how long it polls.
    pub(crate) fn polls_for(self) -> Duration {
        match self {
            Idle::Park => Duration::ZERO,
            Idle::Spin(duration) => duration,
        }
    }
}

impl FromStr for Idle {
    type Err = ParseOptionError;
    fn from_str(text: &str) -> Result<Self, ParseOptionError> {
        match text.split_once(':') {
            None if text == "park" => Ok(Idle::Park),
            Some(("spin", duration)) => parse_duration(duration).map(Idle::Spin),
            _ => Err(ParseOptionError::new(text, "`park` or like `spin:50us`")),
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Idle::Park => f.write_str("park"),
            Idle::Spin(duration) => write!(f, "spin:{}us", duration.as_micros()),
        }
    }
}

impl TryFrom<String> for Idle {
    type Error = ParseOptionError;
    fn try_from(text: String) -> Result<Self, ParseOptionError> {
        text.parse()
    }
}

impl From<Idle> for String {
    fn from(idle: Idle) -> String {
        idle.to_string()
    }
}

/// The policy after a failure of a source, a sink, or a function of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Restart {
    /// The query ends with the error.
    #[default]
    Never,
    /// The query resumes from its checkpoint, a limited number of times. Needs a checkpoint.
    Times {
        /// Maximum of restarts.
        times: u32,
        /// Delay before the first restart; it doubles each time.
        backoff: Duration,
    },
}

impl Restart {
    /// How long to wait before the next start, after this many; none if there is to be none.
    pub(crate) fn wait(self, restarts: u32) -> Option<Duration> {
        match self {
            Restart::Times { times, backoff } if restarts < times => {
                Some(backoff.saturating_mul(1 << restarts.min(16)))
            }
            _ => None,
        }
    }
}

impl FromStr for Restart {
    type Err = ParseOptionError;
    fn from_str(text: &str) -> Result<Self, ParseOptionError> {
        if text == "never" {
            return Ok(Restart::Never);
        }
        let (times, backoff) = text.split_once(':').unwrap_or((text, "1s"));
        let wrong = || ParseOptionError::new(text, "`never` or like `3` or `3:1s`");
        let times = times.parse().map_err(|_| wrong())?;
        Ok(Restart::Times { times, backoff: parse_duration(backoff).map_err(|_| wrong())? })
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restart::Never => f.write_str("never"),
            Restart::Times { times, backoff } => write!(f, "{times}:{}us", backoff.as_micros()),
        }
    }
}

impl TryFrom<String> for Restart {
    type Error = ParseOptionError;
    fn try_from(text: String) -> Result<Self, ParseOptionError> {
        text.parse()
    }
}

impl From<Restart> for String {
    fn from(restart: Restart) -> String {
        restart.to_string()
    }
}

/// Reads `500ms`, `1s`, `1.5s`, `50us`, `2m`, `1h` or `0`.
///
/// Not with `jiff` or `humantime`: both refuse `.5s` and times above their range, which count as the longest here.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, ParseOptionError> {
    let wrong = || ParseOptionError::new(text, "a time like `500ms`, `1s` or `50us`");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let micros = match unit {
        "us" | "µs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" | "min" => 60e6,
        "h" => 3600e6,
        "" if number == 0.0 => 0.0,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_micros((number * micros).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, micros) in [
            ("500ms", 500_000),
            ("1.5s", 1_500_000),
            (".5s", 500_000),
            ("50us", 50),
            ("2m", 120_000_000),
            ("0", 0),
            ("999999999999999999h", u64::MAX),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "5", "five", "5 parsecs", "-1s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
