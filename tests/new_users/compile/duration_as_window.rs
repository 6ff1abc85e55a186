//~ `Duration` is not a window
//~ `tumbling(length)`, `sliding(length, slide)`, `session(gap)`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("seconds");
    let _ = graph
        .source(memory([1i64, 2]))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .window(Duration::from_secs(10));
}
