//! Runs the baselines by themselves and prints their medians: what this machine makes of the hand-written programs.
//!
//! `cargo run --release -p tidemill-benches --bin baseline -- --help`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a baseline fails loudly"
)]

use std::io;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tidemill_benches::baseline::chain::{Large, Medium, Record, Small, Style, chain};
use tidemill_benches::baseline::windowed_count::{WindowedCount, windowed_count};
use tidemill_benches::baseline::word_count::word_count;
use tidemill_benches::measure::{
    Sample, Summary, cpu_time, json_line, machine, peak_rss, reset_peak_rss, summarise,
};
use tidemill_benches::text::zipf_file;

/// Which baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Job {
    /// All of them.
    All,
    /// Words of a file.
    WordCount,
    /// Events per key and window.
    WindowedCount,
    /// Eight stateless steps.
    Chain,
}

/// Runs the baselines and prints their medians.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to run.
    #[arg(value_enum, default_value = "all")]
    job: Job,
    /// Measured runs of each (after one that is not).
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Word count: the text's size in MiB.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Word count: different words.
    #[arg(long, default_value_t = 10_000)]
    words: usize,
    /// Word count: read this file instead.
    #[arg(long)]
    text: Option<PathBuf>,
    /// Windowed count: events.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// Windowed count: windows over the run.
    #[arg(long, default_value_t = 10)]
    windows: u64,
    /// Windowed count: keys.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    keys: Vec<u64>,
    /// Windowed count and chain: records in a batch.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096,8192")]
    batch: Vec<usize>,
    /// Chain: records.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// A line of the output.
#[derive(Serialize)]
struct Line {
    job: String,
    #[serde(flatten)]
    summary: Summary,
    answer: String,
    cpu_seconds: f64,
    peak_rss_mib: f64,
}

impl Arguments {
    /// Whether a job was asked for.
    fn wants(&self, job: Job) -> bool {
        self.job == Job::All || self.job == job
    }

    /// Runs the variants of one job by turns and prints a line for each.
    fn measure(&self, variants: Vec<(String, Box<dyn FnMut() -> Sample>)>) {
        let mut variants: Vec<_> =
            variants.into_iter().map(|(name, run)| (name, run, Vec::new(), Vec::new(), 0)).collect();
        let mut answer = None;
        for round in 0..=self.runs {
            for (name, run, samples, cpu, peak) in &mut variants {
                reset_peak_rss();
                let before = cpu_time().unwrap_or_default();
                let sample = run();
                let used = cpu_time().unwrap_or_default().saturating_sub(before);
                assert_eq!(
                    sample.answer,
                    *answer.get_or_insert(sample.answer),
                    "{name} gives another answer"
                );
                if round > 0 {
                    samples.push(sample);
                    cpu.push(used.as_secs_f64());
                    *peak = peak_rss().unwrap_or(0).max(*peak);
                }
            }
        }
        for (job, _, samples, cpu, peak) in variants {
            let line = Line {
                job,
                summary: summarise(&samples),
                answer: format!("{:016x}", answer.unwrap_or(0)),
                cpu_seconds: tidemill_benches::measure::median(&cpu),
                peak_rss_mib: peak as f64 / f64::from(1 << 20),
            };
            if self.json {
                json_line(&mut io::stdout(), &line).expect("the output can be written");
            } else {
                let Line { job, summary, answer, cpu_seconds, peak_rss_mib } = line;
                println!(
                    "{job:58} {:8.4} s ({:.4}-{:.4}) {:8.2} M/s  cpu {cpu_seconds:.2} s  {peak_rss_mib:6.1} MiB  {answer}",
                    summary.median, summary.min, summary.max, summary.mega_per_second
                );
            }
        }
    }

    fn word_count(&self) {
        let kept = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = self.text.clone().unwrap_or_else(|| kept.path().to_owned());
        if self.text.is_none() {
            zipf_file(&path, self.mib << 20, self.words, 42).expect("the text can be written");
        }
        let mut variants: Vec<(String, Box<dyn FnMut() -> Sample>)> = Vec::new();
        for &workers in &self.workers {
            let path = path.clone();
            let run = move || {
                let answer = word_count(&path, workers, None);
                Sample { elapsed: answer.elapsed, records: answer.words(), answer: answer.checksum() }
            };
            variants.push((format!("word count, {workers} workers"), Box::new(run)));
        }
        self.measure(variants);
    }

    fn windowed_count(&self) {
        for &keys in &self.keys {
            let mut variants: Vec<(String, Box<dyn FnMut() -> Sample>)> = Vec::new();
            for &workers in &self.workers {
                for two_phase in [false, true] {
                    for &batch in &self.batch {
                        let job = WindowedCount {
                            windows: self.windows,
                            batch,
                            two_phase,
                            ..WindowedCount::new(self.events, keys, workers)
                        };
                        let run = move || {
                            let answer = windowed_count(job);
                            assert_eq!(answer.events, job.events, "every event is counted");
                            Sample { elapsed: answer.elapsed, records: job.events, answer: answer.checksum }
                        };
                        let phases = if two_phase { "two phases" } else { "one phase" };
                        variants.push((
                            format!("windowed count, {keys} keys, {workers} workers, {phases}, {batch}"),
                            Box::new(run),
                        ));
                    }
                }
            }
            self.measure(variants);
        }
    }

    fn chain<R: Record>(&self) {
        let mut variants: Vec<(String, Box<dyn FnMut() -> Sample>)> = Vec::new();
        let records = self.records;
        for style in [Style::Fused, Style::Streamed, Style::PerStep] {
            for &batch in &self.batch {
                let run = move || {
                    let answer = chain::<R>(records, batch, style);
                    Sample { elapsed: answer.elapsed, records, answer: answer.checksum ^ answer.count }
                };
                variants
                    .push((format!("chain, {} bytes, {style:?}, {batch}", size_of::<R>()), Box::new(run)));
            }
        }
        self.measure(variants);
    }
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.json {
        json_line(&mut io::stdout(), &machine()).expect("the output can be written");
    } else {
        println!("{:?}", machine());
    }
    if arguments.wants(Job::WordCount) {
        arguments.word_count();
    }
    if arguments.wants(Job::WindowedCount) {
        arguments.windowed_count();
    }
    if arguments.wants(Job::Chain) {
        arguments.chain::<Small>();
        arguments.chain::<Medium>();
        arguments.chain::<Large>();
    }
}
