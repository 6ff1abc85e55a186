//! How much of its state a worker holds in memory, and how much it may.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::turn;

use super::{SpillError, SpillHandle, SpillSpace};

thread_local! {
    /// What the operator that runs on this thread may use.
    static CURRENT: RefCell<Option<Arc<StateMemory>>> = const { RefCell::new(None) };
}

/// What one worker may hold in memory, what it holds, and where the rest goes. Shared by the operators of the worker.
pub struct StateMemory {
    space: Box<dyn SpillSpace>,
    limit: usize,
    held: AtomicUsize,
    most: AtomicUsize,
    /// When to look for something to spill among all that is held; above the limit where that has not helped.
    threshold: AtomicUsize,
    spilled: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<SpillError>>,
}

impl std::fmt::Debug for StateMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateMemory")
            .field("limit", &self.limit)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// Until it is dropped, operators on this thread use the [`StateMemory`] that was entered.
#[derive(Debug)]
#[must_use = "the memory is left when this is dropped"]
pub struct Entered {
    before: Option<Arc<StateMemory>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        // A thread that is ending has no current memory to put back.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

impl StateMemory {
    /// This many bytes in memory, the rest in the space.
    pub fn new(limit: usize, space: Box<dyn SpillSpace>) -> Arc<StateMemory> {
        Arc::new(StateMemory {
            space,
            limit,
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            threshold: AtomicUsize::new(limit),
            spilled: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    /// Makes this the memory that operators on this thread use.
    pub fn enter(self: &Arc<Self>) -> Entered {
        let this = Arc::clone(self);
        Entered { before: CURRENT.with(|current| current.replace(Some(this))) }
    }

    /// What has been entered on this thread.
    pub(super) fn current() -> Option<Arc<StateMemory>> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// Whether what has been entered on this thread holds so much that all of it should be looked through.
    pub(crate) fn is_short() -> bool {
        let short = |memory: &Arc<StateMemory>| memory.held() > memory.threshold.load(Ordering::Relaxed);
        CURRENT.with(|current| current.borrow().as_ref().is_some_and(short))
    }

    /// All of it has been looked through: not again before the worker holds a good deal more than now.
    pub(crate) fn looked_through() {
        CURRENT.with(|current| {
            if let Some(memory) = &*current.borrow() {
                let later = (memory.held() + memory.limit / 4).max(memory.limit);
                memory.threshold.store(later, Ordering::Relaxed);
            }
        });
    }

    /// How many bytes may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes of rows are in memory.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many there were at most.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// How many bytes have been spilled so far.
    pub fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// The first failure of the space: after it nothing that the operators say counts.
    pub fn take_failure(&self) -> Option<SpillError> {
        if !self.has_failed() {
            return None;
        }
        turn::lock(&self.failure).take()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self, error: SpillError) {
        turn::lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn charge(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(held, Ordering::Relaxed);
    }

    pub(super) fn discharge(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.held().saturating_add(bytes) <= self.limit
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<SpillHandle, SpillError> {
        self.spilled.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.space.write(bytes)
    }

    pub(super) fn space(&self) -> &dyn SpillSpace {
        &*self.space
    }
}
