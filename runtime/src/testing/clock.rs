//! A clock that only the test advances.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemill_operators::{Clock, ProcessingTime};

/// Simulated processing time, which begins at 1970-01-01T00:00:00Z. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use tidemill::ProcessingTime;
/// use tidemill::testing::SimClock;
///
/// let clock = SimClock::new();
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), ProcessingTime::from_micros(2_000_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    now: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock at the beginning of 1970.
    pub fn new() -> Self {
        SimClock::default()
    }

    /// The time.
    pub fn now(&self) -> ProcessingTime {
        ProcessingTime::from_micros(self.now.load(Ordering::SeqCst))
    }

    /// Sets the time, which may be earlier than the current one.
    pub fn set(&self, now: ProcessingTime) {
        self.now.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Advances the time.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::new(move || clock.now())
    }
}
