//! Drives one operator by hand, in simulated time.

use super::Checkpoint;
use crate::graph::Place;
use crate::{
    Batch, Context, Epoch, EventTime, Mode, Operator, OperatorError, ProcessingTime, SnapshotWriter,
};

/// One operator instance and its world: batches, watermarks, timers and epochs come when the test says so.
///
/// ```
/// use tidemill::prelude::*;
/// use tidemill::testing::Harness;
/// use tidemill::{Batch, Context, Operator, OperatorError, rows};
///
/// /// Emits what it gets, doubled.
/// struct Double;
/// impl Operator for Double {
///     fn batch(&mut self, _: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
///         let doubled = rows::<u64>(batch)?.into_iter().map(|n| n * 2).collect();
///         context.send(0, Batch::from_vec::<u64>(doubled));
///         Ok(())
///     }
/// }
///
/// let mut harness = Harness::new(Mode::Continuous, || Double);
/// harness.batch(0, vec![1u64, 2])?;
/// assert_eq!(harness.take::<u64>(0), [2, 4]);
/// # Ok::<(), OperatorError>(())
/// ```
pub struct Harness<O> {
    make: Box<dyn Fn() -> O>,
    operator: O,
    context: Context,
    sent: Vec<(usize, Batch)>,
    late_rows: u64,
    wake_at: Option<ProcessingTime>,
    /// Where it began, if its snapshots are changes, and what it has written since.
    written: Option<Checkpoint>,
}

impl<O: Operator> Harness<O> {
    /// A new instance at the beginning of epoch 0. `make` is called again to restore a snapshot into.
    pub fn new(mode: Mode, make: impl Fn() -> O + 'static) -> Self {
        Harness::at(Place::new(0, 1, mode), make)
    }

    fn at(place: Place, make: impl Fn() -> O + 'static) -> Self {
        let operator = make();
        Harness {
            make: Box::new(make),
            operator,
            context: Context::new(place.mode, place.worker, place.workers),
            sent: Vec::new(),
            late_rows: 0,
            wake_at: None,
            written: None,
        }
    }

    /// An instance of a query with a checkpoint: it [tracks](Operator::track) what changes, and resumes where the
    /// checkpoint ends, with the key groups that its worker holds. A new checkpoint begins with epoch 0.
    ///
    /// # Errors
    ///
    /// What the operator says to the checkpoint.
    pub fn restored(
        place: Place,
        make: impl Fn(Place) -> O + 'static,
        checkpoint: &Checkpoint,
    ) -> Result<Self, OperatorError> {
        let mut harness = Harness::at(place, move || make(place));
        let mut own = Checkpoint::new();
        (own.stand, own.wake_at) = (checkpoint.stand, checkpoint.wake_at);
        for (state, group, bytes) in checkpoint.states() {
            let is_shared = group.number() == 0 && !state.is_empty() && harness.operator.is_shared(state);
            if is_shared || group.worker(place.workers) == place.worker {
                own.push_of(state, group, bytes.to_vec());
            }
        }
        harness.written = Some(own);
        harness.reset()?;
        Ok(harness)
    }

    /// Replaces the operator with one restored from its snapshots.
    fn reset(&mut self) -> Result<(), OperatorError> {
        let Some(written) = &self.written else { return Ok(()) };
        self.operator = (self.make)();
        self.operator.track();
        written.restore(&mut self.operator)?;
        self.wake_at = written.wake_at;
        let (epoch, watermark, now) = written.stand;
        self.context.enter(epoch, watermark, now);
        self.operator.start(&mut self.context)?;
        if watermark > EventTime::MIN {
            self.operator.watermark(&mut self.context)?;
        }
        self.gather();
        Ok(())
    }

    /// Writes, between two epochs, what has changed since the last snapshot: the next link of the chain. Only for
    /// an instance that was made by [`restored`](Self::restored); of another one it is everything, each time.
    ///
    /// # Errors
    ///
    /// What the operator says.
    pub fn snapshot(&mut self, checkpoint: &mut Checkpoint) -> Result<(), OperatorError> {
        let mut writer = SnapshotWriter::new();
        self.operator.snapshot(&mut writer)?;
        let stand = (self.context.epoch(), self.context.watermark(), self.context.now());
        checkpoint.stand_at(stand, self.wake_at);
        let mut last = Checkpoint::new();
        last.push_all(writer);
        for (state, group, bytes) in last.states() {
            if let Some(written) = &mut self.written {
                written.push_of(state, group, bytes.to_vec());
            }
            checkpoint.push_of(state, group, bytes.to_vec());
        }
        if let Some(written) = &mut self.written {
            (written.stand, written.wake_at) = (stand, self.wake_at);
        }
        Ok(())
    }

    /// Hands rows to an input. In continuous mode that is an activation, so a flush follows.
    pub fn batch<T: Send + 'static>(&mut self, input: usize, rows: Vec<T>) -> Result<(), OperatorError> {
        self.take_batch(input, Batch::from_vec(rows))
    }

    pub(super) fn take_batch(&mut self, input: usize, batch: Batch) -> Result<(), OperatorError> {
        self.operator.batch(input, batch, &mut self.context)?;
        if self.context.mode() == Mode::Continuous {
            self.operator.flush(&mut self.context)?;
        }
        self.gather();
        Ok(())
    }

    /// Moves the watermark inside the epoch (continuous mode).
    pub fn watermark(&mut self, watermark: EventTime) -> Result<(), OperatorError> {
        self.context.set_watermark(watermark);
        self.operator.watermark(&mut self.context)?;
        self.gather();
        Ok(())
    }

    /// Moves the clock, calling the operator at the time it asked for if that has come.
    pub fn advance_to(&mut self, now: ProcessingTime) -> Result<(), OperatorError> {
        self.context.set_now(now);
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.operator.processing_time(&mut self.context)?;
        }
        self.gather();
        Ok(())
    }

    /// Ends the epoch with its last watermark and enters the next one.
    pub fn end_epoch(&mut self, watermark: EventTime) -> Result<(), OperatorError> {
        if watermark > self.context.watermark() {
            self.context.set_watermark(watermark);
            self.operator.watermark(&mut self.context)?;
        }
        self.operator.flush(&mut self.context)?;
        self.operator.epoch_end(&mut self.context)?;
        self.gather();
        let (next, watermark, now) =
            (self.context.epoch().next(), self.context.watermark(), self.context.now());
        self.context.enter(next, watermark, now);
        Ok(())
    }

    /// Snapshots the state and continues with a new instance that has read it back: everything that was written, if
    /// this one was made by [`restored`](Self::restored).
    pub fn snapshot_and_restore(&mut self) -> Result<(), OperatorError> {
        let mut checkpoint = Checkpoint::new();
        self.snapshot(&mut checkpoint)?;
        if self.written.is_some() {
            return self.reset();
        }
        self.operator = (self.make)();
        checkpoint.restore(&mut self.operator)
    }

    /// What was sent to an output since the last call. Rows are as they travel: `(EventTime, T)` where the output has event time
    /// (windows, [`Events`](crate::build::Events)), `T` where it has none. Rows of another type are left alone.
    pub fn take<R: Send + 'static>(&mut self, output: usize) -> Vec<R> {
        let mut rows = Vec::new();
        for (to, batch) in &mut self.sent {
            if *to == output {
                rows.extend(batch.take::<R>().unwrap_or_default());
            }
        }
        self.sent.retain(|(_, batch)| !batch.is_empty());
        rows
    }

    /// How many rows were late so far.
    pub fn late_rows(&self) -> u64 {
        self.late_rows
    }

    /// When the operator wants to be called, by the clock.
    pub fn wake_at(&self) -> Option<ProcessingTime> {
        self.wake_at
    }

    /// The epoch that the operator stands in.
    pub fn epoch(&self) -> Epoch {
        self.context.epoch()
    }

    /// How many entries of state the operator has.
    pub fn state_rows(&self) -> usize {
        self.operator.state_rows()
    }

    fn gather(&mut self) {
        self.sent.extend(self.context.drain_outputs());
        self.context.drain_observed();
        self.late_rows += self.context.take_late_rows();
        if let Some(at) = self.context.take_wake_at() {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }
}

impl<O> std::fmt::Debug for Harness<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("context", &self.context).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Change, KeyGroup, SnapshotReader, decode, hash_key, rows};

    /// Joins orders (input 0) with payments (input 1) by number. An order that is not paid when the watermark has
    /// passed its deadline is reported; one that was not asked for is forgotten a minute of processing time after it
    /// was paid. Two inputs, event-time and processing-time timers, state: all that the contract promises.
    #[derive(Default)]
    struct Payments {
        open: BTreeMap<u64, EventTime>,
        paid: BTreeMap<u64, ProcessingTime>,
        /// Since the last snapshot: slots and orders.
        gone: Vec<(u8, u64)>,
    }

    impl Operator for Payments {
        fn batch(&mut self, input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
            for (time, order) in rows::<(EventTime, u64)>(batch)? {
                if input == 0 {
                    self.open.insert(order, time);
                } else if self.open.remove(&order).is_some() {
                    self.gone.push((0, order));
                    let forget = ProcessingTime::from_micros(context.now().as_micros() + 60);
                    self.paid.insert(order, forget);
                    context.wake_at(forget);
                    context.send(0, Batch::from_vec(vec![format!("{order} paid")]));
                }
            }
            Ok(())
        }

        fn watermark(&mut self, context: &mut Context) -> Result<(), OperatorError> {
            let passed: Vec<u64> = self
                .open
                .iter()
                .filter(|(_, time)| time.as_micros() + 10 <= context.watermark().as_micros())
                .map(|(o, _)| *o)
                .collect();
            for order in passed {
                self.open.remove(&order);
                self.gone.push((0, order));
                context.send(0, Batch::from_vec(vec![format!("{order} overdue")]));
            }
            Ok(())
        }

        fn processing_time(&mut self, context: &mut Context) -> Result<(), OperatorError> {
            let due = self.paid.iter().filter(|(_, forget)| **forget <= context.now());
            self.gone.extend(due.map(|(order, _)| (1, *order)));
            self.paid.retain(|_, forget| *forget > context.now());
            if let Some(next) = self.paid.values().min() {
                context.wake_at(*next);
            }
            Ok(())
        }

        /// Slots: 0 for open orders, 1 for paid ones. There are so few that all are written each time; what is gone
        /// must be reported.
        fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
            for (slot, order) in self.gone.drain(..) {
                writer.remove(writer.key_groups().of(hash_key(&order)), &slot, &order)?;
            }
            for (order, time) in &self.open {
                writer.put(writer.key_groups().of(hash_key(order)), &0u8, order, time)?;
            }
            for (order, forget) in &self.paid {
                writer.put(writer.key_groups().of(hash_key(order)), &1u8, order, forget)?;
            }
            Ok(())
        }

        fn restore(&mut self, _group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError> {
            let mut reader = SnapshotReader::new(bytes);
            while let Some(change) = reader.next_change()? {
                let is_open = decode::<u8>(change.slot())? == 0;
                match change {
                    Change::Put { key, value, .. } if is_open => {
                        self.open.insert(decode(key)?, decode(value)?);
                    }
                    Change::Put { key, value, .. } => {
                        self.paid.insert(decode(key)?, decode(value)?);
                    }
                    Change::Remove { key, .. } if is_open => drop(self.open.remove(&decode(key)?)),
                    Change::Remove { key, .. } => drop(self.paid.remove(&decode(key)?)),
                    Change::DropSlot { .. } => {}
                }
            }
            Ok(())
        }

        fn state_rows(&self) -> usize {
            self.open.len() + self.paid.len()
        }
    }

    #[test]
    fn operator_with_two_inputs_and_all_timers_keeps_contract() {
        let mut harness = Harness::new(Mode::Continuous, Payments::default);
        harness
            .batch(
                0,
                vec![
                    (EventTime::from_micros(1), 7u64),
                    (EventTime::from_micros(2), 8),
                    (EventTime::from_micros(30), 9),
                ],
            )
            .unwrap();
        harness.batch(1, vec![(EventTime::from_micros(3), 8u64)]).unwrap();
        assert_eq!(harness.take::<String>(0), ["8 paid"]);
        assert_eq!(harness.wake_at(), Some(ProcessingTime::from_micros(60)));

        harness.end_epoch(EventTime::from_micros(5)).unwrap();
        harness.snapshot_and_restore().unwrap();
        assert_eq!(harness.state_rows(), 3, "the orders were written");

        harness.watermark(EventTime::from_micros(11)).unwrap();
        assert_eq!(harness.take::<String>(0), ["7 overdue"], "the deadline is inclusive");
        harness.watermark(EventTime::from_micros(39)).unwrap();
        assert!(harness.take::<String>(0).is_empty());
        harness.end_epoch(EventTime::from_micros(40)).unwrap();
        assert_eq!(harness.take::<String>(0), ["9 overdue"]);
        assert_eq!(harness.epoch(), Epoch::new(2));
    }

    #[test]
    fn removed_state_stays_removed_after_restart_and_rescale() {
        let mut checkpoint = Checkpoint::new();
        let place = |worker, workers| Place::new(worker, workers, Mode::MicroBatch);
        let make = |_| Payments::default();
        let mut harness = Harness::restored(place(0, 1), make, &checkpoint).unwrap();
        harness
            .batch(0, (0..40).map(|order| (EventTime::from_micros(1), order)).collect::<Vec<(_, u64)>>())
            .unwrap();
        harness.end_epoch(EventTime::from_micros(5)).unwrap();
        harness.snapshot(&mut checkpoint).unwrap();
        harness
            .batch(1, (0..30).map(|order| (EventTime::from_micros(1), order)).collect::<Vec<(_, u64)>>())
            .unwrap();
        harness.end_epoch(EventTime::from_micros(6)).unwrap();
        harness.snapshot(&mut checkpoint).unwrap();
        for fold in [false, true] {
            if fold {
                let before = checkpoint.bytes();
                checkpoint.fold().unwrap();
                assert!(checkpoint.bytes() < before);
            }
            let restored =
                (0..3).map(|worker| Harness::restored(place(worker, 3), make, &checkpoint).unwrap());
            let mut restored: Vec<_> = restored.collect();
            assert_eq!(restored.iter().map(Harness::state_rows).sum::<usize>(), 40);
            assert!(
                restored.iter().all(|harness| harness.state_rows() > 0 && harness.epoch() == Epoch::new(2))
            );
            restored[0].snapshot_and_restore().unwrap();
            restored.iter_mut().for_each(|harness| harness.end_epoch(EventTime::from_micros(11)).unwrap());
            let overdue = restored.iter_mut().flat_map(|harness| harness.take::<String>(0));
            assert_eq!(overdue.count(), 10);
        }
    }

    #[test]
    fn a_processing_time_timer_fires_once_its_time_has_come() {
        let mut harness = Harness::new(Mode::MicroBatch, Payments::default);
        harness.batch(0, vec![(EventTime::from_micros(1), 7u64)]).unwrap();
        harness.batch(1, vec![(EventTime::from_micros(1), 7u64)]).unwrap();
        harness.advance_to(ProcessingTime::from_micros(59)).unwrap();
        assert_eq!(harness.state_rows(), 1);
        harness.advance_to(ProcessingTime::from_micros(60)).unwrap();
        assert_eq!(harness.state_rows(), 0);
    }
}
