//! Counting words of a file; see [`baseline::word_count`](crate::baseline::word_count).

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tidemill::connectors::{Text, text_blocks};
use tidemill::{Graph, Options, Run};

use super::{Gather, gathered};
use crate::baseline::word_count::WordCount;

/// The rows that a sink has held, in the order in which they came; those of all sinks.
#[derive(Default)]
struct Rows {
    own: Vec<(String, u64)>,
    of_all: Vec<Vec<(String, u64)>>,
}

/// Counts the words of a file: in micro-batch as one epoch, in continuous mode with an updated count of every word that
/// an activation has brought.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn word_count(path: &Path, options: &Options) -> WordCount {
    let start = Instant::now();
    let counts: Arc<Mutex<Rows>> = Arc::default();
    let shared = Arc::clone(&counts);
    let graph = Graph::new("word count");
    graph
        .source(text_blocks(path.display().to_string()).bounded().max_bytes_per_epoch(1 << 40))
        .keys_by(Text::words)
        .count()
        .update()
        .sink_per_worker(move |_| {
            let take = |rows: &mut Rows, row| rows.own.push(row);
            Ok(Gather::new(&shared, take, |all, one| all.of_all.push(one.own)))
        });
    graph.run(options.clone()).expect("the query runs to its end");
    let elapsed = start.elapsed();
    // A word's rows are all of one worker; the last one counts.
    WordCount { counts: gathered(&counts).of_all.into_iter().flatten().collect(), elapsed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline;
    use crate::text::zipf_text;
    use tidemill::Mode;

    #[test]
    fn agrees_with_the_baseline() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), zipf_text(1_500_000, 2_000, 3)).unwrap();
        let expected = baseline::word_count::word_count(file.path(), 1, None).counts;
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            for workers in [1, 2] {
                let options = Options::default().with_mode(mode).with_workers(workers);
                assert_eq!(word_count(file.path(), &options).counts, expected, "{mode:?} {workers}");
            }
        }
    }
}
