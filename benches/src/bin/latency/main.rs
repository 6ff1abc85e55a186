//! How long an event takes from when it was due until a row that speaks of it is shown: one graph, one mode, one rate.
//!
//! `cargo run --release -p tidemill-benches --bin latency -- --help`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

mod acceptance;
mod burst;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use jiff::SignedDuration;
use tempfile::TempDir;
use tidemill::{Mode, Options, Trigger};
use tidemill_benches::harness::comparison::Comparison;
use tidemill_benches::harness::hgrm;
use tidemill_benches::harness::plot::{Named, PercentilePlot, Timeline, save};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::harness::result::{Name, RunResult, Step, bar, mode_of, rate, table, time};
#[cfg(feature = "peers")]
use tidemill_benches::harness::run::on_renoir;
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
    /// Run Tidemill and the program written by hand by turns, this many rounds after one that does not count, and say
    /// the median of the rounds' ratios.
    #[arg(long, value_name = "ROUNDS", default_value_t = 0)]
    compare: usize,
    /// The grid: every graph, with 1 worker and with 2, from 1,000 to 30 million events a second, or to the first rate at
    /// which the program written by hand falls behind; continuous, micro-batch asap, the program written by hand and
    /// (with the feature `peers`) Renoir by turns, five rounds unless --compare says otherwise; and with everybody asleep
    /// between events at 10,000 a second. --graph, --workers and --rate restrict it to a part. With
    /// `--seconds 2 --warmup 0.5 --compare 3` about an hour.
    #[arg(long)]
    acceptance: bool,
    /// Events a second. With several, one run after the other.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    rate: Vec<u64>,
    /// For how long events are due.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Events that are due in the first this many seconds are not in the figures.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Makes this number of events due at once in the middle of the run. Runs continuous and micro-batch asap by turns, as
    /// many rounds as --compare says. Prints how long each takes until all of them are shown, and until later events are
    /// answered as before, or within 10 us.
    #[arg(long, value_name = "EVENTS")]
    burst: Option<u64>,
    /// Each call of the sink takes so long, asleep, as one that waits for a disk: for --engine tidemill.
    #[arg(long, value_name = "TIME")]
    sink_takes: Option<SignedDuration>,
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
    /// Also append every result to this file, a line of JSON each; with --acceptance, the medians of each way and rate.
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
    #[clap(skip)]
    only: Only,
}

/// To what part `--acceptance` is restricted: by what was given on the command line.
#[derive(Clone, Default)]
struct Only {
    graph: Option<Kind>,
    workers: Option<usize>,
    rates: Option<Vec<u64>>,
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
  gen p99   from when an event was due until the generator emitted it: an upper bound, taken once a batch. An engine that
            is busy polls its generator late, so --acceptance also prints what generators reach by themselves.
  waiting   the greatest number of events that were due and not yet shown, looked at every 50 ms.
  epochs    how many were committed.
  CPU s/M   CPU seconds for a million events: the whole process, the generator, the measuring and idle spinning included.
  RSS MiB   the largest resident set of the process, with the tables of the measuring.
  asleep    --acceptance: the p99 of a run with generator and workers asleep between events. Kept if below 1 ms.
  ratio     --compare: Tidemill's figure over that of the program written by hand; the median of the rounds. Kept if
            p50 and p99 are at most 1.2; above 100,000 events a second, p50 at most 1.5 and p99 at most 2. A rate that the
            program written by hand cannot keep up with is not judged; with --acceptance, neither is one above 80 % of the
            events a second that it reaches in a closed loop (its saturation). Of word-count nothing is promised.
  repeated  --acceptance: rounds that were measured again, because something else took a core from a run for more than 2 %
            of its time: its threads were ready and waited while other processes ran, or the host ran something else
            (steal). A round is repeated twice at most.
  (...)     --acceptance: in brackets where a way to run fell behind: the backlog or the latency grew. Higher rates are
            not measured of it, unless the rounds were disturbed.
  drained   --burst: from when the burst was due until the last of its events is shown; median of the rounds. Kept if
            continuous takes at most 1.05 times as long as micro-batch.
  as before --burst: from then until the first 5 ms whose events have a median below 10 us, or at most a quarter above the one
            before the burst. Kept if within 20 ms.
  step      continuous with --checkpoint: p99.9 of the slots of 250 ms in which an epoch was being committed, against
            the others (medians, and the worst of each), and the difference of the medians: what commits cost others.
The answer of every run is checked against plain loops. A wrong one voids the figures, and the exit code is not 0.

For example:
  latency --graph map --rate 1000,10000,100000 --mode continuous --idle spin:50us --compare 5
  latency --acceptance --idle spin:50us --seconds 2 --warmup 0.5 --compare 3 --json latency.jsonl
  latency --acceptance --idle spin:50us --graph keyed-count --workers 2 --rate 1000000,3000000
  latency --burst 10000000 --rate 10000 --seconds 4 --idle spin:50us --compare 5 --json latency.jsonl
  latency --sink-takes 1ms --rate 100000 --idle spin:50us
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
    /// The running count of each key in a process function, which sets a timer for each event, --window later.
    Process,
    /// Lines of eight words, split and counted by word; an event is a word, and --rate is words a second.
    WordCount,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// This framework.
    Tidemill,
    /// A program written by hand on timely dataflow. Of the options it takes --workers and --idle.
    Timely,
    /// A program on Renoir. Of the options it takes --workers.
    #[cfg(feature = "peers")]
    Renoir,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "peers")]
            Engine::Renoir => "renoir",
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
            Kind::Process => Shape::Process,
            Kind::WordCount => Shape::WordCount,
        };
        let window = u64::try_from(self.window.as_micros()).unwrap_or(0).max(1);
        Job { shape, window, sink_takes: self.sink_takes.unwrap_or_default().unsigned_abs() }
    }

    fn load(&self, rate: u64) -> Load {
        let Arguments { keys, prefill, pace, .. } = *self;
        let burst = self.burst.unwrap_or(0);
        let load = Load::open(rate, self.seconds);
        Load { keys, prefill, pace, burst, events: load.events + burst, ..load }
    }

    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }

    /// Why these cannot be run together.
    fn problem(&self) -> Option<&'static str> {
        let by_hand = self.engine != Engine::Tidemill || self.compare > 0;
        match self.options.trigger {
            _ if by_hand && !is_by_hand(self.job().shape) => {
                Some("there is no program written by hand for windows that are emitted once (--append)")
            }
            _ if by_hand && self.sink_takes.is_some() => {
                Some("--sink-takes is for Tidemill alone: there is nothing to compare")
            }
            _ if self.burst.is_some() && self.engine != Engine::Tidemill => {
                Some("--burst compares the modes of Tidemill")
            }
            _ if self.acceptance && (self.burst.is_some() || self.sink_takes.is_some()) => {
                Some("--burst and --sink-takes are not part of --acceptance")
            }
            Trigger::AvailableNow | Trigger::Once => {
                Some("an endless load needs a trigger that does not end")
            }
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
            #[cfg(feature = "peers")]
            Engine::Renoir => on_renoir(job, &load, options.workers, &mut watch),
        };
        bar.finish_and_clear();
        if engine != Engine::Tidemill {
            options.checkpoint = None;
        }
        let name = Name { engine: engine.name(), options: &options };
        (RunResult::of(&name, job, &load, self.warmup(), &measured), measured)
    }

    fn graph(&self) -> String {
        self.graph.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn what(&self, engine: Engine, rate: u64) -> String {
        let how = match engine {
            Engine::Tidemill => mode_of(&self.options),
            Engine::Timely => "timely by hand".to_owned(),
            #[cfg(feature = "peers")]
            Engine::Renoir => "Renoir".to_owned(),
        };
        format!("{}, {how}, {}/s", self.graph(), self::rate(rate as f64))
    }
}

fn main() -> ExitCode {
    let command = Arguments::command().mut_arg("mode", |mode| {
        mode.default_value("continuous").help(
            "`continuous`: every record flows on the moment it arrives. `micro-batch`: a trigger cuts the input into epochs, each \
             committed exactly once. Elsewhere micro-batch is the default; here it is continuous, since a latency below that of \
             a trigger is what one asks of this program",
        )
    });
    let matches = command.get_matches();
    let given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    let mut arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    arguments.only = Only {
        graph: given("graph").then_some(arguments.graph),
        workers: given("workers").then_some(arguments.options.workers),
        rates: given("rate").then(|| arguments.rate.clone()),
    };
    if let Some(problem) = arguments.problem() {
        eprintln!("latency: {problem}");
        return ExitCode::FAILURE;
    }
    let mut json = JsonLines::append(arguments.json.as_deref()).expect("the file of results can be opened");
    println!("{}", json.provenance().headline());
    let mut right = true;
    if arguments.acceptance {
        right = acceptance::all(&arguments, &mut json);
    } else {
        for rate in &arguments.rate {
            if arguments.burst.is_some() {
                right &= burst::compare(&arguments, *rate, &mut json);
                continue;
            }
            right &= match arguments.compare {
                0 => single(&arguments, *rate, &mut json),
                rounds => compare(&arguments, *rate, rounds, &mut json),
            };
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn single(arguments: &Arguments, rate: u64, json: &mut JsonLines) -> bool {
    let engine = arguments.engine;
    let what = arguments.what(engine, rate);
    let (result, measured) = arguments.run(engine, rate, &what);
    json.write(&result).expect("the result can be written");
    print!("{}", table(std::slice::from_ref(&result)));
    println!("{}", measured.disturbance.text());
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
    let how = if result.mode.is_empty() { result.engine.clone() } else { result.mode.replace(' ', "-") };
    let stem = format!("{graph}-{how}-{rate}");
    let mut paths = save(&percentiles, to, &format!("percentiles-{stem}")).expect("the plot can be written");
    paths.extend(save(&timeline, to, &format!("timeline-{stem}")).expect("the plot can be written"));
    for path in paths {
        println!("plot: {}", path.display());
    }
}

/// Compares the modes of `--mode` with the program written by hand; returns whether all answers were right.
fn compare(arguments: &Arguments, rate: u64, rounds: usize, json: &mut JsonLines) -> bool {
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let mut turn = |engine: Engine| {
            let what = format!("{} ({round}/{rounds})", arguments.what(engine, rate));
            let (result, _) = arguments.run(engine, rate, &what);
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
    let (ours, by_hand): (Vec<&RunResult>, Vec<&RunResult>) =
        pairs.iter().map(|(ours, by_hand)| (ours, by_hand)).unzip();
    let throughput = median(&by_hand.iter().map(|result| result.throughput).collect::<Vec<_>>());
    let p50 = median(&by_hand.iter().map(|result| result.record.p50).collect::<Vec<_>>());
    // One that falls behind ends late, or has a backlog all the time.
    let judged = throughput >= 0.99 * rate as f64 && p50 < 1_000.0;
    let what = arguments.what(Engine::Tidemill, rate);
    let found = Comparison::of(&what, &arguments.graph(), &ours, &by_hand, judged);
    print!("{}", found.text());
    json.write(&found).expect("the result can be written");
    found.right
}
