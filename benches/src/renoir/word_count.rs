//! Counting words of a file; see [`baseline::word_count`](crate::baseline::word_count).
//!
//! Renoir's documentation clones every word to group it. An operator of one's own counts the words of the lines into the
//! replica's table and copies a word only when it is new; at the end the counts go to the replicas that own the words and
//! are added up.

use std::path::Path;
use std::time::Instant;

use foldhash::fast::FixedState;
use renoir::operator::StreamElement;
use renoir::prelude::{BatchMode, FileSource};
use tidemill::connectors::words;

use super::{BATCH, context};
use crate::baseline::word_count::WordCount;

/// Counts by word.
type Table = hashbrown::HashMap<String, u64, FixedState>;

/// Counts the words (split at Unicode white space, by [`words`]) of the UTF-8 file at `path`.
#[must_use]
pub fn word_count(path: &Path, workers: usize) -> WordCount {
    let start = Instant::now();
    let context = context(workers);
    let mut table = Table::with_hasher(FixedState::with_seed(1));
    let mut counted = Vec::new();
    let mut has_ended = false;
    let output = context
        .stream(FileSource::new(path))
        .batch_mode(BatchMode::fixed(BATCH))
        .rich_map_custom(move |mut lines| {
            loop {
                if let Some(row) = counted.pop() {
                    return StreamElement::Item(row);
                }
                if std::mem::take(&mut has_ended) {
                    return StreamElement::FlushAndRestart;
                }
                match lines.next() {
                    StreamElement::Item(line) => {
                        let line: String = line;
                        for word in words(&line) {
                            if let Some(count) = table.get_mut(word) {
                                *count += 1;
                            } else {
                                table.insert(word.to_owned(), 1);
                            }
                        }
                    }
                    StreamElement::FlushAndRestart => {
                        counted.extend(table.drain());
                        has_ended = true;
                    }
                    StreamElement::Terminate => return StreamElement::Terminate,
                    _ => {}
                }
            }
        })
        .group_by(|row: &(String, u64)| row.0.clone())
        .fold(0, |sum, row| *sum += row.1)
        .collect_vec_all();
    context.execute_blocking();
    let elapsed = start.elapsed();
    WordCount { counts: output.get().unwrap_or_default().into_iter().collect(), elapsed }
}
