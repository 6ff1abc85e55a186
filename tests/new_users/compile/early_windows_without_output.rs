//~ an aggregate over these windows has no rows before it has an output
//~ put `.firings()` before this
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("without output");
    graph
        .source(memory(0..9i64))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .window(tumbling(Duration::from_secs(5)))
        .early(Early::every_records(2))
        .count()
        .sink(discard().0);
}
