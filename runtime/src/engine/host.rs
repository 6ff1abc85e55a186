//! What both kinds of hosted operator have in common.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::graph::{Node, NodeId, NodeKind};
use tidemill_operators::spill::StateMemory;
use tidemill_operators::{
    Batch, Cloner, Context, Epoch, Mode, Operator, OperatorError, ProcessingTime, SnapshotWriter, Waker,
};
use timely::dataflow::Scope;
use timely::progress::Timestamp;
use timely::scheduling::Activator;

use super::Time;
use super::announcement::Announcement;
use super::edge_batch::EdgeBatch;
use crate::control::Control;
use crate::error::{RunError, Site};
use crate::recovery::{state_uid, states_of};
use crate::saver::Changes;
pub(crate) use crate::user_code::enter;

thread_local! {
    /// How many steps this worker has taken.
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Notes that the worker takes a step.
pub(crate) fn count_step() {
    STEPS.with(|steps| steps.set(steps.get().wrapping_add(1)));
}

/// How many steps this worker has taken. In each, every operator that has something to take takes it; so what a source
/// has sent has reached every operator on the worker after as many steps as there are operators.
pub(crate) fn steps() -> u64 {
    STEPS.with(Cell::get)
}

/// Between how many changed entries and how many it is worth writing them before the epoch ends.
const AHEAD: std::ops::Range<usize> = 1_024..16_384;
/// How long after the last time.
const AHEAD_AFTER: Duration = Duration::from_millis(10);
/// How many bytes of an epoch at most. What is written ahead is mostly written again: a key whose sessions are many and
/// close quickly was written so often that a checkpoint held a hundred times the state.
const AHEAD_BYTES: usize = 8 << 20;

/// Whether this many unsaved changes are worth writing before the epoch ends, when there were `before` after the last flush.
/// If they have become fewer, windows have closed, and all that is there now has come since.
fn is_worth_writing(before: usize, unsaved: usize) -> bool {
    let at_once = unsaved.checked_sub(before).unwrap_or(unsaved);
    AHEAD.contains(&unsaved) && at_once < AHEAD.start
}

/// Calls an operator that may use so much memory. What could not be spilled or read back is why it fails, whatever else
/// it says.
pub(crate) fn within(
    memory: Option<&Arc<StateMemory>>,
    call: impl FnOnce() -> Result<(), OperatorError>,
) -> Result<(), OperatorError> {
    let Some(memory) = memory else { return call() };
    let entered = memory.enter();
    let outcome = call();
    drop(entered);
    memory.take_failure().map_or(outcome, |error| Err(error.into()))
}

/// An operator with its name and its counters.
pub(crate) struct Hosted {
    pub(crate) node: NodeId,
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) context: Context,
    pub(crate) control: Arc<Control>,
    site: Site,
    /// What its state may take, if that is limited. The first of two phases keeps nothing.
    memory: Option<Arc<StateMemory>>,
    cloners: Vec<Option<Cloner>>,
    worker: usize,
    /// Whether results of this instance count as the node's output (the first of two phases does not).
    last_phase: bool,
    first_phase: bool,
    /// Whether it waits for commits: where epochs are replayed.
    pub(crate) awaits_commits: bool,
    /// Whether it holds rows while others work on them.
    pub(crate) holds_rows: bool,
    /// Under which uid its state is saved, if it is.
    uid: Option<Arc<str>>,
    /// Under which uids its states with names are saved.
    states: BTreeMap<String, Arc<str>>,
    /// What has been written of the state since the last epoch ended.
    changes: SnapshotWriter,
    /// How much there was to be written after the last flush.
    unsaved: usize,
    /// When something was last written before the end of an epoch.
    ahead: ProcessingTime,
}

impl Hosted {
    pub(crate) fn new(
        node: &Node,
        operator: Box<dyn Operator>,
        worker: usize,
        control: Arc<Control>,
        phases: (bool, bool),
    ) -> Hosted {
        let key_groups = control.resume.key_groups;
        let mut context =
            Context::new(control.mode, worker, control.peers.total()).with_key_groups(key_groups);
        // An aggregation has no hot keys: each worker aggregates its own rows first.
        if node.is_stateful() && matches!(node.kind, NodeKind::Operator(_)) {
            context.set_sampler(control.reports.top_keys.sampler(node.id, worker));
        }
        Hosted {
            node: node.id,
            operator,
            context,
            site: Site::of(node),
            memory: control.memory_of(worker).filter(|_| phases.1).cloned(),
            cloners: node.outputs.iter().map(|output| output.cloner).collect(),
            worker,
            holds_rows: node.in_flight().is_some(),
            awaits_commits: node.awaits_commits()
                && control.saver.is_some()
                && control.mode == Mode::MicroBatch,
            control,
            first_phase: phases.0,
            last_phase: phases.1,
            uid: (phases.1 && node.is_stateful()).then(|| Arc::from(node.uid())),
            states: states_of(node)
                .iter()
                .map(|it| (it.name.clone(), state_uid(node, &it.name).into()))
                .collect(),
            changes: SnapshotWriter::new().with_key_groups(key_groups),
            unsaved: 0,
            ahead: ProcessingTime::from_micros(i64::MIN),
        }
    }

    /// The same with that many outputs, which are not those of the node.
    pub(crate) fn with_outputs(mut self, outputs: usize) -> Hosted {
        self.cloners = vec![None; outputs];
        self
    }

    /// When the operator wanted to be called, at the commit with which this run begins.
    pub(crate) fn restored_timer(&self) -> Option<ProcessingTime> {
        self.control.resume.timers.get(self.uid.as_deref()?).copied()
    }

    /// Writes some of the epoch's changes before it ends, so that its end does not hold up the records that come then.
    /// A change that comes after is written once more, and counts. Not where changes come in such numbers that a good
    /// part of them would be written again and again.
    pub(crate) fn save_ahead(&mut self, now: ProcessingTime) {
        if self.control.saver.is_none() || self.uid.is_none() {
            return;
        }
        let unsaved = self.operator.unsaved();
        let before = std::mem::replace(&mut self.unsaved, unsaved);
        if !is_worth_writing(before, unsaved) || now.since(self.ahead) < AHEAD_AFTER {
            return;
        }
        // Last, and so not at every flush: it is added up over all key groups.
        if self.changes.len() >= AHEAD_BYTES {
            return;
        }
        self.ahead = now;
        if let Err(error) = within(self.memory.as_ref(), || self.operator.snapshot(&mut self.changes)) {
            self.control.fail(RunError::Operator { site: self.site.clone(), error });
        }
    }

    /// Whether its state is in the checkpoint.
    pub(crate) fn saves(&self) -> bool {
        self.control.saver.is_some() && self.uid.is_some()
    }

    /// Has the state saved as it is at the end of an epoch.
    pub(crate) fn save(&mut self, epoch: Epoch, timer: Option<ProcessingTime>) {
        let (Some(saver), Some(uid)) = (&self.control.saver, &self.uid) else { return };
        match within(self.memory.as_ref(), || self.operator.snapshot(&mut self.changes)) {
            Ok(()) => {
                let next = SnapshotWriter::new().with_key_groups(self.changes.key_groups());
                let mut changes = std::mem::replace(&mut self.changes, next);
                let states = changes.take_named().into_iter();
                let states = states.filter_map(|(name, written)| Some((self.states.get(&name)?, written)));
                let groups = states.chain([(uid, changes)]).flat_map(|(uid, written)| {
                    written.into_groups().map(|(group, bytes)| (Arc::clone(uid), group, bytes))
                });
                let groups = groups.collect();
                saver.save(epoch, self.worker, Changes { uid: Arc::clone(uid), groups, timer });
            }
            Err(error) => self.control.fail(RunError::Operator { site: self.site.clone(), error }),
        }
    }

    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    pub(crate) fn outputs(&self) -> usize {
        self.cloners.len()
    }

    /// Hands a batch to the operator.
    pub(crate) fn batch(&mut self, input: usize, batch: Batch) {
        self.count_in(&batch);
        self.call(|operator, context| operator.batch(input, batch, context));
    }

    /// Counts the rows that have come.
    pub(crate) fn count_in(&self, batch: &Batch) {
        // The source counts pulled rows, once they have been read.
        if self.first_phase
            && !batch.is_pulled()
            && let Some(counters) = self.control.counters(self.node, self.worker)
        {
            counters.rows_in.add(batch.len() as u64);
        }
    }

    /// Ends the query: it cannot run with this checkpoint.
    pub(crate) fn refuse(&self, problem: String) {
        self.control.fail(RunError::Restore { site: self.site.clone(), problem });
    }

    /// Calls the operator; an error ends the query.
    pub(crate) fn call(
        &mut self,
        call: impl FnOnce(&mut dyn Operator, &mut Context) -> Result<(), OperatorError>,
    ) {
        if self.control.has_ended() {
            return;
        }
        if let Err(error) = within(self.memory.as_ref(), || call(&mut *self.operator, &mut self.context)) {
            drop(self.context.drain_outputs());
            self.control.fail(RunError::Operator { site: self.site.clone(), error });
        }
    }

    /// Everything that the operator has sent, ready for the edges.
    pub(crate) fn sent(&mut self) -> impl Iterator<Item = (usize, EdgeBatch)> {
        let dropped = self.context.take_dropped_timers();
        if dropped > 0 {
            tracing::warn!(
                operator = %self.site,
                timers = dropped,
                "timers at `EventTime::MAX` are dropped: they would never fire"
            );
        }
        let late = self.context.take_late_rows();
        let counters = self.control.counters(self.node, self.worker);
        if late > 0
            && let Some(counters) = counters
        {
            counters.late_rows.add(late);
        }
        let (cloners, last_phase) = (&self.cloners, self.last_phase);
        self.context.drain_outputs().map(move |(output, batch)| {
            if output == 0
                && last_phase
                && let Some(counters) = counters
            {
                counters.rows_out.add(batch.len() as u64);
            }
            (output, EdgeBatch::new(batch).copyable(cloners.get(output).copied().flatten()))
        })
    }

    /// Reports the size of the state.
    pub(crate) fn report_state(&self) {
        if self.last_phase
            && let Some(counters) = self.control.counters(self.node, self.worker)
        {
            counters.state_rows.set(self.operator.state_rows() as u64);
        }
    }
}

thread_local! {
    /// In a simulation, instead of timely's timers: when which operator is to be activated.
    static ALARMS: RefCell<Vec<(ProcessingTime, Activator)>> = const { RefCell::new(Vec::new()) };
}

/// In a simulation: activates the operators whose time has come, and returns the next such time.
pub(crate) fn ring_alarms(now: ProcessingTime) -> Option<ProcessingTime> {
    ALARMS.with_borrow_mut(|alarms| {
        alarms.extract_if(.., |(at, _)| *at <= now).for_each(|(_, activator)| activator.activate());
        alarms.iter().map(|(at, _)| *at).min()
    })
}

/// Calls an operator again later. Timely keeps every call it is asked for, so one that is already due in time is not
/// asked for again.
pub(crate) struct Alarm {
    activator: Activator,
    /// Wakes the worker, which polls for the time that is left.
    wakes_worker: Activator,
    awake_before: Duration,
    set: Option<ProcessingTime>,
}

/// An alarm after a longer delay is set for this one: the operator looks at its time when it is called.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Alarm {
    /// Calls the operator at `address`; the worker is awake that long before it.
    pub(crate) fn new(scope: Scope<'_, Time>, address: Rc<[usize]>, awake_before: Duration) -> Alarm {
        let activator = scope.activator_for(address);
        Alarm { activator, wakes_worker: scope.activator_for(scope.addr()), awake_before, set: None }
    }

    /// Calls at once.
    pub(crate) fn now(&self) {
        self.activator.activate();
    }

    /// Calls after so long, `now` being the time by the engine's clock.
    pub(crate) fn after(&mut self, now: ProcessingTime, delay: Duration) {
        if delay.is_zero() {
            return self.now();
        }
        let delay = delay.min(LONGEST);
        let at = now + delay;
        if self.set.is_none_or(|set| set <= now || set > at) {
            match crate::sim::is_active() {
                true => ALARMS.with_borrow_mut(|alarms| alarms.push((at, self.activator.clone()))),
                false => {
                    self.activator.activate_after(delay);
                    if let Some(early) =
                        delay.checked_sub(self.awake_before).filter(|_| !self.awake_before.is_zero())
                    {
                        self.wakes_worker.activate_after(early);
                    }
                }
            }
            self.set = Some(at);
        }
    }
}

/// Wakes an operator from any thread.
pub(crate) fn waker<T: Timestamp>(scope: Scope<'_, T>, address: &[usize]) -> Waker {
    let activator = scope.worker().sync_activator_for(address.to_vec());
    // A worker that has gone needs no waking.
    Waker::new(move || {
        crate::sim::note_work();
        let _ = activator.activate();
    })
}

/// Takes a batch off an edge, and off the count of what is queued; with its announcement, which lives as long as the batch may
/// still have something to show.
pub(crate) fn receive(
    control: &Control,
    worker: usize,
    edge_batch: &mut EdgeBatch,
) -> (Batch, Option<Arc<Announcement>>) {
    let EdgeBatch { batch, crossed, announcement } = std::mem::take(edge_batch);
    if crossed {
        control.received(worker, batch.len());
    }
    // It has arrived: where it goes from here is for others to say.
    (batch.for_worker(0), announcement)
}

/// An operator that forwards its input.
pub(crate) struct Forward;

impl Operator for Forward {
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        context.send(0, batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::testing::{nowhere, numbers};
    use tidemill_operators::{Graph, SnapshotWriter};

    use super::*;
    use crate::checkpoint::MemoryStorage;
    use crate::options::Options;
    use crate::prepare::PreparedRun;
    use crate::testing::SimClock;

    #[test]
    fn changes_that_come_slowly_are_written_ahead() {
        assert!(is_worth_writing(1_500, 2_000));
        assert!(!is_worth_writing(500, 1_000), "too few");
        assert!(!is_worth_writing(16_000, 16_500), "too many");
        assert!(!is_worth_writing(0, 5_000), "all at once");
    }

    #[test]
    fn window_that_fills_at_once_is_not_written_ahead() {
        assert!(!is_worth_writing(1_000_000, 9_000));
    }

    /// Always has something to write, and writes the same again.
    struct Restless;

    impl Operator for Restless {
        fn batch(&mut self, _: usize, _: Batch, _: &mut Context) -> Result<(), OperatorError> {
            Ok(())
        }
        fn unsaved(&mut self) -> usize {
            AHEAD.start
        }
        fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
            writer.put(writer.key_groups().of(0), &(), &"key", &"x".repeat(AHEAD_BYTES / 4))
        }
    }

    #[test]
    fn repeated_writes_ahead_of_epoch_end_are_bounded() {
        let graph = Graph::new("restless");
        numbers(&graph, 1).key_by(|n| *n).count().update().sink(nowhere());
        let storage = Arc::new(MemoryStorage::new());
        let (options, clock) = (Options::default().with_allow_loss(), SimClock::new().clock());
        let prepared = PreparedRun::new(&graph, options, clock, Some(storage), true).unwrap();
        let nodes = graph.nodes();
        let node = nodes.iter().find(|node| node.is_stateful()).unwrap();
        let control = Arc::clone(&prepared.control);
        let mut hosted = Hosted::new(node, Box::new(Restless), 0, control, (true, true));
        for milliseconds in 0..1_000 {
            hosted.save_ahead(ProcessingTime::from_micros(milliseconds * 1_000));
        }
        let written = hosted.changes.len();
        assert!((AHEAD_BYTES..AHEAD_BYTES * 3 / 2).contains(&written), "{written} bytes");
    }
}
