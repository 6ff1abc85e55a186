//! What runs cost: time, CPU time, memory.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{Answer, Outcome};
use crate::measure::{cpu_time, median, peak_rss, reset_peak_rss};

/// The runs of one program.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
    peak: u64,
    wrong: bool,
}

/// Runs a program and says what it cost beside what came out.
pub fn measured(run: impl FnOnce() -> Outcome) -> (Outcome, Duration, u64) {
    reset_peak_rss();
    let before = cpu_time().unwrap_or_default();
    let outcome = run();
    let cpu = cpu_time().unwrap_or_default().saturating_sub(before);
    (outcome, cpu, peak_rss().unwrap_or(0))
}

/// A bar on the standard error for this many runs; nothing is drawn where that is no terminal.
#[must_use]
pub fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs as u64), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Runs in figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Seconds, the middle run.
    pub seconds: f64,
    /// Seconds, the fastest run.
    pub min_seconds: f64,
    /// Seconds, the slowest run.
    pub max_seconds: f64,
    /// Millions of input records a second, of the middle run.
    pub mega_per_second: f64,
    /// Nanoseconds an input record, of the middle run.
    pub ns_per_record: f64,
    /// CPU seconds, user and system, for a million input records.
    pub cpu_seconds_per_million: f64,
    /// The largest resident set in MiB.
    pub peak_rss_mib: f64,
}

impl Cost {
    /// Takes a run into account.
    pub fn add(&mut self, (outcome, cpu, peak): (Outcome, Duration, u64), expected: Answer) {
        self.seconds.push(outcome.elapsed.as_secs_f64());
        self.cpu_seconds.push(cpu.as_secs_f64());
        self.peak = self.peak.max(peak);
        self.check(outcome, expected);
    }

    /// Takes only a run's answer into account.
    pub fn check(&mut self, outcome: Outcome, expected: Answer) {
        self.wrong |= outcome.answer != expected;
    }

    /// Whether every answer was right.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        !self.wrong
    }

    /// The runs' times in their order.
    #[must_use]
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// In figures, for this many input records a run.
    #[must_use]
    pub fn figures(&self, records: u64) -> Figures {
        let (seconds, records) = (median(&self.seconds), records.max(1) as f64);
        Figures {
            seconds,
            min_seconds: self.seconds.iter().copied().reduce(f64::min).unwrap_or(0.0),
            max_seconds: self.seconds.iter().copied().reduce(f64::max).unwrap_or(0.0),
            mega_per_second: records / seconds.max(1e-9) / 1e6,
            ns_per_record: seconds * 1e9 / records,
            cpu_seconds_per_million: median(&self.cpu_seconds) / records * 1e6,
            peak_rss_mib: self.peak as f64 / f64::from(1 << 20),
        }
    }
}
