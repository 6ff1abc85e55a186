//! When an operator flushes its results, in continuous mode.
//!
//! Every result that an operator emits costs work downstream and in the sink. An operator that gathers for longer emits
//! fewer: a key that changed ten times since the last flush has one result. But results that are gathered are late. So an
//! operator gathers only while one of its sources has a backlog. Otherwise it flushes at the end of each activation; as load
//! increases, an activation brings more rows, which saves the same work without a decision.
//!
//! A source has a backlog if its last `poll` returned [`Poll::Ready`](tidemill_operators::Poll), also while it pauses
//! because another worker is behind. While it has, the time between flushes doubles: up to [`SURE`], and up to the latency
//! budget while doubling the time increases the rows of a flush by less than half. (Where flushes grow in proportion, waiting longer saves nothing, but holds the watermark back and
//! keeps more state open.) Without a backlog the time is zero again. So the policy cannot oscillate further than the backlog,
//! whose rows were late before they were gathered.

use std::time::Duration;

use tidemill_operators::ProcessingTime;

/// A flush that takes less is not worth saving.
const COSTLY: Duration = Duration::from_micros(3);
/// The longest time between flushes, as a multiple of what a flush takes. The operators downstream spend several times as
/// much on its results as the flush itself.
const AMORTISED: u32 = 200;
/// The time between flushes up to which it doubles whatever that saves.
const SURE: Duration = Duration::from_millis(20);

/// Measures the flushes of an operator, and decides when the next one is due.
#[derive(Debug)]
pub(super) struct Gather {
    /// When the last flush ended.
    flushed: ProcessingTime,
    took: Duration,
    /// How long to gather after it.
    wait: Duration,
    /// Whether `wait` has risen with the last flush.
    longer: bool,
    /// The rows that the last flush emitted.
    emitted: usize,
    /// The longest that `wait` may be.
    budget: Duration,
}

impl Gather {
    /// Returns the policy of an operator with that latency budget.
    pub(super) fn new(budget: Duration) -> Gather {
        let (took, wait) = (Duration::ZERO, Duration::ZERO);
        Gather {
            flushed: ProcessingTime::from_micros(i64::MIN),
            took,
            wait,
            longer: false,
            emitted: 0,
            budget,
        }
    }

    /// Returns whether to gather more before the next flush. `now` is called only if that depends on the time.
    pub(super) fn goes_on(&mut self, has_backlog: bool, now: impl FnOnce() -> ProcessingTime) -> bool {
        if !has_backlog || self.took < COSTLY {
            self.wait = Duration::ZERO;
            return false;
        }
        now().since(self.flushed) < self.wait
    }

    /// Returns how many rows the last flush emitted.
    pub(super) fn emitted(&self) -> usize {
        self.emitted
    }

    /// Records a flush, and how many rows it emitted.
    pub(super) fn flushed(&mut self, begun: ProcessingTime, ended: ProcessingTime, emitted: usize) {
        self.flushed = ended;
        self.took = ended.since(begun);
        let pays = self.longer && emitted < self.emitted.saturating_add(self.emitted / 2);
        let most = if self.wait < SURE {
            SURE
        } else if pays {
            self.budget
        } else {
            self.wait
        };
        let wait = (self.wait * 2).max(self.took).min(self.took * AMORTISED).min(most).min(self.budget);
        (self.longer, self.wait, self.emitted) = (wait > self.wait, wait, emitted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most rows that a `poll` returns.
    const MOST: u64 = 8_192;
    /// The cost of a row, an activation and a flush, in nanoseconds.
    const ROW: u64 = 10;
    const ACTIVATION: u64 = 500;
    const FLUSH: u64 = 1_000;
    /// The cost of a result in nanoseconds, and the number of keys.
    const RESULT: u64 = 40;
    const KEYS: u64 = 1_000;

    /// A keyed count behind a source; `arrived` returns how many rows have arrived by a nanosecond.
    struct Queue<A> {
        arrived: A,
        gather: Gather,
        now: u64,
        /// The cost of a call of the sink, in nanoseconds.
        sink: u64,
        keys: u64,
        taken: u64,
        flushed: u64,
        /// When each flush ended, and how long its middle row and its first row had waited.
        flushes: Vec<(u64, u64, u64)>,
    }

    impl<A: Fn(u64) -> u64> Queue<A> {
        fn new(arrived: A, sink: u64) -> Self {
            let gather = Gather::new(Duration::from_millis(100));
            Queue { arrived, gather, now: 0, sink, keys: KEYS, taken: 0, flushed: 0, flushes: Vec::new() }
        }

        fn time(&self) -> ProcessingTime {
            ProcessingTime::from_micros(i64::try_from(self.now / 1_000).unwrap())
        }

        /// Returns when a row arrived.
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
                if self.taken == self.flushed || self.gather.goes_on(has_backlog, || now) {
                    continue;
                }
                let rows = self.taken - self.flushed;
                let results = rows.min(self.keys);
                self.now += FLUSH + self.sink + results * RESULT;
                self.gather.flushed(now, self.time(), usize::try_from(results).unwrap());
                let waited = |row| self.now - self.came(row);
                self.flushes.push((self.now, waited(self.flushed + rows / 2), waited(self.flushed)));
                self.flushed = self.taken;
            }
        }

        /// Returns the longest wait of a middle row, and of any row, among the flushes between these times.
        fn longest(&self, from: u64, to: u64) -> (u64, u64) {
            let within = self.flushes.iter().filter(|(at, ..)| (from..to).contains(at));
            within.fold((0, 0), |(middle, first), flush| (middle.max(flush.1), first.max(flush.2)))
        }
    }

    const MILLI: u64 = 1_000_000;

    /// Rows that arrive at a steady rate, in rows per microsecond.
    fn steady(rate: u64) -> impl Fn(u64) -> u64 {
        move |nanos| nanos * rate / 1_000
    }

    #[test]
    fn operator_that_keeps_up_gathers_nothing() {
        for rate in [1, 3, 10, 20, 30, 40, 50] {
            let mut queue = Queue::new(steady(rate), 0);
            queue.run_until(100 * MILLI);
            let (_, first) = queue.longest(10 * MILLI, 100 * MILLI);
            // Two activations, each with what came during the one before.
            let least = (ACTIVATION + FLUSH + RESULT * KEYS) * 1_000 / (1_000 - rate * ROW);
            assert!(first < 3 * least, "{rate}: {first} ns, {least}");
            assert!(queue.gather.wait <= queue.gather.took, "{rate}: {:?}", queue.gather);
        }
    }

    #[test]
    fn rising_and_falling_load_keeps_waits_below_two_milliseconds() {
        // 0 to 80 rows per microsecond and back, within 200 ms; the operator processes 60 to 99, depending on the activation.
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
        // Without gathering the operator processes 66 rows per microsecond, with gathering 99.
        let mut queue = Queue::new(steady(75), 0);
        queue.run_until(500 * MILLI);
        let (_, first) = queue.longest(100 * MILLI, 500 * MILLI);
        assert!(first < 2 * MILLI, "{first} ns");
        assert!(
            queue.flushed + 3 * MOST > steady(75)(queue.now),
            "{} are left",
            steady(75)(queue.now) - queue.flushed
        );
    }

    #[test]
    fn burst_drains_at_full_speed_and_then_rows_are_quick_again() {
        let burst =
            |nanos: u64| if nanos < 10 * MILLI { nanos / 1_000 / 100 } else { 10_000_000 + nanos / 100_000 };
        let mut queue = Queue::new(burst, 0);
        queue.run_until(300 * MILLI);
        assert!(queue.flushed >= 10_000_000, "{}", queue.flushed);
        let last = queue.flushes.iter().rposition(|(_, _, first)| *first > MILLI).unwrap();
        let over = queue.flushes[last].0 - 10 * MILLI;
        let least = 10_000_000 * ROW + 10_000_000 / MOST * ACTIVATION;
        assert!(over < least + least / 20, "{over} ns, {least}");
        let (_, first) = queue.longest(queue.flushes[last].0 + MILLI, 300 * MILLI);
        assert!(first < 10_000, "{first} ns");
    }

    #[test]
    fn budget_is_used_only_where_longer_waits_emit_fewer_rows() {
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
