//! How much Tidemill gets through: each job alone, its cost a record, and whether that stays as the work grows.
//!
//! `cargo run --release -p tidemill-benches --bin throughput -- --help`

#![allow(clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use tidemill::{Mode, Options};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::throughput::{Bench, Cost, Engine, Figures, Job, Sizes, measured, mode, progress};

/// Runs the throughput jobs on Tidemill alone.
#[derive(Debug, Parser)]
#[command(after_long_help = FIGURES)]
struct Arguments {
    /// Jobs: word-count, windowed-KEYS, sliding-PANES, session, process-KEYS, chain-16, chain-64, chain-200. All of them if none is
    /// named; with --scaling the keyed ones.
    #[arg(long, value_delimiter = ',')]
    jobs: Vec<Job>,
    /// Modes.
    #[arg(long, value_delimiter = ',', value_parser = mode, default_value = "micro-batch,continuous")]
    modes: Vec<Mode>,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Events of the windowed jobs, records of the chain.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// Runs of each, after one that does not count.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Run the jobs with 1, 10 and 100 million events, and compare what a record costs.
    #[arg(long, conflicts_with = "events")]
    scaling: bool,
    /// MiB of text.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Different words of the text.
    #[arg(long, default_value_t = 10_000)]
    words: usize,
    /// Keys of the sliding windows and sessions.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Once, without a first run: for a profiler.
    #[arg(long)]
    alone: bool,
    /// Also append every result to this file, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const FIGURES: &str = "\
Jobs:
  word-count    the words of a text whose words follow Zipf's law. Micro-batch: one epoch; continuous: new totals as they
                come. A record is a word.
  windowed-N    events of N keys, counted in ten tumbling windows over the run. A record is an event.
  sliding-N     the same in windows of N panes (slides), 120 panes over the run.
  session       events counted by session, one event in 55 beginning a new one.
  chain-N       eight stateless steps, map and filter in turn, over records of N bytes.
Events are made in process; windows close by watermark as it moves.

Figures:
  M/s           millions of records a second, the median of the runs. The time is that of the whole query: starting its
                threads, reading, computing, committing, ending them.
  min-max       the slowest and the fastest run.
  ns            nanoseconds a record.
  CPU s/M       CPU seconds, user and system, for a million records.
  RSS MiB       the largest resident set of the process in any of the runs.
  2 against 1   how many times as fast two workers are as one; at least 1.7 is wanted of keyed jobs, where both cores are
                free.
  growth        --scaling: what a record costs at most with 10 and 100 million events over what it costs with a million; at
                most 1.2 is wanted. Windows have as many events in all of them, so there are as many times more. Starting
                and ending a query, half a millisecond or more, is in all of them too, so growth may well be below 1.
The answer of every run is compared with a plain loop's (rows, records, and a sum that knows no order). A wrong one voids the
figures, and the exit code is not 0.";

/// Events of the shortest run of `--scaling`.
const SHORTEST: u64 = 1_000_000;

/// A line of the results.
#[derive(Serialize)]
struct Line {
    job: String,
    mode: String,
    workers: usize,
    records: u64,
    runs: usize,
    #[serde(flatten)]
    figures: Figures,
    right: bool,
}

/// A promise and what came of it.
#[derive(Serialize)]
struct Promise {
    promise: String,
    value: f64,
    target: f64,
    kept: bool,
}

struct Run<'a> {
    arguments: &'a Arguments,
    bench: Bench,
    json: JsonLines,
    right: bool,
}

impl Run<'_> {
    fn measure(&mut self, job: Job, mode: Mode, workers: usize) -> Figures {
        let engine = Engine::Tidemill(mode);
        let expected = self.bench.expected(job);
        let records = self.bench.records(job);
        let mut cost = Cost::default();
        let first = usize::from(self.arguments.alone);
        let runs = if self.arguments.alone { 1 } else { self.arguments.runs.max(1) };
        let bar = progress(runs + 1 - first);
        bar.set_message(format!("{job} {engine} {workers}"));
        for run in first..=runs {
            let outcome = measured(|| self.bench.run(job, engine, workers));
            if run == 0 {
                cost.check(outcome.0, expected);
            } else {
                cost.add(outcome, expected);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let figures = cost.figures(records);
        let right = cost.is_right();
        self.right &= right;
        let spread = format!(
            "{:.1}-{:.1}",
            records as f64 / figures.max_seconds / 1e6,
            records as f64 / figures.min_seconds / 1e6
        );
        println!(
            "{job:16} {engine:11} {workers:7} {:10.1} {:>8.2} {spread:>13} {:>7.2} {:>8.4} {:>8.1}{}",
            records as f64 / 1e6,
            figures.mega_per_second,
            figures.ns_per_record,
            figures.cpu_seconds_per_million,
            figures.peak_rss_mib,
            if right { "" } else { "  VOID: wrong answer" }
        );
        self.json
            .write(&Line {
                job: job.to_string(),
                mode: engine.to_string(),
                workers,
                records,
                runs,
                figures,
                right,
            })
            .expect("the result can be written");
        figures
    }

    fn promise(&mut self, promise: String, value: f64, target: f64, kept: bool) {
        println!("{promise:60} {value:.2}, target {target}: {}", if kept { "kept" } else { "MISSED" });
        self.json.write(&Promise { promise, value, target, kept }).expect("the result can be written");
    }

    fn all(&mut self, jobs: &[Job]) {
        let mut speedups = Vec::new();
        for &job in jobs {
            for &mode in &self.arguments.modes {
                let mut one = None;
                for &workers in &self.arguments.workers {
                    let seconds = self.measure(job, mode, workers).seconds;
                    match (workers, one) {
                        (1, _) => one = Some(seconds),
                        (2, Some(one)) if job.is_keyed() => {
                            speedups.push((format!("{job}, {}", Engine::Tidemill(mode)), one / seconds));
                        }
                        _ => {}
                    }
                }
            }
        }
        for (of, times) in speedups {
            self.promise(format!("2 against 1: {of}"), times, 1.7, times >= 1.7);
        }
    }

    fn scaling(&mut self, jobs: &[Job]) {
        let mut growths = Vec::new();
        for &job in jobs {
            for &mode in &self.arguments.modes {
                for &workers in &self.arguments.workers {
                    let costs = [1, 10, 100].map(|times| {
                        self.bench.set_longer(times);
                        self.measure(job, mode, workers).ns_per_record
                    });
                    growths.push((format!("{job}, {}, {workers} workers", Engine::Tidemill(mode)), costs));
                }
            }
        }
        for (of, costs) in growths {
            let [least, rest @ ..] = costs;
            let growth = rest.into_iter().fold(0.0, f64::max) / least;
            self.promise(format!("growth: {of}"), growth, 1.2, growth <= 1.2);
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let events = if arguments.scaling { SHORTEST } else { arguments.events };
    let sizes = Sizes { events, mib: arguments.mib, words: arguments.words, keys: arguments.keys };
    let json = JsonLines::append(arguments.json.as_deref()).expect("the results' file opens");
    println!("{}", json.provenance().headline());
    println!(
        "{:16} {:11} {:>7} {:>10} {:>8} {:>13} {:>7} {:>8} {:>8}",
        "job", "mode", "workers", "M records", "M/s", "min-max", "ns", "CPU s/M", "RSS MiB"
    );
    let jobs = match (&arguments.jobs, arguments.scaling) {
        (jobs, _) if !jobs.is_empty() => jobs.clone(),
        (_, false) => Job::ALL.to_vec(),
        (_, true) => Job::ALL.into_iter().filter(|job| job.is_keyed() && *job != Job::WordCount).collect(),
    };
    let bench = Bench::new(sizes, Options::default());
    let mut run = Run { arguments: &arguments, bench, json, right: true };
    if arguments.scaling {
        run.scaling(&jobs)
    } else {
        run.all(&jobs)
    }
    if run.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
