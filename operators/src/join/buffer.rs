//! One side of a join: its rows by key and event time, until no row can come that matches them.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::bounds::{round_up, shift};
use crate::build::Dealt;
use crate::named::{HashedKey, NamedState, RowId, TimedRows, Timers};
use crate::{Data, EventTime, Key};

/// A row, and whether another one has matched it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Buffered<T> {
    pub(super) row: T,
    pub(super) is_matched: bool,
}

/// The rows of one side.
///
/// A row is evicted when the watermark has passed its time and `reach`. Timers of the key see to that, one for all rows that
/// are due within `grain`: for each row there is a timer that is due when it is, or up to `grain` later.
pub(super) struct Buffer<K, T> {
    rows: TimedRows<K, Buffered<T>>,
    /// How much later than a row, in microseconds, the last row of the other side is that matches it.
    reach: i64,
    /// What the timers are rounded up to, in microseconds.
    grain: i64,
    /// Rows that have been matched for the first time.
    found: Vec<RowId>,
}

impl<K: Key, T: Data> Buffer<K, T> {
    pub(super) fn new(reach: i64, grain: i64) -> Self {
        Buffer { rows: TimedRows::new(), reach, grain: grain.max(1), found: Vec::new() }
    }

    pub(super) fn state(&mut self) -> &mut dyn NamedState {
        &mut self.rows
    }

    /// Calls with each row of the key whose time is in the range. With `marks` they are matched from now on. Returns whether there is any.
    #[inline]
    pub(super) fn meet(
        &mut self,
        key: HashedKey<'_, K>,
        times: RangeInclusive<EventTime>,
        marks: bool,
        mut with: impl FnMut(EventTime, &T),
    ) -> bool {
        let mut is_any = false;
        for (id, buffered) in self.rows.range(key, times) {
            is_any = true;
            if marks && !buffered.is_matched {
                self.found.push(id);
            }
            with(id.0, &buffered.row);
        }
        for id in self.found.drain(..) {
            if let Some(buffered) = self.rows.get_mut(key, id) {
                buffered.is_matched = true;
            }
        }
        is_any
    }

    /// Whether the key has a row whose time is in the range.
    pub(super) fn has(&self, key: HashedKey<'_, K>, times: RangeInclusive<EventTime>) -> bool {
        self.rows.range(key, times).next().is_some()
    }

    /// Removes the rows of the key whose times are in the range, and passes them to `gone`.
    pub(super) fn take(
        &mut self,
        key: HashedKey<'_, K>,
        times: RangeInclusive<EventTime>,
        mut gone: impl FnMut(EventTime, T),
    ) {
        self.rows.take(key, times, |time, buffered| gone(time, buffered.row));
    }

    /// Whether a row can match one that is still to come.
    #[inline]
    pub(super) fn is_open(&self, time: EventTime, watermark: EventTime) -> bool {
        shift(time, self.reach) >= watermark
    }

    /// Buffers a row that [`is_open`](Self::is_open).
    #[inline]
    pub(super) fn keep(&mut self, row: Dealt<K, T>, is_matched: bool, timers: &mut Timers<K>) {
        let Dealt { hash, key, time, value } = row;
        let key = HashedKey { hash, key: &key };
        let due = self.due(time);
        let latest = self.rows.push(key, time, Buffered { row: value, is_matched });
        if latest.map(|latest| self.due(latest)) != Some(due) {
            timers.set_event(key, due);
        }
    }

    /// When a row is evicted: the first watermark after `reach`, rounded up.
    #[inline]
    fn due(&self, time: EventTime) -> EventTime {
        round_up(shift(shift(time, self.reach), 1), self.grain)
    }

    /// Evicts the rows of a key that no row at or after the watermark matches, and passes those that none has matched to `unmatched`.
    pub(super) fn evict(
        &mut self,
        key: HashedKey<'_, K>,
        watermark: EventTime,
        mut unmatched: impl FnMut(EventTime, T),
    ) {
        let gone = |time, buffered: Buffered<T>| {
            if !buffered.is_matched {
                unmatched(time, buffered.row);
            }
        };
        if watermark == EventTime::MAX {
            self.rows.take(key, EventTime::MIN..=EventTime::MAX, gone);
        } else {
            let oldest = EventTime::from_micros(watermark.as_micros().saturating_sub(self.reach));
            self.rows.take_before(key, ..oldest, gone);
        }
    }
}
