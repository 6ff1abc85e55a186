//! Definitions that cannot work are refused before they run, with the line and the way out.

use std::time::Duration;

use tidemill::prelude::*;
use tidemill::{Early, WindowAssigner, cumulative};

use super::common::{MODES, options, run};
use super::input::{Row, at, micros};

fn problem(build: impl FnOnce(EventStream<Row>)) -> String {
    let graph = Graph::new("wrong");
    build(graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO).boxed());
    graph.validate().unwrap_err().to_string()
}

#[test]
fn append_refuses_windows_that_fire_again() {
    let line = line!() + 2;
    let refused = problem(|rows| {
        rows.window(tumbling(micros(10))).early(Early::every_records(3)).count().append().sink(discard().0)
    });
    assert!(refused.contains("they fire early, every 3 records: call `.firings()`"), "{refused}");
    assert!(refused.contains(&format!("tests/firings/wrong.rs:{line}")), "{refused}");
    let lateness = Duration::from_secs(90);
    let refused = problem(|rows| {
        rows.window(tumbling(micros(10))).allowed_lateness(lateness).count().append().sink(discard().0);
    });
    assert!(refused.contains("late records are allowed for 1m30s: call `.firings()`"), "{refused}");
    let refused = problem(|rows| {
        let windows = rows.processing_time_window(tumbling(micros(10))).early(Early::every(micros(1)));
        windows.count().append().sink(discard().0);
    });
    assert!(refused.contains("they fire early, every 1us: call `.firings()`"), "{refused}");
}

#[test]
fn sinks_and_windows_of_inserts_refuse_firings() {
    let directory = tempfile::tempdir().unwrap();
    let windows = |rows: EventStream<Row>| {
        rows.key_by(|row| row.key).window(session(micros(10))).allowed_lateness(micros(10)).count().firings()
    };
    let refused = problem(|rows| windows(rows).sink(json_lines_dir(directory.path())));
    assert!(refused.contains("emits upserts"), "{refused}");
    let refused =
        problem(|rows| windows(rows).window(tumbling(micros(10))).count().append().sink(discard().0));
    assert!(refused.contains("emits upserts"), "{refused}");
}

#[test]
fn settings_without_meaning_are_refused() {
    let early = |early: Early| {
        problem(|rows| rows.window(tumbling(micros(10))).early(early).count().firings().sink(discard().0))
    };
    assert!(early(Early::every_records(0)).contains("cannot fire every 0 records"));
    assert!(early(Early::every(Duration::ZERO)).contains("interval of early firing is zero"));
    let refused = problem(|rows| {
        let twice =
            rows.window(tumbling(micros(10))).early(Early::every_records(3)).early(Early::every(micros(1)));
        twice.count().firings().sink(discard().0);
    });
    assert!(refused.contains("`.early(…)` is called twice"), "{refused}");
    let refused = problem(|rows| {
        let windows = rows.window(tumbling(micros(10))).allowed_lateness(Duration::from_nanos(1_500));
        windows.count().firings().sink(discard().0);
    });
    assert!(refused.contains("allowed lateness of 1us500ns is not a whole number"), "{refused}");
    let refused = problem(|rows| {
        rows.window_by(cumulative(micros(25), micros(10))).count().append().sink(discard().0);
    });
    assert!(refused.contains("not a multiple of the step"), "{refused}");
    let refused = problem(|rows| {
        rows.window(tumbling(micros(0))).early(Early::every_records(1)).count().firings().sink(discard().0)
    });
    assert!(refused.contains("window size is zero"), "{refused}");
    let refused = problem(|rows| rows.count_window(0).count().append().sink(discard().0));
    assert!(refused.contains("must be greater than zero"), "{refused}");
}

/// Windows that end before they begin, for rows after 10.
#[derive(Clone)]
struct Backwards;

impl WindowAssigner<Row> for Backwards {
    fn assign(&self, time: EventTime, _: &Row, windows: &mut Vec<Window>) {
        let end = if time > EventTime::from_micros(10) { time } else { time + micros(5) };
        windows.push(Window { start: time, end });
    }

    fn describe(&self) -> String {
        "backwards".to_owned()
    }
}

#[test]
fn window_that_does_not_end_after_its_start_fails_the_query() {
    for mode in MODES {
        let graph = Graph::new("backwards");
        let rows = [5, 11].map(|time| Row { key: 0, time, number: 0 });
        let rows = graph.source(memory(rows)).with_watermark(at, Duration::ZERO);
        rows.window_by(Backwards).count().append().sink(discard().0);
        let line = line!() - 1;
        let error = run(&graph, options(mode, 2)).unwrap_err().to_string();
        assert!(error.contains("a window must end after its start"), "{error}");
        assert!(error.contains(&format!("tests/firings/wrong.rs:{line}")), "{error}");
    }
}
