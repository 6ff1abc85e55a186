//! `--acceptance`: every way to run at the rates of the grid, by turns, and what was to be shown of it.

use serde::Serialize;
use tidemill::{Idle, Mode, Trigger};
use tidemill_benches::harness::comparison::Comparison;
use tidemill_benches::harness::grid::{
    CONTINUOUS, MICRO_BATCH, Point, RATES, TIMELY, Verdict, is_judged, table, verdicts,
};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::harness::result::{RunResult, rate, time};
use tidemill_benches::harness::run::{Job, Measured, generator_alone, on_timely};
use tidemill_benches::harness::schedule::{Load, Pace};
use tidemill_benches::harness::sustain::Trial;
use tidemill_benches::harness::witness::{ALLOWED, Disturbance};

use std::time::Duration;

use crate::{Arguments, Engine, Kind};

/// How often a disturbed round is measured again at most.
const REPEATS: usize = 2;
/// A backlog of so much time, and a latency below it, does not count as growing.
const SLACK: Duration = Duration::from_millis(20);
/// Events of the closed-loop runs.
const SATURATED: u64 = 30_000_000;

/// In microseconds.
const HOUR: u64 = 3_600_000_000;

/// A way to run.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    name: &'static str,
    engine: Engine,
    mode: Mode,
}

const WAYS: &[Way] = &[
    Way { name: CONTINUOUS, engine: Engine::Tidemill, mode: Mode::Continuous },
    Way { name: MICRO_BATCH, engine: Engine::Tidemill, mode: Mode::MicroBatch },
    #[cfg(feature = "peers")]
    Way { name: tidemill_benches::harness::grid::RENOIR, engine: Engine::Renoir, mode: Mode::Continuous },
    Way { name: TIMELY, engine: Engine::Timely, mode: Mode::Continuous },
];

/// A claim about a run by itself.
#[derive(Serialize)]
struct Asleep {
    claim: String,
    p99: f64,
    limit: f64,
    kept: bool,
}

/// What one graph reaches with one number of workers in a closed loop, in events a second.
#[derive(Serialize)]
struct Saturation {
    saturation: String,
    workers: usize,
    /// The program written by hand.
    by_hand: f64,
    /// The generator without an engine.
    generator: f64,
}

/// What was measured of a way in one round.
struct Turn {
    result: RunResult,
    keeps_up: bool,
    disturbance: Disturbance,
}

/// Returns whether all answers were right.
pub(crate) fn all(arguments: &Arguments, json: &mut JsonLines) -> bool {
    let only = &arguments.only;
    let graphs = match only.graph {
        Some(graph) => vec![graph],
        None => vec![Kind::Map, Kind::KeyedCount, Kind::WindowedCount, Kind::WordCount],
    };
    let mut right = true;
    for graph in graphs {
        let of_graph = Arguments { graph, engine: Engine::Tidemill, ..arguments.clone() };
        for workers in only.workers.map_or_else(|| vec![1, 2], |workers| vec![workers]) {
            let mut arguments = of_graph.clone();
            arguments.options.workers = workers;
            right &= Grid { arguments, json: &mut *json, repeated: 0, disturbed: 0.0 }.run();
        }
        right &= asleep(of_graph, json);
    }
    right
}

/// One graph with one number of workers.
struct Grid<'a> {
    arguments: Arguments,
    json: &'a mut JsonLines,
    repeated: usize,
    /// The greatest share of a run that counts which something else took.
    disturbed: f64,
}

impl Grid<'_> {
    fn run(&mut self) -> bool {
        let (graph, workers) = (self.arguments.graph(), self.arguments.options.workers);
        let rounds = if self.arguments.compare == 0 { 5 } else { self.arguments.compare };
        println!("\n{graph}, workers: {workers}, idle {}", self.arguments.options.idle);
        let mut right = true;
        let saturation = self.saturation(&mut right);
        let mut ways: Vec<Way> = WAYS.to_vec();
        // Of a word count nothing is promised.
        let promised = self.arguments.graph != Kind::WordCount;
        let mut behind = Vec::<u64>::new();
        let (mut points, mut comparisons) = (Vec::<Point>::new(), Vec::<Comparison>::new());
        let rates = self.arguments.only.rates.clone().unwrap_or_else(|| RATES.to_vec());
        // What is started for the first time is not measured.
        for way in &ways {
            right &= self.turn(*way, rates.first().copied().unwrap_or(100_000), 0, 0).result.right;
        }
        for rate in rates {
            let (measured, repeated) = self.rounds(&ways, rate, rounds);
            let found: Vec<Point> = ways
                .iter()
                .zip(&measured)
                .map(|(way, turns)| {
                    let turns: Vec<(RunResult, bool)> =
                        turns.iter().map(|turn| (turn.result.clone(), turn.keeps_up)).collect();
                    Point::of(&graph, way.name, &turns)
                })
                .collect();
            let of = |name: &str| {
                let at = ways.iter().position(|way| way.name == name)?;
                Some((found.get(at)?, measured.get(at)?))
            };
            let mut goes_on = false;
            if let Some((by_hand, theirs)) = of(TIMELY) {
                // Who fell behind because something else took its core may keep up with the next rate.
                goes_on = by_hand.keeps_up || by_hand.disturbed > ALLOWED;
                if let Some((_, ours)) = of(CONTINUOUS) {
                    let results =
                        |turns: &'_ [Turn]| turns.iter().map(|turn| turn.result.clone()).collect::<Vec<_>>();
                    let (ours, theirs) = (results(ours), results(theirs));
                    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.iter().collect(), theirs.iter().collect());
                    let judged = promised && is_judged(by_hand, saturation);
                    let what = self.arguments.what(Engine::Tidemill, rate);
                    comparisons.push(Comparison::of(&what, &graph, &ours, &theirs, judged));
                }
                if promised
                    && is_judged(by_hand, saturation)
                    && !of(CONTINUOUS).is_some_and(|(ours, _)| ours.keeps_up)
                {
                    behind.push(rate);
                }
            }
            self.say(rate, &found, comparisons.last().filter(|comparison| comparison.rate == rate), repeated);
            right &= found.iter().all(|point| point.right);
            for point in &found {
                self.json.write(point).expect("the result can be written");
            }
            if let Some(comparison) = comparisons.last().filter(|comparison| comparison.rate == rate) {
                self.json.write(comparison).expect("the result can be written");
            }
            ways = ways
                .into_iter()
                .zip(&found)
                .filter_map(|(way, point)| (point.keeps_up || point.disturbed > ALLOWED).then_some(way))
                .collect();
            points.extend(found);
            if !goes_on {
                break;
            }
        }
        let verdict = |rate: u64| {
            comparisons
                .iter()
                .find(|comparison| comparison.rate == rate)
                .map(|found| {
                    format!(
                        "{:.2}, {:.2} times by hand: {}",
                        found.p50_ratio,
                        found.p99_ratio,
                        found.verdict()
                    )
                })
                .unwrap_or_default()
        };
        print!("\n{graph}, workers: {workers}: p50 / p99\n{}", table(&points, verdict));
        let mut verdicts = verdicts(&points);
        if promised {
            let value = behind.len() as f64;
            let claim = format!("{graph}, judged rates at which continuous falls behind");
            verdicts.push(Verdict { claim, workers, value, limit: 0.0, kept: behind.is_empty() });
        }
        for verdict in verdicts {
            let how = if verdict.kept { "kept" } else { "MISSED" };
            println!("{}: {:.2}, limit {}: {how}", verdict.claim, verdict.value, verdict.limit);
            self.json.write(&verdict).expect("the result can be written");
        }
        println!(
            "rounds repeated: {}; of a run that counts at most {:.1} % was taken by something else",
            self.repeated,
            100.0 * self.disturbed
        );
        right
    }

    /// What the program written by hand reaches in a closed loop, and the generator by itself.
    fn saturation(&mut self, right: &mut bool) -> f64 {
        let Arguments { options, .. } = &self.arguments;
        // No partition waits for the other, so they drift apart: all events are in one window, however far.
        let job = Job { window: HOUR, ..self.arguments.job() };
        let workers = options.workers;
        let load = Load {
            events: SATURATED,
            closed: true,
            keys: self.arguments.keys,
            ..Load::open(10_000_000, 1.0)
        };
        let generator = generator_alone(job, &load, workers);
        let measured = on_timely(job, &load, workers, options.idle, &mut |_, _| ());
        *right &= measured.is_right();
        let by_hand = measured.throughput(&load);
        println!(
            "generator alone: {}/s; timely by hand in a closed loop: {}/s, judged up to {}/s",
            rate(generator),
            rate(by_hand),
            rate(tidemill_benches::harness::grid::JUDGED * by_hand)
        );
        let saturation = Saturation { saturation: self.arguments.graph(), workers, by_hand, generator };
        self.json.write(&saturation).expect("the result can be written");
        by_hand
    }

    /// This many rounds of all ways, and how many were repeated; a disturbed one is measured again.
    fn rounds(&mut self, ways: &[Way], rate: u64, rounds: usize) -> (Vec<Vec<Turn>>, usize) {
        let mut all: Vec<Vec<Turn>> = ways.iter().map(|_| Vec::new()).collect();
        let mut repeated = 0;
        for round in 1..=rounds {
            for attempt in 0..=REPEATS {
                // Who goes first changes, so that a machine that drifts treats all alike.
                let order = (0..ways.len()).map(|at| (at + round) % ways.len());
                let mut turns: Vec<(usize, Turn)> = order
                    .filter_map(|at| Some((at, self.turn(*ways.get(at)?, rate, round, rounds))))
                    .collect();
                let disturbed = turns.iter().any(|(_, turn)| turn.disturbance.is_too_much());
                if disturbed && attempt < REPEATS {
                    repeated += 1;
                    continue;
                }
                turns.sort_by_key(|(at, _)| *at);
                for (of_way, (_, turn)) in all.iter_mut().zip(turns) {
                    self.disturbed = self.disturbed.max(turn.disturbance.share());
                    of_way.push(turn);
                }
                break;
            }
        }
        self.repeated += repeated;
        (all, repeated)
    }

    fn turn(&mut self, way: Way, rate: u64, round: usize, rounds: usize) -> Turn {
        let mut arguments = self.arguments.clone();
        arguments.options.mode = way.mode;
        arguments.options.trigger = Trigger::Asap;
        let what = format!("{} ({round}/{rounds})", arguments.what(way.engine, rate));
        let (result, measured) = arguments.run(way.engine, rate, &what);
        let keeps_up = keeps_up(&arguments.load(rate), way.engine, &result, &measured);
        Turn { result, keeps_up, disturbance: measured.disturbance }
    }

    fn say(&self, rate: u64, points: &[Point], comparison: Option<&Comparison>, repeated: usize) {
        let figures = points.iter().map(|point| {
            let behind = if point.keeps_up { "" } else { ", behind" };
            format!("{} {} / {}{behind}", point.way, time(point.p50), time(point.p99))
        });
        let figures = figures.collect::<Vec<_>>().join("; ");
        let verdict = comparison.map(|comparison| format!("; {}", comparison.verdict())).unwrap_or_default();
        let repeated = if repeated > 0 { format!("; rounds repeated: {repeated}") } else { String::new() };
        println!("  {:>4}/s: {figures}{verdict}{repeated}", self::rate(rate as f64));
    }
}

/// Whether a run kept up: it ended in time, and neither latency nor backlog grew. The program written by hand has no
/// queue of its own making: with a backlog all the time it is full.
fn keeps_up(load: &Load, engine: Engine, result: &RunResult, measured: &Measured) -> bool {
    let in_time = result.throughput >= 0.97 * load.rate as f64;
    let full = engine == Engine::Timely && result.record.p50 >= 1_000.0;
    in_time && !full && Trial::of(load, measured, SLACK).kept_up
}

fn asleep(of_graph: Arguments, json: &mut JsonLines) -> bool {
    let mut asleep = Arguments { pace: Pace::Sleep, ..of_graph };
    asleep.options.idle = Idle::Park;
    let what = format!("{}, asleep between events", asleep.what(Engine::Tidemill, 10_000));
    let (result, _) = asleep.run(Engine::Tidemill, 10_000, &what);
    let (p99, limit) = (result.record.p99, 1_000.0);
    let kept = result.right && p99 < limit;
    println!("{what}: p99 {}, limit 1 ms: {}", time(p99), if kept { "kept" } else { "MISSED" });
    json.write(&result).expect("the result can be written");
    json.write(&Asleep { claim: what, p99, limit, kept }).expect("the result can be written");
    result.right
}
