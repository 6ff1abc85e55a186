//~ a keyed or windowed stream has no rows before it has an aggregate
//~ put an aggregate and an output mode before this
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph
        .source(memory(0..9i64))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .window(tumbling(Duration::from_secs(5)))
        .append()
        .sink(discard().0);
}
