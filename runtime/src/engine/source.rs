//! Reads the partitions of a source that fall to a worker.
//!
//! Micro-batch: each planned epoch is read to its planned ends, then the next. Continuous: whatever there is, in the
//! epoch that the driver has called. Either way at most one batch per partition and activation, and no more rows than the
//! worker processes in some milliseconds ([`crate::flow`]), so that what is read flows on before more is read; and nothing
//! while too much is on its way already.
//!
//! Where a partition has much to give and only a chain of steps on this worker takes it, the chain pulls the rows: it
//! reads them in its own loop. Until it has, this operator leaves the reader alone and stays in its epoch.
//!
//! A partition that is discovered while the query runs is opened when this operator enters the first epoch in which it takes
//! part: the driver says from which one on before it plans or calls that epoch.
//!
//! Where partitions move, an operator holds one at a time, which it takes from the workers' pool and puts back ([`shared`]).

mod part;
mod shared;
mod status;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::{
    Batch, Cloner, DynSource, Epoch, ErasedOffset, EventTime, Mode, Poll, ReaderContext, SourceError,
    SourceInfo, Waker,
};
use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use self::part::{Part, align, settle};
use self::shared::Shared;
pub(crate) use self::status::SourceStatus;
use super::Time;
use super::announcement::Announcement;
use super::edge_batch::EdgeBatch;
use super::host::{Alarm, enter, steps, waker};
use super::stateless::Edge;
use super::turns::{Rounds, Turns};
use crate::checkpoint::records::Json;
use crate::control::{Control, Parked};
use crate::error::{RunError, Site};
use crate::events::{PartitionRead, Report};
use crate::plan::{PlannedSource, origin};

/// How many rows are asked for at once; the reader may make it less for large rows.
const ROWS: usize = crate::flow::POLL;
/// How many rows a pull may read.
const PULL: usize = 2 * ROWS;
/// The rows of an epoch whose step takes longer than the driver's thread takes to wake up: that plans the next one meanwhile.
const LARGE: u64 = 4_096;

/// What a source is, and what is around it.
pub(crate) struct Setting<'a> {
    pub(crate) node: &'a Node,
    pub(crate) source: &'a Arc<dyn DynSource>,
    /// Its partitions.
    pub(crate) info: Arc<SourceInfo<ErasedOffset>>,
    pub(crate) worker: usize,
    pub(crate) status: Rc<SourceStatus>,
    /// An upper bound on the operators that a row passes.
    pub(crate) hops: u64,
    pub(crate) plan: PlannedSource,
    /// Which source's turn it is to be read.
    pub(crate) rounds: Rc<Rounds>,
}

/// Builds the operator.
pub(crate) fn source<'scope>(
    scope: Scope<'scope, Time>,
    setting: Setting<'_>,
    control: Arc<Control>,
) -> Edge<'scope> {
    let Setting { node, source, info, worker, status, hops, plan, rounds } = setting;
    let mut builder = OperatorBuilder::new(node.label(), scope);
    let (output, stream) = builder.new_output::<EdgeBatch>();
    let address = builder.operator_info().address;
    let alarm = Alarm::new(scope, address.clone(), control.awake_before);
    let own = waker(scope, &address);
    control.wakers.add_source(own.clone());
    let shared = control.pools.join(node.id).map(Shared::new);
    let for_readers = {
        // A sender of the user may keep the waker after the query has ended; it must not keep the query's threads.
        let (own, control) = (own.clone(), Arc::downgrade(&control));
        let moves = shared.is_some();
        Waker::new(move || {
            own.wake();
            if let Some(control) = control.upgrade() {
                if moves {
                    // Another worker may read the partition by now.
                    control.wakers.wake_sources();
                }
                control.data_available();
            }
        })
    };
    let first = control.resume.first();
    let sliced = info.is_sliced();
    let wake = scope.activator_for(address);
    let wake = Box::new(move || wake.activate());
    let reading = Reading {
        node: node.clone(),
        source: Arc::clone(source),
        info,
        worker,
        status,
        readers: None,
        shared,
        joined: 0,
        sliced,
        turns: Turns::new(rounds, first, (control.mode == Mode::MicroBatch, sliced), wake),
        hops,
        counted_idle: false,
        waker: for_readers,
        plan,
        lent: None,
        done: own,
        output: OutputBuilder::from(output),
        epoch: first,
        left: None,
        planned: false,
        is_behind: false,
        rows: 0,
        alarm,
        control,
    };
    builder.build(move |mut capabilities| {
        let mut reading = reading;
        let mut capability = capabilities.pop();
        if let Some(capability) = &mut capability {
            // Nothing is before the first epoch, so this cannot fail.
            let _ = capability.try_downgrade(&Time::new(first, EventTime::MIN));
        }
        move |_frontiers| {
            if capability.is_some() && !reading.run(&mut capability) {
                reading.finish();
                capability = None;
            }
        }
    });
    stream
}

struct Reading {
    node: Node,
    source: Arc<dyn DynSource>,
    info: Arc<SourceInfo<ErasedOffset>>,
    worker: usize,
    status: Rc<SourceStatus>,
    readers: Option<Vec<Part>>,
    /// Where partitions move: those that no worker is reading. Then `readers` has one that this worker reads, or none.
    shared: Option<Shared>,
    /// The number of the source's first partition that takes no part yet, on whichever worker.
    joined: u32,
    /// Whether the partitions are slices of fewer sequences.
    sliced: bool,
    turns: Turns,
    /// An upper bound on the operators that a row passes.
    hops: u64,
    /// Whether the driver has been told that there is nothing to read.
    counted_idle: bool,
    waker: Waker,
    plan: PlannedSource,
    /// The index of the partition that is being pulled, or whose batch is on its way.
    lent: Option<usize>,
    /// Called when a pull is over.
    done: Waker,
    output: OutputBuilder<Time, NoopBuilder<EdgeBatch>>,
    epoch: Epoch,
    /// The last epoch that it has read.
    left: Option<Epoch>,
    planned: bool,
    /// Continuous: whether the first epoch cannot end yet, as it has not all rows of the plans that its commit voids.
    is_behind: bool,
    rows: u64,
    alarm: Alarm,
    control: Arc<Control>,
}

/// What an activation found.
enum Found {
    /// There may be more at once.
    More,
    /// Nothing before that long, or before somebody wakes the source.
    Nothing(Option<Duration>),
    /// Too much is on its way already, or a pull is; the source is woken when that has changed.
    Paused,
    /// Nothing but partitions that wait for others, which are behind: until the source is woken, or that long.
    Ahead(Duration),
}

impl Reading {
    /// One activation; false when the source has no more part in the query.
    fn run(&mut self, capability: &mut Option<Capability<Time>>) -> bool {
        enter(self.node.id);
        if self.control.has_ended() {
            return false;
        }
        if self.readers.is_none() {
            self.readers = Some(Vec::new());
            if let Err(error) = self.join() {
                return self.fail(error);
            }
        }
        let result = self.take_back().and_then(|all_back| match self.control.mode {
            _ if !all_back => Ok(true),
            Mode::MicroBatch => self.read_plans(capability),
            Mode::Continuous => self.read_on(capability),
        });
        match result {
            Ok(go_on) => go_on,
            Err(error) => self.fail(error),
        }
    }

    /// Opens the partitions that take part from this epoch on and fall to this worker.
    fn join(&mut self) -> Result<(), SourceError> {
        let joined = self.control.schedule.joined(self.node.id, self.joined, self.epoch);
        let is_first = self.epoch == self.control.resume.first();
        for (partition, start) in joined {
            self.joined = partition + 1;
            if self.control.peers.placement(partition) != self.worker {
                continue;
            }
            let context = ReaderContext::new(self.waker.clone(), self.control.clock.clone())
                .with_cancellation(self.control.cancellation.clone());
            let reader = self.source.open(partition, &start, context)?;
            let origin = origin(self.node.id, self.info.watermark_partition(partition));
            let abundant = self.control.sources.lend_from == 0;
            let opened = Parked { partition, origin, reader, ended: false, abundant };
            if let Some(shared) = &self.shared {
                shared.add(self.worker, self.epoch, opened);
                continue;
            }
            let covered = self.control.schedule.covered(self.node.id, partition).filter(|_| is_first);
            let other = self.readers.iter().flatten().next().filter(|_| self.sliced);
            let lead = other.map(|other| Rc::clone(&other.lead));
            let lead =
                lead.unwrap_or_else(|| Rc::new(RefCell::new(self.control.ledger.lead(origin, self.worker))));
            let part = Part { covered: covered.unwrap_or_default(), ..Part::new(opened, &self.status, lead) };
            self.readers.get_or_insert_default().push(part);
        }
        for part in self.readers.iter_mut().flatten().filter(|part| is_first && part.is_behind()) {
            part.limit()?;
            self.is_behind |= part.is_behind();
        }
        Ok(())
    }

    /// Whether nothing will ever come again.
    fn has_ended(&self) -> bool {
        self.info.discovery_interval().is_none() && self.readers.iter().flatten().all(|part| part.ended)
    }

    fn fail(&self, error: SourceError) -> bool {
        self.control.fail(RunError::Source { site: Site::of(&self.node), error });
        false
    }

    /// Reads planned epochs, as many as are planned and fit in one activation.
    fn read_plans(&mut self, capability: &mut Option<Capability<Time>>) -> Result<bool, SourceError> {
        let (mut budget, mut read) = (2 * ROWS, 0);
        loop {
            if !self.planned {
                // In this order: a plan that is published between the two looks is the last one, and must be read.
                let finishing = self.control.schedule.is_finishing();
                let Some(plan) = self.control.schedule.plan(self.epoch) else { return Ok(!finishing) };
                self.join()?;
                match &mut self.shared {
                    Some(shared) => shared.begin(plan),
                    None => {
                        let (ends, ended) = (plan.ends.get(&self.node.id), plan.ended.get(&self.node.id));
                        for part in self.readers.iter_mut().flatten() {
                            part.begin((self.node.id, self.epoch), ends, ended, &self.control)?;
                        }
                    }
                }
                self.planned = true;
                self.control.took_part(self.epoch);
            }
            let (mut found, rows) = self.poll_all(capability)?;
            (budget, read) = (budget.saturating_sub(rows.max(1)), read + rows);
            let is_read = self.is_read();
            if is_read {
                self.leave()?;
                self.downgrade(capability);
                self.turns.end_epoch(Some(self.epoch));
                self.planned = false;
            }
            if is_read || (self.is_between_parts() && !matches!(found, Found::Paused)) {
                // Of several partitions, no more is read at once than of one.
                if budget > 0 && (is_read || read < self.control.sources.flow.portion(self.worker)) {
                    continue;
                }
                found = Found::More;
            }
            match found {
                Found::More => self.alarm.now(),
                // What was planned is there, but the reader's own thread has yet to hand it over.
                Found::Nothing(Some(delay)) | Found::Ahead(delay) => {
                    self.alarm.after(self.control.clock.now(), delay);
                }
                Found::Nothing(None) | Found::Paused => {}
            }
            return Ok(true);
        }
    }

    /// Continuous: whether the driver has called the next epoch, or ends the query.
    fn is_called(&self) -> bool {
        let schedule = &self.control.schedule;
        self.epoch < schedule.target() || schedule.is_finishing() || self.control.has_ended()
    }

    /// Reads on, in the epoch that has been called.
    fn read_on(&mut self, capability: &mut Option<Capability<Time>>) -> Result<bool, SourceError> {
        self.control.took_part(self.epoch);
        while !self.is_behind && self.epoch < self.control.schedule.target() {
            self.leave()?;
            self.downgrade(capability);
            self.join()?;
            self.control.took_part(self.epoch);
        }
        if !self.is_behind && self.control.schedule.is_finishing() {
            self.leave()?;
            return Ok(false);
        }
        let mut polled = self.poll_all(capability)?;
        for _ in 1..self.plan.polls {
            if !matches!(polled, (Found::More, 0)) || self.is_called() {
                break;
            }
            polled = self.poll_all(capability)?;
        }
        let (found, _) = polled;
        if self.is_behind && !self.readers.iter().flatten().any(Part::is_behind) {
            // The epoch may end now; it may have been called to an end already.
            self.is_behind = false;
            self.alarm.now();
        }
        if self.has_ended() {
            self.leave()?;
            return Ok(false);
        }
        let idle = !self.is_behind && matches!(found, Found::Nothing(_));
        self.status.set_idle(idle);
        // Idle counts once everything that was sent has arrived: the operators of this worker are then told, and only
        // after them the driver.
        let counts = self.status.idle(self.hops);
        if counts != self.counted_idle {
            self.counted_idle = counts;
            self.control.set_source_idle(self.node.id, self.worker, counts);
        } else if idle && !counts {
            self.alarm.now();
        }
        match found {
            Found::More => self.alarm.now(),
            Found::Nothing(Some(delay)) | Found::Ahead(delay) => {
                self.alarm.after(self.control.clock.now(), delay);
            }
            Found::Nothing(None) | Found::Paused => {}
        }
        Ok(true)
    }

    /// Accounts for a pull that is over; false while one is not.
    fn take_back(&mut self) -> Result<bool, SourceError> {
        let Some(place) = self.lent else { return Ok(true) };
        let readers = self.readers.as_mut().map_or(&mut [][..], Vec::as_mut_slice);
        let places = readers.len();
        let Some(part) = readers.get_mut(place) else { return Ok(true) };
        let Some(polled) = part.reader.polled() else { return Ok(false) };
        let polled = polled?;
        self.lent = None;
        let moves = settle(part, &polled, (self.node.id, self.worker), self.epoch, &self.control)?;
        let has_more = (moves || matches!(polled.poll, Poll::Ready | Poll::Soon)) && !part.done;
        self.status.backlog.set(polled.poll == Poll::Ready);
        self.turns.took(place, places, polled.rows, has_more);
        if self.turns.is_round_over() {
            self.turns.end_round();
        }
        self.control.sources.flow.lends(self.worker, false);
        self.reach();
        self.count(polled.rows, self.plan.pulled_by);
        Ok(true)
    }

    /// Polls the partitions whose turn it is, each once at most on average.
    fn poll_all(&mut self, capability: &Option<Capability<Time>>) -> Result<(Found, usize), SourceError> {
        if self.control.must_pause(self.epoch) {
            return Ok((Found::Paused, 0));
        }
        if self.turns.must_wait() {
            return Ok((Found::Paused, 0));
        }
        if !self.next_part()? {
            return Ok((Found::Nothing(None), 0));
        }
        let cloner = self.node.outputs.first().and_then(|output| output.cloner);
        let mut session = self.output.activate();
        let readers = self.readers.as_mut().map_or(&mut [][..], Vec::as_mut_slice);
        if self.sliced {
            // Slices of a sequence are read in the order of the sequence, one at a time.
            readers.sort_by_key(|part| part.reader.rank());
        }
        let waits = if self.is_behind { None } else { align(readers, &self.control) };
        if let Some(patience) = waits.filter(|_| self.sliced) {
            // One slice must not be read ahead of another.
            self.status.backlog.set(false);
            return Ok((Found::Ahead(patience), 0));
        }
        let places = readers.len();
        let is_open = |part: &&Part| !part.ended && !part.done && !part.waits;
        let open = readers.iter().filter(is_open).count();
        let portion = self.control.sources.flow.portion(self.worker);
        let (mut budget, mut total, mut visits) = (portion, 0, 0);
        let (mut place, mut again, mut follows) = (self.turns.place(), None::<Duration>, None);
        // Partitions that are not looked at may have more.
        let mut more = self.turns.begins_in_middle();
        let mut backlog = false;
        let (control, announces) = (&self.control, &self.plan.announces);
        let mut send = |part: &Part, rank: u64, batch: Batch, cloner: Option<Cloner>| {
            let Some(capability) = capability else { return };
            let announcement =
                announces.as_ref().map(|domains| Announcement::announce(control, domains, part.origin, rank));
            part.sent.set(steps());
            let mut edge_batch = EdgeBatch::new(batch.with_origin(part.origin))
                .copyable(cloner)
                .with_announcement(announcement);
            session.session_with_builder(capability).give_container(&mut edge_batch);
        };
        while visits < places && budget > 0 {
            visits += 1;
            let Some(part) = readers.get_mut(place) else { break };
            let share = self.turns.share(portion, open).min(budget);
            let pulls = part.abundant && self.plan.pulled_by.is_some();
            let (mut rows, mut has_more) = (0, false);
            if !is_open(&&*part) || (pulls && self.lent.is_some()) {
                // Not now.
            } else if pulls && capability.is_some() {
                let share = share.min(PULL);
                let (rank, batch) = (part.reader.rank(), part.reader.pull_batch(share, &self.done));
                send(part, rank, batch, None);
                self.lent = Some(place);
                budget -= share;
                follows = Some(place + 1).filter(|next| *next < places);
                if self.sliced || self.control.mode == Mode::MicroBatch {
                    break;
                }
            } else {
                let rank = if self.plan.announces.is_some() { part.reader.rank() } else { 0 };
                let (batch, polled) = part.reader.poll(share.min(ROWS))?;
                rows = polled.rows;
                if rows > 0 {
                    send(part, rank, batch, cloner);
                }
                total += rows;
                budget = budget.saturating_sub(rows);
                if let Poll::IdleUntil(at) = polled.poll {
                    let delay = at.since(self.control.clock.now()).max(Duration::from_micros(1));
                    again = Some(again.map_or(delay, |d| d.min(delay)));
                }
                let moves = settle(part, &polled, (self.node.id, self.worker), self.epoch, &self.control)?;
                has_more = moves || matches!(polled.poll, Poll::Ready | Poll::Soon);
                backlog |= rows > 0 && polled.poll == Poll::Ready;
                more |= has_more || (self.sliced && rows > 0);
                has_more &= !part.done || self.sliced;
            }
            let Some(next) = self.turns.took(place, places, rows, has_more) else { break };
            place = next;
        }
        drop(session);
        more |= budget == 0;
        self.status.backlog.set(backlog || budget == 0 || self.lent.is_some());
        self.turns.set_place(follows.unwrap_or(place));
        self.count(total, None);
        self.reach();
        if self.lent.is_some() {
            self.control.sources.flow.lends(self.worker, true);
            return Ok((Found::Paused, total));
        }
        if !more || self.turns.is_round_over() {
            self.turns.end_round();
        }
        let found = match waits {
            _ if more => Found::More,
            Some(patience) => Found::Ahead(again.map_or(patience, |again| again.min(patience))),
            None => Found::Nothing(again),
        };
        Ok((found, total))
    }

    /// Counts rows that have been read; pulled ones have not been counted where they were taken.
    fn count(&mut self, rows: usize, taker: Option<NodeId>) {
        if rows > 0 {
            self.control.sources.flow.read(self.worker, rows);
            let rows = rows as u64;
            self.rows += rows;
            if let Some(counters) = self.control.counters(self.node.id, self.worker) {
                counters.rows_in.add(rows);
                counters.rows_out.add(rows);
            }
            if let Some(counters) = taker.and_then(|taker| self.control.counters(taker, self.worker)) {
                counters.rows_in.add(rows);
            }
        }
    }

    /// Tells the ledger what the readers of slices have read, and the operators of this worker what has ended.
    fn reach(&mut self) {
        let Reading { control, worker, readers, sliced, plan, lent, .. } = self;
        let mut moved = false;
        for (_, part) in readers.iter_mut().flatten().enumerate().filter(|(place, _)| Some(*place) != *lent) {
            if part.ended && !std::mem::replace(&mut part.told_end, true) {
                moved = true;
            }
            let Some(domains) = plan.announces.as_ref().filter(|_| *sliced) else { continue };
            let rank = part.next_rank();
            if part.rank != Some(rank) {
                part.rank = Some(rank);
                for domain in domains.iter() {
                    moved |= control.ledger.reach(*domain, part.origin, part.partition, rank);
                }
            }
        }
        if moved && control.mode == Mode::Continuous {
            control.wakers.wake_assigners_on(*worker);
        }
        if let Some(part) = readers.iter().flatten().next().filter(|_| *sliced && lent.is_none()) {
            let rank = readers.iter().flatten().map(Part::next_rank).min().unwrap_or(u64::MAX);
            if part.lead.borrow().reach(rank) {
                control.wakers.wake_sources();
            }
        }
    }

    /// Where a partition stands at the end of the epoch.
    fn read_of(&self, part: &Part) -> Result<PartitionRead, SourceError> {
        if self.sliced && self.control.mode == Mode::MicroBatch && self.plan.had_read_ahead {
            let (origin, rank) = (part.origin, part.next_rank());
            self.control.ledger.reach_by(self.epoch, origin, part.partition, rank);
        }
        let offset = Json(part.reader.offset()?);
        Ok(PartitionRead { partition: part.partition, offset, has_ended: part.ended })
    }

    /// Reports an epoch as read.
    fn leave(&mut self) -> Result<(), SourceError> {
        let mut partitions = self.shared.as_mut().map_or_else(Vec::new, Shared::take_read);
        for part in self.readers.iter().flatten() {
            partitions.push(self.read_of(part)?);
        }
        let rows = std::mem::take(&mut self.rows);
        self.left = Some(self.epoch);
        let (source, worker) = (self.node.id, self.worker);
        let read = Report::Read { epoch: self.epoch, source, worker, rows, partitions };
        if rows < LARGE {
            self.control.tell_after_step(read)
        } else {
            self.control.tell(read)
        }
        Ok(())
    }

    fn downgrade(&mut self, capability: &mut Option<Capability<Time>>) {
        self.epoch = self.control.after(self.epoch);
        if let Some(capability) = capability {
            // Epochs only grow, so this cannot fail.
            let _ = capability.try_downgrade(&Time::new(self.epoch, EventTime::MIN));
        }
    }

    fn finish(&mut self) {
        (self.readers, self.shared) = (None, None);
        self.turns.end_epoch(None);
        self.status.backlog.set(false);
        let last = match self.control.mode {
            Mode::MicroBatch => self.left,
            Mode::Continuous => Some(self.epoch),
        };
        self.control.set_source_idle(self.node.id, self.worker, true);
        self.control.tell(Report::SourceDone { last });
    }
}
