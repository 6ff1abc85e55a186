//! What the operators on the same worker may know of a source.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::engine::host::steps;

/// What the operators on the same worker may know of a source: since which step it has ended, or had nothing to read.
#[derive(Debug, Default)]
pub(crate) struct SourceStatus {
    idle: Cell<Option<u64>>,
    /// By partition (as rows carry it): when a batch was last sent.
    sent: RefCell<BTreeMap<u32, Rc<Cell<u64>>>>,
    /// Whether it had more than it was asked for when it was last read.
    pub(super) backlog: Cell<bool>,
}

impl SourceStatus {
    /// Whether it has had nothing to read for this many steps.
    pub(super) fn idle(&self, hops: u64) -> bool {
        self.idle.get().is_some_and(|since| is_long_ago(since, hops))
    }

    /// Whether all batches of a partition were sent at least this many steps ago, and so have arrived everywhere.
    pub(crate) fn has_arrived(&self, origin: u32, hops: u64) -> bool {
        self.sent.borrow().get(&origin).is_none_or(|sent| is_long_ago(sent.get(), hops))
    }

    /// Where to note when a batch of a partition is sent.
    pub(super) fn sent(&self, origin: u32) -> Rc<Cell<u64>> {
        let long_ago = || Rc::new(Cell::new(steps().wrapping_sub(u64::MAX / 2)));
        Rc::clone(self.sent.borrow_mut().entry(origin).or_insert_with(long_ago))
    }

    /// Notes whether it has nothing to read.
    pub(super) fn set_idle(&self, idle: bool) {
        self.idle.set(if idle { self.idle.get().or_else(|| Some(steps())) } else { None });
    }

    /// Whether it had more than it was asked for when it was last read.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog.get()
    }
}

fn is_long_ago(since: u64, hops: u64) -> bool {
    steps().wrapping_sub(since) > hops
}
