//! What came out of a run, and what should have: the count of events, and a checksum that knows no order.

use serde::Serialize;

use super::schedule::Schedule;
use crate::generator::{row_checksum, splitmix64};

/// What came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// How many events the rows speak of.
    pub events: u64,
    /// The wrapping sum of a hash of every row: where counts are emitted again and again, of one row for each event that
    /// they speak of, or of the last row of each key and window, as [asked](Question).
    pub checksum: u64,
    /// Rows that cannot be: counts too high, or of another window.
    pub wrong: u64,
}

impl Answer {
    /// Takes a row into account that speaks of this many events.
    #[inline]
    pub fn add(&mut self, key: u64, window: u64, value: u64, events: u64) {
        self.events += events;
        self.checksum = self.checksum.wrapping_add(row_checksum(key, window as i64, value));
    }

    /// Takes a count into account that was another one before, or 0: what remains in the end is each last one.
    #[inline]
    pub fn grow(&mut self, key: u64, window: u64, from: u64, to: u64) {
        let hash = |value| if value == 0 { 0 } else { row_checksum(key, window as i64, value) };
        self.events += to - from;
        self.checksum = self.checksum.wrapping_add(hash(to)).wrapping_sub(hash(from));
    }

    /// Adds another worker's.
    pub fn join(&mut self, other: &Answer) {
        self.events += other.events;
        self.checksum = self.checksum.wrapping_add(other.checksum);
        self.wrong += other.wrong;
    }
}

/// What is asked of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Every event that [`mapped`] lets through.
    Mapped,
    /// The count of each key, or of each key and window of this many microseconds, whenever it has changed.
    Counts(Option<u64>),
    /// The last count of each key, or of each key and window of this many microseconds.
    Totals(Option<u64>),
}

/// The stateless step: another number for the key, and nothing for every eighth of these.
#[inline]
#[must_use]
pub fn mapped(key: u64) -> Option<u64> {
    let value = splitmix64(key);
    (!value.is_multiple_of(8)).then_some(value)
}

/// The right answer, by plain loops over all events.
#[must_use]
pub fn expected(schedule: &Schedule, question: Question) -> Answer {
    let mut answer = Answer::default();
    let mut counts = vec![(0, 0); schedule.load().keys as usize];
    // Events come in the order of their times, so the window advances and never goes back.
    let (mut present, mut end) = (
        0,
        match question {
            Question::Mapped | Question::Counts(None) | Question::Totals(None) => u64::MAX,
            Question::Counts(Some(size)) | Question::Totals(Some(size)) => size * 1_000,
        },
    );
    let size = end;
    for (key, due) in schedule.events() {
        while due >= end {
            present += 1;
            end = end.saturating_add(size);
        }
        let (window, count) = &mut counts[key as usize];
        match question {
            Question::Mapped => {
                if let Some(value) = mapped(key) {
                    answer.add(value, 0, due, 1);
                }
            }
            Question::Counts(_) => {
                if *window != present {
                    (*window, *count) = (present, 0);
                }
                *count += 1;
                answer.add(key, present, *count, 1);
            }
            Question::Totals(_) => {
                if *window != present {
                    if *count > 0 {
                        answer.add(key, *window, *count, *count);
                    }
                    (*window, *count) = (present, 0);
                }
                *count += 1;
            }
        }
    }
    if let Question::Totals(_) = question {
        for (key, (window, count)) in (0..).zip(counts).filter(|(_, (_, count))| *count > 0) {
            answer.add(key, window, count, count);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use super::*;
    use crate::harness::schedule::Load;

    #[test]
    fn windows_are_those_of_the_events_times() {
        // Several partitions, windows that no event is in, and one whose end no event meets.
        let load = Load { events: 200, keys: 7, ..Load::open(1_000, 1.0) };
        let schedule = Schedule::beginning_at(load, 3, Instant::now());
        for size in [300, 7_001, 1_000_000] {
            let mut counts = BTreeMap::new();
            let (mut changes, mut closed) = (Answer::default(), Answer::default());
            for index in 0..200 {
                let (key, window) = (schedule.key(index), schedule.due(index) / 1_000 / size);
                let count = counts.entry((key, window)).or_insert(0);
                *count += 1;
                changes.add(key, window, *count, 1);
            }
            counts.iter().for_each(|((key, window), count)| closed.add(*key, *window, *count, *count));
            assert_eq!(expected(&schedule, Question::Counts(Some(size))), changes);
            assert_eq!(expected(&schedule, Question::Totals(Some(size))), closed);
        }
    }
}
