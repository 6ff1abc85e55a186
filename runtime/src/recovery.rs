//! What a query starts from: nothing, or the last commit of its checkpoint.

mod fits;
mod schema;
mod settings;
mod states;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_operators::graph::{Node, NodeId, Place};
use tidemill_operators::{
    DynSource, Epoch, ErasedOffset, EventTime, KeyGroups, Mode, Operator, PrepareContext, Prepared,
    ProcessingTime, QueryIdentity, SourceError, SourceInfo, SourceLog,
};

use self::fits::{
    check_operators, check_sinks, check_watermarks, located, refuse_other_partitions, refuse_unknown,
    source_offsets, with_all_lost,
};
use self::schema::Conversions;
pub(crate) use self::schema::{refuse_types, schema_of, shapes_of};
pub(crate) use self::settings::{of_derived, recorded};
pub(crate) use self::states::{owner, state_uid, states_of};
use crate::RunError;
use crate::checkpoint::records::{
    CommitRecord, FileRef, OperatorRecord, PartitionRecord, PlanRecord, WatermarkRecord,
};
use crate::checkpoint::source_log::KeptLog;
use crate::checkpoint::state_file::StateWriter;
use crate::checkpoint::store::{Checkpoint, Recovered, Settings};
use crate::checkpoint::{Storage, is_begun};
use crate::error::Site;
use crate::ledger::{DomainId, DomainSpec, PartitionMark, inputs_of};
use crate::numbers::Numbers;
use crate::options::Options;
use crate::plan::{Layout, from_origin, origin, stateful_operator_of};
use crate::user_code::code_of;

/// Where a run begins: what the workers of a query are given of its checkpoint.
///
/// It is data, so that workers of another process can be sent it; they open the storage themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resume {
    /// The epochs of this run.
    pub(crate) numbers: Numbers,
    /// The last commit, if there is one.
    pub(crate) committed: Option<Epoch>,
    /// Which run of the query it is; 0 without a checkpoint.
    pub(crate) execution: u64,
    /// Whether what is committed must survive a crash.
    pub(crate) durable: bool,
    /// The id of the query, and its runs.
    pub(crate) identity: Option<QueryIdentity>,
    /// Whether the last commit is one of the query from whose savepoint this one begins.
    pub(crate) fork: bool,
    /// Whether the run takes over outputs of another query.
    pub(crate) take_over: bool,
    /// Into how many groups keys are divided.
    pub(crate) key_groups: KeyGroups,
    /// The files of the operators' state, the oldest first.
    pub(crate) files: Vec<FileRef>,
    /// The uids whose state in them is given up.
    pub(crate) dropped: Vec<String>,
    /// For each domain: its watermark and what that came from.
    pub(crate) watermarks: Vec<Option<DomainStart>>,
    /// The domains whose watermark is reset, as their uid is given up.
    pub(crate) reset: BTreeSet<DomainId>,
    /// The processing time that the last committed epoch saw.
    pub(crate) clock: ProcessingTime,
    /// When an operator wants to be called, by uid.
    pub(crate) timers: BTreeMap<String, ProcessingTime>,
    /// What the sinks have prepared for the last committed epoch, by uid.
    pub(crate) sinks: BTreeMap<String, Vec<Prepared>>,
}

impl Resume {
    /// Gives the unions of which the checkpoint knows nothing what their inputs had. A watermark that comes from one that is
    /// reset is reset too: otherwise all rows of that input would be late behind it.
    pub(crate) fn join_watermarks(&mut self, specs: &[DomainSpec]) {
        for (domain, spec) in specs.iter().enumerate().filter(|(_, spec)| !spec.members.is_empty()) {
            if spec.members.iter().any(|member| self.reset.contains(member)) {
                self.reset.insert(domain);
                if let Some(slot) = self.watermarks.get_mut(domain) {
                    *slot = None;
                }
                continue;
            }
            let start = |member: &usize| self.watermarks.get(*member)?.as_ref().map(|start| start.watermark);
            let least = spec.members.iter().map(start).min().flatten();
            if let (Some(slot @ None), Some(watermark)) = (self.watermarks.get_mut(domain), least) {
                *slot = Some(DomainStart { watermark, partitions: Vec::new() });
            }
        }
    }

    /// The sources of which rows had been observed at the last commit that stand behind unread ones in their sequence.
    pub(crate) fn read_ahead(&self) -> BTreeSet<NodeId> {
        let marks = self.watermarks.iter().flatten().flat_map(|start| &start.partitions);
        marks.filter(|mark| mark.rank > 0).filter_map(|mark| from_origin(mark.origin).0).collect()
    }

    /// The first epoch of this run.
    pub(crate) fn first(&self) -> Epoch {
        self.numbers.first()
    }
}

/// Where a domain of event time stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DomainStart {
    pub(crate) watermark: EventTime,
    /// What each partition had shown.
    pub(crate) partitions: Vec<PartitionMark>,
}

/// A checkpoint that has been taken, with what it says about this graph.
pub(crate) struct Opened {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) commit: Option<CommitRecord>,
    /// Epochs that were planned and not committed: to be repeated as they were.
    pub(crate) plans: VecDeque<PlanRecord>,
    /// Continuous: the same epochs. They are not repeated, but the first commit covers all that they read.
    pub(crate) covered: Vec<PlanRecord>,
    numbers: Numbers,
    /// What sources keep, by uid.
    pub(crate) logs: BTreeMap<String, Arc<KeptLog>>,
    /// Where each source resumes; shorter than its partitions, or empty, where it begins.
    pub(crate) offsets: BTreeMap<NodeId, Vec<ErasedOffset>>,
    /// The state whose types have evolved.
    conversions: Conversions,
    /// The operators that keep state, as commits name them.
    pub(crate) operators: BTreeMap<String, OperatorRecord>,
    /// What is given up of the commit, by uid: the operator that has that uid now starts empty.
    dropped: Vec<String>,
    take_over: bool,
    pub(crate) writer: StateWriter,
}

impl Opened {
    /// Takes the checkpoint, and refuses it if the graph cannot resume from it.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        layout: &Layout,
        options: &Options,
    ) -> Result<Opened, RunError> {
        if !is_begun(&*storage)? {
            options.check_workers(options.key_groups())?;
        }
        let settings = Settings {
            retain: options.retain,
            take_over: options.take_over,
            key_groups: options.key_groups(),
            ..Settings::default()
        };
        let (checkpoint, recovered) = Checkpoint::open(Arc::clone(&storage), &layout.query, settings)?;
        options.check_recorded(checkpoint.key_groups())?;
        let Recovered { commit, plans } = recovered.unwrap_or(Recovered { commit: None, plans: Vec::new() });
        let operators = operators(layout, options);
        let (mut conversions, mut offsets) = (Conversions::default(), BTreeMap::new());
        refuse_unknown(commit.as_ref(), layout, options)?;
        let recorded = commit.as_ref().map(|commit| &commit.operators);
        let options = &Options {
            drop_state: recorded.map_or_else(
                || options.drop_state.clone(),
                |recorded| states::with_states(&options.drop_state, recorded),
            ),
            ..options.clone()
        };
        if let Some(commit) = &commit {
            let fits = check_operators(commit, &operators, layout, options).and_then(|conversions| {
                check_watermarks(commit, layout, options)?;
                check_sinks(commit, layout, options)?;
                Ok((conversions, source_offsets(commit, layout, options)?))
            });
            (conversions, offsets) = fits.map_err(|error| with_all_lost(error, commit, layout, options))?;
        }
        let (plans, covered) = match options.mode {
            Mode::MicroBatch if replays(&plans, options) => (plans, Vec::new()),
            Mode::MicroBatch => (Vec::new(), Vec::new()),
            Mode::Continuous => (Vec::new(), without(plans, &options.drop_state)),
        };
        let replayed = plans.iter().map(|plan| plan.epoch).collect();
        let numbers = Numbers::new(replayed, checkpoint.free());
        let logs = BTreeMap::new();
        let writer = checkpoint.writer();
        let dropped = options.drop_state.clone();
        for uid in dropped.iter().filter(|_| commit.is_some()) {
            tracing::warn!(
                %uid,
                "--drop-state: the state of this uid in the checkpoint is dropped. Leave the option out at the next \
                 start"
            );
        }
        let (plans, take_over) = (plans.into(), options.take_over);
        Ok(Opened {
            checkpoint,
            commit,
            plans,
            covered,
            numbers,
            logs,
            offsets,
            conversions,
            operators,
            dropped,
            take_over,
            writer,
        })
    }

    /// Has every source find its input, with the log that the checkpoint keeps for it.
    pub(crate) fn prepare_sources(
        &mut self,
        storage: &dyn Storage,
        layout: &Layout,
    ) -> Result<SourceInfos, RunError> {
        let infos = prepare_sources(layout, |uid| {
            // A source that starts from the beginning relies on nothing.
            let mark = self.checkpoint.sources().get(uid).filter(|_| !self.dropped.contains(uid));
            let log = KeptLog::open(storage, uid, mark)?;
            self.logs.insert(uid.clone(), Arc::clone(&log));
            Ok(Some(log as Arc<dyn SourceLog>))
        })?;
        for (node, info) in &infos {
            let uid = layout.nodes.get(node.0).map_or("", Node::uid);
            let plans = self.plans.iter().chain(&self.covered);
            let planned = plans.filter_map(|plan| plan.ranges.get(uid)).map(Vec::len);
            let known = self.offsets.get(node).map(Vec::len).into_iter().chain(planned).max();
            if let Some(known) = known {
                refuse_other_partitions(layout, *node, known, info)?;
            }
        }
        Ok(infos)
    }

    /// What takes part from the beginning of what the sources have found: in a replay the partitions that the first epoch had.
    /// The others join later, as they did in the run that planned it.
    pub(crate) fn joined(&self, found: &SourceInfos, layout: &Layout) -> SourceInfos {
        let joined = |(node, info): (&NodeId, &SourceInfo<ErasedOffset>)| {
            let uid = layout.nodes.get(node.0).map_or("", Node::uid);
            let planned = self.plans.front().and_then(|plan| plan.ranges.get(uid)).map(Vec::len);
            let partitions = planned.and_then(|planned| u32::try_from(planned).ok());
            // Slices of a sequence are one partition to watermarks, however many there are.
            let Some(partitions) = partitions.filter(|it| *it < info.partitions() && !info.is_sliced())
            else {
                return (*node, info.clone());
            };
            let start = |partition| info.start(partition).cloned().unwrap_or_default();
            let first = SourceInfo::new(partitions, start);
            (*node, info.discovery_interval().map_or(first.clone(), |every| first.with_discovery(every)))
        };
        found.iter().map(joined).collect()
    }

    /// Gives up the state that is to be dropped, and rewrites that whose types have evolved. It comes after all that
    /// refuses the checkpoint, since it writes files.
    pub(crate) fn rewrite(&mut self, workers: usize) -> Result<(), RunError> {
        let conversions = std::mem::take(&mut self.conversions);
        let rewritten = self.checkpoint.rewrite(&self.dropped, conversions, workers as u32);
        rewritten.map_err(|error| located(error, &self.operators))
    }

    /// The latest time that the checkpoint has logged.
    pub(crate) fn last_clock(&self) -> Option<ProcessingTime> {
        let committed = self.commit.iter().flat_map(|commit| [commit.clock, commit.committed_at]);
        committed.chain(self.plans.iter().chain(&self.covered).map(|plan| plan.clock)).max()
    }

    /// What the threads are given.
    pub(crate) fn resume(&self, layout: &Layout) -> Resume {
        let mut resume = Resume {
            numbers: self.numbers.clone(),
            execution: self.checkpoint.execution(),
            durable: true,
            key_groups: self.checkpoint.key_groups(),
            ..Resume::default()
        };
        let identity = self.checkpoint.identity();
        resume.identity = Some(QueryIdentity::clone(&identity.query));
        resume.take_over = self.take_over;
        let Some(commit) = &self.commit else { return resume };
        resume.fork = commit.execution < identity.since;
        resume.committed = Some(commit.epoch);
        resume.clock = commit.clock;
        resume.files = self.checkpoint.files().to_vec();
        resume.dropped.clone_from(&self.dropped);
        let is_kept = |uid: &str| !self.dropped.iter().any(|dropped| dropped == uid);
        let start = |node: &Node| {
            let record = commit.watermarks.get(node.uid()).filter(|_| is_kept(node.uid()))?;
            Some(domain(record, node, layout))
        };
        let domains = layout.domains();
        let is_reset = |node: &Option<&Node>| node.is_some_and(|node| !is_kept(node.uid()));
        resume.reset = domains.iter().enumerate().filter(|(_, it)| is_reset(it)).map(|(at, _)| at).collect();
        resume.watermarks = domains.into_iter().map(|node| node.and_then(start)).collect();
        for (uid, timers) in commit.timers.iter().filter(|(uid, _)| is_kept(uid)) {
            if let Some(at) = timers.iter().map(|(_, at)| *at).min() {
                resume.timers.insert(uid.clone(), at);
            }
        }
        let sinks = commit.sinks.iter();
        resume.sinks = sinks
            .map(|(uid, all)| (uid.clone(), all.iter().cloned().map(Prepared::from).collect()))
            .collect();
        resume
    }
}

/// Says of each watermark that stands at the end of time that it does. Only when records come is anything wrong: until then
/// what the last commit promised, such as the files of a sink, has still to be brought about.
pub(crate) fn warn_of_ended(resume: &Resume, layout: &Layout) {
    for (start, assigner) in resume.watermarks.iter().zip(layout.domains()) {
        if let (Some(start), Some(node)) = (start, assigner)
            && start.watermark == EventTime::MAX
            && node.watermark().is_some()
        {
            tracing::warn!(
                query = %layout.query,
                "the sources of the watermark of {} had ended: this run refuses new records of these sources",
                Site::of(node)
            );
        }
    }
}

/// What sources have found out.
pub(crate) type SourceInfos = BTreeMap<NodeId, SourceInfo<ErasedOffset>>;

/// Has every source find its input, with the log of its uid.
pub(crate) fn prepare_sources(
    layout: &Layout,
    log: impl FnMut(&String) -> Result<Option<Arc<dyn SourceLog>>, RunError>,
) -> Result<SourceInfos, RunError> {
    ask_sources(layout, log, |source, context| source.prepare(context))
}

fn ask_sources(
    layout: &Layout,
    mut log: impl FnMut(&String) -> Result<Option<Arc<dyn SourceLog>>, RunError>,
    ask: impl Fn(&Arc<dyn DynSource>, &PrepareContext) -> Result<SourceInfo<ErasedOffset>, SourceError>,
) -> Result<SourceInfos, RunError> {
    let mut infos = BTreeMap::new();
    for (node, source) in layout.sources() {
        let uid = layout.nodes.get(node.0).map(|node| node.uid().to_owned()).unwrap_or_default();
        let context = PrepareContext::new(log(&uid)?);
        let info = code_of(node, || ask(&source, &context));
        infos.insert(node, info.map_err(|error| RunError::Source { site: layout.site(node), error })?);
    }
    Ok(infos)
}

/// What the sources have found out; those that no run has prepared find it out now. A run that uses them is left alone.
pub(crate) fn known_sources(layout: &Layout) -> Result<SourceInfos, RunError> {
    let known = |source: &Arc<dyn DynSource>, context: &PrepareContext| {
        source.known().map_or_else(|| source.prepare(context), Ok)
    };
    ask_sources(layout, |_| Ok(None), known)
}

/// Whether a micro-batch run replays epochs that were planned and not committed: so, whichever mode made the last commit,
/// unless one of their sources starts from the beginning.
fn replays(plans: &[PlanRecord], options: &Options) -> bool {
    let begins_anew = |uid: &String| plans.iter().any(|plan| plan.ranges.contains_key(uid));
    match options.drop_state.iter().find(|uid| begins_anew(uid)) {
        Some(uid) => {
            tracing::warn!(
                epochs = plans.len(),
                "the source `{uid}` starts from the beginning, so epochs that were planned and not committed are not \
                 replayed: a sink that has rows of these epochs gets the rows again under other epoch numbers"
            );
            false
        }
        None => true,
    }
}

/// Plans without the sources that start from the beginning.
fn without(mut plans: Vec<PlanRecord>, dropped: &[String]) -> Vec<PlanRecord> {
    for plan in &mut plans {
        plan.ranges.retain(|uid, _| !dropped.contains(uid));
    }
    plans
}

fn domain(record: &WatermarkRecord, assigner: &Node, layout: &Layout) -> DomainStart {
    let partitions = record.partitions.iter().filter_map(|record| {
        let PartitionRecord { uid, partition, rank, shown, is_idle, seen } = record;
        let origin = if uid == assigner.uid() {
            *partition
        } else {
            origin(layout.nodes.iter().find(|node| node.uid() == uid)?.id, *partition)
        };
        Some(PartitionMark { origin, rank: *rank, shown: *shown, is_idle: *is_idle, seen: *seen })
    });
    let partitions: Vec<PartitionMark> = partitions.collect();
    match record.settings == of_derived() && !assigner.derives_watermark() {
        // The operator derives nothing any more: what it had applied of its inputs is the watermark of its outputs.
        true => DomainStart { watermark: inputs_of(record.watermark, &partitions), partitions: Vec::new() },
        false => DomainStart { watermark: record.watermark, partitions },
    }
}

/// The operators that keep state, by uid.
fn operators(layout: &Layout, options: &Options) -> BTreeMap<String, OperatorRecord> {
    let place = Place::new(0, options.workers, options.mode);
    let stateful = layout.nodes.iter().filter(|node| node.is_stateful());
    let states = stateful.clone().flat_map(states::records);
    let whole = stateful.map(|node| {
        let Site { operator, location } = Site::of(node);
        let state_type = stateful_operator_of(node, place).map(|it| it.state_type()).unwrap_or_default();
        let settings = recorded(&node.settings);
        let (key, value) = shapes_of(node);
        let record = OperatorRecord { label: operator, location, state_type, settings, key, value, rows: 0 };
        (node.uid().to_owned(), record)
    });
    whole.chain(states).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_serialized_and_read_back_is_the_same() {
        let mark = PartitionMark {
            origin: 65_537,
            rank: 3,
            shown: EventTime::from_micros(70),
            is_idle: true,
            seen: Some(ProcessingTime::from_micros(9)),
        };
        let file = FileRef {
            name: "state/3-1-0.base".to_owned(),
            len: 5,
            checksum: 6,
            epoch: Epoch::new(3),
            worker: 0,
            base: true,
            groups: Some((0, 127)),
        };
        let resume = Resume {
            numbers: Numbers::new(vec![Epoch::new(4), Epoch::new(6)], Epoch::new(9)),
            committed: Some(Epoch::new(3)),
            execution: 2,
            durable: true,
            identity: Some(QueryIdentity::new("c0ffee", vec![(1, "one".to_owned()), (2, "two".to_owned())])),
            fork: true,
            take_over: true,
            key_groups: KeyGroups::new(8).unwrap(),
            files: vec![file],
            dropped: vec!["gone".to_owned()],
            reset: BTreeSet::from([3]),
            watermarks: vec![
                None,
                Some(DomainStart { watermark: EventTime::from_micros(60), partitions: vec![mark] }),
            ],
            clock: ProcessingTime::from_micros(7),
            timers: BTreeMap::from([("reminders".to_owned(), ProcessingTime::from_micros(-5))]),
            sinks: BTreeMap::from([("out".to_owned(), vec![Prepared::from(vec![0, 255])])]),
        };
        for resume in [resume, Resume::default()] {
            let bytes = postcard::to_stdvec(&resume).unwrap();
            assert_eq!(postcard::from_bytes::<Resume>(&bytes).unwrap(), resume);
        }
    }
}
