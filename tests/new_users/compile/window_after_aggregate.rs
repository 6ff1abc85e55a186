//~ a window comes before its aggregate
//~ put `.window(…)` before the aggregate: `.window(…).count().append()`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("words");
    graph.source(memory(["to", "be"])).key_by(|word| word.len()).count().window(tumbling(Duration::from_secs(1)));
}
