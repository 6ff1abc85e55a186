//~ keyed batches have no rows before they have an operation
//~ `.each_batch()` and an aggregate
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    let batches = graph.source(memory(0..9u64)).batches(Duration::from_secs(1));
    batches.key_by(|n| n % 2).count().sink(discard().0);
}
