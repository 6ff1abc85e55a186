//! The operator that orders examples and requests by event time, and keeps a model per key.

use std::error::Error;
use std::sync::Arc;
use std::vec::Drain;

use serde::{Deserialize, Serialize};

use super::scoring::{Requests, Scoring};
use super::{Learner, ModelVersion, Predict, Scored};
use crate::build::{Dealt, Events, Outputs, Rows, StatefulOperator, Takes, To, Upserts};
use crate::keeping::copying;
use crate::named::{HashedKey, States, TimedRows, Timer, ValueState};
use crate::process::{Failed, FailedCall, of_key};
use crate::{Data, EventTime, Key, OperatorError};

/// A model with the number of examples that it has learned.
#[derive(Serialize, Deserialize)]
pub(super) struct Versioned<M> {
    pub(super) version: u64,
    pub(super) model: M,
}

/// Input 0: examples; input 1, with [`Requests`]: rows to score. Outputs: models, scored rows, failed examples and requests, late
/// examples and requests.
pub(super) struct Learning<K, V, L: Learner, S, E> {
    examples: TimedRows<K, V>,
    models: ValueState<K, Versioned<L::Model>>,
    scoring: S,
    learner: Arc<L>,
    example: Arc<E>,
    /// Whether a row that fails leaves by an output, or fails the query.
    diverts: bool,
    /// Memory for the examples that are learned in a call.
    due: Vec<(EventTime, V)>,
}

type Out<K, V, L, S> = (
    Upserts<ModelVersion<K, <L as Learner>::Model>>,
    Events<Scored<K, <S as Scoring<K, V, L>>::Row, <S as Scoring<K, V, L>>::Prediction>>,
    Rows<Failed<K, V>>,
    Rows<Failed<K, <S as Scoring<K, V, L>>::Row>>,
    Events<V>,
    Events<<S as Scoring<K, V, L>>::Row>,
);

/// The streams of the outputs.
pub(super) type Streams<K, V, L, S> = <Out<K, V, L, S> as Outputs>::Streams;

impl<K: Key, V: Data, L: Learner, S, E> Learning<K, V, L, S, E> {
    pub(super) fn new(learner: Arc<L>, example: Arc<E>, scoring: S, diverts: bool) -> Self {
        let (examples, models) = (TimedRows::new(), ValueState::new());
        Learning { examples, models, scoring, learner, example, diverts, due: Vec::new() }
    }
}

/// Takes the rows of a key before a time out of a buffer, or all of them.
pub(super) fn take<K: Key, V: Data>(
    rows: &mut TimedRows<K, V>,
    key: HashedKey<'_, K>,
    before: Option<EventTime>,
    gone: impl FnMut(EventTime, V),
) {
    match before {
        Some(before) => rows.take_before(key, ..before, gone),
        None => rows.take(key, EventTime::MIN..=EventTime::MAX, gone),
    }
}

/// The time after a row's: once the watermark is there, no row of the same time can come.
fn after(time: EventTime) -> EventTime {
    EventTime::from_micros(time.as_micros().saturating_add(1))
}

/// Sets a timer for a row that has come, if the key has none that fires by then: `latest` is the time of the last row before.
macro_rules! set_timer {
    ($to:ident, $key:ident, $time:ident, $latest:expr) => {
        if $latest.is_none_or(|latest| $time < latest) {
            $to.timers.set_event($key, after($time));
        }
    };
}

/// Brings rows of the same time into the order of their bytes.
fn order_ties<V: Data>(rows: &mut [(EventTime, V)]) -> Result<(), OperatorError> {
    let mut failed = None;
    for ties in rows.chunk_by_mut(|one, next| one.0 == next.0).filter(|ties| ties.len() > 1) {
        ties.sort_by_cached_key(|(_, row)| {
            postcard::to_allocvec(row).unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            })
        });
    }
    failed.map_or(Ok(()), |error| Err(OperatorError::Codec(error)))
}

/// Emits a row that has failed, or fails the query.
#[cold]
fn reject<K: Key, T: Send + 'static>(
    to: Option<&mut Rows<Failed<K, T>>>,
    key: &K,
    time: EventTime,
    row: T,
    error: Box<dyn Error + Send + Sync>,
) -> Result<(), OperatorError> {
    let Some(to) = to else { return Err(of_key(key, error)) };
    to.push(Failed { key: key.clone(), time, call: FailedCall::Row(row), error: error.to_string() });
    Ok(())
}

impl<K, V, L, S, E> StatefulOperator for Learning<K, V, L, S, E>
where
    K: Key,
    V: Data,
    L: Learner,
    S: Scoring<K, V, L>,
    E: Fn(&V) -> L::Example + 'static,
{
    type Key = K;
    type Outputs = Out<K, V, L, S>;

    fn state(&mut self, states: &mut States<'_>) {
        states.add("examples", &mut self.examples);
        states.add("models", &mut self.models);
        self.scoring.state(states);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let before = Some(to.watermark()).filter(|watermark| *watermark < EventTime::MAX);
        let Learning { examples, models, scoring, learner, example, diverts, due } = self;
        let (emitted, scores, failed, failed_requests, ..) = &mut *to.out;
        take(examples, key, before, |time, row| due.push((time, row)));
        order_ties(due)?;
        let has_requests = scoring.take(key, before);

        // The first error ends the query, unless failed rows are emitted.
        let mut error = Ok(());
        let mut emit = |time, row, prediction, version| match prediction {
            Ok(prediction) => {
                scores.push(time, Scored { key: key.key.clone(), row, prediction, version });
            }
            Err(cause) if error.is_ok() => {
                error = reject(diverts.then_some(&mut *failed_requests), key.key, time, row, cause);
            }
            Err(_) => {}
        };
        if due.is_empty() {
            if has_requests {
                match models.get(key) {
                    Some(model) => scoring.score(None, learner, model, &mut emit),
                    None => {
                        let start = Versioned { version: 0, model: learner.start() };
                        scoring.score(None, learner, &start, &mut emit);
                    }
                }
            }
        } else {
            let model = models.get_or_insert_with(key, || Versioned { version: 0, model: learner.start() });
            let version = model.version;
            for (time, row) in due.drain(..) {
                scoring.score(Some(time), learner, model, &mut emit);
                let example = example(&row);
                let learned = scoring.test(learner, &model.model, &example).and_then(|prediction| {
                    copying(|| learner.learn(&mut model.model, &example))?;
                    Ok(prediction)
                });
                match learned {
                    Ok(prediction) => {
                        if let Some(prediction) = prediction
                            && let Some(row) = S::tested(row)
                        {
                            emit(time, row, Ok(prediction), model.version);
                        }
                        model.version += 1;
                    }
                    Err(cause) => reject(diverts.then_some(&mut *failed), key.key, time, row, cause)?,
                }
            }
            scoring.score(None, learner, model, &mut emit);
            if model.version > version {
                let (version, model) = (model.version, model.model.clone());
                emitted.push(ModelVersion { key: key.key.clone(), version, model });
            } else if version == 0 {
                models.remove(key);
            }
        }
        error?;
        let first = [self.examples.first(key), self.scoring.first(key)];
        for time in first.into_iter().flatten() {
            to.timers.set_event(key, after(time));
        }
        Ok(())
    }
}

impl<K, V, L, S, E> Takes<0> for Learning<K, V, L, S, E>
where
    K: Key,
    V: Data,
    L: Learner,
    S: Scoring<K, V, L>,
    E: Fn(&V) -> L::Example + 'static,
{
    type Row = Dealt<K, V>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for Dealt { hash, key, time, value } in rows {
            if time < watermark {
                to.count_late(1);
                to.out.4.push(time, value);
                continue;
            }
            let key = HashedKey { hash, key: &key };
            set_timer!(to, key, time, self.examples.push(key, time, value));
        }
        Ok(())
    }
}

impl<K, V, L, R, F, E> Takes<1> for Learning<K, V, L, Requests<K, R, F>, E>
where
    K: Key,
    V: Data,
    L: Predict,
    R: Data,
    F: Fn(&R) -> L::Features + 'static,
    E: Fn(&V) -> L::Example + 'static,
{
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for Dealt { hash, key, time, value } in rows {
            if time < watermark {
                to.count_late(1);
                to.out.5.push(time, value);
                continue;
            }
            let key = HashedKey { hash, key: &key };
            let latest = Scoring::<K, V, L>::push(&mut self.scoring, key, time, value);
            set_timer!(to, key, time, latest);
        }
        Ok(())
    }
}
