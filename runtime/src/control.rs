//! What the threads of a query share: plans, the commit point, the failure that ends it, queues and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::spill::StateMemory;
use tidemill_operators::turn::{self, lock};
use tidemill_operators::{Cancellation, Clock, Epoch, ErasedOffset, Mode, ProcessingTime, Waker};

use crate::RunError;
use crate::error::Site;
use crate::events::{Event, EventSender};
use crate::flow::Flow;
use crate::ledger::Ledger;
use crate::recovery::Resume;
use crate::user_code::Running;

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

/// The next number for nodes of runs; 0 is for those who are in none.
static GROUPS: AtomicU64 = AtomicU64::new(1);

/// Shared by the driver, the workers and the user's handle.
pub(crate) struct Control {
    pub(crate) mode: Mode,
    pub(crate) workers: usize,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    /// How many rows a source may read at once, and how many may be queued for a worker.
    pub(crate) flow: Flow,
    /// The longest time between flushes of an operator (continuous).
    pub(crate) latency_budget: Duration,
    /// How many rows a source must have at once to be read by the chain behind it itself.
    pub(crate) feeds_from: usize,
    /// The first of as many numbers as there are nodes, which no other run in this process has.
    pub(crate) groups: u64,
    pub(crate) events: EventSender,
    pub(crate) metrics: Vec<NodeMetrics>,
    /// What the state of each worker may take; none where there is no limit.
    pub(crate) memory: Vec<Arc<StateMemory>>,
    /// Where this run begins.
    pub(crate) resume: Resume,

    starts: OnceLock<BTreeMap<NodeId, Vec<ErasedOffset>>>,
    plans: Mutex<BTreeMap<Epoch, Arc<EpochPlan>>>,
    /// Continuous: the epoch that sources should be in.
    target: AtomicU64,
    /// Sources are to stop: in micro-batch after the planned epochs, in continuous at once.
    finishing: AtomicBool,
    /// The last epoch that any source took part in, plus one.
    epochs: AtomicU64,
    /// The oldest epoch that is not committed: all below it are.
    committed: AtomicU64,
    /// Every epoch is committed and sinks may close.
    closed: AtomicBool,
    /// Set when the query ends where it stands.
    pub(crate) cancellation: Cancellation,
    failure: Mutex<Option<RunError>>,
    data_available: AtomicBool,
    /// Micro-batch: whether workers tick the driver after a step that has sent events.
    workers_tick: AtomicBool,
    /// Micro-batch: the earliest processing-time timer.
    timer: AtomicI64,
    /// Continuous, under a driver that steps: when operators want to be called, for whoever moves the clock.
    timers: Option<Mutex<BTreeSet<ProcessingTime>>>,

    /// Records on their way to each worker.
    queued: Vec<CachePadded<AtomicI64>>,
    /// Records that wait at each worker for their epoch.
    stashed: Vec<CachePadded<AtomicI64>>,
    paused: AtomicBool,

    /// How many batches have been announced to the ledger.
    announced: AtomicU64,

    wakers: Mutex<Wakers>,
    /// The workers that run.
    threads: Mutex<Vec<(Thread, Running)>>,
    /// Continuous: sources that have nothing to read at the moment, by worker.
    idle_sources: Mutex<BTreeMap<(NodeId, usize), bool>>,
}

#[derive(Default)]
struct Wakers {
    sources: Vec<Waker>,
    sinks: Vec<Waker>,
    /// The operators that assign watermarks, by domain and worker.
    assigners: Vec<(usize, usize, Waker)>,
    /// The operators that may have timers, where a simulated clock has to wake them.
    timed: Vec<Waker>,
}

/// Counters of a node, summed over workers.
#[derive(Debug, Default)]
pub(crate) struct NodeMetrics {
    pub(crate) rows_in: AtomicU64,
    pub(crate) rows_out: AtomicU64,
    pub(crate) late_rows: AtomicU64,
    pub(crate) skipped_rows: AtomicU64,
    pub(crate) state_rows: Vec<AtomicU64>,
}

pub(crate) struct ControlSpec {
    pub(crate) mode: Mode,
    pub(crate) workers: usize,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) max_queued: usize,
    /// An upper bound on the operators that a row passes.
    pub(crate) hops: u64,
    pub(crate) latency_budget: Duration,
    pub(crate) feeds_from: usize,
    pub(crate) events: EventSender,
    pub(crate) nodes: usize,
    /// By worker; none where state may take what it takes.
    pub(crate) memory: Vec<Arc<StateMemory>>,
    pub(crate) resume: Resume,
    /// Whether a test steps the query, and moves its clock.
    pub(crate) stepped: bool,
}

impl Control {
    pub(crate) fn new(spec: ControlSpec) -> Control {
        let counters = |n: usize| (0..n).map(|_| CachePadded::new(AtomicI64::new(0))).collect();
        let metrics = |_| NodeMetrics {
            state_rows: (0..spec.workers).map(|_| AtomicU64::new(0)).collect(),
            ..NodeMetrics::default()
        };
        Control {
            mode: spec.mode,
            workers: spec.workers,
            clock: spec.clock,
            ledger: spec.ledger,
            flow: match spec.stepped {
                true => Flow::stepped(spec.max_queued),
                false => Flow::new(spec.workers, spec.hops, spec.max_queued),
            },
            latency_budget: spec.latency_budget,
            feeds_from: spec.feeds_from,
            groups: GROUPS.fetch_add(spec.nodes as u64, Ordering::Relaxed),
            events: spec.events,
            metrics: (0..spec.nodes).map(metrics).collect(),
            memory: spec.memory,
            starts: OnceLock::new(),
            plans: Mutex::default(),
            target: AtomicU64::new(spec.resume.first().0),
            finishing: AtomicBool::new(false),
            epochs: AtomicU64::new(0),
            committed: AtomicU64::new(spec.resume.first().0),
            closed: AtomicBool::new(false),
            cancellation: Cancellation::new(),
            failure: Mutex::new(None),
            data_available: AtomicBool::new(false),
            workers_tick: AtomicBool::new(false),
            timer: AtomicI64::new(i64::MAX),
            timers: spec.stepped.then(Mutex::default),
            queued: counters(spec.workers),
            stashed: counters(spec.workers),
            paused: AtomicBool::new(false),
            announced: AtomicU64::new(0),
            wakers: Mutex::default(),
            threads: Mutex::default(),
            idle_sources: Mutex::default(),
            resume: spec.resume,
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        turn::point("control.tell");
        // The driver outlives the workers; should it be gone, nobody needs to know any more.
        self.events.send(event);
    }

    /// Tells the driver something that has time until the end of the worker's step, if workers then tick the driver.
    pub(crate) fn tell_after_step(&self, event: Event) {
        if !self.workers_tick() {
            return self.tell(event);
        }
        turn::point("control.tell");
        self.events.send_without_waking(event);
    }

    pub(crate) fn workers_tick(&self) -> bool {
        self.workers_tick.load(Ordering::Relaxed)
    }

    pub(crate) fn let_workers_tick(&self, serves: bool) {
        self.workers_tick.store(serves, Ordering::Relaxed);
    }

    // ---- how a query ends ----

    /// Ends the query with an error; the first one counts.
    pub(crate) fn fail(&self, error: RunError) {
        lock(&self.failure).get_or_insert(error);
        self.end();
    }

    /// Ends the query where it stands.
    pub(crate) fn end(&self) {
        self.cancellation.cancel();
        crate::sim::note_work();
        self.tell(Event::Wake);
        for (thread, _) in lock(&self.threads).iter() {
            thread.unpark();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    pub(crate) fn take_failure(&self) -> Option<RunError> {
        lock(&self.failure).take()
    }

    /// A worker begins, on this thread.
    pub(crate) fn enlist(&self) {
        lock(&self.threads).push((std::thread::current(), Running::here()));
    }

    /// The worker of this thread has ended.
    pub(crate) fn discharge(&self) {
        let own = std::thread::current().id();
        lock(&self.threads).retain(|(thread, _)| thread.id() != own);
    }

    /// Whose code the workers run that have not ended.
    pub(crate) fn still_running(&self, nodes: &[Node]) -> Vec<Site> {
        let threads = lock(&self.threads);
        let site =
            |(thread, running): &(Thread, Running)| running.site(nodes, thread.name().unwrap_or("a worker"));
        threads.iter().map(site).collect()
    }

    // ---- epochs ----

    /// Where sources begin; said once, before any worker starts.
    pub(crate) fn set_starts(&self, starts: BTreeMap<NodeId, Vec<ErasedOffset>>) {
        self.starts.get_or_init(|| starts);
    }

    pub(crate) fn start_of(&self, source: NodeId, partition: u32) -> Option<ErasedOffset> {
        self.starts.get()?.get(&source)?.get(partition as usize).cloned()
    }

    pub(crate) fn publish(&self, plan: EpochPlan) {
        turn::point("control.publish");
        lock(&self.plans).insert(plan.epoch, Arc::new(plan));
        self.wake_sources();
    }

    pub(crate) fn plan(&self, epoch: Epoch) -> Option<Arc<EpochPlan>> {
        lock(&self.plans).get(&epoch).cloned()
    }

    /// The clock of an epoch: logged with its plan in micro-batch, the clock itself in continuous.
    pub(crate) fn now(&self, epoch: Epoch) -> ProcessingTime {
        match self.mode {
            Mode::Continuous => self.clock.now(),
            Mode::MicroBatch => self.plan(epoch).map_or_else(|| self.clock.now(), |plan| plan.now),
        }
    }

    /// Micro-batch: whether an epoch is the first that a run has planned itself, instead of replaying it.
    pub(crate) fn begins_run(&self, epoch: Epoch) -> bool {
        self.plan(epoch).is_some_and(|plan| plan.begins_run)
    }

    pub(crate) fn set_target(&self, epoch: Epoch) {
        turn::point("control.set-target");
        self.target.store(epoch.0, Ordering::Release);
        self.wake_sources();
    }

    pub(crate) fn target(&self) -> Epoch {
        Epoch(self.target.load(Ordering::Acquire))
    }

    /// Sources are to stop.
    pub(crate) fn finish(&self) {
        turn::point("control.finish");
        self.finishing.store(true, Ordering::SeqCst);
        self.wake_sources();
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    /// A source takes part in an epoch.
    pub(crate) fn took_part(&self, epoch: Epoch) {
        turn::point("control.took-part");
        self.epochs.fetch_max(epoch.0.saturating_add(1), Ordering::AcqRel);
    }

    /// How many epochs there have been, once the frontiers are empty.
    pub(crate) fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Acquire)
    }

    /// The epoch that follows another one in this run.
    pub(crate) fn after(&self, epoch: Epoch) -> Epoch {
        self.resume.numbers.after(epoch)
    }

    /// Everything about the epoch is safe.
    pub(crate) fn commit(&self, epoch: Epoch) {
        turn::point("control.commit");
        self.committed.store(self.after(epoch).0, Ordering::Release);
        for waker in &lock(&self.wakers).sinks {
            waker.wake();
        }
        let mut plans = lock(&self.plans);
        *plans = plans.split_off(&epoch);
        self.ledger.forget_before(epoch);
    }

    /// The oldest epoch that is not committed: all below it are.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Nothing is left to commit.
    pub(crate) fn close(&self) {
        turn::point("control.close");
        self.closed.store(true, Ordering::Release);
        for waker in &lock(&self.wakers).sinks {
            waker.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    // ---- waking ----

    /// The number of the next batch that is announced to the ledger.
    pub(crate) fn next_announcement(&self) -> u64 {
        self.announced.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn add_source(&self, waker: Waker) {
        lock(&self.wakers).sources.push(waker);
    }

    pub(crate) fn add_sink(&self, waker: Waker) {
        lock(&self.wakers).sinks.push(waker);
    }

    pub(crate) fn add_assigner(&self, domain: usize, worker: usize, waker: Waker) {
        lock(&self.wakers).assigners.push((domain, worker, waker));
    }

    pub(crate) fn wake_sources(&self) {
        for waker in &lock(&self.wakers).sources {
            waker.wake();
        }
    }

    /// The watermark of a domain has moved: the other workers' instances want to know.
    pub(crate) fn wake_assigners(&self, domain: usize, but: usize) {
        for (of, worker, waker) in &lock(&self.wakers).assigners {
            if *of == domain && *worker != but {
                waker.wake();
            }
        }
    }

    /// Everybody looks again.
    pub(crate) fn wake_all(&self) {
        self.wake_sources();
        let wakers = lock(&self.wakers);
        for waker in wakers.assigners.iter().map(|(_, _, waker)| waker).chain(&wakers.timed) {
            waker.wake();
        }
    }

    /// Whether timers need somebody who moves the clock: real time does not bring them about.
    pub(crate) fn is_stepped(&self) -> bool {
        self.timers.is_some()
    }

    /// An operator that is to look at its timer whenever the clock has been moved.
    pub(crate) fn add_timed(&self, waker: Waker) {
        lock(&self.wakers).timed.push(waker);
    }

    /// Continuous: an operator wants to be called at that time. Only who moves the clock needs to know.
    pub(crate) fn note_timer(&self, at: ProcessingTime) {
        if let Some(timers) = &self.timers {
            lock(timers).insert(at);
        }
    }

    /// The earliest such time that is not after `until`; it is forgotten.
    pub(crate) fn take_timer(&self, until: ProcessingTime) -> Option<ProcessingTime> {
        let mut timers = lock(self.timers.as_ref()?);
        let at = timers.first().copied().filter(|at| *at <= until)?;
        timers.remove(&at);
        Some(at)
    }

    /// A number that changes when rows move.
    pub(crate) fn activity(&self) -> u64 {
        let of = |m: &NodeMetrics| m.rows_in.load(Ordering::Relaxed) + m.rows_out.load(Ordering::Relaxed);
        self.metrics.iter().map(of).sum()
    }

    pub(crate) fn data_available(&self) {
        if !self.data_available.swap(true, Ordering::AcqRel) {
            self.tell(Event::DataAvailable);
        }
    }

    pub(crate) fn clear_data_available(&self) {
        self.data_available.store(false, Ordering::Release);
    }

    /// The instances on one worker that assign watermarks want to know that a source there has nothing to read.
    pub(crate) fn wake_assigners_on(&self, worker: usize) {
        for (_, of, waker) in &lock(&self.wakers).assigners {
            if *of == worker {
                waker.wake();
            }
        }
    }

    /// Micro-batch: an operator wants an epoch whose clock has reached that time.
    pub(crate) fn request_epoch_at(&self, time: ProcessingTime) {
        if self.timer.fetch_min(time.0, Ordering::AcqRel) > time.0 {
            self.tell(Event::Wake);
        }
    }

    /// Micro-batch: an operator at the end of an epoch still wants that. Of several requests only the earliest is kept, and
    /// only until it is due, so each operator says its own again; unless an epoch with such a clock is planned already.
    pub(crate) fn still_requests_epoch_at(&self, time: ProcessingTime) {
        if lock(&self.plans).last_key_value().is_none_or(|(_, plan)| plan.now < time) {
            self.request_epoch_at(time);
        }
    }

    /// The earliest such request; forgotten when it is due, for the epoch that is then planned.
    pub(crate) fn timer(&self, now: ProcessingTime) -> Option<ProcessingTime> {
        let at = self.timer.load(Ordering::Acquire);
        if at <= now.0 {
            self.timer.store(i64::MAX, Ordering::Release);
        }
        (at != i64::MAX).then_some(ProcessingTime(at))
    }

    // ---- continuous: who is idle ----

    pub(crate) fn set_source_idle(&self, source: NodeId, worker: usize, idle: bool) {
        if lock(&self.idle_sources).insert((source, worker), idle) != Some(idle) && idle {
            self.tell(Event::Wake);
        }
    }

    pub(crate) fn all_sources_idle(&self, instances: usize) -> bool {
        let idle = lock(&self.idle_sources);
        idle.len() == instances && idle.values().all(|idle| *idle)
    }

    // ---- what is in flight ----

    pub(crate) fn sent(&self, from: usize, to: usize, rows: usize) {
        if let Some(queued) = self.queued.get(to) {
            queued.fetch_add(rows as i64, Ordering::SeqCst);
            self.flow.sent(from, to, rows);
        }
    }

    pub(crate) fn received(&self, worker: usize, rows: usize) {
        let Some(queued) = self.queued.get(worker) else { return };
        let left = queued.fetch_sub(rows as i64, Ordering::SeqCst) - rows as i64;
        self.flow.received(worker, rows);
        // A source sets `paused` before it checks the queues again: either it sees these rows gone, or this sees `paused`.
        if self.paused.load(Ordering::SeqCst) && left <= self.flow.bound(worker) / 2 {
            self.resume();
        }
    }

    pub(crate) fn stashed(&self, worker: usize, rows: i64) {
        if let Some(stashed) = self.stashed.get(worker) {
            stashed.fetch_add(rows, Ordering::AcqRel);
            if rows < 0 {
                self.resume();
            }
        }
    }

    fn resume(&self) {
        if self.paused.swap(false, Ordering::AcqRel) {
            self.wake_sources();
        }
    }

    /// Whether a source must wait before it reads more: too much is on its way to a worker, or, for a source that is
    /// ahead of the epoch being worked on, too much waits for its epoch already. (A source in the oldest epoch never
    /// waits for the latter: it is what everybody else waits for.)
    pub(crate) fn must_pause(&self, epoch: Epoch) -> bool {
        let over = |counters: &[CachePadded<AtomicI64>]| {
            let mut counters = counters.iter().enumerate();
            counters.any(|(worker, rows)| rows.load(Ordering::SeqCst) > self.flow.bound(worker))
        };
        let must = |control: &Control| {
            over(&control.queued) || (epoch.0 > control.committed() && over(&control.stashed))
        };
        if !must(self) {
            return false;
        }
        self.paused.store(true, Ordering::SeqCst);
        // Look again: what was in the way may have gone before the note was written. The note stays: another source may
        // have left it too, and at worst somebody is woken for nothing.
        must(self)
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<&NodeMetrics> {
        self.metrics.get(node.0)
    }
}
