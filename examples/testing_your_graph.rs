//! How to test a graph: a scripted source, a clock that the test moves, and a look between any two epochs.
//!
//! ```sh
//! cargo run --example testing_your_graph
//! ```
//!
//! The graph under test is an ordinary function from stream to stream, so a test can feed it what it likes. In a crate
//! of your own each of the checks below would be a `#[test]`.
//!
//! - [`ScriptedSource`]: rows, watermarks, silence, failure, in the order that the test says;
//! - [`collecting_sink`]: knows what has been committed from what has merely been written;
//! - [`TestDriver`]: the engine itself, on the thread of the test: nothing happens between two calls;
//! - [`SimClock`]: no test waits for a second to pass.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use tidemill::prelude::*;
use tidemill::testing::{Collected, ScriptedSource, SimClock, TestDriver, collecting_sink};

const MINUTE: Duration = Duration::from_secs(60);

/// The graph under test: visits of each page by ten minutes, and the visits that come too late.
fn count_visits(pages: EventStream<String>) -> (EventStream<WindowResult<String, u64>>, EventStream<String>) {
    pages.key_by(String::clone).window(tumbling(10 * MINUTE)).count().append_with_late()
}

type Check = fn() -> Result<(), Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let checks: [(&str, Check); 4] = [
        (
            "a window is emitted when the watermark passes its end",
            window_is_emitted_when_watermark_passes_its_end,
        ),
        ("a visit to an emitted window is late", visit_to_emitted_window_is_late),
        (
            "continuous output is seen before it is committed",
            continuous_output_is_seen_before_it_is_committed,
        ),
        ("a source that fails ends the query", a_source_that_fails_ends_the_query),
    ];
    for (what, check) in checks {
        check().map_err(|error| format!("{what}: {error}"))?;
        println!("ok: {what}");
    }
    Ok(())
}

fn window_is_emitted_when_watermark_passes_its_end() -> Result<(), Box<dyn Error>> {
    let script = visits().watermark(minute(9)).end_epoch().watermark(minute(10)).end_epoch();
    let (graph, counts, _) = graph_of(script);
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new())?;

    driver.epoch()?;
    equal(counts.committed(), vec![])?;
    driver.epoch()?;
    let window = Window { start: minute(0), end: minute(10) };
    equal(counts.committed(), vec![WindowResult { window, key: "home".to_owned(), value: 2 }])
}

fn visit_to_emitted_window_is_late() -> Result<(), Box<dyn Error>> {
    let script = visits().watermark(minute(10)).end_epoch().row(minute(3), "shop".to_owned()).end_epoch();
    let (graph, counts, late) = graph_of(script);
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new())?;

    while driver.epoch()?.is_some() {}
    equal(counts.committed().len(), 1)?;
    equal(late.committed(), vec!["shop".to_owned()])?;
    equal(driver.progress().late_rows, 1)
}

fn continuous_output_is_seen_before_it_is_committed() -> Result<(), Box<dyn Error>> {
    let (graph, counts, _) = graph_of(visits().watermark(minute(10)));
    let options = Options::default().with_mode(Mode::Continuous).with_checkpoint_interval(MINUTE);
    let mut driver = TestDriver::new(&graph, options, &SimClock::new())?;

    driver.settle()?;
    equal((counts.written().len(), counts.committed().len()), (1, 0))?;
    driver.advance(MINUTE)?;
    equal((counts.written().len(), counts.committed().len()), (1, 1))
}

fn a_source_that_fails_ends_the_query() -> Result<(), Box<dyn Error>> {
    let (graph, counts, _) = graph_of(visits().watermark(minute(10)).fail("the cable was cut"));
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new())?;

    match driver.epoch() {
        Err(RunError::Source { error, .. }) => equal(error.to_string(), "the cable was cut".to_owned())?,
        other => return Err(format!("the source should have failed, not {other:?}").into()),
    }
    equal(counts.committed(), vec![])
}

/// Two visits in the first ten minutes.
fn visits() -> ScriptedSource<String> {
    ScriptedSource::new().row(minute(1), "home".to_owned()).row(minute(8), "home".to_owned())
}

/// The graph under test between a script and two collecting sinks.
fn graph_of(
    script: ScriptedSource<String>,
) -> (Graph, Collected<WindowResult<String, u64>>, Collected<String>) {
    let graph = Graph::new("visits");
    let (counts, late) = count_visits(script.stream(&graph));
    let ((counts_sink, counted), (late_sink, late_visits)) = (collecting_sink(), collecting_sink());
    counts.sink(counts_sink);
    late.sink(late_sink);
    (graph, counted, late_visits)
}

fn minute(minute: i64) -> EventTime {
    EventTime::from_secs(60 * minute)
}

fn equal<T: PartialEq + Debug>(left: T, right: T) -> Result<(), Box<dyn Error>> {
    if left == right { Ok(()) } else { Err(format!("{left:?} is not {right:?}").into()) }
}
