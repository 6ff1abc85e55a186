//! Answers: how many rows a query gave, and a checksum that does not care in which order they came.
//!
//! A query that says each row once is answered by its rows. One that says a key's new value again and again (a running
//! aggregate) is answered by the last value of each key: how often it is emitted depends on how the input is cut into
//! epochs, and is no part of what the query means.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use tidemill::{Epoch, Sink, SinkError};
use xxhash_rust::xxh3::xxh3_64;

use crate::generator::splitmix64;

/// A digest of a row, built from its fields. It is the same on every machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(u64);

impl Digest {
    /// A digest of nothing.
    #[must_use]
    pub const fn new() -> Digest {
        Digest(0)
    }

    /// With a number added.
    #[inline]
    #[must_use]
    pub const fn number(self, number: u64) -> Digest {
        Digest(splitmix64(self.0 ^ number))
    }

    /// With a text added.
    #[inline]
    #[must_use]
    pub fn text(self, text: &str) -> Digest {
        self.number(xxh3_64(text.as_bytes()))
    }

    /// The digest.
    #[must_use]
    pub const fn finish(self) -> u64 {
        self.0
    }
}

/// A row of a result.
pub trait Row: Clone + PartialEq + Debug + Send + 'static {
    /// What the row adds to the checksum: a digest of what the query has computed. Text that a query merely passes
    /// through counts by its length, so that the sink need not read it.
    fn digest(&self) -> u64;

    /// For a row that replaces an earlier one: what both have in common.
    fn replaces(&self) -> Option<u64> {
        None
    }
}

/// What a query gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The number of rows, without those that were replaced.
    pub rows: u64,
    /// The sum of their digests.
    pub checksum: u64,
    /// How many rows reached the sink, with those that were replaced later.
    pub written: u64,
}

impl Answer {
    /// The answer that consists of these rows.
    pub fn of<R: Row>(rows: &[R]) -> Answer {
        let mut tally = Tally::default();
        rows.iter().for_each(|row| tally.add(row));
        tally.answer()
    }

    /// Whether another way to compute the result gave the same one.
    #[must_use]
    pub fn agrees(&self, other: &Answer) -> bool {
        (self.rows, self.checksum) == (other.rows, other.checksum)
    }
}

/// Counts rows and adds up their digests.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    /// The sum over rows that replace none.
    checksum: u64,
    /// The latest digest of each row that may be replaced.
    latest: HashMap<u64, u64, FixedState>,
}

impl Tally {
    #[inline]
    fn add<R: Row>(&mut self, row: &R) {
        self.written += 1;
        match row.replaces() {
            None => self.checksum = self.checksum.wrapping_add(row.digest()),
            Some(key) => {
                self.latest.insert(key, row.digest());
            }
        }
    }

    fn join(&mut self, other: Tally) {
        self.written += other.written;
        self.checksum = self.checksum.wrapping_add(other.checksum);
        self.latest.extend(other.latest);
    }

    fn answer(&self) -> Answer {
        Answer {
            // A query's rows are all of one kind.
            rows: if self.latest.is_empty() { self.written } else { self.latest.len() as u64 },
            checksum: self.latest.values().fold(self.checksum, |sum, digest| sum.wrapping_add(*digest)),
            written: self.written,
        }
    }
}

/// What all instances of a sink have gathered.
#[derive(Debug)]
struct Gathered<R> {
    tally: Tally,
    kept: Vec<R>,
}

/// Where the rows of a query go: a sink on each worker, and the answer of them all.
#[derive(Debug)]
pub struct Rows<R> {
    all: Arc<Mutex<Gathered<R>>>,
    keep: bool,
}

impl<R> Clone for Rows<R> {
    fn clone(&self) -> Self {
        Rows { all: Arc::clone(&self.all), keep: self.keep }
    }
}

impl<R: Row> Rows<R> {
    /// Takes rows into account and drops them.
    #[must_use]
    pub fn counted() -> Rows<R> {
        Rows {
            all: Arc::new(Mutex::new(Gathered { tally: Tally::default(), kept: Vec::new() })),
            keep: false,
        }
    }

    /// Keeps the rows as well.
    #[must_use]
    pub fn kept() -> Rows<R> {
        Rows { keep: true, ..Rows::counted() }
    }

    /// A sink for each worker.
    pub fn sinks(&self) -> impl Fn(usize) -> Result<Taker<R>, SinkError> + Send + Sync + 'static {
        let rows = self.clone();
        move |_worker| Ok(rows.taker())
    }

    /// An instance of the sink. What it has taken counts when it is dropped.
    #[must_use]
    pub fn taker(&self) -> Taker<R> {
        Taker { tally: Tally::default(), kept: Vec::new(), rows: self.clone() }
    }

    /// The answer, once the query is over.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).tally.answer()
    }

    /// The rows in the order of their digests, without those that were replaced, if they were kept.
    #[must_use]
    pub fn sorted(&self) -> Vec<R> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // The rows of one key have all gone through one worker, in their order.
        let mut last: HashMap<u64, usize, FixedState> = HashMap::default();
        for (at, row) in all.kept.iter().enumerate() {
            if let Some(key) = row.replaces() {
                last.insert(key, at);
            }
        }
        let stays = |(at, row): &(usize, &R)| row.replaces().is_none_or(|key| last.get(&key) == Some(at));
        let mut rows: Vec<R> =
            all.kept.iter().enumerate().filter(stays).map(|(_, row)| row.clone()).collect();
        rows.sort_by_key(Row::digest);
        rows
    }
}

/// One worker's part of [`Rows`].
#[derive(Debug)]
pub struct Taker<R: Row> {
    tally: Tally,
    kept: Vec<R>,
    rows: Rows<R>,
}

impl<R: Row> Taker<R> {
    /// Takes a row.
    #[inline]
    pub fn take(&mut self, row: R) {
        self.tally.add(&row);
        if self.rows.keep {
            self.kept.push(row);
        }
    }
}

/// A clone has taken nothing: each replica of an operator has one.
impl<R: Row> Clone for Taker<R> {
    fn clone(&self) -> Self {
        self.rows.taker()
    }
}

impl<R: Row> Sink<R> for Taker<R> {
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<R>) -> Result<(), SinkError> {
        rows.drain(..).for_each(|row| self.take(row));
        Ok(())
    }

    const ONE_BY_ONE: bool = true;

    fn one_by_one(&self) -> bool {
        true
    }

    #[inline]
    fn write_one(&mut self, _epoch: Epoch, row: R) -> Result<(), SinkError> {
        self.take(row);
        Ok(())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

impl<R: Row> Drop for Taker<R> {
    fn drop(&mut self) {
        let mut all = self.rows.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.tally.join(std::mem::take(&mut self.tally));
        all.kept.append(&mut self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for (u64, u64) {
        fn digest(&self) -> u64 {
            Digest::new().number(self.0).number(self.1).finish()
        }
    }

    /// A key and its latest value.
    #[derive(Clone, Debug, PartialEq)]
    struct Latest(u64, u64);

    impl Row for Latest {
        fn digest(&self) -> u64 {
            (self.0, self.1).digest()
        }

        fn replaces(&self) -> Option<u64> {
            Some(self.0)
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_their_number_does() {
        assert_eq!(Answer::of(&[(1, 2), (3, 4)]), Answer::of(&[(3, 4), (1, 2)]));
        assert!(!Answer::of(&[(1, 2)]).agrees(&Answer::of(&[(1, 2), (1, 2)])));
        assert!(!Answer::of(&[(1, 2)]).agrees(&Answer::of(&[(2, 1)])));
    }

    #[test]
    fn a_row_that_was_replaced_is_no_part_of_the_answer() {
        let rows = Rows::kept();
        let (mut one, mut other) = (rows.taker(), rows.taker());
        one.take(Latest(1, 1));
        other.take(Latest(2, 7));
        one.take(Latest(1, 5));
        drop((one, other));
        let mut expected = [Latest(1, 5), Latest(2, 7)];
        expected.sort_by_key(Row::digest);
        assert_eq!(rows.sorted(), expected);
        assert!(rows.answer().agrees(&Answer::of(&[Latest(1, 5), Latest(2, 7)])));
        assert_eq!((rows.answer().rows, rows.answer().written), (2, 3));
    }

    #[test]
    fn texts_are_told_apart() {
        assert_ne!(Digest::new().text("a").text("b").finish(), Digest::new().text("b").text("a").finish());
    }
}
