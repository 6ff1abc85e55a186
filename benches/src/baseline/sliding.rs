//! Counting events per key and sliding event-time window.
//!
//! Events are counted per pane, the stretch between two window starts, as in [`windowed_count`](super::windowed_count):
//! a pane is a tumbling window as wide as the slide. A closed pane's rows are sent to an operator on the same worker that
//! keeps a running total of each key: when a window is over, the pane that has come in is added, the totals are the
//! window's rows, and the pane that goes out is taken off. So a key costs three steps a window, however many panes it has.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::FixedState;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::run;
use super::windowed_count::{Rows, Table, Windowed, WindowedCount, counted};

/// What to count: windows of this many panes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    /// The events, their keys and the workers; its windows are the panes.
    pub count: WindowedCount,
    /// How many panes a window has.
    pub panes: u64,
}

impl Sliding {
    /// The job with 120 panes over the whole run.
    #[must_use]
    pub const fn new(events: u64, keys: u64, panes: u64, workers: usize) -> Self {
        Self { count: WindowedCount { windows: 120, ..WindowedCount::new(events, keys, workers) }, panes }
    }

    /// The time from one window's start to the next one's.
    #[must_use]
    pub const fn slide(&self) -> i64 {
        self.count.width()
    }

    /// How wide a window is.
    #[must_use]
    pub const fn size(&self) -> i64 {
        self.slide() * self.panes as i64
    }
}

/// Runs the job.
#[must_use]
pub fn sliding(job: Sliding) -> Windowed {
    let start = Instant::now();
    let parts = run(job.count.workers, None, move |worker| {
        let answer: Rc<RefCell<Windowed>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<i64, _, _>(|scope| {
            let panes = counted(scope, job.count, index, peers);
            let rows = panes.unary_frontier::<Rows, _, _, _>(Pipeline, "Slide", |first, _| {
                drop(first);
                let mut windows = Windows::new(job);
                let mut held = None;
                move |(input, frontier), output| {
                    input.for_each(|cap, batch| {
                        if held.is_none() {
                            held = cap.retain_least(0);
                        }
                        windows.put_by(batch);
                    });
                    let watermark = frontier.frontier().first().copied();
                    let Some(capability) = held.as_mut() else { return };
                    let mut session = output.session(capability);
                    windows.close(watermark.unwrap_or(i64::MAX), |rows| session.give_container(rows));
                    drop(session);
                    match watermark {
                        Some(watermark) if !windows.is_empty() => {
                            capability.downgrade(&watermark.max(*capability.time()));
                        }
                        _ => held = None,
                    }
                }
            });
            rows.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch| {
                    batch.iter().for_each(|(key, window, count)| seen.add(*key, *window, *count))
                });
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });
    let mut answer = Windowed { elapsed: start.elapsed(), ..Windowed::default() };
    parts.iter().for_each(|part| answer.join(part));
    answer
}

/// A pane that is closed: where it starts, and its keys' counts.
type Pane = (i64, Vec<(u64, u64)>);

/// The windows of one operator.
#[derive(Clone)]
pub(crate) struct Windows {
    slide: i64,
    size: i64,
    /// Closed panes that some window yet to close has, in order.
    panes: VecDeque<Pane>,
    /// How many of them are in `totals`.
    added: usize,
    /// The counts of the keys in the panes from the first to `added`.
    totals: Table,
    /// The end of the last window that was closed, once there was one.
    last_end: Option<i64>,
}

impl Windows {
    /// Rows in one container.
    const CONTAINER: usize = 4096;

    /// No open windows.
    pub(crate) fn new(job: Sliding) -> Self {
        Self {
            slide: job.slide(),
            size: job.size(),
            panes: VecDeque::new(),
            added: 0,
            totals: Table::with_hasher(FixedState::with_seed(3)),
            last_end: None,
        }
    }

    /// Whether no window that is yet to close has anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Takes rows of closed panes, run by run of the same pane.
    pub(crate) fn put_by(&mut self, rows: &[(u64, i64, u64)]) {
        for run in rows.chunk_by(|a, b| a.1 == b.1) {
            let start = run[0].1;
            let at = self.panes.partition_point(|pane| pane.0 < start);
            if self.panes.get(at).is_none_or(|pane| pane.0 != start) {
                self.panes.insert(at, (start, Vec::with_capacity(run.len())));
            }
            self.panes[at].1.extend(run.iter().map(|(key, _, count)| (*key, *count)));
        }
    }

    /// Emits the rows of the windows that end at or before `watermark`, and forgets the panes that no later one has.
    pub(crate) fn close(&mut self, watermark: i64, mut emit: impl FnMut(&mut Vec<(u64, i64, u64)>)) {
        while let Some(first) = self.panes.front().map(|pane| pane.0) {
            // The next window ends one slide after the last one, or with the first pane if none before it had any.
            let end = self.last_end.map_or(first, |end| end.max(first)) + self.slide;
            if end > watermark {
                return;
            }
            let start = end - self.size;
            while self.panes.get(self.added).is_some_and(|pane| pane.0 < end) {
                for (key, count) in &self.panes[self.added].1 {
                    *self.totals.entry(*key).or_insert(0) += count;
                }
                self.added += 1;
            }
            let mut totals = self.totals.iter();
            loop {
                let mut rows: Vec<_> =
                    totals.by_ref().take(Self::CONTAINER).map(|(key, count)| (*key, start, *count)).collect();
                if rows.is_empty() {
                    break;
                }
                emit(&mut rows);
            }
            self.last_end = Some(end);
            while self.added > 0 && self.panes.front().is_some_and(|pane| pane.0 < start + self.slide) {
                let Some((_, gone)) = self.panes.pop_front() else { break };
                self.added -= 1;
                for (key, count) in gone {
                    if let hashbrown::hash_map::Entry::Occupied(mut total) = self.totals.entry(key) {
                        *total.get_mut() -= count;
                        if *total.get() == 0 {
                            total.remove();
                        }
                    }
                }
            }
        }
    }
}
