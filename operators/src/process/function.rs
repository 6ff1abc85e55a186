//! A function of the user over one keyed stream, with state and timers.

use super::context::{CloseContext, KeyContext};
use super::failure::ProcessResult;
use super::runner::{Function, Runner};
use super::{OnFailure, ProcessContext};
use crate::build::{Dealt, Outputs, Takes, To};
use crate::named::{States, Timer};
use crate::{Data, Key, OperatorError};

/// A function over the rows of a keyed stream, with state, timers and any number of outputs: what
/// [`KeyedStream::process`](crate::KeyedStream::process) takes.
///
/// It is called for one key at a time, and asks its states with [`KeyContext::key`]. Each worker has an instance of its own, for the
/// keys that it holds. What outlives a call belongs in a state that [`state`](Self::state) names: such state and the timers are
/// in the checkpoint, and move with their keys when the number of workers changes. Other fields start empty in each run.
///
/// Each row of an epoch comes before the timers that the epoch's watermark makes due; timers come in the order of their times.
/// Rows that come from different workers mix in another order each time, also when an epoch is replayed. So what is emitted
/// should not depend on the order of rows with equal times.
///
/// The idea is Flink's `KeyedProcessFunction` and Spark's `transformWithState`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function",
    note = "implement `ProcessFunction` for it, with the key of the stream as `Key` and its rows as `Row`"
)]
pub trait ProcessFunction: Sized + 'static {
    /// The key of the stream.
    type Key: Key;
    /// The rows of the stream.
    type Row: Data;
    /// The outputs, as a tuple: `(Rows<Alarm>,)` for one, `(Events<Order>, Rows<Alarm>)` for two. The function emits with
    /// `cx.out.0.push(…)`, `cx.out.1.push(…)` and so on, and [`process`](crate::KeyedStream::process) returns a stream for each.
    ///
    /// [`Rows<T>`](crate::build::Rows) has rows without event time; its stream is a [`Stream<T>`](crate::Stream), for sinks and aggregates
    /// without windows. [`Events<T>`](crate::build::Events) has rows with an event time, `push(cx.time(), row)`; its stream is an
    /// [`EventStream<T>`](crate::EventStream), for windows and joins. Both emit inserts. Rows that replace others are
    /// [`Upserts`](crate::build::Upserts), [`Snapshots`](crate::build::Snapshots) or [`Changes`](crate::build::Changes).
    type Outputs: Outputs;

    /// Names the states, each time in the same way. What is not named is lost at a restart. The names `timers` and `lifecycle` are
    /// taken.
    fn state(&mut self, _states: &mut States<'_>) {}

    /// Takes a row. Late rows come like all others: [`KeyContext::is_late`] tells.
    ///
    /// # Errors
    ///
    /// An error fails the query, or sends the row to the side output of
    /// [`process_with_failed`](crate::KeyedStream::process_with_failed).
    fn on_record(&mut self, row: Self::Row, cx: &mut ProcessContext<'_, Self>) -> ProcessResult;

    /// A timer of the key has fired, and is gone. One of event time fires once the watermark has reached it; at the end of the
    /// input all of them do. Those of processing time that are left then are dropped and counted.
    ///
    /// # Errors
    ///
    /// As [`on_record`](Self::on_record).
    fn on_timer(&mut self, _timer: Timer, _cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        Ok(())
    }

    /// All input has ended, and all timers have fired: called once on each worker, before the last epoch is committed.
    ///
    /// It is called when the watermark has come to the end of time. So it is not called when a query is stopped, which may resume, and
    /// not for streams without event time, which have no watermark. How many rows it emits depends on the number of workers, also
    /// where another number of workers replays the last epoch after a failure: let an aggregate merge them if that matters.
    ///
    /// # Errors
    ///
    /// An error fails the query.
    fn on_close(&mut self, _cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        Ok(())
    }
}

/// A process function that takes the state of some keys from elsewhere, before its first row: see
/// [`KeyedStream::with_initial_state`](crate::KeyedStream::with_initial_state).
pub trait InitialState: ProcessFunction {
    /// The initial state of one key.
    type Initial: Clone + Send + Sync + 'static;

    /// Takes the initial state of a key: puts it into the states, and sets timers if need be.
    ///
    /// # Errors
    ///
    /// An error fails the query.
    fn on_initial(&mut self, state: Self::Initial, cx: &mut ProcessContext<'_, Self>) -> ProcessResult;
}

/// A [`ProcessFunction`] as the operator calls it.
pub(super) struct One<F>(pub(super) F);

impl<F: ProcessFunction> Function for One<F> {
    type Key = F::Key;
    type Row = F::Row;
    type Outputs = F::Outputs;

    fn state(&mut self, states: &mut States<'_>) {
        self.0.state(states);
    }

    #[inline]
    fn on_row(&mut self, row: F::Row, cx: &mut KeyContext<'_, F::Key, F::Outputs>) -> ProcessResult {
        self.0.on_record(row, cx)
    }

    #[inline]
    fn on_timer(&mut self, timer: Timer, cx: &mut KeyContext<'_, F::Key, F::Outputs>) -> ProcessResult {
        self.0.on_timer(timer, cx)
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, F::Outputs>) -> ProcessResult {
        self.0.on_close(cx)
    }
}

impl<F: ProcessFunction, P: OnFailure<F::Key, F::Row, F::Outputs>> Takes<0> for Runner<One<F>, P> {
    type Row = Dealt<F::Key, F::Row>;

    fn take(
        &mut self,
        rows: std::vec::Drain<'_, Self::Row>,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        self.rows(rows, to, |row| row)
    }
}
