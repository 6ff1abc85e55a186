//! What workers report to the driver: events, the epochs that sources took part in, the first failure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_operators::Epoch;
use tidemill_operators::turn::{self, lock};

use super::Counters;
use super::timers::Timers;
use super::top_keys::TopKeys;
use crate::RunError;
use crate::events::{Event, EventSender};

/// The reports of all workers.
pub(crate) struct Reports {
    pub(crate) events: EventSender,
    pub(crate) counters: Counters,
    pub(crate) top_keys: TopKeys,
    pub(crate) timers: Timers,
    /// The last epoch that any source took part in, plus one.
    epochs: AtomicU64,
    failure: Mutex<Option<RunError>>,
}

impl Reports {
    pub(super) fn new(events: EventSender, counters: Counters, top_keys: TopKeys, timers: Timers) -> Reports {
        Reports { events, counters, top_keys, timers, epochs: AtomicU64::new(0), failure: Mutex::new(None) }
    }

    /// Sends an event and wakes the driver.
    pub(crate) fn tell(&self, event: Event) {
        turn::point("control.tell");
        // The driver outlives the workers; should it be gone, the report is not needed any more.
        self.events.send(event);
    }

    /// Sends an event that the next thread to tick the driver handles.
    pub(super) fn tell_without_waking(&self, event: Event) {
        turn::point("control.tell");
        self.events.send_without_waking(event);
    }

    /// Keeps an error unless there is one already: the first one counts.
    pub(super) fn fail(&self, error: RunError) {
        lock(&self.failure).get_or_insert(error);
    }

    pub(crate) fn take_failure(&self) -> Option<RunError> {
        lock(&self.failure).take()
    }

    /// Reports that a source takes part in an epoch; returns whether it is the first to do so.
    pub(super) fn took_part(&self, epoch: Epoch) -> bool {
        turn::point("control.took-part");
        let epochs = epoch.number().saturating_add(1);
        // Most calls change nothing, and then only read.
        self.epochs() < epochs && self.epochs.fetch_max(epochs, Ordering::AcqRel) < epochs
    }

    /// Returns how many epochs there have been, once the frontiers are empty.
    pub(crate) fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Acquire)
    }
}
