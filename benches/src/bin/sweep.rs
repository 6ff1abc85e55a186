//! The curve: what latency costs in throughput and the other way round, in both modes, on one graph.
//!
//! `cargo run --release -p tidemill-benches --bin sweep -- --help`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::ProgressBar;
use jiff::SignedDuration;
use serde::Serialize;
use tidemill::{Idle, Mode, Options, Trigger};
use tidemill_benches::harness::grid::RATES;
use tidemill_benches::harness::plot::{Curve, Line, ThroughputPlot, Timeline, save};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::harness::result::{Name, RunResult, bar, mode_of, rate, table, time};
use tidemill_benches::harness::run::{Job, Measured, Shape, on_tidemill};
use tidemill_benches::harness::schedule::Load;
use tidemill_benches::harness::sustain::{Trial, bisect};
use tidemill_benches::measure::median;

/// Measures the keyed windowed count in both modes, over rates and numbers of workers.
///
/// For every number of workers and every way to run it finds the greatest rate that is kept up, measures at 50, 80 and
/// 95 % of it and at some rates that are the same for all, and draws latency against rate, throughput against the
/// trigger's interval, and the timeline of a run of each.
#[derive(Clone, Parser)]
#[command(after_long_help = FIGURES)]
struct Arguments {
    /// Shorter and fewer runs, with one worker: less than 90 seconds for all.
    #[arg(long)]
    quick: bool,
    /// Numbers of workers. [default: 1,2; quick: 1]
    #[arg(long, value_delimiter = ',')]
    workers: Vec<usize>,
    /// Modes. What compares the two is left out if there is one only.
    #[arg(long, value_delimiter = ',', default_value = "continuous,micro-batch")]
    modes: Vec<Mode>,
    /// Rates at which every way to run is measured, if it keeps them up. [default: 1000,10000,100000,300000,1000000,
    /// 3000000,10000000,30000000; quick: 1000,100000,1000000,10000000]
    #[arg(long, value_delimiter = ',')]
    rates: Vec<u64>,
    /// Triggers of micro-batch: `asap` or an interval. [default: asap,10ms,100ms,1s; quick: asap,100ms,1s]
    #[arg(long, value_delimiter = ',')]
    triggers: Vec<Trigger>,
    /// Different keys.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// The size of windows.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    window: SignedDuration,
    /// Seconds of each measured run; with a trigger of an interval at least six of its intervals. [default: 6;
    /// quick: 0.8]
    #[arg(long)]
    seconds: Option<f64>,
    /// Steps of halving to the greatest rate that is kept up. [default: 6; quick: 3, or 2 where a trigger's
    /// interval is half a second or more]
    #[arg(long)]
    steps: Option<u32>,
    /// Events of the runs at saturation. [default: 100000000; quick: 40000000]
    #[arg(long)]
    events: Option<u64>,
    /// What an idle worker does: `park`, or `spin:50us` to look for work that long before it parks.
    #[arg(long, default_value = "park")]
    idle: Idle,
    /// Where the durable runs keep their checkpoints: a directory on the disk to be measured.
    #[arg(long, value_name = "DIR", default_value = "target/checkpoints")]
    checkpoint: PathBuf,
    /// Where the plots go.
    #[arg(long, value_name = "DIR", default_value = "target/sweep")]
    plot: PathBuf,
    /// Also append every result to this file, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const FIGURES: &str = "\
Figures:
  record      from when an event was due until a row that speaks of it is shown: when it comes to the sink
              (continuous), or when its epoch is committed (micro-batch).
  commit      from when an event was due until its epoch is committed; `durable`: until it is on the disk.
  p50 ...     half, 99 %, 99.9 % of the events take at most this long; max is the slowest. Of the first fifth of a run
              nothing is counted.
  saturation  events a second when the generator emits as fast as it is allowed to, from the start of the query to its
              end; the median of three runs (quick: of two), by turns.
  kept up     the greatest rate found by halving at which p99 in the last third of a run is at most 1.2 times that in the
              middle third, and the backlog is as flat. A p99 below 1 ms, or below the trigger's interval, counts as
              flat. A run of at most two seconds that fails is repeated once. The halving begins between 0 and 1.3
              times the rate of saturation and ends where its steps do: the true rate is above by less than that
              divided by 2 to the number of steps.
  waiting     the greatest number of events that were due and not yet shown, looked at every 50 ms.
  epochs      how many were committed.
  CPU s/M     CPU seconds for a million events: the whole process, the generator, the measuring and idle spinning included.
  RSS MiB     the largest resident set of the process, with the tables of the measuring.
The answer of every run is checked against plain loops. A wrong one voids the figures, and the exit code is not 0.
What it is to show: continuous with a median at least 100 times below that of micro-batch with a trigger of 100 ms, at
the same rate; micro-batch with trigger 0 and durable commits with a median below 5 ms; continuous at saturation at least
0.8 of micro-batch's events a second.";

/// Shares of the greatest rate at which each way is measured.
const SHARES: [u64; 3] = [50, 80, 95];

/// What is drawn and said of a way to run.
struct Way {
    options: Options,
    kept_up: Option<u64>,
    rows: Vec<RunResult>,
    timeline: Option<(RunResult, Measured)>,
}

/// A line about what was to be shown.
#[derive(Serialize)]
struct Verdict {
    claim: String,
    workers: usize,
    value: f64,
    limit: f64,
    kept: bool,
}

/// What was found by halving.
#[derive(Serialize)]
struct Found<'a> {
    kept_up: Option<u64>,
    mode: String,
    workers: usize,
    trials: &'a [Trial],
}

struct Sweep {
    arguments: Arguments,
    json: JsonLines,
    bar: ProgressBar,
    right: bool,
    kept: bool,
    plots: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let mut arguments = Arguments::parse();
    fill(&mut arguments);
    if let Some(problem) = problem(&arguments) {
        eprintln!("sweep: {problem}");
        return ExitCode::FAILURE;
    }
    let json = JsonLines::append(arguments.json.as_deref()).expect("the file of results can be opened");
    println!("{}", json.provenance().headline());
    let bar = bar("sweep");
    let mut sweep = Sweep { arguments, json, bar, right: true, kept: true, plots: Vec::new() };
    for workers in sweep.arguments.workers.clone() {
        sweep.workers(workers);
    }
    sweep.bar.finish_and_clear();
    for plot in &sweep.plots {
        println!("plot: {}", plot.display());
    }
    println!("{:.0} s", begun.elapsed().as_secs_f64());
    if !sweep.kept {
        println!("Not all that was to be shown was shown.");
    }
    if sweep.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Puts in what was left to the defaults.
fn fill(arguments: &mut Arguments) {
    let quick = arguments.quick;
    let every = |millis| Trigger::Every(Duration::from_millis(millis));
    if arguments.workers.is_empty() {
        arguments.workers = if quick { vec![1] } else { vec![1, 2] };
    }
    if arguments.rates.is_empty() {
        arguments.rates = if quick { vec![1_000, 100_000, 1_000_000, 10_000_000] } else { RATES.to_vec() };
    }
    if arguments.triggers.is_empty() {
        arguments.triggers = match quick {
            true => vec![Trigger::Asap, every(100), every(1_000)],
            false => vec![Trigger::Asap, every(10), every(100), every(1_000)],
        };
    }
    arguments.seconds.get_or_insert(if quick { 0.8 } else { 6.0 });
    arguments.steps.get_or_insert(if quick { 3 } else { 6 });
    arguments.events.get_or_insert(if quick { 40_000_000 } else { 100_000_000 });
}

fn problem(arguments: &Arguments) -> Option<&'static str> {
    let ends = |trigger: &Trigger| matches!(trigger, Trigger::AvailableNow | Trigger::Once);
    if arguments.triggers.iter().any(ends) {
        return Some("an endless load needs a trigger that does not end");
    }
    if arguments.rates.contains(&0) || arguments.workers.contains(&0) || arguments.keys == 0 {
        return Some("there must be rates, workers and keys");
    }
    if arguments.modes.is_empty() {
        return Some("there must be a mode");
    }
    None
}

impl Sweep {
    fn job(&self) -> Job {
        let window = u64::try_from(self.arguments.window.as_micros()).unwrap_or(0).max(1);
        Job { shape: Shape::WindowedCount, window, sink_takes: Duration::ZERO }
    }

    fn options(&self, workers: usize) -> Options {
        Options::default().with_workers(workers).with_idle(self.arguments.idle)
    }

    /// How long a run has to be, for the trigger's intervals to be many.
    fn seconds(&self, options: &Options) -> f64 {
        let least = match (options.mode, options.trigger) {
            (Mode::MicroBatch, Trigger::Every(interval)) => interval.as_secs_f64(),
            _ => 0.0,
        };
        let intervals = if self.arguments.quick { 3.0 } else { 6.0 };
        self.arguments.seconds.unwrap_or(6.0).max(intervals * least)
    }

    /// One run at a rate; `closed` with this many events instead, as fast as they are taken.
    fn run(&mut self, options: &Options, rate: u64, closed: Option<u64>) -> (RunResult, Measured) {
        let seconds = self.seconds(options);
        let keys = self.arguments.keys;
        let load = match closed {
            None => Load { keys, ..Load::open(rate, seconds) },
            Some(events) => Load { keys, closed: true, events, ..Load::open(rate, seconds) },
        };
        let (bar, job) = (self.bar.clone(), self.job());
        bar.set_message(match closed {
            None => format!("{}, {}/s", mode_of(options), self::rate(rate as f64)),
            Some(_) => format!("{}, as fast as it goes", mode_of(options)),
        });
        let measured = on_tidemill(job, &load, options, &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        let warmup = Duration::from_secs_f64(seconds / 5.0);
        let name = Name { engine: "tidemill", options };
        let result = RunResult::of(&name, job, &load, warmup, &measured);
        self.right &= result.right;
        self.json.write(&result).expect("the result can be written");
        (result, measured)
    }

    fn workers(&mut self, workers: usize) {
        println!("\nworkers: {workers}");
        let micro_batch = self.options(workers);
        let continuous = micro_batch.clone().with_mode(Mode::Continuous);
        let (in_continuous, in_batches) = (self.has(Mode::Continuous), self.has(Mode::MicroBatch));
        let (ours, theirs) = self.saturation(
            Some(&continuous).filter(|_| in_continuous),
            Some(&micro_batch).filter(|_| in_batches),
        );
        if in_continuous && in_batches {
            self.verdict(Verdict {
                claim: "continuous at saturation over micro-batch".to_owned(),
                workers,
                value: ours / theirs.max(1.0),
                limit: 0.8,
                kept: ours >= 0.8 * theirs,
            });
        }

        let mut ways: Vec<Options> = in_continuous.then_some(continuous).into_iter().collect();
        if in_batches {
            let triggers = self.arguments.triggers.clone();
            ways.extend(triggers.into_iter().map(|trigger| micro_batch.clone().with_trigger(trigger)));
        }
        let ways: Vec<Way> = ways.into_iter().map(|options| self.way(options, ours.max(theirs))).collect();
        let durable = in_batches.then(|| self.durable(&micro_batch));

        let mut rows: Vec<RunResult> = ways.iter().flat_map(|way| way.rows.clone()).collect();
        rows.extend(durable.clone());
        self.bar.suspend(|| println!("{}", table(&rows)));
        self.hundredfold(workers, &ways);
        if let Some(durable) = durable {
            let median = durable.record.p50 / 1e3;
            self.verdict(Verdict {
                claim: "micro-batch, trigger 0, durable commits: median in ms".to_owned(),
                workers,
                value: median,
                limit: 5.0,
                kept: durable.right && median < 5.0,
            });
        }
        self.draw(workers, &ways);
    }

    fn has(&self, mode: Mode) -> bool {
        self.arguments.modes.contains(&mode)
    }

    /// Events a second of those that take part in a closed loop, by turns; 0 of one that does not.
    fn saturation(&mut self, continuous: Option<&Options>, micro_batch: Option<&Options>) -> (f64, f64) {
        let events = self.arguments.events.unwrap_or(100_000_000);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Event times as if ten million events came in a second, so that windows close as they would.
        let once = |sweep: &mut Sweep, options| sweep.run(options, 10_000_000, Some(events)).0.throughput;
        for _ in 0..if self.arguments.quick { 2 } else { 3 } {
            ours.extend(continuous.map(|options| once(self, options)));
            theirs.extend(micro_batch.map(|options| once(self, options)));
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        let said = |mode, speed| format!("{mode} {}/s", self::rate(speed));
        let both =
            [continuous.map(|_| said("continuous", ours)), micro_batch.map(|_| said("micro-batch", theirs))];
        let line = both.into_iter().flatten().collect::<Vec<_>>().join(", ");
        self.bar.suspend(|| println!("saturation: {line}"));
        (ours, theirs)
    }

    /// The greatest rate that a way to run keeps up, and measurements below it.
    fn way(&mut self, options: Options, saturation: f64) -> Way {
        let slack = match (options.mode, options.trigger) {
            (Mode::MicroBatch, Trigger::Every(interval)) => interval.max(Duration::from_millis(1)),
            _ => Duration::from_millis(1),
        };
        let (mut steps, mut rates) = (self.arguments.steps.unwrap_or(6), self.arguments.rates.clone());
        let mut shares = SHARES.to_vec();
        if self.arguments.quick && slack >= Duration::from_millis(500) {
            // Every run takes some seconds.
            steps = steps.min(2);
            let one = rates.iter().copied().filter(|rate| *rate <= 100_000).max().or(rates.first().copied());
            rates = one.into_iter().collect();
            shares = vec![SHARES[1]];
        }
        let keys = self.arguments.keys;
        let seconds = self.seconds(&options);
        let (kept_up, trials) = bisect((1.3 * saturation) as u64, steps, |rate| {
            let mut once = || {
                let (_, measured) = self.run(&options, rate, None);
                Trial::of(&Load { keys, ..Load::open(rate, seconds) }, &measured, slack)
            };
            // Something else on the machine may have taken the core for a moment: a rate has to fail twice.
            let first = once();
            if first.kept_up || seconds > 2.0 { first } else { once() }
        });
        let mode = mode_of(&options);
        let found = Found { kept_up, mode: mode.clone(), workers: options.workers, trials: &trials };
        self.json.write(&found).expect("the result can be written");
        let line = match kept_up {
            Some(most) => {
                format!("{mode}: {}/s are kept up ({} trials)", self::rate(most as f64), trials.len())
            }
            None => format!("{mode}: none of {} rates was kept up", trials.len()),
        };
        self.bar.suspend(|| println!("{line}"));

        let most = kept_up.unwrap_or(0);
        rates.retain(|rate| *rate < most);
        rates.extend(shares.into_iter().map(|share| most * share / 100).filter(|rate| *rate > 0));
        rates.sort_unstable();
        rates.dedup();
        let mut way = Way { options, kept_up, rows: Vec::new(), timeline: None };
        for rate in rates {
            let (result, measured) = self.run(&way.options.clone(), rate, None);
            if rate == most * SHARES[1] / 100 {
                way.timeline = Some((result.clone(), measured));
            }
            way.rows.push(result);
        }
        way
    }

    /// Micro-batches one after the other, each on the disk before it is shown.
    fn durable(&mut self, micro_batch: &Options) -> RunResult {
        std::fs::create_dir_all(&self.arguments.checkpoint)
            .expect("the directory for checkpoints can be made");
        let place = tempfile::tempdir_in(&self.arguments.checkpoint).expect("a directory for the checkpoint");
        let options = micro_batch.clone().with_checkpoint(place.path());
        self.run(&options, 10_000, None).0
    }

    /// The medians of continuous and of a trigger of 100 ms at the same rate.
    fn hundredfold(&mut self, workers: usize, ways: &[Way]) {
        let of = |mode: &str| ways.iter().find(|way| mode_of(&way.options) == mode);
        let (Some(continuous), Some(slow)) = (of("continuous"), of("micro-batch 100ms")) else { return };
        let verdicts: Vec<Verdict> = continuous
            .rows
            .iter()
            .filter_map(|fast| {
                let slow = slow.rows.iter().find(|slow| slow.rate == fast.rate)?;
                let value = slow.record.p50 / fast.record.p50.max(1e-3);
                let claim = format!(
                    "median of micro-batch 100ms over continuous at {}/s ({} over {})",
                    self::rate(fast.rate as f64),
                    time(slow.record.p50),
                    time(fast.record.p50)
                );
                Some(Verdict { claim, workers, value, limit: 100.0, kept: value >= 100.0 })
            })
            .collect();
        verdicts.into_iter().for_each(|verdict| self.verdict(verdict));
    }

    fn verdict(&mut self, verdict: Verdict) {
        self.kept &= verdict.kept;
        let how = if verdict.kept { "kept" } else { "MISSED" };
        let line = format!("{}: {:.2}, limit {}: {how}", verdict.claim, verdict.value, verdict.limit);
        self.bar.suspend(|| println!("{line}"));
        self.json.write(&verdict).expect("the result can be written");
    }

    fn draw(&mut self, workers: usize, ways: &[Way]) {
        let keys = self.arguments.keys;
        let what = format!("keyed windowed count, {keys} keys, workers: {workers}");
        let machine = &self.json.provenance().machine;
        let subtitle = format!("{what}; {} cores, {}", machine.cores, machine.cpu);
        let line = |way: &Way| Line {
            name: mode_of(&way.options),
            points: way
                .rows
                .iter()
                .map(|row| (row.rate as f64, row.record.p50, row.record.p99, row.record.p999))
                .collect(),
        };
        let curve = Curve {
            title: "Latency against the rate that is offered".to_owned(),
            subtitle: subtitle.clone(),
            lines: ways.iter().map(line).collect(),
        };
        let (batches, others): (Vec<&Way>, Vec<&Way>) =
            ways.iter().partition(|way| way.options.mode == Mode::MicroBatch);
        let kept_up = |way: &Way| (mode_of(&way.options), way.kept_up.unwrap_or(0) as f64);
        let throughput = ThroughputPlot {
            title: "Events a second that are kept up, by trigger".to_owned(),
            subtitle,
            triggers: batches
                .iter()
                .map(|way| kept_up(way))
                .map(|(mode, events)| (mode.trim_start_matches("micro-batch ").to_owned(), events))
                .collect(),
            level: others.first().map(|way| kept_up(way)),
        };
        let to = self.arguments.plot.clone();
        let mut paths = save(&curve, &to, &format!("curve-{workers}w")).expect("the plot can be written");
        let saved = save(&throughput, &to, &format!("throughput-{workers}w"));
        paths.extend(saved.expect("the plot can be written"));
        for (result, measured) in ways.iter().filter_map(|way| way.timeline.as_ref()) {
            let what = format!("{what}, {}, {}/s", result.mode, self::rate(result.rate as f64));
            let timeline = Timeline::of("Latency by 250 ms at 80 % of what is kept up", &what, measured);
            let stem = format!("timeline-{}-{workers}w", result.mode.replace(' ', "-"));
            paths.extend(save(&timeline, &to, &stem).expect("the plot can be written"));
        }
        self.plots.append(&mut paths);
    }
}
