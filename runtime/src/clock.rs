//! Time is read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use tidemill_operators::{Clock, ProcessingTime};

/// The clock of the machine.
pub(crate) fn system_clock() -> Clock {
    Clock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ProcessingTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    })
}
