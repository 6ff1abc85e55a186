//! When an operator hands over what it has gathered, in continuous mode.
//!
//! What an operator hands over is worked on behind it, and written. An operator that gathers for longer has less to hand
//! over: a key that changed ten times is told once. But what waits is late. So it gathers only while its sources have more
//! to give than the query has taken: while they have not, everything is handed over at the end of the activation that
//! brought it. Then rows come in larger activations as load increases, which saves work just as gathering does, with no
//! need to decide anything.
//!
//! The queue that decides is that of the sources on the operator's worker: whether the last call of a reader returned
//! [`Poll::Ready`](tidemill_operators::Poll), which says that it had more. While that is so, the time between flushes
//! doubles from one to the next, up to [`SURE`], and further only while that pays: while twice the time brings fewer than
//! one and a half times the rows to hand over. (Where it does not, longer would only hold the watermark back, and with it
//! the state that waits for it.) Once the sources have been read to their end the time is zero again. It cannot oscillate
//! further than that: what is gathered in the meantime is what the sources had left, which was late already.

use std::time::Duration;

use tidemill_operators::ProcessingTime;

/// A flush that takes less is not worth saving.
const COSTLY: Duration = Duration::from_micros(3);
/// So many times as long as a flush takes should pass until the next one, at most: what it sends on costs the operators
/// behind it several times as much.
const AMORTISED: u32 = 200;
/// So long is worth gathering whatever it brings.
const SURE: Duration = Duration::from_millis(20);

/// What an operator knows of its flushes.
#[derive(Debug)]
pub(super) struct Gather {
    /// When the last flush ended.
    flushed: ProcessingTime,
    took: Duration,
    /// How long to gather after it.
    wait: Duration,
    /// Whether that is longer than it was before.
    longer: bool,
    /// How many rows the last flush handed over.
    handed: usize,
    /// How long to gather at most.
    budget: Duration,
}

impl Gather {
    /// For an operator that may gather for that long.
    pub(super) fn new(budget: Duration) -> Gather {
        let (took, wait) = (Duration::ZERO, Duration::ZERO);
        Gather { flushed: ProcessingTime(i64::MIN), took, wait, longer: false, handed: 0, budget }
    }

    /// Whether to gather more before the next flush, if `has_backlog` says that there is more to take in at once.
    pub(super) fn goes_on(&mut self, has_backlog: bool, now: impl FnOnce() -> ProcessingTime) -> bool {
        if !has_backlog || self.took < COSTLY {
            self.wait = Duration::ZERO;
            return false;
        }
        now().since(self.flushed) < self.wait
    }

    /// How many rows the last flush handed over.
    pub(super) fn handed(&self) -> usize {
        self.handed
    }

    /// Notes a flush that has handed over so many rows.
    pub(super) fn flushed(&mut self, begun: ProcessingTime, ended: ProcessingTime, handed: usize) {
        self.flushed = ended;
        self.took = ended.since(begun);
        let pays = self.longer && handed < self.handed.saturating_add(self.handed / 2);
        let most = if self.wait < SURE {
            SURE
        } else if pays {
            self.budget
        } else {
            self.wait
        };
        let wait = (self.wait * 2).max(self.took).min(self.took * AMORTISED).min(most).min(self.budget);
        (self.longer, self.wait, self.handed) = (wait > self.wait, wait, handed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that a source gives at once, at most.
    const MOST: u64 = 8_192;
    /// What a row and an activation cost, and a flush: in nanoseconds.
    const ROW: u64 = 10;
    const ACTIVATION: u64 = 500;
    const FLUSH: u64 = 1_000;
    /// What it costs to tell a key, and how many keys there are unless said otherwise.
    const TELL: u64 = 40;
    const KEYS: u64 = 1_000;

    /// An operator that counts, behind a source whose rows come as `arrived` says: how many by that nanosecond.
    struct Queue<A> {
        arrived: A,
        gather: Gather,
        now: u64,
        /// What each flush costs besides.
        sink: u64,
        keys: u64,
        taken: u64,
        told: u64,
        /// When each flush ended, and how long the rows of its middle and its first had waited.
        flushes: Vec<(u64, u64, u64)>,
    }

    impl<A: Fn(u64) -> u64> Queue<A> {
        fn new(arrived: A, sink: u64) -> Self {
            let gather = Gather::new(Duration::from_millis(100));
            Queue { arrived, gather, now: 0, sink, keys: KEYS, taken: 0, told: 0, flushes: Vec::new() }
        }

        fn time(&self) -> ProcessingTime {
            ProcessingTime(i64::try_from(self.now / 1_000).unwrap())
        }

        /// When that row came.
        fn came(&self, row: u64) -> u64 {
            let (mut before, mut after) = (0, self.now);
            while before + 1 < after {
                let middle = u64::midpoint(before, after);
                if (self.arrived)(middle) > row { after = middle } else { before = middle }
            }
            after
        }

        fn run_until(&mut self, end: u64) {
            while self.now < end {
                let there = (self.arrived)(self.now) - self.taken;
                let taken = there.min(MOST);
                self.taken += taken;
                self.now += ACTIVATION + taken * ROW;
                let (has_backlog, now) = (taken == MOST, self.time());
                if self.taken == self.told || self.gather.goes_on(has_backlog, || now) {
                    continue;
                }
                let rows = self.taken - self.told;
                let told = rows.min(self.keys);
                self.now += FLUSH + self.sink + told * TELL;
                self.gather.flushed(now, self.time(), usize::try_from(told).unwrap());
                let waited = |row| self.now - self.came(row);
                self.flushes.push((self.now, waited(self.told + rows / 2), waited(self.told)));
                self.told = self.taken;
            }
        }

        /// The longest that a row of the middle, and any row, waited for a flush between these times.
        fn longest(&self, from: u64, to: u64) -> (u64, u64) {
            let within = self.flushes.iter().filter(|(at, ..)| (from..to).contains(at));
            within.fold((0, 0), |(middle, first), flush| (middle.max(flush.1), first.max(flush.2)))
        }
    }

    const MILLI: u64 = 1_000_000;

    /// So many rows a microsecond.
    fn steady(rate: u64) -> impl Fn(u64) -> u64 {
        move |nanos| nanos * rate / 1_000
    }

    #[test]
    fn nothing_is_gathered_while_the_operator_keeps_up() {
        for rate in [1, 3, 10, 20, 30, 40, 50] {
            let mut queue = Queue::new(steady(rate), 0);
            queue.run_until(100 * MILLI);
            let (_, first) = queue.longest(10 * MILLI, 100 * MILLI);
            // Two activations, each with what came during the one before.
            let least = (ACTIVATION + FLUSH + TELL * KEYS) * 1_000 / (1_000 - rate * ROW);
            assert!(first < 3 * least, "{rate}: {first} ns, {least}");
            assert_eq!(queue.gather.wait, queue.gather.took.min(queue.gather.wait), "{rate}");
        }
    }

    #[test]
    fn rows_wait_no_longer_as_load_rises_and_falls() {
        // 0 to 80 rows a microsecond and back, within 200 ms; the operator takes 60 to 99, as large as activations are.
        let ramp = |nanos: u64| {
            let half = 100 * MILLI;
            let up = nanos.min(half);
            let down = nanos.saturating_sub(half).min(half);
            let area = |time: u64| time as f64 * time as f64 / 2.0 * 80.0 / (half as f64 * 1_000.0);
            (area(up) + 80.0 * down as f64 / 1_000.0 - area(down)) as u64
        };
        let mut queue = Queue::new(ramp, 0);
        queue.run_until(190 * MILLI);
        let (_, first) = queue.longest(0, 190 * MILLI);
        assert!(first < 2 * MILLI, "{first} ns");
    }

    #[test]
    fn load_between_both_capacities_does_not_oscillate() {
        // More than it takes without gathering (1,000 ns are 66 rows of full activations), and less than with.
        let mut queue = Queue::new(steady(75), 0);
        queue.run_until(500 * MILLI);
        let (_, first) = queue.longest(100 * MILLI, 500 * MILLI);
        assert!(first < 2 * MILLI, "{first} ns");
        assert!(
            queue.told + 3 * MOST > steady(75)(queue.now),
            "{} are left",
            steady(75)(queue.now) - queue.told
        );
    }

    #[test]
    fn burst_is_drained_at_full_speed_and_forgotten() {
        let burst =
            |nanos: u64| if nanos < 10 * MILLI { nanos / 1_000 / 100 } else { 10_000_000 + nanos / 100_000 };
        let mut queue = Queue::new(burst, 0);
        queue.run_until(300 * MILLI);
        let drained = queue.flushes.iter().find(|(_, _, first)| *first > 0 && queue.told >= 10_000_000);
        assert!(drained.is_some());
        let last = queue.flushes.iter().rposition(|(_, _, first)| *first > MILLI).unwrap();
        let over = queue.flushes[last].0 - 10 * MILLI;
        let least = 10_000_000 * ROW + 10_000_000 / MOST * ACTIVATION;
        assert!(over < least + least / 20, "{over} ns, {least}");
        let (_, first) = queue.longest(queue.flushes[last].0 + MILLI, 300 * MILLI);
        assert!(first < 10_000, "{first} ns");
    }

    #[test]
    fn backlog_is_gathered_for_long_only_where_that_leaves_less_to_tell() {
        for (keys, longest) in [(100_000, 100), (u64::MAX, 20)] {
            let mut queue = Queue::new(steady(1_000), 0);
            queue.keys = keys;
            queue.run_until(1_000 * MILLI);
            assert_eq!(queue.gather.wait, Duration::from_millis(longest), "{keys} keys");
        }
    }

    #[test]
    fn slow_sink_delays_rows_by_one_call() {
        for rate in [1, 3] {
            let mut queue = Queue::new(steady(rate), MILLI);
            queue.run_until(200 * MILLI);
            let (middle, first) = queue.longest(20 * MILLI, 200 * MILLI);
            assert!(middle < 7 * MILLI / 4 && first < 9 * MILLI / 4, "{middle} and {first} ns");
        }
    }
}
