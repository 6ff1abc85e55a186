//! A run as a result: the line that is kept of it, and what is shown on the terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tidemill::{Mode, Options, Trigger};

use super::answer::Answer;
use super::burst::Recovery;
use super::run::{Job, Measured, Shape};
use super::schedule::Load;
use super::slots::{Percentiles, SLOT};
use super::witness::Disturbance;
use crate::measure::median;

/// One run, as it is written to a file of results. Times are in microseconds unless they say otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    /// What was run: `tidemill`, `timely` or `renoir`.
    pub engine: String,
    /// The graph.
    pub graph: Shape,
    /// `continuous`, `micro-batch asap`, `micro-batch 100ms`; empty for a program written by hand.
    pub mode: String,
    /// Whether epochs were committed to a disk.
    pub durable: bool,
    /// Worker threads.
    pub workers: usize,
    /// Events a second that were offered; 0 if as many as were taken.
    pub rate: u64,
    /// How many events in all.
    pub events: u64,
    /// Different keys.
    pub keys: u64,
    /// The size of the windows, if there are any.
    pub window: Option<u64>,
    /// What an idle worker did.
    pub idle: String,
    /// How much of the beginning is not in the figures.
    pub warmup: u64,
    /// From due to shown.
    pub record: Percentiles,
    /// The same by worker.
    pub by_worker: Vec<Percentiles>,
    /// From due to emitted by the generator: an upper bound, taken once a batch.
    pub generator: Percentiles,
    /// What else took the machine's cores.
    pub disturbance: Disturbance,
    /// How long a burst took, if there was one.
    pub recovery: Option<Recovery>,
    /// From due to committed.
    pub commit: Option<Percentiles>,
    /// From the earliest moment at which a window could close to its first row.
    pub window_first: Option<Percentiles>,
    /// The same to its last row.
    pub window_last: Option<Percentiles>,
    /// Epochs that were committed.
    pub epochs: u64,
    /// Events a second, from the first one due to the end.
    pub throughput: f64,
    /// How many events waited at most.
    pub most_waiting: u64,
    /// CPU seconds for a million events.
    pub cpu_per_million: f64,
    /// The largest resident set in bytes.
    pub peak_rss: u64,
    /// What came out.
    pub answer: Answer,
    /// Whether that is right; if not, the figures are void.
    pub right: bool,
    /// By 250 ms: p50, p99, p99.9 and the greatest.
    pub timeline: Vec<[f64; 4]>,
}

/// What a run is called by.
#[derive(Clone, Debug)]
pub struct Name<'a> {
    /// The engine.
    pub engine: &'a str,
    /// How it was run.
    pub options: &'a Options,
}

impl RunResult {
    /// Of a run.
    #[must_use]
    pub fn of(name: &Name<'_>, job: Job, load: &Load, warmup: Duration, measured: &Measured) -> RunResult {
        let options = name.options;
        let by_hand = name.engine != "tidemill";
        let commit = Percentiles::of(&measured.commit.total(warmup));
        let windows = |time: fn(&super::windows::Window) -> u64| {
            let mut all = super::slots::histogram();
            for window in measured.windows.iter().filter(|w| w.ideal >= warmup.as_nanos() as u64) {
                all.saturating_record(time(window).saturating_sub(window.ideal).max(1));
            }
            (!all.is_empty()).then(|| Percentiles::of(&all))
        };
        RunResult {
            engine: name.engine.to_owned(),
            graph: job.shape,
            mode: if by_hand { String::new() } else { mode_of(options) },
            durable: options.checkpoint.is_some(),
            workers: options.workers,
            rate: if load.closed { 0 } else { load.rate },
            events: load.events,
            keys: load.keys,
            window: matches!(job.shape, Shape::WindowedCount | Shape::WindowedCountOnce)
                .then_some(job.window),
            idle: options.idle.to_string(),
            warmup: warmup.as_micros() as u64,
            record: Percentiles::of(&measured.record.total(warmup)),
            by_worker: measured.by_worker.iter().map(|own| Percentiles::of(&own.total(warmup))).collect(),
            generator: Percentiles::of(&measured.generator.total(warmup)),
            disturbance: measured.disturbance,
            recovery: measured.recovery,
            commit: (commit.count > 0).then_some(commit),
            window_first: windows(|window| window.first),
            window_last: windows(|window| window.last),
            epochs: measured.epochs.len() as u64,
            throughput: measured.throughput(load),
            most_waiting: measured.backlog.iter().map(|look| look.events).max().unwrap_or(0),
            cpu_per_million: measured.cpu_per_million(),
            peak_rss: measured.peak_rss,
            answer: measured.answer,
            right: measured.is_right(),
            timeline: timeline(measured),
        }
    }
}

fn timeline(measured: &Measured) -> Vec<[f64; 4]> {
    let figures = measured.record.iter().map(|(_, slot)| Percentiles::of(slot));
    figures.map(|p| [p.p50, p.p99, p.p999, p.max]).collect()
}

/// A mode in words: `continuous`, `micro-batch asap`, `micro-batch 100ms`.
#[must_use]
pub fn mode_of(options: &Options) -> String {
    match (options.mode, options.trigger) {
        (Mode::Continuous, _) => "continuous".to_owned(),
        (Mode::MicroBatch, Trigger::Every(time)) => format!("micro-batch {time:?}"),
        (Mode::MicroBatch, trigger) => format!("micro-batch {trigger}"),
    }
}

/// A time in microseconds, as short as it can be read.
#[must_use]
pub fn time(micros: f64) -> String {
    match micros {
        t if t < 10.0 => format!("{t:.1}us"),
        t if t < 1_000.0 => format!("{t:.0}us"),
        t if t < 10_000.0 => format!("{:.2}ms", t / 1e3),
        t if t < 1_000_000.0 => format!("{:.0}ms", t / 1e3),
        t => format!("{:.2}s", t / 1e6),
    }
}

/// A time in microseconds on an axis: powers of ten have no digits to spare.
#[must_use]
pub fn tick(micros: f64) -> String {
    match micros {
        t if t < 1e3 => format!("{t:.0} us"),
        t if t < 1e6 => format!("{:.0} ms", t / 1e3),
        t => format!("{:.0} s", t / 1e6),
    }
}

/// A number of events a second, as short as it can be read.
#[must_use]
pub fn rate(events: f64) -> String {
    let short = |number: f64, unit: &str| {
        let text = if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") };
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        format!("{text}{unit}")
    };
    match events {
        e if e < 1e3 => short(e, ""),
        e if e < 1e6 => short(e / 1e3, "k"),
        e => short(e / 1e6, "M"),
    }
}

/// Runs as an aligned table.
#[must_use]
pub fn table(rows: &[RunResult]) -> String {
    let name = |row: &RunResult| {
        let engine = match row.engine.as_str() {
            "timely" => "timely by hand".to_owned(),
            "renoir" => "Renoir".to_owned(),
            _ => row.mode.clone(),
        };
        if row.durable { format!("{engine}, durable") } else { engine }
    };
    let wide = rows.iter().map(|row| name(row).len()).chain([4]).max().unwrap_or(4);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:wide$} {:>2} {:>8} {:7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>7} {:>8} {:>7}",
        "mode",
        "w",
        "rate/s",
        "latency",
        "p50",
        "p99",
        "p99.9",
        "max",
        "gen p99",
        "waiting",
        "epochs",
        "CPU s/M",
        "RSS MiB"
    );
    for row in rows {
        let offered = if row.rate == 0 { row.throughput } else { row.rate as f64 };
        let kinds = [
            ("record", Some(row.record).filter(|record| record.count > 0)),
            // In micro-batch what is committed is what is shown.
            ("commit", row.commit.filter(|commit| *commit != row.record)),
            ("first", row.window_first),
            ("last", row.window_last),
        ];
        let nothing = kinds.iter().all(|(_, figures)| figures.is_none());
        let kinds = kinds.into_iter().filter_map(|(kind, figures)| Some((kind, figures?)));
        for (at, (kind, p)) in kinds.chain(nothing.then(|| ("-", Percentiles::default()))).enumerate() {
            let figures =
                [p.p50, p.p99, p.p999, p.max].map(|t| if nothing { "-".to_owned() } else { time(t) });
            let [p50, p99, p999, max] = figures;
            let first = at == 0;
            let _ = write!(
                text,
                "{:wide$} {:>2} {:>8} {kind:7} {p50:>8} {p99:>8} {p999:>8} {max:>8}",
                if first { name(row) } else { String::new() },
                if first { row.workers.to_string() } else { String::new() },
                if first { rate(offered) } else { String::new() },
            );
            if first {
                let verdict = if row.right { "" } else { "  VOID: wrong answer" };
                let rss = row.peak_rss as f64 / f64::from(1 << 20);
                let _ = write!(
                    text,
                    " {:>8} {:>9} {:>7} {:>8.2} {rss:>7.0}{verdict}",
                    if row.rate == 0 { "-".to_owned() } else { time(row.generator.p99) },
                    row.most_waiting,
                    row.epochs,
                    row.cpu_per_million,
                );
            }
            text.push('\n');
        }
    }
    text
}

/// A bar for the progress of a run, or of several; none where the output is no terminal.
#[must_use]
pub fn bar(what: &str) -> ProgressBar {
    let seen = std::io::stderr().is_terminal();
    let target = if seen { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{msg:45} [{bar:30}] {percent:>3} % {elapsed}");
    let bar = ProgressBar::with_draw_target(Some(1), target).with_message(what.to_owned());
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// What commits do to the 99.9th percentile: the median over the slots in which an epoch was being committed, and over
/// the others, in microseconds. An epoch is being committed from when all of it had come to the sink until it is
/// durable; `lead` before that belongs to it as well, for the state is written before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Step {
    /// Slots with a commit in them.
    pub with: f64,
    /// The others.
    pub without: f64,
    /// The worst slot with a commit in it.
    pub worst_with: f64,
    /// The worst of the others.
    pub worst_without: f64,
}

impl Step {
    /// How much worse slots with a commit are than others.
    #[must_use]
    pub fn height(&self) -> f64 {
        self.with - self.without
    }

    /// Of a run. `None` if all slots have a commit in them, or none has.
    #[must_use]
    pub fn of(measured: &Measured, warmup: Duration, lead: Duration) -> Option<Step> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (at, slot) in measured.record.iter().filter(|(at, slot)| *at >= warmup && !slot.is_empty()) {
            let (from, to) = (at.as_nanos() as u64, (at + SLOT).as_nanos() as u64);
            let lead = lead.as_nanos() as u64;
            let mut epochs = measured.epochs.iter();
            let in_it = epochs.any(|e| e.prepared.saturating_sub(lead) < to && e.committed >= from);
            let p999 = Percentiles::of(slot).p999;
            if in_it { with.push(p999) } else { without.push(p999) }
        }
        let worst = |slots: &[f64]| slots.iter().copied().fold(0.0, f64::max);
        (!with.is_empty() && !without.is_empty()).then(|| Step {
            with: median(&with),
            without: median(&without),
            worst_with: worst(&with),
            worst_without: worst(&without),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::epochs::Mark;
    use crate::harness::run::on_tidemill;

    const JOB: Job = Job { shape: Shape::KeyedCount, window: 0, sink_takes: Duration::ZERO };

    fn measured(options: &Options, load: &Load) -> Measured {
        on_tidemill(JOB, load, options, &mut |_, _| ())
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [3.12, 42.0, 1_500.0, 123_456.0, 2e6].map(time),
            ["3.1us", "42us", "1.50ms", "123ms", "2.00s"]
        );
        assert_eq!([100.0, 1e3, 12_500.0, 1e5, 4.25e6].map(rate), ["100", "1k", "12k", "100k", "4.25M"]);
    }

    #[test]
    fn a_result_is_voided_by_a_wrong_answer() {
        let (options, load) = (Options::default(), Load::open(1_000, 0.3));
        let mut measured = measured(&options, &load);
        let name = Name { engine: "tidemill", options: &options };
        let row = RunResult::of(&name, JOB, &load, Duration::ZERO, &measured);
        assert!(row.right && row.record.count == 300 && row.timeline.len() == 2);
        assert!(!table(&[row]).contains("VOID"));
        measured.answer.events -= 1;
        let row = RunResult::of(&name, JOB, &load, Duration::ZERO, &measured);
        assert!(table(&[row]).contains("VOID"));
    }

    #[test]
    fn step_is_difference_of_slots_with_and_without_commit() {
        let (options, load) = (Options::default(), Load::open(1_000, 1.0));
        let mut measured = measured(&options, &load);
        let milli = 1_000_000;
        measured.record = crate::harness::slots::Slots::over(1_000 * milli);
        for (slot, latency) in [1, 9, 1, 2].into_iter().enumerate() {
            measured.record.record(slot as u64 * 250 * milli, latency * milli, 1);
        }
        let mark = Mark { epoch: 0, prepared: 300 * milli, committed: 310 * milli };
        measured.epochs = vec![mark];
        let step = Step::of(&measured, Duration::ZERO, Duration::ZERO).unwrap();
        assert!((step.with - 9_000.0).abs() < 10.0 && (step.without - 1_000.0).abs() < 2.0, "{step:?}");
        assert!((step.height() - 8_000.0).abs() < 12.0 && (step.worst_without - 2_000.0).abs() < 4.0);
        // With a lead the slot before belongs to the commit.
        let step = Step::of(&measured, Duration::ZERO, Duration::from_millis(60)).unwrap();
        assert!((step.with - 5_000.0).abs() < 10.0, "{step:?}");
        measured.epochs.clear();
        assert_eq!(Step::of(&measured, Duration::ZERO, Duration::ZERO), None);
    }
}
