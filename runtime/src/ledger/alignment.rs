//! Alignment of sources: a partition with a backlog waits for those that are behind it in event time (continuous).
//!
//! Operators keep rows until the watermark passes them, and the watermark is that of the partition that is furthest behind. So
//! rows that other partitions have read ahead of it are state, for nothing: they change no result before the watermark comes. The
//! domains whose streams meet in such operators form a *group*, and the least watermark of its domains that are not idle is
//! the watermark of the group. A reader pauses while it has read more than its share of rows ahead of it.
//!
//! The bound is a number of rows, not a span of event time: rows are what takes memory, whatever the unit of event times and
//! however dense they are.
//!
//! A reader waits only where waiting helps: while all partitions that hold the watermark have a backlog. A partition that is
//! silent, or has nothing more to read at the moment, is as far as it can be. The partitions that hold the watermark never
//! wait in that group, and a reader whose partition is in several groups waits only if it is ahead in all of them; so in
//! each group some reader reads. If the watermark still does not move for [`PATIENCE`], the reader reads on until it does.
//!
//! The workers that read slices of one sequence are aligned in the same way, by rank: rows of a slice are ahead of the
//! watermark until all slices before it have been read. There the least rank that is not read takes the place of the watermark.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::turn::{self, lock};
use tidemill_operators::{EventTime, ProcessingTime};

use super::domain::Domain;
use super::{DomainId, Ledger};

/// How long a reader waits for a watermark that does not move.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// How many marks a reader keeps of what it has read ahead.
const MARKS: usize = 16;

/// The domains of streams that meet; or the workers that read a sequence.
#[derive(Debug)]
pub(crate) struct Group {
    /// Of each domain the watermark, or the end of time while the stream is idle. Of a sequence the least rank that is not read.
    watermarks: Vec<AtomicI64>,
    members: Mutex<Vec<Arc<Member>>>,
    /// How many readers the members have.
    readers: AtomicU64,
    /// How many rows may be read ahead of the watermark: by all readers, and by each.
    most: u64,
    share: AtomicU64,
    /// Whether a reader waits.
    has_waiting: AtomicBool,
}

/// A partition of a group, as far as the readers of others ask; or a worker that reads a sequence.
#[derive(Debug)]
pub(crate) struct Member {
    group: Arc<Group>,
    /// The watermark that its own rows justify; or the rank of the next row that it reads.
    own: AtomicI64,
    is_idle: AtomicBool,
    /// How many of its readers have a backlog, or have not looked yet.
    backlogs: AtomicUsize,
}

/// The place of a domain in its group.
#[derive(Clone, Debug)]
pub(super) struct InGroup {
    group: Arc<Group>,
    place: usize,
}

impl Group {
    fn new(domains: usize, most: usize) -> Group {
        Group {
            watermarks: (0..domains).map(|_| AtomicI64::new(EventTime::MIN.as_micros())).collect(),
            members: Mutex::default(),
            readers: AtomicU64::new(0),
            most: most as u64,
            share: AtomicU64::new(most as u64),
            has_waiting: AtomicBool::new(false),
        }
    }

    fn watermark(&self) -> i64 {
        let watermarks = self.watermarks.iter().map(|watermark| watermark.load(Ordering::SeqCst));
        watermarks.min().unwrap_or(i64::MAX)
    }

    /// Whether the watermark can move without the readers that wait: those that hold it all have more to read.
    fn catches_up(&self, watermark: i64) -> bool {
        let members = lock(&self.members);
        let holds = |member: &&Arc<Member>| {
            !member.is_idle.load(Ordering::SeqCst) && member.own.load(Ordering::SeqCst) <= watermark
        };
        let mut holders = members.iter().filter(holds).peekable();
        holders.peek().is_some() && holders.all(|member| member.backlogs.load(Ordering::SeqCst) > 0)
    }

    /// Returns whether readers wait that are to be woken. They note that they wait before they look again.
    fn take_waiting(&self) -> bool {
        self.has_waiting.load(Ordering::SeqCst) && self.has_waiting.swap(false, Ordering::SeqCst)
    }
}

/// Adds a member with that many readers.
fn add(group: &Arc<Group>, readers: usize, own: i64) -> Arc<Member> {
    let member = Arc::new(Member {
        group: Arc::clone(group),
        own: AtomicI64::new(own),
        is_idle: AtomicBool::new(false),
        backlogs: AtomicUsize::new(readers),
    });
    lock(&group.members).push(Arc::clone(&member));
    let readers = readers as u64 + group.readers.fetch_add(readers as u64, Ordering::SeqCst);
    group.share.store((group.most / readers.max(1)).max(1), Ordering::SeqCst);
    member
}

impl InGroup {
    /// Adds a partition with that many readers.
    pub(super) fn add(&self, readers: usize, own: EventTime) -> Arc<Member> {
        add(&self.group, readers, own.as_micros())
    }

    /// Publishes the watermark of the domain; returns whether readers are to be woken that wait for it.
    pub(super) fn publish(&self, watermark: EventTime, is_idle: bool) -> bool {
        let watermark = if is_idle { EventTime::MAX } else { watermark }.as_micros();
        let Some(known) = self.group.watermarks.get(self.place) else { return false };
        known.load(Ordering::Relaxed) != watermark && {
            known.store(watermark, Ordering::SeqCst);
            self.group.take_waiting()
        }
    }
}

impl Member {
    /// Publishes what is known of the partition.
    pub(super) fn publish(&self, own: EventTime, is_idle: bool) {
        let own = own.as_micros();
        if self.own.load(Ordering::Relaxed) != own {
            self.own.store(own, Ordering::SeqCst);
        }
        if self.is_idle.load(Ordering::Relaxed) != is_idle {
            self.is_idle.store(is_idle, Ordering::SeqCst);
        }
    }

    /// Notes the rank of the next row of a worker, if there is one; returns whether other readers are to be woken.
    fn reach(&self, rank: u64) -> bool {
        let members = lock(&self.group.members);
        self.own.store(i64::try_from(rank).unwrap_or(i64::MAX), Ordering::SeqCst);
        let least = members.iter().map(|member| member.own.load(Ordering::SeqCst)).min();
        let floor = self.group.watermarks.first().zip(least);
        floor.is_some_and(|(floor, least)| floor.swap(least, Ordering::SeqCst) != least)
            && self.group.take_waiting()
    }

    /// Notes whether a reader has a backlog, which was not so before; returns whether other readers are to be woken.
    fn set_backlog(&self, has_backlog: bool) -> bool {
        if has_backlog {
            self.backlogs.fetch_add(1, Ordering::SeqCst);
            return false;
        }
        self.backlogs.fetch_sub(1, Ordering::SeqCst);
        self.group.take_waiting()
    }
}

/// How far a reader is ahead, in each group of its partition. Where readers read slices, all of a worker together.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    places: Vec<Place>,
    /// Among the workers that read the sequence.
    in_sequence: Option<Place>,
    /// Whether its last poll left more to read.
    lacks_backlog: bool,
    rows: u64,
    waits: bool,
}

/// How far a reader is ahead in a group.
#[derive(Debug)]
struct Place {
    member: Arc<Member>,
    /// How many rows it had read when the partition's watermark was no further than the group's.
    level: u64,
    /// The partition's watermark when it had read that many rows.
    marks: VecDeque<(i64, u64)>,
    /// The group's watermark, and since when the reader has seen it there.
    seen: Option<(i64, ProcessingTime)>,
}

/// What a reader has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Reads,
    /// It waits, and looks again when it is woken, or after so long.
    Waits(Duration),
}

impl Lead {
    fn new(members: Vec<Arc<Member>>, in_sequence: Option<Arc<Member>>) -> Lead {
        let place = |member| Place { member, level: 0, marks: VecDeque::new(), seen: None };
        let places = members.into_iter().map(place).collect();
        Lead { places, in_sequence: in_sequence.map(place), ..Lead::default() }
    }

    /// Counts rows that it has read, and notes whether there are more; returns whether other readers are to be woken.
    pub(crate) fn took(&mut self, rows: usize, has_backlog: bool) -> bool {
        self.rows += rows as u64;
        if self.lacks_backlog != has_backlog {
            return false;
        }
        self.lacks_backlog = !has_backlog;
        let places = self.places.iter().chain(&self.in_sequence);
        places.fold(false, |wake, place| place.member.set_backlog(has_backlog) | wake)
    }

    /// Notes the least rank of the rows that are yet to be read here; returns whether other readers are to be woken.
    pub(crate) fn reach(&self, rank: u64) -> bool {
        self.in_sequence.as_ref().is_some_and(|place| place.member.reach(rank))
    }

    /// Whether it waits.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether it must wait for readers that are behind. The clock is read only if it is ahead of them.
    pub(crate) fn look(&mut self, now: impl Fn() -> ProcessingTime) -> Pause {
        let pause = self.pause(now);
        self.waits = pause != Pause::Reads;
        pause
    }

    fn pause(&mut self, now: impl Fn() -> ProcessingTime) -> Pause {
        let rows = self.rows;
        if self.lacks_backlog {
            return Pause::Reads;
        }
        // All of them, since each notes how far it is.
        let mut is_ahead = !self.places.is_empty();
        for place in &mut self.places {
            is_ahead &= place.is_ahead(rows);
        }
        if let Some(place) = &mut self.in_sequence
            && place.is_ahead(rows)
            && let Some(patience) = place.must_wait(rows, &now)
        {
            return Pause::Waits(patience);
        }
        if !is_ahead {
            return Pause::Reads;
        }
        let waits = self.places.iter_mut().map(|place| place.must_wait(rows, &now));
        match waits.collect::<Option<Vec<_>>>() {
            Some(waits) => Pause::Waits(waits.into_iter().max().unwrap_or_default()),
            None => Pause::Reads,
        }
    }
}

impl Place {
    /// Whether it has read more than its share ahead of the watermark.
    fn is_ahead(&mut self, rows: u64) -> bool {
        let (own, watermark) = (self.member.own.load(Ordering::SeqCst), self.member.group.watermark());
        let share = self.member.group.share.load(Ordering::Relaxed);
        if own <= watermark {
            self.level = rows;
            self.marks.clear();
            return false;
        }
        while let Some((_, rows)) = self.marks.front().filter(|(own, _)| *own <= watermark) {
            self.level = *rows;
            self.marks.pop_front();
        }
        let last = self.marks.back();
        if last.is_none_or(|(mark, at)| *mark < own && rows - at >= share / 8) {
            if self.marks.len() >= MARKS {
                // It is not waited for: then marks far apart will do.
                let mut keeps = true;
                self.marks.retain(|_| {
                    keeps = !keeps;
                    keeps
                });
            }
            self.marks.push_back((own, rows));
        }
        rows - self.level > share
    }

    /// For how long it waits at most; `None` if it does not.
    fn must_wait(&mut self, rows: u64, now: &impl Fn() -> ProcessingTime) -> Option<Duration> {
        let group = Arc::clone(&self.member.group);
        group.has_waiting.store(true, Ordering::SeqCst);
        turn::point("alignment.wait");
        // Look again: what it waits for may have happened before the note was written.
        if !self.is_ahead(rows) {
            return None;
        }
        let watermark = group.watermark();
        if !group.catches_up(watermark) {
            return None;
        }
        let now = now();
        let since = match self.seen {
            Some((seen, since)) if seen == watermark => since,
            _ => now,
        };
        self.seen = Some((watermark, since));
        let left = PATIENCE.saturating_sub(now.since(since));
        (!left.is_zero()).then_some(left)
    }
}

impl Ledger {
    /// Has readers wait for those that are behind, if more than `most` rows have been read ahead of the watermark.
    pub(crate) fn aligned(self, most: usize) -> Ledger {
        let mut groups: BTreeMap<usize, Vec<DomainId>> = BTreeMap::new();
        for (number, domain) in self.domains.iter().enumerate() {
            if let Some(group) = lock(domain).spec.aligned {
                groups.entry(group).or_default().push(number);
            }
        }
        for domains in groups.into_values().filter(|_| most > 0) {
            let group = Arc::new(Group::new(domains.len(), most));
            for (place, domain) in domains.into_iter().enumerate() {
                if let Some(domain) = self.domains.get(domain) {
                    lock(domain).align(InGroup { group: Arc::clone(&group), place });
                }
            }
        }
        self
    }

    /// How far a new reader of a partition is ahead, by the number that its rows carry. Where readers read slices, all of that
    /// worker together.
    pub(crate) fn lead(&self, origin: u32, worker: usize) -> Lead {
        let (mut members, mut in_sequence) = (Vec::new(), None);
        for domain in &self.domains {
            if let Some(partition) = lock(domain).partitions.get(&origin) {
                members.extend(partition.member.clone());
                in_sequence = in_sequence.or_else(|| partition.workers.get(worker).cloned());
            }
        }
        Lead::new(members, in_sequence)
    }

    /// A reader of a partition waits for others, or (false) reads on. In the meantime the partition is not silent.
    pub(crate) fn set_waiting(&self, origin: u32, waits: bool, now: ProcessingTime) {
        for domain in &self.domains {
            if let Some(partition) = lock(domain).partitions.get_mut(&origin) {
                partition.set_waiting(waits, now);
            }
        }
    }
}

impl Domain {
    fn align(&mut self, group: InGroup) {
        let workers = self.left.len();
        for partition in self.partitions.values_mut() {
            // Partition `p` is read by worker `p % workers`.
            let workers = if partition.has_ranks() { workers.min(partition.ends.readers()) } else { 0 };
            let readers = if workers > 0 { workers } else { partition.ends.readers() };
            partition.member = Some(group.add(readers, partition.own()));
            let sequence = Arc::new(Group::new(1, group.group.most as usize));
            partition.workers = (0..workers).map(|_| add(&sequence, 1, 0)).collect();
        }
        group.publish(self.now, self.is_idle);
        self.group = Some(group);
    }

    /// Publishes the watermark and what it comes from; returns whether readers are to be woken that wait for it.
    pub(super) fn publish(&self) -> bool {
        let Some(group) = &self.group else { return false };
        for partition in self.partitions.values() {
            if let Some(member) = &partition.member {
                member.publish(partition.own(), partition.is_idle);
            }
        }
        group.publish(self.now, self.is_idle)
    }
}

#[cfg(test)]
mod tests;
