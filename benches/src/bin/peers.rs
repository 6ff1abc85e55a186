//! Tidemill against other engines on the same work: by turns in one run, answers compared.
//!
//! `cargo run --release -p tidemill-benches --features peers --bin peers -- --help`

#![allow(clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use tidemill::{Mode, Options};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::measure::median;
use tidemill_benches::throughput::{
    Bench, Cost, Engine, Figures, Included, Job, Sizes, measured, mode, progress,
};

/// Compares Tidemill with other engines.
#[derive(Debug, Parser)]
#[command(after_long_help = FIGURES)]
struct Arguments {
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_value = DEFAULT)]
    engines: Vec<Who>,
    /// Jobs: word-count, windowed-KEYS, sliding-PANES, session, process-KEYS, join-KEYS, distinct, top-KEYS, chain-16, chain-64,
    /// chain-200. All of them but process-KEYS, join-KEYS, distinct and top-KEYS if none is named; `throughput --help` says what they are.
    #[arg(long, value_delimiter = ',')]
    jobs: Vec<Job>,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    workers: Vec<usize>,
    /// Tidemill's modes.
    #[arg(long, value_delimiter = ',', value_parser = mode, default_value = "micro-batch,continuous")]
    modes: Vec<Mode>,
    /// Measured rounds, after one that does not count.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Events of the windowed jobs, records of the chain.
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    /// MiB of text.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Different words of the text.
    #[arg(long, default_value_t = 10_000)]
    words: usize,
    /// Keys of the sliding windows and sessions.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Results of other engines, as the scripts in `benches/peers` write them.
    #[arg(long, value_name = "FILE")]
    include: Vec<PathBuf>,
    /// Also append every result to this file, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tidemill only, once, without comparing: for a profiler.
    #[arg(long)]
    alone: bool,
    /// Write the text of the word count to this file and do nothing else: the input of the scripts in `benches/peers`.
    #[arg(long, value_name = "FILE")]
    write_text: Option<PathBuf>,
    /// How many records may wait between Tidemill's workers.
    #[arg(long, default_value_t = Options::default().max_queued)]
    max_queued: usize,
    /// How many records each of Tidemill's workers may read ahead of the watermark; 0 for any number.
    #[arg(long, default_value_t = Options::default().max_ahead)]
    max_ahead: usize,
    /// Tidemill's workers stay on their cores (with the feature `pinning`).
    #[arg(long)]
    pin: bool,
}

#[cfg(feature = "peers")]
const DEFAULT: &str = "tidemill,timely,loop,renoir";
#[cfg(not(feature = "peers"))]
const DEFAULT: &str = "tidemill,timely,loop";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    /// This framework.
    Tidemill,
    /// Programs written by hand on timely dataflow.
    Timely,
    /// The stateless steps as a loop from vector to vector, without an engine (with one worker).
    Loop,
    /// Programs on Renoir (with the feature `peers`).
    #[cfg(feature = "peers")]
    Renoir,
}

const FIGURES: &str = "\
The engines take turns: in every round each runs the job once, and who goes first changes from round to round, so a machine
that drifts treats all alike.

Figures:
  s             seconds of the median round, each engine's own time: starting its threads, reading, computing, ending
                them; in brackets the fastest and the slowest round.
  M/s           millions of input records a second in the median round.
  CPU s/M       CPU seconds, user and system, of the whole process for a million records.
  RSS MiB       the largest resident set of the process while the engine ran, with what the allocator kept of earlier runs.
  times         Tidemill is this many times as fast: the other's time over Tidemill's of the same round, the median over
                the rounds. Above 1 Tidemill is faster.
  geometric mean over all jobs, modes and numbers of workers of a peer.
Targets: against timely 0.95 on each job and 1.0 in the geometric mean; a loop 0.83 (1.2 times its time); Renoir 1.7 and 3;
Flink and Spark 15 and 30. What
an included file holds was measured by another process, by records a second, with the size it says; Tidemill's median is
compared with the best of its lines for that job and number of workers.
In continuous mode the word count is compared with a program on timely that, like Tidemill, also says new totals while it
counts.
The answer of every run is compared with a plain loop's (rows, records, and a sum that knows no order). A wrong one voids the
figures, and the exit code is not 0.";

/// What is wanted of a peer: on each job, and in the geometric mean.
fn targets(peer: &str) -> (f64, f64) {
    match peer {
        "timely" => (0.95, 1.0),
        "loop" => (1.0 / 1.2, 1.0 / 1.2),
        "renoir" => (1.7, 3.0),
        _ => (15.0, 30.0),
    }
}

/// A program's cost.
#[derive(Serialize)]
struct CostLine {
    job: String,
    engine: String,
    workers: usize,
    records: u64,
    runs: usize,
    /// Whether its workers stayed on their cores.
    pinned: bool,
    #[serde(flatten)]
    figures: Figures,
    right: bool,
}

/// Tidemill against one peer.
#[derive(Clone, Serialize)]
struct RatioLine {
    job: String,
    mode: String,
    peer: String,
    workers: usize,
    /// Tidemill is this many times as fast.
    times: f64,
    target: f64,
    kept: bool,
}

/// All of a peer.
#[derive(Serialize)]
struct MeanLine {
    peer: String,
    comparisons: usize,
    geometric_mean: f64,
    least: f64,
    target: f64,
    kept: bool,
}

struct Run<'a> {
    arguments: &'a Arguments,
    bench: Bench,
    json: JsonLines,
    included: Vec<Included>,
    ratios: Vec<RatioLine>,
    right: bool,
}

impl Run<'_> {
    fn engines(&self, job: Job, workers: usize) -> Vec<Engine> {
        let wants = |who| self.arguments.engines.contains(&who);
        let mut engines: Vec<Engine> = Vec::new();
        if wants(Who::Tidemill) || self.arguments.alone {
            engines.extend(self.arguments.modes.iter().map(|mode| Engine::Tidemill(*mode)));
        }
        if self.arguments.alone {
            return engines;
        }
        if wants(Who::Timely) {
            let updating = job == Job::WordCount && self.arguments.modes.contains(&Mode::Continuous);
            engines.push(Engine::Timely);
            engines.extend(updating.then_some(Engine::TimelyUpdating));
        }
        if wants(Who::Loop) && !job.is_keyed() && workers == 1 {
            engines.push(Engine::Loop);
        }
        #[cfg(feature = "peers")]
        if wants(Who::Renoir) && job.runs_on(Engine::Renoir) {
            engines.push(Engine::Renoir);
        }
        engines
    }

    fn job(&mut self, job: Job, workers: usize) {
        let engines = self.engines(job, workers);
        let expected = self.bench.expected(job);
        let records = self.bench.records(job);
        let mut costs = vec![Cost::default(); engines.len()];
        let rounds = if self.arguments.alone { 1 } else { self.arguments.runs.max(1) };
        let first = usize::from(self.arguments.alone);
        let bar = progress((rounds + 1 - first) * engines.len());
        for round in first..=rounds {
            for turn in 0..engines.len() {
                let at = (round + turn) % engines.len();
                let (Some(engine), Some(cost)) = (engines.get(at), costs.get_mut(at)) else { continue };
                bar.set_message(format!("{job} {engine} {workers}"));
                let outcome = measured(|| self.bench.run(job, *engine, workers));
                if round == 0 {
                    cost.check(outcome.0, expected);
                } else {
                    cost.add(outcome, expected);
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        for (engine, cost) in engines.iter().zip(&costs) {
            self.say_cost(job, *engine, workers, records, cost);
        }
        self.compare(job, workers, records, &engines, &costs);
    }

    fn say_cost(&mut self, job: Job, engine: Engine, workers: usize, records: u64, cost: &Cost) {
        let (figures, right) = (cost.figures(records), cost.is_right());
        self.right &= right;
        let spread = format!("({:.3}-{:.3})", figures.min_seconds, figures.max_seconds);
        println!(
            "{job:16} {workers:7} {engine:17} {:>8.3} {spread:>15} {:>8.2} {:>8.4} {:>8.1}{}",
            figures.seconds,
            figures.mega_per_second,
            figures.cpu_seconds_per_million,
            figures.peak_rss_mib,
            if right { "" } else { "  VOID: wrong answer" }
        );
        let line = CostLine {
            job: job.to_string(),
            engine: engine.to_string(),
            workers,
            records,
            runs: cost.seconds().len(),
            pinned: self.arguments.pin && matches!(engine, Engine::Tidemill(_)),
            figures,
            right,
        };
        self.json.write(&line).expect("the result can be written");
    }

    fn compare(&mut self, job: Job, workers: usize, records: u64, engines: &[Engine], costs: &[Cost]) {
        let all = || engines.iter().copied().zip(costs);
        for (ours, our_cost) in all() {
            let Engine::Tidemill(mode) = ours else { continue };
            for (theirs, their_cost) in all() {
                let peer = match (theirs, mode) {
                    (Engine::Tidemill(_), _) | (Engine::TimelyUpdating, Mode::MicroBatch) => continue,
                    (Engine::Timely, Mode::Continuous) if engines.contains(&Engine::TimelyUpdating) => {
                        continue;
                    }
                    (Engine::TimelyUpdating, Mode::Continuous) => Engine::Timely,
                    (peer, _) => peer,
                };
                let pairs = our_cost.seconds().iter().zip(their_cost.seconds());
                let rounds: Vec<f64> = pairs.map(|(ours, theirs)| theirs / ours.max(1e-9)).collect();
                let right = our_cost.is_right() && their_cost.is_right();
                self.say_ratio(job, ours, &peer.to_string(), workers, median(&rounds), right);
            }
            let speed = our_cost.figures(records).mega_per_second;
            for (peer, right, theirs) in Included::best(&self.included, job, workers) {
                self.right &= right;
                self.say_ratio(
                    job,
                    ours,
                    &peer,
                    workers,
                    speed / theirs.max(1e-9),
                    right && our_cost.is_right(),
                );
            }
        }
    }

    fn say_ratio(&mut self, job: Job, ours: Engine, peer: &str, workers: usize, times: f64, right: bool) {
        let (target, _) = targets(peer);
        let kept = right && times >= target;
        let verdict = match (right, kept) {
            (false, _) => "VOID",
            (true, true) => "kept",
            (true, false) => "MISSED",
        };
        println!("{:24} {ours:11} against {peer:7} {times:>7.2} times, target {target:.2}: {verdict}", "");
        if right {
            let line = RatioLine {
                job: job.to_string(),
                mode: ours.to_string(),
                peer: peer.to_owned(),
                workers,
                times,
                target,
                kept,
            };
            self.json.write(&line).expect("the result can be written");
            self.ratios.push(line);
        }
    }

    fn means(&mut self) {
        let mut peers: Vec<String> = self.ratios.iter().map(|line| line.peer.clone()).collect();
        peers.sort();
        peers.dedup();
        for peer in peers {
            let of: Vec<f64> =
                self.ratios.iter().filter(|line| line.peer == peer).map(|line| line.times).collect();
            let geometric_mean = (of.iter().map(|times| times.ln()).sum::<f64>() / of.len() as f64).exp();
            let least = of.iter().copied().fold(f64::INFINITY, f64::min);
            let (each, target) = targets(&peer);
            let missed = of.iter().filter(|times| **times < each).count();
            let kept = geometric_mean >= target;
            println!(
                "{peer:8} geometric mean of {} {geometric_mean:.2}, target {target:.2}: {}; least {least:.2}, {missed} below {each:.2}",
                of.len(),
                if kept { "kept" } else { "MISSED" }
            );
            self.json
                .write(&MeanLine { peer, comparisons: of.len(), geometric_mean, least, target, kept })
                .expect("the result can be written");
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let sizes =
        Sizes { events: arguments.events, mib: arguments.mib, words: arguments.words, keys: arguments.keys };
    if let Some(path) = &arguments.write_text {
        sizes.write_text(path).expect("the text can be written");
        return ExitCode::SUCCESS;
    }
    let included = arguments.include.iter().flat_map(|path| Included::read(path, sizes)).collect();
    let json = JsonLines::append(arguments.json.as_deref()).expect("the results' file opens");
    println!("{}", json.provenance().headline());
    println!(
        "{:16} {:>7} {:17} {:>8} {:>15} {:>8} {:>8} {:>8}",
        "job", "workers", "engine", "s", "(min-max)", "M/s", "CPU s/M", "RSS MiB"
    );
    let jobs = if arguments.jobs.is_empty() { Job::ALL.to_vec() } else { arguments.jobs.clone() };
    let options =
        Options::default().with_max_queued(arguments.max_queued).with_max_ahead(arguments.max_ahead);
    let bench = Bench::new(sizes, options.with_pin(arguments.pin));
    let mut run = Run { arguments: &arguments, bench, json, included, ratios: Vec::new(), right: true };
    for job in jobs {
        for &workers in &arguments.workers {
            run.job(job, workers);
        }
    }
    run.means();
    if run.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
