//! The operator that runs a process function of any kind: calls it for rows and timers, and sees to its beginning and end.
//!
//! State: that of the function, and as `lifecycle` whether its initial state has been loaded and whether its input has ended.

use std::marker::PhantomData;
use std::sync::Arc;
use std::vec::Drain;

use super::context::{CloseContext, KeyContext};
use super::failure::{FailedCall, OnFailure, ProcessResult};
use crate::build::{Dealt, Outputs, StatefulOperator, To};
use crate::named::{HashedKey, NamedState, SharedState, States, Timer};
use crate::state::Reach;
use crate::{EventTime, Key, OperatorError};

/// What process functions of all kinds have in common.
pub(super) trait Function: 'static {
    type Key: Key;
    /// A row of a keyed input.
    type Row: 'static;
    type Outputs: Outputs;

    fn state(&mut self, states: &mut States<'_>);

    fn on_row(&mut self, row: Self::Row, cx: &mut KeyContext<'_, Self::Key, Self::Outputs>) -> ProcessResult;

    fn on_timer(&mut self, timer: Timer, cx: &mut KeyContext<'_, Self::Key, Self::Outputs>) -> ProcessResult;

    fn on_close(&mut self, cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult;

    /// Rows that have come and that the function is to be called for once the epoch has no more.
    #[inline]
    fn take_buffered(&mut self) -> Option<Buffered<Self::Key, Self::Row>> {
        None
    }
}

/// Rows of an epoch that wait for its end, in micro-batch.
pub(super) struct Buffered<K, T> {
    /// The watermark at which they came.
    pub(super) watermark: EventTime,
    pub(super) rows: Vec<Dealt<K, T>>,
}

impl<K, T> Default for Buffered<K, T> {
    fn default() -> Self {
        Buffered { watermark: EventTime::MIN, rows: Vec::new() }
    }
}

/// State that a function has before its first row.
pub(super) trait Initial<F: Function>: Send + Sync {
    /// Calls the function for each key that is `of_this_worker`, by its hash, and `with` a context of the key.
    fn load(
        &self,
        of_this_worker: &dyn Fn(u64) -> bool,
        with: &mut dyn FnMut(HashedKey<'_, F::Key>, &mut CallInitial<'_, F>) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError>;
}

/// A call of a function with the initial state of a key.
pub(super) type CallInitial<'a, F> = dyn FnMut(&mut F, &mut KeyContext<'_, <F as Function>::Key, <F as Function>::Outputs>) -> ProcessResult
    + 'a;

/// What the state `lifecycle` holds.
const STARTED: u8 = 0;
const CLOSED: u8 = 1;

/// The operator. `P` says how a call that fails is handled.
pub(super) struct Runner<F: Function, P> {
    pub(super) function: F,
    initial: Option<Arc<dyn Initial<F>>>,
    lifecycle: SharedState<u8, ()>,
    /// Whether the lifecycle has been looked at.
    is_started: bool,
    /// Where the states are, while rows are processed.
    reaches: Vec<Reach>,
    marker: PhantomData<fn() -> P>,
}

impl<F: Function, P: OnFailure<F::Key, F::Row, F::Outputs>> Runner<F, P> {
    pub(super) fn new(function: F, initial: Option<Arc<dyn Initial<F>>>) -> Self {
        Runner {
            function,
            initial,
            lifecycle: SharedState::new(),
            is_started: false,
            reaches: Vec::new(),
            marker: PhantomData,
        }
    }

    /// Before the first row of a run: loads the initial state, unless the query resumes.
    #[inline]
    pub(super) fn start(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if self.is_started { Ok(()) } else { self.load(to) }
    }

    #[cold]
    fn load(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.is_started = true;
        let initial = self.initial.take();
        if self.lifecycle.insert(STARTED, ()).is_some() {
            return Ok(());
        }
        let Some(initial) = initial else { return Ok(()) };
        let (out, timers, context) = to.split();
        let (groups, worker, workers) = (context.key_groups(), context.worker(), context.workers());
        initial.load(&|hash| groups.of(hash).worker(workers) == worker, &mut |key, call| {
            let parts = (P::outputs(out), &mut *timers, &mut *context);
            let watermark = parts.2.watermark();
            call(&mut self.function, &mut KeyContext::new(key, watermark, watermark, parts))
                .map_err(|error| super::failure::of_key(key.key, error))
        })
    }

    /// Calls the function for a row.
    #[inline]
    pub(super) fn row(
        &mut self,
        row: Dealt<F::Key, F::Row>,
        watermark: EventTime,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let Dealt { hash, key, time, value } = row;
        let kept = P::keep(&value);
        let (out, timers, context) = to.split();
        let parts = (P::outputs(out), timers, context);
        let mut cx = KeyContext::new(HashedKey { hash, key: &key }, time, watermark, parts);
        match self.function.on_row(value, &mut cx) {
            Ok(()) => Ok(()),
            Err(error) => P::failed(to.out, &key, time, FailedCall::Row(kept), error),
        }
    }

    /// Calls the function for rows that have waited for the end of the epoch.
    #[inline]
    fn release(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let Some(Buffered { watermark, rows }) = self.function.take_buffered() else { return Ok(()) };
        rows.into_iter().try_for_each(|row| self.row(row, watermark, to))
    }

    /// Calls the function for the rows of a keyed input.
    #[inline]
    pub(super) fn rows<T>(
        &mut self,
        mut rows: Drain<'_, Dealt<F::Key, T>>,
        to: &mut To<'_, Self>,
        as_row: impl Fn(T) -> F::Row,
    ) -> Result<(), OperatorError> {
        self.start(to)?;
        let watermark = to.watermark();
        if rows.len() >= Reach::AHEAD {
            self.find_states(to);
        }
        // Prefetches the entries of the next rows' keys, where a table is larger than the caches.
        if !self.reaches.is_empty() {
            rows.as_slice().iter().take(Reach::AHEAD).for_each(|row| self.prefetch(row.hash));
            while let Some(Dealt { hash, key, time, value }) = rows.next() {
                if let Some(row) = rows.as_slice().get(Reach::AHEAD - 1) {
                    self.prefetch(row.hash);
                }
                self.row(Dealt { hash, key, time, value: as_row(value) }, watermark, to)?;
            }
            self.reaches.clear();
        }
        for Dealt { hash, key, time, value } in rows {
            self.row(Dealt { hash, key, time, value: as_row(value) }, watermark, to)?;
        }
        Ok(())
    }

    /// Finds the states and timers that are worth prefetching.
    fn find_states(&mut self, to: &To<'_, Self>) {
        self.reaches.extend(to.timers.reach());
        let Runner { function, reaches, .. } = self;
        States::visit(|states| function.state(states), |_, state| reaches.extend(state.reach()));
    }

    #[inline]
    fn prefetch(&self, hash: u64) {
        self.reaches.iter().for_each(|reach| reach.fetch(hash));
    }
}

impl<F: Function, P: OnFailure<F::Key, F::Row, F::Outputs>> StatefulOperator for Runner<F, P> {
    type Key = F::Key;
    type Outputs = P::Outputs;

    fn state(&mut self, states: &mut States<'_>) {
        self.function.state(states);
        states.add("lifecycle", &mut self.lifecycle);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, F::Key>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let time = match timer {
            Timer::Event(time) => time,
            Timer::Processing(_) => watermark,
        };
        let (out, timers, context) = to.split();
        let mut cx = KeyContext::new(key, time, watermark, (P::outputs(out), timers, context));
        match self.function.on_timer(timer, &mut cx) {
            Ok(()) => Ok(()),
            Err(error) => P::failed(to.out, key.key, time, FailedCall::Timer(timer), error),
        }
    }

    fn before_timers(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        // Timers of the initial state are due like others, also where no row comes before the end of the input.
        self.start(to)?;
        self.release(to)
    }

    fn on_flush(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.start(to)?;
        self.release(to)
    }

    /// At the end of time: all timers have fired, and what is emitted now is still in time.
    fn on_watermark(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if to.watermark() == EventTime::MAX && self.lifecycle.insert(CLOSED, ()).is_none() {
            let now = to.now();
            let mut cx = CloseContext::new(P::outputs(to.out), now);
            self.function.on_close(&mut cx).map_err(OperatorError::User)?;
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.start(to)
    }
}
