//! How operators learn with which watermark an epoch ends.

use tidemill_operators::{Epoch, EventTime, Waker};

use super::DomainId;

/// Answers with which watermark the epochs of a domain end.
///
/// An answer depends on what all workers report, which may run in other processes, so it may come later: `None` means
/// that it is not known yet. The worker's operator is woken when asking again may help.
pub(crate) trait EpochEnds: Send + Sync {
    /// Registers an operator of a worker, to be woken when an answer is known that was not known when it asked.
    fn register(&self, worker: usize, waker: Waker);

    /// Reports that a worker's operator is in an epoch, and has observed all rows of it that it had buffered.
    fn enter(&self, domain: DomainId, worker: usize, epoch: Epoch);

    /// Continuous: reports that a worker's operator has observed all that will come in this run. Its epoch is the last.
    fn observed_all(&self, domain: DomainId, worker: usize);

    /// Returns the watermark at the end of an epoch, all of whose rows have come to the worker.
    ///
    /// `own` is the watermark that the operator has applied: in continuous mode it leaves an epoch that is not the last with
    /// that one.
    fn try_close(&self, domain: DomainId, worker: usize, epoch: Epoch, own: EventTime) -> Option<EventTime>;

    /// Micro-batch: returns the watermark of the inputs at the end of an epoch, for an operator that derives the watermark of its
    /// outputs, `derived`.
    fn try_close_inputs(&self, derived: DomainId, epoch: Epoch) -> Option<EventTime>;

    /// Continuous: returns the watermark at the end of an epoch that every worker has left, and whether the stream was idle.
    fn ended(&self, domain: DomainId, epoch: Epoch) -> Option<(EventTime, bool)>;
}
