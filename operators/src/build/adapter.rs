//! The traits of a user's operator, and the adapter through which the engine calls it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::vec::Drain;

use super::{Inputs, Outputs};
use crate::graph::Place;
use crate::graph::StateSpec;
use crate::named::{HashedKey, NamedState, StateInfo, States, Timer, Timers};
use crate::schema::StateSchema;
use crate::state::Reach;
use crate::top_keys::KeySampler;
use crate::{
    Batch, Context, Epoch, EventTime, Key, KeyGroup, Mode, Operator, OperatorError, ProcessingTime, RowKind,
    SnapshotReader, SnapshotWriter,
};

/// The name under which the timers of an operator are kept.
const TIMERS: &str = "timers";

/// An operator with state, timers, and several inputs and outputs.
///
/// A value is one instance, on one worker. For each of its inputs it implements [`Takes`];
/// [`Graph::operator`](crate::Graph::operator) adds it to a graph.
///
/// Within an epoch the engine calls [`take`](Takes::take) with rows, [`on_timer`](Self::on_timer) for timers that are
/// due and [`on_watermark`](Self::on_watermark) when the watermark has advanced. When all rows of the epoch have been
/// taken, the epoch's last watermark is applied and [`on_epoch_end`](Self::on_epoch_end) is called. A checkpoint stores
/// the state after that call. A restart only restores state that has been [named](Self::state).
pub trait StatefulOperator: Sized + 'static {
    /// The key of keyed inputs, state and timers; `()` if there is none.
    type Key: Key;
    /// The outputs: a tuple of [`Rows`](super::Rows) and [`Events`](super::Events), which emit inserts, and
    /// [`Upserts`](super::Upserts), [`Snapshots`](super::Snapshots) and [`Changes`](super::Changes).
    type Outputs: Outputs;

    /// Whether the outputs have a watermark of their own, [`output_watermark`](Self::output_watermark).
    ///
    /// Set it in an operator that emits rows older than the watermark of its inputs, such as a join that emits a row
    /// with its original time after the watermark has passed it. By default the outputs have the watermark of the
    /// inputs, and older rows are late for the operators behind.
    const DERIVES_WATERMARK: bool = false;

    /// Whether it loads rows from outside at the ends of epochs.
    #[doc(hidden)]
    const AWAITS_COMMITS: bool = false;

    /// Returns the watermark of the outputs on this worker: no row emitted from now on is older.
    ///
    /// The engine calls it after each other call; `watermark` is that of the inputs. The watermark of the outputs is
    /// the least over all workers. It never decreases, never exceeds `watermark`, and is [`EventTime::MAX`] once the
    /// inputs have ended.
    fn output_watermark(&self, watermark: EventTime) -> EventTime {
        watermark
    }

    /// Names the states, with the same names in each call.
    ///
    /// A field that is not named is not in the checkpoint.
    fn state(&mut self, _states: &mut States<'_>) {}

    /// Called once in a run, in its first epoch, with the state restored and before the first row.
    #[doc(hidden)]
    fn on_start(&mut self, _to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Called when a timer is due.
    ///
    /// Timers come in the order of their times. A timer in event time is due when the watermark has reached it.
    ///
    /// # Errors
    ///
    /// An error ends the query: [`OperatorError::User`] for those of your own.
    fn on_timer(
        &mut self,
        _key: HashedKey<'_, Self::Key>,
        _timer: Timer,
        _to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Called when the watermark has advanced, before `on_timer` for the timers up to it.
    ///
    /// In micro-batch all rows of the epoch have come, unless it is the watermark with which a query resumes.
    ///
    /// # Errors
    ///
    /// As [`on_timer`](Self::on_timer).
    fn before_timers(&mut self, _to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Called when the watermark has advanced, after `on_timer` for the timers up to it.
    ///
    /// At [`EventTime::MAX`] all inputs have ended.
    ///
    /// # Errors
    ///
    /// As [`on_timer`](Self::on_timer).
    fn on_watermark(&mut self, _to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Emits results that the operator has gathered.
    ///
    /// Called at the end of an activation in continuous mode, and at the end of the epoch in micro-batch. An operator
    /// that always emits to [`To::out`] at once needs no flush.
    ///
    /// # Errors
    ///
    /// As [`on_timer`](Self::on_timer).
    fn on_flush(&mut self, _to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Called at the end of an epoch, after its last row and its last watermark.
    ///
    /// # Errors
    ///
    /// As [`on_timer`](Self::on_timer).
    fn on_epoch_end(&mut self, _to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        Ok(())
    }
}

/// Takes the rows of an input, by its number.
///
/// Rows of different inputs, and rows from different workers, arrive in any order. Micro-batch replays an epoch with
/// the same rows and the same clock, and sinks may rely on the same results. So the results of an epoch must not depend
/// on that order. If they would, store the rows in `take` and emit in [`on_timer`](StatefulOperator::on_timer) or
/// [`on_epoch_end`](StatefulOperator::on_epoch_end).
///
/// `take` gets late rows, too: compare a row's time with [`To::watermark`], and count the rows that you drop with
/// [`To::count_late`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no input {INPUT}",
    note = "the builder was given an input of this number, counting from 0: implement `Takes<{INPUT}>` for it. `Row` is \
            `Dealt<K, T>` for a keyed input, with the operator's own `Key`, and `(EventTime, T)` for the others"
)]
pub trait Takes<const INPUT: usize>: StatefulOperator {
    /// A row: [`Dealt`](super::Dealt) of a keyed input, `(EventTime, T)` of another.
    type Row;

    /// The [kinds](RowKind) of rows that the input takes: by default inserts. A stream of another kind is refused
    /// when the graph is validated.
    ///
    /// The rows of a stream of changes are [`RowChange`](crate::RowChange)s. The upserts of a key arrive in order if
    /// the key of the input is computed from that key alone.
    const KINDS: &'static [RowKind] = &[RowKind::Insert];

    /// Takes rows of the current epoch, in their order.
    ///
    /// # Errors
    ///
    /// As [`StatefulOperator::on_timer`].
    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError>;
}

/// The outputs and timers of an operator, and the engine's state, during a call.
pub struct To<'a, O: StatefulOperator> {
    /// The outputs.
    pub out: &'a mut O::Outputs,
    /// The timers of all keys of this instance.
    pub timers: &'a mut Timers<O::Key>,
    context: &'a mut Context,
}

impl<O: StatefulOperator> To<'_, O> {
    /// Returns the watermark: the event time before which no more rows are expected, the least over all inputs.
    ///
    /// Within a micro-batch epoch it stays at the value at the beginning of the epoch.
    pub fn watermark(&self) -> EventTime {
        self.context.watermark()
    }

    /// Returns the processing time: one reading per epoch in micro-batch, one per activation in continuous mode.
    pub fn now(&self) -> ProcessingTime {
        self.context.now()
    }

    /// The epoch whose rows are being taken.
    pub fn epoch(&self) -> Epoch {
        self.context.epoch()
    }

    /// How the graph is run.
    pub fn mode(&self) -> Mode {
        self.context.mode()
    }

    /// Returns all parts at once.
    pub(crate) fn split(&mut self) -> (&mut O::Outputs, &mut Timers<O::Key>, &mut Context) {
        (self.out, self.timers, self.context)
    }

    /// What counts the keys of the rows.
    pub(super) fn sampler(&mut self) -> &mut KeySampler {
        self.context.sampler()
    }

    /// Whether this worker holds the keys of that hash.
    pub(crate) fn holds(&self, hash: u64) -> bool {
        self.context.key_groups().of(hash).worker(self.context.workers()) == self.context.worker()
    }

    /// Holds the rows of later epochs back until this one is committed.
    pub(crate) fn await_commit(&mut self) {
        self.context.await_commit();
    }

    /// Asks for an epoch whose clock has reached that time, in micro-batch.
    pub(crate) fn wake_at(&mut self, time: ProcessingTime) {
        self.context.wake_at(time);
    }

    /// Counts late rows that the operator has dropped.
    pub fn count_late(&mut self, rows: u64) {
        self.context.count_late(rows);
    }
}

impl<O: StatefulOperator> std::fmt::Debug for To<'_, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("To").field("context", &self.context).finish_non_exhaustive()
    }
}

/// An operator of one's own as the engine drives it.
pub(super) struct Adapter<O: StatefulOperator, I> {
    operator: O,
    timers: Timers<O::Key>,
    out: O::Outputs,
    /// What the states were last told.
    now: ProcessingTime,
    /// The call that has been asked for.
    wake_at: Option<ProcessingTime>,
    /// The types of states that are completed from what is written.
    learning: Vec<(String, Arc<StateSchema>)>,
    /// How many entries the states had at the last end of an epoch.
    rows: usize,
    /// Memory for where the states are.
    reaches: Vec<Reach>,
    marker: PhantomData<fn() -> I>,
}

impl<O: StatefulOperator, I> Adapter<O, I> {
    pub(super) fn new(operator: O) -> Self {
        Adapter {
            operator,
            timers: Timers::new(),
            out: O::Outputs::default(),
            now: ProcessingTime::from_micros(i64::MIN),
            wake_at: None,
            learning: Vec::new(),
            rows: 0,
            reaches: Vec::new(),
            marker: PhantomData,
        }
    }

    /// The same, on the worker that will run it, with its states as the graph knows them.
    pub(super) fn at(mut self, place: Place, states: &[StateSpec]) -> Self {
        // The first key group is that of the first worker.
        self.each(|_, state| state.set_writer(place.worker == 0));
        let partial = states.iter().filter(|state| state.schema.is_partial());
        self.learning = partial.map(|state| (state.name.clone(), Arc::clone(&state.schema))).collect();
        self
    }

    /// Calls with each state and its name; the timers are the last.
    fn each(&mut self, call: impl FnMut(&str, &mut dyn NamedState)) {
        let Adapter { operator, timers, .. } = self;
        States::visit(|states| declare(operator, timers, states), call);
    }

    /// The states, or what is wrong with them.
    pub(super) fn states(mut self) -> Result<Vec<StateSpec>, OperatorError> {
        let Adapter { operator, timers, .. } = &mut self;
        let mut own = None;
        States::visit(
            |states| operator.state(states),
            |name, state| {
                if state.kind() == timers.kind() || name == TIMERS {
                    own.get_or_insert_with(|| name.to_owned());
                }
            },
        );
        if let Some(name) = own {
            let problem = "the engine keeps the timers of `To::timers` in a state `timers`, and only these fire: do \
                           not declare timers of your own";
            return Err(OperatorError::State { name, problem });
        }
        let infos = States::describe(|states| declare(operator, timers, states))?;
        let spec =
            |info: StateInfo| StateSpec { name: info.name, kind: info.kind, schema: Arc::new(info.schema) };
        Ok(infos.into_iter().map(spec).collect())
    }

    fn call(
        &mut self,
        context: &mut Context,
        call: impl FnOnce(&mut O, &mut To<'_, O>) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let now = context.now();
        if now != self.now {
            self.now = now;
            self.each(|_, state| {
                state.set_now(now);
                state.expire();
            });
        }
        call(&mut self.operator, &mut To { out: &mut self.out, timers: &mut self.timers, context })
    }

    /// After a call: sends what was emitted, and asks to be called for the next timer.
    fn settle(&mut self, context: &mut Context) {
        if O::DERIVES_WATERMARK {
            context.set_output_watermark(self.operator.output_watermark(context.watermark()));
        }
        self.out.send(context);
        if let Some(at) = self.timers.earliest_processing()
            && self.wake_at.is_none_or(|asked| at < asked)
        {
            self.wake_at = Some(at);
            context.wake_at(at);
        }
    }
}

impl<O: StatefulOperator, I: Inputs<O>> Operator for Adapter<O, I> {
    fn start(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.call(context, O::on_start)?;
        self.settle(context);
        Ok(())
    }

    fn batch(&mut self, input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        self.call(context, |operator, to| I::take(operator, input, batch, to))?;
        self.settle(context);
        Ok(())
    }

    fn watermark(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        let watermark = context.watermark();
        self.call(context, O::before_timers)?;
        self.timers.closing(watermark == EventTime::MAX);
        let mut reaches = std::mem::take(&mut self.reaches);
        self.each(|_, state| reaches.extend(state.reach()));
        self.timers.prefetch(&reaches);
        reaches.clear();
        self.reaches = reaches;
        while let Some((time, hash, key)) = self.timers.next_event(watermark) {
            let to = &mut To { out: &mut self.out, timers: &mut self.timers, context };
            self.operator.on_timer(HashedKey { hash, key: &key }, Timer::Event(time), to)?;
        }
        self.call(context, O::on_watermark)?;
        if watermark == EventTime::MAX {
            self.timers.drop_processing();
        }
        context.count_dropped_timers(self.timers.take_dropped());
        self.settle(context);
        Ok(())
    }

    fn processing_time(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.wake_at = None;
        let now = context.now();
        while let Some((time, hash, key)) = self.timers.next_processing(now) {
            let key = HashedKey { hash, key: &key };
            self.call(context, |operator, to| operator.on_timer(key, Timer::Processing(time), to))?;
        }
        self.settle(context);
        Ok(())
    }

    fn flush(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.call(context, O::on_flush)?;
        self.settle(context);
        Ok(())
    }

    fn epoch_end(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.call(context, O::on_epoch_end)?;
        self.settle(context);
        let mut rows = 0;
        self.each(|_, state| {
            state.expire();
            rows += state.rows();
        });
        self.rows = rows;
        Ok(())
    }

    fn track(&mut self) {
        self.each(|_, state| state.track());
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        let learning = std::mem::take(&mut self.learning);
        let mut outcome = Ok(());
        self.each(|name, state| {
            if outcome.is_ok() {
                let schema = learning.iter().find(|(of, _)| of == name).map(|(_, schema)| Arc::clone(schema));
                let writer = writer.named(name);
                writer.learn(schema);
                outcome = state.snapshot(name, writer);
            }
        });
        self.learning = learning;
        outcome
    }

    fn is_shared(&mut self, name: &str) -> bool {
        let mut is_shared = false;
        self.each(|of, state| is_shared |= of == name && state.is_shared());
        is_shared
    }

    fn restore_named(&mut self, name: &str, _group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        let mut outcome = Ok(());
        let mut rows = 0;
        self.each(|of, state| {
            if outcome.is_ok() && of == name {
                outcome = restore(state, bytes);
            }
            rows += state.rows();
        });
        self.rows = rows;
        outcome
    }

    fn unsaved(&mut self) -> usize {
        let mut unsaved = 0;
        self.each(|_, state| unsaved += state.unsaved());
        unsaved
    }

    fn state_rows(&self) -> usize {
        self.rows
    }
}

/// Names the states of an operator, and its timers.
fn declare<O: StatefulOperator>(operator: &mut O, timers: &mut Timers<O::Key>, states: &mut States<'_>) {
    operator.state(states);
    states.add(TIMERS, timers);
}

fn restore(state: &mut dyn NamedState, bytes: &[u8]) -> Result<(), OperatorError> {
    let mut reader = SnapshotReader::new(bytes);
    while let Some(change) = reader.next_change()? {
        state.restore(change)?;
    }
    Ok(())
}
