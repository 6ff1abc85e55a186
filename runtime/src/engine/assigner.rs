//! How an operator that assigns watermarks turns what its records justify into the stream's watermark.
//!
//! In micro-batch it only writes down, by epoch and partition, what was shown: the ledger makes the watermark of the
//! epoch when that is complete. In continuous mode each worker says what it justifies, and all apply the least.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::{DynSource, EventTime, Mode, ProcessingTime};

use super::lower::Upstream;
use crate::control::Control;
use crate::ledger::{DomainId, Hold, PartitionMark};

/// How long the other workers may be left without news of the watermark.
const NEWS: Duration = Duration::from_millis(1);

pub(crate) struct Assigner {
    pub(crate) domain: DomainId,
    worker: usize,
    control: Arc<Control>,
    idle_after: Option<Duration>,
    /// The uid of the watermark, where this run goes on from the end of time: whatever comes now would be late.
    over: Option<String>,
    /// What the partitions read on this worker have shown.
    origins: BTreeMap<u32, Origin>,
    /// The sources that reach this operator without leaving the worker, and the partitions of them that it reads.
    locals: Vec<Upstream>,
    /// Whether records also come from elsewhere, so that the partitions that will show up are not known.
    open: bool,
    /// Whether everything upstream has ended.
    ended: bool,
    /// Whether everything has come that will come in this run.
    came: bool,
    told: ProcessingTime,
    untold: bool,
    born: ProcessingTime,
}

struct Origin {
    watermark: EventTime,
    seen: ProcessingTime,
}

/// Tells slices of a sequence from partitions of their own: `(watermark partition, source)`.
pub(crate) fn is_sliced(source: &dyn DynSource) -> bool {
    let partitions = source.partitions();
    let mut named: Vec<u32> = (0..partitions).map(|p| source.watermark_partition(p)).collect();
    named.sort_unstable();
    named.dedup();
    named.len() < partitions as usize
}

/// The number under which rows of a source's partition are known in the whole graph.
pub(crate) fn origin(source: NodeId, watermark_partition: u32) -> u32 {
    ((source.0 as u32) << 16) | (watermark_partition & 0xffff)
}

/// The source and the partition of such a number.
pub(crate) fn from_origin(origin: u32) -> (NodeId, u32) {
    (NodeId((origin >> 16) as usize), origin & 0xffff)
}

impl Assigner {
    pub(crate) fn new(
        (domain, node): (DomainId, &Node),
        worker: usize,
        control: Arc<Control>,
        locals: Vec<Upstream>,
        open: bool,
    ) -> Assigner {
        let now = control.clock.now();
        let expected = locals.iter().flat_map(|l| l.origins.iter().copied());
        let start = control.resume.watermarks.get(domain).and_then(Option::as_ref);
        let shown: BTreeMap<u32, (EventTime, bool)> = start
            .into_iter()
            .flat_map(|start| &start.partitions)
            .map(|((source, partition), shown, idle)| (origin(*source, *partition), (*shown, *idle)))
            .collect();
        let at_first = |o| {
            let (watermark, idle) = shown.get(&o).copied().unwrap_or((EventTime::MIN, false));
            // One that was idle has been silent long enough.
            let seen = if idle { ProcessingTime(i64::MIN / 2) } else { now };
            (o, Origin { watermark, seen })
        };
        let origins = expected.map(at_first).collect();
        let over = start.filter(|start| start.watermark == EventTime::MAX).map(|_| node.uid().to_owned());
        Assigner {
            domain,
            worker,
            idle_after: node.watermark().and_then(|watermark| watermark.idle_after),
            over,
            control,
            origins,
            locals,
            open,
            ended: false,
            came: false,
            told: ProcessingTime(i64::MIN),
            untold: false,
            born: now,
        }
    }

    /// What is wrong with records, whichever they are, if this run goes on from the end of time.
    pub(crate) fn refuses(&self) -> Option<String> {
        let uid = self.over.as_ref()?;
        Some(format!(
            "records have come, but in the checkpoint event time has ended: at the last commit all sources of this \
             watermark had ended, and every record that comes now would be late. Let the watermark begin anew with \
             --drop-state {uid}, once, or take a new checkpoint. So that it does not happen again, have the source wait \
             for more instead of ending (a socket with OnDisconnect::Reconnect, a channel whose sender is kept) and \
             stop the query"
        ))
    }

    /// Rows have justified a watermark.
    pub(crate) fn observe(&mut self, epoch: tidemill_operators::Epoch, origin: u32, watermark: EventTime) {
        match self.control.mode {
            Mode::MicroBatch => self.control.ledger.shown(self.domain, epoch, origin, watermark),
            Mode::Continuous => {
                let seen = self.control.clock.now();
                let slot = self.origins.entry(origin).or_insert(Origin { watermark, seen });
                slot.watermark = slot.watermark.max(watermark);
                slot.seen = seen;
            }
        }
    }

    /// What the partitions have shown, for the checkpoint.
    pub(crate) fn marks(&self) -> Vec<PartitionMark> {
        let now = self.control.clock.now();
        let idle = |origin: &Origin| self.idle_after.is_some_and(|after| now.since(origin.seen) >= after);
        self.origins.iter().map(|(id, origin)| (*id, origin.watermark, idle(origin))).collect()
    }

    /// Nothing will come any more in this run. That is the end of time only if the sources have ended: one that was
    /// told to stop goes on another day, and its windows stay open until then.
    pub(crate) fn end(&mut self) {
        self.came = true;
        self.ended = self.control.ledger.has_ended(self.domain);
    }

    /// Continuous: the watermark to be applied now; and when to look again, if the passing of time may change it.
    /// `puts_by`: records that have come wait for their epoch, so this worker is neither at its end nor idle.
    pub(crate) fn watermark(&mut self, puts_by: bool) -> (EventTime, Option<Duration>) {
        let now = self.control.clock.now();
        if !self.came && self.must_wait_for_slices() {
            return (self.control.ledger.now(self.domain), Some(NEWS));
        }
        let (hold, idle_in) = self.hold(now, puts_by);
        let (watermark, moved) = self.control.ledger.hold(self.domain, self.worker, hold);
        self.untold |= moved;
        let mut look_again = idle_in;
        if self.untold && self.control.workers > 1 {
            let since = now.since(self.told);
            if self.told.0 == i64::MIN || since >= NEWS {
                self.control.wake_assigners(self.domain, self.worker);
                self.told = now;
                self.untold = false;
            } else {
                let later = NEWS - since;
                look_again = Some(look_again.map_or(later, |d| d.min(later)));
            }
        }
        (watermark, look_again)
    }

    /// Whether a slice of the same sequence has more to read on a worker that has not noticed yet: its records are as
    /// old as the ones read here, so the watermark must not move on without them.
    fn must_wait_for_slices(&self) -> bool {
        self.locals.iter().any(|l| l.sliced)
            && self.control.ledger.others_idle(self.domain, self.worker)
            && self.locals.iter().any(Upstream::others_have_more)
    }

    fn hold(&mut self, now: ProcessingTime, puts_by: bool) -> (Hold, Option<Duration>) {
        let ended = self.ended || (!self.open && self.locals.iter().all(Upstream::has_ended));
        if ended && !puts_by {
            return (Hold::Ended, None);
        }
        let mut least: Option<EventTime> = None;
        let (mut quiet, mut idle): (Option<EventTime>, Option<EventTime>) = (None, None);
        let mut idle_in: Option<Duration> = None;
        if self.locals.iter().any(Upstream::soon_quiet) {
            idle_in = Some(Duration::ZERO);
        }
        if self.open && self.origins.is_empty() {
            // Rows come from other workers: until the first, nobody can say how old it will be.
            match self.idle_after.map(|idle_after| idle_after.saturating_sub(now.since(self.born))) {
                Some(Duration::ZERO) => {}
                left => return (Hold::At(EventTime::MIN), left),
            }
        }
        for (id, origin) in &self.origins {
            // A partition that has ended, or a slice that has been read as far as there is anything, holds nobody back.
            let local = self.locals.iter().find(|l| l.origins.contains(id));
            if let Some(local) = local.filter(|l| !puts_by && l.is_quiet(self.came)) {
                if local.sliced {
                    quiet = Some(quiet.map_or(origin.watermark, |q| q.min(origin.watermark)));
                }
                continue;
            }
            if let Some(idle_after) = self.idle_after.filter(|_| !puts_by) {
                let silent = now.since(origin.seen);
                if silent >= idle_after {
                    idle = idle.max(Some(origin.watermark));
                    continue;
                }
                let left = idle_after - silent;
                idle_in = Some(idle_in.map_or(left, |d| d.min(left)));
            }
            least = Some(least.map_or(origin.watermark, |l| l.min(origin.watermark)));
        }
        let hold = match (least, quiet) {
            (Some(least), _) => Hold::At(least),
            (None, _) if puts_by => Hold::At(EventTime::MIN),
            // Partitions that fall silent together leave the watermark as if one had done so after the other.
            (None, quiet) => quiet.max(idle).map_or(Hold::Idle, Hold::Quiet),
        };
        (hold, idle_in)
    }
}
