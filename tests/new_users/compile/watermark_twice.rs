//~ this stream has an event time already
//~ leave out one of the two
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("seconds");
    let _ = graph
        .source(memory([1i64, 2]))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .with_watermark(|second| EventTime::from_secs(*second), Duration::from_secs(5));
}
