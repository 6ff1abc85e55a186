//! The grid: every way to run a graph at the same rates, what was to be shown of it, and its table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::result::{RunResult, rate, time};
use crate::measure::median;

/// The rates, in events a second.
pub const RATES: [u64; 8] = [1_000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000];
/// The share of the saturation of the program written by hand up to which rates are judged.
pub const JUDGED: f64 = 0.8;
/// How much higher continuous may be measured than micro-batch: what two measurements of the same differ by.
pub const NOISE: f64 = 1.05;

/// The ways to run, by the names that they have in results.
pub const CONTINUOUS: &str = "continuous";
/// Micro-batch with epochs one after the other.
pub const MICRO_BATCH: &str = "micro-batch asap";
/// The program written by hand.
pub const TIMELY: &str = "timely by hand";
/// The program on Renoir.
pub const RENOIR: &str = "Renoir";

/// What was measured of one way at one rate: medians over the rounds, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The graph.
    pub point: String,
    /// How it was run.
    pub way: String,
    /// Worker threads.
    pub workers: usize,
    /// Events a second that were offered.
    pub rate: u64,
    /// How many rounds.
    pub rounds: usize,
    /// Half the events take at most this.
    pub p50: f64,
    /// 99 % do.
    pub p99: f64,
    /// 99.9 % do.
    pub p999: f64,
    /// p50 of the best and of the worst round.
    #[serde(default)]
    pub p50_range: (f64, f64),
    /// The same for p99.
    #[serde(default)]
    pub p99_range: (f64, f64),
    /// 99 % of the events were emitted at most so late.
    pub generator_p99: f64,
    /// CPU seconds for a million events.
    pub cpu_per_million: f64,
    /// The greatest share of a round that something else took: above [`ALLOWED`](super::witness::ALLOWED) if it was
    /// disturbed each time.
    #[serde(default)]
    pub disturbed: f64,
    /// Whether most rounds kept up with the rate.
    pub keeps_up: bool,
    /// Whether all answers were right.
    pub right: bool,
}

impl Point {
    /// Of the rounds of one way: each a result and whether it kept up.
    #[must_use]
    pub fn of(graph: &str, way: &str, rounds: &[(RunResult, bool)]) -> Point {
        let of = |figure: &dyn Fn(&RunResult) -> f64| {
            median(&rounds.iter().map(|(result, _)| figure(result)).collect::<Vec<_>>())
        };
        let range = |figure: &dyn Fn(&RunResult) -> f64| {
            let all = || rounds.iter().map(|(result, _)| figure(result));
            (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max))
        };
        let first = rounds.first().map(|(result, _)| (result.workers, result.rate));
        let (workers, rate) = first.unwrap_or_default();
        Point {
            point: graph.to_owned(),
            way: way.to_owned(),
            workers,
            rate,
            rounds: rounds.len(),
            p50: of(&|result| result.record.p50),
            p99: of(&|result| result.record.p99),
            p999: of(&|result| result.record.p999),
            p50_range: range(&|result| result.record.p50),
            p99_range: range(&|result| result.record.p99),
            generator_p99: of(&|result| result.generator.p99),
            cpu_per_million: of(&|result| result.cpu_per_million),
            disturbed: rounds.iter().map(|(result, _)| result.disturbance.share()).fold(0.0, f64::max),
            keeps_up: 2 * rounds.iter().filter(|(_, keeps_up)| *keeps_up).count() > rounds.len(),
            right: rounds.iter().all(|(result, _)| result.right),
        }
    }
}

/// How far the medians of p50 and p99 may lie above those of the program written by hand.
#[must_use]
pub fn limits(rate: u64) -> (f64, f64) {
    if rate > 100_000 { (1.5, 2.0) } else { (1.2, 1.2) }
}

/// Whether a rate is judged: the program written by hand keeps it up, and is not near to being full.
#[must_use]
pub fn is_judged(by_hand: &Point, saturation: f64) -> bool {
    by_hand.keeps_up && by_hand.rate as f64 <= JUDGED * saturation
}

/// What is promised of Tidemill by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is promised.
    pub claim: String,
    /// Worker threads.
    pub workers: usize,
    /// What was measured.
    pub value: f64,
    /// The greatest value that keeps the promise.
    pub limit: f64,
    /// Whether it does.
    pub kept: bool,
}

/// The promises over the points of one graph with one number of workers, of which the worst rate counts: continuous is
/// never slower than micro-batch; micro-batch answers within microseconds.
#[must_use]
pub fn verdicts(points: &[Point]) -> Vec<Verdict> {
    let Some(first) = points.first() else { return Vec::new() };
    let (graph, workers) = (first.point.as_str(), first.workers);
    let of = |way: &'static str| points.iter().filter(move |point| point.way == way);
    let mut all = Vec::new();
    let worst = |values: &[(f64, u64)]| values.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0));
    let ratios: Vec<(f64, u64)> = of(CONTINUOUS)
        .filter(|ours| ours.keeps_up)
        .filter_map(|ours| {
            let theirs = of(MICRO_BATCH).find(|theirs| theirs.rate == ours.rate)?;
            Some((ours.p50 / theirs.p50.max(1e-3), ours.rate))
        })
        .collect();
    if let Some((value, at)) = worst(&ratios) {
        let claim =
            format!("{graph}, p50 of continuous over micro-batch asap (worst: {}/s)", rate(at as f64));
        all.push(Verdict { claim, workers, value, limit: NOISE, kept: value <= NOISE });
    }
    let limit = match workers {
        1 => 40.0,
        2 => 150.0,
        _ => return all,
    };
    let promised = matches!(graph, "keyed-count" | "windowed-count");
    let within: Vec<(f64, u64)> = of(MICRO_BATCH)
        .filter(|point| promised && (100_000..=10_000_000).contains(&point.rate))
        .map(|point| (point.p50, point.rate))
        .collect();
    if let Some((value, at)) = worst(&within) {
        let claim =
            format!("{graph}, p50 of micro-batch asap in us, 100k/s to 10M/s (worst: {}/s)", rate(at as f64));
        all.push(Verdict { claim, workers, value, limit, kept: value < limit });
    }
    all
}

/// The ways of some points, in the order in which they first come.
#[must_use]
pub fn ways(points: &[Point]) -> Vec<&str> {
    let mut ways: Vec<&str> = Vec::new();
    for point in points {
        if !ways.contains(&point.way.as_str()) {
            ways.push(&point.way);
        }
    }
    ways
}

/// The rates of some points, ascending.
#[must_use]
pub fn rates(points: &[Point]) -> Vec<u64> {
    let mut rates: Vec<u64> = points.iter().map(|point| point.rate).collect();
    rates.sort_unstable();
    rates.dedup();
    rates
}

/// p50 and p99 of a way at a rate; in brackets where it fell behind, a dash where it was not measured.
#[must_use]
pub fn cell(points: &[Point], way: &str, rate: u64) -> String {
    match points.iter().rev().find(|point| point.way == way && point.rate == rate) {
        None => "-".to_owned(),
        Some(point) if !point.right => "VOID".to_owned(),
        Some(point) => {
            let both = format!("{} / {}", time(point.p50), time(point.p99));
            if point.keeps_up { both } else { format!("({both})") }
        }
    }
}

/// The points of one graph with one number of workers as an aligned table: rows are rates, columns are ways; at the end of
/// a row what `verdict` says of its rate.
#[must_use]
pub fn table(points: &[Point], verdict: impl Fn(u64) -> String) -> String {
    let ways = ways(points);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{:>8}", "rate/s");
    for way in &ways {
        let _ = write!(text, "  {way:>19}");
    }
    let _ = writeln!(text, "  {:>8}", "gen p99");
    for at in rates(points) {
        let _ = write!(text, "{:>8}", rate(at as f64));
        for way in &ways {
            let _ = write!(text, "  {:>19}", cell(points, way, at));
        }
        let late = points.iter().filter(|point| point.rate == at).map(|point| point.generator_p99);
        let _ = writeln!(text, "  {:>8}  {}", time(late.fold(f64::INFINITY, f64::min)), verdict(at));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(way: &str, rate: u64, p50: f64) -> Point {
        Point {
            point: "keyed-count".to_owned(),
            way: way.to_owned(),
            workers: 1,
            rate,
            rounds: 3,
            p50,
            p99: 2.0 * p50,
            p999: 3.0 * p50,
            p50_range: (p50, p50),
            p99_range: (2.0 * p50, 2.0 * p50),
            generator_p99: 1.0,
            cpu_per_million: 1.0,
            disturbed: 0.0,
            keeps_up: true,
            right: true,
        }
    }

    #[test]
    fn rates_near_saturation_are_not_judged() {
        let by_hand = point(TIMELY, 10_000_000, 1.0);
        assert!(is_judged(&by_hand, 12_500_000.0) && !is_judged(&by_hand, 12_400_000.0));
        assert!(!is_judged(&Point { keeps_up: false, ..by_hand }, 1e9));
        assert_eq!([limits(100_000), limits(300_000)], [(1.2, 1.2), (1.5, 2.0)]);
    }

    #[test]
    fn the_worst_rate_of_those_kept_up_decides_about_a_promise() {
        let mut points = vec![
            point(CONTINUOUS, 100_000, 30.0),
            point(MICRO_BATCH, 100_000, 30.0),
            point(CONTINUOUS, 1_000_000, 44.0),
            point(MICRO_BATCH, 1_000_000, 41.0),
            point(CONTINUOUS, 30_000_000, 9_000.0),
            point(MICRO_BATCH, 30_000_000, 50.0),
        ];
        points[4].keeps_up = false;
        let [over, within] = verdicts(&points).try_into().unwrap();
        assert!(over.claim.ends_with("(worst: 1M/s)") && !over.kept, "{over:?}");
        assert!((over.value - 44.0 / 41.0).abs() < 1e-9);
        // What lies beyond 10M/s is not promised.
        assert!((within.value - 41.0).abs() < 1e-9 && !within.kept);
        points[2].p50 = 42.0;
        points[3].p50 = 39.9;
        let [over, within] = verdicts(&points).try_into().unwrap();
        assert!(!over.kept && within.kept);
        points[2].p50 = 41.0;
        assert!(verdicts(&points)[0].kept);
        points.iter_mut().for_each(|point| point.point = "map".to_owned());
        assert_eq!(verdicts(&points).len(), 1);
    }

    #[test]
    fn a_table_has_a_row_for_each_rate_and_marks_who_fell_behind() {
        let mut points =
            vec![point(CONTINUOUS, 1_000, 3.0), point(TIMELY, 1_000, 4.0), point(TIMELY, 10_000, 5_000.0)];
        points[2].keeps_up = false;
        let text = table(&points, |rate| format!("at {rate}"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("3.0us / 6.0us") && lines[1].ends_with("at 1000"), "{text}");
        assert!(lines[2].contains("  -  ") && lines[2].contains("(5.00ms / 10ms)"), "{text}");
    }

    #[test]
    fn a_point_is_the_median_of_its_rounds_and_keeps_up_if_most_do() {
        use super::super::result::Name;
        use super::super::run::{Job, Shape, on_tidemill};
        use super::super::schedule::Load;
        let (job, load) = (
            Job { shape: Shape::Map, window: 0, sink_takes: std::time::Duration::ZERO },
            Load::open(1_000, 0.05),
        );
        let options = tidemill::Options::default();
        let measured = on_tidemill(job, &load, &options, &mut |_, _| ());
        let name = Name { engine: "tidemill", options: &options };
        let one = RunResult::of(&name, job, &load, std::time::Duration::ZERO, &measured);
        let rounds = [(5.0, true), (1.0, false), (3.0, true)].map(|(p50, keeps_up)| {
            let mut result = one.clone();
            result.record.p50 = p50;
            result.disturbance.stolen = p50;
            (result, keeps_up)
        });
        let point = Point::of("map", CONTINUOUS, &rounds);
        assert_eq!((point.p50, point.rate, point.rounds), (3.0, 1_000, 3));
        assert_eq!(point.p50_range, (1.0, 5.0));
        assert!(point.keeps_up && point.right && point.disturbed >= 5.0);
        assert!(!Point::of("map", CONTINUOUS, &rounds[..2]).keeps_up);
    }
}
