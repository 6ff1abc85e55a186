//! Hosts an operator that is aligned by epoch: it keeps state, a watermark, or both.
//!
//! It is in one epoch, and buffers batches of later ones until that one is complete; then it applies the epoch's last
//! watermark, which the ledger has by number, and enters the next. It follows a frontier that has jumped over several epochs
//! one epoch at a time. One capability holds each output, at the operator's epoch and watermark; the operator is
//! disconnected from its inputs, so operators below it wait for nothing else.

mod held_back;
mod watermark;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::{Batch, Epoch, EventTime, Mode, ProcessingTime};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;

use self::held_back::HeldBack;
use super::Time;
use super::announcement::Announcement;
use super::assigner::Assigner;
use super::epoch_buffer::EpochBuffer;
use super::gather::Gather;
use super::host::{Alarm, Hosted, enter, receive, waker};
use super::output::{Outlets, Output};
use super::route::{Inflow, Inlet};
use super::source::SourceStatus;
use super::stateless::Edge;
use crate::ledger::{DomainId, EpochEnds, behind, inputs_of, joined};

/// A flush of so few rows, which emits no more than that, is taken for one that costs nothing, and the clock is not
/// read for it.
const FEW: usize = 16;

/// An input: its edge, and the domain of its watermark if it has event time.
pub(crate) struct AlignedInput<'scope> {
    pub(crate) inflow: Inflow<'scope>,
    pub(crate) domain: Option<DomainId>,
}

/// What an operator is to the watermarks of its outputs.
pub(crate) enum Role {
    /// It passes on that of its inputs.
    Passes,
    /// It assigns them.
    Assigns(Box<Assigner>),
    /// Its outputs have a domain of their own.
    Joins(OutputDomain),
}

type Frontiers = [MutableAntichain<Time>];

/// Builds the operator, and the edges of its outputs: not of those that lead straight into a sink.
pub(crate) fn aligned<'scope>(
    scope: Scope<'scope, Time>,
    name: &str,
    inputs: Vec<AlignedInput<'scope>>,
    hosted: Hosted,
    (role, ends): (Role, Arc<dyn EpochEnds>),
    sources: Vec<Rc<SourceStatus>>,
    outlets: Outlets,
) -> Vec<(usize, Edge<'scope>)> {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let domains: Vec<Option<DomainId>> = inputs.iter().map(|i| i.domain).collect();
    let mut inlets: Vec<Inlet> = inputs.into_iter().map(|i| i.inflow.connect(&mut builder, false)).collect();
    let (mut outputs, edges) = Output::all(&mut builder, scope, hosted.outputs(), outlets, &hosted.control);
    let address = builder.operator_info().address;
    let alarm = Alarm::new(scope, address.clone(), hosted.control.awake_before);
    let (assigner, joins) = match role {
        Role::Passes => (None, None),
        Role::Assigns(assigner) => (Some(*assigner), None),
        Role::Joins(joins) => (None, Some(joins)),
    };
    if let Some(domain) = assigner.as_ref().map(|assigner| assigner.domain).or(joins.map(|own| own.domain)) {
        hosted.control.wakers.add_assigner(domain, hosted.worker(), waker(scope, &address));
    }
    ends.register(hosted.worker(), waker(scope, &address));
    if hosted.awaits_commits || (hosted.saves() && hosted.control.mode == Mode::Continuous) {
        hosted.control.wakers.add_committing(waker(scope, &address));
    }
    let mut hosted = hosted;
    if hosted.holds_rows {
        let spawner = hosted.control.futures.spawner(hosted.worker());
        hosted.context.set_spawner(waker(scope, &address), spawner);
    }
    if hosted.control.reports.timers.is_stepped() {
        hosted.control.wakers.add_timed(waker(scope, &address));
    }
    builder.build_reschedule(move |capabilities| {
        Output::set_capabilities(&mut outputs, capabilities);
        let mut running =
            AlignedOperator::new((hosted, ends), (assigner, joins), sources, domains, outputs, alarm);
        move |frontiers| {
            running.begin();
            enter(running.hosted.node);
            for (input, inlet) in inlets.iter_mut().enumerate() {
                inlet.for_each(|capability, edge_batch| {
                    let time = capability.stamp().elements().first().copied();
                    let time = time.unwrap_or(Time::new(Epoch::new(0), EventTime::MIN));
                    let (batch, announcement) =
                        receive(&running.hosted.control, running.hosted.worker(), edge_batch);
                    // Only an operator that assigns watermarks has to observe what comes.
                    let announcement = announcement.filter(|_| running.assigner.is_some());
                    running.take(time, (input, batch, announcement));
                });
            }
            running.settle(frontiers)
        }
    });
    edges
}

/// A batch, the input on which it came, and its announcement where it is to be observed.
type Arrived = (usize, Batch, Option<Arc<Announcement>>);

/// A domain of an operator's outputs that has the domains of its inputs as members.
#[derive(Clone, Copy)]
pub(crate) struct OutputDomain {
    pub(crate) domain: DomainId,
    /// Whether the operator derives the watermark of its outputs; otherwise it is the operator's: that of its inputs, joined.
    pub(crate) is_derived: bool,
    /// How far the watermark of the operator stays behind that of its inputs.
    pub(crate) behind: Duration,
}

/// An operator with its epoch and watermark.
struct AlignedOperator {
    hosted: Hosted,
    /// Answers how epochs end, perhaps later.
    ends: Arc<dyn EpochEnds>,
    assigner: Option<Assigner>,
    /// The sources that reach this operator without leaving the worker.
    sources: Vec<Rc<SourceStatus>>,
    /// Of each input, if it has event time.
    domains: Vec<Option<DomainId>>,
    /// Of the outputs, where they have a domain of their own.
    joins: Option<OutputDomain>,
    /// The watermark of the outputs, where the operator derives it.
    derived: EventTime,
    outputs: Vec<Output>,
    alarm: Alarm,
    epoch: Epoch,
    watermark: EventTime,
    /// Batches of later epochs.
    buffer: EpochBuffer<Arrived>,
    /// Batches of this epoch that an operator that is full takes later.
    held_back: HeldBack,
    /// When the operator wants to be called, by the clock.
    wake_at: Option<ProcessingTime>,
    /// Whether it has taken anything since its last flush.
    taken: bool,
    /// How many rows, as far as that is known.
    rows: usize,
    /// The epoch that it has reported to the other workers.
    reported: Option<Epoch>,
    /// Whether it has reported that it will observe no more.
    reported_end: bool,
    /// Continuous: when to flush.
    gather: Gather,
    /// Micro-batch: the epoch that has ended and has to be committed before anything is taken.
    awaits: Option<Epoch>,
    begun: bool,
    finished: bool,
}

impl AlignedOperator {
    fn new(
        (hosted, ends): (Hosted, Arc<dyn EpochEnds>),
        (assigner, joins): (Option<Assigner>, Option<OutputDomain>),
        sources: Vec<Rc<SourceStatus>>,
        domains: Vec<Option<DomainId>>,
        outputs: Vec<Output>,
        alarm: Alarm,
    ) -> AlignedOperator {
        let resume = &hosted.control.resume;
        let epoch = resume.first();
        let own = assigner.as_ref().map(|assigner| assigner.domain);
        let start = |domain: DomainId| {
            let start = resume.watermarks.get(domain).and_then(Option::as_ref);
            start.map_or(EventTime::MIN, |start| start.watermark)
        };
        let own = own.or(joins.map(|own| own.domain));
        let over = own.into_iter().chain(domains.iter().flatten().copied().filter(|_| own.is_none()));
        let mut watermark = over.map(start).min().unwrap_or(EventTime::MIN);
        let derived = watermark;
        if let Some(OutputDomain { domain, is_derived: true, .. }) = joins {
            let start = resume.watermarks.get(domain).and_then(Option::as_ref);
            watermark = start.map_or(EventTime::MIN, |start| inputs_of(start.watermark, &start.partitions));
        }
        let gather = Gather::new(hosted.control.latency_budget);
        let buffer = EpochBuffer::new(&hosted.control, hosted.worker());
        let held_back = HeldBack::new(&hosted.control, hosted.worker());
        AlignedOperator {
            hosted,
            ends,
            assigner,
            sources,
            domains,
            joins,
            derived,
            outputs,
            alarm,
            epoch,
            watermark,
            buffer,
            held_back,
            wake_at: None,
            taken: false,
            rows: 0,
            reported: None,
            reported_end: false,
            gather,
            awaits: None,
            begun: false,
            finished: false,
        }
    }

    /// Before anything else: enters the epoch in which the query resumes.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.outputs.iter_mut().for_each(Output::begin);
        enter(self.hosted.node);
        let now = self.clock_on_entry(self.hosted.control.resume.clock);
        self.hosted.context.enter(self.epoch, self.watermark, now);
        self.hold();
        self.hosted.call(|operator, context| operator.start(context));
        if self.watermark > EventTime::MIN {
            self.hosted.call(|operator, context| operator.watermark(context));
        }
        // Partitions that had not been idle count from an epoch of this run, even if none brings a record.
        if let (Some(assigner), false) = (&self.assigner, self.continuous())
            && self.hosted.control.ledger.may_change(assigner.domain)
        {
            self.hosted.control.request_epoch_at(self.hosted.control.clock.now());
        }
        if let Some(at) = self.hosted.restored_timer() {
            self.hosted.context.wake_at(at);
        }
        self.send();
    }

    fn continuous(&self) -> bool {
        self.hosted.control.mode == Mode::Continuous
    }

    /// Takes a batch, or puts it by until its epoch comes.
    fn take(&mut self, time: Time, arrived: Arrived) {
        let epoch = Epoch::new(time.epoch);
        if epoch == self.epoch && self.awaits.is_none() {
            self.work_or_hold_back(time.watermark, arrived);
        } else {
            self.buffer.put(epoch, time.watermark, arrived.1.len(), arrived);
        }
    }

    fn work(&mut self, (input, batch, announcement): Arrived) {
        // Rows are pulled only when there have been rows before; such a batch alone may be empty.
        if !batch.is_empty()
            && !batch.is_pulled()
            && let Some(problem) =
                self.assigner.as_ref().and_then(|assigner| assigner.refuses(self.watermark))
        {
            return self.hosted.refuse(problem);
        }
        if !self.taken {
            self.taken = true;
            self.read_clock();
        }
        // How many rows a pull will find is not known.
        self.rows = self.rows.saturating_add(if batch.is_pulled() { usize::MAX } else { batch.len() });
        self.hosted.batch(input, batch);
        self.observe(announcement);
        self.send();
    }

    /// One reading per activation in continuous mode; in micro-batch the epoch's own, which the plan has. There it also
    /// tells whether the call that the operator wanted is due: before anything of the epoch, and not sooner than the epoch
    /// has been planned, so that a replay does the same.
    fn read_clock(&mut self) {
        let now = self.hosted.control.now(self.epoch);
        self.hosted.context.set_now(now);
        if !self.continuous() {
            self.serve_timer(now);
        }
    }

    /// The clock with which the operator enters an epoch. In micro-batch it stays at that of the epoch `before` until the
    /// first reading: an epoch that is replayed may not be planned yet, and has an earlier clock than the present.
    fn clock_on_entry(&self, before: ProcessingTime) -> ProcessingTime {
        if self.continuous() { self.hosted.control.clock.now() } else { before }
    }

    fn observe(&mut self, announcement: Option<Arc<Announcement>>) {
        let epoch = self.epoch;
        match &mut self.assigner {
            Some(assigner) => {
                for (origin, watermark) in self.hosted.context.drain_observed() {
                    assigner.observe(epoch, origin, watermark, announcement.as_ref());
                }
                assigner.retire(announcement);
            }
            None => drop(self.hosted.context.drain_observed()),
        }
    }

    /// Sends what the operator has emitted on; says how many rows.
    fn send(&mut self) -> usize {
        let node = self.hosted.node;
        let mut sent = 0usize;
        for (output, edge_batch) in self.hosted.sent() {
            sent = sent.saturating_add(edge_batch.batch.len());
            if let Some(port) = self.outputs.get_mut(output) {
                port.send(self.epoch, edge_batch);
            }
        }
        enter(node);
        if let Some(at) = self.hosted.context.take_wake_at() {
            if self.continuous() {
                let now = self.hosted.control.clock.now();
                self.alarm.after(now, at.since(now));
                self.hosted.control.reports.timers.note(at);
            } else {
                self.hosted.control.request_epoch_at(at);
            }
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
        sent
    }

    /// After the batches: watermarks, epochs, timers, a flush. True while a sink has something left to do.
    fn settle(&mut self, frontiers: &Frontiers) -> bool {
        if self.finished {
            return self.close_after_others();
        }
        let everything_came = frontiers.iter().all(MutableAntichain::is_empty);
        if everything_came && let Some(assigner) = &mut self.assigner {
            assigner.end();
        }
        self.stop_waiting();
        self.collect();
        loop {
            // Also after an epoch has ended: what had waited for the next one may have moved the watermark.
            if self.continuous() {
                self.move_watermark(frontiers);
            }
            self.report_epoch(self.epoch);
            let waits = self.awaits.is_some() || self.holds_rows();
            if waits || !self.has_come(frontiers) || self.hosted.control.has_ended() {
                break;
            }
            let Some(end) = self.try_close(everything_came) else { break };
            self.end_epoch(end);
        }
        // An epoch that has come to its end here may still have to wait for the other workers.
        let over =
            self.epoch.number() >= self.hosted.control.reports.epochs() || self.hosted.control.has_ended();
        if everything_came && over {
            self.report_epoch(Epoch::new(u64::MAX));
            self.finished = true;
            return self.close_after_others();
        }
        if self.continuous() {
            if self.wake_at.is_some() {
                self.serve_timer(self.hosted.control.clock.now());
            }
            if self.taken && self.may_gather() {
                // What is not emitted yet belongs to the watermark at which the outputs are held.
                self.alarm.now();
                return true;
            }
            if std::mem::take(&mut self.taken) {
                self.flush();
            }
        }
        self.hold();
        true
    }

    /// Emits what the activation has brought, and records how long that took.
    fn flush(&mut self) {
        let few = std::mem::take(&mut self.rows).max(self.gather.emitted()) <= FEW;
        let now = |running: &AlignedOperator| match few {
            // When the first of them came: what they took on their way is no part of the flush.
            true => running.hosted.context.now(),
            false => running.hosted.control.clock.now(),
        };
        let begun = now(self);
        self.hosted.call(|operator, context| operator.flush(context));
        let emitted = self.send();
        let ended = now(self);
        self.gather.flushed(begun, ended, emitted);
        self.hosted.save_ahead(ended);
    }

    /// Whether to gather more before the next flush.
    fn may_gather(&mut self) -> bool {
        let has_backlog = self.sources.iter().any(|source| source.has_backlog());
        self.gather.goes_on(has_backlog, || self.hosted.control.clock.now())
    }

    /// Whether all records of the epoch have come to this worker.
    fn has_come(&self, frontiers: &Frontiers) -> bool {
        let least = frontiers.iter().filter_map(|f| f.frontier().iter().map(|t| t.epoch).min()).min();
        match least {
            Some(least) => least > self.epoch.number(),
            None => self.epoch.number() < self.hosted.control.reports.epochs(),
        }
    }

    /// Returns the watermark at the end of the epoch, all of whose records have come to this worker; `None` until it is
    /// known. Where watermarks are assigned it depends on the other workers: they may have buffered records of the epoch,
    /// which have not shown their times yet.
    fn try_close(&mut self, everything_came: bool) -> Option<EventTime> {
        let (worker, epoch, own) = (self.hosted.worker(), self.epoch, self.watermark);
        if let Some(assigner) = &self.assigner {
            let domain = assigner.domain;
            let is_last = everything_came && epoch.next().number() >= self.hosted.control.reports.epochs();
            if is_last && self.continuous() && !std::mem::replace(&mut self.reported_end, true) {
                self.ends.observed_all(domain, worker);
            }
            return self.ends.try_close(domain, worker, epoch, own);
        }
        let mut domains = self.domains.iter().flatten().copied();
        match (self.hosted.control.mode, self.joins) {
            (Mode::MicroBatch, Some(OutputDomain { domain, is_derived: true, .. })) => {
                self.ends.try_close_inputs(domain, epoch)
            }
            (Mode::MicroBatch, Some(joins)) => self.ends.try_close(joins.domain, worker, epoch, own),
            (Mode::MicroBatch, None) => {
                let end = |domain| self.ends.try_close(domain, worker, epoch, own);
                let least = domains.try_fold(None, |least: Option<EventTime>, domain| {
                    let end = end(domain)?;
                    Some(Some(least.map_or(end, |least| least.min(end))))
                })?;
                // Without event time there is nothing to apply.
                Some(least.unwrap_or(own))
            }
            (Mode::Continuous, joins) => {
                let inputs = domains.map(|domain| self.ends.ended(domain, epoch));
                let inputs = inputs.collect::<Option<Vec<_>>>()?;
                match joins {
                    Some(own) => Some(behind(joined(inputs.iter().copied()), own.behind)),
                    None => Some(inputs.iter().map(|(watermark, _)| *watermark).min().unwrap_or(own)),
                }
            }
        }
    }

    /// Reports this worker's epoch to the other workers, if they wait for it.
    fn report_epoch(&mut self, epoch: Epoch) {
        if self.reported == Some(epoch) {
            return;
        }
        self.reported = Some(epoch);
        if let Some(assigner) = &self.assigner {
            self.ends.enter(assigner.domain, self.hosted.worker(), epoch);
        }
    }

    fn apply(&mut self, watermark: EventTime) {
        if watermark > self.watermark {
            self.watermark = watermark;
            self.hosted.context.set_watermark(watermark);
            self.hosted.call(|operator, context| operator.watermark(context));
            self.send();
        }
    }

    /// Ends the epoch with its last watermark and steps into the next.
    fn end_epoch(&mut self, end: EventTime) {
        if !self.taken && !self.continuous() {
            self.read_clock();
        }
        let epoch = self.epoch;
        self.apply(end);
        self.hosted.call(|operator, context| operator.flush(context));
        self.hosted.call(|operator, context| operator.epoch_end(context));
        let awaits = self.hosted.context.take_awaits_commit() && self.hosted.awaits_commits;
        self.send();
        self.hosted.save(epoch, self.wake_at);
        self.hosted.report_state();
        self.derive();
        self.leave_watermark(epoch);
        self.taken = false;
        if let Some(at) = self.wake_at.filter(|_| !self.continuous()) {
            self.hosted.control.still_requests_epoch_at(at);
        }

        self.epoch = self.hosted.control.after(epoch);
        let now = self.clock_on_entry(self.hosted.context.now());
        self.hosted.context.enter(self.epoch, self.watermark, now);
        self.hold();
        if self.continuous() {
            self.serve_timer(now);
        }
        self.awaits = awaits.then_some(epoch);
        if self.awaits.is_none() {
            self.work_off();
        }
    }

    /// Takes what is buffered of the epoch.
    fn work_off(&mut self) {
        let watermark = self.buffer.watermark(self.epoch);
        for arrived in self.buffer.take(self.epoch) {
            self.work_or_hold_back(watermark, arrived);
        }
    }

    /// Continues once the epoch is committed that it waits for. The driver wakes it then.
    fn stop_waiting(&mut self) {
        let committed = self.hosted.control.schedule.committed();
        if self.awaits.is_some_and(|epoch| epoch.number() < committed) {
            self.awaits = None;
            self.work_off();
        }
    }

    fn serve_timer(&mut self, now: ProcessingTime) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.hosted.context.set_now(now);
            self.hosted.call(|operator, context| operator.processing_time(context));
            self.send();
        }
    }

    /// Holds the outputs at the operator's epoch and their watermark.
    fn hold(&mut self) {
        let is_derived = self.joins.is_some_and(|own| own.is_derived);
        if is_derived {
            self.derive();
        }
        let watermark = if is_derived { self.derived } else { self.watermark };
        let here = Time::new(self.epoch, watermark.min(self.least_held()));
        self.outputs.iter_mut().for_each(|port| port.hold(here));
        enter(self.hosted.node);
    }

    /// Releases the outputs, and saves the epochs that other sources still take part in: a commit has the state of all
    /// operators. True while there can be more of either.
    fn close_after_others(&mut self) -> bool {
        let busy = self.close();
        if !self.hosted.saves() || !self.continuous() || self.hosted.control.has_ended() {
            return busy;
        }
        while self.epoch.number() < self.hosted.control.reports.epochs() {
            self.hosted.save(self.epoch, None);
            self.epoch = self.hosted.control.after(self.epoch);
        }
        busy | !self.hosted.control.schedule.is_closed()
    }

    /// Releases the outputs; true while a sink has something left to do.
    fn close(&mut self) -> bool {
        self.outputs.iter_mut().fold(false, |busy, port| port.close() | busy)
    }
}
