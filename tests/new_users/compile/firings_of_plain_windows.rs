//~ `firings` needs windows that fire early or wait for late records
//~ put `.early(…)` or `.allowed_lateness(…)` between the window and its aggregate
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph
        .source(memory(0..9i64))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .window(tumbling(Duration::from_secs(5)))
        .count()
        .firings()
        .sink(discard().0);
}
