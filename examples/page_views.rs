//! Counts the visits to each page in windows of ten minutes: the program of README.

use std::time::Duration;
use tidemill::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at = |time: &str| format!("2026-03-01T{time}Z").parse::<EventTime>();
    let visits = [
        ("/home", at("12:01:00")?),
        ("/shop", at("12:04:00")?),
        ("/home", at("12:07:00")?),
        ("/home", at("12:11:00")?),
    ];

    let graph = Graph::new("page views");
    graph
        .source(memory(visits))
        .with_watermark(|(_, at)| *at, Duration::from_secs(60)) // a visit may come a minute late
        .key_by(|(page, _)| page.to_string())
        .window(tumbling(Duration::from_secs(600)))
        .count()
        .append() // one row per window, when the watermark passes its end
        .sink(console());

    let summary = graph.run(Options::default().with_mode(Mode::Continuous))?;
    assert_eq!((summary.input_rows, summary.output_rows), (4, 3));
    Ok(())
}
