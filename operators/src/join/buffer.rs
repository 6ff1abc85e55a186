//! Both sides of an interval join: the rows of each key by event time, until no row can come that matches them.
//!
//! A row is evicted when the watermark has passed its time and the reach of its side. That needs no timer: rows of a key are
//! evicted when the key's next row comes, and those of keys without new rows by a sweep, which looks at some places of the table
//! whenever the watermark advances, more the more rows have come. So the table holds little more than the rows that can
//! match. Only a row that is to be emitted when it is evicted has a timer.

use serde::{Deserialize, Serialize};

use super::Bounds;
use super::bounds::shift;
use crate::build::Dealt;
use crate::named::{HashedKey, NamedState, RowsOfKey, SidedId, SidedRows};
use crate::state::Reach;
use crate::{Data, EventTime, Key};

/// The number of the left side, and of the right one.
pub(super) const LEFT: u8 = 0;
pub(super) const RIGHT: u8 = 1;

/// Places to look at for each row that has come.
const PLACES_PER_ROW: usize = 4;
/// Places to look at when the watermark advances, and at the end of an epoch.
const PLACES: usize = 16;
const PLACES_PER_EPOCH: usize = 4_096;

/// A row of either side.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Side<L, R> {
    Left(L),
    Right(R),
}

/// A row, and whether another one has matched it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Buffered<L, R> {
    pub(super) row: Side<L, R>,
    pub(super) is_matched: bool,
}

/// The rows of both sides.
pub(super) struct Buffer<K, L, R> {
    rows: SidedRows<K, Buffered<L, R>>,
    /// How much later than a row of each side, in microseconds, the last row of the other side is that matches it.
    reach: [i64; 2],
    /// How much the watermark advances from the begin of a sweep to that of the next, in microseconds.
    pause: i64,
    /// The place that the present sweep has reached.
    place: Option<usize>,
    /// From which watermark on the next sweep begins.
    next: EventTime,
    /// Places to look at for rows that have come.
    debt: usize,
}

/// The rows of both sides of one key.
pub(super) type OfKey<'b, K, L, R> = RowsOfKey<'b, K, Buffered<L, R>>;

impl<K: Key, L: Data, R: Data> Buffer<K, L, R> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Buffer {
            rows: SidedRows::new(),
            reach: [bounds.reach_of_left(), bounds.reach_of_right()],
            pause: bounds.width().max(1),
            place: None,
            next: EventTime::MIN,
            debt: 0,
        }
    }

    pub(super) fn state(&mut self) -> &mut dyn NamedState {
        &mut self.rows
    }

    /// Returns how many of these rows to process until the next call. Has the memory of their keys fetched, so that look-ups
    /// do not wait for memory one after the other.
    #[inline]
    pub(super) fn fetch<T>(&self, rows: &[Dealt<K, T>]) -> usize {
        let rows = rows.get(..Reach::AHEAD).unwrap_or(rows);
        self.rows.fetch(rows.iter().map(Dealt::hashed));
        rows.len()
    }

    /// Finds the rows of a key for a row that has come, and evicts those that no row at or after the watermark matches. They
    /// are passed to `gone`. [`close`](RowsOfKey::close) must be called at the end.
    #[inline]
    pub(super) fn open(
        &mut self,
        key: HashedKey<'_, K>,
        watermark: EventTime,
        mut gone: impl FnMut(EventTime, Buffered<L, R>),
    ) -> OfKey<'_, K, L, R> {
        self.debt += PLACES_PER_ROW;
        let mut of_key = self.rows.open(key);
        for (side, last) in [LEFT, RIGHT].into_iter().zip(last_of(self.reach, watermark)) {
            if let Some(last) = last {
                of_key.take(side, EventTime::MIN..=last, |id, row| gone(id.1, row));
            }
        }
        of_key
    }

    /// Whether a row of a side can match one that is still to come.
    #[inline]
    pub(super) fn is_open(&self, side: u8, time: EventTime, watermark: EventTime) -> bool {
        shift(time, self.reach_of(side)) >= watermark
    }

    /// The first watermark that proves that nothing can match a row of a side.
    #[inline]
    pub(super) fn due(&self, side: u8, time: EventTime) -> EventTime {
        shift(shift(time, self.reach_of(side)), 1)
    }

    #[inline]
    fn reach_of(&self, side: u8) -> i64 {
        let [left, right] = self.reach;
        if side == LEFT { left } else { right }
    }

    /// Evicts rows of some keys when the watermark has advanced, at the end of time those of all. Rows that are to be emitted
    /// have had their timer before.
    pub(super) fn watermark(&mut self, watermark: EventTime, mut gone: impl FnMut(SidedId, Buffered<L, R>)) {
        if watermark == EventTime::MAX {
            self.place = None;
            self.rows.sweep(0, usize::MAX, [Some(EventTime::MAX); 2], gone);
            return;
        }
        if self.place.is_none() && watermark >= self.next {
            (self.place, self.next) = (Some(0), shift(watermark, self.pause));
        }
        let places = std::mem::take(&mut self.debt) + PLACES;
        self.sweep(watermark, places, &mut gone);
    }

    /// Goes on with a sweep at the end of an epoch.
    pub(super) fn epoch_end(&mut self, watermark: EventTime, gone: impl FnMut(SidedId, Buffered<L, R>)) {
        self.sweep(watermark, PLACES_PER_EPOCH, gone);
    }

    fn sweep(&mut self, watermark: EventTime, places: usize, gone: impl FnMut(SidedId, Buffered<L, R>)) {
        if let Some(place) = self.place {
            self.place = self.rows.sweep(place, places, last_of(self.reach, watermark), gone);
        }
    }
}

/// The time of the last row of each side that no row at or after the watermark matches; `None` if all are too young.
#[inline]
fn last_of(reach: [i64; 2], watermark: EventTime) -> [Option<EventTime>; 2] {
    reach.map(|reach| {
        if watermark == EventTime::MAX {
            return Some(EventTime::MAX);
        }
        let first_open = watermark.as_micros().saturating_sub(reach);
        first_open.checked_sub(1).map(EventTime::from_micros)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    fn buffer() -> Buffer<u32, u32, u32> {
        Buffer::new(Bounds::between(Duration::from_micros(100), Duration::from_micros(200)))
    }

    fn push(buffer: &mut Buffer<u32, u32, u32>, key: u32, side: u8, time: i64, watermark: i64) {
        let mut of_key = buffer.open(HashedKey::of(&key), at(watermark), |_, _| ());
        let row = if side == LEFT { Side::Left(key) } else { Side::Right(key) };
        of_key.push(side, at(time), Buffered { row, is_matched: false });
        of_key.close();
    }

    #[test]
    fn last_evicted_row_is_the_one_before_the_first_that_can_match() {
        for (reach, watermark) in [(0, 7), (5, 7), (-5, 7), (9, -3)] {
            let [last, _] = last_of([reach; 2], at(watermark));
            let last = last.unwrap();
            assert!(shift(last, reach) < at(watermark) && shift(shift(last, 1), reach) >= at(watermark));
        }
        assert_eq!(last_of([0, 1], EventTime::MIN), [None, None]);
        assert_eq!(last_of([0, i64::MAX], EventTime::MAX), [Some(EventTime::MAX); 2]);
    }

    #[test]
    fn rows_of_silent_keys_are_evicted_while_other_keys_have_rows() {
        let mut buffer = buffer();
        (0..1_000).for_each(|key| push(&mut buffer, key, (key % 2) as u8, 0, -1_000));
        assert_eq!(buffer.rows.rows(), 1_000);
        // Each of these pays for a few places.
        for step in 0..2_000 {
            push(&mut buffer, 5_000, LEFT, step, step);
            buffer.watermark(at(step), |_, _| ());
        }
        let left = buffer.rows.rows();
        assert!(left <= 201, "{left} rows");
    }

    #[test]
    fn rows_of_silent_keys_are_evicted_by_epochs_without_rows() {
        let mut buffer = buffer();
        (0..1_000).for_each(|key| push(&mut buffer, key, (key % 2) as u8, 0, -1_000));
        buffer.watermark(at(150), |id, _| assert_eq!(id.0, RIGHT));
        (0..10).for_each(|_| buffer.epoch_end(at(150), |id, _| assert_eq!(id.0, RIGHT)));
        assert_eq!(buffer.rows.rows(), 500, "a right row reaches 100 us, a left one 200");
        buffer.watermark(EventTime::MAX, |_, _| ());
        assert_eq!(buffer.rows.rows(), 0);
    }
}
