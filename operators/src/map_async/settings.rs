//! How requests are made: how many at once, for how long, how often.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the requests of a [`map_async`](crate::Stream::map_async) are made.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let requests = Requests::at_most(100).unordered().with_timeout(Duration::from_secs(2)).with_retry(Retry::attempts(3));
/// assert_eq!(requests.to_string(), "at most 100, unordered, 2s, 3 attempts");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    pub(super) capacity: usize,
    pub(super) is_ordered: bool,
    pub(super) timeout: Duration,
    pub(super) retry: Retry,
}

impl Requests {
    /// Limits the requests in flight on each worker.
    ///
    /// While as many are in flight, no more are begun, and sources pause. Results are emitted in the order of their rows, so an answer
    /// that waits for an earlier one counts too. A request times out after 10 s and is made once.
    pub const fn at_most(in_flight: usize) -> Requests {
        let retry = Retry::attempts(1);
        Requests { capacity: in_flight, is_ordered: true, timeout: Duration::from_secs(10), retry }
    }

    /// Emits each result as soon as it comes, instead of in the order of the rows.
    #[must_use]
    pub const fn unordered(self) -> Requests {
        Requests { is_ordered: false, ..self }
    }

    /// Sets the time after which an attempt has failed.
    ///
    /// An epoch and a stop wait for the requests in flight: all attempts with the time between them should take less than
    /// `stop_timeout`.
    #[must_use]
    pub const fn with_timeout(self, timeout: Duration) -> Requests {
        Requests { timeout, ..self }
    }

    /// Sets how often a request that fails or times out is made.
    #[must_use]
    pub const fn with_retry(self, retry: Retry) -> Requests {
        Requests { retry, ..self }
    }

    /// Returns what is wrong with the settings.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = if self.capacity == 0 {
            "the requests in flight must be at least 1 (got 0): see `Requests::at_most`"
        } else if self.timeout.is_zero() {
            "the timeout of a request must be greater than zero (got 0s): see `Requests::with_timeout`"
        } else if self.retry.attempts == 0 {
            "the attempts of a request must be at least 1 (got 0): see `Retry::attempts`"
        } else {
            return None;
        };
        Some(problem.to_owned())
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.is_ordered { "ordered" } else { "unordered" };
        write!(f, "at most {}, {order}, {:?}", self.capacity, self.timeout)?;
        match self.retry.attempts {
            1 => Ok(()),
            attempts => write!(f, ", {attempts} attempts"),
        }
    }
}

/// How often a request that fails or times out is made, and the time between its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub(super) attempts: u32,
    first: Duration,
    most: Duration,
}

impl Retry {
    /// Makes a request up to that many times.
    ///
    /// The second attempt begins 100 ms after the first has failed; this time doubles with each attempt, up to 10 s.
    pub const fn attempts(attempts: u32) -> Retry {
        Retry { attempts, first: Duration::from_millis(100), most: Duration::from_secs(10) }
    }

    /// Sets the time before the second attempt; it doubles with each attempt, up to `most`.
    #[must_use]
    pub const fn with_backoff(self, first: Duration, most: Duration) -> Retry {
        Retry { first, most, ..self }
    }

    /// The time between an attempt, counted from 1, and the next one.
    pub(super) fn after(&self, attempt: u32) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let retry = Retry::attempts(9).with_backoff(Duration::from_millis(50), Duration::from_millis(300));
        let waits: Vec<_> = (1..=5).map(|attempt| retry.after(attempt).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 300, 300]);
        assert_eq!(retry.after(u32::MAX), Duration::from_millis(300));
    }

    #[test]
    fn settings_of_zero_are_refused() {
        assert_eq!(Requests::at_most(1).problem(), None);
        let refused = [
            Requests::at_most(0),
            Requests::at_most(1).with_timeout(Duration::ZERO),
            Requests::at_most(1).with_retry(Retry::attempts(0)),
        ];
        assert!(refused.iter().all(|requests| requests.problem().is_some_and(|it| it.contains("(got 0"))));
    }
}
