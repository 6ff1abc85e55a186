//! Epochs and watermarks, step by step in simulated time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::{EventTime, Graph, Mode, WindowResult, session, tumbling};
use tidemill_runtime::testing::{Collected, ScriptedSource, SimClock, TestDriver, collecting_sink};
use tidemill_runtime::{Options, RunError};

fn at(secs: i64) -> EventTime {
    EventTime::from_secs(secs)
}

type Count = WindowResult<(), u64>;

/// Counts by ten seconds, with the late rows beside.
fn counts(script: ScriptedSource<i64>) -> (Graph, Collected<Count>, Collected<i64>) {
    let graph = Graph::new("counts");
    let (results, late) =
        script.stream(&graph).window(tumbling(Duration::from_secs(10))).count().append_with_late();
    let ((sink, counted), (late_sink, late_rows)) = (collecting_sink(), collecting_sink());
    results.sink(sink);
    late.sink(late_sink);
    (graph, counted, late_rows)
}

/// Forty epochs in which the watermark jumps ahead and some rows are late, differently in each epoch.
fn script() -> ScriptedSource<i64> {
    (0..40i64).fold(ScriptedSource::new(), |script, epoch| {
        let script = (0..5).fold(script, |script, n| {
            let secs = epoch * 4 + n * 7 - if n == 3 { 31 } else { 0 };
            script.row(at(secs), epoch * 10 + n)
        });
        script.watermark(at(epoch * 4 - 3)).end_epoch()
    })
}

#[test]
fn a_source_that_is_twenty_epochs_ahead_changes_nothing() {
    let (graph, counted, late) = counts(script());
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    while driver.epoch().unwrap().is_some() {}

    let (ahead_graph, ahead_counted, ahead_late) = counts(script());
    let mut ahead = TestDriver::new(&ahead_graph, Options::default(), &SimClock::new()).unwrap();
    ahead.epochs_ahead(20).unwrap();
    ahead.run_to_end().unwrap();

    assert_eq!(driver.committed().map(|e| e.number()), Some(39));
    assert_eq!(counted.committed_epochs(), ahead_counted.committed_epochs());
    assert!(!counted.committed().is_empty() && !late.committed().is_empty());
    for epoch in counted.committed_epochs() {
        assert_eq!(counted.of_epoch(epoch), ahead_counted.of_epoch(epoch), "windows of {epoch:?}");
        assert_eq!(late.of_epoch(epoch), ahead_late.of_epoch(epoch), "late rows of {epoch:?}");
    }
}

#[test]
fn a_window_closes_in_the_epoch_whose_data_closes_it() {
    let (graph, counted, late) =
        counts(ScriptedSource::new().row(at(1), 1).watermark(at(10)).end_epoch().row(at(5), 2).end_epoch());
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    driver.epoch().unwrap();
    assert_eq!(counted.committed().len(), 1);
    driver.epoch().unwrap();
    assert_eq!(late.committed(), [2], "the window is closed for the next epoch");
    assert_eq!(driver.progress().late_rows, 1);
}

#[test]
fn inside_an_epoch_the_watermark_is_the_one_with_which_it_began() {
    let (graph, counted, late) = counts(ScriptedSource::new().watermark(at(10)).row(at(5), 1).end_epoch());
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    driver.epoch().unwrap();
    assert_eq!((counted.committed().len(), late.committed().len()), (1, 0));
}

#[test]
fn continuous_window_closes_when_watermark_passes() {
    let (graph, counted, _) =
        counts(ScriptedSource::new().row(at(1), 1).row(at(2), 2).end_epoch().watermark(at(10)).end_epoch());
    let options = Options::default().with_mode(Mode::Continuous);
    let mut driver = TestDriver::new(&graph, options, &SimClock::new()).unwrap();
    driver.settle().unwrap();
    assert_eq!(counted.written().len(), 1, "before any epoch has been committed");
    assert_eq!(driver.committed(), None);
    driver.epoch().unwrap();
    assert_eq!(driver.committed().map(|e| e.number()), Some(0));
}

#[test]
fn silent_partition_holds_watermark_in_micro_batch() {
    let script = ScriptedSource::new()
        .row(at(1), 1)
        .watermark(at(10))
        .end_epoch()
        .row(at(11), 2)
        .watermark(at(20))
        .end_epoch()
        .next_partition()
        .row(at(2), 3)
        .watermark(at(3))
        .end_epoch()
        .end_epoch();
    let (graph, counted, _) = counts(script);
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    driver.epoch().unwrap();
    assert_eq!(driver.progress().watermark, Some(at(3)), "the slower partition decides");
    assert_eq!(counted.committed(), []);
    driver.epoch().unwrap();
    assert_eq!(driver.progress().watermark, Some(at(3)), "it may have more of that time");
    assert_eq!(counted.committed(), []);
}

#[test]
fn when_all_partitions_have_ended_every_window_closes() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let script =
            ScriptedSource::new().row(at(1), 1).end().next_partition().row(at(55), 2).end_epoch().end();
        let (graph, counted, _) = counts(script);
        let options = Options::default().with_mode(mode);
        let mut driver = TestDriver::new(&graph, options, &SimClock::new()).unwrap();
        driver.run_to_end().unwrap();
        assert!(driver.is_over(), "{mode:?}");
        assert_eq!(counted.committed().len(), 2, "{mode:?}");
    }
}

#[test]
fn a_source_that_fails_ends_the_query_with_its_line() {
    let (graph, counted, _) =
        counts(ScriptedSource::new().row(at(1), 1).end_epoch().fail("the sea is rough"));
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    driver.epoch().unwrap();
    let error = driver.epoch().unwrap_err();
    assert!(matches!(error, RunError::Source { .. }));
    let text = error.to_string();
    assert!(text.contains("epochs.rs:") && text.contains("the sea is rough"), "{text}");
    drop(driver);
    assert!(counted.was_aborted());
}

#[test]
fn continuous_silent_partition_holds_watermark_until_idle() {
    let graph = Graph::new("idle");
    let (sink, rows) = collecting_sink();
    // Two partitions, of which the second never shows anything and never ends.
    let pause = Duration::from_secs(20);
    let script = ScriptedSource::new()
        .row(at(5), 1i64)
        .pause(pause)
        .row(at(15), 2)
        .pause(pause)
        .row(at(25), 3)
        .pause(pause);
    graph
        .source(script.next_partition())
        .filter_map(|item| item.ok())
        .with_watermark(|(time, _)| *time, Duration::ZERO)
        .idle_after(Duration::from_secs(30))
        .window(tumbling(Duration::from_secs(10)))
        .count()
        .append()
        .sink(sink);
    let clock = SimClock::new();
    let mut driver = TestDriver::new(&graph, Options::default().with_mode(Mode::Continuous), &clock).unwrap();
    driver.settle().unwrap();
    driver.advance(Duration::from_secs(21)).unwrap();
    assert_eq!(rows.written().len(), 0, "the second row has come, but the silent partition may be older");
    driver.advance(Duration::from_secs(21)).unwrap();
    assert_eq!(rows.written().len(), 2, "after 42 seconds it counts as idle");
}

#[test]
fn continuous_clock_jump_fires_each_timer_at_its_time() {
    let graph = Graph::new("timers");
    let clock = SimClock::new();
    let said = Arc::new(Mutex::new(Vec::new()));
    let (for_first, for_second) = ((Arc::clone(&said), clock.clone()), (Arc::clone(&said), clock.clone()));
    let note = |(said, clock): &(Arc<Mutex<Vec<_>>>, SimClock), which, count| {
        said.lock().unwrap().push((which, clock.now().as_micros() / 1000, count));
    };
    let (sink, _) = collecting_sink();
    ScriptedSource::new()
        .row(at(1), 7i64)
        .row(at(2), 7)
        .stream(&graph)
        .key_by(|n| *n)
        .count()
        .update_every(Duration::from_millis(200))
        .inspect(move |(_, count)| note(&for_first, "first", *count))
        .as_inserts()
        .key_by(|_| ())
        .count()
        .update_every(Duration::from_millis(300))
        .inspect(move |(_, count)| note(&for_second, "second", *count))
        .sink(sink);
    let options =
        Options::default().with_mode(Mode::Continuous).with_checkpoint_interval(Duration::from_secs(60));
    let mut driver = TestDriver::new(&graph, options, &clock).unwrap();
    driver.settle().unwrap();
    driver.advance(Duration::from_millis(199)).unwrap();
    assert_eq!(*said.lock().unwrap(), []);
    driver.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(*said.lock().unwrap(), [("first", 200, 2)]);
    driver.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(*said.lock().unwrap(), [("first", 200, 2), ("second", 500, 1)]);
    assert_eq!(clock.now().as_micros(), 1_200_000);
}

#[test]
fn one_jump_over_all_timers_is_as_good_as_many_steps() {
    let graph = Graph::new("timers");
    let (sink, rows) = collecting_sink();
    ScriptedSource::new()
        .row(at(1), 7i64)
        .stream(&graph)
        .key_by(|n| *n)
        .count()
        .update_every(Duration::from_millis(200))
        .as_inserts()
        .key_by(|_| ())
        .count()
        .update_every(Duration::from_millis(200))
        .sink(sink);
    let options =
        Options::default().with_mode(Mode::Continuous).with_checkpoint_interval(Duration::from_secs(60));
    let mut driver = TestDriver::new(&graph, options, &SimClock::new()).unwrap();
    driver.settle().unwrap();
    driver.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(rows.written(), [((), 1)]);
}

#[test]
fn record_after_emitted_session_starts_a_new_one() {
    let graph = Graph::new("sessions");
    let (sink, sessions) = collecting_sink();
    ScriptedSource::new()
        .row(at(0), 1)
        .row(at(10), 2)
        // Beyond the end of the session: at its end a record would still extend it.
        .watermark(at(20) + Duration::from_micros(1))
        .end_epoch()
        .row(at(15), 3)
        .watermark(at(40))
        .end_epoch()
        .stream(&graph)
        .window(session(Duration::from_secs(10)))
        .count()
        .append()
        .map(|it| (it.window.start, it.window.end, it.value))
        .sink(sink);
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    driver.run_to_end().unwrap();
    // Exactly the gap apart is one session; and the two overlap.
    assert_eq!(sessions.committed(), [(at(0), at(20), 2), (at(15), at(25), 1)]);
    assert_eq!(driver.progress().late_rows, 0);
}
