//~ `batches` comes before `key_by`
//~ write `.batches(interval).key_by(…)`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    let pairs = graph.source(memory(0..9u64)).key_by(|n| n % 2);
    pairs.batches(Duration::from_secs(1)).group_by_key().sink(discard().0);
}
