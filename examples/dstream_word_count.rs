//! The word count of DStreams: the words of the last seconds, and of each batch, by processing time.
//!
//! ```sh
//! cargo run --release --example dstream_word_count
//! cargo run --release --example dstream_word_count -- --mode continuous --workers 2
//! ```
//!
//! Lines come through a channel, as from a receiver. The counts of the last two seconds are emitted every half second; a window takes in
//! the words of half a second, and takes out those that have become older than two. Which window a word is in depends on when it
//! comes, so the program checks sums: each word is in four windows and in one batch.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use clap::Parser;
use tidemill::connectors::channel;
use tidemill::prelude::*;

const BATCH: Duration = Duration::from_millis(100);
const SLIDE: Duration = Duration::from_millis(500);
const LENGTH: Duration = Duration::from_secs(2);

const LINES: [&str; 4] = [
    "the mill turns with the tide",
    "the tide comes and the tide goes",
    "and the mill stands",
    "the mill turns",
];
/// How often the lines are sent.
const TIMES: u64 = 300;

/// Runs the word count of DStreams on one of the two modes.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let (sender, lines) = channel::<String>(64);
    let graph = Graph::new("word count by processing time");
    let words = graph
        .source(lines)
        .flat_map(|line| line.split(' ').map(|word| (word.to_owned(), 1u64)).collect::<Vec<_>>())
        .boxed();

    let (sink, windows) = memory_sink();
    words
        .clone()
        .batches(BATCH)
        .key_by(|(word, _)| word.clone())
        .reduce_by_key_and_window_inverse(
            |(word, a), (_, b)| (word, a + b), // words that come into the window
            |(word, a), (_, b)| (word, a - b), // words that leave it
            LENGTH,
            SLIDE,
        )
        .sink(sink);

    let (sink, longest) = memory_sink();
    words
        .batches(BATCH)
        .transform(|batch| {
            let longest = batch.rows.iter().map(|(word, _)| word.as_str()).max_by_key(|word| word.len());
            longest.map(|longest| (longest.to_owned(), batch.rows.len() as u64))
        })
        .sink(sink);

    let feeder = std::thread::spawn(move || {
        for line in (0..TIMES).flat_map(|_| LINES) {
            if sender.send(line.to_owned()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_micros(500)); // as a network would
        }
    });
    let summary = graph.run(options)?;
    feeder.join().map_err(|_| "the feeder panicked")?;

    let mut totals = BTreeMap::<String, u64>::new();
    for row in windows.snapshot() {
        *totals.entry(row.key).or_default() += row.value.1;
    }
    let mut expected = BTreeMap::<String, u64>::new();
    for word in LINES.iter().flat_map(|line| line.split(' ')) {
        *expected.entry(word.to_owned()).or_default() +=
            TIMES * (LENGTH.as_millis() / SLIDE.as_millis()) as u64;
    }
    if totals != expected {
        return Err(format!("sums over all windows: {totals:?}, and not {expected:?}").into());
    }
    let in_batches: u64 = longest.snapshot().iter().map(|(_, words)| words).sum();
    let sent = TIMES * LINES.iter().map(|line| line.split(' ').count() as u64).sum::<u64>();
    if in_batches != sent {
        return Err(format!("{in_batches} words in batches, and not {sent}").into());
    }
    println!(
        "{} lines in {:.1} s: {} results of windows, {} batches; each word was in four windows and in one batch",
        summary.input_rows,
        summary.seconds,
        windows.snapshot().len(),
        longest.snapshot().len(),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Args::parse().options;
    if std::env::args().len() > 1 {
        return run(options);
    }
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        print!("{mode:?}: ");
        run(options.clone().with_mode(mode).with_workers(2))?;
    }
    Ok(())
}
