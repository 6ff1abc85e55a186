//! Time is read in one place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidemill_operators::{Clock, ProcessingTime};

/// The clock of a query: the wall clock at its start, and monotonic time since. Setting the machine's clock while the
/// query runs changes nothing. In a simulation: the simulated time.
pub(crate) fn engine_clock() -> Clock {
    if let Some(clock) = crate::sim::clock() {
        return clock;
    }
    let (begun, start) = (wall_time(), Instant::now());
    Clock::new(move || begun + start.elapsed())
}

/// The same clock, ahead by as much as `last` is ahead of it: time never goes back behind what a checkpoint has logged.
pub(crate) fn not_before(clock: Clock, last: ProcessingTime) -> Clock {
    let behind = last.since(clock.now());
    if behind.is_zero() {
        return clock;
    }
    tracing::warn!(
        ?behind,
        "the machine's clock is behind that of the checkpoint: the query uses the clock of the checkpoint"
    );
    Clock::new(move || clock.now() + behind)
}

/// The machine's clock.
pub(crate) fn wall_time() -> ProcessingTime {
    ProcessingTime::from_micros(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        // A clock that is set before 1970; rounds down like every other time.
        Err(before) => {
            i64::try_from(before.duration().as_nanos().div_ceil(1_000)).map_or(i64::MIN, |micros| -micros)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clock_starts_at_wall_time_and_advances() {
        let before = wall_time();
        let clock = engine_clock();
        let first = clock.now();
        assert!(before <= first && first <= wall_time());
        while clock.now() == first {
            std::thread::yield_now();
        }
        assert!(clock.now() > first);
    }

    #[test]
    fn clock_behind_checkpoint_advances_from_last_logged_time() {
        let later = wall_time() + Duration::from_secs(3_600);
        let clock = not_before(engine_clock(), later);
        let first = clock.now();
        assert!(first >= later && first < later + Duration::from_secs(60));
        while clock.now() == first {
            std::thread::yield_now();
        }
        let earlier = wall_time();
        assert!(not_before(engine_clock(), earlier).now() < later);
    }
}
