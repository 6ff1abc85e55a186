//! The rows of each key by event time: what joins buffer.

use std::ops::{RangeInclusive, RangeTo};

use super::life::Ttl;
use super::nested::Nested;
use super::sorted::Sorted;
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Data, EventTime, Key};

/// What tells the rows of a key apart: the event time, and a number among those of one time.
pub(crate) type RowId = (EventTime, u64);

/// Rows for each key in order of their event time, any number at one time. In a checkpoint it is a map.
pub(crate) struct TimedRows<K, V>(Nested<K, RowId, V>);

impl<K: Key, V: Data> TimedRows<K, V> {
    pub(crate) fn new() -> Self {
        TimedRows(Nested::new(Ttl::none()))
    }

    /// Adds a row. Returns the time of the latest row that the key had before.
    #[inline]
    pub(crate) fn push(&mut self, key: HashedKey<'_, K>, time: EventTime, row: V) -> Option<EventTime> {
        let mut latest = None;
        self.0.push(key, row, |rows| {
            latest = rows.last().map(|last| last.0);
            next_id(rows, time)
        });
        latest
    }

    /// Iterates over the rows of a key whose times are in the range, in order.
    #[inline]
    pub(crate) fn range(
        &self,
        key: HashedKey<'_, K>,
        times: RangeInclusive<EventTime>,
    ) -> impl Iterator<Item = (RowId, &V)> {
        let ids = (*times.start(), 0)..=(*times.end(), u64::MAX);
        self.0.range(key, ids).map(|(id, row)| (*id, row))
    }

    /// Returns the time of the first row of a key.
    #[inline]
    pub(crate) fn first(&self, key: HashedKey<'_, K>) -> Option<EventTime> {
        self.0.range(key, ..).next().map(|(id, _)| id.0)
    }

    /// Removes the rows of a key whose times are in the range, and passes them to `gone` in order.
    pub(crate) fn take(
        &mut self,
        key: HashedKey<'_, K>,
        times: RangeInclusive<EventTime>,
        gone: impl FnMut(EventTime, V),
    ) {
        self.take_ids(key, (*times.start(), 0)..=(*times.end(), u64::MAX), gone);
    }

    /// Removes the rows of a key that are older than a time, and passes them to `gone` in order.
    pub(crate) fn take_before(
        &mut self,
        key: HashedKey<'_, K>,
        times: RangeTo<EventTime>,
        gone: impl FnMut(EventTime, V),
    ) {
        self.take_ids(key, ..(times.end, 0), gone);
    }

    fn take_ids(
        &mut self,
        key: HashedKey<'_, K>,
        ids: impl std::ops::RangeBounds<RowId>,
        mut gone: impl FnMut(EventTime, V),
    ) {
        let keep = |_: &RowId, _: &V| false;
        self.0.take_range(key, ids, keep, |id, row, is_needed| {
            gone(id.0, row);
            is_needed.then_some(id)
        });
    }
}

/// The id of a row of that time that is not there yet, after those of the same time.
#[inline]
fn next_id<C>(rows: &Sorted<RowId, C>, time: EventTime) -> RowId {
    let last = match rows.last() {
        Some(last) if last.0 > time => rows.range((time, 0)..=(time, u64::MAX)).next_back().map(|(id, _)| id),
        last => last.filter(|last| last.0 == time),
    };
    (time, last.map_or(0, |last| last.1.saturating_add(1)))
}

impl<K: Key, V: Data> Held for TimedRows<K, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<K: Key, V: Data> NamedState for TimedRows<K, V> {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, RowId), V>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    #[test]
    fn rows_of_one_time_are_kept_apart_and_in_order() {
        let (mut rows, key) = (TimedRows::<u32, char>::new(), HashedKey::of(&7));
        let latest: Vec<_> = [(5, 'a'), (5, 'b'), (9, 'c'), (5, 'd'), (1, 'e')]
            .map(|(time, row)| rows.push(key, at(time), row))
            .into();
        assert_eq!(latest, [None, Some(at(5)), Some(at(5)), Some(at(9)), Some(at(9))]);
        let found: String = rows.range(key, at(1)..=at(5)).map(|(_, row)| *row).collect();
        assert_eq!(found, "eabd");
        let mut gone = String::new();
        rows.take(key, at(5)..=at(5), |_, row| gone.push(row));
        rows.take_before(key, ..at(9), |_, row| gone.push(row));
        assert_eq!(gone, "abde");
        assert_eq!(rows.range(key, EventTime::MIN..=EventTime::MAX).count(), 1);
    }
}
