//! Which rows are scored: none, the examples themselves, or those of a second input.

use std::collections::VecDeque;
use std::sync::Arc;

use super::operator::Versioned;
use super::{LearnResult, Learner, Predict};
use crate::named::{HashedKey, States, TimedRows};
use crate::{Data, EventTime, Key};

/// How rows are scored.
pub(super) trait Scoring<K: Key, V: Data, L: Learner>: 'static {
    /// The rows that are scored.
    type Row: Data;
    type Prediction: Data;

    fn state(&mut self, _states: &mut States<'_>) {}

    /// Scores an example, if examples are scored.
    #[inline]
    fn test(
        &self,
        _learner: &L,
        _model: &L::Model,
        _example: &L::Example,
    ) -> LearnResult<Option<Self::Prediction>> {
        Ok(None)
    }

    /// The row to emit with the score of an example.
    #[inline]
    fn tested(_row: V) -> Option<Self::Row> {
        None
    }

    /// Buffers a request. Returns the time of the latest one that the key had before.
    #[inline]
    fn push(&mut self, _key: HashedKey<'_, K>, _time: EventTime, _row: Self::Row) -> Option<EventTime> {
        None
    }

    /// Takes the requests of a key with these times out of the buffer, and scores those that come first. Returns whether there are any.
    #[inline]
    fn take(&mut self, _key: HashedKey<'_, K>, _before: Option<EventTime>) -> bool {
        false
    }

    /// Scores the requests that have been taken, up to a time if one is given.
    #[inline]
    fn score(
        &mut self,
        _until: Option<EventTime>,
        _learner: &L,
        _model: &Versioned<L::Model>,
        _emit: &mut impl FnMut(EventTime, Self::Row, LearnResult<Self::Prediction>, u64),
    ) {
    }

    /// The time of the first request of a key that is in the buffer.
    #[inline]
    fn first(&self, _key: HashedKey<'_, K>) -> Option<EventTime> {
        None
    }
}

/// No row is scored.
#[derive(Clone, Copy)]
pub(super) struct Models;

impl<K: Key, V: Data, L: Learner> Scoring<K, V, L> for Models {
    type Row = ();
    type Prediction = ();
}

/// The examples are scored.
#[derive(Clone, Copy)]
pub(super) struct Tests;

impl<K: Key, V: Data, L: Predict> Scoring<K, V, L> for Tests {
    type Row = V;
    type Prediction = L::Prediction;

    #[inline]
    fn test(
        &self,
        learner: &L,
        model: &L::Model,
        example: &L::Example,
    ) -> LearnResult<Option<L::Prediction>> {
        learner.predict(model, learner.features(example)).map(Some)
    }

    #[inline]
    fn tested(row: V) -> Option<V> {
        Some(row)
    }
}

/// The rows of the second input are scored.
pub(super) struct Requests<K, R, F> {
    waiting: TimedRows<K, R>,
    /// Those that are scored in a call.
    taken: VecDeque<(EventTime, R)>,
    features: Arc<F>,
}

impl<K: Key, R: Data, F> Requests<K, R, F> {
    pub(super) fn new(features: Arc<F>) -> Self {
        Requests { waiting: TimedRows::new(), taken: VecDeque::new(), features }
    }
}

impl<K, V, L, R, F> Scoring<K, V, L> for Requests<K, R, F>
where
    K: Key,
    V: Data,
    L: Predict,
    R: Data,
    F: Fn(&R) -> L::Features + 'static,
{
    type Row = R;
    type Prediction = L::Prediction;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("requests", &mut self.waiting);
    }

    #[inline]
    fn push(&mut self, key: HashedKey<'_, K>, time: EventTime, row: R) -> Option<EventTime> {
        self.waiting.push(key, time, row)
    }

    fn take(&mut self, key: HashedKey<'_, K>, before: Option<EventTime>) -> bool {
        let Requests { waiting, taken, .. } = self;
        taken.clear();
        super::operator::take(waiting, key, before, |time, row| taken.push_back((time, row)));
        !taken.is_empty()
    }

    fn score(
        &mut self,
        until: Option<EventTime>,
        learner: &L,
        model: &Versioned<L::Model>,
        emit: &mut impl FnMut(EventTime, R, LearnResult<L::Prediction>, u64),
    ) {
        let is_due = |time: EventTime| until.is_none_or(|until| time <= until);
        while self.taken.front().is_some_and(|(time, _)| is_due(*time))
            && let Some((time, row)) = self.taken.pop_front()
        {
            let prediction = learner.predict(&model.model, &(self.features)(&row));
            emit(time, row, prediction, model.version);
        }
    }

    fn first(&self, key: HashedKey<'_, K>) -> Option<EventTime> {
        self.waiting.first(key)
    }
}
