//! A partition that a worker reads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::{DynReader, Epoch, ErasedOffset, Mode, Poll, Polled, SourceError};

use super::SourceStatus;
use crate::control::{Control, Parked};
use crate::ledger::{Lead, Pause};

/// A partition and its reader.
pub(super) struct Part {
    pub(super) partition: u32,
    pub(super) origin: u32,
    pub(super) reader: Box<dyn DynReader>,
    /// Whether the reader has reported its end in this run.
    pub(super) ended: bool,
    /// Whether it had ended before the epoch that is replayed.
    pub(super) had_ended: bool,
    /// Micro-batch: whether the epoch's range has been read.
    pub(super) done: bool,
    /// Continuous: how far it is read before the first epoch ends, in steps; the first one is the reader's limit.
    pub(super) covered: VecDeque<ErasedOffset>,
    /// Whether it gave as much as it was asked for, so that a pull pays.
    pub(super) abundant: bool,
    /// When a batch was last sent, for the operators on this worker.
    pub(super) sent: Rc<Cell<u64>>,
    /// Where the readers read slices of a sequence: what the ledger knows of the rank of the next row.
    pub(super) rank: Option<u64>,
    /// Whether the operators on this worker have been woken because it has ended.
    pub(super) told_end: bool,
    /// Continuous: how far it is ahead of the partitions that hold the watermark; slices of a sequence have one together.
    pub(super) lead: Rc<RefCell<Lead>>,
    /// Whether it waits for partitions that are behind.
    pub(super) waits: bool,
}

impl Part {
    /// A partition that has been opened, or that another worker has read so far.
    pub(super) fn new(parked: Parked, status: &SourceStatus, lead: Rc<RefCell<Lead>>) -> Part {
        let Parked { partition, origin, reader, ended, abundant } = parked;
        Part {
            partition,
            origin,
            reader,
            ended,
            had_ended: false,
            done: false,
            covered: VecDeque::new(),
            abundant,
            sent: status.sent(origin),
            rank: None,
            told_end: false,
            waits: false,
            lead,
        }
    }

    /// The same for another worker to read on.
    pub(super) fn park(self) -> Parked {
        let Part { partition, origin, reader, ended, abundant, .. } = self;
        Parked { partition, origin, reader, ended, abundant }
    }

    /// Micro-batch: limits the reader to the end that is planned for an epoch. `ends` and `ended` are those of the source.
    pub(super) fn begin(
        &mut self,
        (source, epoch): (NodeId, Epoch),
        ends: Option<&Vec<ErasedOffset>>,
        ended: Option<&Vec<u32>>,
        control: &Control,
    ) -> Result<(), SourceError> {
        self.reader.read_until(ends.and_then(|ends| ends.get(self.partition as usize)))?;
        self.had_ended = !self.ended && ended.is_some_and(|it| it.contains(&self.partition));
        self.done = self.ended || self.had_ended;
        if self.had_ended {
            control.ledger.partition_had_ended(source, self.origin, epoch);
        }
        Ok(())
    }

    /// Continuous: whether there are rows that the first epoch must have and that have not been read.
    pub(super) fn is_behind(&self) -> bool {
        !self.covered.is_empty() && !self.ended
    }

    /// Continuous: limits the reader to the next step, or not at all behind the last one.
    pub(super) fn limit(&mut self) -> Result<(), SourceError> {
        while let Some(end) = self.covered.front() {
            self.reader.read_until(Some(end))?;
            if !self.reader.at_limit() {
                return Ok(());
            }
            self.covered.pop_front();
        }
        self.reader.read_until(None)
    }

    /// The least rank of the rows that are yet to be read: none at the end of something that grows in place.
    pub(super) fn next_rank(&self) -> u64 {
        if self.ended || self.had_ended { u64::MAX } else { self.reader.next_rank().unwrap_or(u64::MAX) }
    }
}

/// Has partitions wait that are too far ahead of others; returns when to look again at the latest, if any waits.
pub(super) fn align(parts: &mut [Part], control: &Control) -> Option<Duration> {
    let mut again = None::<Duration>;
    for part in parts.iter_mut().filter(|part| !part.ended) {
        let mut lead = part.lead.borrow_mut();
        let waited = lead.waits();
        let pause = lead.look(|| control.clock.now());
        part.waits = lead.waits();
        if part.waits != waited {
            control.ledger.set_waiting(part.origin, !waited, control.clock.now());
        }
        if let Pause::Waits(patience) = pause {
            again = Some(again.map_or(patience, |again| again.min(patience)));
        }
    }
    again
}

/// Whether a partition that gave so much has enough to be pulled.
fn is_abundant(rows: usize, poll: Poll, control: &Control) -> bool {
    poll == Poll::Ready && rows >= control.sources.lend_from
}

/// Notes how far a partition has been read; returns whether it may be read on, beyond a limit that it had.
pub(super) fn settle(
    part: &mut Part,
    polled: &Polled,
    (source, worker): (NodeId, usize),
    epoch: Epoch,
    control: &Control,
) -> Result<bool, SourceError> {
    let Polled { rows, poll, skipped } = *polled;
    part.abundant = is_abundant(rows, poll, control);
    if part.lead.borrow_mut().took(rows, poll == Poll::Ready) {
        control.wakers.wake_sources();
    }
    if skipped > 0
        && let Some(counters) = control.counters(source, worker)
    {
        counters.skipped_rows.add(skipped);
    }
    if poll == Poll::End {
        part.ended = true;
        part.done = true;
        control.ledger.partition_ended(source, part.origin, epoch);
    }
    if control.mode == Mode::MicroBatch && part.reader.at_limit() {
        part.done = true;
    }
    let moves = part.is_behind() && part.reader.at_limit();
    if moves {
        part.limit()?;
    }
    Ok(moves)
}
