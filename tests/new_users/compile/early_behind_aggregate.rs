//~ `early` and `allowed_lateness` come behind a window and before its aggregate
//~ write `.window(…).early(…).count().firings()`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph
        .source(memory(0..9i64))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .window(tumbling(Duration::from_secs(5)))
        .count()
        .early(Early::every_records(2))
        .append()
        .sink(discard().0);
}
