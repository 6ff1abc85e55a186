//! The interval join that emits left rows: semi, those that something matches; anti, those that nothing matches.
//!
//! Each left row is emitted at most once, with its own event time: by a semi join when the first match comes, by an anti join
//! once the watermark proves that none can. State: right rows that a later left row can match, and left rows without a match. A late
//! row is counted and emitted to the late output of its side.

use std::vec::Drain;

use super::Bounds;
use super::bounds::shift;
use super::buffer::Buffer;
use crate::build::{Dealt, Events, StatefulOperator, Takes, To};
use crate::named::{HashedKey, States, Timer};
use crate::{Data, EventTime, Key, OperatorError};

/// Input 0: the left side; input 1: the right side. Output 0: left rows; 1 and 2: late rows of the left and of the right side.
pub(super) struct Semi<K, L, R, const ANTI: bool> {
    bounds: Bounds,
    left: Buffer<K, L>,
    right: Buffer<K, R>,
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Semi<K, L, R, ANTI> {
    pub(super) const NAME: &'static str = if ANTI { "anti" } else { "semi" };

    pub(super) fn new(bounds: Bounds) -> Self {
        Semi {
            bounds,
            left: Buffer::new(bounds.reach_of_left(), bounds.grain(ANTI)),
            right: Buffer::new(bounds.reach_of_right(), bounds.grain(false)),
        }
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
        states.add("left", self.left.state());
        states.add("right", self.right.state());
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        self.left.evict(key, watermark, |time, row| {
            if ANTI {
                to.out.0.push(time, (key.key.clone(), row));
            }
        });
        self.right.evict(key, watermark, |_, _| ());
        Ok(())
    }
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Takes<0> for Semi<K, L, R, ANTI> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for row in rows {
            if row.time < watermark {
                to.count_late(1);
                to.out.1.push(row.time, row.value);
                continue;
            }
            let is_matched = self.right.has(row.hashed(), self.bounds.of_left(row.time));
            let is_open = self.left.is_open(row.time, watermark);
            if !is_matched && is_open {
                self.left.keep(row, false, to.timers);
            } else if is_matched != ANTI {
                to.out.0.push(row.time, (row.key, row.value));
            }
        }
        Ok(())
    }
}

impl<K: Key, L: Data, R: Data, const ANTI: bool> Takes<1> for Semi<K, L, R, ANTI> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for row in rows {
            if row.time < watermark {
                to.count_late(1);
                to.out.2.push(row.time, row.value);
                continue;
            }
            self.left.take(row.hashed(), self.bounds.of_right(row.time), |time, left| {
                if !ANTI {
                    to.out.0.push(time, (row.key.clone(), left));
                }
            });
            if self.right.is_open(row.time, watermark) {
                self.right.keep(row, true, to.timers);
            }
        }
        Ok(())
    }
}
