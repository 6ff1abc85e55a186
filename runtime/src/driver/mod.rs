//! Decides where an epoch ends and when it is committed.
//!
//! A state machine that gets events and is ticked from time to time ([`Driver::tick`]): on its own thread in a running query,
//! or by a worker after a step ([`shared`]); by hand in a test. Micro-batch: when the trigger is due and there is something to
//! read, an epoch is planned; when every sink has prepared it, it is committed. Continuous: an epoch is called every interval;
//! the rest is the same. Epochs are committed in order, each when every sink has prepared it and, with a checkpoint, every
//! worker has saved its state.

mod coordinator;
mod flight;
mod pace;
mod plan;
mod rate;
mod report;
mod shared;
mod sources;
mod stragglers;
mod top_keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::{Epoch, ErasedOffset, Mode, PlanLimits, ProcessingTime};

pub(crate) use self::coordinator::CommitCoordinator;
use self::flight::Flight;
use self::pace::Pace;
use self::rate::Rate;
use self::shared::QUICK;
pub(crate) use self::shared::SharedDriver;
use self::sources::SourcePlan;
use self::stragglers::Stragglers;
use self::top_keys::HotKeys;
use crate::control::Control;
use crate::error::RunError;
use crate::events::{Event, Report};
use crate::options::{Backpressure, Options, Trigger};
use crate::plan::Layout;
use crate::progress::{Progress, Summary};
use crate::recovery::SourceInfos;
use crate::saver::Saver;
use crate::user_code::{DROP, STORAGE, code_of, within};

/// How often sources are asked for news while they have none: at first, and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

pub(crate) struct Driver {
    layout: Arc<Layout>,
    control: Arc<Control>,
    options: Options,
    sources: Vec<SourcePlan>,
    source_instances: usize,
    sink_instances: usize,
    /// The next epoch to be planned or called.
    next: Epoch,
    /// The last planned epoch, and whether it has been read.
    planned: Option<Epoch>,
    read: bool,
    pace: Pace,
    flights: BTreeMap<Epoch, Flight>,
    done_sources: usize,
    last_epoch: Option<Epoch>,
    due: ProcessingTime,
    asked: Duration,
    stopping: bool,
    started: ProcessingTime,
    last_commit: ProcessingTime,
    /// Whether the unit of the event times has been looked at.
    knows_unit: bool,
    stragglers: Stragglers,
    top_keys: HotKeys,
    progress: Arc<Progress>,
    summary: Summary,
    /// Whether an epoch is planned before the last one has been read.
    plans_ahead: bool,
    /// Whether this run has planned an epoch itself.
    has_planned: bool,
    /// Whether the run plans an epoch without rows before all others, in which operators load rows from outside.
    loads_first: bool,
    /// Whether that epoch is the last one that was planned.
    has_loaded_only: bool,
    /// The checkpoint, if there is one.
    coordinator: Option<CommitCoordinator>,
}

/// What a tick returns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Come again when something has happened, or after that long.
    Wait(Duration),
    /// The query is over.
    Over,
}

impl Driver {
    pub(crate) fn new(
        layout: Arc<Layout>,
        control: Arc<Control>,
        options: Options,
        coordinator: Option<CommitCoordinator>,
        found: &SourceInfos,
    ) -> Result<Driver, RunError> {
        let now = control.clock.now();
        let first = control.resume.first();
        let mut sources = Vec::new();
        for (node, source) in layout.sources() {
            let joined = layout.source_info(node).partitions();
            let Some(info) = found.get(&node) else { continue };
            let start = |p| {
                let kept = coordinator.as_ref().and_then(|it| it.start(node, &layout, p));
                kept.or_else(|| info.start(p).cloned()).unwrap_or_default()
            };
            let starts: Vec<_> = (0..info.partitions()).map(start).collect();
            let discovery = info.discovery_interval().filter(|_| !options.trigger.is_final());
            let mut planned = SourcePlan::new((node, source), starts, joined, discovery, now);
            if let (Backpressure::Pid(pid), Trigger::Every(interval)) =
                (options.backpressure, options.trigger)
            {
                planned.rate = Some(Rate::new(pid, interval));
            }
            if coordinator.is_some() {
                // A resumed source learns its position before it is asked for more.
                let limits = PlanLimits::new(options.max_records_per_epoch, now);
                planned.learn(&planned.from, &limits, &layout)?;
            }
            control.schedule.join(node, first, &planned.from);
            if let Some(coordinator) = &coordinator {
                control.schedule.cover(node, coordinator.covered(node, &layout));
            }
            sources.push(planned);
        }
        let sink_instances = layout.sink_instances(control.peers.total());
        let source_instances = sources.len() * control.peers.total();
        let due = match options.mode {
            Mode::MicroBatch => due_from(now, options.trigger),
            Mode::Continuous => now + options.checkpoint_interval,
        };
        let loads_first = coordinator.is_some() && layout.nodes.iter().any(Node::awaits_commits);
        let partitions = sources.iter().map(|planned| planned.from.len()).sum();
        let pace = match control.reports.timers.is_stepped() {
            true => Pace::stepped(),
            false if control.sources.flow.has_rows_in_flight() => Pace::new(partitions).with_requests(),
            false => Pace::new(partitions),
        };
        let stragglers = Stragglers::new(control.pools.are_there());
        let top_keys = HotKeys::new(options.top_keys);
        let mut driver = Driver {
            progress: Arc::default(),
            layout,
            control,
            options,
            sources,
            source_instances,
            sink_instances,
            next: first,
            planned: None,
            read: true,
            pace,
            flights: BTreeMap::new(),
            done_sources: 0,
            last_epoch: None,
            due,
            asked: ASK_AGAIN.0,
            stopping: false,
            started: now,
            last_commit: now,
            knows_unit: false,
            stragglers,
            top_keys,
            summary: Summary::default(),
            plans_ahead: false,
            has_planned: false,
            loads_first,
            has_loaded_only: false,
            coordinator,
        };
        driver.progress = Arc::new(Progress {
            name: driver.layout.query.clone(),
            mode: driver.options.mode,
            sources: driver.sources_with(&BTreeMap::new()),
            ..Progress::default()
        });
        if driver.options.trigger.is_final() {
            driver.freeze(now)?;
        }
        if driver.options.mode == Mode::Continuous {
            driver.call(now)?;
        }
        Ok(driver)
    }

    fn freeze(&self, now: ProcessingTime) -> Result<(), RunError> {
        for planned in &self.sources {
            code_of(planned.node, || planned.source.freeze(now))
                .map_err(|error| source_error(&self.layout, planned.node, error))?;
        }
        Ok(())
    }

    /// Stop in order: nothing more is read, what has been read is committed.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Ends, once no state is being written any more; returns what holds the checkpoint locked.
    pub(crate) fn end(mut self) -> Option<CommitCoordinator> {
        // Its thread calls nothing else than the storage.
        within(STORAGE, || self.control.saver.iter().for_each(Saver::close));
        let coordinator = self.coordinator.take();
        within(DROP, || drop(self));
        coordinator
    }

    /// Whether this run has written a commit into its checkpoint.
    pub(crate) fn has_committed(&self) -> bool {
        self.coordinator.as_ref().is_some_and(CommitCoordinator::has_committed)
    }

    pub(crate) fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        for total in self.control.reports.counters.totals() {
            summary.late_rows += total.late_rows;
            summary.skipped_rows += total.skipped_rows;
        }
        summary.seconds = self.control.clock.now().since(self.started).as_secs_f64();
        summary.last = Progress::clone(&self.progress);
        summary
    }

    /// From here on, plans up to this many epochs without waiting for any to be read.
    pub(crate) fn plan_ahead(&mut self, epochs: usize) {
        self.plans_ahead = true;
        self.options.max_in_flight = epochs.max(1);
    }

    /// Whether it waits for a disk: time passes while it commits.
    pub(crate) fn is_durable(&self) -> bool {
        self.coordinator.is_some()
    }

    /// Takes note of an event that it hears now; returns whether progress has been made.
    pub(crate) fn hear(&mut self, event: Event, now: ProcessingTime) -> bool {
        match event {
            Event::Report(report) => return self.note(report, now),
            Event::Compacted(result) => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.compacted(result);
                }
            }
            Event::Savepoint { directory, reply } => {
                let result = match &self.coordinator {
                    Some(coordinator) => coordinator.savepoint(directory),
                    None => Err(RunError::Options {
                        option: "--checkpoint",
                        problem: "a savepoint is a copy of a checkpoint, and this query has none".to_owned(),
                    }),
                };
                // The caller may have gone.
                drop(reply.send(result));
            }
            Event::Failed(error) => self.control.fail(error),
            Event::Wake => {}
        }
        false
    }

    /// Takes note of what a worker reports; returns whether an epoch has been finished.
    fn note(&mut self, report: Report, now: ProcessingTime) -> bool {
        match report {
            Report::Read { epoch, source, worker, rows, partitions } => {
                self.summary.input_rows += rows;
                if let Some(planned) = self.sources.iter_mut().find(|planned| planned.node == source) {
                    for read in &partitions {
                        if let Some(slot) = planned.ended.get_mut(read.partition as usize) {
                            *slot |= read.has_ended;
                        }
                    }
                }
                let flight = self.flights.entry(epoch).or_insert_with(|| Flight::new(now));
                flight.read(source, worker, rows, partitions, now);
                if self.options.mode == Mode::MicroBatch && flight.reads >= self.source_instances {
                    self.read |= Some(epoch) == self.planned;
                }
            }
            Report::SourceDone { last } => {
                self.done_sources += 1;
                self.last_epoch = self.last_epoch.max(last);
            }
            Report::Prepared { epoch, rows, sink, worker, prepared } => {
                self.summary.output_rows += rows;
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.prepared(epoch, sink, worker, prepared);
                }
                let flight = self.flights.entry(epoch).or_insert_with(|| Flight::new(now));
                flight.prepared(rows, now);
                self.commit_what_is_prepared();
            }
            Report::Committed { epoch } => {
                let Some(flight) = self.flights.get_mut(&epoch) else { return false };
                flight.commits += 1;
                if flight.commits < self.sink_instances {
                    return false;
                }
                let Some(flight) = self.flights.remove(&epoch) else { return false };
                self.finish_epoch(epoch, flight, now);
                return true;
            }
            Report::DataAvailable => {
                self.control.sources.clear_data_available();
                self.asked = ASK_AGAIN.0;
            }
            Report::Saved(saved) => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.saved(saved);
                }
                self.commit_what_is_prepared();
            }
            Report::WorkerDone => {}
        }
        false
    }

    fn commit_what_is_prepared(&mut self) {
        loop {
            let open = self.flights.range(Epoch::new(self.control.schedule.committed())..).next();
            let Some((epoch, flight)) = open.filter(|(_, f)| f.preparations >= self.sink_instances) else {
                return;
            };
            let epoch = *epoch;
            if let Some(coordinator) = &mut self.coordinator {
                if self.control.has_ended() || !coordinator.is_saved(epoch) {
                    return;
                }
                let now = self.control.clock.now();
                if self.control.mode == Mode::Continuous {
                    coordinator.reserve_with_next(self.next.max(epoch.next()));
                }
                let committed =
                    coordinator.commit(epoch, flight, &self.sources, &self.layout, &self.control, now);
                if let Err(error) = committed {
                    return self.control.fail(error);
                }
                coordinator.compact(self.control.peers.total(), &self.control.reports.events);
            }
            self.control.commit(epoch);
        }
    }

    fn finish_epoch(&mut self, epoch: Epoch, flight: Flight, now: ProcessingTime) {
        self.summary.epochs += 1;
        for planned in &mut self.sources {
            for (partition, offset) in flight.offsets.get(&planned.node).into_iter().flatten() {
                if let Some(slot) = planned.committed.get_mut(*partition as usize) {
                    slot.clone_from(offset);
                }
            }
        }
        if self.options.mode == Mode::MicroBatch {
            self.learn_pace(&flight, now);
            self.look_for_stragglers(&flight, now);
        }
        self.report(epoch, &flight, now);
        self.last_commit = now;
        self.tell_sources(&flight);
        tracing::debug!(
            query = %self.layout.query, epoch = epoch.number(),
            rows_in = self.progress.num_input_rows, rows_out = self.progress.num_output_rows,
            micros = self.progress.duration_us.trigger_execution, "epoch committed"
        );
    }

    /// Learns how many records an epoch should take from one that is committed: all of its time counts, its reading, its
    /// operators and its sinks.
    fn learn_pace(&mut self, flight: &Flight, now: ProcessingTime) {
        let records = flight.rows_in.values().sum();
        let was_limited = self.max_records().is_none() && records >= flight.enough;
        self.pace.learn(records, flight.enough, now.since(flight.planned.max(self.last_commit)));
        for planned in &mut self.sources {
            if let Some(rate) = &mut planned.rate {
                let records = flight.rows_in.get(&planned.node).copied().unwrap_or(0);
                rate.learn(now, records, now.since(flight.begun), flight.behind);
            }
        }
        let has_rates = self.sources.iter().any(|planned| planned.rate.is_some());
        if was_limited && !has_rates {
            // What there was at the interval's boundary has not all been taken.
            self.due = self.due.min(now);
        }
    }

    /// How many records of a partition the user lets an epoch take.
    fn max_records(&self) -> Option<u64> {
        self.options.max_records_per_epoch.filter(|_| self.options.trigger != Trigger::Once)
    }

    /// Tells the sources which offsets will not be read again: with a checkpoint, what is before the oldest epoch kept.
    fn tell_sources(&self, flight: &Flight) {
        for planned in &self.sources {
            let offsets: Vec<(u32, &ErasedOffset)> = match &self.coordinator {
                None => {
                    flight.offsets.get(&planned.node).into_iter().flatten().map(|(p, at)| (*p, at)).collect()
                }
                Some(coordinator) => {
                    let oldest = coordinator.oldest().and_then(|oldest| oldest.get(&planned.node));
                    oldest.into_iter().flatten().enumerate().map(|(p, at)| (p as u32, at)).collect()
                }
            };
            for (partition, offset) in offsets {
                if let Err(error) = code_of(planned.node, || planned.source.committed(partition, offset)) {
                    self.control.fail(source_error(&self.layout, planned.node, error));
                }
            }
        }
    }

    /// Looks at what is to be done now.
    pub(crate) fn tick(&mut self, now: ProcessingTime) -> Result<Next, RunError> {
        if self.control.has_ended() {
            return Ok(Next::Over);
        }
        let wait = match self.options.mode {
            Mode::MicroBatch => self.tick_micro_batch(now)?,
            Mode::Continuous => self.tick_continuous(now)?,
        };
        let all_sources_done = self.done_sources == self.source_instances;
        if all_sources_done {
            // An epoch that was called when the sources had ended already: no worker takes part in it.
            let last = self.last_epoch;
            self.flights.retain(|epoch, _| Some(*epoch) <= last);
        }
        let committed_all =
            self.control.schedule.committed() >= self.last_epoch.map_or(0, |e| e.number().saturating_add(1));
        if all_sources_done && committed_all && self.flights.is_empty() {
            self.control.close();
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.close();
            }
            return Ok(Next::Over);
        }
        Ok(Next::Wait(wait))
    }

    fn tick_continuous(&mut self, now: ProcessingTime) -> Result<Duration, RunError> {
        let idle = self.options.trigger.is_final() && self.control.sources.all_idle(self.source_instances);
        if (self.stopping || idle) && !self.control.schedule.is_finishing() {
            self.control.finish();
        }
        let over = self.done_sources == self.source_instances || self.control.schedule.is_finishing();
        if !over && self.discover(now)? {
            // New partitions take part from the next epoch on.
            self.due = self.due.min(now);
        }
        if now >= self.due && !over {
            // An epoch that takes longer than the interval is not followed by a queue of others.
            if self.flights.len() < self.options.max_in_flight.max(2) {
                self.call(now)?;
            }
            self.due = now + self.options.checkpoint_interval;
        }
        let next = self.sources.iter().filter_map(SourcePlan::next_look).fold(self.due, ProcessingTime::min);
        Ok(next.since(now).min(Duration::from_millis(100)).max(Duration::from_micros(50)))
    }

    /// Calls the next epoch. Sinks may see rows of it at once, so its number is reserved first.
    fn call(&mut self, now: ProcessingTime) -> Result<(), RunError> {
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.reserve(self.next)?;
        }
        self.flights.entry(self.next).or_insert_with(|| Flight::new(now));
        for planned in &mut self.sources {
            planned.take_in_all();
            planned.join(self.next, &self.control);
        }
        self.control.set_target(self.next);
        self.next = self.control.after(self.next);
        Ok(())
    }

    fn tick_micro_batch(&mut self, now: ProcessingTime) -> Result<Duration, RunError> {
        if self.control.schedule.is_finishing() {
            return Ok(Duration::from_millis(100));
        }
        let has_planned = self.planned.is_some() && !self.has_loaded_only;
        let once = self.options.trigger == Trigger::Once && has_planned;
        if self.stopping || once || self.sources.iter().all(SourcePlan::is_over) {
            self.last_epoch = self.planned;
            self.control.finish();
            return Ok(Duration::from_millis(100));
        }
        let most = if self.pace.is_known() || self.plans_ahead { self.options.max_in_flight } else { 1 };
        if (!self.read && !self.plans_ahead) || self.flights.len() >= most {
            return Ok(Duration::from_millis(100));
        }
        let replays = self.coordinator.as_ref().is_some_and(CommitCoordinator::has_plans);
        if now < self.due && !replays {
            return Ok(self.due.since(now));
        }
        let timer = self.control.reports.timers.earliest(now);
        // What is given up is given up by a commit: without input there would be none, and the next run would ask again.
        let gives_up = self.planned.is_none() && !self.options.drop_state.is_empty();
        let wanted = gives_up || timer.is_some_and(|at| at <= now);
        let planned = self.plan(now, wanted)?;
        let took = planned.unwrap_or_else(|| self.control.clock.now()).since(now);
        self.control.schedule.let_workers_tick(self.coordinator.is_none() && took <= QUICK);
        if planned.is_some() {
            self.asked = ASK_AGAIN.0;
            return self.tick_micro_batch(now);
        }
        if self.options.trigger == Trigger::AvailableNow {
            self.stopping = self.read;
            return if self.read { self.tick_micro_batch(now) } else { Ok(Duration::from_millis(1)) };
        }
        self.set_due(now);
        let wait = self.asked.max(self.due.since(now));
        self.asked = (self.asked * 2).min(ASK_AGAIN.1);
        Ok(timer.map_or(wait, |at| wait.min(at.since(now))))
    }

    /// When the next epoch may begin: at the next multiple of the interval; at once if it has passed by then.
    fn set_due(&mut self, now: ProcessingTime) {
        if matches!(self.options.trigger, Trigger::Every(_)) {
            self.due = due_from(
                ProcessingTime::from_micros(now.as_micros().saturating_add(1)),
                self.options.trigger,
            );
        }
    }
}

/// The first instant from `from` on at which an epoch may begin: a multiple of the interval, if there is one.
fn due_from(from: ProcessingTime, trigger: Trigger) -> ProcessingTime {
    let Trigger::Every(interval) = trigger else { return from };
    let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1);
    let before = from.as_micros().saturating_sub(1).div_euclid(interval);
    ProcessingTime::from_micros(before.saturating_add(1).saturating_mul(interval))
}

fn source_error(layout: &Layout, node: NodeId, error: tidemill_operators::SourceError) -> RunError {
    RunError::Source { site: layout.site(node), error }
}
