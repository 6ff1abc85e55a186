//! How long an event takes from when it was due until a row that speaks of it is shown: one graph, one mode, one rate.
//!
//! `cargo run --release -p tidemill-benches --bin latency -- --help`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use jiff::SignedDuration;
use serde::Serialize;
use tempfile::TempDir;
use tidemill::{Idle, Mode, Options, Trigger};
use tidemill_benches::harness::hgrm;
use tidemill_benches::harness::plot::{Named, PercentilePlot, Timeline, save};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::harness::result::{Name, RunResult, Step, bar, mode_of, rate, table, time};
use tidemill_benches::harness::run::{Job, Measured, Shape, is_by_hand, on_tidemill, on_timely};
use tidemill_benches::harness::schedule::{Load, Pace};
use tidemill_benches::measure::median;

/// Offers a graph events at a steady rate and measures how long each takes.
///
/// The load is open: event k is due at k / rate, whatever the engine does, and its latency counts from there. A
/// generator that comes late emits what is due at once and with the old stamps, so a stall shows in every event that it
/// delayed.
#[derive(Clone, Parser)]
#[command(after_long_help = FIGURES)]
struct Arguments {
    /// What is computed.
    #[arg(long, value_enum, default_value_t = Kind::KeyedCount)]
    graph: Kind,
    /// What computes it.
    #[arg(long, value_enum, default_value_t = Engine::Tidemill)]
    engine: Engine,
    /// Run Tidemill and the program written by hand by turns, so many rounds after one that does not count, and say
    /// the median of the rounds' ratios.
    #[arg(long, value_name = "ROUNDS", default_value_t = 0)]
    compare: usize,
    /// Everything that is promised against the program written by hand: `map`, `keyed-count` and `windowed-count`, with 1
    /// worker and with 2, from 1,000 to 30 million events a second, or to the first rate at which the program written by hand
    /// falls behind, compared with --idle as given (five rounds unless --compare says otherwise); and with everybody
    /// asleep between events at 10,000 a second. With `--seconds 2 --warmup 0.5` an hour.
    #[arg(long)]
    acceptance: bool,
    /// Events a second. With several, one run after the other.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    rate: Vec<u64>,
    /// For how long events are due.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Events that are due in the first so many seconds are not in the figures.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Different keys.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Count each key once before the first event is due, so that the state has its full size.
    #[arg(long)]
    prefill: bool,
    /// The size of windows.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    window: SignedDuration,
    /// Windowed count: say a window once, when it closes, instead of whenever it has changed.
    #[arg(long)]
    append: bool,
    /// How a generator waits for its next event: `spin`, `sleep`, or `auto`: awake if it is due within 100 us. All
    /// engines' generators wait alike.
    #[arg(long, default_value = "auto")]
    pace: Pace,
    /// Also append every result to this file, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the record latencies as an HdrHistogram percentile file.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Also draw percentiles and timelines into this directory.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

const FIGURES: &str = "\
Figures:
  record    from when an event was due until a row that speaks of it is shown. Continuous: when the row comes to the
            sink. Micro-batch: when its epoch is committed, for nothing is shown before.
  commit    from when an event was due until its epoch is committed; with --checkpoint: durable. In micro-batch the
            same as record, and not said twice. Too large by up to 4 us.
  first     from the earliest moment at which a window could close (the first event was due whose time is past its
            end) until its first row is shown (--append).
  last      the same until its last row.
  p50 ...   half, 99 %, 99.9 % of the events take at most this long; max is the slowest. Three digits are exact.
            To compare the modes with durable commits, hold the commit of continuous against the record of micro-batch.
  w         workers.
  rate/s    events a second that are offered.
  waiting   the greatest number of events that were due and not yet shown, looked at every 50 ms.
  epochs    how many were committed.
  CPU s/M   CPU seconds for a million events: the whole process, the generator, the measuring and idle spinning included.
  RSS MiB   the largest resident set of the process, with the tables of the measuring.
  asleep    --acceptance: the p99 of a run with generator and workers asleep between events. Kept if below 1 ms.
  ratio     --compare: Tidemill's figure over that of the program written by hand; the median of the rounds. Kept if
            p50 and p99 are at most 1.2; above 100,000 events a second, p50 at most 1.5 and p99 at most 2. A rate that the
            program written by hand cannot keep up with is not judged.
  step      continuous with --checkpoint: p99.9 of the slots of 250 ms in which an epoch was being committed, against
            the others (medians, and the worst of each), and the difference of the medians: what commits cost others.
The answer of every run is checked against plain loops. A wrong one voids the figures, and the exit code is not 0.

For example:
  latency --graph map --rate 1000,10000,100000 --mode continuous --idle spin:50us --compare 5
  latency --acceptance --idle spin:50us
  latency --graph windowed-count --keys 1000000 --prefill --window 1h --rate 100000 --seconds 15 \\
          --mode continuous --checkpoint . --checkpoint-interval 1s --plot plots
Both modes with a durable commit each second (micro-batch commits every epoch, so its trigger says it):
  latency --graph windowed-count --rate 20000 --mode continuous --checkpoint . --checkpoint-interval 1s
  latency --graph windowed-count --rate 20000 --mode micro-batch --checkpoint . --trigger 1s";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Stateless: a map and a filter.
    Map,
    /// The running count of each key, said when it has changed.
    KeyedCount,
    /// The count of each key in tumbling windows, said when it has changed.
    WindowedCount,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// This framework.
    Tidemill,
    /// A program written by hand on timely dataflow: `map` and `keyed-count`. Of the options it takes --workers and --idle.
    Timely,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Engine::Tidemill => "tidemill",
            Engine::Timely => "timely",
        }
    }
}

impl Arguments {
    fn job(&self) -> Job {
        let shape = match self.graph {
            Kind::Map => Shape::Map,
            Kind::KeyedCount => Shape::KeyedCount,
            Kind::WindowedCount if self.append => Shape::WindowedCountOnce,
            Kind::WindowedCount => Shape::WindowedCount,
        };
        Job { shape, window: u64::try_from(self.window.as_micros()).unwrap_or(0).max(1) }
    }

    fn load(&self, rate: u64) -> Load {
        let Arguments { keys, prefill, pace, .. } = *self;
        Load { keys, prefill, pace, ..Load::open(rate, self.seconds) }
    }

    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    /// Why these cannot be run together.
    fn problem(&self) -> Option<&'static str> {
        let by_hand = self.engine == Engine::Timely || self.compare > 0;
        match self.options.trigger {
            _ if by_hand && !is_by_hand(self.job().shape) => {
                Some("there is no program written by hand for windows that are said once (--append)")
            }
            Trigger::AvailableNow | Trigger::Once => Some("a load that goes on has a trigger that goes on"),
            Trigger::Every(_) if self.options.mode == Mode::Continuous => {
                Some("an interval as --trigger is for --mode micro-batch; here continuous is the default")
            }
            _ if self.rate.contains(&0) || self.keys == 0 => Some("there must be a rate and keys"),
            _ if self.warmup >= self.seconds => Some("nothing is left of the run after the warm-up"),
            _ => None,
        }
    }

    /// One run; with a checkpoint in a fresh directory of its own.
    fn run(&self, engine: Engine, rate: u64, what: &str) -> (RunResult, Measured) {
        let (job, load) = (self.job(), self.load(rate));
        let place: Option<TempDir> = self.options.checkpoint.as_deref().map(|directory| {
            std::fs::create_dir_all(directory).expect("the directory for checkpoints can be made");
            tempfile::tempdir_in(directory).expect("a directory for the checkpoint")
        });
        let mut options = self.options.clone();
        options.checkpoint = place.as_ref().map(|place| place.path().to_owned());
        let bar = bar(what);
        let mut watch = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let measured = match engine {
            Engine::Tidemill => on_tidemill(job, &load, &options, &mut watch),
            Engine::Timely => on_timely(job, &load, options.workers, options.idle, &mut watch),
        };
        bar.finish_and_clear();
        if engine == Engine::Timely {
            options.checkpoint = None;
        }
        let name = Name { engine: engine.name(), options: &options };
        (RunResult::of(&name, job, &load, self.warmup(), &measured), measured)
    }

    fn what(&self, engine: Engine, rate: u64) -> String {
        let how = match engine {
            Engine::Tidemill => mode_of(&self.options),
            Engine::Timely => "timely by hand".to_owned(),
        };
        let graph = self.graph.to_possible_value().map(|value| value.get_name().to_owned());
        format!("{}, {how}, {}/s", graph.unwrap_or_default(), self::rate(rate as f64))
    }
}

/// What was measured at one rate, against the program written by hand.
#[derive(Serialize)]
struct Comparison {
    comparison: String,
    rate: u64,
    rounds: usize,
    /// The medians of both, in microseconds: Tidemill, by hand.
    p50: (f64, f64),
    p99: (f64, f64),
    p999: (f64, f64),
    cpu_per_million: (f64, f64),
    /// The medians of the rounds' ratios.
    p50_ratio: f64,
    p99_ratio: f64,
    p999_ratio: f64,
    /// For p50, and for p99.
    limit: f64,
    p99_limit: f64,
    /// Whether the program written by hand has kept up.
    judged: bool,
    kept: bool,
    right: bool,
}

/// How far the medians of p50 and p99 may lie above those of the program written by hand.
fn limits(rate: u64) -> (f64, f64) {
    if rate > 100_000 { (1.5, 2.0) } else { (1.2, 1.2) }
}

/// The rates of --acceptance.
const RATES: [u64; 8] = [1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000];

fn main() -> ExitCode {
    let command = Arguments::command().mut_arg("mode", |mode| {
        mode.default_value("continuous").help(
            "`continuous`: every record flows on the moment it arrives. `micro-batch`: a trigger cuts the input into epochs, each \
             committed exactly once. Elsewhere micro-batch is the default; here it is continuous, since a latency below that of \
             a trigger is what one asks of this program",
        )
    });
    let arguments = Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    if let Some(problem) = arguments.problem() {
        eprintln!("latency: {problem}");
        return ExitCode::FAILURE;
    }
    let mut json = JsonLines::append(arguments.json.as_deref()).expect("the file of results can be opened");
    println!("{}", json.provenance().headline());
    let mut right = true;
    if arguments.acceptance {
        right = acceptance(&arguments, &mut json);
    } else {
        for rate in &arguments.rate {
            right &= match arguments.compare {
                0 => single(&arguments, *rate, &mut json),
                rounds => compare(&arguments, *rate, rounds, &mut json).0,
            };
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A claim about a run by itself.
#[derive(Serialize)]
struct Asleep {
    claim: String,
    p99: f64,
    limit: f64,
    kept: bool,
}

fn acceptance(arguments: &Arguments, json: &mut JsonLines) -> bool {
    let mut right = true;
    let rounds = if arguments.compare == 0 { 5 } else { arguments.compare };
    for graph in [Kind::Map, Kind::KeyedCount, Kind::WindowedCount] {
        let of_graph = Arguments { graph, engine: Engine::Tidemill, ..arguments.clone() };
        for workers in [1, 2] {
            let mut with_workers = of_graph.clone();
            with_workers.options.workers = workers;
            for rate in RATES {
                let (is_right, keeps_up) = compare(&with_workers, rate, rounds, json);
                right &= is_right;
                if !keeps_up {
                    break;
                }
            }
        }
        let mut asleep = Arguments { pace: Pace::Sleep, ..of_graph };
        asleep.options.idle = Idle::Park;
        let what = format!("{}, asleep between events", asleep.what(Engine::Tidemill, 10_000));
        let (result, _) = asleep.run(Engine::Tidemill, 10_000, &what);
        right &= result.right;
        let (p99, limit) = (result.record.p99, 1_000.0);
        let kept = result.right && p99 < limit;
        println!("{what}: p99 {}, limit 1 ms: {}", time(p99), if kept { "kept" } else { "MISSED" });
        json.write(&result).expect("the result can be written");
        json.write(&Asleep { claim: what, p99, limit, kept }).expect("the result can be written");
    }
    right
}

fn single(arguments: &Arguments, rate: u64, json: &mut JsonLines) -> bool {
    let engine = arguments.engine;
    let what = arguments.what(engine, rate);
    let (result, measured) = arguments.run(engine, rate, &what);
    json.write(&result).expect("the result can be written");
    print!("{}", table(std::slice::from_ref(&result)));
    // Something of the checkpoint is written before the epoch has come to the sink.
    let step = Step::of(&measured, arguments.warmup(), Duration::from_millis(50));
    if let (Some(step), true) = (step, result.durable) {
        println!(
            "step: p99.9 of slots with a commit {} (worst {}), of the others {} (worst {})",
            time(step.with),
            time(step.worst_with),
            time(step.without),
            time(step.worst_without)
        );
        println!("      a difference of the medians of {:.2} ms", step.height() / 1e3);
    }
    if let Some(path) = &arguments.hgrm {
        let mut file = BufWriter::new(File::create(path).expect("the histogram's file can be made"));
        hgrm::write(&measured.record.total(arguments.warmup()), &mut file).expect("the histogram is written");
    }
    if let Some(directory) = &arguments.plot {
        draw(arguments, directory, &what, rate, &result, &measured);
    }
    result.right
}

fn draw(arguments: &Arguments, to: &Path, what: &str, rate: u64, result: &RunResult, measured: &Measured) {
    let durable = if result.durable { ", durable" } else { "" };
    let subtitle = format!("{what}{durable}, {} keys, workers: {}", result.keys, result.workers);
    let named = |name: &str, slots: &tidemill_benches::harness::slots::Slots| Named {
        name: name.to_owned(),
        histogram: slots.total(arguments.warmup()),
    };
    let mut series = vec![named("record", &measured.record)];
    if result.commit.is_some_and(|commit| commit != result.record) {
        series.push(named("commit", &measured.commit));
    }
    let percentiles =
        PercentilePlot { title: "Latency by percentile".to_owned(), subtitle: subtitle.clone(), series };
    let timeline = Timeline::of("Latency by 250 ms", &subtitle, measured);
    let graph = format!("{:?}", result.graph).to_lowercase();
    let how = if result.mode.is_empty() { "timely".to_owned() } else { result.mode.replace(' ', "-") };
    let stem = format!("{graph}-{how}-{rate}");
    let mut paths = save(&percentiles, to, &format!("percentiles-{stem}")).expect("the plot can be written");
    paths.extend(save(&timeline, to, &format!("timeline-{stem}")).expect("the plot can be written"));
    for path in paths {
        println!("plot: {}", path.display());
    }
}

/// Returns whether all answers were right, and whether the program written by hand has kept up.
fn compare(arguments: &Arguments, rate: u64, rounds: usize, json: &mut JsonLines) -> (bool, bool) {
    let mut right = true;
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let mut turn = |engine: Engine| {
            let what = format!("{} ({round}/{rounds})", arguments.what(engine, rate));
            let (result, _) = arguments.run(engine, rate, &what);
            right &= result.right;
            json.write(&result).expect("the result can be written");
            result
        };
        // Who goes first changes, so that a machine that drifts treats both alike.
        let pair = if round % 2 == 0 {
            let ours = turn(Engine::Tidemill);
            (ours, turn(Engine::Timely))
        } else {
            let theirs = turn(Engine::Timely);
            (turn(Engine::Tidemill), theirs)
        };
        if round > 0 {
            pairs.push(pair);
        }
    }
    let both = |of: &dyn Fn(&RunResult) -> f64| {
        let ours: Vec<f64> = pairs.iter().map(|(ours, _)| of(ours)).collect();
        let theirs: Vec<f64> = pairs.iter().map(|(_, theirs)| of(theirs)).collect();
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b.max(1e-3)).collect();
        ((median(&ours), median(&theirs)), median(&ratios))
    };
    let (p50, p50_ratio) = both(&|result| result.record.p50);
    let (p99, p99_ratio) = both(&|result| result.record.p99);
    let (p999, p999_ratio) = both(&|result| result.record.p999);
    let (cpu_per_million, _) = both(&|result| result.cpu_per_million);
    let ((_, throughput), _) = both(&|result| result.throughput);
    // One that falls behind ends late, or has a backlog all the time.
    let judged = throughput >= 0.99 * rate as f64 && p50.1 < 1_000.0;
    let limits = limits(rate);
    let kept = right && p50_ratio <= limits.0 && p99_ratio <= limits.1;
    println!(
        "{}, workers {}, idle {}: Tidemill | by hand | ratio",
        arguments.what(Engine::Tidemill, rate),
        arguments.options.workers,
        arguments.options.idle
    );
    for (name, (ours, theirs), ratio) in
        [("p50", p50, p50_ratio), ("p99", p99, p99_ratio), ("p99.9", p999, p999_ratio)]
    {
        println!("  {name:6} {:>8} | {:>8} | {ratio:.2}", time(ours), time(theirs));
    }
    println!("  CPU s/M {:>7.2} | {:>8.2} |", cpu_per_million.0, cpu_per_million.1);
    println!(
        "  p50 at most {} times, p99 at most {} times: {}",
        limits.0,
        limits.1,
        match (right, judged, kept) {
            (false, ..) => "VOID: wrong answer",
            (true, false, _) => "not judged: the program written by hand does not keep up",
            (true, true, true) => "kept",
            (true, true, false) => "MISSED",
        }
    );
    let workers = match arguments.options.workers {
        1 => "1 worker".to_owned(),
        workers => format!("{workers} workers"),
    };
    json.write(&Comparison {
        comparison: format!("{}, {workers}", arguments.what(Engine::Tidemill, rate)),
        rate,
        rounds,
        p50,
        p99,
        p999,
        cpu_per_million,
        p50_ratio,
        p99_ratio,
        p999_ratio,
        limit: limits.0,
        p99_limit: limits.1,
        judged,
        kept,
        right,
    })
    .expect("the result can be written");
    (right, judged)
}
