//~ only windows have firings, and this aggregate has no window
//~ put `.window(…)` and `.early(…)`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph.source(memory(0..9u64)).key_by(|n| n % 2).count().firings().sink(discard().0);
}
