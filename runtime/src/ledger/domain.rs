//! A domain of event time: its partitions, and the watermark that follows from them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tidemill_operators::{Epoch, EventTime, ProcessingTime};

use super::alignment::InGroup;
use super::partition::Partition;
use super::{DomainSpec, PartitionMark};

/// How soon to look again where rows of an ended or silent partition are still on their way between workers.
const ON_THE_WAY: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Domain {
    pub(super) spec: DomainSpec,
    pub(super) partitions: BTreeMap<u32, Partition>,
    /// Micro-batch: the partitions that take part from a later epoch on, by that epoch.
    pub(super) joining: BTreeMap<Epoch, BTreeMap<u32, Partition>>,
    /// Micro-batch: what each partition has shown, by epoch.
    pub(super) shown: BTreeMap<Epoch, HashMap<u32, EventTime>>,
    /// Micro-batch: by epoch, the partition, reader and rank up to which slices were read.
    pub(super) reached: BTreeMap<Epoch, Vec<(u32, u32, u64)>>,
    /// Micro-batch: the watermark at the end of each closed epoch, and whether the stream is idle.
    pub(super) closed: BTreeMap<Epoch, (EventTime, bool)>,
    /// Micro-batch: what each partition had shown at the end of an epoch, for the checkpoint.
    pub(super) records: BTreeMap<Epoch, Vec<PartitionMark>>,
    /// Micro-batch: when the passing of time changes something.
    pub(super) changes_at: Option<ProcessingTime>,
    /// The watermark now: in micro-batch, at the end of the latest closed epoch.
    pub(super) now: EventTime,
    /// Micro-batch, where an operator derives the watermark: that of its inputs, at the end of each closed epoch.
    pub(super) inputs: BTreeMap<Epoch, EventTime>,
    /// Whether all partitions are idle.
    pub(super) is_idle: bool,
    /// Continuous: the watermark with which each worker left an epoch.
    pub(super) left: Vec<BTreeMap<Epoch, Left>>,
    /// Continuous: by partition, the rank of which not all rows had been observed when the first worker left the epoch.
    pub(super) unseen_ranks: BTreeMap<u32, u64>,
    /// Continuous: the last watermark of the run.
    pub(super) last: Option<EventTime>,
    /// The epoch that each worker is in; it has dealt with all records of that epoch that have reached it.
    pub(super) entered: Vec<Epoch>,
    /// Continuous: which workers will observe no more.
    pub(super) finished: Vec<bool>,
    /// Continuous: the domains whose readers wait for each other.
    pub(super) group: Option<InGroup>,
}

/// What rows justify, by partition and rank.
pub(crate) type Marks = BTreeMap<(u32, u64), EventTime>;

/// How a worker left an epoch in continuous mode.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) watermark: EventTime,
    pub(super) is_idle: bool,
    pub(super) shown: Marks,
}

impl Domain {
    pub(super) fn new(spec: DomainSpec, workers: usize, born: Option<ProcessingTime>) -> Domain {
        let of_source = spec.partitions.iter().map(|partition| {
            let slices = if partition.has_ranks { &partition.readers[..] } else { &[] };
            (partition.origin, Partition::new(partition.readers.len(), slices, born))
        });
        let mut partitions: BTreeMap<u32, Partition> = of_source.collect();
        if spec.is_mixed {
            // In micro-batch it does not matter which worker has observed a row.
            let mixed = if born.is_some() { workers as u32 } else { 1 };
            partitions.extend((0..mixed).map(|worker| (worker, Partition::new(1, &[], born))));
        }
        Domain {
            spec,
            partitions,
            joining: BTreeMap::new(),
            shown: BTreeMap::new(),
            reached: BTreeMap::new(),
            closed: BTreeMap::new(),
            records: BTreeMap::new(),
            changes_at: None,
            now: EventTime::MIN,
            inputs: BTreeMap::new(),
            is_idle: false,
            left: vec![BTreeMap::new(); workers],
            unseen_ranks: BTreeMap::new(),
            last: None,
            entered: vec![Epoch::new(0); workers],
            finished: vec![false; workers],
            group: None,
        }
    }

    /// Whether all workers are in that epoch or a later one.
    pub(super) fn all_are_in(&self, epoch: Epoch) -> bool {
        self.entered.iter().all(|entered| *entered >= epoch)
    }

    pub(super) fn partition(&mut self, origin: u32) -> &mut Partition {
        self.partitions.entry(origin).or_insert_with(|| Partition::new(1, &[], None))
    }

    /// A partition that has been discovered takes part from an epoch on: at once where `born` is the time (continuous), and else
    /// when the epochs before it are closed.
    pub(super) fn join(&mut self, origin: u32, epoch: Epoch, born: Option<ProcessingTime>) {
        let mut partition = Partition::new(1, &[], born);
        // So far the watermark has not waited for it.
        partition.pass(self.now);
        match born {
            Some(_) => {
                partition.member = self.group.as_ref().map(|group| group.add(1, partition.own()));
                self.partitions.entry(origin).or_insert(partition);
                // The stream waits for it.
                self.is_idle = false;
            }
            None => {
                self.joining.entry(epoch).or_default().insert(origin, partition);
            }
        }
    }

    /// A partition, also one that has yet to take part.
    pub(super) fn known(&mut self, origin: u32) -> Option<&mut Partition> {
        let joining = self.joining.values_mut().find_map(|partitions| partitions.get_mut(&origin));
        self.partitions.get_mut(&origin).or(joining)
    }

    /// The least of what the workers have reported at the end of an epoch; `None` until all have.
    pub(super) fn reported(&self, epoch: Epoch) -> Option<EventTime> {
        let reported = self.left.iter().map(|left| Some(left.get(&epoch)?.watermark));
        Some(reported.collect::<Option<Vec<_>>>()?.into_iter().min().unwrap_or(EventTime::MIN))
    }

    /// The watermark with some partitions idle, and whether all are; never less than it is.
    pub(super) fn watermark(&self, is_idle: impl Fn(&Partition) -> bool) -> (EventTime, bool) {
        if self.partitions.is_empty() && self.spec.may_grow {
            // The partitions that are yet to be discovered hold the watermark.
            return (self.now, false);
        }
        let (mut least, mut most) = (None::<EventTime>, EventTime::MIN);
        for partition in self.partitions.values() {
            let own = partition.own();
            most = most.max(own);
            if !is_idle(partition) {
                least = Some(least.map_or(own, |least| least.min(own)));
            }
        }
        (least.unwrap_or(most).max(self.now), least.is_none())
    }

    /// Micro-batch: ends an epoch whose clock is `now`.
    pub(super) fn close(&mut self, epoch: Epoch, now: ProcessingTime, begins_run: bool, has_ended: bool) {
        let later = self.joining.split_off(&epoch.next());
        self.partitions.extend(std::mem::replace(&mut self.joining, later).into_values().flatten());
        for (origin, shown) in self.shown.remove(&epoch).unwrap_or_default() {
            let partition = self.partition(origin);
            partition.show(None, shown);
            (partition.seen, partition.is_idle) = (Some(now), false);
        }
        for (origin, reader, rank) in self.reached.remove(&epoch).unwrap_or_default() {
            self.partition(origin).reach(reader, rank);
        }
        let idle_after = self.spec.idle_after;
        for partition in self.partitions.values_mut() {
            // A partition is discovered in its first epoch; and while no query runs, none falls silent.
            if partition.seen.is_none() || begins_run && !partition.is_idle {
                partition.seen = Some(now);
            }
            let is_silent = idle_after.is_some_and(|after| partition.silent_in(after, now).is_zero());
            // One that was idle at the last commit stays so until it shows rows: a replay closes the same windows.
            partition.is_idle |= partition.has_ended_by(epoch) || is_silent;
        }
        let (watermark, is_idle) = self.watermark(|partition| partition.is_idle);
        self.now = if has_ended { EventTime::MAX } else { watermark };
        self.is_idle = is_idle;
        self.changes_at = idle_after.and_then(|after| self.next_change(after, now));
        self.closed.insert(epoch, (self.now, is_idle));
        let marks = |(origin, partition): (&u32, &Partition)| {
            let (origin, is_idle, seen) = (*origin, partition.is_idle, partition.seen);
            let mark = move |(rank, shown)| PartitionMark { origin, rank, shown, is_idle, seen };
            partition.marks().map(mark).collect::<Vec<_>>()
        };
        self.records.insert(epoch, self.partitions.iter().flat_map(marks).collect());
    }

    /// Micro-batch: the first instant at which the silence of partitions changes the watermark, or makes the stream idle.
    pub(super) fn next_change(&self, idle_after: Duration, now: ProcessingTime) -> Option<ProcessingTime> {
        let silent_in =
            |partition: &&Partition| (!partition.is_idle).then(|| partition.silent_in(idle_after, now));
        let live = self.partitions.values().filter(|partition| !partition.has_ended());
        let mut delays: Vec<_> = live.filter_map(|partition| silent_in(&partition)).collect();
        delays.sort_unstable();
        let before = (self.now, self.is_idle);
        let changes = |delay: &Duration| {
            let by_then =
                |partition: &Partition| partition.is_idle || partition.silent_in(idle_after, now) <= *delay;
            self.watermark(by_then) != before
        };
        delays.into_iter().find(changes).map(|delay| now + delay)
    }

    /// Continuous: works the watermark out from what is known.
    pub(super) fn advance(
        &mut self,
        now: ProcessingTime,
        has_arrived: &dyn Fn(u32) -> bool,
        has_ended: bool,
    ) -> (bool, bool, Option<Duration>) {
        let idle_after = self.spec.idle_after;
        let mut look_again = None::<Duration>;
        let mut all_ended = !self.spec.is_mixed && !self.spec.may_grow && !self.partitions.is_empty();
        for (origin, partition) in &mut self.partitions {
            if partition.waits() {
                partition.seen = Some(now);
            }
            let ended = partition.has_ended();
            let left = idle_after.filter(|_| !ended).map(|after| partition.silent_in(after, now));
            let is_over = ended || left.is_some_and(|left| left.is_zero());
            // Only asked where it decides.
            let waits = is_over.then(|| {
                let on_the_way = partition.has_unseen().then_some(ON_THE_WAY);
                on_the_way.or_else(|| (!has_arrived(*origin)).then_some(Duration::ZERO))
            });
            let delay = waits.unwrap_or(left);
            partition.is_idle = is_over && delay.is_none();
            all_ended &= ended && partition.is_idle;
            look_again = look_again.into_iter().chain(delay).min();
        }
        let (watermark, is_idle) = self.watermark(|partition| partition.is_idle);
        let next = if has_ended || all_ended { EventTime::MAX } else { watermark };
        let moved = next > self.now;
        self.now = next;
        for partition in self.partitions.values_mut().filter(|partition| partition.is_idle) {
            partition.pass(next);
        }
        let fell_idle = is_idle && !self.is_idle;
        self.is_idle = is_idle;
        debug_assert_eq!(self.check(), Ok(()));
        (moved, fell_idle, look_again)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.now == EventTime::MAX {
            return Ok(());
        }
        match self.partitions.iter().find(|(_, partition)| !partition.permits(self.now)) {
            None => Ok(()),
            Some((origin, partition)) => Err(format!(
                "the watermark {:?} is beyond what partition {origin:#x} permits, which has unseen rows: {partition:?}",
                self.now
            )),
        }
    }
}
