//! What the driver decides and workers read: partitions and their starts, plans, the target epoch, the commit point, the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_operators::graph::NodeId;
use tidemill_operators::turn::lock;
use tidemill_operators::{Epoch, ErasedOffset, ProcessingTime};

/// An epoch as it was planned (micro-batch).
#[derive(Debug)]
pub(crate) struct EpochPlan {
    pub(crate) epoch: Epoch,
    /// The clock of the epoch.
    pub(crate) now: ProcessingTime,
    /// How far to read, by source and partition.
    pub(crate) ends: BTreeMap<NodeId, Vec<ErasedOffset>>,
    /// Whether it is the first that a run has planned itself, instead of replaying it.
    pub(crate) begins_run: bool,
    /// The partitions that had ended when the epoch was planned, by source. A replay does not read them either: where a
    /// partition has ended, an offset need not tell.
    pub(crate) ended: BTreeMap<NodeId, Vec<u32>>,
}

/// The driver's decisions. The driver writes through `Control`, which also wakes the readers.
pub(crate) struct Schedule {
    /// The partitions of each source: from which epoch on each takes part, and where it begins.
    partitions: Mutex<BTreeMap<NodeId, Vec<(Epoch, ErasedOffset)>>>,
    plans: Mutex<BTreeMap<Epoch, Arc<EpochPlan>>>,
    /// Continuous: how far partitions are read before their first epoch ends, in steps.
    covered: Mutex<BTreeMap<(NodeId, u32), VecDeque<ErasedOffset>>>,
    /// Continuous: the epoch that sources should be in.
    target: AtomicU64,
    /// Sources are to stop: in micro-batch after the planned epochs, in continuous at once.
    finishing: AtomicBool,
    /// The oldest epoch that is not committed: all below it are.
    committed: AtomicU64,
    /// Every epoch is committed and sinks may close.
    closed: AtomicBool,
    /// Micro-batch: whether workers tick the driver after a step that has sent events.
    workers_tick: AtomicBool,
}

impl Schedule {
    /// Returns the schedule of a run that begins with an epoch.
    pub(super) fn new(first: Epoch) -> Schedule {
        Schedule {
            partitions: Mutex::default(),
            plans: Mutex::default(),
            covered: Mutex::default(),
            target: AtomicU64::new(first.number()),
            finishing: AtomicBool::new(false),
            committed: AtomicU64::new(first.number()),
            closed: AtomicBool::new(false),
            workers_tick: AtomicBool::new(false),
        }
    }

    /// Adds partitions of a source, behind those that it has, which take part from an epoch on.
    pub(crate) fn join(&self, source: NodeId, epoch: Epoch, starts: &[ErasedOffset]) {
        let joining = starts.iter().map(|start| (epoch, start.clone()));
        lock(&self.partitions).entry(source).or_default().extend(joining);
    }

    /// Returns the partitions of a source that take part in an epoch, from number `first` on, each with its start.
    pub(crate) fn joined(&self, source: NodeId, first: u32, epoch: Epoch) -> Vec<(u32, ErasedOffset)> {
        let partitions = lock(&self.partitions);
        let new = (0..).zip(partitions.get(&source).into_iter().flatten()).skip(first as usize);
        let joined = new.take_while(|(_, (since, _))| *since <= epoch);
        joined.map(|(partition, (_, start))| (partition, start.clone())).collect()
    }

    /// Continuous: sets how far the partitions of a source are read before their first epoch ends, in steps.
    pub(crate) fn cover(&self, source: NodeId, covered: BTreeMap<u32, VecDeque<ErasedOffset>>) {
        let of_source = covered.into_iter().map(|(partition, ends)| ((source, partition), ends));
        lock(&self.covered).extend(of_source);
    }

    /// Continuous: takes out how far a partition is read before its first epoch ends, in steps.
    pub(crate) fn covered(&self, source: NodeId, partition: u32) -> Option<VecDeque<ErasedOffset>> {
        lock(&self.covered).remove(&(source, partition))
    }

    pub(super) fn publish(&self, plan: EpochPlan) {
        lock(&self.plans).insert(plan.epoch, Arc::new(plan));
    }

    pub(crate) fn plan(&self, epoch: Epoch) -> Option<Arc<EpochPlan>> {
        lock(&self.plans).get(&epoch).cloned()
    }

    /// Micro-batch: returns whether the clock of the last planned epoch has reached a time.
    pub(super) fn has_planned(&self, time: ProcessingTime) -> bool {
        lock(&self.plans).last_key_value().is_some_and(|(_, plan)| plan.now >= time)
    }

    pub(super) fn set_target(&self, epoch: Epoch) {
        self.target.store(epoch.number(), Ordering::Release);
    }

    pub(crate) fn target(&self) -> Epoch {
        Epoch::new(self.target.load(Ordering::Acquire))
    }

    pub(super) fn finish(&self) {
        self.finishing.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    /// Moves the commit point to the epoch after a committed one.
    pub(super) fn commit(&self, next: Epoch) {
        self.committed.store(next.number(), Ordering::Release);
    }

    /// Drops the plans of the epochs below one.
    pub(super) fn forget_before(&self, epoch: Epoch) {
        let mut plans = lock(&self.plans);
        *plans = plans.split_off(&epoch);
    }

    /// Returns the oldest epoch that is not committed: all below it are.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Returns whether every epoch is committed and sinks may close.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn workers_tick(&self) -> bool {
        self.workers_tick.load(Ordering::Relaxed)
    }

    pub(crate) fn let_workers_tick(&self, serves: bool) {
        self.workers_tick.store(serves, Ordering::Relaxed);
    }
}
