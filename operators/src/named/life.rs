//! What each entry of a state carries beside its value, in one word; and the state's TTL, which is held against it.

use std::time::Duration;

use crate::ProcessingTime;
use crate::time::micros;

/// Whether an entry has changed since the last snapshot, whether snapshots hold it, and when it was last written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Life(u64);

const CHANGED: u64 = 1;
const SAVED: u64 = 2;

impl Life {
    /// How many bits tell whether an entry has changed and whether it is saved.
    pub(super) const BITS: usize = 2;
    /// These bits.
    pub(super) const FLAGS: u64 = (1 << Self::BITS) - 1;

    /// A life with the last bits of a word as flags, and no time of writing.
    #[inline]
    pub(super) fn of_flags(word: u64) -> Life {
        Life(word & Self::FLAGS)
    }

    #[inline]
    pub(super) fn flags(self) -> u64 {
        self.0 & Self::FLAGS
    }

    /// The life of an entry that is restored: `stamp` is what [`stamp`](Self::stamp) returned when it was written.
    pub(super) fn restored(stamp: u64) -> Life {
        Life(stamp << Self::BITS | SAVED)
    }

    /// Returns what a snapshot keeps: 0 if no time of writing was noted, otherwise microseconds since 1970 plus 1.
    pub(super) fn stamp(self) -> u64 {
        self.0 >> Self::BITS
    }

    pub(super) fn is_changed(self) -> bool {
        self.0 & CHANGED != 0
    }

    /// Whether the snapshots so far hold the entry, so that its removal has to be written.
    pub(super) fn is_saved(self) -> bool {
        self.0 & SAVED != 0
    }

    /// Notes that the entry goes into a snapshot; returns whether it has changed since the last one.
    pub(super) fn save(&mut self) -> bool {
        let changed = self.is_changed();
        self.0 = self.0 & !CHANGED | SAVED;
        changed
    }
}

/// The TTL of a state, and what the engine's clock shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ttl {
    /// In microseconds.
    span: Option<i64>,
    now: i64,
    /// `now` as an entry keeps it; 0 without a TTL.
    stamp: u64,
}

impl Ttl {
    pub(super) fn none() -> Ttl {
        Ttl { span: None, now: 0, stamp: 0 }
    }

    pub(super) fn of(ttl: Duration) -> Ttl {
        let mut ttl = Ttl { span: Some(micros(ttl)), now: 0, stamp: 0 };
        ttl.set_now(ProcessingTime::from_micros(0));
        ttl
    }

    /// The TTL in microseconds.
    pub(super) fn span(&self) -> Option<i64> {
        self.span
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        self.span.map(|micros| Duration::from_micros(micros.unsigned_abs()))
    }

    /// Microseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.now
    }

    /// Moves the clock. It never goes back.
    pub(super) fn set_now(&mut self, now: ProcessingTime) {
        self.now = self.now.max(now.as_micros());
        if self.span.is_some() {
            // 62 bits of microseconds are 146,000 years.
            self.stamp = (self.now.unsigned_abs() + 1).min(u64::MAX >> Life::BITS);
        }
    }

    /// Notes a write at the present; returns whether the entry had not changed since the last snapshot.
    #[inline(always)]
    pub(super) fn write(&self, life: &mut Life) -> bool {
        let first = !life.is_changed();
        life.0 = self.stamp << Life::BITS | life.flags() | CHANGED;
        first
    }

    #[inline(always)]
    pub(super) fn is_expired(&self, life: Life) -> bool {
        match self.span {
            None => false,
            Some(span) => self.age(life).is_some_and(|age| age >= span),
        }
    }

    /// Whether the entry was written before the state had a TTL: it counts from now on.
    pub(super) fn is_unknown(&self, life: Life) -> bool {
        self.span.is_some() && life.stamp() == 0
    }

    /// Microseconds since the last write, if it was noted.
    fn age(&self, life: Life) -> Option<i64> {
        let at = i64::try_from(life.stamp().checked_sub(1)?).unwrap_or(i64::MAX);
        Some(self.now.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_reports_first_change_until_saved() {
        let (ttl, mut life) = (Ttl::none(), Life::default());
        assert!(ttl.write(&mut life) && !ttl.write(&mut life) && !life.is_saved());
        assert!(life.save() && life.is_saved() && !life.save());
        assert!(ttl.write(&mut life) && life.is_saved());
    }

    #[test]
    fn entry_expires_one_ttl_after_last_write() {
        let (mut ttl, mut life) = (Ttl::of(Duration::from_micros(10)), Life::default());
        ttl.set_now(ProcessingTime::from_micros(5));
        ttl.write(&mut life);
        ttl.set_now(ProcessingTime::from_micros(14));
        assert!(!ttl.is_expired(life));
        let restored = Life::restored(life.stamp());
        ttl.set_now(ProcessingTime::from_micros(15));
        assert!(ttl.is_expired(life) && ttl.is_expired(restored));
        ttl.write(&mut life);
        assert!(!ttl.is_expired(life));
    }

    #[test]
    fn entry_without_time_of_writing_is_unknown_and_stays() {
        let (mut ttl, life) = (Ttl::of(Duration::from_micros(10)), Life::restored(0));
        ttl.set_now(ProcessingTime::from_micros(i64::MAX));
        assert!(ttl.is_unknown(life) && !ttl.is_expired(life));
        assert!(!Ttl::none().is_unknown(life));
    }
}
