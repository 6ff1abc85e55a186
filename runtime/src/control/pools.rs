//! The readers of sources whose partitions idle workers read for others (micro-batch).
//!
//! A worker takes a partition out when it begins to read its part of an epoch, and puts it back, with its reader, when it has read
//! that. So each partition is read by one worker at a time, and by one in each epoch. A partition is marked with the epoch
//! that is to be read next, and a worker in another epoch leaves it alone.
//!
//! Why every partition is read in every epoch: a worker leaves an epoch only when no partition is here that is to be read in it. One
//! that is not here is being read by a worker in the epoch before, or its worker has yet to open it; that worker enters this
//! epoch later, after it has put the partition back, and then finds it here unless another one has taken it in this epoch. A worker
//! holds the capability of its epoch all the while, so no operator sees the end of an epoch before its last row.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use tidemill_operators::graph::NodeId;
use tidemill_operators::turn::{self, lock};
use tidemill_operators::{DynReader, Epoch};

/// A partition that no worker is reading.
pub(crate) struct Parked {
    pub(crate) partition: u32,
    /// Its number as rows carry it.
    pub(crate) origin: u32,
    pub(crate) reader: Box<dyn DynReader>,
    /// Whether the reader has reported its end in this run.
    pub(crate) ended: bool,
    /// Whether it last gave as much as it was asked for.
    pub(crate) abundant: bool,
}

/// The epoch that is to be read next, the rank of the next row in its sequence, the partition.
type Place = (Epoch, u64, u32);

/// The partitions of a source that no worker is reading.
pub(crate) struct Pool {
    /// By the worker that owns them.
    parked: Mutex<Vec<BTreeMap<Place, Parked>>>,
}

impl Pool {
    fn new(workers: usize) -> Pool {
        Pool { parked: Mutex::new((0..workers).map(|_| BTreeMap::new()).collect()) }
    }

    /// Puts a partition back that belongs to a worker, to be read in that epoch next.
    pub(crate) fn put(&self, owner: usize, next: Epoch, parked: Parked) {
        let place = (next, parked.reader.rank(), parked.partition);
        if let Some(own) = lock(&self.parked).get_mut(owner) {
            own.insert(place, parked);
        }
    }

    /// Takes out a partition that no worker has begun in an epoch: the first one of the worker's own, else the last one of another.
    pub(crate) fn take(&self, worker: usize, epoch: Epoch) -> Option<Parked> {
        turn::point("source.take");
        let mut parked = lock(&self.parked);
        let of_epoch = (epoch, 0, 0)..=(epoch, u64::MAX, u32::MAX);
        let own = parked.get(worker).and_then(|own| own.range(of_epoch.clone()).next());
        let own = own.map(|(place, _)| (worker, *place));
        let others = (worker + 1..parked.len()).chain(0..worker);
        let last_of = |other: usize| {
            let (place, _) = parked.get(other)?.range(of_epoch.clone()).next_back()?;
            Some((other, *place))
        };
        let (owner, place) = own.or_else(|| others.into_iter().find_map(last_of))?;
        parked.get_mut(owner)?.remove(&place)
    }
}

/// The pools of all sources that have one.
pub(crate) struct Pools {
    workers: usize,
    /// The workers of a source hold its pool, so that the readers are dropped with the last of them.
    pools: BTreeMap<NodeId, Mutex<Weak<Pool>>>,
}

impl Pools {
    /// Returns the pools of these sources.
    pub(super) fn new(sources: impl IntoIterator<Item = NodeId>, workers: usize) -> Pools {
        Pools { workers, pools: sources.into_iter().map(|source| (source, Mutex::default())).collect() }
    }

    /// Whether partitions of any source move.
    pub(crate) fn are_there(&self) -> bool {
        !self.pools.is_empty()
    }

    /// Returns the pool of a source, for a worker to hold as long as it reads; none if its partitions stay where they are.
    pub(crate) fn join(&self, source: NodeId) -> Option<Arc<Pool>> {
        let mut pool = lock(self.pools.get(&source)?);
        Some(pool.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Pool::new(self.workers));
            *pool = Arc::downgrade(&new);
            new
        }))
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::graph::NodeKind;
    use tidemill_operators::testing::numbers;
    use tidemill_operators::{Clock, ErasedOffset, Graph, ProcessingTime, ReaderContext, Waker};

    use super::*;

    fn parked(partition: u32) -> Parked {
        let graph = Graph::new("parked");
        drop(numbers(&graph, 1));
        let nodes = graph.nodes();
        let NodeKind::Source(source) = &nodes[0].kind else { panic!("the source is the first node") };
        let clock = Clock::new(|| ProcessingTime::from_micros(0));
        let context = ReaderContext::new(Waker::new(|| {}), clock);
        let reader = source.open(partition, &ErasedOffset::from(0), context).unwrap();
        Parked { partition, origin: partition, reader, ended: false, abundant: false }
    }

    /// The partitions that a worker takes in an epoch, one after the other.
    fn taken(pool: &Pool, worker: usize, epoch: u64) -> Vec<u32> {
        std::iter::from_fn(|| pool.take(worker, Epoch::new(epoch))).map(|taken| taken.partition).collect()
    }

    #[test]
    fn worker_takes_own_partitions_first_then_last_of_others() {
        let pool = Pool::new(3);
        for partition in 0..6 {
            pool.put(partition as usize % 3, Epoch::new(7), parked(partition));
        }
        assert_eq!(taken(&pool, 1, 7), [1, 4, 5, 2, 3, 0]);
        assert_eq!(taken(&pool, 0, 7), [0; 0]);
    }

    #[test]
    fn partition_is_taken_only_in_the_epoch_that_it_is_at() {
        let pool = Pool::new(2);
        pool.put(0, Epoch::new(7), parked(0));
        pool.put(0, Epoch::new(9), parked(2));
        // A worker that is ahead leaves the rest of an earlier epoch to the one that is in it.
        assert_eq!(taken(&pool, 1, 9), [2]);
        assert_eq!(taken(&pool, 1, 8), [0; 0]);
        assert_eq!(taken(&pool, 0, 7), [0]);
    }

    #[test]
    fn readers_are_dropped_with_the_last_worker() {
        let pools = Pools::new([NodeId(3)], 2);
        assert!(pools.join(NodeId(0)).is_none());
        let (one, two) = (pools.join(NodeId(3)).unwrap(), pools.join(NodeId(3)).unwrap());
        one.put(0, Epoch::new(0), parked(0));
        drop(one);
        assert_eq!(taken(&two, 1, 0), [0]);
        let pool = Arc::downgrade(&two);
        drop(two);
        assert!(pool.upgrade().is_none());
    }
}
