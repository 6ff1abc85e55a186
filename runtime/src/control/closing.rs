//! Answers how epochs end, where all workers share the ledger.

use tidemill_operators::{Epoch, EventTime, Mode, ProcessingTime, Waker};

use super::Control;
use crate::ledger::{DomainId, EpochEnds};

impl EpochEnds for Control {
    /// Does nothing: operators that assign watermarks are woken by `enter` and `observed_all` of the others, and for the operators
    /// below them the answer is there when the frontier has passed the epoch.
    fn register(&self, _worker: usize, _waker: Waker) {}

    fn enter(&self, domain: DomainId, worker: usize, epoch: Epoch) {
        self.ledger.enter(domain, worker, epoch);
        self.wakers.wake_assigners(domain, worker);
    }

    fn observed_all(&self, domain: DomainId, worker: usize) {
        self.ledger.finish(domain, worker);
        self.wakers.wake_assigners(domain, worker);
    }

    fn try_close(&self, domain: DomainId, worker: usize, epoch: Epoch, own: EventTime) -> Option<EventTime> {
        match self.mode {
            Mode::MicroBatch => {
                let end = self.ledger.end_of_batch(domain, epoch, &|| clock_of(self, epoch));
                end.map(|(watermark, _)| watermark)
            }
            Mode::Continuous => self.ledger.leaves(domain, worker, epoch, own, &|| self.clock.now()),
        }
    }

    fn try_close_inputs(&self, derived: DomainId, epoch: Epoch) -> Option<EventTime> {
        self.ledger.end_of_inputs(derived, epoch, &|| clock_of(self, epoch))
    }

    fn ended(&self, domain: DomainId, epoch: Epoch) -> Option<(EventTime, bool)> {
        Some(self.ledger.end_of_interval(domain, epoch))
    }
}

/// The clock of an epoch, and whether the epoch is the first that a run has planned itself.
fn clock_of(control: &Control, epoch: Epoch) -> (ProcessingTime, bool) {
    match control.schedule.plan(epoch) {
        Some(plan) => (plan.now, plan.begins_run),
        None => (control.clock.now(), false),
    }
}
