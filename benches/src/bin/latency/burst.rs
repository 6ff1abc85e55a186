//! `--burst`: many events due at once, in both modes by turns.

use tidemill::{Mode, Trigger};
use tidemill_benches::harness::grid::{CONTINUOUS, MICRO_BATCH, NOISE, Verdict};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::harness::result::{rate, time};
use tidemill_benches::measure::median;

use crate::{Arguments, Engine};

/// Milliseconds after the burst is drained within which latency is to be as before.
const CALM: f64 = 20.0;

/// A mode, and in milliseconds of each round: the median latency before the burst, until the burst was drained, and from then
/// until latency was as before.
struct Way {
    name: &'static str,
    mode: Mode,
    before: Vec<f64>,
    drained: Vec<f64>,
    calm: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, mode: Mode) -> Way {
        Way { name, mode, before: Vec::new(), drained: Vec::new(), calm: Vec::new() }
    }

    /// One run; returns whether the answer was right.
    fn run(&mut self, arguments: &Arguments, at: u64, json: &mut JsonLines) -> bool {
        let mut arguments = arguments.clone();
        arguments.options.mode = self.mode;
        arguments.options.trigger = Trigger::Asap;
        let what = format!("{}, burst", arguments.what(Engine::Tidemill, at));
        let (result, _) = arguments.run(Engine::Tidemill, at, &what);
        json.write(&result).expect("the result can be written");
        if let Some(recovery) = result.recovery {
            self.before.push(recovery.before);
            self.drained.push(recovery.drained);
            self.calm.push(recovery.calm.unwrap_or(f64::INFINITY));
        }
        result.right
    }

    fn say(&self) {
        let calm = median(&self.calm);
        let calm = if calm.is_finite() { format!("{calm:.0}ms later") } else { "not again".to_owned() };
        let drained = time(1e3 * median(&self.drained));
        let before = time(1e3 * median(&self.before));
        println!(
            "  {:16} drained after {drained}; p50 before {before}, as before or below 10us {calm}",
            self.name
        );
    }
}

/// Runs both modes by turns; returns whether all answers were right.
pub(crate) fn compare(arguments: &Arguments, at: u64, json: &mut JsonLines) -> bool {
    let mut right = true;
    let mut ours = Way::new(CONTINUOUS, Mode::Continuous);
    let mut theirs = Way::new(MICRO_BATCH, Mode::MicroBatch);
    for round in 0..arguments.compare.max(1) {
        // Who goes first changes, so that a machine that drifts treats both alike.
        let turns = if round % 2 == 0 { [&mut ours, &mut theirs] } else { [&mut theirs, &mut ours] };
        for way in turns {
            right &= way.run(arguments, at, json);
        }
    }
    let burst = rate(arguments.burst.unwrap_or(0) as f64);
    let workers = arguments.options.workers;
    let graph = arguments.graph();
    println!("{graph}, workers: {workers}, a burst of {burst} events at {}/s:", rate(at as f64));
    ours.say();
    theirs.say();
    let ratio = median(&ours.drained) / median(&theirs.drained).max(1e-3);
    let within = median(&ours.calm).min(1e9);
    for (what, value, limit) in [
        ("continuous until a burst is drained, over micro-batch", ratio, NOISE),
        ("ms of continuous from a burst drained until p50 is as before or below 10us", within, CALM),
    ] {
        let claim = format!("{graph}, {what} ({burst} events at {}/s)", rate(at as f64));
        let verdict = Verdict { claim, workers, value, limit, kept: right && value <= limit };
        let how = if verdict.kept { "kept" } else { "MISSED" };
        println!("{}: {value:.2}, limit {limit}: {how}", verdict.claim);
        json.write(&verdict).expect("the result can be written");
    }
    right
}
