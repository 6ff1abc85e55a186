//~ a stream of batches has no steps on single records
//~ put `map`, `filter` and others before `.batches(…)`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph.source(memory(0..9u64)).batches(Duration::from_secs(1)).sink(discard().0);
}
