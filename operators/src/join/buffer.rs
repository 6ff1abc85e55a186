//! Both sides of an interval join: the rows of each key by event time, until no row can come that matches them.
//!
//! A row is evicted when the watermark has passed its time and the reach of its side. That needs no timer: rows of a key are
//! evicted when the key's next row comes, and those of keys without new rows by a sweep, which looks at some places of the table
//! whenever the watermark advances, more the more rows have come. So the table holds little more than the rows that can
//! match. Only a row that is to be emitted when it is evicted has a timer.

use super::Bounds;
use super::bounds::shift;
use crate::build::Dealt;
use crate::named::{HashedKey, NamedState, OfKey, SidedRows};
use crate::state::Reach;
use crate::{Data, EventTime, Key};

/// Places to look at for each row that has come.
const PLACES_PER_ROW: usize = 4;
/// Places to look at when the watermark advances, and at the end of an epoch.
const PLACES: usize = 16;
const PLACES_PER_EPOCH: usize = 4_096;

/// The rows of both sides.
pub(super) struct Buffer<K, L, R> {
    rows: SidedRows<K, L, R>,
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

/// The time of the last row of each side that no row at or after a watermark matches; `None` if all are too young.
pub(super) type LastOf = [Option<EventTime>; 2];

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
    pub(super) fn fetch<T>(&mut self, rows: &[Dealt<K, T>]) -> usize {
        let rows = rows.get(..Reach::AHEAD).unwrap_or(rows);
        self.rows.fetch(rows.iter().map(Dealt::hashed));
        self.debt += PLACES_PER_ROW * rows.len();
        rows.len()
    }

    /// Returns what is to be evicted at a watermark.
    #[inline]
    pub(super) fn last_of(&self, watermark: EventTime) -> LastOf {
        last_of(self.reach, watermark)
    }

    /// Finds the rows of a key. [`close`](OfKey::close) must be called at the end.
    #[inline]
    pub(super) fn open(&mut self, key: HashedKey<'_, K>) -> OfKey<'_, K, L, R> {
        self.rows.open(key)
    }

    /// Whether a left row can match one that is still to come.
    #[inline]
    pub(super) fn is_left_open(&self, time: EventTime, watermark: EventTime) -> bool {
        shift(time, self.reach[0]) >= watermark
    }

    /// Whether a right row can match one that is still to come.
    #[inline]
    pub(super) fn is_right_open(&self, time: EventTime, watermark: EventTime) -> bool {
        shift(time, self.reach[1]) >= watermark
    }

    /// The first watermark that proves that nothing can match a left row.
    #[inline]
    pub(super) fn due_of_left(&self, time: EventTime) -> EventTime {
        shift(shift(time, self.reach[0]), 1)
    }

    /// The first watermark that proves that nothing can match a right row.
    #[inline]
    pub(super) fn due_of_right(&self, time: EventTime) -> EventTime {
        shift(shift(time, self.reach[1]), 1)
    }

    /// Evicts rows of some keys when the watermark has advanced, at the end of time those of all. Rows that are to be emitted
    /// have had their timer before.
    pub(super) fn watermark(
        &mut self,
        watermark: EventTime,
        gone_left: impl FnMut(L, bool),
        gone_right: impl FnMut(R, bool),
    ) {
        if watermark == EventTime::MAX {
            self.place = None;
            self.rows.sweep(0, usize::MAX, [Some(EventTime::MAX); 2], gone_left, gone_right);
            return;
        }
        if self.place.is_none() && watermark >= self.next {
            (self.place, self.next) = (Some(0), shift(watermark, self.pause));
        }
        let places = std::mem::take(&mut self.debt) + PLACES;
        self.sweep(watermark, places, gone_left, gone_right);
    }

    /// Goes on with a sweep at the end of an epoch.
    pub(super) fn epoch_end(
        &mut self,
        watermark: EventTime,
        gone_left: impl FnMut(L, bool),
        gone_right: impl FnMut(R, bool),
    ) {
        self.sweep(watermark, PLACES_PER_EPOCH, gone_left, gone_right);
    }

    fn sweep(
        &mut self,
        watermark: EventTime,
        places: usize,
        gone_left: impl FnMut(L, bool),
        gone_right: impl FnMut(R, bool),
    ) {
        if let Some(place) = self.place {
            self.place = self.rows.sweep(place, places, self.last_of(watermark), gone_left, gone_right);
        }
    }
}

#[inline]
fn last_of(reach: [i64; 2], watermark: EventTime) -> LastOf {
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

    /// Adds a left row for an even key, a right one for an odd key.
    fn push(buffer: &mut Buffer<u32, u32, u32>, key: u32, time: i64, watermark: i64) {
        let dealt = [Dealt::new(key, at(time), key)];
        assert_eq!(buffer.fetch(&dealt), 1);
        let [left, right] = buffer.last_of(at(watermark));
        let mut of_key = buffer.open(HashedKey::of(&key));
        of_key.left().evict(left, |_, _, _| ());
        of_key.right().evict(right, |_, _, _| ());
        if key.is_multiple_of(2) {
            of_key.left().push(at(time), key, false);
        } else {
            of_key.right().push(at(time), key, false);
        }
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
        (0..1_000).for_each(|key| push(&mut buffer, key, 0, -1_000));
        assert_eq!(buffer.rows.rows(), 1_000);
        // Each of these pays for a few places.
        for step in 0..2_000 {
            push(&mut buffer, 5_000, step, step);
            buffer.watermark(at(step), |_, _| (), |_, _| ());
        }
        let left = buffer.rows.rows();
        assert!(left <= 201, "{left} rows");
    }

    #[test]
    fn rows_of_silent_keys_are_evicted_by_epochs_without_rows() {
        let mut buffer = buffer();
        (0..1_000).for_each(|key| push(&mut buffer, key, 0, -1_000));
        let no_left = |_, _| panic!("a left row reaches 200 us");
        buffer.watermark(at(150), no_left, |_, _| ());
        (0..10).for_each(|_| buffer.epoch_end(at(150), no_left, |_, _| ()));
        assert_eq!(buffer.rows.rows(), 500, "a right row reaches 100 us, a left one 200");
        buffer.watermark(EventTime::MAX, |_, _| (), |_, _| ());
        assert_eq!(buffer.rows.rows(), 0);
    }
}
