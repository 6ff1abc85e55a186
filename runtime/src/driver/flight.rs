//! An epoch under way: who has read, prepared and committed it, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::{ErasedOffset, ProcessingTime};

use crate::events::PartitionRead;

/// What a worker has read of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) worker: usize,
    pub(super) rows: u64,
    /// When it had read everything.
    pub(super) read: ProcessingTime,
}

pub(super) struct Flight {
    pub(super) begun: ProcessingTime,
    pub(super) planned: ProcessingTime,
    /// How much later than its interval it was planned, because the one before it was not over.
    pub(super) behind: Duration,
    /// How many records of a partition were enough when it was planned.
    pub(super) enough: u64,
    pub(super) last_read: ProcessingTime,
    pub(super) last_prepared: ProcessingTime,
    pub(super) reads: usize,
    pub(super) preparations: usize,
    pub(super) commits: usize,
    pub(super) rows_in: BTreeMap<NodeId, u64>,
    pub(super) rows_out: u64,
    /// One for each worker that has reported.
    pub(super) shares: Vec<Share>,
    pub(super) offsets: BTreeMap<NodeId, BTreeMap<u32, ErasedOffset>>,
}

impl Flight {
    pub(super) fn new(now: ProcessingTime) -> Flight {
        Flight {
            begun: now,
            planned: now,
            behind: Duration::ZERO,
            enough: u64::MAX,
            last_read: now,
            last_prepared: now,
            reads: 0,
            preparations: 0,
            commits: 0,
            rows_in: BTreeMap::new(),
            rows_out: 0,
            shares: Vec::new(),
            offsets: BTreeMap::new(),
        }
    }

    pub(super) fn read(
        &mut self,
        source: NodeId,
        worker: usize,
        rows: u64,
        partitions: Vec<PartitionRead>,
        now: ProcessingTime,
    ) {
        self.reads += 1;
        self.last_read = now;
        self.last_prepared = self.last_prepared.max(now);
        *self.rows_in.entry(source).or_default() += rows;
        match self.shares.iter_mut().find(|share| share.worker == worker) {
            Some(share) => (share.rows, share.read) = (share.rows + rows, now),
            None => self.shares.push(Share { worker, rows, read: now }),
        }
        let offsets = self.offsets.entry(source).or_default();
        for PartitionRead { partition, offset, .. } in partitions {
            let before = offsets.insert(partition, offset.0);
            debug_assert!(before.is_none(), "two workers have read partition {partition} in one epoch");
        }
    }

    pub(super) fn prepared(&mut self, rows: u64, now: ProcessingTime) {
        self.preparations += 1;
        self.rows_out += rows;
        self.last_prepared = now;
    }
}
