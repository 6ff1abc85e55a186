//! A run by itself: a process of its own makes the events, runs one query over them once, and says in a line of JSON what
//! came of it.
//!
//! Much of what a query takes here goes into memory for events, and how long that takes depends on how the heap came to
//! look. In a fresh process every run finds it alike, whatever was run before, and the most memory and the processor time are
//! that run's alone. A run that dies takes nothing with it but its own figures.

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};
use tidemill::{Mode, Options};

use super::answer::Answer;
use super::events::{Feed, Settings};
use super::{Entry, Outcome, QUERIES, plain_loop};
use crate::measure::{cpu_time, peak_rss, reset_peak_rss, rss};

/// The flag by which a program is told to be such a process; what follows it is an [`Order`] as JSON.
pub const FLAG: &str = "--alone";

/// Who runs a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// Tidemill, in this mode.
    MicroBatch,
    /// Tidemill, in this mode.
    Continuous,
    /// No engine at all: only query 0.
    PlainLoop,
    /// Renoir, if it is compiled in.
    Renoir,
}

impl From<Mode> for Runner {
    fn from(mode: Mode) -> Runner {
        match mode {
            Mode::MicroBatch => Runner::MicroBatch,
            Mode::Continuous => Runner::Continuous,
        }
    }
}

impl Runner {
    /// What results call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Runner::MicroBatch => "micro-batch",
            Runner::Continuous => "continuous",
            Runner::PlainLoop => "plain loop",
            Runner::Renoir => "Renoir",
        }
    }

    /// The mode, if it is Tidemill.
    #[must_use]
    pub fn mode(self) -> Option<Mode> {
        match self {
            Runner::MicroBatch => Some(Mode::MicroBatch),
            Runner::Continuous => Some(Mode::Continuous),
            Runner::PlainLoop | Runner::Renoir => None,
        }
    }

    /// Whether it has the query.
    #[must_use]
    pub fn can(self, query: u32) -> bool {
        match self {
            Runner::MicroBatch | Runner::Continuous => QUERIES.iter().any(|entry| entry.number == query),
            Runner::PlainLoop => query == 0,
            #[cfg(feature = "peers")]
            Runner::Renoir => super::renoir::NUMBERS.contains(&query),
            #[cfg(not(feature = "peers"))]
            Runner::Renoir => false,
        }
    }

    /// Runs the query, which it must have.
    fn run(self, query: &Entry, feed: &Feed) -> Option<Outcome> {
        if let Some(mode) = self.mode() {
            let workers = feed.partitions() as usize;
            return Some(query.run(feed, &Options::default().with_mode(mode).with_workers(workers)));
        }
        match self {
            Runner::PlainLoop => Some(plain_loop(feed)),
            #[cfg(feature = "peers")]
            Runner::Renoir => super::renoir::run(query.number, feed),
            _ => None,
        }
    }
}

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The query's number.
    pub query: u32,
    /// Who runs it.
    pub runner: Runner,
    /// With how many workers; the events have as many partitions.
    pub workers: u32,
    /// Over which events.
    pub settings: Settings,
}

/// A run that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// From building the graph until all threads have ended.
    pub seconds: f64,
    /// Processor time in that time, user and system, in seconds.
    pub cpu: f64,
    /// The most memory that the process had in that time, in bytes.
    pub peak: u64,
    /// The memory that it had before: that of the events, in bytes.
    pub base: u64,
    /// What the query gave.
    pub answer: Answer,
}

impl Order {
    /// Runs it in this process, which should have done nothing else.
    ///
    /// # Errors
    /// If the runner does not have the query.
    ///
    /// # Panics
    /// If the query fails.
    pub fn here(&self) -> Result<Sample, String> {
        let Order { query, runner, workers, settings } = *self;
        let unknown = || format!("{} does not have query {query}", runner.name());
        let entry = QUERIES.iter().find(|entry| entry.number == query).ok_or_else(unknown)?;
        if !runner.can(query) {
            return Err(unknown());
        }
        let feed = settings.feed(workers);
        reset_peak_rss();
        let base = rss().unwrap_or_default();
        let before = cpu_time().unwrap_or_default();
        let outcome = runner.run(entry, &feed).ok_or_else(unknown)?;
        let sample = Sample {
            seconds: outcome.elapsed.as_secs_f64(),
            cpu: cpu_time().unwrap_or_default().saturating_sub(before).as_secs_f64(),
            peak: peak_rss().unwrap_or_default(),
            base,
            answer: outcome.answer,
        };
        // The process ends; to free millions of strings before it does is wasted time.
        std::mem::forget(feed);
        Ok(sample)
    }

    /// Has it run by a process of the program, which must heed [`FLAG`] as [`obey`] does.
    ///
    /// # Errors
    /// A sentence, if the process could not be started, died, or did not say what came of the run.
    pub fn alone(&self, program: &Path) -> Result<Sample, String> {
        let order = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let output = Command::new(program)
            .arg(FLAG)
            .arg(order)
            .output()
            .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        said(&output)
    }
}

/// What such a process does: runs the order and writes what came of it.
///
/// # Errors
/// If the order is none, or there is no such query, or the reader of the output has gone.
pub fn obey(order: &str, out: &mut impl io::Write) -> Result<(), String> {
    let order: Order = serde_json::from_str(order).map_err(|error| format!("not an order: {error}"))?;
    let sample = order.here()?;
    let line = serde_json::to_string(&sample).map_err(|error| error.to_string())?;
    // Whatever else has been written, the sample is the last line.
    writeln!(out, "{line}").map_err(|error| error.to_string())
}

/// The sample that a process wrote before it ended.
fn said(output: &Output) -> Result<Sample, String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    let because = match errors.trim() {
        "" => String::new(),
        words => format!(": {words}"),
    };
    if !output.status.success() {
        return Err(format!("the process of the run failed ({}){because}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let sample: Sample = serde_json::from_str(last).map_err(|error| {
        format!("the process of the run said {last:?}, which is no sample ({error}){because}")
    })?;
    if sample.seconds > 0.0 {
        Ok(sample)
    } else {
        Err(format!("the process of the run said that it took {} s", sample.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::SMALL;
    use super::*;

    const ORDER: Order = Order { query: 2, runner: Runner::Continuous, workers: 2, settings: SMALL };

    fn output(code: &str) -> Output {
        Command::new("sh").arg("-c").arg(code).output().unwrap()
    }

    #[test]
    fn an_order_is_run_and_its_sample_read() {
        let mut out = b"something else that was written\n".to_vec();
        obey(&serde_json::to_string(&ORDER).unwrap(), &mut out).unwrap();
        let sample = said(&Output { stdout: out, ..output("true") }).unwrap();
        let [.., query] = [QUERIES[0], QUERIES[1], QUERIES[2]];
        assert!(sample.answer.agrees(&query.reference(&SMALL.all())));
        assert!(sample.seconds > 0.0 && sample.cpu > 0.0);
        assert!(!cfg!(target_os = "linux") || sample.peak >= sample.base && sample.base > 0);
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let mut out = Vec::new();
        assert!(obey("{}", &mut out).unwrap_err().starts_with("not an order: missing field"));
        for (query, runner) in [(10, Runner::MicroBatch), (99, Runner::Renoir), (1, Runner::PlainLoop)] {
            let order = Order { query, runner, ..ORDER };
            assert!(order.here().unwrap_err().ends_with(&format!("does not have query {query}")));
        }
        assert!(out.is_empty());
    }

    #[test]
    fn a_process_that_dies_has_no_sample() {
        let error = said(&output("echo out of luck >&2; exit 3")).unwrap_err();
        assert_eq!(error, "the process of the run failed (exit status: 3): out of luck");
        let error = said(&output("kill -9 $$")).unwrap_err();
        assert!(error.contains("signal: 9"), "{error}");
        let error = ORDER.alone(Path::new("/nowhere/at-all")).unwrap_err();
        assert!(error.starts_with("/nowhere/at-all cannot be started: "), "{error}");
    }

    #[test]
    fn a_process_that_says_something_else_has_no_sample() {
        let error = said(&output("true")).unwrap_err();
        assert!(error.starts_with("the process of the run said \"\", which is no sample (EOF"), "{error}");
        // A sample that was cut off, one whose end is missing, and one that took no time.
        let sample =
            r#"{"seconds":0.0,"cpu":1.0,"peak":3,"base":1,"answer":{"rows":1,"checksum":2,"written":1}}"#;
        let error = said(&output(&format!("echo '{}'", &sample[..40]))).unwrap_err();
        assert!(error.contains("no sample"), "{error}");
        let error = said(&output(&format!("echo '{sample}'"))).unwrap_err();
        assert!(error.ends_with("it took 0 s"), "{error}");
    }

    #[test]
    fn names_are_those_of_results() {
        for runner in [Runner::MicroBatch, Runner::Continuous] {
            assert_eq!(runner.name(), runner.mode().unwrap().to_string());
            assert_eq!(Runner::from(runner.mode().unwrap()), runner);
        }
        assert_eq!(Runner::Renoir.mode(), None);
    }
}
