//! Mistakes that show when a graph is run, or is not.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use tidemill::Restart;
use tidemill::connectors::json_lines_dir;
use tidemill::prelude::*;

fn options() -> Options {
    Options::default().without_ctrl_c()
}

/// Runs a graph, which must refuse, and returns what it says.
fn refused(graph: &Graph, options: Options) -> String {
    graph.run(options).unwrap_err().to_string()
}

/// Returns what is written as a warning, on any thread, while `run` runs. Other tests warn too, so the caller looks for its own.
fn warnings(run: impl FnOnce()) -> String {
    static WRITTEN: Mutex<String> = Mutex::new(String::new());
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener(&WRITTEN)).unwrap());
    run();
    WRITTEN.lock().unwrap().clone()
}

struct Listener(&'static Mutex<String>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            write!(text, "{field}: {value:?} ").unwrap();
        });
        text.push('\n');
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn graph_dropped_unrun_warns_with_the_line_of_its_sink() {
    let line = line!() + 3;
    let written = warnings(|| {
        let graph = Graph::new("never run");
        graph.source(memory([1u64])).sink(discard().0);
    });
    let own: Vec<_> = written.lines().filter(|warning| warning.contains("never run")).collect();
    assert!(own.len() == 1 && own[0].contains("call `graph.run(options)?`"), "{written}");
    assert!(own[0].contains(&format!("run.rs:{line}")), "{written}");
    let written = warnings(|| {
        let graph = Graph::new("looked at");
        graph.source(memory([1u64])).sink(discard().0);
        graph.validate().unwrap();
    });
    assert!(!written.contains("looked at"), "{written}");
}

/// Runs windows over two rows at the times that `time` makes of a number.
fn windows(name: &str, numbers: [i64; 2], time: fn(i64) -> EventTime) -> String {
    warnings(|| {
        let graph = Graph::new(name);
        graph
            .source(memory(numbers))
            .with_watermark(move |n| time(*n), Duration::from_secs(3_600))
            .window(tumbling(Duration::from_secs(60)))
            .count()
            .append()
            .sink(discard().0);
        graph.run(options()).unwrap();
    })
}

#[test]
fn milliseconds_read_as_another_unit_warn_once() {
    let millis = [1_772_366_400_000, 1_772_366_500_000];
    for mode in [EventTime::from_micros, EventTime::from_millis, EventTime::from_secs].into_iter().enumerate()
    {
        let (unit, time) = mode;
        let name = format!("unit {unit}");
        let written = windows(&name, millis, time);
        let own: Vec<_> = written.lines().filter(|warning| warning.contains(&name)).collect();
        let expected = ["EventTime::from_secs` or `from_millis", "", "behind the year 9999"][unit];
        assert_eq!(own.len(), usize::from(!expected.is_empty()), "{written}");
        assert!(own.iter().all(|warning| warning.contains(expected)), "{written}");
    }
    let written = windows("small numbers", [5, 12], EventTime::from_secs);
    assert!(!written.contains("small numbers"), "{written}");
}

#[test]
fn pattern_without_files_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let pattern = place.path().join("*.txt").display().to_string();
    let graph = Graph::new("empty");
    graph.source(text_files(pattern.clone()).bounded()).sink(discard().0);
    let error = refused(&graph, options());
    assert!(error.contains("no file matches") && error.contains(".allow_empty()"), "{error}");
    let graph = Graph::new("allowed");
    graph.source(text_files(pattern).bounded().allow_empty()).sink(discard().0);
    assert_eq!(graph.run(options()).unwrap().input_rows, 0);
}

#[test]
fn graph_without_sink_is_refused() {
    let graph = Graph::new("no sink");
    let _ = graph.source(memory([1u64])).map(|n| n + 1);
    let error = refused(&graph, options());
    assert!(error.contains("call `.sink(…)`"), "{error}");
}

#[test]
fn aggregate_over_changing_counts_is_refused() {
    let graph = Graph::new("sum of counts");
    let counts = graph.source(memory([1u64, 2])).key_by(|n| n % 2).count().update();
    counts.sum(|(_, count)| *count).update().sink(discard().0);
    let error = refused(&graph, options());
    assert!(error.contains("emits upserts") && error.contains("as_inserts"), "{error}");
}

#[test]
fn changing_counts_into_files_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let graph = Graph::new("counts in files");
    let counts = graph.source(memory([1u64, 2])).key_by(|n| n % 2).count().update();
    counts.sink(json_lines_dir(place.path().join("counts")));
    let error = refused(&graph, options());
    assert!(error.contains("upserts") && error.contains("as_inserts"), "{error}");
}

#[test]
fn bad_record_names_file_line_and_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("numbers.jsonl"), "1\ntwo\n").unwrap();
    let graph = Graph::new("numbers");
    graph
        .source(json_lines::<u64>(place.path().join("numbers.jsonl").display().to_string()).bounded())
        .sink(discard().0);
    let error = refused(&graph, options());
    assert!(error.contains("numbers.jsonl, line 2") && error.contains("on_bad_record"), "{error}");
}

#[test]
fn two_sinks_into_one_file_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("rows.jsonl");
    let graph = Graph::new("one file");
    for n in [1u64, 2] {
        graph.source(memory([n])).sink(json_lines_sink(&file));
    }
    let error = refused(&graph, options());
    assert!(error.contains("is written to by") && error.contains("give each its own"), "{error}");
}

#[test]
fn streams_of_two_graphs_are_refused() {
    let (one, other) = (Graph::new("one"), Graph::new("other"));
    one.source(memory([1u64])).union(other.source(memory([2u64]))).sink(discard().0);
    let error = refused(&one, options());
    assert!(error.contains("build both on one `Graph`"), "{error}");
}

#[test]
fn interval_in_continuous_mode_is_refused() {
    let graph = Graph::new("interval");
    graph.source(memory([1u64])).sink(discard().0);
    let every = Trigger::Every(Duration::from_secs(1));
    let error = refused(&graph, options().with_mode(Mode::Continuous).with_trigger(every));
    assert!(error.contains("--trigger") && error.contains("--checkpoint-interval"), "{error}");
}

#[test]
fn restart_without_checkpoint_is_refused() {
    let graph = Graph::new("restart");
    graph.source(memory([1u64])).sink(discard().0);
    let error = refused(&graph, options().with_restart(Restart::Times { times: 1, backoff: Duration::ZERO }));
    assert!(error.contains("--restart") && error.contains("--checkpoint"), "{error}");
}

#[test]
fn channel_with_checkpoint_is_refused_unless_journaled() {
    let place = tempfile::tempdir().unwrap();
    let (_sender, rows) = channel::<u64>(1);
    let graph = Graph::new("channel");
    graph.source(rows).sink(discard().0);
    let error = refused(&graph, options().with_checkpoint(place.path()));
    assert!(error.contains(".journaled()"), "{error}");
}

#[test]
fn operators_that_share_a_uid_are_refused() {
    let graph = Graph::new("uids");
    for _ in 0..2 {
        graph.source(memory([1u64])).uid("numbers").sink(discard().0);
    }
    let error = refused(&graph, options());
    assert!(error.contains("the uid `numbers` is taken") && error.contains("each needs its own"), "{error}");
}
