//! Tidemill against the program written by hand, at one rate.

use serde::Serialize;

use super::grid::limits;
use super::result::{RunResult, time};
use crate::measure::median;

/// What was measured at one rate, in rounds by turns. Pairs are Tidemill's figure and that by hand; times are in
/// microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Graph, mode, rate, workers.
    pub comparison: String,
    /// The graph.
    pub graph: String,
    /// Worker threads.
    pub workers: usize,
    /// Events a second that were offered.
    pub rate: u64,
    /// How many rounds.
    pub rounds: usize,
    /// Medians.
    pub p50: (f64, f64),
    /// Medians.
    pub p99: (f64, f64),
    /// Medians.
    pub p999: (f64, f64),
    /// Medians, of CPU seconds for a million events.
    pub cpu_per_million: (f64, f64),
    /// The median of the rounds' ratios.
    pub p50_ratio: f64,
    /// The median of the rounds' ratios.
    pub p99_ratio: f64,
    /// The median of the rounds' ratios.
    pub p999_ratio: f64,
    /// The greatest ratio of p50 that is wanted.
    pub limit: f64,
    /// The same for p99.
    pub p99_limit: f64,
    /// Whether the ratios count.
    pub judged: bool,
    /// Whether they are within their limits.
    pub kept: bool,
    /// Whether all answers were right.
    pub right: bool,
}

impl Comparison {
    /// Of as many rounds as both have.
    #[must_use]
    pub fn of(
        what: &str,
        graph: &str,
        ours: &[&RunResult],
        by_hand: &[&RunResult],
        judged: bool,
    ) -> Comparison {
        let both = |of: &dyn Fn(&RunResult) -> f64| {
            let all = |results: &[&RunResult]| results.iter().map(|result| of(result)).collect::<Vec<f64>>();
            let (ours, by_hand) = (all(ours), all(by_hand));
            let ratios: Vec<f64> = ours.iter().zip(&by_hand).map(|(a, b)| a / b.max(1e-3)).collect();
            ((median(&ours), median(&by_hand)), median(&ratios))
        };
        let (workers, rate) = ours.first().map(|first| (first.workers, first.rate)).unwrap_or_default();
        let (p50, p50_ratio) = both(&|result| result.record.p50);
        let (p99, p99_ratio) = both(&|result| result.record.p99);
        let (p999, p999_ratio) = both(&|result| result.record.p999);
        let (cpu_per_million, _) = both(&|result| result.cpu_per_million);
        let right = ours.iter().chain(by_hand).all(|result| result.right);
        let (limit, p99_limit) = limits(rate);
        Comparison {
            comparison: format!("{what}, {workers} worker{}", if workers == 1 { "" } else { "s" }),
            graph: graph.to_owned(),
            workers,
            rate,
            rounds: ours.len().min(by_hand.len()),
            p50,
            p99,
            p999,
            cpu_per_million,
            p50_ratio,
            p99_ratio,
            p999_ratio,
            limit,
            p99_limit,
            judged,
            kept: right && p50_ratio <= limit && p99_ratio <= p99_limit,
            right,
        }
    }

    /// Its description, a word or a few.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.right, self.judged, self.kept) {
            (false, ..) => "VOID: wrong answer",
            (true, false, _) => "not judged",
            (true, true, true) => "kept",
            (true, true, false) => "MISSED",
        }
    }

    /// The figures as lines.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |name: &str, (ours, by_hand): (f64, f64), ratio: f64| {
            format!("  {name:6} {:>8} | {:>8} | {ratio:.2}\n", time(ours), time(by_hand))
        };
        let (ours, by_hand) = self.cpu_per_million;
        [
            format!("{}: Tidemill | by hand | ratio\n", self.comparison),
            line("p50", self.p50, self.p50_ratio),
            line("p99", self.p99, self.p99_ratio),
            line("p99.9", self.p999, self.p999_ratio),
            format!("  CPU s/M {ours:>7.2} | {by_hand:>8.2} |\n"),
            format!(
                "  p50 at most {} times, p99 at most {} times: {}\n",
                self.limit,
                self.p99_limit,
                self.verdict()
            ),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidemill::Options;

    use super::*;
    use crate::harness::result::Name;
    use crate::harness::run::{Job, Shape, on_tidemill};
    use crate::harness::schedule::Load;

    #[test]
    fn median_of_ratios_is_judged() {
        let (job, load) =
            (Job { shape: Shape::Map, window: 0, sink_takes: Duration::ZERO }, Load::open(1_000, 0.05));
        let options = Options::default();
        let measured = on_tidemill(job, &load, &options, &mut |_, _| ());
        let name = Name { engine: "tidemill", options: &options };
        let one = RunResult::of(&name, job, &load, Duration::ZERO, &measured);
        let with = |p50s: [f64; 3]| {
            p50s.map(|p50| {
                let mut result = one.clone();
                (result.record.p50, result.record.p99) = (p50, p50);
                result
            })
        };
        let (ours, theirs) = (with([1.0, 10.0, 12.0]), with([1.0, 9.0, 4.0]));
        let of = |results: &'static [RunResult; 3]| results.iter().collect::<Vec<_>>();
        let (ours, theirs) = (of(Box::leak(Box::new(ours))), of(Box::leak(Box::new(theirs))));
        let found = Comparison::of("map", "map", &ours, &theirs, true);
        assert_eq!((found.p50, found.rounds, found.workers), ((10.0, 4.0), 3, 1));
        assert!((found.p50_ratio - 10.0 / 9.0).abs() < 1e-9);
        assert_eq!((found.limit, found.kept, found.verdict()), (1.2, true, "kept"));
        assert_eq!(found.comparison, "map, 1 worker");
        let missed = Comparison::of("map", "map", &theirs, &ours, true);
        assert!(missed.kept);
        let missed = Comparison::of("map", "map", &ours[2..], &theirs[2..], true);
        assert_eq!((missed.p50_ratio, missed.verdict()), (3.0, "MISSED"));
        assert_eq!(Comparison::of("map", "map", &ours, &theirs, false).verdict(), "not judged");
    }
}
