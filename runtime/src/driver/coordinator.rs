//! Writes the checkpoint for the driver: plans before epochs are read, commits once all parts of an epoch are durable.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::schema::Shape;
use tidemill_operators::{DynSource, Epoch, ErasedOffset, Mode, Prepared, ProcessingTime};

use super::SourcePlan;
use super::flight::Flight;
use crate::RunError;
use crate::checkpoint::records::{
    CommitRecord, Json, OperatorRecord, PartitionRecord, PlanRecord, WatermarkRecord,
};
use crate::checkpoint::source_log::KeptLog;
use crate::checkpoint::store::Checkpoint;
use crate::checkpoint::{CheckpointError, LocalDirectory};
use crate::control::{Control, EpochPlan};
use crate::events::{Event, EventSender, Saved};
use crate::ledger::PartitionMark;
use crate::options::Options;
use crate::plan::{Layout, from_origin};
use crate::recovery::{Opened, of_derived, recorded, schema_of, shapes_of};
use crate::user_code::caught;

/// How many epochs are reserved at a time, beyond those that are needed soon.
const BLOCK: u64 = 32;

/// Collects what belongs to a commit, from workers, sinks and savers, and appends it.
pub(crate) struct CommitCoordinator {
    checkpoint: Checkpoint,
    /// Plans of the last run that it did not get to commit.
    plans: VecDeque<PlanRecord>,
    /// Continuous: plans of earlier runs, all of whose rows the first commit covers.
    covered: Vec<PlanRecord>,
    /// Where every source stood at the last commit.
    offsets: BTreeMap<NodeId, Vec<ErasedOffset>>,
    operators: BTreeMap<String, OperatorRecord>,
    /// The shapes of the offsets of its sources, by uid.
    offset_shapes: BTreeMap<String, Shape>,
    fingerprint: String,
    /// How many epochs are kept, and where every source stood at those of this run.
    retain: usize,
    kept: VecDeque<BTreeMap<NodeId, Vec<ErasedOffset>>>,
    /// How many workers save something of every epoch.
    savers: usize,
    /// How many epochs can be called before the next commit: at least this many are reserved.
    ahead: u64,
    /// What sources keep, by uid.
    logs: BTreeMap<String, Arc<KeptLog>>,
    saved: BTreeMap<Epoch, Vec<Saved>>,
    prepared: BTreeMap<Epoch, BTreeMap<(NodeId, usize), Prepared>>,
}

impl CommitCoordinator {
    pub(crate) fn new(
        opened: Opened,
        layout: &Layout,
        fingerprint: u64,
        options: &Options,
    ) -> CommitCoordinator {
        CommitCoordinator {
            checkpoint: opened.checkpoint,
            plans: opened.plans,
            covered: opened.covered,
            ahead: options.max_in_flight.max(2) as u64 + 1,
            logs: opened.logs,
            offsets: opened.offsets,
            operators: opened.operators,
            offset_shapes: offset_shapes(layout),
            fingerprint: format!("{fingerprint:016x}"),
            retain: options.retain,
            kept: VecDeque::new(),
            savers: if layout.stateful() > 0 { options.workers } else { 0 },
            saved: BTreeMap::new(),
            prepared: BTreeMap::new(),
        }
    }

    /// Where a partition of a source resumes, if the query has read from it before; where it begins, if the query has planned to.
    pub(super) fn start(&self, source: NodeId, layout: &Layout, partition: u32) -> Option<ErasedOffset> {
        let partition = partition as usize;
        let kept = self.offsets.get(&source).and_then(|offsets| offsets.get(partition));
        let uid = layout.nodes.get(source.0)?.uid();
        let plans = || self.plans.iter().chain(&self.covered);
        let planned = || plans().find_map(|plan| plan.ranges.get(uid)?.get(partition));
        kept.cloned().or_else(|| planned().map(|(from, _)| from.0.clone()))
    }

    /// Continuous: how far a source must be read before its first epoch ends, by partition: the ends of the epochs that
    /// earlier runs planned and did not commit, in order. The first commit voids these plans. A sink may have their rows
    /// already, so none may be left for an epoch that a later run plans, under another number.
    pub(super) fn covered(&self, source: NodeId, layout: &Layout) -> BTreeMap<u32, VecDeque<ErasedOffset>> {
        let mut covered = BTreeMap::<u32, VecDeque<ErasedOffset>>::new();
        let uid = layout.nodes.get(source.0).map_or("", Node::uid);
        for plan in &self.covered {
            let had_ended = plan.ended.get(uid).map_or(&[][..], Vec::as_slice);
            let ends = (0..).zip(plan.ranges.get(uid).into_iter().flatten());
            for (partition, (_, to)) in ends.filter(|(partition, _)| !had_ended.contains(partition)) {
                covered.entry(partition).or_default().push_back(to.0.clone());
            }
        }
        covered
    }

    /// An epoch that was planned by the last run, to be repeated as it was: its clock, and how far to read.
    pub(super) fn planned(&mut self, epoch: Epoch, layout: &Layout) -> Option<EpochPlan> {
        let plan = self.plans.pop_front().filter(|plan| plan.epoch == epoch);
        let Some(plan) = plan else {
            // What does not follow is of no use any more.
            self.plans.clear();
            return None;
        };
        let ends = layout.sources().into_iter().filter_map(|(node, _)| {
            let ranges = plan.ranges.get(layout.nodes.get(node.0)?.uid())?;
            Some((node, ranges.iter().map(|(_, to)| to.0.clone()).collect()))
        });
        let ended = layout
            .sources()
            .into_iter()
            .filter_map(|(node, _)| Some((node, plan.ended.get(layout.nodes.get(node.0)?.uid())?.clone())));
        Some(EpochPlan {
            epoch,
            now: plan.clock,
            ends: ends.collect(),
            begins_run: plan.begins_run,
            ended: ended.collect(),
        })
    }

    /// Whether epochs that the last run planned are still to be read again.
    pub(super) fn has_plans(&self) -> bool {
        !self.plans.is_empty()
    }

    /// Reserves the number of an epoch without a plan, and of some that follow: no other run will use them.
    pub(super) fn reserve(&mut self, epoch: Epoch) -> Result<(), RunError> {
        if epoch >= self.checkpoint.reserved() {
            self.checkpoint.reserve(Epoch::new(epoch.number().saturating_add(self.ahead + BLOCK)))?;
        }
        Ok(())
    }

    /// Has the next commit reserve more numbers, if the epochs from `next` on might run out of them before another one.
    pub(super) fn reserve_with_next(&mut self, next: Epoch) {
        let needed = next.number().saturating_add(self.ahead);
        if needed > self.checkpoint.reserved().number() {
            self.checkpoint.reserve_with_next(Epoch::new(needed.saturating_add(BLOCK)));
        }
    }

    /// The query ends in order. What cannot be written then is not needed: the next run skips some numbers.
    pub(super) fn close(&mut self) {
        if let Err(error) = crate::sim::tolerate(|| self.checkpoint.close()) {
            tracing::warn!(%error, "the end of the query could not be written to its checkpoint; all input that was \
                                    read is committed");
        }
    }

    /// What a plan or commit relies on.
    fn note_sources(&mut self) {
        let marks = self.logs.iter().map(|(uid, log)| (uid.clone(), log.mark()));
        self.checkpoint.set_sources(marks.filter(|(_, mark)| mark.length > 0));
    }

    /// Makes the plan of an epoch durable.
    pub(super) fn plan(
        &mut self,
        plan: &EpochPlan,
        sources: &[SourcePlan],
        layout: &Layout,
        control: &Control,
    ) -> Result<(), RunError> {
        let ranges = sources.iter().filter_map(|planned| {
            let ends = plan.ends.get(&planned.node)?;
            let ranges = planned.from.iter().zip(ends);
            let ranges = ranges.map(|(from, to)| (Json(from.clone()), Json(to.clone()))).collect();
            Some((layout.nodes.get(planned.node.0)?.uid().to_owned(), ranges))
        });
        let watermarks = layout.domains().into_iter().enumerate().filter_map(|(domain, node)| {
            Some((node?.uid().to_owned(), control.ledger.record(domain, plan.epoch, false).0))
        });
        let ended = plan.ended.iter().filter_map(|(source, partitions)| {
            Some((layout.nodes.get(source.0)?.uid().to_owned(), partitions.clone()))
        });
        let record = PlanRecord {
            epoch: plan.epoch,
            mode: Mode::MicroBatch,
            clock: plan.now,
            watermarks: watermarks.collect(),
            ranges: ranges.collect(),
            begins_run: plan.begins_run,
            ended: ended.collect(),
            ..PlanRecord::default()
        };
        self.note_sources();
        Ok(self.checkpoint.plan(record)?)
    }

    /// A worker's state of an epoch is durable.
    pub(super) fn saved(&mut self, saved: Saved) {
        self.saved.entry(saved.epoch).or_default().push(saved);
    }

    /// A sink can commit an epoch.
    pub(super) fn prepared(&mut self, epoch: Epoch, sink: NodeId, worker: usize, prepared: Prepared) {
        self.prepared.entry(epoch).or_default().insert((sink, worker), prepared);
    }

    /// Whether all state of an epoch is durable.
    pub(super) fn is_saved(&self, epoch: Epoch) -> bool {
        self.saved.get(&epoch).map_or(0, Vec::len) >= self.savers
    }

    /// Commits an epoch: when this returns, it has happened.
    pub(super) fn commit(
        &mut self,
        epoch: Epoch,
        flight: &Flight,
        sources: &[SourcePlan],
        layout: &Layout,
        control: &Control,
        now: ProcessingTime,
    ) -> Result<(), RunError> {
        for planned in sources {
            let Some(offsets) = flight.offsets.get(&planned.node) else { continue };
            let kept = self.offsets.entry(planned.node).or_default();
            let partitions = offsets.keys().next_back().map_or(0, |last| *last as usize + 1);
            // One that no worker has opened yet stands at its start.
            kept.extend(planned.starts_of(kept.len()..partitions));
            for (partition, offset) in offsets {
                if let Some(slot) = kept.get_mut(*partition as usize) {
                    slot.clone_from(offset);
                }
            }
        }
        let uid =
            |node: NodeId| layout.nodes.get(node.0).map(|node| node.uid().to_owned()).unwrap_or_default();
        let (mut files, mut timers) = (Vec::new(), BTreeMap::<String, Vec<_>>::new());
        for saved in self.saved.remove(&epoch).unwrap_or_default() {
            files.extend(saved.file);
            for (uid, worker, at) in saved.timers {
                timers.entry(uid).or_default().push((worker, at));
            }
        }
        files.sort_by_key(|file| file.worker);
        let mut sinks = BTreeMap::<String, Vec<Vec<u8>>>::new();
        for ((sink, _), prepared) in self.prepared.remove(&epoch).unwrap_or_default() {
            sinks.entry(uid(sink)).or_default().push(prepared.as_bytes().to_vec());
        }
        let record = CommitRecord {
            epoch,
            mode: control.mode,
            workers: control.peers.total() as u32,
            fingerprint: self.fingerprint.clone(),
            clock: control.now(epoch),
            committed_at: now,
            offsets: self
                .offsets
                .iter()
                .map(|(source, at)| (uid(*source), at.iter().cloned().map(Json).collect()))
                .collect(),
            offset_shapes: self.offset_shapes.clone(),
            watermarks: watermarks(epoch, layout, control),
            operators: self.operators_with_rows(layout, control),
            timers,
            sinks,
            ..CommitRecord::default()
        };
        self.note_sources();
        self.checkpoint.commit(record, files, None)?;
        self.kept.push_back(self.offsets.clone());
        if self.kept.len() > self.retain {
            self.kept.pop_front();
        }
        Ok(())
    }

    /// Where every source stood at the oldest epoch that the query can go back to, as far as this run knows:
    /// offsets before it are not needed any more.
    pub(super) fn oldest(&self) -> Option<&BTreeMap<NodeId, Vec<ErasedOffset>>> {
        self.kept.front().filter(|_| self.kept.len() >= self.retain)
    }

    /// Whether this run has committed anything.
    pub(super) fn has_committed(&self) -> bool {
        !self.kept.is_empty()
    }

    fn operators_with_rows(&self, layout: &Layout, control: &Control) -> BTreeMap<String, OperatorRecord> {
        let mut operators = self.operators.clone();
        for node in &layout.nodes {
            if let Some(operator) = operators.get_mut(node.uid()) {
                if schema_of(node).is_some_and(|schema| schema.is_partial()) {
                    (operator.key, operator.value) = shapes_of(node);
                }
                operator.rows = control.reports.counters.total(node.id).state_rows;
            }
        }
        operators
    }

    /// Starts a compaction if one is due; its result comes as an event.
    pub(super) fn compact(&mut self, workers: usize, events: &EventSender) {
        let Some(compaction) = self.checkpoint.compaction(workers as u32) else { return };
        let events = events.clone();
        let started = crate::sim::spawn("tidemill-compaction", move || {
            let run = || Ok(Event::Compacted(crate::sim::tolerate(|| compaction.run())));
            let done = caught(&[], None, "the storage of the checkpoint", run).unwrap_or_else(Event::Failed);
            // The query may be over by then.
            events.send(done);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "the checkpoint is not compacted");
        }
    }

    pub(super) fn compacted(
        &mut self,
        result: Result<crate::checkpoint::compaction::Compacted, CheckpointError>,
    ) {
        self.checkpoint.compacted(result);
    }

    /// Copies the last commit into a directory, which is made if there is something to copy.
    pub(super) fn savepoint(&self, directory: PathBuf) -> Result<Epoch, RunError> {
        let Some(last) = self.checkpoint.last() else {
            let problem = "no epoch has been committed yet, so there is nothing to save".to_owned();
            return Err(RunError::Checkpoint(CheckpointError::Misuse(problem)));
        };
        self.checkpoint.savepoint(&LocalDirectory::open(directory)?)?;
        Ok(last.epoch)
    }
}

fn offset_shapes(layout: &Layout) -> BTreeMap<String, Shape> {
    let shape = |(node, source): (NodeId, Arc<dyn DynSource>)| {
        Some((layout.nodes.get(node.0)?.uid().to_owned(), source.offset_shape()?))
    };
    layout.sources().into_iter().filter_map(shape).collect()
}

fn watermarks(epoch: Epoch, layout: &Layout, control: &Control) -> BTreeMap<String, WatermarkRecord> {
    let continuous = control.mode == Mode::Continuous;
    let mut records = BTreeMap::new();
    for (domain, node) in layout.domains().into_iter().enumerate() {
        let Some(node) = node else { continue };
        let (watermark, marks) = control.ledger.record(domain, epoch, continuous);
        let partitions = marks.into_iter().filter_map(|mark| {
            let (source, partition) = from_origin(mark.origin);
            // Rows that were mixed on their way are known by the node that assigns their watermark.
            let node = source.map_or(Some(node), |source| layout.nodes.get(source.0))?;
            let PartitionMark { rank, shown, is_idle, seen, .. } = mark;
            Some(PartitionRecord { uid: node.uid().to_owned(), partition, rank, shown, is_idle, seen })
        });
        let record = WatermarkRecord {
            watermark,
            partitions: partitions.collect(),
            settings: match node.watermark() {
                Some(spec) => recorded(&spec.settings()),
                None if node.derives_watermark() => of_derived(),
                None => Vec::new(),
            },
        };
        records.insert(node.uid().to_owned(), record);
    }
    records
}
