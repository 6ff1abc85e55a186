//! Ctrl-C and SIGTERM, in a process of its own.

use std::sync::Mutex;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use tidemill_operators::{Cancellation, Epoch, EventTime, Graph, Mode, Sink, SinkContext, SinkError};
use tidemill_runtime::testing::{ScriptedSource, collecting_sink};
use tidemill_runtime::{Options, Run, RunError};

/// Held by tests that raise signals in this process: a second signal would end it.
static SIGNALS: Mutex<()> = Mutex::new(());

#[test]
fn stop_signal_commits_read_rows_and_returns_interrupted() {
    let _alone = SIGNALS.lock().unwrap();
    for (mode, signal) in [
        (Mode::MicroBatch, SIGINT),
        (Mode::Continuous, SIGINT),
        (Mode::MicroBatch, SIGTERM),
        (Mode::Continuous, SIGTERM),
    ] {
        let graph = Graph::new("interrupted");
        let (sink, rows) = collecting_sink();
        let raised = std::sync::Once::new();
        // The source never ends, so only the signal can end the query; the first row raises it.
        ScriptedSource::new()
            .row(EventTime::from_micros(1), 7)
            .stream(&graph)
            .inspect(move |_| raised.call_once(|| signal_hook::low_level::raise(signal).unwrap()))
            .sink(sink);
        let outcome = graph.run(Options::default().with_mode(mode));
        let Err(RunError::Interrupted(summary)) = outcome else {
            unreachable!("{mode:?}, {signal}: {outcome:?}");
        };
        // A service says at its end what it has done.
        assert_eq!((summary.input_rows, summary.output_rows), (1, 1), "{mode:?}, {signal}");
        assert_eq!(rows.committed(), [7], "{mode:?}, {signal}");
    }
}

/// Waits in its commit until the query is cancelled.
struct Waits(Cancellation);

impl Sink<i32> for Waits {
    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.0 = context.cancellation.clone();
        Ok(())
    }
    fn write(&mut self, _: Epoch, _: &mut Vec<i32>) -> Result<(), SinkError> {
        signal_hook::low_level::raise(SIGINT).map_err(|error| SinkError::io("cannot raise SIGINT", error))?;
        while !self.0.is_cancelled() {
            std::thread::yield_now();
        }
        Err(SinkError::Cancelled)
    }
    fn commit(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn signal_to_query_whose_sink_waits_ends_it_after_stop_timeout() {
    let _alone = SIGNALS.lock().unwrap();
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let graph = Graph::new("waits");
        ScriptedSource::new()
            .row(EventTime::from_micros(1), 7)
            .stream(&graph)
            .sink(Waits(Cancellation::new()));
        let timeout = Duration::from_millis(50);
        let outcome = graph.run(Options::default().with_mode(mode).with_stop_timeout(timeout));
        let Err(RunError::Cancelled { stop_timeout: Some(_), .. }) = outcome else {
            unreachable!("{mode:?}: {outcome:?}");
        };
    }
}

/// The process that the test below starts: it takes two signals while its only row is worked on.
#[test]
fn two_signals() {
    let Ok(signals) = std::env::var("SIGNALS") else { return };
    let signals: Vec<i32> = signals.split(' ').map(|signal| signal.parse().unwrap()).collect();
    let graph = Graph::new("impatient");
    ScriptedSource::new()
        .row(EventTime::from_micros(1), 7)
        .stream(&graph)
        .inspect(move |_| signals.iter().for_each(|signal| signal_hook::low_level::raise(*signal).unwrap()))
        .sink(collecting_sink().0);
    let outcome = graph.run(Options::default());
    unreachable!("the second signal should have ended the process, not {outcome:?}");
}

#[test]
fn a_second_signal_of_either_kind_ends_the_process() {
    for (first, second) in [(SIGINT, SIGINT), (SIGTERM, SIGTERM), (SIGTERM, SIGINT), (SIGINT, SIGTERM)] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "two_signals"]).env("SIGNALS", format!("{first} {second}"));
        let status = child.output().unwrap().status;
        assert_eq!(status.code(), Some(128 + second), "{first}, then {second}");
    }
}

/// The process that the test below starts: its query is over, and the process continues.
#[test]
fn a_signal_after_a_query() {
    let Ok(signal) = std::env::var("SIGNAL_AFTER") else { return };
    for _ in 0..2 {
        let graph = Graph::new("soon over");
        ScriptedSource::new()
            .row(EventTime::from_micros(1), 7)
            .end()
            .stream(&graph)
            .sink(collecting_sink().0);
        graph.run(Options::default()).unwrap();
    }
    signal_hook::low_level::raise(signal.parse().unwrap()).unwrap();
    unreachable!("the signal should have ended the process");
}

#[cfg(unix)]
#[test]
fn while_no_query_runs_a_signal_does_what_it_did_before() {
    use std::os::unix::process::ExitStatusExt;
    for signal in [SIGINT, SIGTERM] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_signal_after_a_query"]).env("SIGNAL_AFTER", signal.to_string());
        assert_eq!(child.output().unwrap().status.signal(), Some(signal));
    }
}
