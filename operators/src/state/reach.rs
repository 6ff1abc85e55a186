//! Asking the memory for entries before they are needed.
//!
//! A table that is larger than the caches makes every look-up wait for memory. Those who know the next few hashes can
//! have the entries fetched while they do something else: they take a [`Reach`] of the table, tell it the hashes, and
//! look up afterwards. It is a hint: nothing but time depends on it.
//!
//! The address is worked out from how hashbrown lays out a table (entries downwards, one byte for each upwards from the same
//! place). Should that change one day, the hints become useless, and nothing else happens.

use hashbrown::HashTable;

use crate::prefetch::{LINE, fetch};

/// Tables that take less memory are in the caches anyway.
const FAR: usize = 4 << 20;

/// The same where entries own memory elsewhere, which takes the caches from the table.
const FAR_OWNING: usize = 1 << 20;

/// In how many places an entry is looked for.
const TRIED: usize = 64;

/// How many lines of an entry are fetched at most, beside the one in which it begins.
const LINES: usize = 4;

/// Where the entries of a table are. Of no use once the table has grown, but of no harm.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Between the entries and their bytes.
    middle: usize,
    mask: usize,
    size: usize,
    /// Where a list by the places of the entries begins, if there is one, and the size of its items.
    beside: Option<(usize, usize)>,
}

impl Reach {
    /// How many hashes to tell it before the first of them is looked up: as many as a core can wait for, and some more.
    pub const AHEAD: usize = 32;

    /// That of a table which is so large that it pays.
    #[inline]
    pub(super) fn of<T>(table: &HashTable<T>) -> Option<Self> {
        let far = const { if std::mem::needs_drop::<T>() { FAR_OWNING } else { FAR } };
        if table.allocation_size() < far { None } else { Self::locate(table) }
    }

    /// Finds it by any entry; not while there are hardly any.
    #[inline(never)]
    fn locate<T>(table: &HashTable<T>) -> Option<Self> {
        let buckets = table.num_buckets();
        let mut first = 0..buckets.min(TRIED);
        let (index, entry) = first.find_map(|index| Some((index, table.get_bucket(index)?)))?;
        let middle = std::ptr::from_ref(entry).addr() + (index + 1) * size_of::<T>();
        Some(Reach { middle, mask: buckets - 1, size: size_of::<T>(), beside: None })
    }

    /// The same, with a list that has an item for each place of the table.
    pub(crate) fn with<T>(self, list: &[T]) -> Self {
        Reach { beside: Some((list.as_ptr().addr(), size_of::<T>())), ..self }
    }

    /// Has the memory fetched in which an entry of that hash is or will be: its byte, and the entries that are tried
    /// first, which are mostly not all in one line.
    #[inline(always)]
    pub fn fetch(&self, hash: u64) {
        let [byte, last, before] = self.addresses(hash);
        [byte, last, before].into_iter().for_each(fetch);
        if self.size > LINE {
            self.fetch_large(last);
        }
        if let Some((start, size)) = self.beside {
            fetch(start.wrapping_add((hash as usize & self.mask).wrapping_mul(size)));
        }
    }

    /// Has the rest of an entry fetched that takes more than a line.
    #[inline]
    fn fetch_large(&self, last: usize) {
        for line in 2..self.size.div_ceil(LINE).min(LINES) {
            fetch(last.wrapping_sub(line * LINE));
        }
        fetch(last.wrapping_add(1).wrapping_sub(self.size));
    }

    /// The addresses of the byte and the entries of a hash: some address, if this is of another table.
    #[inline(always)]
    fn addresses(&self, hash: u64) -> [usize; 3] {
        let place = hash as usize & self.mask;
        // Entries lie downwards, and the first may begin in the line before the one in which it ends.
        let last = self.middle.wrapping_sub(place.wrapping_mul(self.size)).wrapping_sub(1);
        [self.middle.wrapping_add(place), last, last.wrapping_sub(LINE)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_a_hash_is_near_what_is_fetched() {
        let mut table: HashTable<(u64, u64)> = HashTable::new();
        let hash = |key: u64| crate::hash_key(&key);
        for key in 0..200_000 {
            table.insert_unique(hash(key), (key, key), |entry| hash(entry.0));
        }
        let reach = Reach::of(&table).expect("it is large");
        let near = |key: &u64| {
            let entry = table.find(hash(*key), |entry| entry.0 == *key).expect("it is there");
            let at = std::ptr::from_ref(entry).addr();
            let [_, fetched, _] = reach.addresses(hash(*key));
            fetched.wrapping_sub(at) < 2 * LINE
        };
        let found = (0..200_000).filter(near).count();
        assert!(found > 150_000, "{found} of 200000");
    }

    #[test]
    fn entry_that_lies_in_two_lines_is_fetched_whole() {
        let mut table: HashTable<[u64; 3]> = HashTable::new();
        let hash = |key: u64| crate::hash_key(&key);
        for key in 0..200_000 {
            table.insert_unique(hash(key), [key; 3], |entry| hash(entry[0]));
        }
        let reach = Reach::of(&table).expect("it is large");
        let is_fetched = |key: &u64| {
            let entry = table.find(hash(*key), |entry| entry[0] == *key).expect("it is there");
            let at = std::ptr::from_ref(entry).addr();
            let [_, lines @ ..] = reach.addresses(hash(*key)).map(|address| address / LINE);
            lines.contains(&(at / LINE)) && lines.contains(&((at + 23) / LINE))
        };
        let found = (0..200_000).filter(is_fetched).count();
        assert!(found > 160_000, "{found} of 200000");
    }

    #[test]
    fn a_small_or_an_empty_table_has_none() {
        let mut table: HashTable<(u64, u64)> = HashTable::with_capacity(100);
        table.insert_unique(1, (1, 1), |_| 1);
        assert!(Reach::of(&table).is_none());
        assert!(Reach::of(&HashTable::<(u64, u64)>::with_capacity(1_000_000)).is_none());
    }

    #[test]
    fn table_whose_entries_own_memory_is_large_sooner() {
        let mut plain: HashTable<[u64; 4]> = HashTable::with_capacity(50_000);
        plain.insert_unique(1, [1; 4], |_| 1);
        let mut owning: HashTable<(u64, Vec<u64>)> = HashTable::with_capacity(50_000);
        owning.insert_unique(1, (1, vec![]), |_| 1);
        assert_eq!(plain.allocation_size(), owning.allocation_size());
        assert!(Reach::of(&plain).is_none() && Reach::of(&owning).is_some());
    }

    #[test]
    fn address_beyond_the_end_of_memory_wraps() {
        let last = usize::MAX;
        for (reach, hash, addresses) in [
            (
                Reach { middle: 0, mask: last, size: last, beside: None },
                u64::MAX,
                [last, last - 1, last - 65],
            ),
            (Reach { middle: last, mask: 0, size: 0, beside: None }, 12_345, [last, last - 1, last - 65]),
            (Reach { middle: 4096, mask: 1023, size: 16, beside: None }, 1, [4097, 4079, 4015]),
        ] {
            reach.fetch(hash);
            assert_eq!(reach.addresses(hash), addresses);
        }
    }
}
