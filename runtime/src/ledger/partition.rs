//! What is known of one partition of a watermark: what it has shown, and which of its rows no instance has observed yet.
//!
//! A partition is a partition of a source, or a sequence that several readers read in slices (blocks of files). Its own
//! watermark is what the rows before its first unseen one justify. A row is unseen from the moment at which its source
//! announces the batch until all that became of the batch has been observed or dropped; for a slice, also before
//! that, since the next row of each reader has a known rank in the sequence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::{Epoch, EventTime, ProcessingTime};

use super::alignment::Member;
use super::ends::Ends;

/// Where a batch stands in the sequence of its partition: the rank of its slice, then the order of announcement.
pub(crate) type Position = (u64, u64);

#[derive(Debug)]
pub(super) struct Partition {
    /// What the rows before the first unseen one justify.
    own: EventTime,
    /// What rows behind an unseen one justify.
    ahead: BTreeMap<Position, EventTime>,
    /// The batches that are announced and not retired.
    unseen: BTreeSet<Position>,
    /// For each reader of a slice, the least rank of the rows that it has yet to announce.
    next_ranks: BTreeMap<u32, u64>,
    /// The greatest rank that has been announced.
    furthest: u64,
    /// The ends of its readers.
    pub(super) ends: Ends,
    /// When it last showed a record, or was discovered; `None` until its first epoch (micro-batch).
    pub(super) seen: Option<ProcessingTime>,
    pub(super) is_idle: bool,
    /// How far the stream's watermark had got when it last did not wait for this partition.
    passed: EventTime,
    /// How many of its readers wait for other partitions, which are behind.
    waiting: usize,
    /// Where the readers of others see how far it is.
    pub(super) member: Option<Arc<Member>>,
    /// Where readers read slices: how far each worker is in the sequence.
    pub(super) workers: Vec<Arc<Member>>,
}

impl Partition {
    /// A partition with this many readers; the readers of slices are named.
    pub(super) fn new(readers: usize, slices: &[u32], seen: Option<ProcessingTime>) -> Partition {
        Partition {
            own: EventTime::MIN,
            ahead: BTreeMap::new(),
            unseen: BTreeSet::new(),
            next_ranks: slices.iter().map(|reader| (*reader, 0)).collect(),
            furthest: 0,
            ends: Ends::of(readers),
            seen,
            is_idle: false,
            passed: EventTime::MIN,
            waiting: 0,
            member: None,
            workers: Vec::new(),
        }
    }

    /// Its own watermark.
    pub(super) fn own(&self) -> EventTime {
        self.own
    }

    /// What rows justify, by the rank of their slice: 0 where nothing before them is unseen.
    pub(super) fn marks(&self) -> impl Iterator<Item = (u64, EventTime)> {
        let ahead = self.ahead.iter().map(|(position, shown)| (position.0, *shown));
        std::iter::once((0, self.own)).chain(ahead)
    }

    /// Takes up what an earlier run knew: rows of that rank justify a watermark.
    pub(super) fn restore(&mut self, rank: u64, shown: EventTime) {
        self.show((rank > 0).then_some((rank, 0)), shown);
        self.settle();
    }

    /// A batch is on its way.
    pub(super) fn announce(&mut self, position: Position) {
        self.furthest = self.furthest.max(position.0);
        self.unseen.insert(position);
    }

    /// A reader will announce nothing before that rank any more. Returns whether the own watermark has moved.
    pub(super) fn reach(&mut self, reader: u32, rank: u64) -> bool {
        match self.next_ranks.get_mut(&reader) {
            Some(next) if *next != rank => {
                *next = rank;
                self.settle()
            }
            _ => false,
        }
    }

    /// Rows justify a watermark: those at a position in the sequence, or the next ones in order.
    pub(super) fn show(&mut self, position: Option<Position>, shown: EventTime) {
        match position {
            None => self.own = self.own.max(shown),
            Some(position) => {
                let slot = self.ahead.entry(position).or_insert(shown);
                *slot = (*slot).max(shown);
            }
        }
    }

    /// All that became of a batch has been observed. Returns whether the own watermark has moved.
    pub(super) fn retire(&mut self, position: Position) -> bool {
        self.unseen.remove(&position);
        self.settle()
    }

    /// Nothing is on its way any more.
    pub(super) fn retire_all(&mut self) {
        self.unseen.clear();
        self.settle();
    }

    fn settle(&mut self) -> bool {
        let before = self.own;
        let least_rank = self.least_unannounced();
        while let Some(entry) = self.ahead.first_entry() {
            if self.unseen.first().is_some_and(|unseen| entry.key() >= unseen)
                || least_rank.is_some_and(|least| entry.key().0 > least)
            {
                break;
            }
            self.own = self.own.max(entry.remove());
        }
        self.own > before
    }

    fn least_unannounced(&self) -> Option<u64> {
        self.next_ranks.values().min().copied()
    }

    /// Whether readers read slices of a sequence, whose rows are announced by rank.
    pub(super) fn has_ranks(&self) -> bool {
        !self.next_ranks.is_empty()
    }

    /// The least rank of a row that has not been observed; `None` where there are no ranks.
    pub(super) fn least_unseen(&self) -> Option<u64> {
        let announced = self.unseen.first().map(|(rank, _)| *rank);
        self.least_unannounced().map(|least| announced.map_or(least, |announced| announced.min(least)))
    }

    /// Whether there are rows that no instance has observed: on their way, or in a slice that others have passed.
    pub(super) fn has_unseen(&self) -> bool {
        !self.unseen.is_empty() || self.least_unannounced().is_some_and(|least| least < self.furthest)
    }

    /// A reader has ended.
    pub(super) fn end(&mut self, epoch: Epoch) {
        self.ends.report(epoch);
    }

    /// Nothing will come any more of rows that were mixed.
    pub(super) fn end_mixed(&mut self) {
        self.ends = Ends::of(1);
        self.ends.report(Epoch::new(0));
    }

    /// Whether all readers had ended by the end of an epoch.
    pub(super) fn has_ended_by(&self, epoch: Epoch) -> bool {
        self.ends.all_by(epoch)
    }

    /// Whether all readers have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ends.all()
    }

    /// A reader waits for other partitions, or (false) reads on: until now the partition has not been silent.
    pub(super) fn set_waiting(&mut self, waits: bool, now: ProcessingTime) {
        self.waiting = if waits { self.waiting + 1 } else { self.waiting.saturating_sub(1) };
        self.seen = Some(now);
    }

    /// Whether a reader waits for other partitions.
    pub(super) fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// How long it is until the partition has been silent for `idle_after`.
    pub(super) fn silent_in(&self, idle_after: Duration, now: ProcessingTime) -> Duration {
        self.seen.map_or(idle_after, |seen| idle_after.saturating_sub(now.since(seen)))
    }

    /// The stream's watermark does not wait for the partition, and is there.
    pub(super) fn pass(&mut self, watermark: EventTime) {
        self.passed = self.passed.max(watermark);
    }

    /// Whether a watermark of the stream is one that the partition permits, worked out from nothing but its facts.
    pub(super) fn permits(&self, watermark: EventTime) -> bool {
        if !self.has_unseen() {
            return true;
        }
        let first = self.least_unannounced().map_or((u64::MAX, u64::MAX), |rank| (rank, u64::MAX));
        let first = self.unseen.first().copied().unwrap_or(first).min(first);
        let justified = self.ahead.range(..first).map(|(_, shown)| *shown).fold(self.own, EventTime::max);
        watermark <= justified.max(self.passed)
    }
}
