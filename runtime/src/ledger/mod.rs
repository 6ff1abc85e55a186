//! The watermarks of streams: worked out from facts, agreed once for each epoch, and known by number.
//!
//! A frontier may jump over several epochs at once, and then shows only the last watermark. So an operator never reads
//! the watermark of an epoch off a frontier: it asks the ledger. Every stream with event time has a *domain* here: one
//! for each node that assigns watermarks, and one for each node that joins streams of several domains (a union); it is
//! shared by the instances of the node on all workers.
//!
//! A domain knows its partitions, and of each what it has shown and which of its rows no instance has observed yet
//! ([`partition`]). Its watermark is the least over the partitions that are not idle, and never decreases. A partition is
//! idle when it has ended, or when `idle_after` has passed since its last record; never while it has unseen rows. When all
//! are idle, the watermark is the greatest that one of them justifies, as if they had fallen silent one after the other.
//! A partition that is discovered while the query runs takes part from the epoch on that is planned or called for it: it has shown
//! nothing, and counts as if it had its last record at its discovery. So the watermark waits for it where it is.
//!
//! Micro-batch: the watermark at the end of an epoch follows from what was shown up to that epoch and from the clock of the
//! epoch, which is in its plan; so a replay decides the same. Continuous: sources announce batches before they send them,
//! the operators that assign watermarks observe them, and the watermark moves within the epoch; at the end of an epoch it
//! is the least of those with which the workers left it.
//!
//! Why the answer is always there: an instance steps out of an epoch, and releases it in the progress protocol, only
//! when every instance on every worker has entered that epoch and has no buffered batches of it. That its own frontier
//! has passed the epoch is not enough: another instance may have received rows of it, and so released the frontier, but
//! buffered them because it is still in the epoch before.

mod alignment;
mod batches;
mod closing;
mod domain;
mod ends;
mod partition;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::{Epoch, EventTime, ProcessingTime, turn};

pub(crate) use self::alignment::{Lead, Pause};
pub(crate) use self::closing::EpochEnds;
pub(crate) use self::domain::Marks;
use self::domain::{Domain, Left};
use self::ends::Ends;
use self::partition::Partition;
pub(crate) use self::partition::Position;

pub(crate) type DomainId = usize;

/// What the graph says about a domain.
#[derive(Clone, Debug, Default)]
pub(crate) struct DomainSpec {
    /// The sources whose ends are the end of this domain.
    pub(crate) sources: Vec<NodeId>,
    pub(crate) partitions: Vec<PartitionSpec>,
    /// The sources whose partitions are partitions here.
    pub(crate) counted: Vec<NodeId>,
    /// Whether a source of the domain looks for new partitions: then not all will ever have ended.
    pub(crate) may_grow: bool,
    /// Whether rows come that no longer belong to a partition of a source: from an aggregation, say.
    pub(crate) is_mixed: bool,
    pub(crate) idle_after: Option<Duration>,
    /// How far the watermark of a partition is behind the latest event time that it has shown.
    pub(crate) delay: Duration,
    /// The domains of the streams that are joined here, or that the watermark is derived from; empty where watermarks are
    /// assigned.
    pub(crate) members: Vec<DomainId>,
    /// Whether an operator derives the watermark: its instances report it at the end of each epoch.
    pub(crate) is_derived: bool,
    /// How far the watermark stays behind that of the members.
    pub(crate) behind: Duration,
    /// The number of the domains, this one and others, whose streams meet where rows are kept until the watermark passes.
    pub(crate) aligned: Option<usize>,
}

/// A partition of a domain's watermark.
#[derive(Clone, Debug)]
pub(crate) struct PartitionSpec {
    /// The number that its rows carry.
    pub(crate) origin: u32,
    pub(crate) readers: Vec<u32>,
    /// Whether the readers read slices of one sequence, and their rows are announced by rank.
    pub(crate) has_ranks: bool,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    domains: Vec<Mutex<Domain>>,
    members: Vec<Vec<DomainId>>,
    /// By domain: how far it stays behind its members.
    behind: Vec<Duration>,
    /// The ends of the partitions of each source.
    sources: Mutex<HashMap<NodeId, Ends>>,
}

/// What a partition (by the number that its rows carry) has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PartitionMark {
    pub(crate) origin: u32,
    /// Of the slice whose rows have shown it; 0 where nothing before it is unseen.
    pub(crate) rank: u64,
    pub(crate) shown: EventTime,
    pub(crate) is_idle: bool,
    /// When it last showed a record.
    pub(crate) seen: Option<ProcessingTime>,
}

/// What travels with an announced batch to the operators that observe it.
pub(crate) trait Announced {
    /// The partition of the batch, as its rows carry it.
    fn origin(&self) -> u32;
    /// Its position in the sequence of the partition.
    fn position(&self) -> Position;
    /// Notes that a domain knows that the batch has been observed.
    fn retired(&mut self, domain: DomainId);
}

/// What a worker has observed since it last asked for the watermark (continuous).
pub(crate) struct Observed<'a, T> {
    pub(crate) worker: usize,
    pub(crate) now: ProcessingTime,
    /// By partition, and position in its sequence if batches are announced: what rows justify.
    pub(crate) shown: &'a mut Vec<(u32, Option<Position>, EventTime)>,
    /// What travelled with these rows.
    pub(crate) announcements: &'a mut Vec<Arc<T>>,
    /// Whether nothing will reach this worker any more.
    pub(crate) everything_came: bool,
    /// Where batches are not announced: whether all that was read of a partition has been observed.
    pub(crate) has_arrived: &'a dyn Fn(u32) -> bool,
}

/// The watermark as it stands (continuous).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advanced {
    pub(crate) watermark: EventTime,
    /// Whether it has moved.
    pub(crate) moved: bool,
    /// Whether the stream has become idle.
    pub(crate) fell_idle: bool,
    /// When the passing of time may change it.
    pub(crate) look_again: Option<Duration>,
    /// Whether sources wait for what has changed.
    pub(crate) wakes_sources: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere ends the query anyway; what is in the ledger is still true.
    turn::point("ledger");
    turn::lock(mutex)
}

/// The watermark of its inputs that an operator had applied which derives that of its outputs: recorded as its only mark. One
/// that did not derive it before has none: the two were the same.
pub(crate) fn inputs_of(watermark: EventTime, marks: &[PartitionMark]) -> EventTime {
    marks.iter().find(|mark| mark.origin == 0).map_or(watermark, |mark| mark.shown)
}

/// The watermark of a union, from the watermarks of its inputs and whether they are idle: the least of those that are not;
/// the greatest if all are; the end of time when all have ended.
pub(crate) fn joined(inputs: impl Iterator<Item = (EventTime, bool)> + Clone) -> EventTime {
    let live = inputs.filter(|(watermark, _)| *watermark < EventTime::MAX);
    let least = live.clone().filter(|(_, is_idle)| !is_idle).map(|(watermark, _)| watermark).min();
    least.or_else(|| live.map(|(watermark, _)| watermark).max()).unwrap_or(EventTime::MAX)
}

/// The watermark that stays behind another one; all that ends, ends at once.
pub(crate) fn behind(watermark: EventTime, by: Duration) -> EventTime {
    if watermark == EventTime::MAX { watermark } else { watermark - by }
}

impl Ledger {
    /// A ledger with these domains, in continuous mode (`born`: the time by the clock) or in micro-batch. Of each source, its
    /// number of partitions; none where it never ends since it looks for more.
    pub(crate) fn new(
        specs: Vec<DomainSpec>,
        sources: &[(NodeId, Option<usize>)],
        workers: usize,
        born: Option<ProcessingTime>,
    ) -> Ledger {
        let ends = |partitions: &Option<usize>| partitions.map_or_else(Ends::never, Ends::of);
        let ends = sources.iter().map(|(node, partitions)| (*node, ends(partitions))).collect();
        let members = specs.iter().map(|spec| spec.members.clone()).collect();
        let behind = specs.iter().map(|spec| spec.behind).collect();
        let domains = specs.into_iter().map(|spec| Mutex::new(Domain::new(spec, workers, born))).collect();
        Ledger { domains, members, behind, sources: Mutex::new(ends) }
    }

    /// The same for a query that resumes: its first epoch, and for each domain the watermark and what the partitions had
    /// shown.
    pub(crate) fn resume(self, first: Epoch, starts: &[Option<(EventTime, Vec<PartitionMark>)>]) -> Ledger {
        for (domain, start) in self.domains.iter().zip(starts.iter().map(Some).chain(std::iter::repeat(None)))
        {
            let mut domain = lock(domain);
            domain.entered.fill(first);
            let Some((watermark, marks)) = start.and_then(Option::as_ref) else { continue };
            domain.now = *watermark;
            domain.inputs.insert(Epoch::new(0), inputs_of(*watermark, marks));
            for mark in marks {
                // One that is there no more, such as rows mixed on another worker, must not hold the others.
                let Some(partition) = domain.partitions.get_mut(&mark.origin) else { continue };
                partition.restore(mark.rank, mark.shown);
                partition.is_idle = mark.is_idle;
                // One that was idle has been silent long enough. In continuous mode the others count from now.
                match partition.seen {
                    _ if mark.is_idle => partition.seen = Some(ProcessingTime::from_micros(i64::MIN / 2)),
                    None => partition.seen = mark.seen,
                    Some(_) => {}
                }
            }
            for partition in domain.partitions.values_mut() {
                partition.pass(*watermark);
            }
        }
        self
    }

    /// Partitions of a source, as rows carry their numbers, take part from an epoch on; `born` is the time by the clock in
    /// continuous mode. Called before anything of that epoch can be read. Returns the domains that have them.
    pub(crate) fn join(
        &self,
        source: NodeId,
        origins: &[u32],
        epoch: Epoch,
        born: Option<ProcessingTime>,
    ) -> Vec<DomainId> {
        if let Some(ends) = lock(&self.sources).get_mut(&source) {
            origins.iter().for_each(|_| ends.join(epoch));
        }
        let mut joined = Vec::new();
        for (number, domain) in self.domains.iter().enumerate() {
            let mut domain = lock(domain);
            if domain.spec.counted.contains(&source) {
                origins.iter().for_each(|origin| domain.join(*origin, epoch, born));
                joined.push(number);
            }
        }
        joined
    }

    fn domain(&self, domain: DomainId) -> Option<MutexGuard<'_, Domain>> {
        self.domains.get(domain).map(lock)
    }

    fn members(&self, domain: DomainId) -> &[DomainId] {
        self.members.get(domain).map_or(&[], Vec::as_slice)
    }

    /// The watermark of a domain that has members, from what they have and whether they are idle.
    fn of_members(
        &self,
        domain: DomainId,
        members: impl Iterator<Item = (EventTime, bool)> + Clone,
    ) -> EventTime {
        behind(joined(members), self.behind.get(domain).copied().unwrap_or_default())
    }

    /// The domains of the unions that a domain's stream leads into.
    pub(crate) fn dependents(&self, domain: DomainId) -> Vec<DomainId> {
        let mut found = vec![domain];
        for (dependent, members) in self.members.iter().enumerate() {
            if members.iter().any(|member| found.contains(member)) {
                found.push(dependent);
            }
        }
        found.split_off(1)
    }

    /// Checks the invariant behind all watermarks of continuous mode, for every domain: while a partition has rows that
    /// are announced, or in a slice that others have passed, and that no operator has observed, the watermark is not
    /// beyond what the partition's rows before the first such row justify; unless it got there before, while the partition
    /// was idle. Holds at any moment between two calls; a domain that a call is changing is left out, so this never waits.
    pub(crate) fn check_invariant(&self) -> Result<(), String> {
        self.domains.iter().enumerate().try_for_each(|(number, domain)| {
            let Ok(domain) = domain.try_lock() else { return Ok(()) };
            domain.check().map_err(|problem| format!("domain {number}: {problem}"))
        })
    }

    /// The watermark at the end of an epoch, and what it comes from, for the checkpoint.
    pub(crate) fn record(
        &self,
        domain: DomainId,
        epoch: Epoch,
        continuous: bool,
    ) -> (EventTime, Vec<PartitionMark>) {
        let is_reported = continuous || self.domain(domain).is_some_and(|domain| domain.spec.is_derived);
        let watermark = if is_reported { self.end_of_interval(domain, epoch).0 } else { EventTime::MIN };
        let Some(domain) = self.domain(domain) else { return (watermark, Vec::new()) };
        if !is_reported {
            let watermark = domain.closed.get(&epoch).map_or(domain.now, |(watermark, _)| *watermark);
            return (watermark, domain.records.get(&epoch).cloned().unwrap_or_default());
        }
        // What each worker had observed by that epoch, and the present value of what is the same on all workers.
        let mut shown: Marks =
            domain.partitions.keys().map(|origin| ((*origin, 0), EventTime::MIN)).collect();
        for left in domain.left.iter().filter_map(|left| left.range(..=epoch).next_back()) {
            for (position, watermark) in &left.1.shown {
                let slot = shown.entry(*position).or_insert(EventTime::MIN);
                *slot = (*slot).max(*watermark);
            }
        }
        let mark = |((origin, rank), shown)| {
            let partition = domain.partitions.get(&origin);
            let (is_idle, seen) =
                partition.map_or((false, None), |it| (it.is_idle && !it.has_ended(), it.seen));
            PartitionMark { origin, rank, shown, is_idle, seen }
        };
        (watermark, shown.into_iter().map(mark).collect())
    }

    /// A partition of a source has ended, in that epoch; it is known by `origin` to the domains.
    pub(crate) fn partition_ended(&self, source: NodeId, origin: u32, epoch: Epoch) {
        if let Some(ends) = lock(&self.sources).get_mut(&source) {
            ends.report(epoch);
        }
        for domain in &self.domains {
            if let Some(known) = lock(domain).known(origin) {
                known.end(epoch);
            }
        }
    }

    /// Micro-batch: a partition of a source had ended before a replayed epoch, in the run that planned it. It counts as
    /// ended in that epoch alone: when this run plans on, the source may have more.
    pub(crate) fn partition_had_ended(&self, source: NodeId, origin: u32, epoch: Epoch) {
        if let Some(ends) = lock(&self.sources).get_mut(&source) {
            ends.replay(epoch);
        }
        for domain in &self.domains {
            if let Some(known) = lock(domain).known(origin) {
                known.ends.replay(epoch);
            }
        }
    }

    fn have_ended(&self, nodes: &[NodeId], has: impl Fn(&Ends) -> bool) -> bool {
        let sources = lock(&self.sources);
        !nodes.is_empty() && nodes.iter().all(|node| sources.get(node).is_some_and(&has))
    }

    /// Continuous: a batch of a partition is on its way.
    pub(crate) fn announce(&self, domain: DomainId, origin: u32, position: Position) {
        if let Some(mut domain) = self.domain(domain) {
            domain.partition(origin).announce(position);
        }
    }

    /// Continuous: all that became of a batch has been observed or dropped. Returns whether that moves the watermark of
    /// its partition: then the operators that assign the watermark must look.
    pub(crate) fn retire(&self, domain: DomainId, origin: u32, position: Position) -> bool {
        self.domain(domain).is_some_and(|mut domain| domain.partition(origin).retire(position))
    }

    /// Continuous: a reader of a slice will announce no row before that rank any more. Returns as `retire`.
    pub(crate) fn reach(&self, domain: DomainId, origin: u32, reader: u32, rank: u64) -> bool {
        self.domain(domain).is_some_and(|mut domain| domain.partition(origin).reach(reader, rank))
    }

    /// Continuous: takes up what a worker has observed. Returns the watermark.
    pub(crate) fn advance<T: Announced>(&self, domain: DomainId, observed: Observed<'_, T>) -> Advanced {
        let Observed { worker, now, shown, announcements, everything_came, has_arrived } = observed;
        let Some(mut it) = self.domain(domain) else {
            return Advanced {
                watermark: EventTime::MIN,
                moved: false,
                fell_idle: false,
                look_again: None,
                wakes_sources: false,
            };
        };
        for (origin, position, watermark) in shown.drain(..) {
            let partition = it.partition(origin);
            partition.show(position, watermark);
            partition.seen = Some(now);
        }
        // What they concern elsewhere is dealt with when they are dropped, without this lock.
        let mut retired = Vec::new();
        for mut announcement in announcements.drain(..).filter_map(Arc::into_inner) {
            it.partition(announcement.origin()).retire(announcement.position());
            announcement.retired(domain);
            retired.push(announcement);
        }
        let mut has_ended = false;
        if everything_came && it.spec.is_mixed && self.have_ended(&it.spec.sources, Ends::all) {
            if let Some(mixed) = it.partitions.get_mut(&(worker as u32)) {
                mixed.end_mixed();
            }
            let all_came = (0..it.left.len())
                .all(|worker| it.partitions.get(&(worker as u32)).is_some_and(Partition::has_ended));
            has_ended = all_came;
        }
        let (moved, fell_idle, look_again) = it.advance(now, has_arrived, has_ended);
        let wakes_sources = it.publish();
        let advanced = Advanced { watermark: it.now, moved, fell_idle, look_again, wakes_sources };
        drop(it);
        drop(retired);
        advanced
    }

    /// Continuous: returns the watermark with which a worker leaves an epoch: its `own`, unless the epoch is the last.
    ///
    /// `None` until all workers have entered the epoch, and the last one until all have observed all that will come. The
    /// first to ask then decides the last watermark: the end of time if the sources have ended. An epoch that seemed to be the
    /// last is none once another worker has left it for the next.
    pub(crate) fn leaves(
        &self,
        domain: DomainId,
        worker: usize,
        epoch: Epoch,
        own: EventTime,
        clock: &dyn Fn() -> ProcessingTime,
    ) -> Option<EventTime> {
        let Some(mut domain) = self.domain(domain) else { return Some(own) };
        if !domain.all_are_in(epoch) {
            return None;
        }
        if !domain.finished.get(worker).is_some_and(|finished| *finished) {
            return Some(own);
        }
        if !domain.finished.iter().all(|finished| *finished) {
            // Another source has had more epochs called since: for a worker that is ahead, this one was not the last.
            return domain.entered.iter().any(|entered| *entered > epoch).then_some(own);
        }
        let has_ended = self.have_ended(&domain.spec.sources, Ends::all);
        if has_ended {
            return Some(EventTime::MAX);
        }
        if domain.last.is_none() {
            domain.partitions.values_mut().for_each(Partition::retire_all);
            domain.advance(clock(), &|_| true, has_ended);
            domain.last = Some(domain.now);
        }
        domain.last
    }

    /// Continuous: whether all partitions of a domain are idle now.
    pub(crate) fn is_idle(&self, domain: DomainId) -> bool {
        match self.members(domain) {
            [] => self.domain(domain).is_some_and(|domain| {
                domain.is_idle && domain.partitions.values().all(|it| !it.has_unseen())
            }),
            members => members.iter().all(|member| self.is_idle(*member)),
        }
    }

    /// Continuous: whether all partitions of a domain are idle now, and its watermark does not exceed that one.
    pub(crate) fn is_idle_by(&self, domain: DomainId, watermark: EventTime) -> bool {
        self.is_idle(domain) && self.now(domain) <= watermark
    }

    /// Continuous: the watermark of a domain now.
    fn now(&self, domain: DomainId) -> EventTime {
        match self.members(domain) {
            [] => self.domain(domain).map_or(EventTime::MIN, |domain| domain.now),
            members => {
                let now = members.iter().map(|member| (self.now(*member), self.is_idle(*member)));
                self.of_members(domain, now)
            }
        }
    }

    /// Continuous: a worker leaves an epoch with its watermark at that, having observed what `marks` say. Returns the marks
    /// that count from here on: ranks do so only as long as rows before them are unseen.
    pub(crate) fn leave(
        &self,
        domain: DomainId,
        worker: usize,
        epoch: Epoch,
        watermark: EventTime,
        marks: Marks,
    ) -> Marks {
        // As of this epoch: a stream that has gone further since has rows of later epochs, which must not find that others have
        // passed them. A stream that comes from others is idle in an epoch in which they all were.
        let is_idle = match self.members(domain) {
            [] => self.is_idle_by(domain, watermark),
            members => members.iter().all(|member| self.end_of_interval(*member, epoch).1),
        };
        let Some(mut domain) = self.domain(domain) else { return marks };
        if !domain.left.iter().any(|left| left.contains_key(&epoch)) {
            // No instance has observed anything of a later epoch yet.
            let ranks = domain.partitions.iter();
            domain.unseen_ranks =
                ranks.filter_map(|(origin, it)| Some((*origin, it.least_unseen()?))).collect();
        }
        let mut shown = Marks::new();
        for ((origin, rank), watermark) in marks {
            let is_ahead = domain.unseen_ranks.get(&origin).is_some_and(|unseen| rank >= *unseen);
            let slot = shown.entry((origin, if is_ahead { rank } else { 0 })).or_insert(watermark);
            *slot = (*slot).max(watermark);
        }
        if let Some(left) = domain.left.get_mut(worker) {
            left.insert(epoch, Left { watermark, is_idle, shown: shown.clone() });
        }
        shown
    }

    /// A worker is in that epoch, and has observed everything that had been buffered for it.
    pub(crate) fn enter(&self, domain: DomainId, worker: usize, epoch: Epoch) {
        if let Some(mut domain) = self.domain(domain)
            && let Some(entered) = domain.entered.get_mut(worker)
        {
            *entered = epoch;
        }
    }

    /// Continuous: a worker has observed all that will come in this run.
    pub(crate) fn finish(&self, domain: DomainId, worker: usize) {
        if let Some(mut domain) = self.domain(domain)
            && let Some(finished) = domain.finished.get_mut(worker)
        {
            *finished = true;
        }
    }

    /// Continuous: the watermark at the end of an epoch that every worker has left, and whether the stream was idle. One
    /// that has had its last epoch before keeps the watermark with which it left that.
    pub(crate) fn end_of_interval(&self, domain: DomainId, epoch: Epoch) -> (EventTime, bool) {
        let Some(domain) = self.domain(domain) else { return (EventTime::MIN, false) };
        let of = |left: &BTreeMap<Epoch, Left>| {
            left.range(..=epoch).next_back().map(|(_, l)| (l.watermark, l.is_idle))
        };
        let ends = domain.left.iter().map(|left| of(left).unwrap_or((EventTime::MIN, false)));
        ends.reduce(|(least, all_idle), (watermark, is_idle)| (least.min(watermark), all_idle && is_idle))
            .unwrap_or((EventTime::MIN, false))
    }

    /// The least watermark over all domains, for progress: at the end of an epoch in micro-batch, now in continuous.
    /// `None` if the graph has no event time.
    pub(crate) fn progress(&self, epoch: Epoch, continuous: bool) -> Option<EventTime> {
        let of = |(domain, members): (&Mutex<Domain>, &Vec<DomainId>)| {
            let domain = lock(domain);
            match continuous {
                // That of a union follows from the others.
                true => members.is_empty().then_some(domain.now),
                false => Some(domain.closed.get(&epoch).map_or(domain.now, |(watermark, _)| *watermark)),
            }
        };
        self.domains.iter().zip(&self.members).filter_map(of).min()
    }

    /// Returns the latest event time that any partition has shown so far.
    pub(crate) fn latest(&self) -> Option<EventTime> {
        let of = |domain: &Mutex<Domain>| {
            let domain = lock(domain);
            let own = domain.partitions.values().map(|partition| partition.own());
            own.filter(|own| *own > EventTime::MIN).max().map(|own| own + domain.spec.delay)
        };
        self.domains.iter().filter_map(of).max()
    }

    /// Epochs before this one are committed: they will not be asked for again.
    pub(crate) fn forget_before(&self, epoch: Epoch) {
        lock(&self.sources).values_mut().for_each(|ends| ends.forget_before(epoch));
        for domain in &self.domains {
            let mut domain = lock(domain);
            domain.closed = domain.closed.split_off(&epoch);
            domain.records = domain.records.split_off(&epoch);
            let latest = domain.inputs.range(..=epoch).next_back().map_or(epoch, |(latest, _)| *latest);
            domain.inputs = domain.inputs.split_off(&latest);
            domain.partitions.values_mut().for_each(|partition| partition.ends.forget_before(epoch));
            for left in &mut domain.left {
                // The last one may be wanted for all epochs that follow.
                let keep = left.range(..=epoch).next_back().map_or(epoch, |(last, _)| *last);
                *left = left.split_off(&keep);
            }
        }
    }
}
