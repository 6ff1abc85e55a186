//! How many records an epoch reads of a source with a backlog, where the user has set no limit.
//!
//! Between epochs workers wait for each other, and something is written for each: epochs of a few records waste time, and
//! epochs of seconds hide what has been done and delay a stop. What a record costs depends on the whole query, its sinks
//! included, so it is learnt from the time between commits. The limit is decided when an epoch is planned: what was planned
//! is kept with the checkpoint, and replayed as planned.

use std::time::Duration;

use tidemill_operators::PlanLimits;

/// How long the records of an epoch take. Windows stay open until the epoch that closes them ends, so longer epochs keep more
/// state.
const WANTED: Duration = Duration::from_millis(12);
/// The same where rows wait for answers to requests: an epoch ends with the last of its answers, so a short one would mostly wait.
const WANTED_OF_REQUESTS: Duration = Duration::from_secs(1);
/// The records of the first epoch, over all partitions: their cost is not known yet.
const FIRST: u64 = 128;
/// The most records of a partition.
const MOST: u64 = 16_000_000;
/// The factor by which the next epoch may be larger.
const GROWTH: u64 = 4;
/// How fast old epochs are forgotten.
const DECAY: f64 = 0.7;

/// What is learnt from one epoch to the next.
pub(super) struct Pace {
    /// How many records of a partition the next epoch takes.
    enough: u64,
    /// Whether the time of an epoch is known.
    is_known: bool,
    /// The cost of an epoch is about `fixed + record * records` seconds: a line through the last epochs.
    fixed: f64,
    record: f64,
    line: Line,
    /// How long the records of an epoch shall take.
    wanted: Duration,
}

/// Sums for a line through points, of which the latest count most.
#[derive(Clone, Copy, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        let add = |sum: &mut f64, term: f64| *sum = *sum * DECAY + term;
        add(&mut self.weight, 1.0);
        add(&mut self.x, x);
        add(&mut self.y, y);
        add(&mut self.xx, x * x);
        add(&mut self.xy, x * y);
    }

    /// The mean of the points; none if there are none.
    fn mean(&self) -> Option<(f64, f64)> {
        (self.weight > 0.0).then(|| (self.x / self.weight, self.y / self.weight))
    }

    /// The slope, if the points are far enough apart to tell.
    fn slope(&self) -> Option<f64> {
        let (x, y) = self.mean()?;
        let spread = self.xx / self.weight - x * x;
        (spread >= (0.1 * x).powi(2)).then(|| (self.xy / self.weight - x * y) / spread)
    }
}

impl Pace {
    /// Returns the pace of a query whose sources have `partitions` partitions together.
    pub(super) fn new(partitions: usize) -> Pace {
        let enough = (FIRST / partitions.max(1) as u64).max(1);
        Pace { enough, is_known: false, fixed: 0.0, record: 0.0, line: Line::default(), wanted: WANTED }
    }

    /// The same for a query with rows that wait for answers to requests.
    pub(super) fn with_requests(self) -> Pace {
        Pace { wanted: WANTED_OF_REQUESTS, ..self }
    }

    /// Returns the pace of a test that steps its epochs: its clock does not measure the cost of records.
    pub(super) fn stepped() -> Pace {
        Pace { enough: PlanLimits::ENOUGH, ..Pace::new(1) }
    }

    /// How many records of a partition the next epoch takes.
    pub(super) fn enough(&self) -> u64 {
        self.enough
    }

    /// Whether the time of an epoch is known. Until then epochs are planned one by one.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Learns from a committed epoch. It read `records`, was planned with the limit `enough`, and `took` the time from its
    /// planning, or from the commit before it where that was later.
    pub(super) fn learn(&mut self, records: u64, enough: u64, took: Duration) {
        if records == 0 {
            return;
        }
        self.is_known = true;
        let (x, y) = (records as f64, took.as_secs_f64());
        let expected = self.fixed + self.record * x;
        let is_large = self.line.mean().is_none_or(|(mean, _)| x >= 0.5 * mean);
        if is_large && y > 2.0 * expected {
            // Nothing is known yet, or records cost more than before: all of it may be their cost.
            self.line = Line::default();
            (self.fixed, self.record) = (0.0, y / x);
        }
        self.line.add(x, y);
        let (mean_x, mean_y) = self.line.mean().unwrap_or((x, y));
        let slope = self.line.slope();
        let record = match slope {
            // Larger epochs took no longer: no sign that records cost anything.
            Some(slope) if slope <= 0.0 => self.record / 2.0,
            Some(slope) => slope,
            // All epochs were alike: the next one is larger, to learn what records cost.
            None => self.record * (y / expected).clamp(0.5, 0.9),
        };
        // No record costs more than its share of the epoch.
        self.record = record.min(y / x).min(mean_y / mean_x);
        let fixed = (mean_y - self.record * mean_x).max(0.0);
        self.fixed = if slope.is_some() { fixed } else { fixed.min(self.fixed) };
        // Where an epoch costs much by itself, as much again for its records.
        let fits = self.wanted.as_secs_f64().max(self.fixed) / self.record.max(1e-12);
        // How many partitions gave what they were asked for.
        let full = (x / enough as f64).max(1.0);
        let most = if records >= enough { enough.saturating_mul(GROWTH) } else { self.enough };
        self.enough = ((fits / full) as u64).clamp(1, most.clamp(1, MOST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_with_requests_take_about_a_second() {
        // Requests take 5 ms, sixteen at a time.
        let mut pace = Pace::new(1).with_requests();
        let (rows, took) = run(&mut pace, 40, Duration::from_millis(5), 312_500);
        assert!((500..2_000).contains(&took.as_millis()), "{rows} rows, {took:?}");
    }

    /// Runs epochs with a fixed cost and a cost per row; returns the rows and the time of the last one.
    fn run(pace: &mut Pace, epochs: usize, fixed: Duration, nanos_a_row: u64) -> (u64, Duration) {
        let mut last = (0, Duration::ZERO);
        for _ in 0..epochs {
            let rows = pace.enough();
            last = (rows, fixed + Duration::from_nanos(nanos_a_row * rows));
            pace.learn(rows, rows, last.1);
        }
        last
    }

    #[test]
    fn epochs_take_some_milliseconds_whatever_rows_cost() {
        let mut pace = Pace::new(1);
        let (first, took) = run(&mut pace, 1, Duration::ZERO, 1_000_000);
        assert_eq!((first, took), (FIRST, Duration::from_millis(128)));
        for nanos in [1_000_000, 100, 20_000, 10, 5_000_000, 1_000] {
            let (rows, took) = run(&mut pace, 40, Duration::ZERO, nanos);
            let wanted = took > WANTED / 2 && took < 2 * WANTED;
            assert!(wanted, "{nanos} ns: {rows} rows in {took:?}");
        }
    }

    #[test]
    fn cheap_rows_reach_full_epochs_in_few_steps() {
        let mut pace = Pace::new(1);
        // The first epoch waits for threads to start, too.
        pace.learn(pace.enough(), pace.enough(), Duration::from_millis(3));
        let (rows, _) = run(&mut pace, 8, Duration::from_micros(300), 12);
        assert!(rows > 1_000_000, "{rows}");
    }

    #[test]
    fn costly_commits_do_not_make_epochs_small() {
        let mut pace = Pace::new(1);
        let (rows, _) = run(&mut pace, 60, Duration::from_millis(80), 1_000);
        assert!((40_000..200_000).contains(&rows), "{rows}");
        // A commit that once takes a second is soon forgotten.
        pace.learn(rows, rows, Duration::from_secs(1));
        let (rows, _) = run(&mut pace, 60, Duration::from_millis(80), 1_000);
        assert!(rows > 40_000, "{rows}");
    }

    #[test]
    fn rows_that_become_slow_make_next_epoch_small() {
        let mut pace = Pace::new(1);
        let (rows, _) = run(&mut pace, 40, Duration::from_millis(2), 100);
        assert!(rows > 100_000, "{rows}");
        pace.learn(rows, rows, Duration::from_millis(rows));
        assert!(pace.enough() <= 30, "{}", pace.enough());
    }

    #[test]
    fn epoch_that_took_all_there_was_does_not_raise_limit() {
        let mut pace = Pace::new(1);
        for _ in 0..100 {
            pace.learn(5, pace.enough(), Duration::from_micros(100));
            assert!(pace.enough() <= FIRST);
        }
    }

    #[test]
    fn epochs_planned_ahead_reach_wanted_time() {
        let mut pace = Pace::new(1);
        for nanos in [1_000, 100_000, 20] {
            // Each is planned before the one before it is committed.
            let mut ahead = pace.enough();
            for _ in 0..60 {
                let rows = std::mem::replace(&mut ahead, pace.enough());
                pace.learn(rows, rows, Duration::from_micros(100) + Duration::from_nanos(nanos * rows));
            }
            let took = Duration::from_nanos(nanos * pace.enough());
            assert!(took > WANTED / 2 && took < 2 * WANTED, "{nanos} ns: {took:?}");
        }
    }

    #[test]
    fn single_full_partition_of_many_reaches_wanted_time() {
        let mut pace = Pace::new(64);
        assert_eq!(pace.enough(), 2);
        // The others have nothing.
        let (rows, took) = run(&mut pace, 40, Duration::ZERO, 1_000);
        assert!(took > WANTED / 2, "{rows} rows in {took:?}");
    }
}
