//~ event times are assigned before `key_by`
//~ put `.with_watermark(|record| event_time, delay)` before `.key_by(…)`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("seconds");
    let _ = graph
        .source(memory([1i64, 2]))
        .key_by(|second| second % 2)
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO);
}
