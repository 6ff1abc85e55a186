//! Late records: which records are late, and a sink for them.
//!
//! ```sh
//! cargo run --example late_data
//! ```
//!
//! Visits are counted in windows of ten minutes, with a watermark that follows ten minutes behind the latest visit:
//!
//! - the visit of 12:04 that comes after one of 12:11 is out of order but still counts: the watermark stands at 12:01,
//!   so 12:00–12:10 is open;
//! - after a visit of 12:21 the watermark is at 12:11, and 12:00–12:10 has been emitted. Another visit of 12:04 comes too
//!   late: it goes to the second stream of `append_with_late`, and is counted.
//!
//! Whether a record is late is decided by the watermark with which its epoch began. So here every record is an epoch
//! of its own; in the usual large epochs fewer records are late.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::ParseTimeError;
use tidemill::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Visit {
    at: EventTime,
    page: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let visits = vec![
        visit("12:03", "home")?,
        visit("12:11", "home")?,
        visit("12:04", "home")?, // out of order, and in time
        visit("12:21", "home")?, // closes 12:00–12:10
        visit("12:04", "home")?, // too late
        visit("12:12", "home")?, // late, but 12:10–12:20 is still open
    ];
    println!("visits, in the order in which they come:");
    visits.iter().for_each(|visit| println!("    {}", clock(visit.at)));

    let graph = Graph::new("late_data");
    let (counted, late) = graph
        .source(memory(visits))
        .with_watermark(|visit| visit.at, 10 * MINUTE)
        .key_by(|visit| visit.page.clone())
        .window(tumbling(10 * MINUTE))
        .count()
        .append_with_late();
    let (windows_sink, windows) = memory_sink();
    let (late_sink, late_visits) = memory_sink();
    counted.sink(windows_sink);
    late.sink(late_sink);
    let summary = graph.run(Options::default().with_max_records_per_epoch(1))?;

    println!("windows, in the order in which they close:");
    let mut counts = Vec::new();
    for row in windows.snapshot() {
        let (start, end) = (clock(row.window.start), clock(row.window.end));
        println!("    {start}–{end}  {}: {}", row.key, row.value);
        counts.push((start, row.value));
    }
    println!("too late:");
    let late_visits = late_visits.snapshot();
    late_visits.iter().for_each(|visit| println!("    {}", clock(visit.at)));

    let expected = [("12:00", 2), ("12:10", 2), ("12:20", 1)];
    if counts != expected.map(|(start, count)| (start.to_owned(), count)) {
        return Err(format!("the windows should hold {expected:?}").into());
    }
    if late_visits != [visit("12:04", "home")?] || summary.late_rows != 1 {
        return Err(format!("one visit should be late, not {}", summary.late_rows).into());
    }
    println!("\n{} rows in, {} of them late: nothing is lost.", summary.input_rows, summary.late_rows);
    Ok(())
}

fn visit(clock: &str, page: &str) -> Result<Visit, ParseTimeError> {
    Ok(Visit { at: format!("2026-03-01T{clock}:00Z").parse()?, page: page.to_owned() })
}

/// The time of day of an instant.
fn clock(time: EventTime) -> String {
    time.to_string().chars().skip(11).take(5).collect()
}
