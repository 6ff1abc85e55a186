//! When a state looks for expired entries: in passes over its table, some places at a time.
//!
//! An entry is removed at most a quarter of the TTL and a pass after it has expired. A pass costs a look at each place
//! of the table, four passes are made in a TTL, and each entry was written within it: so a write pays for a constant
//! number of looks, and an entry needs no memory for its expiry but the time of its last write.

use super::life::Ttl;

/// Places to look at for each new entry: more than a pass needs before the table has doubled.
pub(super) const STEPS_PER_ENTRY: usize = 4;

/// Places to look at in each call of `expire`: some tens of microseconds, and a table of a million entries in 500 calls.
pub(super) const STEPS_PER_CALL: usize = 4096;

/// Where the present pass is. `U` tells entries of one place apart.
#[derive(Debug)]
pub(super) struct Sweep<U> {
    pub(super) bucket: usize,
    /// The last entry of the place that has been looked at.
    pub(super) after: Option<U>,
    is_running: bool,
    next: i64,
}

impl<U> Sweep<U> {
    pub(super) fn new() -> Self {
        Sweep { bucket: 0, after: None, is_running: false, next: i64::MIN }
    }

    /// Whether a pass is under way, or due by the clock and thereby begun.
    pub(super) fn is_due(&mut self, ttl: &Ttl) -> bool {
        let Some(span) = ttl.span() else { return false };
        if !self.is_running && ttl.now() >= self.next {
            self.is_running = true;
            self.next = ttl.now().saturating_add((span / 4).max(1));
        }
        self.is_running
    }

    pub(super) fn next_bucket(&mut self) {
        self.bucket += 1;
        self.after = None;
    }

    /// Ends a pass.
    pub(super) fn end(&mut self) {
        *self = Sweep { next: self.next, ..Sweep::new() };
    }
}
