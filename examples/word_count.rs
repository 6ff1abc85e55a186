//! Counts words: the same graph over a file, a socket or a text of its own, as micro-batches or record by record.
//!
//! ```sh
//! cargo run --release --example word_count                                # a text of its own, every way to run it
//! cargo run --release --example word_count -- --input book.txt --workers 2
//! cargo run --release --example word_count -- --input book.txt --mode continuous --output jsonl:counts.jsonl
//! nc -lk 9999 &  cargo run --release --example word_count -- --socket localhost:9999 --mode continuous
//! ```
//!
//! A word is text between Unicode whitespace. The counts are emitted in update mode: again each time a word's count has
//! changed, so the last row of a word is its total.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use tidemill::Summary;
use tidemill::connectors::{TextBlocks, Words, words};
use tidemill::prelude::*;

#[derive(Serialize, Deserialize)]
struct WordCount {
    word: String,
    count: u64,
}

/// The graph. It does not know where the text comes from, nor how it will be run.
fn count_words<T: AsRef<str> + Send + 'static>(text: Stream<T>) -> Stream<WordCount> {
    text.keys_by(words_of).count().update().map(|(word, count)| WordCount { word, count }).boxed()
}

fn words_of<T: AsRef<str>>(text: &T) -> Words<'_> {
    words(text.as_ref())
}

/// Counts words in a file, from a socket, or in a text of its own.
#[derive(Parser)]
struct Args {
    /// Count the words of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    input: Option<PathBuf>,

    /// Count the words of the lines that this server sends.
    #[arg(long, value_name = "HOST:PORT")]
    socket: Option<String>,

    /// The size in MiB of the text that the program makes itself.
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    mib: usize,

    /// Where the counts go: `console`, or `jsonl:PATH` for a file of JSON lines. By default those of a socket go to
    /// the console, and of a file only the ten most frequent words are shown.
    #[arg(long, value_name = "WHERE")]
    output: Option<Output>,

    /// What to do when the server closes the connection.
    #[arg(long, value_enum, default_value_t = Disconnect::End)]
    on_disconnect: Disconnect,

    #[command(flatten)]
    options: Options,
}

#[derive(Clone)]
enum Output {
    Console,
    JsonLines(PathBuf),
}

impl FromStr for Output {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "console" => Ok(Output::Console),
            Some(("jsonl", path)) if !path.is_empty() => Ok(Output::JsonLines(path.into())),
            _ => Err(format!("`{text}` is neither `console` nor something like `jsonl:counts.jsonl`")),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Disconnect {
    /// The counting ends.
    End,
    /// The counting fails.
    Fail,
    /// Connect again, every second until it succeeds.
    Reconnect,
}

impl From<Disconnect> for OnDisconnect {
    fn from(what: Disconnect) -> Self {
        match what {
            Disconnect::End => OnDisconnect::End,
            Disconnect::Fail => OnDisconnect::Fail,
            Disconnect::Reconnect => OnDisconnect::Reconnect { after: Duration::from_secs(1) },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match (&args.input, &args.socket) {
        (Some(path), _) => count_file(path, &args),
        (None, Some(address)) => count_socket(address, &args),
        (None, None) => compare_all_ways(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word_count: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count_socket(address: &str, args: &Args) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("word_count");
    let lines = graph.source(socket(address).on_disconnect(args.on_disconnect.into()));
    let counts = count_words(lines.boxed());
    match &args.output {
        None | Some(Output::Console) => counts.sink(console()),
        Some(Output::JsonLines(path)) => counts.as_inserts().sink(json_lines_sink(path)),
    }
    let summary = graph.run(args.options.clone())?;
    eprintln!("{} lines in {} epochs, {:.1} s", summary.input_rows, summary.epochs, summary.seconds);
    Ok(())
}

fn count_file(path: &Path, args: &Args) -> Result<(), Box<dyn Error>> {
    let Some(output) = &args.output else {
        let (totals, summary) = totals_of(path, args.options.clone())?;
        show_top_ten(&totals);
        println!("{}", Speed { words: totals.values().sum(), seconds: summary.seconds });
        return Ok(());
    };
    let graph = Graph::new("word_count");
    let counts = count_words(graph.source(blocks(path)).boxed());
    match output {
        Output::Console => counts.sink(console()),
        Output::JsonLines(path) => counts.as_inserts().sink(json_lines_sink(path)),
    }
    let summary = run(&graph, args.options.clone())?;
    eprintln!("{} rows in {} epochs, {:.2} s", summary.output_rows, summary.epochs, summary.seconds);
    Ok(())
}

/// The file, a block of lines at a time: a program that splits text needs no lines.
fn blocks(path: &Path) -> TextBlocks {
    text_blocks(path.display().to_string()).bounded()
}

/// Runs the graph over a file and keeps the last count of each word.
fn totals_of(path: &Path, options: Options) -> Result<(HashMap<String, u64>, Summary), RunError> {
    let totals = Arc::new(Mutex::new(HashMap::new()));
    let kept = Arc::clone(&totals);
    let graph = Graph::new("word_count");
    count_words(graph.source(blocks(path)).boxed()).sink(for_each(move |row: WordCount| {
        kept.lock().unwrap_or_else(PoisonError::into_inner).insert(row.word, row.count);
    }));
    let summary = run(&graph, options)?;
    let totals = std::mem::take(&mut *totals.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((totals, summary))
}

/// Runs a graph to its end; says every two seconds how far it is.
fn run(graph: &Graph, options: Options) -> Result<Summary, RunError> {
    let query = graph.start(options)?;
    let mut reported = Instant::now();
    while !query.is_finished() {
        std::thread::sleep(Duration::from_millis(2));
        if reported.elapsed() >= Duration::from_secs(2) {
            reported = Instant::now();
            match query.progress().epoch {
                Some(epoch) => eprintln!("… epoch {epoch} is committed"),
                None => eprintln!("… in the first epoch"),
            }
        }
    }
    query.wait()
}

/// Counts a text of its own in both modes, with one worker and with two, and holds each against a plain loop.
fn compare_all_ways(args: &Args) -> Result<(), Box<dyn Error>> {
    // Large enough that starting the workers does not count: a run takes about a second.
    let text = zipf_text(args.mib << 20);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("text.txt");
    std::fs::write(&path, &text)?;

    let started = Instant::now();
    let mut expected = HashMap::<&str, u64>::new();
    for word in text.split_whitespace() {
        *expected.entry(word).or_default() += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let words = expected.values().sum();
    println!("{} MiB of text, {words} words, {} different ones\n", text.len() >> 20, expected.len());
    println!("{:<24}{}", "a plain loop", Speed { words, seconds });

    let mut last = HashMap::new();
    for (mode, name) in [(Mode::MicroBatch, "micro-batch"), (Mode::Continuous, "continuous")] {
        for workers in [1, 2] {
            let way = format!("{name}, workers: {workers}");
            let (totals, summary) =
                totals_of(&path, args.options.clone().with_mode(mode).with_workers(workers))?;
            println!("{way:<24}{}", Speed { words, seconds: summary.seconds });
            let agrees = |(word, count): (&&str, &u64)| totals.get(*word) == Some(count);
            if totals.len() != expected.len() || !expected.iter().all(agrees) {
                return Err(format!("{way}: the counts are not those of the plain loop").into());
            }
            last = totals;
        }
    }
    println!("\nAll agree, word for word. The most frequent:\n");
    show_top_ten(&last);
    Ok(())
}

fn show_top_ten(totals: &HashMap<String, u64>) {
    let mut ranked: Vec<_> = totals.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    for (word, count) in ranked.into_iter().take(10) {
        println!("{count:>10}  {word}");
    }
}

/// How fast words were counted.
struct Speed {
    words: u64,
    seconds: f64,
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millions = self.words as f64 / self.seconds / 1e6;
        write!(f, "{} words in {:.2} s, {millions:.1} million words/s", self.words, self.seconds)
    }
}

/// A text of about this many bytes, always the same: as in every language, the n-th word comes about 1/n as often as
/// the first (Zipf, 1935).
fn zipf_text(bytes: usize) -> String {
    const VOCABULARY: f64 = 30_000.0;
    let mut text = String::with_capacity(bytes + 64);
    let mut random = Random(1935);
    for number in 1_u64.. {
        let rank = VOCABULARY.powf(random.fraction()) as usize;
        push_word(&mut text, rank);
        text.push(if number % 12 == 0 { '\n' } else { ' ' });
        if text.len() >= bytes {
            break;
        }
    }
    text
}

/// Spells a number: a syllable for each of its digits to the base 12.
fn push_word(text: &mut String, number: usize) {
    const SYLLABLES: [&str; 12] = ["ti", "de", "mi", "le", "wa", "vö", "sa", "ro", "ka", "nu", "pé", "lo"];
    if number >= SYLLABLES.len() {
        push_word(text, number / SYLLABLES.len());
    }
    text.extend(SYLLABLES.get(number % SYLLABLES.len()).copied());
}

/// A small random number generator (SplitMix64: Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    /// A number in `[0, 1)`.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
