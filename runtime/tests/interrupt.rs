//! Ctrl-C, in a process of its own.

use tidemill_operators::{EventTime, Graph, Mode};
use tidemill_runtime::testing::{ScriptedSource, collecting_sink};
use tidemill_runtime::{Options, Run, RunError};

#[test]
fn ctrl_c_commits_what_has_been_read_and_ends_the_query_with_its_own_error() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let graph = Graph::new("interrupted");
        let (sink, rows) = collecting_sink();
        let raised = std::sync::Once::new();
        // The source never ends, so only the signal can end the query; the first row raises it.
        ScriptedSource::new()
            .row(EventTime(1), 7)
            .stream(&graph)
            .inspect(move |_| {
                raised.call_once(|| signal_hook::low_level::raise(signal_hook::consts::SIGINT).unwrap());
            })
            .sink(sink);
        let outcome = graph.run(Options::default().with_mode(mode));
        assert!(matches!(outcome, Err(RunError::Interrupted)), "{mode:?}: {outcome:?}");
        assert_eq!(rows.committed(), [7], "{mode:?}");
    }
}
