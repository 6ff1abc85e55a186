//! The rate of a source, by the PID controller of [`Backpressure::Pid`](crate::options::Backpressure).
//!
//! The estimator and its defaults are those of Spark's DStreams. What it learns from is an epoch that is committed: how many
//! records of the source it read, how long it took from its planning to its commit, and how much later than its interval it
//! was planned because the one before it was not over.

use std::time::Duration;

use tidemill_operators::ProcessingTime;

use crate::options::Pid;

/// The rate of a source.
#[derive(Debug)]
pub(super) struct Rate {
    pid: Pid,
    interval: Duration,
    /// None until an epoch has had records.
    last: Option<Last>,
}

/// What was decided after the last epoch with records.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: ProcessingTime,
    /// Records per second.
    rate: f64,
    error: f64,
}

impl Rate {
    pub(super) fn new(pid: Pid, interval: Duration) -> Rate {
        Rate { pid, interval, last: None }
    }

    /// Records per second; none while nothing is known.
    pub(super) fn per_second(&self) -> Option<f64> {
        self.last.map(|last| last.rate)
    }

    /// How many records an epoch reads of each of that many partitions.
    pub(super) fn records(&self, partitions: usize) -> Option<u64> {
        let records = self.per_second()? * self.interval.as_secs_f64() / partitions.max(1) as f64;
        // A float beyond the range becomes the greatest number.
        Some((records.ceil() as u64).max(1))
    }

    /// Learns from an epoch that was committed at `now`: it read `records` of the source and `took` that long, and was planned
    /// `behind` its interval.
    pub(super) fn learn(&mut self, now: ProcessingTime, records: u64, took: Duration, behind: Duration) {
        let took = took.as_secs_f64();
        if records == 0 || took <= 0.0 {
            return;
        }
        let processed = records as f64 / took;
        let Some(last) = self.last else {
            let rate = processed.max(self.pid.min_rate);
            self.last = Some(Last { at: now, rate, error: 0.0 });
            return;
        };
        let passed = now.since(last.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let Pid { proportional, integral, derivative, min_rate } = self.pid;
        let error = last.rate - processed;
        let backlog = behind.as_secs_f64() * processed / self.interval.as_secs_f64();
        let change = (error - last.error) / passed;
        let rate = last.rate - proportional * error - integral * backlog - derivative * change;
        self.last = Some(Last { at: now, rate: rate.max(min_rate), error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> ProcessingTime {
        ProcessingTime::from_micros((seconds * 1e6) as i64)
    }

    fn rate(pid: Pid) -> Rate {
        Rate::new(pid, Duration::from_secs(1))
    }

    #[test]
    fn rate_follows_the_formula() {
        let mut rate = rate(Pid { proportional: 1.0, integral: 0.2, derivative: 0.5, min_rate: 10.0 });
        assert_eq!((rate.per_second(), rate.records(3)), (None, None));
        rate.learn(at(1.0), 500, Duration::from_millis(500), Duration::ZERO);
        assert_eq!((rate.per_second(), rate.records(3)), (Some(1_000.0), Some(334)));
        // Its own rate is 800, the error 200; 0.25 s behind, so 200 records; the error has changed by 100 a second.
        rate.learn(at(3.0), 400, Duration::from_millis(500), Duration::from_millis(250));
        assert_eq!(rate.per_second(), Some(1_000.0 - 200.0 - 0.2 * 200.0 - 0.5 * 100.0));
        // Its own rate is 1000, the error -290, which has changed by -490 in a second.
        rate.learn(at(4.0), 500, Duration::from_millis(500), Duration::ZERO);
        assert_eq!(rate.per_second(), Some(710.0 + 290.0 + 0.5 * 490.0));
    }

    #[test]
    fn rate_of_the_worked_example() {
        for (behind, expected) in [(Duration::ZERO, 500.0), (Duration::from_secs(1), 400.0)] {
            let mut rate = rate(Pid::default());
            rate.learn(at(1.0), 1_000, Duration::from_secs(1), Duration::ZERO);
            rate.learn(at(3.0), 1_000, Duration::from_secs(2), behind);
            assert_eq!(rate.per_second(), Some(expected));
        }
    }

    #[test]
    fn epochs_without_records_teach_nothing() {
        let mut rate = rate(Pid::default());
        rate.learn(at(1.0), 0, Duration::from_secs(1), Duration::ZERO);
        assert_eq!(rate.per_second(), None);
        rate.learn(at(2.0), 1_000, Duration::from_secs(1), Duration::ZERO);
        rate.learn(at(3.0), 0, Duration::from_secs(1), Duration::from_secs(9));
        rate.learn(at(4.0), 1, Duration::ZERO, Duration::ZERO);
        assert_eq!(rate.per_second(), Some(1_000.0));
    }

    #[test]
    fn rate_never_falls_below_the_lowest() {
        let mut rate = rate(Pid::default());
        for second in 1..100 {
            rate.learn(at(f64::from(second)), 1, Duration::from_secs(10), Duration::from_secs(100));
            assert_eq!((rate.per_second(), rate.records(1_000)), (Some(100.0), Some(1)));
        }
    }

    /// Epochs at intervals of a second, of a source with a constant arrival rate, each with a fixed cost and a cost per record.
    struct Queue {
        rate: Rate,
        waiting: f64,
        now: f64,
    }

    impl Queue {
        /// Runs an epoch. Returns how long it took.
        fn epoch(&mut self, arriving: f64, cost: f64) -> f64 {
            let due = (self.now).ceil();
            let begun = self.now.max(due);
            self.waiting += arriving * (begun - self.now).max(0.0);
            let most = self.rate.records(1).map_or(128.0, |records| records as f64);
            let records = self.waiting.min(most).floor();
            self.waiting -= records;
            let took = 0.01 + records * cost;
            self.waiting += arriving * took;
            self.now = begun + took;
            let behind = (begun - due).max(0.0);
            let (took, behind) = (Duration::from_secs_f64(took), Duration::from_secs_f64(behind));
            self.rate.learn(at(self.now), records as u64, took, behind);
            took.as_secs_f64()
        }
    }

    #[test]
    fn epoch_of_a_backlog_takes_about_an_interval() {
        let mut queue = Queue { rate: rate(Pid::default()), waiting: 1e9, now: 0.5 };
        // A record costs 10 us, then 200, then 10 again.
        for cost in [1e-5, 2e-4, 1e-5] {
            let took: Vec<f64> = (0..30).map(|_| queue.epoch(0.0, cost)).collect();
            let wanted = took.iter().rev().take(10).all(|took| (0.7..1.3).contains(took));
            assert!(wanted, "{cost}: {took:?}");
        }
    }

    #[test]
    fn load_that_fits_is_taken_as_it_comes() {
        let mut queue = Queue { rate: rate(Pid::default()), waiting: 0.0, now: 0.5 };
        for _ in 0..100 {
            queue.epoch(50_000.0, 1e-5);
        }
        assert!(queue.waiting < 60_000.0, "{}", queue.waiting);
    }
}
