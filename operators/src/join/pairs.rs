//! The interval join that emits pairs: inner, and the outer ones.
//!
//! A row is matched against the buffered rows of the other side when it comes, and each pair is emitted at once, with the
//! later of both event times. A row that nothing has matched is emitted once the watermark proves that nothing can, with its
//! own event time. State: the rows of both sides that a later row can match, each with a flag that tells whether one has. A late
//! row, one older than the watermark, is counted and emitted to the late output of its side.

use std::marker::PhantomData;
use std::vec::Drain;

use super::Bounds;
use super::bounds::shift;
use super::buffer::Buffer;
use crate::build::{Dealt, Events, StatefulOperator, Takes, To};
use crate::named::{HashedKey, States, Timer};
use crate::{Data, EventTime, Key, OperatorError};

/// Which rows a join emits, and what they look like.
pub(super) trait Kind<K, L, R>: 'static {
    /// What the join is called in settings.
    const NAME: &'static str;
    /// Whether left rows that nothing matches are emitted.
    const LEFT: bool;
    /// Whether right rows that nothing matches are emitted.
    const RIGHT: bool;
    /// A row of the result.
    type Row: Send + 'static;

    fn pair(key: &K, left: &L, right: &R) -> Self::Row;

    /// A left row that nothing matches, if such rows are emitted.
    fn left(key: &K, left: L) -> Option<Self::Row>;

    /// A right row that nothing matches.
    fn right(key: &K, right: R) -> Option<Self::Row>;
}

/// Only pairs.
pub(super) enum Inner {}
/// Pairs, and left rows that nothing matches.
pub(super) enum LeftOuter {}
/// Pairs, and right rows that nothing matches.
pub(super) enum RightOuter {}
/// Pairs, and rows of both sides that nothing matches.
pub(super) enum FullOuter {}

macro_rules! kind {
    ($kind:ident, $name:literal, $emits_left:literal, $emits_right:literal, $row:ty,
     |$k:ident, $l:ident, $r:ident| $pair:expr, $left:expr, $right:expr) => {
        impl<K, L, R> Kind<K, L, R> for $kind
        where
            K: Clone + Send + 'static,
            L: Clone + Send + 'static,
            R: Clone + Send + 'static,
        {
            const NAME: &'static str = $name;
            const LEFT: bool = $emits_left;
            const RIGHT: bool = $emits_right;
            type Row = $row;

            #[inline]
            fn pair($k: &K, $l: &L, $r: &R) -> Self::Row {
                $pair
            }

            fn left($k: &K, $l: L) -> Option<Self::Row> {
                $left
            }

            fn right($k: &K, $r: R) -> Option<Self::Row> {
                $right
            }
        }
    };
}

kind!(
    Inner,
    "inner",
    false,
    false,
    (K, L, R),
    |k, l, r| (k.clone(), l.clone(), r.clone()),
    {
        let _ = (k, l);
        None
    },
    {
        let _ = (k, r);
        None
    }
);
kind!(
    LeftOuter,
    "left outer",
    true,
    false,
    (K, L, Option<R>),
    |k, l, r| (k.clone(), l.clone(), Some(r.clone())),
    Some((k.clone(), l, None)),
    {
        let _ = (k, r);
        None
    }
);
kind!(
    RightOuter,
    "right outer",
    false,
    true,
    (K, Option<L>, R),
    |k, l, r| (k.clone(), Some(l.clone()), r.clone()),
    {
        let _ = (k, l);
        None
    },
    Some((k.clone(), None, r))
);
kind!(
    FullOuter,
    "full outer",
    true,
    true,
    (K, Option<L>, Option<R>),
    |k, l, r| (k.clone(), Some(l.clone()), Some(r.clone())),
    Some((k.clone(), Some(l), None)),
    Some((k.clone(), None, Some(r)))
);

/// Input 0: the left side; input 1: the right side. Output 0: the result; 1 and 2: late rows of the left and of the right side.
pub(super) struct Pairs<K, L, R, J> {
    bounds: Bounds,
    left: Buffer<K, L>,
    right: Buffer<K, R>,
    kind: PhantomData<fn() -> J>,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Pairs<K, L, R, J> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Pairs {
            bounds,
            left: Buffer::new(bounds.reach_of_left(), bounds.grain(J::LEFT)),
            right: Buffer::new(bounds.reach_of_right(), bounds.grain(J::RIGHT)),
            kind: PhantomData,
        }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> StatefulOperator for Pairs<K, L, R, J> {
    type Key = K;
    type Outputs = (Events<J::Row>, Events<L>, Events<R>);

    const DERIVES_WATERMARK: bool = J::LEFT || J::RIGHT;

    fn output_watermark(&self, watermark: EventTime) -> EventTime {
        let left = if J::LEFT { self.bounds.reach_of_left() } else { 0 };
        let right = if J::RIGHT { self.bounds.reach_of_right() } else { 0 };
        shift(watermark, -left.max(right).max(0))
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
        let out = &mut to.out.0;
        self.left.evict(key, watermark, |time, row| {
            if let Some(row) = J::left(key.key, row) {
                out.push(time, row);
            }
        });
        self.right.evict(key, watermark, |time, row| {
            if let Some(row) = J::right(key.key, row) {
                out.push(time, row);
            }
        });
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Takes<0> for Pairs<K, L, R, J> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for row in rows {
            if row.time < watermark {
                to.count_late(1);
                to.out.1.push(row.time, row.value);
                continue;
            }
            let out = &mut to.out.0;
            let times = self.bounds.of_left(row.time);
            let is_matched = self.right.meet(row.hashed(), times, J::RIGHT, |time, right| {
                out.push(row.time.max(time), J::pair(&row.key, &row.value, right));
            });
            if self.left.is_open(row.time, watermark) {
                self.left.keep(row, is_matched, to.timers);
            } else if !is_matched && let Some(alone) = J::left(&row.key, row.value) {
                out.push(row.time, alone);
            }
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Takes<1> for Pairs<K, L, R, J> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let watermark = to.watermark();
        for row in rows {
            if row.time < watermark {
                to.count_late(1);
                to.out.2.push(row.time, row.value);
                continue;
            }
            let out = &mut to.out.0;
            let times = self.bounds.of_right(row.time);
            let is_matched = self.left.meet(row.hashed(), times, J::LEFT, |time, left| {
                out.push(row.time.max(time), J::pair(&row.key, left, &row.value));
            });
            if self.right.is_open(row.time, watermark) {
                self.right.keep(row, is_matched, to.timers);
            } else if !is_matched && let Some(alone) = J::right(&row.key, row.value) {
                out.push(row.time, alone);
            }
        }
        Ok(())
    }
}
