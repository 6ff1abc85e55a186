//! The as-of join of a stream with the versions of a changing table: inner and left outer.
//!
//! A left row is buffered until the watermark proves that the version of its event time is known, and is then emitted with that
//! version and its own event time. State: left rows ahead of the watermark, and for each key the versions that they can need,
//! of which the last one stays. A late row of either side is counted and emitted to the late output of its side.

use std::marker::PhantomData;
use std::ops::Bound;
use std::vec::Drain;

use super::Sides;
use super::bounds::{LEAST_GRAIN, round_up, shift};
use super::pairs::{Inner, Kind, LeftOuter};
use crate::build::{Dealt, Events, OperatorBuilder, StatefulOperator, Takes, To};
use crate::named::{HashedKey, MapState, States, TimedRows, Timer};
use crate::{Data, EventStream, EventTime, Key, OperatorError};

/// A join with the versions of a table that waits for its kind: see [`Join::as_of`](super::Join::as_of).
///
/// A right row is a version of its key, valid from its event time until that of the next version. A left row matches the version
/// that is valid at its event time: one that begins at the same instant is.
///
/// | kind | emits |
/// |---|---|
/// | [`inner`](Self::inner) | each left row with its version |
/// | [`left_outer`](Self::left_outer) | also left rows before the first version of their key |
///
/// A left row is emitted, with its own event time, when the watermark has passed that: no version can come then that is valid
/// at that time. The watermark is the lesser one of both inputs, so a table that seldom changes holds it back: give its stream
/// [`idle_after`](crate::Stream::idle_after).
///
/// Of two versions with one event time the one that comes last counts: versions of a key must come in order, or differ in time.
///
/// **Late rows.** A row is late if its event time is before the watermark. It is counted: a late left row is not emitted, and a
/// late version is not valid for any row. The methods that end in `_with_late` return late rows of each side as a stream of
/// their own.
///
/// **State.** Left rows ahead of the watermark, the versions that are valid there, and the last version of every key.
///
/// The idea is SQL's temporal table join, as in Flink.
#[must_use = "a join does nothing until it has a kind, `.inner()` or another, and ends in a sink"]
pub struct TemporalJoin<K, L, R> {
    inputs: OperatorBuilder<Sides<K, L, R>>,
}

impl<K, L, R> std::fmt::Debug for TemporalJoin<K, L, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporalJoin").field("inputs", &self.inputs).finish()
    }
}

/// The result of a join and the late rows of its sides.
type WithLate<T, L, R> = (EventStream<T>, EventStream<L>, EventStream<R>);

impl<K: Key, L: Data + Clone, R: Data + Clone> TemporalJoin<K, L, R> {
    pub(super) fn new(inputs: OperatorBuilder<Sides<K, L, R>>) -> Self {
        TemporalJoin { inputs }
    }

    /// Emits each left row that has a version.
    pub fn inner(self) -> EventStream<(K, L, R)> {
        self.inner_with_late().0
    }

    /// As [`inner`](Self::inner), with the late rows of the left and of the right side.
    pub fn inner_with_late(self) -> WithLate<(K, L, R), L, R> {
        self.of::<Inner>()
    }

    /// Emits each left row, with its version if it has one.
    pub fn left_outer(self) -> EventStream<(K, L, Option<R>)> {
        self.left_outer_with_late().0
    }

    /// As [`left_outer`](Self::left_outer), with the late rows of the left and of the right side.
    pub fn left_outer_with_late(self) -> WithLate<(K, L, Option<R>), L, R> {
        self.of::<LeftOuter>()
    }

    fn of<J: Kind<K, L, R>>(self) -> WithLate<J::Row, L, R> {
        self.inputs.named("temporal_join").setting("kind", J::NAME).stateful(|_| Temporal::<K, L, R, J> {
            left: TimedRows::new(),
            versions: MapState::new(),
            kind: PhantomData,
        })
    }
}

/// Input 0: the left side; input 1: the versions. Output 0: the result; 1 and 2: late rows of the left and of the right side.
struct Temporal<K, L, R, J> {
    left: TimedRows<K, L>,
    versions: MapState<K, EventTime, R>,
    kind: PhantomData<fn() -> J>,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Temporal<K, L, R, J> {
    /// Evicts the versions that end before the watermark.
    fn evict(&mut self, key: HashedKey<'_, K>, watermark: EventTime) {
        let last_two: [Option<EventTime>; 2] = {
            let mut valid = self.versions.range(key, ..=watermark).rev().map(|(time, _)| *time);
            [valid.next(), valid.next()]
        };
        if let [Some(last), Some(_)] = last_two {
            self.versions.retain_range(key, ..last, |_, _| false);
        }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> StatefulOperator for Temporal<K, L, R, J> {
    type Key = K;
    type Outputs = (Events<J::Row>, Events<L>, Events<R>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("left", &mut self.left);
        states.add("versions", &mut self.versions);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let Temporal { left, versions, .. } = self;
        let emit = |time: EventTime, row: L| {
            let joined = match versions.range(key, ..=time).next_back() {
                Some((_, version)) => Some(J::pair(key.key, &row, version)),
                None => J::left(key.key, row),
            };
            if let Some(joined) = joined {
                to.out.0.push(time, joined);
            }
        };
        if watermark == EventTime::MAX {
            left.take(key, EventTime::MIN..=EventTime::MAX, emit);
        } else {
            left.take_before(key, ..watermark, emit);
        }
        self.evict(key, watermark);
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Takes<0> for Temporal<K, L, R, J> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for Dealt { hash, key, time, value } in rows {
            if time < watermark {
                to.count_late(1);
                to.out.1.push(time, value);
                continue;
            }
            let key = HashedKey { hash, key: &key };
            if self.left.push(key, time, value) != Some(time) {
                to.timers.set_event(key, shift(time, 1));
            }
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Takes<1> for Temporal<K, L, R, J> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for Dealt { hash, key, time, value } in rows {
            if time < watermark {
                to.count_late(1);
                to.out.2.push(time, value);
                continue;
            }
            let key = HashedKey { hash, key: &key };
            self.versions.insert(key, time, value);
            // A version can go when the watermark has reached the next one.
            if self.versions.range(key, ..time).next_back().is_some() {
                to.timers.set_event(key, round_up(time, LEAST_GRAIN));
            }
            let later = (Bound::Excluded(time), Bound::Unbounded);
            if let Some((next, _)) = self.versions.range(key, later).next() {
                to.timers.set_event(key, round_up(*next, LEAST_GRAIN));
            }
        }
        Ok(())
    }
}
