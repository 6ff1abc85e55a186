//! When operators want to be called by the clock.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tidemill_operators::ProcessingTime;
use tidemill_operators::turn::lock;

/// The times that operators have requested.
pub(crate) struct Timers {
    /// Micro-batch: the earliest one.
    earliest: AtomicI64,
    /// Continuous, where a test moves the clock: all of them.
    stepped: Option<Mutex<BTreeSet<ProcessingTime>>>,
}

impl Timers {
    pub(super) fn new(stepped: bool) -> Timers {
        Timers { earliest: AtomicI64::new(i64::MAX), stepped: stepped.then(Mutex::default) }
    }

    /// Returns whether a test moves the clock: real time does not bring timers about.
    pub(crate) fn is_stepped(&self) -> bool {
        self.stepped.is_some()
    }

    /// Continuous: notes when an operator wants to be called, for a test that moves the clock.
    pub(crate) fn note(&self, at: ProcessingTime) {
        if let Some(timers) = &self.stepped {
            lock(timers).insert(at);
        }
    }

    /// Removes and returns the earliest noted time that is not after `until`.
    pub(crate) fn take(&self, until: ProcessingTime) -> Option<ProcessingTime> {
        let mut timers = lock(self.stepped.as_ref()?);
        let at = timers.first().copied().filter(|at| *at <= until)?;
        timers.remove(&at);
        Some(at)
    }

    /// Micro-batch: requests an epoch whose clock has reached a time; returns whether that is the earliest request.
    pub(super) fn request(&self, time: ProcessingTime) -> bool {
        self.earliest.fetch_min(time.as_micros(), Ordering::AcqRel) > time.as_micros()
    }

    /// Returns the earliest request. One that is due is removed, for the epoch that is then planned.
    pub(crate) fn earliest(&self, now: ProcessingTime) -> Option<ProcessingTime> {
        let at = self.earliest.load(Ordering::Acquire);
        if at <= now.as_micros() {
            self.earliest.store(i64::MAX, Ordering::Release);
        }
        (at != i64::MAX).then_some(ProcessingTime::from_micros(at))
    }
}
