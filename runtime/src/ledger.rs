//! The watermarks of epochs, agreed once and known by number.
//!
//! A frontier may jump over several epochs at once, and then shows only the last watermark. So an operator never reads
//! the watermark of an epoch off a frontier: it asks the ledger. Every operator that assigns watermarks keeps a
//! *domain* here, one per node of the graph, shared by its instances on all workers.
//!
//! Why the answer is always there: an instance steps out of an epoch, and lets go of it in the progress protocol, only
//! when every instance on every worker has said here that it has all of it. That its own frontier has passed the epoch
//! is not enough: another instance may have received rows of it, and so let the frontier go, but put them by because it
//! still stands in the epoch before. So whoever below learns from a frontier that an epoch is complete finds it complete
//! here.
//!
//! Micro-batch: the watermark at the end of an epoch is the greater of the one at its beginning and the least, over the
//! partitions that brought records in it, of what these partitions have ever justified. Continuous: the least over all
//! workers of what they justify now; at the end of an epoch, the least of what they stood at when they left it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use tidemill_operators::graph::NodeId;
use tidemill_operators::{Epoch, EventTime, turn};

pub(crate) type DomainId = usize;

#[derive(Debug)]
pub(crate) struct Ledger {
    domains: Vec<Mutex<Domain>>,
    sources: Mutex<HashMap<NodeId, SourceEnd>>,
}

#[derive(Debug, Default)]
struct SourceEnd {
    partitions: usize,
    ended: usize,
    last: Epoch,
}

#[derive(Debug)]
struct Domain {
    /// The sources whose ends are the end of this domain.
    sources: Vec<NodeId>,
    /// Micro-batch: what each partition has shown, by epoch.
    shown: BTreeMap<Epoch, HashMap<u32, EventTime>>,
    /// Micro-batch: what each partition has justified in all epochs that are closed.
    justified: HashMap<u32, EventTime>,
    /// The watermark at the end of each closed epoch.
    closed: BTreeMap<Epoch, EventTime>,
    /// The latest of them.
    last: EventTime,
    /// Continuous: what each worker justifies.
    holds: Vec<Hold>,
    /// Continuous: the watermark now.
    now: EventTime,
    /// Continuous: the watermark with which each worker left an epoch, and what its partitions had shown.
    left: Vec<BTreeMap<Epoch, Left>>,
    /// Micro-batch: what each partition had justified at the end of an epoch, for the checkpoint.
    records: BTreeMap<Epoch, Vec<PartitionMark>>,
    /// The epoch that each worker stands in; it has dealt with all records of that epoch that have reached it.
    stands: Vec<Epoch>,
    /// Continuous: how many workers will say no more.
    last_words: usize,
}

/// What a partition (by the number that its rows carry) has shown, and whether it is idle.
pub(crate) type PartitionMark = (u32, EventTime, bool);

/// How a worker left an epoch in continuous mode.
#[derive(Clone, Debug)]
struct Left {
    watermark: EventTime,
    partitions: Vec<PartitionMark>,
}

/// What a worker says about a domain in continuous mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing before this will come from here.
    At(EventTime),
    /// Nothing comes from here at present: the others need not wait.
    Idle,
    /// The same, and what was shown before: it counts when everybody is quiet. So the shares of a sequence that are all
    /// read as far as there is anything agree on the furthest, and partitions may fall silent in any order.
    Quiet(EventTime),
    /// Nothing will ever come from here again.
    Ended,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere ends the query anyway; what is in the ledger is still true.
    turn::point("ledger");
    turn::lock(mutex)
}

impl Ledger {
    /// A ledger with one domain for each list of sources.
    pub(crate) fn new(domains: Vec<Vec<NodeId>>, sources: &[(NodeId, usize)], workers: usize) -> Ledger {
        let domain = |sources| {
            Mutex::new(Domain {
                sources,
                shown: BTreeMap::new(),
                justified: HashMap::new(),
                closed: BTreeMap::new(),
                last: EventTime::MIN,
                holds: vec![Hold::At(EventTime::MIN); workers],
                now: EventTime::MIN,
                left: vec![BTreeMap::new(); workers],
                records: BTreeMap::new(),
                stands: vec![Epoch(0); workers],
                last_words: 0,
            })
        };
        let ends = sources
            .iter()
            .map(|(node, partitions)| (*node, SourceEnd { partitions: *partitions, ..SourceEnd::default() }))
            .collect();
        Ledger { domains: domains.into_iter().map(domain).collect(), sources: Mutex::new(ends) }
    }

    /// The same for a query that goes on: its first epoch, and for each domain the watermark and what the partitions had
    /// shown.
    pub(crate) fn resume(self, first: Epoch, starts: &[Option<(EventTime, Vec<PartitionMark>)>]) -> Ledger {
        for (domain, start) in self.domains.iter().zip(starts.iter().map(Some).chain(std::iter::repeat(None)))
        {
            let mut domain = lock(domain);
            domain.stands.fill(first);
            if let Some((watermark, partitions)) = start.and_then(Option::as_ref) {
                (domain.last, domain.now) = (*watermark, *watermark);
                domain.justified = partitions.iter().map(|(origin, shown, _)| (*origin, *shown)).collect();
            }
        }
        self
    }

    /// The watermark at the end of an epoch, and what it comes from, for the checkpoint.
    pub(crate) fn record(
        &self,
        domain: DomainId,
        epoch: Epoch,
        continuous: bool,
    ) -> (EventTime, Vec<PartitionMark>) {
        if continuous {
            let watermark = self.end_of_interval(domain, epoch);
            let Some(domain) = self.domains.get(domain) else { return (watermark, Vec::new()) };
            let mut partitions = Vec::new();
            for left in &lock(domain).left {
                if let Some((_, left)) = left.range(..=epoch).next_back() {
                    partitions.extend(left.partitions.iter().copied());
                }
            }
            return (watermark, partitions);
        }
        let Some(domain) = self.domains.get(domain) else { return (EventTime::MIN, Vec::new()) };
        let domain = lock(domain);
        let watermark = domain.closed.get(&epoch).copied().unwrap_or(domain.last);
        (watermark, domain.records.get(&epoch).cloned().unwrap_or_default())
    }

    /// A partition of a source has ended, in that epoch.
    pub(crate) fn partition_ended(&self, source: NodeId, epoch: Epoch) {
        if let Some(end) = lock(&self.sources).get_mut(&source) {
            end.ended += 1;
            end.last = end.last.max(epoch);
        }
    }

    /// Whether all partitions of the sources that feed a domain have ended.
    pub(crate) fn has_ended(&self, domain: DomainId) -> bool {
        let Some(domain) = self.domains.get(domain) else { return false };
        let domain = lock(domain);
        let sources = lock(&self.sources);
        let all = |node| sources.get(node).is_some_and(|end: &SourceEnd| end.ended == end.partitions);
        !domain.sources.is_empty() && domain.sources.iter().all(all)
    }

    /// Micro-batch: rows of a partition justify a watermark, in that epoch.
    pub(crate) fn shown(&self, domain: DomainId, epoch: Epoch, origin: u32, watermark: EventTime) {
        if let Some(domain) = self.domains.get(domain) {
            let mut domain = lock(domain);
            let slot = domain.shown.entry(epoch).or_default().entry(origin).or_insert(EventTime::MIN);
            *slot = (*slot).max(watermark);
        }
    }

    /// Micro-batch: the watermark at the end of an epoch that is complete. Epochs are asked for in order.
    pub(crate) fn end_of_batch(&self, domain: DomainId, epoch: Epoch) -> EventTime {
        let Some(domain) = self.domains.get(domain) else { return EventTime::MIN };
        let mut domain = lock(domain);
        if let Some(known) = domain.closed.get(&epoch) {
            return *known;
        }
        let ended = {
            let sources = lock(&self.sources);
            let all = |node| {
                sources.get(node).is_some_and(|e: &SourceEnd| e.ended == e.partitions && e.last <= epoch)
            };
            !domain.sources.is_empty() && domain.sources.iter().all(all)
        };
        let shown = domain.shown.remove(&epoch).unwrap_or_default();
        let mut least: Option<EventTime> = None;
        for (origin, watermark) in shown {
            let justified = domain.justified.entry(origin).or_insert(EventTime::MIN);
            *justified = (*justified).max(watermark);
            least = Some(least.map_or(*justified, |l| l.min(*justified)));
        }
        let end = if ended { EventTime::MAX } else { least.map_or(domain.last, |l| l.max(domain.last)) };
        domain.last = end;
        domain.closed.insert(epoch, end);
        let record = domain.justified.iter().map(|(origin, shown)| (*origin, *shown, false)).collect();
        domain.records.insert(epoch, record);
        end
    }

    /// Continuous: what a worker justifies has changed. Returns the watermark now, and whether it has moved.
    pub(crate) fn hold(&self, domain: DomainId, worker: usize, hold: Hold) -> (EventTime, bool) {
        let Some(domain) = self.domains.get(domain) else { return (EventTime::MIN, false) };
        let mut domain = lock(domain);
        let changed = match domain.holds.get_mut(worker) {
            Some(slot) if *slot != hold => {
                *slot = hold;
                true
            }
            _ => false,
        };
        if !changed {
            return (domain.now, false);
        }
        let held =
            domain.holds.iter().filter_map(|h| if let Hold::At(t) = h { Some(*t) } else { None }).min();
        let all_ended = domain.holds.iter().all(|h| *h == Hold::Ended);
        let quiet =
            domain.holds.iter().filter_map(|h| if let Hold::Quiet(t) = h { Some(*t) } else { None }).max();
        let next = match (held, quiet) {
            (Some(least), _) => least.max(domain.now),
            (None, _) if all_ended => EventTime::MAX,
            (None, Some(shown)) => shown.max(domain.now),
            (None, None) => domain.now,
        };
        let moved = next > domain.now;
        domain.now = next;
        (next, moved)
    }

    /// Continuous: whether another worker has said that nothing comes from it at present.
    pub(crate) fn others_idle(&self, domain: DomainId, worker: usize) -> bool {
        self.domains.get(domain).is_some_and(|d| {
            let still = |h: &Hold| matches!(h, Hold::Idle | Hold::Quiet(_));
            lock(d).holds.iter().enumerate().any(|(w, h)| w != worker && still(h))
        })
    }

    /// Continuous: the watermark now.
    pub(crate) fn now(&self, domain: DomainId) -> EventTime {
        self.domains.get(domain).map_or(EventTime::MIN, |d| lock(d).now)
    }

    /// Continuous: a worker leaves an epoch with its watermark at that.
    pub(crate) fn leave(
        &self,
        domain: DomainId,
        worker: usize,
        epoch: Epoch,
        watermark: EventTime,
        partitions: Vec<PartitionMark>,
    ) {
        if let Some(domain) = self.domains.get(domain)
            && let Some(left) = lock(domain).left.get_mut(worker)
        {
            left.insert(epoch, Left { watermark, partitions });
        }
    }

    /// A worker stands in that epoch, and has dealt with everything that had been put by for it.
    pub(crate) fn stand(&self, domain: DomainId, worker: usize, epoch: Epoch) {
        if let Some(domain) = self.domains.get(domain)
            && let Some(stands) = lock(domain).stands.get_mut(worker)
        {
            *stands = epoch;
        }
    }

    /// Whether all workers stand in that epoch or a later one. Before that the epoch has no end, though a frontier
    /// may have passed it: a record that a worker has put by for it has been taken, but has shown nothing yet.
    pub(crate) fn all_stand_in(&self, domain: DomainId, epoch: Epoch) -> bool {
        self.domains.get(domain).is_none_or(|d| lock(d).stands.iter().all(|stands| *stands >= epoch))
    }

    /// Continuous: a worker has got all that will come in this run, and has said what that justifies.
    pub(crate) fn last_word(&self, domain: DomainId) {
        if let Some(domain) = self.domains.get(domain) {
            lock(domain).last_words += 1;
        }
    }

    /// Continuous: whether all workers have said their last word.
    pub(crate) fn all_last_words(&self, domain: DomainId) -> bool {
        self.domains.get(domain).is_none_or(|domain| {
            let domain = lock(domain);
            domain.last_words >= domain.holds.len()
        })
    }

    /// Continuous: the watermark at the end of an epoch that every worker has left. One that has had its last epoch
    /// before stays at the watermark with which it left that.
    pub(crate) fn end_of_interval(&self, domain: DomainId, epoch: Epoch) -> EventTime {
        let Some(domain) = self.domains.get(domain) else { return EventTime::MIN };
        let of = |left: &BTreeMap<Epoch, Left>| left.range(..=epoch).next_back().map(|(_, l)| l.watermark);
        lock(domain)
            .left
            .iter()
            .map(|left| of(left).unwrap_or(EventTime::MIN))
            .min()
            .unwrap_or(EventTime::MIN)
    }

    /// The least watermark over all domains, for progress: at the end of an epoch in micro-batch, now in continuous.
    /// `None` if the graph has no event time.
    pub(crate) fn progress(&self, epoch: Epoch, continuous: bool) -> Option<EventTime> {
        self.domains
            .iter()
            .map(|d| {
                let domain = lock(d);
                if continuous {
                    domain.now
                } else {
                    domain.closed.get(&epoch).copied().unwrap_or(domain.last)
                }
            })
            .min()
    }

    /// Epochs before this one are committed: nobody will ask for them again.
    pub(crate) fn forget_before(&self, epoch: Epoch) {
        for domain in &self.domains {
            let mut domain = lock(domain);
            domain.closed = domain.closed.split_off(&epoch);
            domain.records = domain.records.split_off(&epoch);
            for left in &mut domain.left {
                // The last one may be wanted for all epochs that follow.
                let keep = left.range(..=epoch).next_back().map_or(epoch, |(last, _)| *last);
                *left = left.split_off(&keep);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(workers: usize) -> Ledger {
        Ledger::new(vec![vec![NodeId(0)]], &[(NodeId(0), 2)], workers)
    }

    #[test]
    fn the_slowest_partition_of_an_epoch_decides_and_an_empty_one_does_not() {
        let ledger = ledger(1);
        ledger.shown(0, Epoch(0), 1, EventTime(50));
        ledger.shown(0, Epoch(0), 2, EventTime(70));
        assert_eq!(ledger.end_of_batch(0, Epoch(0)), EventTime(50));
        ledger.shown(0, Epoch(1), 2, EventTime(90));
        assert_eq!(ledger.end_of_batch(0, Epoch(1)), EventTime(90));
    }

    #[test]
    fn an_epoch_keeps_its_watermark_whatever_later_epochs_have_shown_by_then() {
        let ledger = ledger(1);
        for epoch in 0..20 {
            ledger.shown(0, Epoch(epoch), 0, EventTime(epoch as i64 * 10));
        }
        for epoch in 0..20 {
            assert_eq!(ledger.end_of_batch(0, Epoch(epoch)), EventTime(epoch as i64 * 10));
        }
        assert_eq!(ledger.end_of_batch(0, Epoch(3)), EventTime(30));
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let ledger = ledger(1);
        ledger.shown(0, Epoch(0), 0, EventTime(50));
        assert_eq!(ledger.end_of_batch(0, Epoch(0)), EventTime(50));
        ledger.shown(0, Epoch(1), 1, EventTime(20));
        assert_eq!(ledger.end_of_batch(0, Epoch(1)), EventTime(50));
        assert_eq!(ledger.end_of_batch(0, Epoch(2)), EventTime(50));
    }

    #[test]
    fn when_all_partitions_have_ended_the_watermark_goes_to_the_end_of_time_in_that_epoch() {
        let ledger = ledger(1);
        ledger.partition_ended(NodeId(0), Epoch(0));
        ledger.shown(0, Epoch(0), 0, EventTime(5));
        ledger.partition_ended(NodeId(0), Epoch(1));
        assert_eq!(ledger.end_of_batch(0, Epoch(0)), EventTime(5));
        assert_eq!(ledger.end_of_batch(0, Epoch(1)), EventTime::MAX);
    }

    #[test]
    fn an_idle_worker_does_not_hold_the_others_back_and_a_silent_one_does() {
        let ledger = ledger(2);
        assert_eq!(ledger.hold(0, 0, Hold::At(EventTime(10))), (EventTime::MIN, false));
        assert_eq!(ledger.hold(0, 1, Hold::Idle), (EventTime(10), true));
        assert_eq!(ledger.hold(0, 1, Hold::At(EventTime(4))), (EventTime(10), false));
        assert_eq!(ledger.hold(0, 0, Hold::At(EventTime(20))), (EventTime(10), false));
        assert_eq!(ledger.hold(0, 0, Hold::Ended), (EventTime(10), false));
        assert_eq!(ledger.hold(0, 1, Hold::Ended), (EventTime::MAX, true));
    }

    #[test]
    fn an_interval_ends_with_the_least_watermark_with_which_a_worker_left_it() {
        let ledger = ledger(2);
        ledger.leave(0, 0, Epoch(0), EventTime(7), Vec::new());
        ledger.leave(0, 1, Epoch(0), EventTime(5), Vec::new());
        assert_eq!(ledger.end_of_interval(0, Epoch(0)), EventTime(5));
    }

    #[test]
    fn a_worker_that_has_had_its_last_epoch_keeps_its_watermark_for_those_that_follow() {
        let ledger = ledger(2);
        ledger.leave(0, 0, Epoch(3), EventTime::MAX, Vec::new());
        for epoch in 3..9 {
            ledger.leave(0, 1, Epoch(epoch), EventTime(epoch as i64), Vec::new());
        }
        ledger.forget_before(Epoch(7));
        assert_eq!(ledger.end_of_interval(0, Epoch(7)), EventTime(7));
        assert_eq!(ledger.end_of_interval(0, Epoch(20)), EventTime(8));
    }

    #[test]
    fn shares_of_a_sequence_that_are_all_read_count_for_what_the_furthest_has_shown() {
        let ledger = ledger(2);
        ledger.hold(0, 0, Hold::At(EventTime(10)));
        assert_eq!(ledger.hold(0, 1, Hold::Quiet(EventTime(30))), (EventTime(10), true));
        assert_eq!(ledger.hold(0, 0, Hold::Quiet(EventTime(20))), (EventTime(30), true));
    }

    #[test]
    fn an_epoch_has_no_end_before_all_workers_stand_in_it() {
        let ledger = ledger(2);
        assert!(ledger.all_stand_in(0, Epoch(0)));
        ledger.stand(0, 0, Epoch(1));
        assert!(!ledger.all_stand_in(0, Epoch(1)));
        ledger.stand(0, 1, Epoch(2));
        assert!(ledger.all_stand_in(0, Epoch(1)));
    }
}
