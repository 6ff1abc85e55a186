//! How an operator that assigns watermarks reports what its records justify, and learns the stream's watermark.
//!
//! In micro-batch it only notes, by epoch and partition, what was shown: the ledger works out the watermark of the
//! epoch when that is complete. In continuous mode it also reports which batches it has observed, and applies what the
//! ledger works out of what all workers have reported.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::{Epoch, EventTime, Mode, ProcessingTime};

use super::announcement::Announcement;
use super::source::SourceStatus;
use crate::control::Control;
use crate::ledger::{Announced, DomainId, Marks, Observed, Position};
use crate::plan::{Assigns, from_origin};

/// How long the other workers may be left without news of the watermark.
const NEWS: Duration = Duration::from_millis(1);

/// How long an operator may keep what it has observed to itself where other workers share the watermark. The ledger's lock,
/// and a watermark that moves with every batch, cost more than a small batch: a windowed count of 10 M events/s on two workers
/// answered after 116 µs, now after 23. The watermark may lag by this much.
const KEEPS: Duration = Duration::from_micros(200);

/// The last watermark that records can justify: `EventTime::MAX` means that the sources have ended, and only that.
const LAST_SHOWN: EventTime = EventTime::from_micros(i64::MAX - 1);

/// The sources whose rows an operator takes on their own worker, so that it knows when they have arrived. Where batches
/// are announced it is not needed.
#[derive(Default)]
pub(crate) struct Locals {
    pub(crate) statuses: BTreeMap<NodeId, Rc<SourceStatus>>,
    /// An upper bound on the operators between a source and anything else.
    pub(crate) hops: u64,
}

pub(crate) struct Assigner {
    pub(crate) domain: DomainId,
    worker: usize,
    control: Arc<Control>,
    /// Whether other workers assign watermarks of the same domain.
    is_shared: bool,
    has_clock: bool,
    /// How far the watermark stays behind what rows justify.
    behind: Duration,
    /// The uid of the watermark.
    uid: String,
    /// Whether this run resumes from the end of time: whatever comes now would be late.
    over: bool,
    /// Continuous: what has been observed here, by partition and rank.
    marks: Marks,
    /// Continuous: what the ledger has not been told yet.
    shown: Vec<(u32, Option<Position>, EventTime)>,
    announcements: Vec<Arc<Announcement>>,
    locals: Locals,
    everything_came: bool,
    told: ProcessingTime,
    untold: bool,
    /// When the ledger was last told, and the watermark that it gave.
    asked: ProcessingTime,
    known: EventTime,
}

impl Assigner {
    pub(crate) fn new(
        node: &Node,
        assigns: &Assigns,
        worker: usize,
        control: Arc<Control>,
        locals: Locals,
    ) -> Assigner {
        let Assigns { domain, is_shared, .. } = *assigns;
        let start = control.resume.watermarks.get(domain).and_then(Option::as_ref);
        // What was known before this run is carried on by one worker.
        let known = start.filter(|_| worker == 0).into_iter().flat_map(|start| &start.partitions);
        let marks = known.map(|mark| ((mark.origin, mark.rank), mark.shown)).collect();
        let over = start.is_some_and(|start| start.watermark == EventTime::MAX);
        Assigner {
            domain,
            worker,
            is_shared,
            has_clock: is_shared || node.watermark().is_some_and(|it| it.idle_after.is_some()),
            behind: node.behind(),
            uid: node.uid().to_owned(),
            over,
            marks,
            shown: Vec::new(),
            announcements: Vec::new(),
            locals,
            everything_came: false,
            told: ProcessingTime::from_micros(i64::MIN),
            untold: false,
            asked: ProcessingTime::from_micros(i64::MIN / 2),
            known: EventTime::MIN,
            control,
        }
    }

    /// Returns what is wrong with records, whichever they are, if event time ended in an earlier run: at its last commit,
    /// or (micro-batch) in an epoch that this run has replayed, so that its `watermark` is the end of time.
    pub(crate) fn refuses(&self, watermark: EventTime) -> Option<String> {
        let replayed = self.control.mode == Mode::MicroBatch && watermark == EventTime::MAX;
        if !self.over && !replayed {
            return None;
        }
        let uid = &self.uid;
        Some(format!(
            "a record has arrived, but the watermark in the checkpoint is at the end of time: all sources of this \
             watermark had ended at the last commit, so every new record would be late. Run once with --drop-state \
             {uid} to reset the watermark, or use a new checkpoint. To avoid this, let the source wait for more \
             records instead of ending (a socket with OnDisconnect::Reconnect, a channel whose sender is kept) and \
             stop the query"
        ))
    }

    /// Rows of a batch have justified a watermark.
    pub(crate) fn observe(
        &mut self,
        epoch: Epoch,
        origin: u32,
        watermark: EventTime,
        announcement: Option<&Arc<Announcement>>,
    ) {
        let watermark = (watermark - self.behind).min(LAST_SHOWN);
        if self.control.mode == Mode::MicroBatch {
            return self.control.ledger.shown(self.domain, epoch, origin, watermark);
        }
        // Rows that have been mixed are told apart by the worker on which they were.
        let origin = if origin == 0 { self.worker as u32 } else { origin };
        let position = announcement
            .filter(|announcement| announcement.origin() == origin)
            .map(|announcement| announcement.position());
        let slot = self.marks.entry((origin, position.map_or(0, |(rank, _)| rank))).or_insert(watermark);
        *slot = (*slot).max(watermark);
        self.shown.push((origin, position, watermark));
    }

    /// A batch has been observed, as far as it came to this worker.
    pub(crate) fn retire(&mut self, announcement: Option<Arc<Announcement>>) {
        self.announcements.extend(announcement);
    }

    /// Continuous: leaves an epoch with its watermark at that.
    pub(crate) fn leave(&mut self, epoch: Epoch, watermark: EventTime) {
        let marks = std::mem::take(&mut self.marks);
        self.marks = self.control.ledger.leave(self.domain, self.worker, epoch, watermark, marks);
    }

    /// Nothing will reach this worker any more in this run. That is the end of time only if the sources have ended: one
    /// that was told to stop resumes in another run, and its windows stay open until then.
    pub(crate) fn end(&mut self) {
        self.everything_came = true;
    }

    /// Continuous: the watermark to be applied now; and when to look again, if the passing of time may change it. `must`:
    /// the epoch ends, and what has been observed in it counts.
    pub(crate) fn watermark(&mut self, has_buffered: bool, must: bool) -> (EventTime, Option<Duration>) {
        let now = if self.has_clock { self.control.clock.now() } else { ProcessingTime::from_micros(0) };
        let has_news = !self.shown.is_empty() || !self.announcements.is_empty();
        if self.is_shared && has_news && !must && !self.everything_came {
            let since = now.since(self.asked);
            if since < KEEPS {
                return (self.known, Some(KEEPS - since));
            }
        }
        self.asked = now;
        let Locals { statuses, hops } = &self.locals;
        let is_here = |origin| match from_origin(origin).0.and_then(|source| statuses.get(&source)) {
            Some(status) => !has_buffered && status.has_arrived(origin, *hops),
            None => true,
        };
        let everything_came = self.everything_came && !has_buffered;
        let observed = Observed {
            worker: self.worker,
            now,
            shown: &mut self.shown,
            announcements: &mut self.announcements,
            everything_came,
            has_arrived: &|origin| everything_came || is_here(origin),
        };
        let advanced = self.control.ledger.advance(self.domain, observed);
        if advanced.wakes_sources {
            self.control.wakers.wake_sources();
        }
        if advanced.fell_idle {
            for union in self.control.ledger.dependents(self.domain) {
                self.control.wakers.wake_assigners(union, usize::MAX);
            }
        }
        self.untold |= advanced.moved;
        let mut look_again = advanced.look_again;
        if self.untold && self.is_shared {
            let since = now.since(self.told);
            if self.told.as_micros() == i64::MIN || since >= NEWS {
                self.control.wakers.wake_assigners(self.domain, self.worker);
                self.told = now;
                self.untold = false;
            } else {
                let later = NEWS - since;
                look_again = Some(look_again.map_or(later, |d| d.min(later)));
            }
        }
        self.known = advanced.watermark;
        (advanced.watermark, look_again)
    }
}
