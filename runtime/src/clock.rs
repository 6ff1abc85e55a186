//! Time is read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use tidemill_operators::{Clock, ProcessingTime};

/// The clock of the machine.
pub(crate) fn system_clock() -> Clock {
    Clock::new(|| {
        ProcessingTime(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            // A clock that is set before 1970; rounds down like every other time.
            Err(before) => {
                i64::try_from(before.duration().as_nanos().div_ceil(1_000)).map_or(i64::MIN, |micros| -micros)
            }
        })
    })
}
