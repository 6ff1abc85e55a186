//! Counting words of a file, in two phases.
//!
//! Every worker reads each `workers`-th block of the file and counts into a table of its own; when its blocks are
//! read it sends the table, once, to the workers that own the words, and they add up. Reading, splitting and
//! counting happen in the source operator, one block per activation: no word leaves it before it is counted, and a
//! word is copied only when first seen.
//!
//! With an interval it is the job of a running query: tables are also sent whenever the interval has passed, and the
//! owners say the new total of every word that comes in. The last row of a word is its total.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a baseline fails loudly"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use tidemill::connectors::words;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};

use super::run;
use crate::generator::word_checksum;

/// The bytes of one block, before it is cut at a line's end.
pub const BLOCK: u64 = 256 * 1024;
/// Words in one container of the exchange.
const CONTAINER: usize = 1024;

/// A word and how often it was seen.
type Counted = (String, u64);
/// Builds containers of them.
type Builder = CapacityContainerBuilder<Vec<Counted>>;
/// A table of words.
type Table = hashbrown::HashMap<String, u64, FixedState>;

/// The answer of [`word_count`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordCount {
    /// How often each word occurs.
    pub counts: HashMap<String, u64>,
    /// The time from starting the workers until each held its final rows (before they were put into one map).
    pub elapsed: Duration,
}

impl WordCount {
    /// All words together.
    #[must_use]
    pub fn words(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The order-free checksum over all words and counts.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.counts.iter().fold(0, |sum, (word, count)| sum.wrapping_add(word_checksum(word, *count)))
    }
}

/// Counts the words (split at Unicode white space, by [`words`]) of the UTF-8 file at `path`.
///
/// # Panics
/// If the file cannot be read or is not UTF-8.
#[must_use]
pub fn word_count(path: &Path, workers: usize, updates: Option<Duration>) -> WordCount {
    let start = Instant::now();
    let file = Arc::new(File::open(path).expect("the input opens"));
    let length = file.metadata().expect("the input has a size").len();

    let parts = run(workers, None, move |worker| {
        let rows: Rc<RefCell<Vec<Counted>>> = Rc::default();
        let collected = Rc::clone(&rows);
        let file = Arc::clone(&file);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);

        worker.dataflow::<u64, _, _>(|scope| {
            let counted = source(scope, "Count", |capability, info| {
                let activator = scope.activator_for(info.address);
                let mut capability = Some(capability);
                let mut block = index;
                let mut buffer = Vec::new();
                let mut table = Table::with_hasher(FixedState::with_seed(1));
                let mut sent = Instant::now();
                move |output: &mut OutputBuilderSession<'_, u64, Builder>| {
                    let Some(held) = capability.as_ref() else { return };
                    if block * BLOCK < length {
                        let bytes =
                            read_block(&file, block, length, &mut buffer).expect("the input can be read");
                        let text = std::str::from_utf8(bytes).expect("the input is UTF-8");
                        for word in words(text) {
                            if let Some(count) = table.get_mut(word) {
                                *count += 1;
                            } else {
                                table.insert(word.to_owned(), 1);
                            }
                        }
                        block += peers;
                        if updates.is_some_and(|interval| sent.elapsed() >= interval) {
                            send_all(table.drain(), |container| {
                                output.session(held).give_container(container)
                            });
                            sent = Instant::now();
                        }
                        activator.activate();
                    } else {
                        send_all(table.drain(), |container| output.session(held).give_container(container));
                        capability = None;
                    }
                }
            });

            let hasher = FixedState::with_seed(2);
            let exchange = Exchange::new(move |counted: &Counted| hasher.hash_one(counted.0.as_str()) >> 32);
            let totals = counted.unary_frontier::<Builder, _, _, _>(exchange, "Add", |capability, _| {
                let mut capability = Some(capability);
                let mut table = Table::with_hasher(FixedState::with_seed(3));
                move |(input, frontier), output| {
                    input.for_each(|cap, batch| {
                        if updates.is_some() {
                            for (word, count) in batch.iter_mut() {
                                match table.get_mut(word) {
                                    Some(total) => {
                                        *total += *count;
                                        *count = *total;
                                    }
                                    None => {
                                        table.insert(word.clone(), *count);
                                    }
                                }
                            }
                            output.session(&cap).give_container(batch);
                            return;
                        }
                        for (word, count) in batch.drain(..) {
                            *table.entry(word).or_insert(0) += count;
                        }
                    });
                    if frontier.is_empty()
                        && let Some(held) = capability.take()
                        && updates.is_none()
                    {
                        send_all(table.drain(), |container| output.session(&held).give_container(container));
                    }
                }
            });
            totals.sink(Pipeline, "Collect", move |(input, _)| {
                input.for_each(|_, batch| collected.borrow_mut().append(batch));
            });
        });
        while worker.step_or_park(None) {}
        rows.take()
    });

    let elapsed = start.elapsed();
    let mut counts = HashMap::with_capacity(parts.iter().map(Vec::len).sum());
    for (word, count) in parts.into_iter().flatten() {
        let before = counts.insert(word, count);
        assert!(updates.is_some() || before.is_none(), "every word has one owner");
    }
    WordCount { counts, elapsed }
}

/// Hands rows on in containers.
fn send_all<R>(rows: impl ExactSizeIterator<Item = R>, mut send: impl FnMut(&mut Vec<R>)) {
    let mut left = rows.len();
    let mut container = Vec::with_capacity(CONTAINER.min(left));
    for row in rows {
        container.push(row);
        left -= 1;
        if container.len() == CONTAINER || left == 0 {
            send(&mut container);
            container = Vec::with_capacity(CONTAINER.min(left));
        }
    }
}

/// Reads the lines that start in block `block` of a file of `length` bytes.
fn read_block<'b>(file: &File, block: u64, length: u64, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
    /// How much is read on at a time to find the end of the last line.
    const MORE: u64 = 4 * 1024;
    // One byte before the block tells whether a line starts with it.
    let from = (block * BLOCK).saturating_sub(1);
    let end = ((block + 1) * BLOCK).min(length);
    let mut read = 0_usize;
    let mut upto = (end + MORE).min(length);
    // The last line that starts in the block ends at the first newline at or after the block's last byte.
    let last = (end - 1 - from) as usize;
    let mut seek = last;
    let stop = loop {
        let wanted = (upto - from) as usize;
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        file.read_exact_at(&mut buffer[read..wanted], from + read as u64)?;
        read = wanted;
        if let Some(newline) = buffer[seek..read].iter().position(|byte| *byte == b'\n') {
            break seek + newline + 1;
        }
        if upto == length {
            break read;
        }
        seek = read;
        upto = (upto + MORE).min(length);
    };
    let begin = if block == 0 {
        0
    } else {
        match buffer[..=last].iter().position(|byte| *byte == b'\n') {
            // A newline as the block's last byte: the line after it starts in the next block.
            Some(newline) if newline < last => newline + 1,
            _ => stop,
        }
    };
    Ok(&buffer[begin..stop])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::zipf_text;

    fn naive(text: &str) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for word in text.split_whitespace() {
            *counts.entry(word.to_owned()).or_insert(0) += 1;
        }
        counts
    }

    fn check(text: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let expected = naive(text);
        let often = Some(Duration::from_micros(50));
        for (workers, updates) in [(1, None), (2, None), (3, None), (1, often), (2, often), (3, often)] {
            let answer = word_count(file.path(), workers, updates);
            assert_eq!(answer.counts, expected, "{workers} workers");
            assert_eq!(answer.words(), expected.values().sum::<u64>());
        }
    }

    #[test]
    fn agrees_with_a_loop() {
        check(&zipf_text(1_500_000, 2_000, 3));
    }

    #[test]
    fn odd_files() {
        check("");
        check("\n");
        check("one");
        check("eins\u{2003}zwei\u{a0}drei \u{3000}\n\n\tvier eins");
        // One line that is longer than several blocks, then short ones, without a last newline.
        let long = "word und mot ".repeat(70_000);
        check(&format!("{long}\n{}a", "kurz\n".repeat(10)));
    }

    #[test]
    fn lines_that_end_exactly_at_a_block() {
        let block = BLOCK as usize;
        for off in [-2_isize, -1, 0, 1, 2] {
            let first = "x".repeat(block.checked_add_signed(off).unwrap() - 1);
            check(&format!("{first}\n{}", "y z\n".repeat(block / 2)));
        }
    }
}
