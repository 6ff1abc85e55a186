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
use super::buffer::{Buffer, LastOf};
use crate::build::{Dealt, Events, StatefulOperator, Takes, To};
use crate::named::{HashedKey, OfKey, States, Timer};
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
    buffer: Buffer<K, L, R>,
    kind: PhantomData<fn() -> J>,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Pairs<K, L, R, J> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Pairs { bounds, buffer: Buffer::new(bounds), kind: PhantomData }
    }

    /// Evicts rows of a key; emits those that nothing has matched, if such rows are emitted.
    #[inline]
    fn evict(key: &K, of_key: &mut OfKey<'_, K, L, R>, [left, right]: LastOf, out: &mut Events<J::Row>) {
        of_key.left().evict(left, |time, row, is_matched| {
            if J::LEFT
                && !is_matched
                && let Some(alone) = J::left(key, row)
            {
                out.push(time, alone);
            }
        });
        of_key.right().evict(right, |time, row, is_matched| {
            if J::RIGHT
                && !is_matched
                && let Some(alone) = J::right(key, row)
            {
                out.push(time, alone);
            }
        });
    }

    /// Checks a left row that a sweep has evicted: had it to be emitted, the key's timer would have done so before.
    fn check_left(_: L, is_matched: bool) {
        debug_assert!(is_matched || !J::LEFT, "a left row without a match has no timer");
    }

    /// Checks a right row, as [`check_left`](Self::check_left).
    fn check_right(_: R, is_matched: bool) {
        debug_assert!(is_matched || !J::RIGHT, "a right row without a match has no timer");
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
        self.buffer.watermark(to.watermark(), Self::check_left, Self::check_right);
        Ok(())
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.buffer.epoch_end(to.watermark(), Self::check_left, Self::check_right);
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Takes<0> for Pairs<K, L, R, J> {
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
                let mut is_matched = false;
                let matched = |at: EventTime, right: &R| {
                    is_matched = true;
                    out.push(time.max(at), J::pair(&key, &value, right));
                };
                if J::RIGHT {
                    of_key.right().matches::<true>(self.bounds.of_left(time), matched);
                } else {
                    of_key.right().matches::<false>(self.bounds.of_left(time), matched);
                }
                if is_open {
                    if J::LEFT && !is_matched {
                        to.timers.set_event(hashed, due);
                    }
                    of_key.left().push(time, value, is_matched);
                } else if !is_matched && let Some(alone) = J::left(&key, value) {
                    out.push(time, alone);
                }
                of_key.close();
            }
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, J: Kind<K, L, R>> Takes<1> for Pairs<K, L, R, J> {
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
                let due = self.buffer.due_of_right(time);
                let (out, hashed) = (&mut to.out.0, HashedKey { hash, key: &key });
                let mut of_key = self.buffer.open(hashed);
                Self::evict(&key, &mut of_key, last, out);
                let mut is_matched = false;
                let matched = |at: EventTime, left: &L| {
                    is_matched = true;
                    out.push(time.max(at), J::pair(&key, left, &value));
                };
                if J::LEFT {
                    of_key.left().matches::<true>(self.bounds.of_right(time), matched);
                } else {
                    of_key.left().matches::<false>(self.bounds.of_right(time), matched);
                }
                if is_open {
                    if J::RIGHT && !is_matched {
                        to.timers.set_event(hashed, due);
                    }
                    of_key.right().push(time, value, is_matched);
                } else if !is_matched && let Some(alone) = J::right(&key, value) {
                    out.push(time, alone);
                }
                of_key.close();
            }
        }
        Ok(())
    }
}
