//! Counts the visits of each page in windows of ten minutes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

/// One visit of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Visit {
    page: String,
    at: EventTime,
}

/// Counts the visits of each page in windows of ten minutes.
fn per_page(visits: EventStream<Visit>) -> EventStream<WindowResult<String, u64>> {
    visits.key_by(|visit| visit.page.clone()).window(tumbling(Duration::from_secs(600))).count().append()
}

/// Counts visits of pages in windows of ten minutes.
#[derive(Parser)]
struct Args {
    /// Files of JSON lines; without this option the program counts a few visits of its own.
    #[arg(long, value_name = "PATTERN")]
    input: Option<String>,

    /// The maximum time in seconds by which a visit may come late.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    delay: u64,

    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Warnings of the engine, and your own events.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run(args) {
        Ok(summary) => {
            eprintln!("{summary}");
            ExitCode::SUCCESS
        }
        // A service that is stopped by a signal has succeeded: all input that was read is committed.
        Err(RunError::Interrupted(summary)) => {
            eprintln!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("visits: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<tidemill::Summary, RunError> {
    let delay = Duration::from_secs(args.delay);
    let graph = Graph::new("visits");
    let visits = match args.input {
        Some(pattern) => graph
            .source(json_lines::<Visit>(pattern).bounded())
            .with_watermark(|visit| visit.at, delay)
            .boxed(),
        None => graph.source(memory(some_visits())).with_watermark(|visit| visit.at, delay).boxed(),
    };
    per_page(visits).sink(console());
    graph.run(args.options)
}

/// Visits from 12:00 on, one a minute.
fn some_visits() -> Vec<Visit> {
    let noon = 1_772_366_400;
    let pages = ["/home", "/shop", "/home"];
    let visit = |minute: i64| Visit {
        page: pages[minute as usize % pages.len()].to_owned(),
        at: EventTime::from_secs(noon + 60 * minute),
    };
    (0..30).map(visit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill::testing::{ScriptedSource, SimClock, TestDriver, collecting_sink};

    #[test]
    fn window_is_emitted_when_watermark_reaches_its_end() -> Result<(), Box<dyn std::error::Error>> {
        let visit = |minute: i64| Visit { page: "/home".to_owned(), at: EventTime::from_secs(60 * minute) };
        let script = ScriptedSource::new()
            .row(visit(1).at, visit(1))
            .row(visit(8).at, visit(8))
            .watermark(EventTime::from_secs(9 * 60))
            .end_epoch()
            .watermark(EventTime::from_secs(10 * 60))
            .end_epoch();
        let graph = Graph::new("visits");
        let (sink, counts) = collecting_sink();
        per_page(script.stream(&graph)).map(|row| (row.key, row.value)).sink(sink);

        let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new())?;
        driver.epoch()?;
        assert_eq!(counts.committed(), []);
        driver.epoch()?;
        assert_eq!(counts.committed(), [("/home".to_owned(), 2)]);
        Ok(())
    }

    #[test]
    fn both_modes_emit_same_rows() -> Result<(), RunError> {
        let rows = |options: Options| {
            let graph = Graph::new("visits");
            let (sink, table) = memory_sink();
            let visits = graph.source(memory(some_visits())).with_watermark(|visit| visit.at, Duration::ZERO);
            per_page(visits.boxed()).map(|row| (row.window.start, row.key, row.value)).sink(sink);
            graph.run(options)?;
            let mut rows = table.snapshot();
            rows.sort();
            Ok::<_, RunError>(rows)
        };
        let expected = rows(Options::default())?;
        assert_eq!(expected.len(), 6); // three windows of two pages
        assert_eq!(rows(Options::default().with_mode(Mode::Continuous))?, expected);
        assert_eq!(rows(Options::default().with_mode(Mode::Continuous).with_workers(2))?, expected);
        Ok(())
    }
}
