//! What Tidemill costs over programs written by hand on timely dataflow: the same job, by turns, answers compared.
//!
//! `cargo run --release -p tidemill-benches --bin overhead -- --help`
//!
//! `a` is Tidemill, `b` the program written by hand. The exit code is not zero if an answer is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tidemill::{Mode, Options};
use tidemill_benches::baseline::chain::{Large, Medium, Record, Small};
use tidemill_benches::baseline::{self, chain::Style, windowed_count::WindowedCount};
use tidemill_benches::jobs;
use tidemill_benches::measure::{Comparison, Sample, compare, json_line, machine, table};
use tidemill_benches::text::zipf_file;

/// Which job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Job {
    /// All of them.
    All,
    /// Words of a file.
    WordCount,
    /// Events per key and window.
    Windowed,
    /// Eight stateless steps.
    Chain,
}

/// Compares Tidemill with programs written by hand.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to run.
    #[arg(long, value_enum, default_value = "all")]
    job: Job,
    /// Measured rounds of each comparison (after one that is not).
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Modes.
    #[arg(long, value_delimiter = ',', value_parser = mode, default_value = "micro-batch,continuous")]
    mode: Vec<Mode>,
    /// Word count: the text's size in MiB.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Word count: different words.
    #[arg(long, default_value_t = 10_000)]
    words: usize,
    /// Windowed count and chain: events.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// Windowed count: keys.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    keys: Vec<u64>,
    /// Chain: record sizes.
    #[arg(long, value_delimiter = ',', default_value = "16,64,200")]
    bytes: Vec<usize>,
    /// Chain: records in a batch of the program written by hand.
    #[arg(long, default_value_t = 1024)]
    batch: usize,
    /// Also write the results to this file, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many records may wait between Tidemill's workers.
    #[arg(long, default_value_t = Options::default().max_queued)]
    max_queued: usize,
    /// Milliseconds from checkpoint to checkpoint in Tidemill's continuous mode.
    #[arg(long, default_value_t = 1000)]
    checkpoint_interval: u64,
    /// Only Tidemill, once, without comparing: for a profiler.
    #[arg(long)]
    alone: bool,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "micro-batch" => Ok(Mode::MicroBatch),
        "continuous" => Ok(Mode::Continuous),
        other => Err(format!("`{other}` is neither `micro-batch` nor `continuous`")),
    }
}

fn in_words(mode: Mode) -> &'static str {
    match mode {
        Mode::MicroBatch => "micro-batch",
        Mode::Continuous => "continuous",
    }
}

/// A comparison with what it was to show.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    comparison: Comparison,
    /// The greatest `a / b` that keeps the promise.
    target: f64,
    kept: bool,
}

struct Bench {
    arguments: Arguments,
    json: Option<File>,
    agreed: bool,
}

impl Bench {
    fn options(&self, mode: Mode) -> Options {
        Options::default()
            .with_mode(mode)
            .with_max_queued(self.arguments.max_queued)
            .with_checkpoint_interval(Duration::from_millis(self.arguments.checkpoint_interval))
    }

    fn wants(&self, job: Job) -> bool {
        self.arguments.job == Job::All || self.arguments.job == job
    }

    fn write(&mut self, line: &impl Serialize) {
        if let Some(file) = &mut self.json {
            json_line(file, line).expect("the results can be written");
        }
    }

    fn compare(&mut self, name: &str, target: f64, mut a: impl FnMut() -> Sample, b: impl FnMut() -> Sample) {
        if self.arguments.alone {
            println!("{name}: {:?}", a());
            return;
        }
        let comparison = compare(name, self.arguments.runs, a, b);
        self.agreed &= comparison.agreed;
        let kept = comparison.agreed && comparison.ratio <= target;
        let text = table(std::slice::from_ref(&comparison));
        for line in text.lines() {
            println!("{line}");
        }
        println!("{:>50}  target a/b {target:.2}: {}", "", if kept { "kept" } else { "MISSED" });
        self.write(&Line { comparison, target, kept });
    }

    fn word_count(&mut self) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        zipf_file(file.path(), self.arguments.mib << 20, self.arguments.words, 42)
            .expect("the text is written");
        for workers in self.arguments.workers.clone() {
            for mode in self.arguments.mode.clone() {
                let options = self.options(mode).with_workers(workers);
                // In continuous mode both say new totals while they count, at least this often.
                let updates = (mode == Mode::Continuous).then_some(Duration::from_millis(20));
                let sample = |answer: baseline::word_count::WordCount| Sample {
                    elapsed: answer.elapsed,
                    records: answer.words(),
                    answer: answer.checksum(),
                };
                self.compare(
                    &format!("word count, {}, {workers} workers", in_words(mode)),
                    1.0 / 0.9,
                    || sample(jobs::word_count::word_count(file.path(), &options)),
                    || sample(baseline::word_count::word_count(file.path(), workers, updates)),
                );
            }
        }
    }

    fn windowed(&mut self) {
        for keys in self.arguments.keys.clone() {
            for workers in self.arguments.workers.clone() {
                for mode in self.arguments.mode.clone() {
                    let job = WindowedCount::new(self.arguments.events, keys, workers);
                    let options = self.options(mode);
                    let sample = |answer: baseline::windowed_count::Windowed| Sample {
                        elapsed: answer.elapsed,
                        records: job.events,
                        answer: answer.checksum ^ answer.events ^ answer.rows.rotate_left(32),
                    };
                    self.compare(
                        &format!("windowed count, {keys} keys, {}, {workers} workers", in_words(mode)),
                        1.0 / 0.9,
                        || sample(jobs::windowed_count::windowed_count(job, &options)),
                        || sample(baseline::windowed_count::windowed_count(job)),
                    );
                }
            }
        }
    }

    fn chain<R: Record>(&mut self) {
        if !self.arguments.bytes.contains(&size_of::<R>()) {
            return;
        }
        let (records, batch) = (self.arguments.events, self.arguments.batch);
        for mode in self.arguments.mode.clone() {
            let options = self.options(mode);
            let sample = |answer: baseline::chain::Chain| Sample {
                elapsed: answer.elapsed,
                records,
                answer: answer.checksum ^ answer.count,
            };
            self.compare(
                &format!("chain, {} bytes, {}", size_of::<R>(), in_words(mode)),
                1.2,
                || sample(jobs::chain::chain::<R>(records, &options)),
                || sample(baseline::chain::chain::<R>(records, batch, Style::Fused)),
            );
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json.as_ref().map(|path| File::create(path).expect("the file can be created"));
    let mut bench = Bench { arguments, json, agreed: true };
    println!("a: Tidemill; b: written by hand. {:?}", machine());
    bench.write(&machine());
    if bench.wants(Job::WordCount) {
        bench.word_count();
    }
    if bench.wants(Job::Windowed) {
        bench.windowed();
    }
    if bench.wants(Job::Chain) {
        bench.chain::<Small>();
        bench.chain::<Medium>();
        bench.chain::<Large>();
    }
    let _ = io::stdout().flush();
    if bench.agreed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
