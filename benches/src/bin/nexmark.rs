//! The Nexmark suite on Tidemill, in both modes; with the feature `peers` by turns with Renoir.
//!
//! `cargo run --release -p tidemill-benches --bin nexmark -- --help`
//! `cargo run --release -p tidemill-benches --features peers --bin nexmark -- --queries 0,1,2,5,7`
//!
//! The exit code is not zero if an answer is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tidemill::{Mode, Options};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::measure::{cpu_time, median, peak_rss, reset_peak_rss, rss};
use tidemill_benches::nexmark::answer::Answer;
use tidemill_benches::nexmark::events::{self, Feed, Settings};
use tidemill_benches::nexmark::{ABSENT, Entry, Outcome, QUERIES, plain_loop};

/// Runs queries of the Nexmark suite over events that are made before the clock starts, and checks every answer.
///
/// A run's time is from building the graph until all threads have ended. Whoever takes an event has to free it; nobody
/// copies one. Everything that is compared runs by turns, and another first in each round.
#[derive(Debug, Parser)]
#[command(after_help = explanation())]
struct Arguments {
    /// The queries; 0 is always among them, for it shows what the engine costs when there is nothing to do.
    #[arg(long, value_delimiter = ',', default_values_t = QUERIES.map(|query| query.number))]
    queries: Vec<u32>,
    /// How many events: 1 person and 3 auctions to 46 bids, 10,000 in a second of event time.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// How many events the answers are compared with plain loops over, before anything is measured.
    #[arg(long, default_value_t = 200_000)]
    check_events: u64,
    /// Tidemill's modes.
    #[arg(long, value_delimiter = ',', default_value = "micro-batch,continuous")]
    modes: Vec<Mode>,
    /// Numbers of workers; the events have as many partitions.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<u32>,
    /// Measured runs of each.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Leave Renoir out.
    #[cfg(feature = "peers")]
    #[arg(long)]
    without_renoir: bool,
    /// Also append the results to this file, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const FIGURES: &str = "\
The plain loop takes the events of query 0 from memory and frees them, without an engine: what no engine can do without.

Figures:
  M/s       millions of events (of all three kinds) a second; the middle run, and the slowest and the fastest
  CPU s/M   processor seconds, user and system, that a million events take; the middle run
  RSS       the most memory that the process had during a run, in MiB; and how much of it the events had at its start,
            which they give back while they are read
  rows      rows of the result; of a query that says new values for old ones (15, 16, 17) those that stay, and in
            brackets how many were said
  x Renoir  events a second over Renoir's, the middle of the rounds' ratios; the least that was to be reached, and
            whether it was";

/// What is below the flags in `--help`: the queries, a line each, and the figures.
fn explanation() -> String {
    let there = QUERIES.iter().map(|query| format!("  {:<3} {}: {}", query.number, query.title, query.what));
    let absent = ABSENT.iter().map(|(number, why)| format!("  {number:<3} is not there: it {why}"));
    let mut lines: Vec<(u32, String)> = QUERIES.iter().map(|query| query.number).zip(there).collect();
    lines.extend(ABSENT.iter().map(|(number, _)| *number).zip(absent));
    lines.sort();
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    format!("Queries:\n{}\n\n{FIGURES}", lines.join("\n"))
}

/// Who runs a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Tidemill(Mode),
    /// No engine at all: only query 0.
    Loop,
    #[cfg(feature = "peers")]
    Renoir,
}

impl Runner {
    fn name(self) -> &'static str {
        match self {
            Runner::Tidemill(Mode::MicroBatch) => "micro-batch",
            Runner::Tidemill(Mode::Continuous) => "continuous",
            Runner::Loop => "plain loop",
            #[cfg(feature = "peers")]
            Runner::Renoir => "Renoir",
        }
    }

    fn can(self, query: &Entry) -> bool {
        match self {
            Runner::Tidemill(_) => true,
            Runner::Loop => query.number == 0,
            #[cfg(feature = "peers")]
            Runner::Renoir => tidemill_benches::nexmark::renoir::NUMBERS.contains(&query.number),
        }
    }

    fn run(self, query: &Entry, feed: &Feed) -> Outcome {
        match self {
            Runner::Tidemill(mode) => {
                let workers = feed.partitions() as usize;
                query.run(feed, &Options::default().with_mode(mode).with_workers(workers))
            }
            Runner::Loop => plain_loop(feed),
            #[cfg(feature = "peers")]
            Runner::Renoir => {
                tidemill_benches::nexmark::renoir::run(query.number, feed).expect("Renoir has the query")
            }
        }
    }
}

/// A measured run.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    cpu: f64,
    peak: u64,
    base: u64,
    answer: Answer,
}

fn measure(runner: Runner, query: &Entry, settings: Settings, workers: u32) -> Sample {
    let feed = settings.feed(workers);
    reset_peak_rss();
    let base = rss().unwrap_or_default();
    let before = cpu_time().unwrap_or_default();
    let outcome = runner.run(query, &feed);
    Sample {
        seconds: outcome.elapsed.as_secs_f64(),
        cpu: cpu_time().unwrap_or_default().saturating_sub(before).as_secs_f64(),
        peak: peak_rss().unwrap_or_default(),
        base,
        answer: outcome.answer,
    }
}

/// The runs of one runner on one query with so many workers.
#[derive(Debug, Serialize)]
struct Line {
    query: u32,
    title: &'static str,
    runner: &'static str,
    workers: u32,
    settings: Settings,
    base_time_ms: u64,
    events_checksum: u64,
    /// Millions of events a second: the middle run, the slowest, the fastest.
    mega_per_second: [f64; 3],
    cpu_seconds_per_mega: f64,
    peak_rss: u64,
    /// Memory that the events had at the start of the run with that peak.
    events_rss: u64,
    answer: Answer,
    seconds: Vec<f64>,
    /// Events a second over Renoir's.
    over_renoir: Option<f64>,
    target: Option<f64>,
    kept: Option<bool>,
    /// Whether every run gave the right answer. If not, the numbers are void.
    right: bool,
}

impl Line {
    fn print(&self) {
        let [middle, slowest, fastest] = self.mega_per_second;
        let mib = |bytes: u64| bytes >> 20;
        let rows = if self.answer.written == self.answer.rows {
            format!("{}", self.answer.rows)
        } else {
            format!("{} ({})", self.answer.rows, self.answer.written)
        };
        let renoir = match (self.over_renoir, self.target, self.kept) {
            (Some(ratio), Some(target), Some(kept)) => {
                format!("  {ratio:>5.2}  {target:.1} {}", if kept { "kept" } else { "MISSED" })
            }
            _ => String::new(),
        };
        let figures = if self.right {
            format!(
                "{middle:>7.2} ({slowest:.2}-{fastest:.2})  {:>8.3}  {:>6} ({})  {rows:>20}{renoir}",
                self.cpu_seconds_per_mega,
                mib(self.peak_rss),
                mib(self.events_rss),
            )
        } else {
            "VOID: wrong answer".to_owned()
        };
        println!("q{:<3} {:<20} {:<12} {:>2}  {figures}", self.query, self.title, self.runner, self.workers);
    }
}

struct Bench {
    arguments: Arguments,
    runners: Vec<Runner>,
    json: JsonLines,
    progress: ProgressBar,
    right: bool,
}

impl Bench {
    fn runners(&self, query: &Entry) -> Vec<Runner> {
        self.runners.iter().copied().filter(|runner| runner.can(query)).collect()
    }

    /// Compares every runner's answer with that of plain loops, on a smaller input.
    fn check(&mut self, query: &Entry) -> bool {
        let settings = Settings::suite(self.arguments.check_events);
        let expected = query.reference(&settings.all());
        let mut right = true;
        for runner in self.runners(query) {
            for workers in self.arguments.workers.clone() {
                let answer = runner.run(query, &settings.feed(workers)).answer;
                if !answer.agrees(&expected) {
                    self.progress.suspend(|| {
                        println!(
                            "q{}, {}, {workers} workers: {answer:?}, but plain loops say {expected:?}",
                            query.number,
                            runner.name()
                        );
                    });
                    right = false;
                }
            }
        }
        right
    }

    fn query(&mut self, query: &Entry) {
        self.progress.set_message(format!("q{}: checking", query.number));
        let mut right = self.check(query);
        let settings = Settings::suite(self.arguments.events);
        let runners = self.runners(query);
        let mut expected: Option<Answer> = None;
        let mut lines = Vec::new();
        for workers in self.arguments.workers.clone() {
            let mut samples = vec![Vec::new(); runners.len()];
            for round in 0..self.arguments.runs.max(1) {
                for turn in 0..runners.len() {
                    let which = (turn + round) % runners.len();
                    let (Some(runner), Some(own)) = (runners.get(which), samples.get_mut(which)) else {
                        continue;
                    };
                    self.progress.set_message(format!(
                        "q{} {}, {workers} workers, round {round}",
                        query.number,
                        runner.name()
                    ));
                    let sample = measure(*runner, query, settings, workers);
                    right &= expected.get_or_insert(sample.answer).agrees(&sample.answer);
                    own.push(sample);
                    self.progress.inc(1);
                }
            }
            lines.extend(self.lines(query, settings, workers, &runners, &samples));
        }
        self.right &= right;
        for mut line in lines {
            line.right = right;
            self.progress.suspend(|| line.print());
            self.json.write(&line).expect("the results can be written");
        }
    }

    fn lines(
        &self,
        query: &Entry,
        settings: Settings,
        workers: u32,
        runners: &[Runner],
        samples: &[Vec<Sample>],
    ) -> Vec<Line> {
        let renoir = runners.iter().zip(samples).find(|(runner, _)| runner.name() == "Renoir");
        let target = if query.number < 5 { 1.0 } else { 1.3 };
        let line = |(runner, own): (&Runner, &Vec<Sample>)| {
            let seconds: Vec<f64> = own.iter().map(|sample| sample.seconds).collect();
            let speed = |seconds: f64| settings.events as f64 / seconds / 1e6;
            let most = own.iter().max_by_key(|sample| sample.peak)?;
            let cpu: Vec<f64> = own.iter().map(|sample| sample.cpu).collect();
            let ours = matches!(runner, Runner::Tidemill(_));
            let over_renoir = renoir.filter(|_| ours).map(|(_, theirs)| {
                let ratios: Vec<f64> =
                    own.iter().zip(theirs).map(|(ours, theirs)| theirs.seconds / ours.seconds).collect();
                median(&ratios)
            });
            Some(Line {
                query: query.number,
                title: query.title,
                runner: runner.name(),
                workers,
                settings,
                base_time_ms: events::BASE_TIME_MS,
                events_checksum: events::CHECKSUM,
                mega_per_second: [
                    speed(median(&seconds)),
                    speed(seconds.iter().copied().fold(0.0, f64::max)),
                    speed(seconds.iter().copied().fold(f64::INFINITY, f64::min)),
                ],
                cpu_seconds_per_mega: median(&cpu) / (settings.events as f64 / 1e6),
                peak_rss: most.peak,
                events_rss: most.base,
                answer: most.answer,
                seconds,
                over_renoir,
                target: over_renoir.map(|_| target),
                kept: over_renoir.map(|ratio| ratio >= target),
                right: true,
            })
        };
        runners.iter().zip(samples).filter_map(line).collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unknown: Vec<&u32> = arguments
        .queries
        .iter()
        .filter(|number| QUERIES.iter().all(|query| query.number != **number))
        .collect();
    let json = JsonLines::append(arguments.json.as_deref()).expect("the file can be opened");
    println!("{}", json.provenance().headline());
    if events::checksum() != events::CHECKSUM {
        println!("VOID: the generator does not make the events that it made when its checksum was taken");
        return ExitCode::FAILURE;
    }
    for (number, why) in ABSENT {
        if unknown.is_empty() || unknown.contains(&&number) {
            println!("q{number:<3} is not there: it {why}");
        }
    }
    if let Some(number) = unknown.iter().find(|number| ABSENT.iter().all(|(absent, _)| absent != **number)) {
        println!("there is no query {number} in the suite");
        return ExitCode::FAILURE;
    }
    let queries: Vec<&Entry> = QUERIES
        .iter()
        .filter(|query| query.number == 0 || arguments.queries.contains(&query.number))
        .collect();
    let mut runners: Vec<Runner> = arguments.modes.iter().map(|mode| Runner::Tidemill(*mode)).collect();
    runners.push(Runner::Loop);
    #[cfg(feature = "peers")]
    if !arguments.without_renoir {
        runners.push(Runner::Renoir);
    }
    let steps = queries.iter().flat_map(|query| runners.iter().filter(|runner| runner.can(query))).count()
        * arguments.workers.len()
        * arguments.runs.max(1);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("the template is right");
    let progress = ProgressBar::new(steps as u64).with_style(style);
    println!(
        "{} events, {} a second of event time, from {} ms on; checksum of the first {}: {:#018x}",
        arguments.events,
        Settings::suite(arguments.events).rate,
        events::BASE_TIME_MS,
        events::CHECKED,
        events::CHECKSUM,
    );
    println!(
        "{:<4} {:<20} {:<12} {:>2}  {:>7} (min-max)   {:>8}  {:>6} (at start)  {:>14}  {}",
        "",
        "query",
        "run by",
        "w",
        "M/s",
        "CPU s/M",
        "RSS",
        "rows",
        if cfg!(feature = "peers") { "x Renoir, target" } else { "" }
    );
    let mut bench = Bench { arguments, runners, json, progress, right: true };
    for query in queries {
        bench.query(query);
    }
    bench.progress.finish_and_clear();
    if bench.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
