//! Text whose words follow Zipf's law: the same bytes for the same arguments, on every machine.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::generator::splitmix64;

/// A small random number generator: SplitMix64 over a counter.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose sequence depends on `seed` alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: splitmix64(seed) }
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        splitmix64(self.state)
    }

    /// The next number in `0..bound` (0 when `bound` is 0).
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }
}

/// A vocabulary with its cumulative Zipf weights (exponent 1: the word of rank r is drawn in proportion to 1/r).
#[derive(Clone, Debug)]
pub struct Zipf {
    words: Vec<String>,
    /// The upper end of each word's share, in 1/2^53 of the whole.
    ends: Vec<u64>,
}

/// A draw is a number below this.
const SCALE: u64 = 1 << 53;

impl Zipf {
    /// A vocabulary of `distinct` made-up lower-case words of 3 to 11 letters (at least one word).
    #[must_use]
    pub fn new(distinct: usize, seed: u64) -> Self {
        let distinct = distinct.max(1);
        let mut random = Random::new(seed ^ 0x5EED);
        let mut seen = HashSet::with_capacity(distinct);
        let mut words = Vec::with_capacity(distinct);
        while words.len() < distinct {
            let letters = 3 + random.below(9);
            let word: String = (0..letters).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
            if seen.insert(word.clone()) {
                words.push(word);
            }
        }
        let total: f64 = (1..=distinct).map(|rank| 1.0 / rank as f64).sum();
        let mut sum = 0.0;
        let mut ends: Vec<u64> = (1..=distinct)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                (sum / total * SCALE as f64) as u64
            })
            .collect();
        if let Some(last) = ends.last_mut() {
            *last = SCALE;
        }
        Self { words, ends }
    }

    /// Draws one word.
    pub fn draw(&self, random: &mut Random) -> &str {
        let at = random.below(SCALE);
        let rank = self.ends.partition_point(|end| *end <= at);
        self.words.get(rank).map_or("", String::as_str)
    }

    /// The words, the most frequent first.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

/// Writes at least `bytes` bytes of text in lines of 10 to 12 words, ending with a whole line; returns the number of words.
///
/// # Errors
/// Whatever `out` reports.
pub fn write_zipf(out: &mut impl Write, bytes: u64, distinct_words: usize, seed: u64) -> io::Result<u64> {
    let zipf = Zipf::new(distinct_words, seed);
    let mut random = Random::new(seed);
    let (mut written, mut words) = (0_u64, 0_u64);
    let mut line = String::with_capacity(160);
    while written < bytes {
        line.clear();
        for position in 0..10 + random.below(3) {
            if position > 0 {
                line.push(' ');
            }
            line.push_str(zipf.draw(&mut random));
            words += 1;
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    Ok(words)
}

/// [`write_zipf`] into a string.
#[must_use]
pub fn zipf_text(bytes: u64, distinct_words: usize, seed: u64) -> String {
    let mut buffer = Vec::with_capacity(bytes as usize + 256);
    // Writing to a vector does not fail, and all that is written is ASCII.
    let _ = write_zipf(&mut buffer, bytes, distinct_words, seed);
    String::from_utf8(buffer).unwrap_or_default()
}

/// [`write_zipf`] into a file; returns the number of words.
///
/// # Errors
/// If the file cannot be created or written.
pub fn zipf_file(path: &Path, bytes: u64, distinct_words: usize, seed: u64) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let words = write_zipf(&mut out, bytes, distinct_words, seed)?;
    out.flush()?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_same_seed_gives_the_same_text() {
        assert_eq!(zipf_text(10_000, 100, 7), zipf_text(10_000, 100, 7));
        assert_ne!(zipf_text(10_000, 100, 7), zipf_text(10_000, 100, 8));
    }

    #[test]
    fn frequencies_fall_with_the_rank() {
        let text = zipf_text(400_000, 1_000, 1);
        assert!(text.ends_with('\n'));
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for word in text.split_whitespace() {
            *counts.entry(word).or_default() += 1;
        }
        let zipf = Zipf::new(1_000, 1);
        let of = |rank: usize| counts.get(zipf.words()[rank].as_str()).copied().unwrap_or(0) as f64;
        assert!((1.6..2.4).contains(&(of(0) / of(1))), "{} {}", of(0), of(1));
        assert!((7.0..13.0).contains(&(of(0) / of(9))));
        assert!(counts.len() > 900);
        for line in text.lines() {
            assert!((10..=12).contains(&line.split(' ').count()));
        }
    }
}
