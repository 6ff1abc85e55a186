//! What a worker's sink measures: three latencies, and whether the answer is right.
//!
//! - **record**: from when an event was due until a row that speaks of it is shown. In continuous mode that is when the
//!   row comes to the sink, in micro-batch when its epoch is committed, for nothing is shown before.
//! - **window**: from when a window could have closed at the earliest (the first event was due whose event time closes
//!   it) until its first and its last row are shown.
//! - **commit**: from when an event was due until the epoch with it is durable.
//!
//! The recorder is the same whatever engine it is used by, so what it costs is in all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::Answer;
use super::burst::Burst;
use super::epochs::{Epochs, Mark};
use super::schedule::Schedule;
use super::slots::Slots;
use super::windows::{Window, Windows};

/// How many rows are taken as having come at one instant: the clock is read once for this many.
const AT_ONCE: usize = 256;

/// The most events a second whose latency is measured; of more a share, chosen by a hash, is measured. Recording a latency
/// takes as long as many an engine takes for the event, so measuring each one would measure the recorder. The answer is checked
/// for every event whatever the rate.
const MEASURED: u64 = 2_000_000;

/// The most events of a burst whose latency is measured, for the same reason: in continuous mode the sink records latencies while
/// the burst is drained, in micro-batch after the run.
const MEASURED_OF_BURST: u64 = 100_000;

/// A row that a graph under measurement gives to its sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// An event has passed: what has become of it, and when it was due.
    Passed(u64, u64),
    /// A key has been counted this many times by now, in that window (by its number).
    Counted(u64, u64, u64),
    /// A window has closed: key, the window's number, count.
    Closed(u64, u64, u64),
}

/// One worker's part.
#[derive(Debug)]
pub struct Recorder {
    schedule: Arc<Schedule>,
    windows: Windows,
    /// Whether rows are shown as they come.
    immediate: bool,
    /// The bits of an event's hash that are 0 if its latency is measured.
    share: u64,
    /// The same for an event of the burst.
    burst_share: u64,
    /// When the burst is due; never without one.
    burst_due: u64,
    /// The epoch that is being written.
    epoch: u64,
    record: Slots,
    epochs: Epochs,
    /// How many events of each key have been accounted for. A key's rows come to one worker.
    seen: Vec<u32>,
    /// Counts that are ahead, the greatest by window and key: the last one of their key's window before has yet to come.
    /// A program whose partitions drift apart sends many rows of the same, so a look at them has to be paid for.
    ahead: BTreeMap<(u64, u64), u64>,
    /// Rows that came since the last look at those.
    since: usize,
    /// Events that are shown with the commit of the epochs under way.
    waiting: Vec<(u64, u64)>,
    answer: Answer,
    burst: Option<Burst>,
    shown: Arc<AtomicU64>,
}

/// What all workers have measured.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// From due to shown.
    pub record: Slots,
    /// The same by worker.
    pub by_worker: Vec<Slots>,
    /// From due to durable.
    pub commit: Slots,
    /// The windows that have closed.
    pub windows: Vec<Window>,
    /// The epochs that have been committed.
    pub epochs: Vec<Mark>,
    /// What came out.
    pub answer: Answer,
    /// What was seen of a burst, if there was one.
    pub burst: Option<Burst>,
}

impl Recorder {
    /// For one worker. `shown` counts the events that are shown, over all workers.
    #[must_use]
    pub fn new(schedule: Arc<Schedule>, window: Option<u64>, shown: Arc<AtomicU64>) -> Recorder {
        let load = schedule.load();
        // Nothing is looked up by key where nothing is counted, but one knows that only when the first row comes.
        let seen = vec![0; load.keys as usize];
        let record = Slots::over(schedule.duration());
        let windows = Windows::new(&schedule, window);
        let (burst, burst_share) = (schedule.burst().map(Burst::due), share(load.burst, MEASURED_OF_BURST));
        let share = share(load.rate, MEASURED);
        let burst_due = schedule.burst().unwrap_or(u64::MAX);
        Recorder {
            schedule,
            windows,
            immediate: true,
            share,
            burst_share,
            burst_due,
            epoch: 0,
            record,
            epochs: Epochs::default(),
            seen,
            ahead: BTreeMap::new(),
            since: 0,
            waiting: Vec::new(),
            answer: Answer::default(),
            burst,
            shown,
        }
    }

    /// Says whether rows are shown as they come, or with the commit of their epoch.
    pub fn show_at_once(&mut self, immediate: bool) {
        self.immediate = immediate;
    }

    /// Takes rows of an epoch.
    pub fn write(&mut self, epoch: u64, rows: impl ExactSizeIterator<Item = Row>) {
        self.epochs.begin(epoch);
        self.epoch = epoch;
        let before = self.answer.events;
        self.since += rows.len().max(1);
        let mut now = 0;
        for (at, row) in rows.enumerate() {
            if at % AT_ONCE == 0 {
                now = self.schedule.elapsed();
            }
            match row {
                Row::Passed(value, due) => {
                    self.answer.add(value, 0, due, 1);
                    // Events of a burst are due at one time.
                    let measured = match due == self.burst_due {
                        true => is_measured(value, self.burst_share),
                        false => is_measured(due, self.share),
                    };
                    if measured {
                        self.measure(now, due);
                    }
                }
                Row::Counted(key, window, count) => self.counted(now, key, window, count),
                Row::Closed(key, window, count) => {
                    self.answer.add(key, window, count, count);
                    match self.immediate {
                        true => self.windows.came(window, now),
                        false => self.windows.wait(epoch, window),
                    }
                }
            }
        }
        if !self.ahead.is_empty() && self.since >= self.ahead.len() {
            self.retry(now);
        }
        let events = self.answer.events - before;
        if self.immediate {
            self.shown.fetch_add(events, Ordering::Relaxed);
        } else {
            match self.waiting.last_mut().filter(|(waiting, _)| *waiting == epoch) {
                Some((_, waiting)) => *waiting += events,
                None => self.waiting.push((epoch, events)),
            }
        }
    }

    /// Accounts for counts that are no longer ahead, window by window.
    fn retry(&mut self, now: u64) {
        self.since = 0;
        for ((window, key), count) in std::mem::take(&mut self.ahead) {
            self.counted(now, key, window, count);
        }
    }

    #[inline]
    fn measure(&mut self, now: u64, due: u64) {
        if self.schedule.load().closed {
            return;
        }
        if self.immediate {
            self.record.record(due, now.saturating_sub(due), 1);
        }
        self.epochs.add(due);
        if let Some(burst) = &mut self.burst {
            match self.immediate {
                true => burst.shown(due, now),
                false => burst.came(self.epoch, due),
            }
        }
    }

    /// Accounts for every event that a count speaks of and no count did before.
    #[inline]
    fn counted(&mut self, now: u64, key: u64, window: u64, count: u64) {
        let before = self.windows.of_key_before(&self.schedule, key, window);
        let seen = u64::from(self.seen[key as usize]);
        if seen < before {
            let greatest = self.ahead.entry((window, key)).or_insert(count);
            *greatest = count.max(*greatest);
            return;
        }
        if self.schedule.load().closed {
            return self.grown(key, window, seen - before, count);
        }
        for nth in seen..before + count {
            let index = self.schedule.index(key, nth);
            if index >= self.schedule.total() || !self.windows.holds(index, window) {
                self.answer.wrong += 1;
                return;
            }
            self.seen[key as usize] += 1;
            self.answer.add(key, window, nth - before + 1, 1);
            let share = if self.schedule.is_in_burst(index) { self.burst_share } else { self.share };
            if index >= self.schedule.prefill() && is_measured(index, share) {
                self.measure(now, self.schedule.due(index));
            }
        }
    }

    /// Accounts for a count of which nothing is measured, as when everybody goes as fast as he can: at the cost of a row,
    /// not of every event that it speaks of.
    fn grown(&mut self, key: u64, window: u64, seen: u64, count: u64) {
        if count <= seen {
            return;
        }
        let last = u64::from(self.seen[key as usize]) - seen + count - 1;
        if !self.windows.holds(self.schedule.index(key, last), window) {
            self.answer.wrong += 1;
            return;
        }
        self.seen[key as usize] = (last + 1) as u32;
        self.answer.grow(key, window, seen, count);
    }

    /// All of an epoch has come.
    pub fn prepare(&mut self, epoch: u64) {
        self.epochs.prepare(epoch, self.schedule.elapsed());
    }

    /// An epoch has been committed.
    pub fn commit(&mut self, epoch: u64) {
        let now = self.schedule.elapsed();
        self.epochs.commit(epoch, now);
        if !self.immediate {
            self.windows.shown(epoch, now);
            if let Some(burst) = &mut self.burst {
                burst.committed(epoch, now);
            }
            let committed = self.waiting.iter().take_while(|(waiting, _)| *waiting <= epoch).count();
            let events: u64 = self.waiting.drain(..committed).map(|(_, events)| events).sum();
            self.shown.fetch_add(events, Ordering::Relaxed);
        }
    }
}

/// The bits that are 0 in the hash of an event that is measured, if at most `most` of `events` events are measured.
fn share(events: u64, most: u64) -> u64 {
    events.div_ceil(most).next_power_of_two() - 1
}

/// Whether the event of that number, or due then, is measured. Its hash does not depend on the partition of the event.
#[inline]
fn is_measured(event: u64, share: u64) -> bool {
    (event.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) & share == 0
}

/// Joins what the workers have measured once the run is over.
///
/// # Panics
/// If there are no workers.
#[must_use]
pub fn join(recorders: Vec<Recorder>) -> Recorded {
    let first = recorders.first().expect("at least one worker has measured");
    let schedule = Arc::clone(&first.schedule);
    let mut all = Recorded {
        record: Slots::over(schedule.duration()),
        by_worker: Vec::new(),
        commit: Slots::over(schedule.duration()),
        windows: Vec::new(),
        epochs: Vec::new(),
        answer: Answer::default(),
        burst: None,
    };
    let mut windows: Option<Windows> = None;
    let mut epochs = BTreeMap::new();
    for mut own in recorders {
        own.retry(schedule.elapsed());
        let mut commit = Slots::over(schedule.duration());
        for mark in own.epochs.finish(&mut commit) {
            // An epoch has been committed when the last of the sinks has committed it.
            let known = epochs.entry(mark.epoch).or_insert(mark);
            known.prepared = known.prepared.max(mark.prepared);
            known.committed = known.committed.max(mark.committed);
        }
        if !own.immediate {
            own.record = commit.clone();
        }
        all.record.merge(&own.record);
        all.commit.merge(&commit);
        all.by_worker.push(own.record);
        own.answer.wrong += own.ahead.len() as u64;
        all.answer.join(&own.answer);
        match (&mut all.burst, own.burst) {
            (Some(burst), Some(own)) => burst.join(own),
            (none, own) => *none = own,
        }
        match &mut windows {
            Some(windows) => windows.join(&own.windows),
            None => windows = Some(own.windows),
        }
    }
    all.epochs = epochs.into_values().collect();
    all.windows = windows.map(|windows| windows.closed(&schedule)).unwrap_or_default();
    all
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::harness::answer::{Question, expected};
    use crate::harness::schedule::Load;

    #[test]
    fn share_of_events_at_high_rates_is_measured_in_each_partition() {
        assert_eq!([1, 2_000_000, 2_000_001, 30_000_000].map(|rate| share(rate, MEASURED)), [0, 0, 1, 15]);
        for partition in 0..2 {
            let events = (partition..1_000_000).step_by(2);
            let measured = events.filter(|event| is_measured(*event, 15)).count();
            assert!((31_000..31_500).contains(&measured), "{measured}");
        }
    }

    const MILLI: u64 = 1_000_000;

    fn schedule(events: u64, keys: u64) -> Arc<Schedule> {
        let load = Load { events, keys, ..Load::open(1_000, 1.0) };
        let past = Instant::now().checked_sub(Duration::from_secs(30)).unwrap();
        Arc::new(Schedule::beginning_at(load, 1, past))
    }

    fn recorder(schedule: &Arc<Schedule>, window: Option<u64>) -> Recorder {
        Recorder::new(Arc::clone(schedule), window, Arc::default())
    }

    #[test]
    fn a_row_speaks_of_all_events_since_the_last_one_of_its_key() {
        let schedule = schedule(30, 10);
        let mut recorder = recorder(&schedule, None);
        let begun = Instant::now();
        recorder.write(0, (0..10).map(|key| Row::Counted(key, 0, 1)).collect::<Vec<_>>().into_iter());
        recorder.write(0, (0..10).map(|key| Row::Counted(key, 0, 3)).collect::<Vec<_>>().into_iter());
        let took = begun.elapsed().as_nanos() as u64;
        let shown = Arc::clone(&recorder.shown);
        let recorded = join(vec![recorder]);
        assert_eq!(recorded.answer, expected(&schedule, Question::Counts(None)));
        let total = recorded.record.total(Duration::ZERO);
        assert_eq!((total.len(), shown.load(Ordering::Relaxed)), (30, 30));
        // They were due half a minute ago, 29 ms apart.
        assert!(total.max() - total.min() < 150 * MILLI + took && total.min() > 29_000 * MILLI);
    }

    #[test]
    fn a_count_too_high_or_of_another_window_is_wrong() {
        let schedule = schedule(30, 10);
        for (window, row) in [(None, Row::Counted(3, 0, 4)), (Some(10_000), Row::Counted(3, 0, 2))] {
            let mut recorder = recorder(&schedule, window);
            recorder.write(0, [row].into_iter());
            assert_eq!(join(vec![recorder]).answer.wrong, 1, "{row:?}");
        }
        // A window is left out: the row stays ahead for ever.
        let mut recorder = recorder(&schedule, Some(10_000));
        recorder.write(0, [Row::Counted(3, 1, 1)].into_iter());
        assert_eq!(join(vec![recorder]).answer.wrong, 1);
    }

    #[test]
    fn windows_may_come_in_any_order_within_a_batch() {
        let schedule = schedule(30, 10);
        let mut recorder = recorder(&schedule, Some(10_000));
        for windows in [[2, 0, 1], [2, 1, 0]] {
            let rows: Vec<Row> = (0..10)
                .filter(|key| (key % 2 == 0) == (windows[1] == 0))
                .flat_map(|key| windows.map(|window| Row::Counted(key, window, 1)))
                .collect();
            recorder.write(0, rows.into_iter());
        }
        // What is still ahead is taken with the next rows.
        recorder.write(0, [].into_iter());
        assert_eq!(join(vec![recorder]).answer, expected(&schedule, Question::Counts(Some(10_000))));
    }

    #[test]
    fn rows_far_ahead_are_kept_once_and_counted_in_the_end() {
        let schedule = schedule(400, 10);
        let mut recorder = recorder(&schedule, Some(100_000));
        // Ten rows of each key in each of the windows 1 to 3, before any of window 0.
        for window in [3, 1, 2] {
            for count in 1..=10 {
                let rows: Vec<Row> = (0..10).map(|key| Row::Counted(key, window, count)).collect();
                recorder.write(0, rows.into_iter());
            }
        }
        assert_eq!(recorder.ahead.len(), 30);
        let rows: Vec<Row> = (0..10).map(|key| Row::Counted(key, 0, 10)).collect();
        recorder.write(0, rows.into_iter());
        assert_eq!(join(vec![recorder]).answer, expected(&schedule, Question::Counts(Some(100_000))));
    }

    #[test]
    fn where_nothing_is_measured_the_last_counts_are_the_answer() {
        let closed = |window| {
            let load = Load { events: 30, keys: 10, closed: true, ..Load::open(1_000, 1.0) };
            let schedule = Arc::new(Schedule::beginning_at(load, 1, Instant::now()));
            (recorder(&schedule, window), schedule)
        };
        let (mut totals, schedule) = closed(None);
        for count in [1, 3, 3, 2] {
            totals.write(0, (0..10).map(|key| Row::Counted(key, 0, count)).collect::<Vec<_>>().into_iter());
        }
        assert_eq!(join(vec![totals]).answer, expected(&schedule, Question::Totals(None)));
        let (mut windows, schedule) = closed(Some(20_000));
        for (window, count) in [(0, 1), (1, 1), (0, 2)] {
            windows.write(
                0,
                (0..10).map(|key| Row::Counted(key, window, count)).collect::<Vec<_>>().into_iter(),
            );
        }
        windows.write(0, [].into_iter());
        assert_eq!(join(vec![windows]).answer, expected(&schedule, Question::Totals(Some(20_000))));
        for (window, row) in [(None, Row::Counted(3, 0, 4)), (Some(10_000), Row::Counted(3, 0, 2))] {
            let mut wrong = closed(window).0;
            wrong.write(0, [row].into_iter());
            assert_eq!(join(vec![wrong]).answer.wrong, 1, "{row:?}");
        }
    }

    #[test]
    fn in_micro_batch_nothing_is_shown_before_the_commit() {
        let schedule = schedule(20, 10);
        let mut recorder = recorder(&schedule, None);
        recorder.show_at_once(false);
        recorder.write(0, (0..10).map(|key| Row::Counted(key, 0, 1)).collect::<Vec<_>>().into_iter());
        recorder.prepare(0);
        let shown = Arc::clone(&recorder.shown);
        recorder.write(1, (0..10).map(|key| Row::Counted(key, 0, 2)).collect::<Vec<_>>().into_iter());
        assert_eq!(shown.load(Ordering::Relaxed), 0);
        recorder.commit(0);
        assert_eq!(shown.load(Ordering::Relaxed), 10);
        recorder.commit(1);
        let recorded = join(vec![recorder]);
        assert_eq!(recorded.record.total(Duration::ZERO).len(), 20);
        assert_eq!(recorded.epochs.iter().map(|mark| mark.epoch).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_closed_window_is_measured_from_the_event_that_closes_it() {
        let schedule = schedule(30, 10);
        let mut recorder = recorder(&schedule, Some(10_000));
        let rows: Vec<Row> =
            (0..3).flat_map(|window| (0..10).map(move |key| Row::Closed(key, window, 1))).collect();
        recorder.write(0, rows.into_iter());
        let recorded = join(vec![recorder]);
        assert_eq!(recorded.answer, expected(&schedule, Question::Totals(Some(10_000))));
        // The last window is closed by the end, not by an event.
        assert_eq!(recorded.windows.len(), 2);
        assert_eq!(recorded.windows[1].ideal, 20 * MILLI);
        assert!(recorded.windows.iter().all(|w| w.first > 29_000 * MILLI && w.last >= w.first));
    }
}
