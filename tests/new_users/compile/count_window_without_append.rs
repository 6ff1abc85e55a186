//~ a count window emits once, when it is complete
//~ use `.append()` here
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph.source(memory(0..9u64)).key_by(|n| n % 2).count_window(3).count().sink(discard().0);
}
