//! What the runs of one runner on one query come to: a line of the table, and one of JSON.

use std::fmt;

use serde::Serialize;

use super::Entry;
use super::alone::{Runner, Sample};
use super::answer::Answer;
use super::events::{self, Settings};
use crate::measure::median;

/// What came of a run: its sample, or a sentence on why there is none.
pub type Run = Result<Sample, String>;

/// The runs of a runner, by round.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Who ran.
    pub runner: Runner,
    rounds: Vec<Run>,
    /// Why they do not count.
    void: Option<String>,
}

impl Runs {
    /// Of a runner that has run nothing yet.
    #[must_use]
    pub fn new(runner: Runner) -> Runs {
        Runs { runner, rounds: Vec::new(), void: None }
    }

    /// Adds a run. One without a sample makes all of them void.
    pub fn push(&mut self, run: Run) {
        if let Err(why) = &run {
            self.void(why);
        }
        self.rounds.push(run);
    }

    /// Says that they do not count, and why, if that has not been printed.
    pub fn void(&mut self, why: &str) {
        self.void.get_or_insert_with(|| why.to_owned());
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.rounds.iter().flatten()
    }
}

/// Makes all runs of a query void if two of them gave different answers: the right one is unknown.
pub fn compare<'a>(all: impl Iterator<Item = &'a mut Runs>) {
    let all: Vec<&mut Runs> = all.collect();
    let answers: Vec<&Answer> =
        all.iter().flat_map(|runs| runs.samples()).map(|sample| &sample.answer).collect();
    let agreed = answers.windows(2).all(|two| matches!(two, [one, other] if one.agrees(other)));
    if !agreed {
        all.into_iter().for_each(|runs| runs.void("the runs gave different answers"));
    }
}

/// The runs of one runner on one query with this many workers.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
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
    /// Whether every run ended and gave the right answer. If not, the numbers are void.
    right: bool,
    /// Why they are void.
    #[serde(skip_serializing_if = "Option::is_none")]
    void: Option<String>,
}

impl Line {
    /// Whether its figures count.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.right
    }
}

/// A line for each of those who ran a query by turns with this many workers. A run without figures has no ratio.
#[must_use]
pub fn lines(query: &Entry, settings: Settings, workers: u32, all: &[Runs]) -> Vec<Line> {
    let renoir = all.iter().find(|runs| runs.runner == Runner::Renoir && runs.void.is_none());
    let target = if query.number < 3 { 1.0 } else { 1.3 };
    let line = |own: &Runs| {
        let seconds: Vec<f64> = own.samples().map(|sample| sample.seconds).collect();
        let cpu: Vec<f64> = own.samples().map(|sample| sample.cpu).collect();
        let speed = |seconds: f64| if seconds > 0.0 { settings.events as f64 / seconds / 1e6 } else { 0.0 };
        let most = own.samples().max_by_key(|sample| sample.peak);
        let over_renoir =
            renoir.filter(|_| own.void.is_none() && own.runner.mode().is_some()).map(|theirs| {
                let ratios: Vec<f64> = own
                    .samples()
                    .zip(theirs.samples())
                    .map(|(ours, theirs)| theirs.seconds / ours.seconds)
                    .collect();
                median(&ratios)
            });
        Line {
            query: query.number,
            title: query.title,
            runner: own.runner.name(),
            workers,
            settings,
            base_time_ms: events::BASE_TIME_MS,
            events_checksum: events::CHECKSUM,
            mega_per_second: [
                speed(median(&seconds)),
                speed(seconds.iter().copied().fold(0.0, f64::max)),
                speed(seconds.iter().copied().reduce(f64::min).unwrap_or(0.0)),
            ],
            cpu_seconds_per_mega: median(&cpu) / (settings.events as f64 / 1e6),
            peak_rss: most.map_or(0, |sample| sample.peak),
            events_rss: most.map_or(0, |sample| sample.base),
            answer: most.map(|sample| sample.answer).unwrap_or_default(),
            seconds,
            over_renoir,
            target: over_renoir.map(|_| target),
            kept: over_renoir.map(|ratio| ratio >= target),
            right: own.void.is_none(),
            void: own.void.clone(),
        }
    };
    all.iter().map(line).collect()
}

/// What is above the lines.
#[must_use]
pub fn heading() -> String {
    format!(
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
    )
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{:<3} {:<20} {:<12} {:>2}  ", self.query, self.title, self.runner, self.workers)?;
        if !self.right {
            return write!(f, "VOID: {}", self.void.as_deref().unwrap_or("wrong answer"));
        }
        let [middle, slowest, fastest] = self.mega_per_second;
        let mib = |bytes: u64| bytes >> 20;
        let Answer { rows, written, .. } = self.answer;
        let rows = if written == rows { format!("{rows}") } else { format!("{rows} ({written})") };
        write!(
            f,
            "{middle:>7.2} ({slowest:.2}-{fastest:.2})  {:>8.4}  {:>6} ({})  {rows:>20}",
            self.cpu_seconds_per_mega,
            mib(self.peak_rss),
            mib(self.events_rss),
        )?;
        match (self.over_renoir, self.target, self.kept) {
            (Some(ratio), Some(target), Some(kept)) => {
                write!(f, "  {ratio:>5.2}  {target:.1} {}", if kept { "kept" } else { "MISSED" })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QUERIES;
    use super::*;

    const RIGHT: Answer = Answer { rows: 3, checksum: 7, written: 3 };

    fn sample(seconds: f64, answer: Answer) -> Sample {
        Sample { seconds, cpu: 2.0 * seconds, peak: 5 << 20, base: 4 << 20, answer }
    }

    fn runs(runner: Runner, seconds: [f64; 3]) -> Runs {
        let mut runs = Runs::new(runner);
        seconds.iter().for_each(|seconds| runs.push(Ok(sample(*seconds, RIGHT))));
        runs
    }

    fn of(all: &[Runs]) -> Vec<Line> {
        lines(&QUERIES[0], Settings::suite(1_000_000), 1, all)
    }

    #[test]
    fn the_ratio_is_the_middle_of_the_rounds() {
        let ours = runs(Runner::MicroBatch, [0.1, 0.2, 0.4]);
        let theirs = runs(Runner::Renoir, [0.15, 0.2, 0.2]);
        let lines = of(&[ours, theirs, runs(Runner::PlainLoop, [0.1; 3])]);
        assert_eq!(lines.iter().map(|line| line.over_renoir).collect::<Vec<_>>(), [Some(1.0), None, None]);
        assert_eq!((lines[0].kept, lines[0].mega_per_second), (Some(true), [5.0, 2.5, 10.0]));
        assert!(lines.iter().all(Line::is_right));
        let text = lines[0].to_string();
        assert!(
            text.ends_with(
                "   5.00 (2.50-10.00)    0.4000       5 (4)                     3   1.00  1.0 kept"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_run_that_did_not_end_voids_its_runner_alone() {
        let mut ours = runs(Runner::Continuous, [0.1; 3]);
        ours.push(Err("the process of the run failed (signal: 9 (SIGKILL))".to_owned()));
        let lines = of(&[ours, runs(Runner::MicroBatch, [0.1; 3]), runs(Runner::Renoir, [0.2; 3])]);
        assert_eq!(lines.iter().map(Line::is_right).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!((lines[0].over_renoir, lines[1].over_renoir), (None, Some(2.0)));
        let text = lines[0].to_string();
        assert!(text.ends_with("VOID: the process of the run failed (signal: 9 (SIGKILL))"), "{text}");
        assert!(serde_json::to_string(&lines[0]).unwrap().contains(r#""right":false,"void":"the process"#));
        assert!(serde_json::to_string(&lines[1]).unwrap().ends_with(r#""right":true}"#));
    }

    #[test]
    fn who_gave_a_wrong_answer_is_void_and_every_ratio_to_it_too() {
        let mut theirs = runs(Runner::Renoir, [0.2; 3]);
        theirs.void("plain loops say otherwise");
        theirs.void("and again");
        let lines = of(&[runs(Runner::MicroBatch, [0.1; 3]), theirs]);
        assert_eq!((lines[0].is_right(), lines[0].over_renoir), (true, None));
        assert!(lines[1].to_string().ends_with("VOID: plain loops say otherwise"));
    }

    #[test]
    fn where_answers_differ_all_is_void() {
        let mut all = [runs(Runner::MicroBatch, [0.1; 3]), runs(Runner::Renoir, [0.2; 3])];
        all[0].push(Err("broken".to_owned()));
        compare(all.iter_mut());
        assert_eq!(of(&all).iter().map(Line::is_right).collect::<Vec<_>>(), [false, true]);
        all[1].push(Ok(sample(0.2, Answer { rows: 2, ..RIGHT })));
        compare(all.iter_mut());
        let lines = of(&all);
        assert!(lines[0].to_string().ends_with("VOID: broken"));
        assert!(lines[1].to_string().ends_with("VOID: the runs gave different answers"));
    }

    #[test]
    fn without_a_run_there_are_no_figures() {
        let mut failed = Runs::new(Runner::MicroBatch);
        failed.push(Err("no".to_owned()));
        let lines = of(&[failed]);
        assert_eq!((lines[0].is_right(), lines[0].mega_per_second), (false, [0.0; 3]));
    }
}
