//! The interval join that emits left rows: semi, those that something matches; anti, those that nothing matches.
//!
//! Each left row is emitted at most once, with its own event time: by a semi join when the first match comes, by an anti join
//! once the watermark proves that none can. State: right rows that a later left row can match, and left rows without a match. A late
//! row is counted and emitted to the late output of its side.

use std::vec::Drain;

use super::Bounds;
use super::bounds::shift;
use super::buffer::{Buffer, LastOf};
use crate::build::{Dealt, Events, StatefulOperator, Takes, To};
use crate::named::{HashedKey, OfKey, States, Timer};
use crate::{Data, EventTime, Key, OperatorError};

/// Input 0: the left side; input 1: the right side. Output 0: left rows; 1 and 2: late rows of the left and of the right side.
pub(super) struct Semi<K, L, R, const ANTI: bool> {
    bounds: Bounds,
    /// Left rows without a match, and right rows.
    buffer: Buffer<K, L, R>,
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Semi<K, L, R, ANTI> {
    pub(super) const NAME: &'static str = if ANTI { "anti" } else { "semi" };

    pub(super) fn new(bounds: Bounds) -> Self {
        Semi { bounds, buffer: Buffer::new(bounds) }
    }

    /// Evicts rows of a key; an anti join emits the left ones.
    #[inline]
    fn evict(key: &K, of_key: &mut OfKey<'_, K, L, R>, [left, right]: LastOf, out: &mut Events<(K, L)>) {
        of_key.left().evict(left, |time, row, _| {
            if ANTI {
                out.push(time, (key.clone(), row));
            }
        });
        of_key.right().evict(right, |_, _, _| ());
    }

    /// Checks a left row that a sweep has evicted: an anti join emits it by the key's timer before.
    fn check_left(_: L, _is_matched: bool) {
        debug_assert!(!ANTI, "a left row has no timer");
    }
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> StatefulOperator for Semi<K, L, R, ANTI> {
    type Key = K;
    type Outputs = (Events<(K, L)>, Events<L>, Events<R>);

    const DERIVES_WATERMARK: bool = true;

    fn output_watermark(&self, watermark: EventTime) -> EventTime {
        shift(watermark, -self.bounds.reach_of_left().max(0))
    }

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", self.buffer.state());
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let last = self.buffer.last_of(to.watermark());
        let mut of_key = self.buffer.open(key);
        Self::evict(key.key, &mut of_key, last, &mut to.out.0);
        of_key.close();
        Ok(())
    }

    fn on_watermark(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.buffer.watermark(to.watermark(), Self::check_left, |_, _| ());
        Ok(())
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.buffer.epoch_end(to.watermark(), Self::check_left, |_, _| ());
        Ok(())
    }
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Takes<0> for Semi<K, L, R, ANTI> {
    type Row = Dealt<K, L>;

    fn take(&mut self, mut rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let last = self.buffer.last_of(watermark);
        while let fetched @ 1.. = self.buffer.fetch(rows.as_slice()) {
            for Dealt { hash, key, time, value } in rows.by_ref().take(fetched) {
                if time < watermark {
                    to.count_late(1);
                    to.out.1.push(time, value);
                    continue;
                }
                let is_open = self.buffer.is_left_open(time, watermark);
                let due = self.buffer.due_of_left(time);
                let (out, hashed) = (&mut to.out.0, HashedKey { hash, key: &key });
                let mut of_key = self.buffer.open(hashed);
                Self::evict(&key, &mut of_key, last, out);
                let is_matched = of_key.right().any(self.bounds.of_left(time));
                if !is_matched && is_open {
                    if ANTI {
                        to.timers.set_event(hashed, due);
                    }
                    of_key.left().push(time, value, is_matched);
                    of_key.close();
                } else {
                    of_key.close();
                    if is_matched != ANTI {
                        out.push(time, (key, value));
                    }
                }
            }
        }
        Ok(())
    }
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Takes<1> for Semi<K, L, R, ANTI> {
    type Row = Dealt<K, R>;

    fn take(&mut self, mut rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        let last = self.buffer.last_of(watermark);
        while let fetched @ 1.. = self.buffer.fetch(rows.as_slice()) {
            for Dealt { hash, key, time, value } in rows.by_ref().take(fetched) {
                if time < watermark {
                    to.count_late(1);
                    to.out.2.push(time, value);
                    continue;
                }
                let is_open = self.buffer.is_right_open(time, watermark);
                let (out, hashed) = (&mut to.out.0, HashedKey { hash, key: &key });
                let mut of_key = self.buffer.open(hashed);
                Self::evict(&key, &mut of_key, last, out);
                of_key.left().take(self.bounds.of_right(time), |time, left, _| {
                    if !ANTI {
                        out.push(time, (key.clone(), left));
                    }
                });
                if is_open {
                    of_key.right().push(time, value, true);
                }
                of_key.close();
            }
        }
        Ok(())
    }
}
