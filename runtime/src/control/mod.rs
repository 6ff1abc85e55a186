//! What the driver and the workers of a run share.
//!
//! The driver writes the [`Schedule`], and workers read it. Workers write [`Reports`] and [`Sources`]; the driver reads them, and
//! sources read what pauses them. [`Control`] puts them together: its own methods are those that write in one part and wake
//! another.

mod closing;
mod counters;
mod pools;
mod reports;
mod schedule;
mod sources;
mod threads;
mod timers;
mod top_keys;
mod wakers;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::spill::StateMemory;
use tidemill_operators::turn;
use tidemill_operators::{Cancellation, Clock, Epoch, ErasedOffset, Mode, ProcessingTime};

pub(crate) use self::counters::{Counters, NodeCounters};
use self::pools::Pools;
pub(crate) use self::pools::{Parked, Pool};
use self::reports::Reports;
pub(crate) use self::schedule::{EpochPlan, Schedule};
use self::sources::Sources;
use self::threads::Threads;
use self::timers::Timers;
pub(crate) use self::top_keys::Sketch;
use self::top_keys::TopKeys;
use self::wakers::Wakers;
use crate::RunError;
use crate::checkpoint::loader::Loader;
use crate::events::{Event, EventSender, Report};
use crate::flow::Flow;
use crate::futures::Futures;
use crate::ledger::Ledger;
use crate::peers::Peers;
#[cfg(feature = "tables")]
use crate::published::Board;
use crate::recovery::Resume;
use crate::saver::Saver;

/// The next number for nodes of runs; 0 is for those who are in none.
static NODE_NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Where no operator holds rows while others work on them: more than any other bound.
const MOST_HELD: usize = 1 << 40;

/// Shared by the driver, the workers and the user's handle.
pub(crate) struct Control {
    // What stays as it is during the run.
    pub(crate) mode: Mode,
    pub(crate) peers: Peers,
    pub(crate) clock: Clock,
    /// The longest time between flushes of an operator (continuous).
    pub(crate) latency_budget: Duration,
    /// How long before a known time a worker is awake: as long as it polls before it parks.
    pub(crate) awake_before: Duration,
    /// The first of as many numbers as there are nodes, which no other run in this process has.
    pub(crate) node_numbers: u64,
    /// What the state of each worker of this process may take; none where there is no limit.
    pub(crate) memory: Vec<Arc<StateMemory>>,
    /// Where this run begins.
    pub(crate) resume: Resume,
    /// Reads the state of the last commit; none where there is no commit.
    pub(crate) state: Option<Loader>,
    /// Takes what the operators save; none without a checkpoint.
    pub(crate) saver: Option<Saver>,
    /// Runs the futures of operators.
    pub(crate) futures: Futures,

    /// The driver's decisions.
    pub(crate) schedule: Schedule,
    pub(crate) reports: Reports,
    pub(crate) sources: Sources,
    pub(crate) pools: Pools,
    pub(crate) ledger: Ledger,
    pub(crate) wakers: Wakers,
    pub(crate) threads: Threads,
    /// Set when the query ends where it stands.
    pub(crate) cancellation: Cancellation,
    /// What the workers' instances of the nested dataflow of all parts share.
    #[cfg_attr(not(feature = "tables"), allow(dead_code, reason = "only tables are parts"))]
    pub(crate) parts: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// The tables that other threads read; none if the graph publishes none.
    #[cfg(feature = "tables")]
    pub(crate) published: Option<Arc<Board>>,
    /// How many batches have been announced to the ledger.
    announced: AtomicU64,
}

pub(crate) struct ControlSpec {
    pub(crate) mode: Mode,
    pub(crate) peers: Peers,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) max_queued: usize,
    /// How many rows operators take at most that hold them while others work on them.
    pub(crate) in_flight: Option<usize>,
    pub(crate) futures: Futures,
    /// An upper bound on the operators that a row passes.
    pub(crate) hops: u64,
    pub(crate) latency_budget: Duration,
    pub(crate) awake_before: Duration,
    pub(crate) pulls_from: usize,
    pub(crate) events: EventSender,
    pub(crate) nodes: usize,
    /// The sources whose partitions idle workers read for others.
    pub(crate) moving: BTreeSet<NodeId>,
    /// Whether the keys of rows are counted.
    pub(crate) counts_keys: bool,
    /// By worker of this process; none where state may take what it takes.
    pub(crate) memory: Vec<Arc<StateMemory>>,
    pub(crate) resume: Resume,
    pub(crate) state: Option<Loader>,
    pub(crate) saver: Option<Saver>,
    /// Whether a test steps the query, and moves its clock.
    pub(crate) stepped: bool,
    /// The tables that other threads read; none if the graph publishes none.
    #[cfg(feature = "tables")]
    pub(crate) published: Option<Arc<Board>>,
}

impl Control {
    pub(crate) fn new(spec: ControlSpec) -> Control {
        let workers = spec.peers.total();
        let flow = match (spec.stepped, spec.mode) {
            (true, _) => Flow::stepped(spec.max_queued),
            (false, Mode::MicroBatch) => Flow::new(workers, spec.hops, spec.max_queued),
            (false, Mode::Continuous) => Flow::new(workers, spec.hops, spec.max_queued).continuous(),
        };
        let in_flight = spec.in_flight.map_or(MOST_HELD, |rows| rows.clamp(1, MOST_HELD));
        let flow = flow.with_in_flight(spec.in_flight);
        let counters = Counters::new(spec.nodes, workers);
        Control {
            mode: spec.mode,
            peers: spec.peers,
            clock: spec.clock,
            latency_budget: spec.latency_budget,
            awake_before: spec.awake_before,
            node_numbers: NODE_NUMBERS.fetch_add(spec.nodes as u64, Ordering::Relaxed),
            memory: spec.memory,
            schedule: Schedule::new(spec.resume.first()),
            reports: Reports::new(
                spec.events,
                counters,
                TopKeys::new(spec.counts_keys),
                Timers::new(spec.stepped),
            ),
            sources: Sources::new(flow, spec.pulls_from, in_flight, workers),
            pools: Pools::new(spec.moving, workers),
            ledger: spec.ledger,
            wakers: Wakers::default(),
            threads: Threads::default(),
            cancellation: Cancellation::new(),
            parts: OnceLock::new(),
            #[cfg(feature = "tables")]
            published: spec.published,
            announced: AtomicU64::new(0),
            resume: spec.resume,
            state: spec.state,
            saver: spec.saver,
            futures: spec.futures,
        }
    }

    /// Sends the driver an event.
    pub(crate) fn tell(&self, event: impl Into<Event>) {
        self.reports.tell(event.into());
    }

    /// Sends the driver a report that has time until the end of the worker's step, if workers then tick the driver.
    pub(crate) fn tell_after_step(&self, report: Report) {
        if !self.schedule.workers_tick() {
            return self.tell(report);
        }
        self.reports.tell_without_waking(report.into());
    }

    /// Returns the counters that a worker writes for a node.
    pub(crate) fn counters(&self, node: NodeId, worker: usize) -> Option<&NodeCounters> {
        self.reports.counters.of(node, worker)
    }

    /// Returns what the state of a worker of this process may take; none where there is no limit.
    pub(crate) fn memory_of(&self, worker: usize) -> Option<&Arc<StateMemory>> {
        self.memory.get(self.peers.local_index(worker)?)
    }

    // ---- how a query ends ----

    /// Ends the query with an error; the first one counts.
    pub(crate) fn fail(&self, error: RunError) {
        self.reports.fail(error);
        self.end();
    }

    /// Ends the query where it stands.
    pub(crate) fn end(&self) {
        self.cancellation.cancel();
        crate::sim::note_work();
        self.tell(Event::Wake);
        self.threads.unpark();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    // ---- the driver decides ----

    /// Has partitions of a source that were discovered take part from an epoch on, which no worker has entered. `origins` are
    /// their numbers as rows carry them.
    pub(crate) fn join(&self, source: NodeId, epoch: Epoch, origins: &[u32], starts: &[ErasedOffset]) {
        turn::point("control.join");
        let born = (self.mode == Mode::Continuous).then(|| self.clock.now());
        // Watermarks wait for them before a row of theirs can be read.
        let domains = self.ledger.join(source, origins, epoch, born);
        self.schedule.join(source, epoch, starts);
        if born.is_some() {
            // They look when the new ones will have been silent for long enough.
            domains.iter().for_each(|domain| self.wakers.wake_assigners(*domain, usize::MAX));
        }
    }

    /// Publishes the plan of an epoch (micro-batch).
    pub(crate) fn publish(&self, plan: EpochPlan) {
        turn::point("control.publish");
        self.schedule.publish(plan);
        self.wakers.wake_sources();
    }

    /// Sends sources into an epoch (continuous).
    pub(crate) fn set_target(&self, epoch: Epoch) {
        turn::point("control.set-target");
        self.schedule.set_target(epoch);
        self.wakers.wake_sources();
    }

    /// Tells sources to stop: in micro-batch after the planned epochs, in continuous at once.
    pub(crate) fn finish(&self) {
        turn::point("control.finish");
        self.schedule.finish();
        self.wakers.wake_sources();
    }

    /// Commits an epoch: all of it is durable and prepared.
    pub(crate) fn commit(&self, epoch: Epoch) {
        turn::point("control.commit");
        // Who sees what a sink has committed finds the tables of the same epoch.
        #[cfg(feature = "tables")]
        self.published.iter().for_each(|board| board.commit(epoch));
        self.schedule.commit(self.after(epoch));
        self.wakers.wake_sinks();
        self.schedule.forget_before(epoch);
        self.ledger.forget_before(epoch);
    }

    /// Lets sinks close: nothing is left to commit.
    pub(crate) fn close(&self) {
        turn::point("control.close");
        self.schedule.close();
        self.wakers.wake_sinks();
    }

    /// Reports that a source takes part in an epoch.
    pub(crate) fn took_part(&self, epoch: Epoch) {
        // Sinks and operators all of whose sources have ended take part too, and nothing else wakes them.
        if self.reports.took_part(epoch) && self.mode == Mode::Continuous {
            self.wakers.wake_sinks();
        }
    }

    // ---- epochs ----

    /// Returns the clock of an epoch: logged with its plan in micro-batch, the clock itself in continuous.
    pub(crate) fn now(&self, epoch: Epoch) -> ProcessingTime {
        match self.mode {
            Mode::Continuous => self.clock.now(),
            Mode::MicroBatch => self.schedule.plan(epoch).map_or_else(|| self.clock.now(), |plan| plan.now),
        }
    }

    /// Returns the epoch that follows another one in this run.
    pub(crate) fn after(&self, epoch: Epoch) -> Epoch {
        self.resume.numbers.after(epoch)
    }

    /// Returns the number of the next batch that is announced to the ledger.
    pub(crate) fn next_announcement(&self) -> u64 {
        self.announced.fetch_add(1, Ordering::Relaxed)
    }

    /// Micro-batch: requests an epoch whose clock has reached a time.
    pub(crate) fn request_epoch_at(&self, time: ProcessingTime) {
        if self.reports.timers.request(time) {
            self.tell(Event::Wake);
        }
    }

    /// Micro-batch: repeats a request at the end of an epoch, unless an epoch with such a clock is planned already.
    ///
    /// Of several requests only the earliest is kept, and only until it is due, so each operator repeats its own.
    pub(crate) fn still_requests_epoch_at(&self, time: ProcessingTime) {
        if !self.schedule.has_planned(time) {
            self.request_epoch_at(time);
        }
    }

    // ---- sources and rows in flight ----

    /// Reports that a source has new input.
    pub(crate) fn data_available(&self) {
        if self.sources.note_data() {
            self.tell(Report::DataAvailable);
        }
    }

    /// Continuous: reports whether a source has nothing to read on a worker at the moment.
    pub(crate) fn set_source_idle(&self, source: NodeId, worker: usize, idle: bool) {
        if self.sources.set_idle(source, worker, idle) {
            self.tell(Event::Wake);
        }
    }

    /// Returns whether a source must wait before it reads more.
    pub(crate) fn must_pause(&self, epoch: Epoch) -> bool {
        self.sources.must_pause(epoch, &self.schedule)
    }

    /// Counts rows that have reached a worker.
    pub(crate) fn received(&self, worker: usize, rows: usize) {
        if self.sources.received(worker, rows) {
            self.wakers.wake_sources();
        }
    }

    /// Counts rows that a worker buffers until their epoch begins, or (negative) has taken out.
    pub(crate) fn buffered(&self, worker: usize, rows: i64) {
        if self.sources.buffered(worker, rows) {
            self.wakers.wake_sources();
        }
    }

    /// Counts rows that a worker holds back until an operator takes more, or (negative) has passed to it.
    pub(crate) fn held_back(&self, worker: usize, rows: i64) {
        if self.sources.held_back(worker, rows) {
            self.wakers.wake_sources();
        }
    }
}
