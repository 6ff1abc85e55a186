//! Which worker is slower than the others: by the time that each takes for the rows that it reads.
//!
//! Only micro-batch shows it: there every worker gets its rows of an epoch at once, and reports when it has read them. A worker's
//! chains run while it reads, so their work counts too.

use std::time::Duration;

use tidemill_operators::ProcessingTime;

use super::flight::Share;

/// So much slower is a straggler.
const TIMES: f64 = 3.0;
/// A smaller share of an epoch takes about as long as the epoch's fixed costs.
const ROWS: u64 = 1_000;
/// By how much the shares of an epoch may differ. Of unequal shares the fixed costs would count more for the smaller ones.
const UNEQUAL: u64 = 2;
/// The same where partitions move: there the share of a slow worker is small because it is slow.
const UNEQUAL_WHERE_MOVED: u64 = 16;
/// Workers are compared by this much of the slowest one's time: a second of it is no accident.
const COMPARED: Duration = Duration::from_secs(1);
/// A straggler is named once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// The rows that a worker has read, and how long that took.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    rows: u64,
    time: Duration,
    /// When it had read its last epoch.
    free: Option<ProcessingTime>,
}

impl Work {
    fn seconds_per_row(&self) -> f64 {
        self.time.as_secs_f64() / self.rows as f64
    }
}

/// A worker that is slower than the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Straggler {
    pub(super) worker: usize,
    /// How many times as long it takes for a row as the median of the others.
    pub(super) times: f64,
}

/// Compares the workers.
#[derive(Debug, Default)]
pub(super) struct Stragglers {
    /// By worker.
    work: Vec<Work>,
    named: Option<ProcessingTime>,
    /// Whether idle workers read partitions for others.
    moves: bool,
}

impl Stragglers {
    /// Compares the workers of a run in which partitions move, or do not.
    pub(super) fn new(moves: bool) -> Stragglers {
        Stragglers { moves, ..Stragglers::default() }
    }

    /// Takes note of an epoch that was planned at `planned`, and returns a straggler that has not been named for a minute.
    pub(super) fn note(
        &mut self,
        planned: ProcessingTime,
        shares: &[Share],
        now: ProcessingTime,
    ) -> Option<Straggler> {
        let most = shares.iter().map(|share| share.rows).max().unwrap_or(0);
        let least = most / if self.moves { UNEQUAL_WHERE_MOVED } else { UNEQUAL };
        for share in shares {
            if self.work.len() <= share.worker {
                self.work.resize(share.worker + 1, Work::default());
            }
            let Some(work) = self.work.get_mut(share.worker) else { continue };
            // An epoch that was planned ahead waits for the one before it.
            let begun = work.free.map_or(planned, |free| free.max(planned));
            work.free = Some(share.read);
            if share.rows >= ROWS && share.rows >= least {
                work.rows += share.rows;
                work.time += share.read.since(begun);
            }
        }
        let slowest = self.slowest()?;
        self.work.iter_mut().for_each(|work| *work = Work { free: work.free, ..Work::default() });
        let is_quiet = self.named.is_some_and(|named| now.since(named) < QUIET);
        let straggler = slowest.filter(|slowest| slowest.times >= TIMES && !is_quiet)?;
        self.named = Some(now);
        Some(straggler)
    }

    /// The slowest worker; `None` until there is enough to compare, and then none if there is no other worker.
    #[allow(clippy::option_option, reason = "not yet, and nothing")]
    fn slowest(&self) -> Option<Option<Straggler>> {
        // Most epochs end here, before anything is sorted.
        if self.work.iter().all(|work| work.time < COMPARED) {
            return None;
        }
        let known = self.work.iter().enumerate().filter(|(_, work)| work.rows > 0);
        let mut all: Vec<(usize, Work)> = known.map(|(worker, work)| (worker, *work)).collect();
        all.sort_by(|(_, a), (_, b)| a.seconds_per_row().total_cmp(&b.seconds_per_row()));
        let (worker, slowest) = all.pop()?;
        if slowest.time < COMPARED {
            return None;
        }
        let median = all.get(all.len() / 2).map(|(_, work)| work.seconds_per_row());
        let times = median.filter(|median| *median > 0.0).map(|median| slowest.seconds_per_row() / median);
        Some(times.map(|times| Straggler { worker, times }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> ProcessingTime {
        ProcessingTime::from_millis(millis)
    }

    /// Runs epochs of 10,000 rows for each worker, which take that many milliseconds; returns when which worker was named.
    fn named(took: impl Fn(i64) -> Vec<(u64, i64)>, until: i64) -> Vec<(i64, Straggler)> {
        named_by(Stragglers::default(), took, until)
    }

    fn named_by(
        mut stragglers: Stragglers,
        took: impl Fn(i64) -> Vec<(u64, i64)>,
        until: i64,
    ) -> Vec<(i64, Straggler)> {
        let (mut now, mut named) = (0, Vec::new());
        while now < until {
            let took = took(now);
            let end = now + took.iter().map(|(_, millis)| *millis).max().unwrap();
            let share = |(worker, (rows, millis)): (usize, &(u64, i64))| Share {
                worker,
                rows: *rows,
                read: at(now + millis),
            };
            let shares: Vec<Share> = took.iter().enumerate().map(share).collect();
            named.extend(stragglers.note(at(now), &shares, at(end)).map(|it| (end, it)));
            now = end;
        }
        named
    }

    #[test]
    fn worker_at_a_third_of_the_speed_is_named_once_a_minute() {
        let named = named(|_| vec![(10_000, 100), (10_000, 310), (10_000, 90)], 150_000);
        assert_eq!(named.iter().map(|(_, it)| it.worker).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(named.iter().all(|(_, it)| (3.0..3.4).contains(&it.times)), "{named:?}");
        let times: Vec<i64> = named.iter().map(|(end, _)| *end).collect();
        assert!(times[0] == 1_240 && times.windows(2).all(|pair| pair[1] - pair[0] >= 60_000), "{times:?}");
    }

    #[test]
    fn worker_that_becomes_slow_is_named_within_seconds() {
        let slow_from = 30_000;
        let took = |now| vec![(10_000, 100), (10_000, if now < slow_from { 110 } else { 350 })];
        let named = named(took, 40_000);
        assert!(
            matches!(named[..], [(end, Straggler { worker: 1, .. })] if end < slow_from + 4_000),
            "{named:?}"
        );
    }

    #[test]
    fn worker_whose_partitions_are_taken_over_is_named() {
        // All end at the same time.
        let took = |_| vec![(15_000, 100), (4_000, 103)];
        let named = named_by(Stragglers::new(true), took, 5_000);
        assert!(matches!(named[..], [(_, Straggler { worker: 1, .. })]), "{named:?}");
        assert_eq!(named_by(Stragglers::new(true), |_| vec![(15_000, 100), (8_000, 103)], 200_000), []);
    }

    #[test]
    fn unequal_shares_and_small_epochs_name_no_worker() {
        // Twice as slow; a share that is small; the only one with rows; epochs of fixed costs.
        for took in [
            vec![(10_000, 100), (10_000, 200)],
            vec![(10_000, 100), (10_000, 110), (900, 90)],
            vec![(10_000, 100), (2_000, 90)],
            vec![(0, 0), (10_000, 100)],
            vec![(10, 1), (10, 5)],
        ] {
            assert_eq!(named(|_| took.clone(), 200_000), [], "{took:?}");
        }
    }

    #[test]
    fn time_that_an_epoch_waits_for_the_one_before_does_not_count() {
        let mut stragglers = Stragglers::default();
        for n in 1..100 {
            // Planned all at once; worker 1 had read an epoch without many rows late.
            let shares = [(0, 100 * n), (1, 200 + 100 * n)];
            let shares = shares.map(|(worker, read)| Share {
                worker,
                rows: if n == 1 { 0 } else { 5_000 },
                read: at(read),
            });
            assert_eq!(stragglers.note(at(0), &shares, at(200 + 100 * n)), None);
        }
    }
}
