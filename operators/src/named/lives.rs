//! The [`Life`] of each entry of a table, kept beside the table by the places of the entries.
//!
//! So an entry is as small as its key and value: a value of 8 bytes for a key of 8 bytes takes 16, and four of them share a
//! line of memory. Two bits for each place tell which entries have changed and which are in snapshots. With a TTL there is a
//! word for each place, which also has the time of the last write; without a checkpoint and a TTL there is nothing.

use super::life::{Life, Ttl};
use crate::state::Reach;

/// Places whose flags share a word.
const PER_WORD: usize = 32;

/// By the places of the entries.
#[derive(Debug)]
pub(super) enum Lives {
    /// No one asks.
    None,
    Flags(Vec<u64>),
    Dated(Vec<Life>),
}

impl Lives {
    pub(super) fn new(ttl: &Ttl) -> Lives {
        if ttl.span().is_some() { Lives::Dated(Vec::new()) } else { Lives::None }
    }

    /// Begins to tell which entries change, of a table with that number of places.
    pub(super) fn track(&mut self, places: usize) {
        if let Lives::None = self {
            *self = Lives::Flags(Vec::new()).empty(places);
        }
    }

    /// The same kind, for a table with that number of places and no entries.
    pub(super) fn empty(&self, places: usize) -> Lives {
        match self {
            Lives::None => Lives::None,
            Lives::Flags(_) => Lives::Flags(vec![0; places.div_ceil(PER_WORD)]),
            Lives::Dated(_) => Lives::Dated(vec![Life::default(); places]),
        }
    }

    /// Whether entries must not change their places unseen.
    #[inline]
    pub(super) fn is_kept(&self) -> bool {
        !matches!(self, Lives::None)
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Life {
        match self {
            Lives::None => Life::default(),
            Lives::Flags(words) => words
                .get(place / PER_WORD)
                .map_or(Life::default(), |word| Life::of_flags(word >> shift(place))),
            Lives::Dated(lives) => lives.get(place).copied().unwrap_or_default(),
        }
    }

    #[inline]
    pub(super) fn set(&mut self, place: usize, life: Life) {
        match self {
            Lives::None => {}
            Lives::Flags(words) => {
                if let Some(word) = words.get_mut(place / PER_WORD) {
                    *word = *word & !(Life::FLAGS << shift(place)) | life.flags() << shift(place);
                }
            }
            Lives::Dated(lives) => {
                if let Some(old) = lives.get_mut(place) {
                    *old = life;
                }
            }
        }
    }

    /// Notes a write at the present; returns whether the entry had not changed since the last snapshot, if that is kept.
    #[inline]
    pub(super) fn write(&mut self, place: usize, ttl: &Ttl) -> bool {
        if let Lives::None = self {
            return false;
        }
        let mut life = self.get(place);
        let is_first = ttl.write(&mut life);
        self.set(place, life);
        is_first
    }

    /// Notes that the entry goes into a snapshot; returns whether it has changed since the last one.
    pub(super) fn save(&mut self, place: usize) -> bool {
        let mut life = self.get(place);
        let has_changed = life.save();
        self.set(place, life);
        has_changed
    }

    /// Whether an entry has expired.
    #[inline]
    pub(super) fn is_expired(&self, place: usize, ttl: &Ttl) -> bool {
        ttl.span().is_some() && ttl.is_expired(self.get(place))
    }

    /// The same reach, with the lives of the entries.
    pub(super) fn reach(&self, table: Reach) -> Reach {
        match self {
            Lives::Dated(lives) => table.with(lives),
            _ => table,
        }
    }
}

#[inline]
fn shift(place: usize) -> usize {
    place % PER_WORD * Life::BITS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ProcessingTime;

    #[test]
    fn flags_of_places_are_kept_apart() {
        let (ttl, mut lives) = (Ttl::none(), Lives::new(&Ttl::none()));
        assert!(!lives.write(5, &ttl) && !lives.is_kept());
        lives.track(100);
        for place in [0, 31, 32, 99] {
            assert!(lives.write(place, &ttl) && !lives.write(place, &ttl));
        }
        assert!(lives.save(31) && !lives.save(31) && lives.write(31, &ttl));
        lives.set(32, Life::default());
        let flags = [0, 1, 30, 31, 32, 33, 98, 99].map(|place| lives.get(place));
        let flags = flags.map(|life| (life.is_changed(), life.is_saved()));
        let (no, changed) = ((false, false), (true, false));
        assert_eq!(flags, [changed, no, no, (true, true), no, no, no, changed]);
        assert!(matches!(lives.empty(100), Lives::Flags(words) if words == [0; 4]));
    }

    #[test]
    fn time_of_write_is_kept_with_ttl_only() {
        let mut ttl = Ttl::of(Duration::from_micros(10));
        let mut lives = Lives::new(&ttl).empty(10);
        lives.track(10);
        ttl.set_now(ProcessingTime::from_micros(5));
        assert!(lives.write(3, &ttl));
        ttl.set_now(ProcessingTime::from_micros(14));
        assert!(!lives.is_expired(3, &ttl) && !lives.is_expired(4, &ttl));
        ttl.set_now(ProcessingTime::from_micros(15));
        assert!(lives.is_expired(3, &ttl));
    }
}
