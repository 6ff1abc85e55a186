//~ deduplication needs keys
//~ put `.key_by(…)` before
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph.source(memory([1u64, 1, 2])).distinct().sink(discard().0);
}
