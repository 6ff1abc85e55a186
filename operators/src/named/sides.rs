//! The rows of two sides for each key, by side and event time: what a join of two streams buffers.

use std::ops::RangeInclusive;

use super::life::Ttl;
use super::nested::{Nested, OfKey};
use super::store::{Held, Store};
use super::{HashedKey, NamedState, written};
use crate::schema::StateSchema;
use crate::{Data, EventTime, Key};

/// What tells the rows of a key apart: the side, 0 or 1, the event time, and a number among those of one time.
pub(crate) type SidedId = (u8, EventTime, u64);

/// Rows for each key in order of side and event time, any number at one time. In a checkpoint it is a map.
///
/// Both sides lie in one entry of one table, so that one look-up finds what a row matches and where it is to be kept.
pub(crate) struct SidedRows<K, V>(Nested<K, SidedId, V>);

/// The rows of one key.
pub(crate) struct RowsOfKey<'n, K, V>(OfKey<'n, K, SidedId, V>);

impl<K: Key, V: Data> SidedRows<K, V> {
    pub(crate) fn new() -> Self {
        SidedRows(Nested::new(Ttl::none()))
    }

    /// Finds the rows of a key.
    #[inline]
    pub(crate) fn open(&mut self, key: HashedKey<'_, K>) -> RowsOfKey<'_, K, V> {
        RowsOfKey(self.0.open(key))
    }

    /// Has the memory of the rows of some keys fetched, if there are many keys.
    #[inline]
    pub(crate) fn fetch<'k>(&self, keys: impl Iterator<Item = HashedKey<'k, K>> + Clone)
    where
        K: 'k,
    {
        self.0.fetch(keys);
    }

    /// Removes the rows of each side up to a time, `None` for none, in some places of the table, from `place` on. Returns the
    /// place to look at next, `None` at the end of the table.
    pub(crate) fn sweep(
        &mut self,
        place: usize,
        places: usize,
        last: [Option<EventTime>; 2],
        mut gone: impl FnMut(SidedId, V),
    ) -> Option<usize> {
        let end = place.saturating_add(places);
        for place in place..end {
            let is_there = self.0.open_bucket(place, |of_key| {
                for (side, last) in [0, 1].into_iter().zip(last) {
                    if let Some(last) = last {
                        of_key.take((side, EventTime::MIN, 0)..=(side, last, u64::MAX), &mut gone);
                    }
                }
            });
            if !is_there {
                self.0.shrink();
                return None;
            }
        }
        Some(end)
    }
}

impl<K: Key, V: Data> RowsOfKey<'_, K, V> {
    /// Iterates over the rows of a side whose times are in the range, in order.
    #[inline]
    pub(crate) fn range(
        &self,
        side: u8,
        times: RangeInclusive<EventTime>,
    ) -> impl DoubleEndedIterator<Item = (SidedId, &V)> {
        let ids = (side, *times.start(), 0)..=(side, *times.end(), u64::MAX);
        self.0.range(ids).map(|(id, row)| (*id, row))
    }

    /// Adds a row.
    #[inline]
    pub(crate) fn push(&mut self, side: u8, time: EventTime, row: V) {
        let same = (side, time, 0)..=(side, time, u64::MAX);
        let last = self.0.range(same).next_back().map(|(id, _)| id.2);
        self.0.insert((side, time, last.map_or(0, |last| last.saturating_add(1))), row);
    }

    /// Changes a row.
    #[inline]
    pub(crate) fn change(&mut self, id: SidedId, change: impl FnOnce(&mut V)) {
        self.0.change(&id, change);
    }

    /// Removes the rows of a side whose times are in the range, and passes them to `gone` in order.
    #[inline]
    pub(crate) fn take(&mut self, side: u8, times: RangeInclusive<EventTime>, gone: impl FnMut(SidedId, V)) {
        self.0.take((side, *times.start(), 0)..=(side, *times.end(), u64::MAX), gone);
    }

    /// Must be called at the end.
    #[inline]
    pub(crate) fn close(self) {
        self.0.close();
    }
}

impl<K: Key, V: Data> Held for SidedRows<K, V> {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn store_mut(&mut self) -> &mut dyn Store {
        &mut self.0
    }
}

impl<K: Key, V: Data> NamedState for SidedRows<K, V> {
    fn kind(&self) -> &'static str {
        "map"
    }

    fn schema(&self) -> StateSchema {
        written::schema::<(K, SidedId), V>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    const ALL: RangeInclusive<EventTime> = EventTime::MIN..=EventTime::MAX;

    #[test]
    fn rows_of_sides_and_times_are_kept_apart_and_in_order() {
        let (mut rows, key) = (SidedRows::<u32, char>::new(), HashedKey::of(&7));
        let mut of_key = rows.open(key);
        for (side, time, row) in
            [(0, 5, 'a'), (1, 4, 'x'), (0, 5, 'b'), (1, 9, 'y'), (0, 1, 'c'), (0, 9, 'd')]
        {
            of_key.push(side, at(time), row);
        }
        let text = |of_key: &RowsOfKey<'_, u32, char>, side, times| -> String {
            of_key.range(side, times).map(|(_, row)| *row).collect()
        };
        assert_eq!(text(&of_key, 0, ALL), "cabd");
        assert_eq!(text(&of_key, 0, at(1)..=at(5)), "cab");
        assert_eq!(text(&of_key, 1, ALL), "xy");
        of_key.change((0, at(5), 1), |row| *row = 'B');
        let mut gone = String::new();
        of_key.take(0, EventTime::MIN..=at(4), |_, row| gone.push(row));
        of_key.take(0, at(5)..=at(5), |_, row| gone.push(row));
        of_key.take(1, EventTime::MIN..=at(8), |_, row| gone.push(row));
        of_key.close();
        assert_eq!(gone, "caBx");
        assert_eq!(rows.store().rows(), 2);
    }

    #[test]
    fn sweep_removes_what_is_old_in_pieces() {
        let mut rows = SidedRows::<u32, u32>::new();
        for key in 0..1_000 {
            let mut of_key = rows.open(HashedKey::of(&key));
            of_key.push(0, at(i64::from(key)), key);
            of_key.push(1, at(i64::from(key)), key);
            of_key.close();
        }
        let (mut gone, mut place, mut pieces) = (Vec::new(), Some(0), 0);
        while let Some(from) = place {
            place = rows.sweep(from, 100, [Some(at(599)), Some(at(299))], |id, row| gone.push((id.0, row)));
            pieces += 1;
        }
        gone.sort_unstable();
        let expected: Vec<_> = (0..600).map(|key| (0, key)).chain((0..300).map(|key| (1, key))).collect();
        assert_eq!(gone, expected);
        assert!(pieces > 10, "{pieces}");
        assert_eq!(rows.store().rows(), 1_100);
        let (mut key_without, mut key_with) = (false, false);
        for (key, found) in [(100, &mut key_without), (999, &mut key_with)] {
            let of_key = rows.open(HashedKey::of(&key));
            *found = of_key.range(0, ALL).chain(of_key.range(1, ALL)).count() > 0;
            of_key.close();
        }
        assert!(!key_without && key_with);
    }
}
