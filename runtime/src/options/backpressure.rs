//! How many records an epoch reads of a source with a backlog.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tidemill_operators::{Mode, ParseOptionError};

use super::{Options, Trigger};
use crate::RunError;

/// How many records an epoch reads of a source with a backlog (micro-batch).
///
/// ```
/// use tidemill::{Backpressure, Pid};
///
/// assert_eq!("pid".parse(), Ok(Backpressure::Pid(Pid::default())));
/// assert_eq!("epochs".parse(), Ok(Backpressure::default()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Backpressure {
    /// As many as take about 12 ms, or twice the time of a commit. A backlog is read in epochs that follow each other at
    /// once, whatever the trigger's interval is.
    #[default]
    Epochs,
    /// One epoch per interval of the trigger, with as many records as are processed within the interval. A controller
    /// estimates how many these are.
    Pid(Pid),
}

/// The PID controller of [`Backpressure::Pid`]: after each epoch it sets the rate of a source, in records per second.
///
/// The controller is the one of Spark's DStreams. With `n` records that took `d` seconds the epoch's own rate is `n / d`. Then
///
/// ```text
/// error = rate - n / d
/// rate  = max(min_rate, rate - proportional * error - integral * backlog - derivative * change of error per second)
/// ```
///
/// where `backlog` is the number of records that arrived late: the epoch's own rate times the delay with which the epoch
/// began, per second of the interval. An epoch reads `rate * interval` records of the source, divided evenly among its partitions,
/// and at least one of each. The first epoch with records only initialises the rate. It is not in the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pid {
    /// The weight of the difference between the rate and the last epoch's own rate.
    pub proportional: f64,
    /// The weight of the records that have accumulated.
    pub integral: f64,
    /// The weight of the change of that difference.
    pub derivative: f64,
    /// The lowest rate, in records per second.
    pub min_rate: f64,
}

impl Default for Pid {
    fn default() -> Self {
        Pid { proportional: 1.0, integral: 0.2, derivative: 0.0, min_rate: 100.0 }
    }
}

impl Pid {
    fn is_valid(self) -> bool {
        let weights = [self.proportional, self.integral, self.derivative];
        let is_weight = |weight: f64| weight.is_finite() && weight >= 0.0;
        weights.into_iter().all(is_weight) && self.min_rate.is_finite() && self.min_rate > 0.0
    }
}

const EXPECTED: &str =
    "`epochs`, `pid`, or `pid:1,0.2,0,100` (proportional, integral, derivative, lowest rate per second)";

impl FromStr for Backpressure {
    type Err = ParseOptionError;
    fn from_str(text: &str) -> Result<Self, ParseOptionError> {
        let refuse = || ParseOptionError::new(text, EXPECTED);
        match text {
            "epochs" => return Ok(Backpressure::Epochs),
            "pid" => return Ok(Backpressure::Pid(Pid::default())),
            _ => {}
        }
        let numbers = text.strip_prefix("pid:").ok_or_else(refuse)?;
        let numbers: Vec<f64> =
            numbers.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| refuse())?;
        let [proportional, integral, derivative, min_rate] = *numbers else { return Err(refuse()) };
        let pid = Pid { proportional, integral, derivative, min_rate };
        if pid.is_valid() { Ok(Backpressure::Pid(pid)) } else { Err(refuse()) }
    }
}

impl fmt::Display for Backpressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backpressure::Epochs => f.write_str("epochs"),
            Backpressure::Pid(Pid { proportional, integral, derivative, min_rate }) => {
                write!(f, "pid:{proportional},{integral},{derivative},{min_rate}")
            }
        }
    }
}

impl TryFrom<String> for Backpressure {
    type Error = ParseOptionError;
    fn try_from(text: String) -> Result<Self, ParseOptionError> {
        text.parse()
    }
}

impl From<Backpressure> for String {
    fn from(backpressure: Backpressure) -> String {
        backpressure.to_string()
    }
}

impl Options {
    /// Sets how many records an epoch reads of a source with a backlog (micro-batch). [`Backpressure::Pid`] needs an
    /// interval as the trigger.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    /// use tidemill::{Backpressure, Pid};
    ///
    /// let options = Options::default()
    ///     .with_trigger(Trigger::Every(Duration::from_secs(1)))
    ///     .with_backpressure(Backpressure::Pid(Pid { min_rate: 1_000.0, ..Pid::default() }));
    /// assert_eq!(options.backpressure.to_string(), "pid:1,0.2,0,1000");
    /// ```
    #[must_use]
    pub fn with_backpressure(mut self, backpressure: Backpressure) -> Self {
        self.backpressure = backpressure;
        self
    }

    pub(super) fn check_backpressure(&self) -> Result<(), RunError> {
        let Backpressure::Pid(pid) = self.backpressure else { return Ok(()) };
        let option = "--backpressure";
        if !pid.is_valid() {
            let problem = format!(
                "weights must be finite and at least 0, the lowest rate greater than 0 (got {pid:?})"
            );
            return Err(RunError::Options { option, problem });
        }
        if self.mode == Mode::Continuous || !matches!(self.trigger, Trigger::Every(_)) {
            let problem = "`pid` sets the size of the epoch of each interval: use it with --mode micro-batch and an \
                           interval, like --trigger 1s, or leave it out";
            return Err(RunError::Options { option, problem: problem.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_forms_are_read_as_they_are_written() {
        for text in ["epochs", "pid:1,0.2,0,100", "pid:0.5,0,0.25,1"] {
            assert_eq!(text.parse::<Backpressure>().unwrap().to_string(), text);
        }
        for text in
            ["", "PID", "pid:", "pid:1", "pid:1,2,3,0", "pid:-1,0,0,1", "pid:NaN,0,0,1", "pid:1,2,3,4,5"]
        {
            let refused = text.parse::<Backpressure>().unwrap_err().to_string();
            assert!(refused.contains("`pid`"), "{refused}");
        }
    }

    #[test]
    fn pid_without_an_interval_is_refused() {
        let pid = Options::default().with_backpressure(Backpressure::Pid(Pid::default()));
        for options in
            [pid.clone(), pid.clone().with_mode(Mode::Continuous), pid.clone().with_trigger(Trigger::Once)]
        {
            assert!(options.check().unwrap_err().to_string().starts_with("--backpressure: "));
        }
        pid.clone().with_trigger(Trigger::Every(Duration::from_secs(1))).check().unwrap();
        let wrong = Backpressure::Pid(Pid { min_rate: 0.0, ..Pid::default() });
        let wrong = pid.with_trigger(Trigger::Every(Duration::from_secs(1))).with_backpressure(wrong);
        assert!(wrong.check().unwrap_err().to_string().contains("min_rate: 0.0"));
    }
}
