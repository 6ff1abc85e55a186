//! Eight stateless steps, map and filter in turn, and a checksum of what comes through, as a plain loop over batches: no
//! engine at all.
//!
//! The steps are public so that the program under test runs the same ones.

use std::time::{Duration, Instant};

use crate::generator::splitmix64;

/// A record as wide as its payload, of which the steps look at two words.
pub trait Record: Clone + Send + 'static {
    /// Record `index` of the input.
    fn at(index: u64) -> Self;
    /// The first word.
    fn head(&self) -> u64;
    /// Replaces the first word.
    fn set_head(&mut self, word: u64);
    /// The final word.
    fn tail(&self) -> u64;
    /// Replaces the final word.
    fn set_tail(&mut self, word: u64);
}

/// A record of `8 * WORDS` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<const WORDS: usize>(pub [u64; WORDS]);

/// 16 bytes.
pub type Small = Payload<2>;
/// 64 bytes.
pub type Medium = Payload<8>;
/// 200 bytes.
pub type Large = Payload<25>;

impl<const WORDS: usize> Record for Payload<WORDS> {
    #[inline]
    fn at(index: u64) -> Self {
        let mut words = [index; WORDS];
        if let Some(first) = words.first_mut() {
            *first = splitmix64(index);
        }
        Self(words)
    }

    #[inline]
    fn head(&self) -> u64 {
        self.0.first().copied().unwrap_or(0)
    }

    #[inline]
    fn set_head(&mut self, word: u64) {
        if let Some(first) = self.0.first_mut() {
            *first = word;
        }
    }

    #[inline]
    fn tail(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    #[inline]
    fn set_tail(&mut self, word: u64) {
        if let Some(last) = self.0.last_mut() {
            *last = word;
        }
    }
}

/// Map: mixes the first word.
#[inline]
#[must_use]
pub fn step1<R: Record>(mut record: R) -> R {
    record.set_head(record.head().wrapping_mul(0x9E37_79B9_7F4A_7C15));
    record
}

/// Filter: keeps seven records of eight.
#[inline]
#[must_use]
pub fn step2<R: Record>(record: &R) -> bool {
    (record.head() >> 61) != 0
}

/// Map: adds the first word to the last.
#[inline]
#[must_use]
pub fn step3<R: Record>(mut record: R) -> R {
    record.set_tail(record.tail().wrapping_add(record.head()));
    record
}

/// Filter: keeps seven records of eight.
#[inline]
#[must_use]
pub fn step4<R: Record>(record: &R) -> bool {
    (record.head() >> 58) & 7 != 1
}

/// Map: folds the first word.
#[inline]
#[must_use]
pub fn step5<R: Record>(mut record: R) -> R {
    record.set_head(record.head() ^ (record.head() >> 29));
    record
}

/// Filter: keeps fifteen records of sixteen.
#[inline]
#[must_use]
pub fn step6<R: Record>(record: &R) -> bool {
    (record.head() >> 20) & 15 != 2
}

/// Map: turns the final word.
#[inline]
#[must_use]
pub fn step7<R: Record>(mut record: R) -> R {
    record.set_tail(record.tail().rotate_left(17));
    record
}

/// Filter: keeps fifteen records of sixteen.
#[inline]
#[must_use]
pub fn step8<R: Record>(record: &R) -> bool {
    (record.tail() >> 40) & 15 != 3
}

/// What a record that came through adds to the checksum.
#[inline]
#[must_use]
pub fn checksum<R: Record>(record: &R) -> u64 {
    record.head() ^ record.tail()
}

/// How the loop is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One loop that takes each record through all steps, from a vector of records to a vector of checksums.
    Fused,
    /// One loop that takes each record through all steps and straight into the checksum: no vector in or out.
    Streamed,
    /// A loop for each step over the whole batch: each map writes a new vector, each filter keeps some of it.
    PerStep,
}

/// The answer of [`chain`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Records that came through all steps.
    pub count: u64,
    /// The wrapping sum of [`checksum`] over them.
    pub checksum: u64,
    /// The time of the whole loop: making the records, the steps, the checksum.
    pub elapsed: Duration,
}

/// Takes `records` records of type `R` through the eight steps, `batch` at a time.
#[must_use]
pub fn chain<R: Record>(records: u64, batch: usize, style: Style) -> Chain {
    let start = Instant::now();
    let mut answer = Chain::default();
    let (mut input, mut between, mut output) = (Vec::<R>::new(), Vec::<R>::new(), Vec::<u64>::new());
    if style != Style::Streamed {
        (input, output) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
    }
    let mut first = 0;
    while first < records {
        let last = records.min(first + batch.max(1) as u64);
        match style {
            Style::Streamed => {
                for index in first..last {
                    if let Some(record) = fused(R::at(index)) {
                        answer.count += 1;
                        answer.checksum = answer.checksum.wrapping_add(checksum(&record));
                    }
                }
            }
            Style::Fused => {
                input.extend((first..last).map(R::at));
                for record in input.drain(..) {
                    if let Some(record) = fused(record) {
                        output.push(checksum(&record));
                    }
                }
                take(&mut answer, &mut output);
            }
            Style::PerStep => {
                input.extend((first..last).map(R::at));
                between.extend(input.drain(..).map(step1));
                between.retain(step2);
                input.extend(between.drain(..).map(step3));
                input.retain(step4);
                between.extend(input.drain(..).map(step5));
                between.retain(step6);
                input.extend(between.drain(..).map(step7));
                input.retain(step8);
                output.extend(input.drain(..).map(|record| checksum(&record)));
                take(&mut answer, &mut output);
            }
        }
        first = last;
    }
    answer.elapsed = start.elapsed();
    answer
}

/// All steps on one record.
#[inline]
pub(crate) fn fused<R: Record>(record: R) -> Option<R> {
    let record = step1(record);
    if !step2(&record) {
        return None;
    }
    let record = step3(record);
    if !step4(&record) {
        return None;
    }
    let record = step5(record);
    if !step6(&record) {
        return None;
    }
    let record = step7(record);
    step8(&record).then_some(record)
}

/// The consumer of a batch: counts, adds up, empties.
fn take(answer: &mut Chain, output: &mut Vec<u64>) {
    answer.count += output.len() as u64;
    answer.checksum = output.iter().fold(answer.checksum, |sum, word| sum.wrapping_add(*word));
    output.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<R: Record>() {
        let expected: Vec<u64> = (0..10_001)
            .map(R::at)
            .map(step1)
            .filter(step2)
            .map(step3)
            .filter(step4)
            .map(step5)
            .filter(step6)
            .map(step7)
            .filter(step8)
            .map(|record| checksum(&record))
            .collect();
        assert!((6_200..7_200).contains(&expected.len()), "{}", expected.len());
        let sum = expected.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
        for style in [Style::Fused, Style::Streamed, Style::PerStep] {
            for batch in [1, 1_000, 4_096, 20_000] {
                let answer = chain::<R>(10_001, batch, style);
                assert_eq!(
                    (answer.count, answer.checksum),
                    (expected.len() as u64, sum),
                    "{style:?} {batch}"
                );
            }
        }
    }

    #[test]
    fn agrees_with_iterators() {
        check::<Small>();
        check::<Medium>();
        check::<Large>();
        assert_eq!((size_of::<Small>(), size_of::<Medium>(), size_of::<Large>()), (16, 64, 200));
    }
}
