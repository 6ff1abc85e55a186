//! How many rows a worker reads at once, and how many may be queued for it: those that it processes in some milliseconds.
//!
//! Timely's queues are unbounded, so sources pause. A bound in rows alone would be minutes where a function is slow, and the
//! end of an epoch or a stop would wait for them. So each worker measures what a row costs: the time of its steps, over all
//! the rows that it took in them. The clock is read once a step; in continuous mode, where it would cost as much as a row does, once in
//! as many steps as rows need to pass, if sources have read fewer than [`UNTIMED`] rows in them.
//!
//! A row takes a step for each operator on its way, so a measurement lasts as many steps as rows may need to pass, or until
//! the worker parks or has spent [`STEP`]. Bounds fall at once. They rise by doubling, that of the queue also to as many rows as were
//! received, and not again before rows have passed.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tidemill_operators::ProcessingTime;

/// How many rows sources may read between two readings of the clock, so that a step has ended when their cost has risen.
const UNTIMED: i64 = 8;
/// How long a step of a worker should take: between steps epochs end and queries stop.
const STEP: Duration = Duration::from_millis(5);
/// For how long a worker may have rows queued.
const QUEUED: Duration = Duration::from_millis(25);
/// The most rows that a source reads at a time, whatever its portion.
pub(crate) const POLL: usize = 8_192;
/// More rows are not worth counting.
const MOST: i64 = 1 << 20;

/// The bounds of all workers.
#[derive(Debug)]
pub(crate) struct Flow {
    max_queued: i64,
    /// How many rows operators hold at most while others work on them, if there are such operators.
    in_flight: Option<i64>,
    /// How many steps a row may need to pass all operators.
    hops: i64,
    /// Whether the clock is read after each step.
    times_each: bool,
    workers: Vec<CachePadded<Worker>>,
}

/// What a worker has measured. Others read only `queue`.
#[derive(Debug)]
struct Worker {
    /// How many rows it processes within [`QUEUED`].
    queue: AtomicI64,
    /// How many rows each of its sources may read in a step.
    portion: AtomicI64,
    /// Whether a source has lent a reader whose rows are yet to be counted.
    lent: AtomicBool,
    /// Whether rows have been held back since the last measurement. All workers write to it.
    held_back: AtomicBool,
    /// Since the last measurement: rows that its sources have read, and how often they have read any.
    read: AtomicI64,
    reads: AtomicI64,
    /// The rows that came from other workers.
    received: AtomicI64,
    /// The rows sent to each other worker.
    sent: Vec<AtomicI64>,
    /// The steps, and their time in microseconds up to the last reading of the clock.
    steps: AtomicI64,
    busy: AtomicI64,
    /// After which step the clock is read next, and whether rows have been read that are to be timed then.
    due: AtomicI64,
    has_untimed: AtomicBool,
    /// The value of `read` at the last one.
    timed: AtomicI64,
    /// The steps since a bound has risen.
    settled: AtomicI64,
    /// When the clock was last read, at the end of a step.
    ended: AtomicI64,
}

impl Worker {
    /// Leaves out what has been counted since the last measurement.
    fn forget(&self) {
        let counters = [&self.read, &self.reads, &self.received, &self.steps, &self.busy];
        counters.into_iter().chain(&self.sent).for_each(|counter| counter.store(0, Relaxed));
    }
}

/// Only its own worker writes to it.
fn add(counter: &AtomicI64, number: i64) {
    counter.store(counter.load(Relaxed).saturating_add(number), Relaxed);
}

fn take(counter: &AtomicI64) -> i64 {
    let number = counter.load(Relaxed);
    if number != 0 {
        counter.store(0, Relaxed);
    }
    number
}

fn rows(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many of these rows fit in `time`, if they took this many microseconds.
fn fitting(rows: i64, micros: i64, time: Duration) -> i64 {
    let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    rows.saturating_mul(time) / micros.max(1)
}

impl Flow {
    /// The bounds of workers through whose dataflow rows pass in at most `hops` steps.
    pub(crate) fn new(workers: usize, hops: u64, max_queued: usize) -> Flow {
        let worker = || Worker {
            queue: AtomicI64::new(1),
            portion: AtomicI64::new(1),
            lent: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            read: AtomicI64::new(0),
            reads: AtomicI64::new(0),
            received: AtomicI64::new(0),
            sent: (0..workers).map(|_| AtomicI64::new(0)).collect(),
            steps: AtomicI64::new(0),
            busy: AtomicI64::new(0),
            due: AtomicI64::new(0),
            has_untimed: AtomicBool::new(false),
            timed: AtomicI64::new(0),
            settled: AtomicI64::new(0),
            ended: AtomicI64::new(i64::MAX),
        };
        Flow {
            max_queued: rows(max_queued),
            in_flight: None,
            hops: i64::try_from(hops).unwrap_or(i64::MAX),
            times_each: true,
            workers: (0..workers).map(|_| CachePadded::new(worker())).collect(),
        }
    }

    /// The bounds of a query that a test steps: its clock does not tell what rows cost.
    pub(crate) fn stepped(max_queued: usize) -> Flow {
        Flow { max_queued: rows(max_queued), in_flight: None, hops: 0, times_each: true, workers: Vec::new() }
    }

    /// The same in continuous mode: a source gives rows at any time and is polled until they have passed all operators, so
    /// the clock need not be read after each step.
    pub(crate) fn continuous(mut self) -> Flow {
        self.times_each = false;
        self
    }

    /// The same where operators hold at most `number` rows while others work on them: the time of the steps is not what such rows cost.
    pub(crate) fn with_in_flight(mut self, number: Option<usize>) -> Flow {
        self.in_flight = number.map(|number| rows(number).clamp(1, MOST));
        self
    }

    /// Whether operators hold rows while others work on them.
    pub(crate) fn has_rows_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Notes that an operator is full: sources read few rows until it takes more.
    pub(crate) fn hold_back(&self) {
        self.workers.iter().for_each(|worker| worker.held_back.store(true, Relaxed));
    }

    /// How many rows may be queued for a worker.
    pub(crate) fn bound(&self, worker: usize) -> i64 {
        self.workers.get(worker).map_or(MOST, |worker| worker.queue.load(Relaxed)).min(self.max_queued)
    }

    /// How many rows a source of a worker may read in a step. At least one.
    pub(crate) fn portion(&self, worker: usize) -> usize {
        let stepped = self.in_flight.unwrap_or(MOST);
        let portion = self.workers.get(worker).map_or(stepped, |worker| worker.portion.load(Relaxed));
        usize::try_from(portion).unwrap_or(usize::MAX).max(1)
    }

    /// Counts rows that a source has read.
    pub(crate) fn read(&self, worker: usize, number: usize) {
        if let Some(worker) = self.workers.get(worker) {
            add(&worker.read, rows(number));
            add(&worker.reads, 1);
            if worker.read.load(Relaxed) - worker.timed.load(Relaxed) >= UNTIMED {
                worker.due.store(0, Relaxed);
            } else if !worker.has_untimed.load(Relaxed) && worker.due.load(Relaxed) > 0 {
                worker.has_untimed.store(true, Relaxed);
                // The step that reads them counts.
                worker.due.store(worker.steps.load(Relaxed).saturating_add(self.hops), Relaxed);
            }
        }
    }

    /// Notes whether a source has lent its reader: the rows are counted once it is back.
    pub(crate) fn lends(&self, worker: usize, lent: bool) {
        if let Some(worker) = self.workers.get(worker) {
            worker.lent.store(lent, Relaxed);
            worker.due.store(0, Relaxed);
        }
    }

    /// Counts rows that a worker has received from another.
    pub(crate) fn received(&self, worker: usize, number: usize) {
        if let Some(worker) = self.workers.get(worker) {
            add(&worker.received, rows(number));
            worker.due.store(0, Relaxed);
        }
    }

    /// Counts rows that a worker has sent to another.
    pub(crate) fn sent(&self, from: usize, to: usize, number: usize) {
        if let Some(sent) = self.workers.get(from).and_then(|worker| worker.sent.get(to)) {
            add(sent, rows(number));
        }
    }

    /// Notes the end of a step of a worker, in which an operator ran or (`worked` is false) the worker parked.
    pub(crate) fn ends_step(&self, worker: usize, worked: bool, now: impl FnOnce() -> ProcessingTime) {
        let Some(worker) = self.workers.get(worker) else { return };
        if worked {
            add(&worker.steps, 1);
            add(&worker.settled, 1);
            if worker.steps.load(Relaxed) < worker.due.load(Relaxed) {
                return;
            }
        }
        let now = now().as_micros();
        let began = worker.ended.load(Relaxed).min(now);
        worker.ended.store(now, Relaxed);
        let (read, steps, lent) =
            (worker.read.load(Relaxed), worker.steps.load(Relaxed), worker.lent.load(Relaxed));
        let has_untimed = worker.has_untimed.load(Relaxed);
        worker.has_untimed.store(false, Relaxed);
        worker.timed.store(read, Relaxed);
        let each = self.times_each || lent || worker.received.load(Relaxed) > 0;
        worker.due.store(if each { 0 } else { steps.saturating_add(self.hops) }, Relaxed);
        if worked {
            add(&worker.busy, now - began);
            let busy = Duration::from_micros(u64::try_from(worker.busy.load(Relaxed)).unwrap_or(0));
            // Whose reader is lent is counted in one of the next steps.
            if (steps < self.hops && busy < STEP) || (read == 0 && lent) {
                return;
            }
        } else if has_untimed {
            // The worker has parked before the clock was read, so what these rows cost is not known.
            worker.forget();
        }
        self.measure(worker, worked);
    }

    /// Works out the bounds from what a worker has done since the last measurement.
    fn measure(&self, worker: &Worker, worked: bool) {
        let (read, reads, received) = (take(&worker.read), take(&worker.reads), take(&worker.received));
        let (steps, busy) = (take(&worker.steps), take(&worker.busy));
        worker.timed.store(0, Relaxed);
        worker.due.store(worker.due.load(Relaxed).min(self.hops), Relaxed);
        // Before rows have passed all operators, some of their cost is still to come.
        let have_passed = !worked || worker.settled.load(Relaxed) >= self.hops;
        let limit = match self.in_flight {
            None => MOST,
            // The time of the steps tells what rows cost only while rows are not held back. A source that does not use up its
            // portion needs no larger one, and with a large one it would read too many rows at once when they come.
            Some(in_flight) => {
                let held_back = worker.held_back.load(Relaxed) && worker.held_back.swap(false, Relaxed);
                let portion = worker.portion.load(Relaxed).min(rows(POLL));
                let is_used_up = read >= reads.saturating_mul(portion);
                if held_back || !is_used_up { in_flight } else { MOST }
            }
        };
        let set = |bound: &AtomicI64, measured: i64, proven: i64| {
            let measured = measured.min(limit);
            let before = bound.load(Relaxed);
            let most = if have_passed { before.saturating_mul(2).max(proven) } else { before };
            let next = measured.min(most).clamp(1, MOST);
            if next > before {
                worker.settled.store(0, Relaxed);
            }
            bound.store(next, Relaxed);
        };
        if received > 0 {
            // It has just processed that many.
            set(&worker.queue, fitting(read + received, busy, QUEUED), received);
        } else if read > 0 {
            // A row that a source reads may cost much more than one that comes from another worker: that of a first phase
            // is one block of text and becomes thousands of partial results.
            let before = worker.queue.load(Relaxed);
            set(&worker.queue, fitting(read, busy, QUEUED).max(before), 0);
        }
        // Sources that read in the same steps share them.
        let mut portion = fitting(read, busy, STEP);
        if reads > steps && steps > 0 {
            portion = portion.saturating_mul(steps) / reads;
        }
        for (to, sent) in worker.sent.iter().enumerate() {
            let sent = take(sent);
            if sent > 0 {
                portion = portion.min(self.bound(to).saturating_mul(read) / sent);
            }
        }
        if read > 0 {
            set(&worker.portion, portion, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker's steps by a clock of its own.
    struct Steps {
        flow: Flow,
        now: i64,
    }

    impl Steps {
        fn new(workers: usize, hops: u64) -> Steps {
            let steps = Steps { flow: Flow::new(workers, hops, 65_536), now: 0 };
            (0..workers)
                .for_each(|worker| steps.flow.ends_step(worker, false, || ProcessingTime::from_micros(0)));
            steps
        }

        /// A step of this many microseconds in which a source reads as many rows.
        fn step(&mut self, worker: usize, rows: usize, micros: i64) {
            if rows > 0 {
                self.flow.read(worker, rows);
            }
            self.now += micros;
            self.flow.ends_step(worker, true, || ProcessingTime::from_micros(self.now));
        }

        /// As many steps, each with what a source may read, at this many nanoseconds a row.
        fn reads(&mut self, worker: usize, steps: usize, nanos: i64) -> usize {
            for _ in 0..steps {
                let rows = self.flow.portion(worker).min(8_192);
                self.step(worker, rows, 1 + rows as i64 * nanos / 1_000);
            }
            self.flow.portion(worker)
        }
    }

    #[test]
    fn portion_takes_a_few_milliseconds_whatever_rows_cost() {
        let mut steps = Steps::new(1, 4);
        assert_eq!(steps.flow.portion(0), 1);
        let slowest = steps.reads(0, 200, 1_000_000);
        assert!((4..=5).contains(&slowest), "{slowest}");
        assert!(steps.reads(0, 200, 20) > 100_000);
        let slow = steps.reads(0, 200, 100_000);
        assert!((25..=50).contains(&slow), "{slow}");
    }

    #[test]
    fn portion_falls_at_once_and_rises_once_rows_have_passed() {
        let mut steps = Steps::new(1, 4);
        (0..3).for_each(|_| steps.step(0, 1, 1));
        assert_eq!(steps.flow.portion(0), 1, "rows may still be on their way");
        steps.step(0, 1, 1);
        assert_eq!(steps.flow.portion(0), 2);
        steps.reads(0, 100, 10);
        assert!(steps.flow.portion(0) > 8_192);
        steps.step(0, 100, 10_000);
        assert!(steps.flow.portion(0) <= 50);
    }

    #[test]
    fn row_that_is_processed_in_a_later_step_costs_that_step() {
        let mut steps = Steps::new(1, 4);
        for _ in 0..20 {
            steps.step(0, 1, 1);
            steps.step(0, 0, 1_000);
            steps.flow.ends_step(0, false, || ProcessingTime::from_micros(steps.now));
        }
        assert_eq!(steps.flow.portion(0), 4);
    }

    #[test]
    fn rows_of_a_lent_reader_are_counted_with_its_step() {
        let mut steps = Steps::new(1, 1);
        for _ in 0..20 {
            steps.flow.lends(0, true);
            steps.step(0, 0, 1);
            steps.step(0, 0, 20_000);
            steps.flow.lends(0, false);
            steps.step(0, 100, 1);
        }
        assert_eq!(steps.flow.portion(0), 24);
    }

    /// Steps of a continuous query.
    fn continuous(hops: u64) -> Steps {
        let mut steps = Steps::new(1, hops);
        steps.flow = Flow::new(1, hops, 65_536).continuous();
        steps.flow.ends_step(0, false, || ProcessingTime::from_micros(0));
        steps
    }

    #[test]
    fn continuous_query_bounds_portions_alike() {
        let mut steps = continuous(4);
        let slowest = steps.reads(0, 200, 1_000_000);
        assert!((4..=5).contains(&slowest), "{slowest}");
        assert!(steps.reads(0, 200, 20) > 100_000);
        steps.step(0, 100, 10_000);
        assert!(steps.flow.portion(0) <= 50, "falls at once");
        let slow = steps.reads(0, 200, 100_000);
        assert!((25..=50).contains(&slow), "{slow}");
    }

    #[test]
    fn clock_is_read_once_a_few_single_rows_have_passed() {
        let steps = continuous(4);
        let mut readings = Vec::new();
        for step in 0..24 {
            if step % 12 == 6 {
                steps.flow.read(0, 1);
            }
            steps.flow.ends_step(0, true, || {
                readings.push(step);
                ProcessingTime::from_micros(step)
            });
        }
        assert_eq!(readings, [3, 9, 13, 17, 21], "after four steps, counted from a row's");
    }

    #[test]
    fn single_slow_row_costs_the_steps_in_which_it_passes() {
        let mut steps = continuous(4);
        for _ in 0..20 {
            steps.step(0, 1, 1);
            steps.step(0, 0, 1_000);
            (0..3).for_each(|_| steps.step(0, 0, 1));
            steps.flow.ends_step(0, false, || ProcessingTime::from_micros(steps.now));
        }
        assert_eq!(steps.flow.portion(0), 4);
    }

    #[test]
    fn rows_that_nobody_timed_change_no_bound() {
        let mut steps = continuous(4);
        for _ in 0..20 {
            steps.step(0, 1, 1_000);
            steps.flow.ends_step(0, false, || ProcessingTime::from_micros(steps.now));
        }
        assert_eq!(steps.flow.portion(0), 1);
    }

    #[test]
    fn sources_of_a_worker_share_a_step() {
        let mut steps = Steps::new(1, 1);
        for _ in 0..40 {
            let rows = steps.flow.portion(0).min(50);
            (0..5).for_each(|_| steps.flow.read(0, rows));
            steps.step(0, 0, 1 + 5 * rows as i64 * 100);
        }
        assert!((5..=12).contains(&steps.flow.portion(0)), "{}", steps.flow.portion(0));
    }

    #[test]
    fn portion_is_small_where_another_worker_is_slow() {
        let mut steps = Steps::new(2, 1);
        for _ in 0..40 {
            let rows = steps.flow.portion(0);
            // Every row becomes ten, which take the other worker a millisecond each.
            steps.flow.sent(0, 1, 10 * rows);
            steps.step(0, rows, 1);
            steps.flow.received(1, 10);
            steps.step(1, 0, 10_000);
        }
        assert!((10..=25).contains(&steps.flow.bound(1)), "{}", steps.flow.bound(1));
        assert!((1..=2).contains(&steps.flow.portion(0)), "{}", steps.flow.portion(0));
    }

    #[test]
    fn blocks_that_are_read_do_not_lower_queue_of_received_rows() {
        let mut steps = Steps::new(2, 1);
        for _ in 0..40 {
            // Each block takes 0.4 ms and becomes many partial results, which come to the other worker now and then.
            (0..4).for_each(|_| steps.step(0, 12, 4_800));
            steps.flow.received(0, 5_000);
            steps.step(0, 12, 5_300);
            assert!((5_000..=30_000).contains(&steps.flow.bound(0)), "{}", steps.flow.bound(0));
        }
        // Received rows that cost more.
        steps.flow.received(0, 10);
        steps.step(0, 0, 10_000);
        assert_eq!(steps.flow.bound(0), 25);
    }

    #[test]
    fn portion_falls_to_rows_in_flight_when_rows_are_held_back() {
        let mut steps = Steps::new(1, 4);
        steps.flow = Flow::new(1, 4, 65_536).with_in_flight(Some(10));
        steps.flow.ends_step(0, false, || ProcessingTime::from_micros(0));
        assert!(steps.reads(0, 200, 20) > 1_000, "nothing is held back");
        steps.flow.hold_back();
        assert_eq!((steps.reads(0, 4, 20), steps.flow.bound(0)), (10, 10));
        assert!(steps.reads(0, 200, 20) > 1_000);
        // A source that has less to read than it may.
        (0..4).for_each(|_| steps.step(0, 5, 1));
        assert_eq!(steps.flow.portion(0), 10);
    }

    #[test]
    fn queue_is_bounded_by_the_user_too() {
        let flow = Flow::stepped(7);
        assert_eq!((flow.bound(0), flow.portion(0)), (7, usize::try_from(MOST).unwrap()));
    }
}
