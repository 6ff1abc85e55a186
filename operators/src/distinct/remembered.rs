//! The operator of deduplication by event time: emits a row if its key is not remembered, and remembers it.
//!
//! Emits rows at once, with their own event time. State: the keys that are remembered, until the watermark reaches the end of each.
//! A late row, whose event time is before the watermark, is counted and emitted to output 1, and is not remembered.

use std::marker::PhantomData;
use std::vec::Drain;

use crate::build::{Dealt, Events, StatefulOperator, Takes, To};
use crate::named::{ExpiringKeys, HashedKey, NamedState, States};
use crate::state::Reach;
use crate::{Data, EventTime, Key, OperatorError};

/// How long a key is remembered, and what of it.
pub(super) trait Memory<K>: Copy + Send + Sync + 'static {
    /// What is kept for a key.
    type Value: Data;

    /// What is kept if the first row of a key is of that time.
    fn remember(self, time: EventTime) -> Self::Value;

    /// Returns the time that decides for a row of that time whether its key has been forgotten.
    fn now(self, _time: EventTime, watermark: EventTime) -> EventTime {
        watermark
    }

    /// The watermark that ends it.
    fn until(key: &K, value: &Self::Value) -> EventTime;
}

/// Input 0: rows. Output 0: those that pass; output 1: late rows.
pub(super) struct Remembered<K, T, M: Memory<K>> {
    memory: M,
    keys: ExpiringKeys<K, M::Value>,
    rows: PhantomData<fn() -> T>,
}

impl<K: Key, T: Data, M: Memory<K>> Remembered<K, T, M> {
    pub(super) fn new(memory: M) -> Self {
        Remembered { memory, keys: ExpiringKeys::new(M::until), rows: PhantomData }
    }
}

impl<K: Key, T: Data, M: Memory<K>> StatefulOperator for Remembered<K, T, M> {
    type Key = K;
    type Outputs = (Events<T>, Events<T>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("seen", &mut self.keys);
    }

    fn on_watermark(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.keys.advance(to.watermark());
        Ok(())
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.keys.epoch_end(to.watermark());
        Ok(())
    }
}

impl<K: Key, T: Data, M: Memory<K>> Takes<0> for Remembered<K, T, M> {
    type Row = Dealt<K, T>;

    fn take(&mut self, mut rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let mut late = 0;
        while let fetched @ 1.. = fetch(self.keys.reach(), rows.as_slice()) {
            for Dealt { hash, key, time, value } in rows.by_ref().take(fetched) {
                if time < watermark {
                    late += 1;
                    to.out.1.push(time, value);
                    continue;
                }
                let (end, now) = (self.memory.remember(time), self.memory.now(time, watermark));
                if self.keys.add(HashedKey { hash, key: &key }, end, now) {
                    to.out.0.push(time, value);
                }
            }
        }
        to.count_late(late);
        Ok(())
    }
}

/// Returns how many of these rows to process until the next call. Has the entries of their keys fetched, so that look-ups do not
/// wait for memory one after the other.
#[inline]
pub(super) fn fetch<K, T>(reach: Option<Reach>, rows: &[Dealt<K, T>]) -> usize {
    let rows = rows.get(..Reach::AHEAD).unwrap_or(rows);
    if let Some(reach) = reach {
        rows.iter().for_each(|row| reach.fetch(row.hash));
    }
    rows.len()
}
