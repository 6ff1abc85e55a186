//! Micro-batch: how an epoch ends, from what its rows have shown and from its clock.

use tidemill_operators::{Epoch, EventTime, ProcessingTime};

use super::domain::Domain;
use super::{DomainId, Ledger, lock};

impl Ledger {
    /// Micro-batch: a reader of a slice has read all rows before that rank by the end of that epoch. Only asked for where
    /// an earlier run had read ahead.
    pub(crate) fn reach_by(&self, epoch: Epoch, origin: u32, reader: u32, rank: u64) {
        for domain in &self.domains {
            let mut domain = lock(domain);
            if domain.partitions.contains_key(&origin) {
                domain.reached.entry(epoch).or_default().push((origin, reader, rank));
            }
        }
    }

    /// Micro-batch: rows of a partition justify a watermark, in that epoch.
    pub(crate) fn shown(&self, domain: DomainId, epoch: Epoch, origin: u32, watermark: EventTime) {
        if let Some(mut domain) = self.domain(domain) {
            let slot = domain.shown.entry(epoch).or_default().entry(origin).or_insert(EventTime::MIN);
            *slot = (*slot).max(watermark);
        }
    }

    /// Micro-batch: returns the watermark at the end of an epoch, and whether the stream is idle.
    ///
    /// `None` until all workers have entered the epoch: a frontier may have passed it before, but a record that a worker
    /// has buffered for it has shown nothing yet. Epochs are asked for in order. `clock` is that of the epoch, and whether
    /// the epoch is the first that a run has planned itself; called once for each epoch.
    pub(crate) fn end_of_batch(
        &self,
        domain: DomainId,
        epoch: Epoch,
        clock: &dyn Fn() -> (ProcessingTime, bool),
    ) -> Option<(EventTime, bool)> {
        let members = self.members(domain).iter().map(|it| self.end_of_batch(*it, epoch, clock));
        let members = members.collect::<Option<Vec<_>>>()?;
        let of_members = self.of_members(domain, members.iter().copied());
        let Some(mut domain) = self.domain(domain) else { return Some((EventTime::MIN, false)) };
        if let Some(known) = domain.closed.get(&epoch) {
            return Some(*known);
        }
        if domain.spec.is_derived {
            let end = domain.reported(epoch)?;
            domain.now = end.max(domain.now);
            domain.is_idle = members.iter().all(|(_, is_idle)| *is_idle);
            let end = (domain.now, domain.is_idle);
            domain.closed.insert(epoch, end);
        } else if members.is_empty() {
            if !domain.all_are_in(epoch) {
                return None;
            }
            let has_ended = self.have_ended(&domain.spec.sources, |ends| ends.all_by(epoch));
            let (now, begins_run) = clock();
            domain.close(epoch, now, begins_run, has_ended);
        } else {
            domain.now = of_members.max(domain.now);
            domain.is_idle = members.iter().all(|(_, is_idle)| *is_idle);
            let end = (domain.now, domain.is_idle);
            domain.closed.insert(epoch, end);
        }
        Some((domain.now, domain.is_idle))
    }

    /// Micro-batch: returns the watermark of the inputs of an operator that derives that of its outputs, at the end of an
    /// epoch. `None` until it is known. It is the same on all workers, and does not go back.
    pub(crate) fn end_of_inputs(
        &self,
        derived: DomainId,
        epoch: Epoch,
        clock: &dyn Fn() -> (ProcessingTime, bool),
    ) -> Option<EventTime> {
        let members = self.members(derived).iter().map(|it| self.end_of_batch(*it, epoch, clock));
        let members = members.collect::<Option<Vec<_>>>()?;
        let of_members = self.of_members(derived, members.iter().copied());
        let mut domain = self.domain(derived)?;
        let before = domain.inputs.range(..=epoch).next_back().map_or(EventTime::MIN, |(_, inputs)| *inputs);
        // A worker that is ahead has asked for later epochs already: each has a watermark of its own.
        Some(*domain.inputs.entry(epoch).or_insert_with(|| of_members.max(before)))
    }

    /// Micro-batch: the instant at which partitions that stay silent will have changed the watermark.
    pub(crate) fn changes_at(&self, domain: DomainId) -> Option<ProcessingTime> {
        self.domain(domain)?.changes_at
    }

    /// Micro-batch: whether, after a restart, the silence of partitions may change the watermark.
    pub(crate) fn may_change(&self, domain: DomainId) -> bool {
        let after = |domain: &Domain| domain.spec.idle_after.filter(|_| domain.now > EventTime::MIN);
        let changes = |domain: &Domain| domain.next_change(after(domain)?, ProcessingTime::from_micros(0));
        self.domain(domain).is_some_and(|domain| changes(&domain).is_some())
    }
}
