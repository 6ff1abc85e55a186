//! A source whose rows arrive at simulated times.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::{
    Clock, Data, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source,
    SourceError, SourceInfo, turn,
};

use super::Breach;
use super::world::{Shared, lock};
use crate::sim::{self, BEGIN};

/// When every simulation begins.
const BEGUN: ProcessingTime = ProcessingTime::from_micros(BEGIN);

/// How often a source looks for partitions that have appeared.
const LOOK: Duration = Duration::from_millis(3);

/// Rows that arrive one after the other: see [`World::source`](super::World::source). Clones are the same source.
pub struct SimSource<T> {
    shared: Arc<Shared>,
    partitions: Arc<[Vec<(Duration, T)>]>,
    /// For a source that can be read once: what was acknowledged and is gone, by partition.
    gone: Option<Arc<Mutex<Vec<u64>>>>,
    ends: bool,
    /// Whether idle workers read partitions for others.
    moves: bool,
    /// When each partition appears, in order; empty where all are there from the beginning.
    appear: Arc<[Duration]>,
}

impl<T> Clone for SimSource<T> {
    fn clone(&self) -> Self {
        SimSource {
            shared: Arc::clone(&self.shared),
            partitions: Arc::clone(&self.partitions),
            gone: self.gone.clone(),
            ends: self.ends,
            moves: self.moves,
            appear: Arc::clone(&self.appear),
        }
    }
}

impl<T> fmt::Debug for SimSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSource").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

impl<T: Data + Clone + Sync> SimSource<T> {
    pub(super) fn new(shared: Arc<Shared>, partitions: Vec<Vec<(Duration, T)>>) -> Self {
        SimSource {
            shared,
            partitions: partitions.into(),
            gone: None,
            ends: true,
            moves: false,
            appear: Arc::default(),
        }
    }

    /// The same where idle workers read partitions for others, or do not.
    pub(super) fn moving(mut self, moves: bool) -> Self {
        self.moves = moves;
        self
    }

    /// The same where the partitions appear one after the other.
    pub(super) fn appearing(mut self, appear: Vec<Duration>) -> Self {
        self.appear = appear.into();
        self
    }

    /// How many partitions there are.
    fn appeared(&self, now: ProcessingTime) -> SourceInfo<u64> {
        if self.appear.is_empty() {
            return SourceInfo::new(self.partitions.len() as u32, |_| 0);
        }
        let appeared = self.appear.partition_point(|at| *at <= now.since(BEGUN));
        SourceInfo::new(appeared as u32, |_| 0).with_discovery(LOOK)
    }

    /// The same for a source that keeps a row only until it is acknowledged, as a socket or a broker does: it needs a
    /// [journal](crate::Journal::journaled).
    #[must_use]
    pub fn once(mut self) -> Self {
        self.gone = Some(Arc::new(Mutex::new(vec![0; self.partitions.len()])));
        self
    }

    /// The same for a source that has nothing more to say at its last row, but has not ended: windows stay open.
    #[must_use]
    pub fn without_end(mut self) -> Self {
        self.ends = false;
        self
    }

    fn rows(&self, partition: u32) -> &[(Duration, T)] {
        self.partitions.get(partition as usize).map_or(&[], Vec::as_slice)
    }

    /// How many rows have arrived; the end counts as one.
    fn arrived(&self, partition: u32, now: ProcessingTime) -> u64 {
        let since = now.since(BEGUN);
        let rows = self.rows(partition);
        let arrived = rows.partition_point(|(at, _)| *at <= since);
        (arrived + usize::from(self.ends && arrived == rows.len())) as u64
    }
}

impl<T: Data + Clone + Sync> Source for SimSource<T> {
    type Item = T;
    type Offset = u64;
    type Reader = SimReader<T>;

    fn describe(&self) -> String {
        "simulated".to_owned()
    }

    fn is_bounded(&self) -> bool {
        self.ends && self.appear.is_empty()
    }

    fn is_replayable(&self) -> bool {
        self.gone.is_none()
    }

    fn may_move(&self) -> bool {
        self.moves
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        turn::point("source.prepare");
        Ok(self.appeared(sim::clock().map_or(BEGUN, |clock| clock.now())))
    }

    fn discover(&self, now: ProcessingTime) -> Result<SourceInfo<u64>, SourceError> {
        turn::point("source.discover");
        Ok(self.appeared(now))
    }

    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        turn::point("source.latest");
        let most = from.saturating_add(limits.records());
        Ok(self.arrived(partition, limits.now).clamp(*from, most))
    }

    fn open(&self, partition: u32, from: &u64, context: ReaderContext) -> Result<SimReader<T>, SourceError> {
        let gone = self.gone.as_ref().and_then(|gone| lock(gone).get(partition as usize).copied());
        if gone.is_some_and(|gone| *from < gone) {
            let what =
                format!("partition {partition} is read again from {from}, and rows before {gone:?} are gone");
            self.shared.violated(Breach::new("source", what.clone()));
            return Err(SourceError::Setup(what));
        }
        Ok(SimReader { source: self.clone(), partition, next: *from, clock: context.clock })
    }

    fn committed(&self, partition: u32, offset: &u64) -> Result<(), SourceError> {
        turn::point("source.committed");
        if let Some(gone) = &self.gone
            && !self.shared.is_dead()
            && let Some(slot) = lock(gone).get_mut(partition as usize)
        {
            *slot = (*slot).max(*offset);
        }
        Ok(())
    }
}

/// Reads one partition of a [`SimSource`].
#[derive(Debug)]
pub struct SimReader<T> {
    source: SimSource<T>,
    partition: u32,
    next: u64,
    clock: Clock,
}

impl<T: Data + Clone + Sync> Reader for SimReader<T> {
    type Item = T;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<T>) -> Result<Poll, SourceError> {
        let now = self.clock.now();
        let arrived = self.source.arrived(self.partition, now);
        let rows = self.source.rows(self.partition);
        while out.len() < max && until.is_none_or(|until| self.next < *until) {
            let Some((at, row)) = rows.get(self.next as usize) else {
                return Ok(if self.source.ends { Poll::End } else { Poll::Idle });
            };
            if self.next >= arrived {
                return Ok(Poll::IdleUntil(BEGUN + *at));
            }
            out.push(row.clone());
            self.next += 1;
        }
        Ok(Poll::Ready)
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.next = *offset;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_read_once_it_has_arrived() {
        let at = Duration::from_micros;
        let source = SimSource::new(Arc::default(), vec![vec![(at(10), 'a'), (at(20), 'b')]]);
        assert_eq!(source.arrived(0, ProcessingTime::from_micros(BEGIN)), 0);
        assert_eq!(source.arrived(0, ProcessingTime::from_micros(BEGIN + 15)), 1);
        assert_eq!(source.arrived(0, ProcessingTime::from_micros(BEGIN + 20)), 3, "both, and the end");
    }
}
