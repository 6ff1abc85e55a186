//! Ctrl-C and SIGTERM, in a process of its own.

use signal_hook::consts::{SIGINT, SIGTERM};
use tidemill_operators::{EventTime, Graph, Mode};
use tidemill_runtime::testing::{ScriptedSource, collecting_sink};
use tidemill_runtime::{Options, Run, RunError};

#[test]
fn a_signal_to_stop_commits_what_has_been_read_and_ends_the_query_with_its_own_error() {
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
            .row(EventTime(1), 7)
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

/// The process that the test below starts: it takes two signals while its only row is worked on.
#[test]
fn two_signals() {
    let Ok(signals) = std::env::var("SIGNALS") else { return };
    let signals: Vec<i32> = signals.split(' ').map(|signal| signal.parse().unwrap()).collect();
    let graph = Graph::new("impatient");
    ScriptedSource::new()
        .row(EventTime(1), 7)
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

/// The process that the test below starts: its query is over, and it goes on.
#[test]
fn a_signal_after_a_query() {
    let Ok(signal) = std::env::var("SIGNAL_AFTER") else { return };
    for _ in 0..2 {
        let graph = Graph::new("soon over");
        ScriptedSource::new().row(EventTime(1), 7).end().stream(&graph).sink(collecting_sink().0);
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
