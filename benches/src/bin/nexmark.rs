//! The Nexmark suite on Tidemill, in both modes; with the feature `peers` by turns with Renoir.
//!
//! `cargo run --release -p tidemill-benches --bin nexmark -- --help`
//! `cargo run --release -p tidemill-benches --features peers --bin nexmark -- --queries 0,1,2,5,7`
//!
//! Every run has a process of its own (`nexmark/alone.rs`). The exit code is not zero if one failed or an answer is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tidemill::Mode;
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::nexmark::alone::{Order, Runner, obey};
use tidemill_benches::nexmark::events::{self, Settings};
use tidemill_benches::nexmark::line::{Runs, compare, heading, lines};
use tidemill_benches::nexmark::{ABSENT, Entry, QUERIES};

/// Runs queries of the Nexmark suite over events that are made before the clock starts, and checks every answer.
///
/// Each run has a process of its own, which makes the events and then runs one query once: so all find memory alike,
/// whatever was run before. A run's time is from building the graph until all threads have ended. The source copies each
/// event, and the operator that takes it frees it. Everything that is compared runs by turns, and another first in each round.
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
    /// Run one query once in this process and say what came of it: for the program itself.
    #[arg(long, value_name = "ORDER", hide = true, exclusive = true)]
    alone: Option<String>,
}

const FIGURES: &str = "\
The plain loop copies the events of query 0 from memory and frees the copies, without an engine: what no engine can do without.

Figures:
  M/s       millions of events (of all three kinds) a second; the middle run, and the slowest and the fastest
  CPU s/M   processor seconds, user and system, that a million events take; the middle run
  RSS       the most memory that a process had during its run, in MiB; and how much of it there was at its start: the
            events, from which copies are made
  rows      rows of the result; of a query that says new values for old ones (15, 16, 17) those that stay, and in
            brackets how many were emitted
  x Renoir  events a second over Renoir's, the middle of the rounds' ratios; the least that was to be reached, and
            whether it was
  VOID      a run's process ended before its time, or answers were wrong or differed: what is behind it says which";

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

struct Bench {
    arguments: Arguments,
    /// This program, which is started again for every run.
    program: PathBuf,
    runners: Vec<Runner>,
    json: JsonLines,
    progress: ProgressBar,
    right: bool,
}

impl Bench {
    /// Compares every runner's answer with that of plain loops, on a smaller input. Where it differs the runs are void.
    fn check(&self, query: &Entry, workers: u32, all: &mut [Runs]) {
        let settings = Settings::suite(self.arguments.check_events);
        let expected = query.reference(&settings.all());
        for runs in all {
            let order = Order { query: query.number, runner: runs.runner, workers, settings };
            match order.alone(&self.program) {
                Ok(sample) if sample.answer.agrees(&expected) => {}
                Ok(sample) => {
                    runs.void(&format!("{:?}, but plain loops say {expected:?}", sample.answer));
                }
                Err(why) => runs.void(&why),
            }
        }
    }

    /// Everybody who has the query, by turns, another first in each round.
    fn rounds(&self, query: &Entry, workers: u32) -> Vec<Runs> {
        let settings = Settings::suite(self.arguments.events);
        let can = self.runners.iter().filter(|runner| runner.can(query.number));
        let mut all: Vec<Runs> = can.map(|runner| Runs::new(*runner)).collect();
        self.progress.set_message(format!("q{}, {workers} workers: checking", query.number));
        self.check(query, workers, &mut all);
        for round in 0..self.arguments.runs.max(1) {
            for turn in 0..all.len() {
                let which = (turn + round) % all.len();
                let Some(runs) = all.get_mut(which) else { continue };
                let runner = runs.runner;
                let name = runner.name();
                self.progress
                    .set_message(format!("q{} {name}, {workers} workers, round {round}", query.number));
                runs.push(Order { query: query.number, runner, workers, settings }.alone(&self.program));
                self.progress.inc(1);
            }
        }
        all
    }

    fn query(&mut self, query: &Entry) {
        let settings = Settings::suite(self.arguments.events);
        let workers = self.arguments.workers.iter();
        let mut all: Vec<(u32, Vec<Runs>)> =
            workers.map(|workers| (*workers, self.rounds(query, *workers))).collect();
        compare(all.iter_mut().flat_map(|(_, runs)| runs));
        for line in all.iter().flat_map(|(workers, runs)| lines(query, settings, *workers, runs)) {
            self.right &= line.is_right();
            self.progress.suspend(|| println!("{line}"));
            self.json.write(&line).expect("the results can be written");
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(order) = &arguments.alone {
        return match obey(order, &mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    let program = std::env::current_exe().expect("the path of this program");
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
    let mut runners: Vec<Runner> = arguments.modes.iter().map(|mode| Runner::from(*mode)).collect();
    runners.push(Runner::PlainLoop);
    #[cfg(feature = "peers")]
    if !arguments.without_renoir {
        runners.push(Runner::Renoir);
    }
    let steps =
        queries.iter().flat_map(|query| runners.iter().filter(|runner| runner.can(query.number))).count()
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
    println!("{}", heading());
    let mut bench = Bench { arguments, program, runners, json, progress, right: true };
    for query in queries {
        bench.query(query);
    }
    bench.progress.finish_and_clear();
    if bench.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
