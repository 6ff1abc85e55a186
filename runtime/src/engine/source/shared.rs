//! Partitions that an idle worker reads for another one (micro-batch). [`crate::control::Pool`] says why none is left out.
//!
//! A worker reads one partition at a time, to the end that the epoch's plan has for it, and then takes the next one: one of its
//! own, or, when it has none left, one that its owner has not begun. The partitions of a worker do not take turns as they do where
//! they stay on it: then it would begin all of them at once, and leave none to others.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tidemill_operators::{Epoch, SourceError};

use super::Reading;
use super::part::Part;
use crate::control::{EpochPlan, Parked, Pool};
use crate::events::PartitionRead;
use crate::ledger::Lead;

/// What a worker has to do with the partitions of all workers.
pub(super) struct Shared {
    pool: Arc<Pool>,
    /// The plan of the epoch that is being read.
    plan: Option<Arc<EpochPlan>>,
    /// What this worker has read of the epoch.
    read: Vec<PartitionRead>,
    /// Whether there is nothing left of the epoch that this worker could read.
    is_over: bool,
    /// The same for all partitions: only in continuous mode does one wait for others.
    lead: Rc<RefCell<Lead>>,
}

impl Shared {
    pub(super) fn new(pool: Arc<Pool>) -> Shared {
        Shared { pool, plan: None, read: Vec::new(), is_over: false, lead: Rc::default() }
    }

    /// Adds a partition of a worker that has been opened, to be read from that epoch on.
    pub(super) fn add(&self, owner: usize, epoch: Epoch, opened: Parked) {
        self.pool.put(owner, epoch, opened);
    }

    /// An epoch begins.
    pub(super) fn begin(&mut self, plan: Arc<EpochPlan>) {
        (self.plan, self.is_over) = (Some(plan), false);
    }

    /// Takes out what this worker has read of the epoch.
    pub(super) fn take_read(&mut self) -> Vec<PartitionRead> {
        std::mem::take(&mut self.read)
    }
}

impl Reading {
    /// Whether everything of the epoch has been read, or is being read by others.
    pub(super) fn is_read(&self) -> bool {
        match &self.shared {
            Some(shared) => shared.is_over,
            None => self.readers.iter().flatten().all(|part| part.done),
        }
    }

    /// Where partitions move: whether the next one is to be taken.
    pub(super) fn is_between_parts(&self) -> bool {
        self.shared.is_some() && self.readers.iter().flatten().all(|part| part.done)
    }

    /// Where partitions move: takes the next one, if the one at hand has been read. False if none is left.
    pub(super) fn next_part(&mut self) -> Result<bool, SourceError> {
        if !self.is_between_parts() {
            return Ok(true);
        }
        if let Some(part) = self.readers.as_mut().and_then(Vec::pop) {
            let read = self.read_of(&part)?;
            let (owner, next) =
                (self.control.peers.placement(part.partition), self.control.after(self.epoch));
            if let Some(shared) = &mut self.shared {
                shared.read.push(read);
                shared.pool.put(owner, next, part.park());
            }
        }
        let Some(shared) = &mut self.shared else { return Ok(true) };
        let Some(taken) = shared.pool.take(self.worker, self.epoch) else {
            shared.is_over = true;
            return Ok(false);
        };
        let mut part = Part::new(taken, &self.status, Rc::clone(&shared.lead));
        if let Some(plan) = &shared.plan {
            let (ends, ended) = (plan.ends.get(&self.node.id), plan.ended.get(&self.node.id));
            part.begin((self.node.id, self.epoch), ends, ended, &self.control)?;
        }
        self.readers.get_or_insert_default().push(part);
        Ok(true)
    }
}
