//! The sources as the driver sees them: their partitions, and what is planned of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::NodeId;
use tidemill_operators::{DynSource, Epoch, ErasedOffset, PlanLimits, ProcessingTime, SourceError};

use super::rate::Rate;
use super::source_error;
use crate::control::Control;
use crate::error::RunError;
use crate::plan::{Layout, origin};
use crate::user_code::code_of;

/// A source as the planner sees it.
pub(super) struct SourcePlan {
    pub(super) node: NodeId,
    pub(super) source: Arc<dyn DynSource>,
    /// Where each partition begins in this run, of all that the source has found.
    starts: Vec<ErasedOffset>,
    /// The next record to be planned, by partition, of those that take part.
    pub(super) from: Vec<ErasedOffset>,
    /// The next record behind the last commit, by partition.
    pub(super) committed: Vec<ErasedOffset>,
    pub(super) ended: Vec<bool>,
    /// How many partitions the workers and the ledger know.
    joined: usize,
    /// How often to look for new partitions, and when next.
    discovery: Option<(Duration, ProcessingTime)>,
    /// Where it stood when it was last given an epoch without rows, in which a reader at its end can report it.
    pub(super) asked_for_end: Option<Vec<ErasedOffset>>,
    /// At which rate it is read, if the user wants that.
    pub(super) rate: Option<Rate>,
}

impl SourcePlan {
    /// A source whose first partitions, as many as `joined`, take part from the beginning.
    pub(super) fn new(
        (node, source): (NodeId, Arc<dyn DynSource>),
        starts: Vec<ErasedOffset>,
        joined: u32,
        discovery: Option<Duration>,
        now: ProcessingTime,
    ) -> SourcePlan {
        let from: Vec<_> = starts.iter().take(joined as usize).cloned().collect();
        SourcePlan {
            node,
            source,
            joined: from.len(),
            committed: from.clone(),
            ended: vec![false; from.len()],
            from,
            starts,
            discovery: discovery.map(|every| (every, now + every)),
            asked_for_end: None,
            rate: None,
        }
    }

    /// Looks for new partitions if it is time to; returns whether there are any.
    pub(super) fn discover(&mut self, now: ProcessingTime) -> Result<bool, SourceError> {
        let Some((every, next)) = &mut self.discovery else { return Ok(false) };
        if now < *next {
            return Ok(false);
        }
        *next = now + *every;
        let info = self.source.discover(now)?;
        let (was, is) = (self.starts.len(), info.partitions());
        if (is as usize) < was {
            return Err(SourceError::Setup(format!(
                "it had {was} partitions and has {is} now: the number of partitions of a source must not become \
                 smaller. Let the source return a removed partition as one that has ended"
            )));
        }
        let new = (0..is).skip(was).map(|partition| info.start(partition).cloned().unwrap_or_default());
        self.starts.extend(new);
        if self.starts.len() > was {
            let (partitions, new) = (self.starts.len(), self.starts.len() - was);
            tracing::info!(source = %self.source.describe(), partitions, new, "the source has new partitions");
        }
        Ok(self.starts.len() > was)
    }

    /// Where some of its partitions begin in this run.
    pub(super) fn starts_of(&self, partitions: Range<usize>) -> impl Iterator<Item = ErasedOffset> {
        self.starts.get(partitions).unwrap_or_default().iter().cloned()
    }

    /// When it next looks for new partitions.
    pub(super) fn next_look(&self) -> Option<ProcessingTime> {
        self.discovery.map(|(_, next)| next)
    }

    /// Has all partitions take part that have been found; returns whether some are new.
    pub(super) fn take_in_all(&mut self) -> bool {
        self.take_in(self.starts.len())
    }

    /// Has the first partitions take part, that many; returns whether some are new.
    pub(super) fn take_in(&mut self, partitions: usize) -> bool {
        let before = self.from.len();
        let new = self.starts.get(before..partitions).unwrap_or_default();
        self.from.extend_from_slice(new);
        self.committed.extend_from_slice(new);
        self.ended.resize(self.from.len(), false);
        self.from.len() > before
    }

    /// Makes the partitions that take part known to workers and watermarks: the new ones read from that epoch on.
    pub(super) fn join(&mut self, epoch: Epoch, control: &Control) {
        let Some(starts) = self.starts.get(self.joined..self.from.len()).filter(|new| !new.is_empty()) else {
            return;
        };
        // Only partitions that count by themselves are added while a query runs.
        let number = |(partition, _): (u32, &ErasedOffset)| origin(self.node, partition);
        let origins: Vec<u32> = (self.joined as u32..).zip(starts).map(number).collect();
        control.join(self.node, epoch, &origins, starts);
        self.joined = self.from.len();
    }

    /// Has the source learn that its partitions are read up to there, before it is asked for more.
    pub(super) fn learn(
        &self,
        ends: &[ErasedOffset],
        limits: &PlanLimits,
        layout: &Layout,
    ) -> Result<(), RunError> {
        for (partition, end) in (0..).zip(ends) {
            let known = code_of(self.node, || self.source.latest(partition, end, limits));
            known.map_err(|error| source_error(layout, self.node, error))?;
        }
        Ok(())
    }

    /// The limits of an epoch, with those of its own rate.
    pub(super) fn limits(&self, limits: &PlanLimits) -> PlanLimits {
        let open = self.ended.iter().filter(|ended| !**ended).count();
        let Some(records) = self.rate.as_ref().and_then(|rate| rate.records(open)) else {
            return limits.clone();
        };
        let mut limits = limits.clone().with_enough(records);
        limits.max_records = limits.max_records.map(|most| most.min(records));
        limits
    }

    /// How far each partition can be read now.
    pub(super) fn latest(&self, limits: &PlanLimits) -> Result<Vec<ErasedOffset>, SourceError> {
        self.source.refresh(limits)?;
        let end = |((partition, from), ended): ((u32, &ErasedOffset), &bool)| match ended {
            true => Ok(from.clone()),
            false => self.source.latest(partition, from, limits),
        };
        (0..).zip(&self.from).zip(&self.ended).map(end).collect()
    }

    /// Whether nothing will ever come again.
    pub(super) fn is_over(&self) -> bool {
        self.grows_no_more() && self.ended.iter().all(|ended| *ended)
    }

    /// Whether all partitions take part that will ever be.
    fn grows_no_more(&self) -> bool {
        self.discovery.is_none() && self.from.len() == self.starts.len()
    }

    /// Whether a reader may be at an end that it has not reported: that of a source whose `latest` does not go beyond it.
    pub(super) fn may_be_at_end(&self) -> bool {
        self.ended.contains(&false)
            && self.asked_for_end.as_ref() != Some(&self.from)
            && code_of(self.node, || self.source.is_bounded())
    }

    /// Returns the partitions whose readers have reported their end in this run.
    pub(super) fn ended_partitions(&self) -> Vec<u32> {
        (0..).zip(&self.ended).filter(|(_, ended)| **ended).map(|(partition, _)| partition).collect()
    }
}
