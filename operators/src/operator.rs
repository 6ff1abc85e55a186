//! The contract between an operator and whatever runs it.
//!
//! An operator is a state machine without threads, clocks or channels. It is told what happened, in this order within
//! each epoch: batches on any input ([`Operator::batch`]), watermarks that have advanced ([`Operator::watermark`]),
//! processing-time calls it asked for ([`Operator::processing_time`]), the end of an activation
//! ([`Operator::flush`]); then, when every record of the epoch has been seen, the epoch's last watermark, a last
//! flush, and [`Operator::epoch_end`]. Records of a later epoch are withheld until then, so a snapshot taken after
//! `epoch_end` holds exactly the records up to that epoch.
//!
//! Everything an operator wants goes through [`Context`]: rows for its outputs, calls at a later processing time,
//! counts of late rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::OperatorError;
use crate::spawner::Spawner;
use crate::top_keys::KeySampler;
use crate::{
    Batch, Epoch, EventTime, KeyGroup, KeyGroups, ParseOptionError, ProcessingTime, SnapshotWriter, Waker,
};

/// Who decides where an epoch ends, and when output is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A trigger cuts the input into epochs; each is processed as one batch and committed exactly once.
    #[default]
    MicroBatch,
    /// Each record passes through the graph when it arrives; epochs only mark checkpoints.
    Continuous,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Mode::MicroBatch => "micro-batch",
            Mode::Continuous => "continuous",
        })
    }
}

impl std::str::FromStr for Mode {
    type Err = ParseOptionError;
    fn from_str(text: &str) -> Result<Self, ParseOptionError> {
        match text {
            "micro-batch" => Ok(Mode::MicroBatch),
            "continuous" => Ok(Mode::Continuous),
            other => Err(ParseOptionError::new(other, "a mode: `micro-batch` or `continuous`")),
        }
    }
}

/// One instance of an operator, on one worker.
pub trait Operator: 'static {
    /// Called once in a run, in its first epoch, with the state restored and before the first batch.
    fn start(&mut self, _context: &mut Context) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Takes rows of the current epoch from an input.
    fn batch(&mut self, input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError>;

    /// [`Context::watermark`] has advanced: close windows, fire event-time timers, in time order.
    fn watermark(&mut self, _context: &mut Context) -> Result<(), OperatorError> {
        Ok(())
    }

    /// A processing time asked for by [`Context::wake_at`] has come.
    fn processing_time(&mut self, _context: &mut Context) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Its [waker](Context::waker) may have woken it: emit the results that have come for rows that it [holds](Context::hold).
    fn woken(&mut self, _context: &mut Context) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Emit what was gathered. In continuous mode this comes at the end of an activation; while a source has a backlog and
    /// flushes are costly, later, by at most the latency budget of the query. In micro-batch it comes at the end of the epoch.
    fn flush(&mut self, _context: &mut Context) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Every record of [`Context::epoch`] has been seen, and its last watermark applied.
    fn epoch_end(&mut self, _context: &mut Context) -> Result<(), OperatorError> {
        Ok(())
    }

    /// The query has a checkpoint: [`snapshot`](Operator::snapshot) will be called again and again, and each time needs
    /// to write only what has changed. Called once, before [`restore`](Operator::restore) and before the first batch.
    fn track(&mut self) {}

    /// Writes, by key group, what has changed since the last call: what was restored counts as written. Called
    /// between epochs. Without [`track`](Operator::track) it is called once, if at all, and writes everything. It does no
    /// harm to put what has not changed; but what is gone has to be removed, or the checkpoint keeps it.
    fn snapshot(&mut self, _writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Applies what [`snapshot`](Operator::snapshot) wrote for one of the groups of this worker. Called before the first
    /// batch, for each group that had anything: once or several times, the oldest changes first. A put replaces the
    /// value that was there.
    fn restore(&mut self, _group: KeyGroup, _bytes: &[u8]) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Whether every worker has all of a [named](SnapshotWriter::named) state: it is written by the worker of key group 0 and restored
    /// on all.
    fn is_shared(&mut self, _name: &str) -> bool {
        false
    }

    /// As [`restore`](Operator::restore), for what was written of a [named](SnapshotWriter::named) state.
    fn restore_named(&mut self, _name: &str, _group: KeyGroup, _bytes: &[u8]) -> Result<(), OperatorError> {
        Ok(())
    }

    /// About how many entries the next [`snapshot`](Operator::snapshot) will write, where that is tracked. The engine that runs
    /// the operator may take some of them in between, so that not all are left for the end of the epoch.
    fn unsaved(&mut self) -> usize {
        0
    }

    /// How many entries of state there are.
    fn state_rows(&self) -> usize {
        0
    }

    /// Returns the types that make up the state, in words.
    ///
    /// A checkpoint records them, for people; and to refuse a state of other types where an operator has no
    /// [schema](crate::schema::StateSchema).
    fn state_type(&self) -> String {
        String::new()
    }
}

/// An operator whose type is known only to who made it.
impl<O: Operator + ?Sized> Operator for Box<O> {
    fn start(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        (**self).start(context)
    }

    fn batch(&mut self, input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        (**self).batch(input, batch, context)
    }

    fn watermark(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        (**self).watermark(context)
    }

    fn processing_time(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        (**self).processing_time(context)
    }

    fn woken(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        (**self).woken(context)
    }

    fn flush(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        (**self).flush(context)
    }

    fn epoch_end(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        (**self).epoch_end(context)
    }

    fn track(&mut self) {
        (**self).track();
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        (**self).snapshot(writer)
    }

    fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        (**self).restore(group, bytes)
    }

    fn is_shared(&mut self, name: &str) -> bool {
        (**self).is_shared(name)
    }

    fn restore_named(&mut self, name: &str, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
        (**self).restore_named(name, group, bytes)
    }

    fn state_rows(&self) -> usize {
        (**self).state_rows()
    }

    fn state_type(&self) -> String {
        (**self).state_type()
    }

    fn unsaved(&mut self) -> usize {
        (**self).unsaved()
    }
}

/// The rows of its epoch that an operator holds while others work on them, such as requests to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Holding {
    /// None: the epoch may end.
    #[default]
    Nothing,
    /// Some, whose results are still to be emitted.
    Rows {
        /// No result of theirs is older: the watermark of the outputs does not advance beyond it.
        least: EventTime,
        /// Whether the operator takes no more rows for now.
        is_full: bool,
    },
}

/// What an operator knows of the world, and what it wants of it.
#[derive(Debug)]
pub struct Context {
    mode: Mode,
    worker: usize,
    workers: usize,
    key_groups: KeyGroups,
    epoch: Epoch,
    watermark: EventTime,
    now: ProcessingTime,
    late_rows: u64,
    dropped_timers: u64,
    output_watermark: Option<EventTime>,
    awaits_commit: bool,
    holding: Holding,
    waker: Option<Waker>,
    spawner: Option<Arc<dyn Spawner>>,
    sampler: KeySampler,
    wake_at: Option<ProcessingTime>,
    outputs: Vec<(usize, Batch)>,
    observed: Vec<(u32, EventTime)>,
}

impl Context {
    /// A context at the beginning of epoch 0, for those who drive an operator themselves.
    pub fn new(mode: Mode, worker: usize, workers: usize) -> Self {
        Context {
            mode,
            worker,
            workers,
            key_groups: KeyGroups::default(),
            epoch: Epoch::new(0),
            watermark: EventTime::MIN,
            now: ProcessingTime::from_micros(0),
            late_rows: 0,
            dropped_timers: 0,
            output_watermark: None,
            awaits_commit: false,
            holding: Holding::Nothing,
            waker: None,
            spawner: None,
            sampler: KeySampler::default(),
            wake_at: None,
            outputs: Vec::new(),
            observed: Vec::new(),
        }
    }

    /// The same with another number of key groups.
    #[must_use]
    pub fn with_key_groups(mut self, groups: KeyGroups) -> Self {
        self.key_groups = groups;
        self
    }

    /// Sets what wakes an operator that [holds](Self::hold) rows, and what runs its futures.
    pub fn set_spawner(&mut self, waker: Waker, spawner: Option<Arc<dyn Spawner>>) {
        (self.waker, self.spawner) = (Some(waker), spawner);
    }

    /// Sets what counts the keys of the operator's rows.
    #[doc(hidden)]
    pub fn set_sampler(&mut self, sampler: KeySampler) {
        self.sampler = sampler;
    }

    /// What counts the keys of the operator's rows, if they are counted.
    pub(crate) fn sampler(&mut self) -> &mut KeySampler {
        &mut self.sampler
    }

    /// How the graph is run.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The worker of this instance, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Returns the key groups: the worker that holds a key is that of [its group](KeyGroups::of).
    pub fn key_groups(&self) -> KeyGroups {
        self.key_groups
    }

    /// The epoch whose records are being taken.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The event time before which nothing is expected any more: the least over all inputs. What closes by it is
    /// closed; a row is late when everything it belongs to is closed. Inside a micro-batch epoch it stays at the value
    /// with which the epoch began.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Processing time: one reading per epoch in micro-batch, one per activation in continuous.
    pub fn now(&self) -> ProcessingTime {
        self.now
    }

    /// Hands rows to an output. Empty batches are dropped.
    pub fn send(&mut self, output: usize, batch: Batch) {
        if !batch.is_empty() {
            self.outputs.push((output, batch));
        }
    }

    /// Asks for a call of [`Operator::processing_time`] at or soon after `time`; the earliest request counts, and is
    /// forgotten once served. In micro-batch it is served at the first epoch whose clock has reached it.
    pub fn wake_at(&mut self, time: ProcessingTime) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }

    /// Holds the rows of later epochs back until this one is committed. In micro-batch, where a replay of them must be the same:
    /// for an operator that has put something into its state, at the end of an epoch, that a replay of this one would not
    /// find again.
    pub fn await_commit(&mut self) {
        self.awaits_commit = true;
    }

    /// Reports which rows the operator holds from now on. While it holds any, the epoch does not end; while it is full, the engine
    /// holds its input back, and sources pause. An operator that calls this sets
    /// [`OperatorSpec::in_flight`](crate::graph::OperatorSpec::in_flight).
    pub fn hold(&mut self, holding: Holding) {
        self.holding = holding;
    }

    /// The rows that the operator holds, as it last reported.
    pub fn holding(&self) -> Holding {
        self.holding
    }

    /// Wakes the operator from any thread: the engine then calls [`Operator::woken`].
    pub fn waker(&self) -> Option<&Waker> {
        self.waker.as_ref()
    }

    /// Runs futures for the operator.
    pub fn spawner(&self) -> Option<&Arc<dyn Spawner>> {
        self.spawner.as_ref()
    }

    /// Counts rows that came too late for everything they belong to.
    pub fn count_late(&mut self, rows: u64) {
        self.late_rows += rows;
    }

    /// Counts timers that were set while those of the end of time came, and will never come.
    pub fn count_dropped_timers(&mut self, timers: u64) {
        self.dropped_timers += timers;
    }

    /// Reports the watermark of the outputs: no row that is sent from now on is older. For operators that
    /// [derive](crate::build::StatefulOperator::DERIVES_WATERMARK) one.
    pub fn set_output_watermark(&mut self, watermark: EventTime) {
        self.output_watermark = Some(watermark);
    }

    /// The watermark of the outputs that was last reported, if any was. For those who drive an operator.
    pub fn output_watermark(&self) -> Option<EventTime> {
        self.output_watermark
    }

    /// Reports the watermark that rows of a source partition justify. Only operators that assign watermarks do.
    pub fn observe(&mut self, origin: u32, watermark: EventTime) {
        self.observed.push((origin, watermark));
    }

    /// Enters an epoch. For those who drive an operator.
    pub fn enter(&mut self, epoch: Epoch, watermark: EventTime, now: ProcessingTime) {
        self.epoch = epoch;
        self.watermark = watermark;
        self.now = now;
    }

    /// Moves the clock. For those who drive an operator.
    pub fn set_now(&mut self, now: ProcessingTime) {
        self.now = now;
    }

    /// Moves the watermark. For those who drive an operator.
    pub fn set_watermark(&mut self, watermark: EventTime) {
        self.watermark = watermark;
    }

    /// What was sent since the last call, in order. For those who drive an operator.
    pub fn drain_outputs(&mut self) -> std::vec::Drain<'_, (usize, Batch)> {
        self.outputs.drain(..)
    }

    /// What was observed since the last call. For those who drive an operator.
    pub fn drain_observed(&mut self) -> std::vec::Drain<'_, (u32, EventTime)> {
        self.observed.drain(..)
    }

    /// The next wake-up asked for, which is thereby forgotten. For those who drive an operator.
    pub fn take_wake_at(&mut self) -> Option<ProcessingTime> {
        self.wake_at.take()
    }

    /// Whether the operator waits for the commit of the epoch that has ended, which is thereby forgotten. For those who drive an
    /// operator.
    pub fn take_awaits_commit(&mut self) -> bool {
        std::mem::take(&mut self.awaits_commit)
    }

    /// Late rows counted since the last call. For those who drive an operator.
    pub fn take_late_rows(&mut self) -> u64 {
        std::mem::take(&mut self.late_rows)
    }

    /// Dropped timers counted since the last call. For those who drive an operator.
    pub fn take_dropped_timers(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_timers)
    }
}

/// The rows of a batch, or the error that says that they are of another type.
pub fn rows<T: Send + 'static>(mut batch: Batch) -> Result<Vec<T>, OperatorError> {
    batch.take().ok_or(OperatorError::WrongType { expected: std::any::type_name::<T>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_wake_up_counts() {
        let mut context = Context::new(Mode::Continuous, 0, 1);
        context.wake_at(ProcessingTime::from_micros(20));
        context.wake_at(ProcessingTime::from_micros(10));
        assert_eq!(context.take_wake_at(), Some(ProcessingTime::from_micros(10)));
        assert_eq!(context.take_wake_at(), None);
    }
}
