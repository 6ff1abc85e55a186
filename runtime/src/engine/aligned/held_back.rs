//! An operator that holds rows while others work on them, such as requests to a service.
//!
//! It reports in [`Context::hold`](tidemill_operators::Context::hold) what it holds. While it holds rows, its epoch does not end and its
//! outputs are held at the least time of their results. While it is full, batches are held back here; sources pause. Its waker
//! activates it when results have come.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_operators::{EventTime, Holding};

use super::{AlignedOperator, Arrived};
use crate::control::Control;

/// Batches of the current epoch that a full operator has not taken, each with the watermark under which it was sent. Their rows count as
/// held back at the worker.
pub(super) struct HeldBack {
    control: Arc<Control>,
    worker: usize,
    batches: VecDeque<(i64, i64, Arrived)>,
}

impl HeldBack {
    pub(super) fn new(control: &Arc<Control>, worker: usize) -> HeldBack {
        HeldBack { control: Arc::clone(control), worker, batches: VecDeque::new() }
    }

    fn put(&mut self, watermark: i64, arrived: Arrived) {
        let rows = arrived.1.len() as i64;
        self.control.held_back(self.worker, rows);
        self.batches.push_back((watermark, rows, arrived));
    }

    fn take(&mut self) -> Option<Arrived> {
        let (_, rows, arrived) = self.batches.pop_front()?;
        self.control.held_back(self.worker, -rows);
        Some(arrived)
    }

    pub(super) fn watermarks(&self) -> impl Iterator<Item = i64> {
        self.batches.iter().map(|(watermark, _, _)| *watermark)
    }
}

impl AlignedOperator {
    /// Whether the operator takes no more rows for now.
    fn is_full(&self) -> bool {
        matches!(self.hosted.context.holding(), Holding::Rows { is_full: true, .. })
    }

    /// Whether rows of the epoch are still to be worked on.
    pub(super) fn holds_rows(&self) -> bool {
        self.hosted.holds_rows
            && (self.hosted.context.holding() != Holding::Nothing || !self.held_back.batches.is_empty())
    }

    /// No result of the rows that the operator holds is older.
    pub(super) fn least_held(&self) -> EventTime {
        match self.hosted.context.holding() {
            Holding::Nothing => EventTime::MAX,
            Holding::Rows { least, .. } => least,
        }
    }

    /// Passes a batch of the current epoch to the operator, or holds it back if that is full.
    pub(super) fn work_or_hold_back(&mut self, watermark: i64, arrived: Arrived) {
        if self.hosted.holds_rows && (!self.held_back.batches.is_empty() || self.is_full()) {
            self.held_back.put(watermark, arrived);
        } else {
            self.work(arrived);
        }
    }

    /// Has the operator emit the results that have come, and passes it what was held back.
    pub(super) fn collect(&mut self) {
        if !self.holds_rows() || self.hosted.control.has_ended() {
            return;
        }
        self.hosted.call(|operator, context| operator.woken(context));
        self.send();
        while !self.is_full()
            && let Some(arrived) = self.held_back.take()
        {
            self.work(arrived);
        }
    }
}
