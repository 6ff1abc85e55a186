//~ `append` needs a window: without one no result is ever final
//~ use `.update()` or `.complete()` here, or put `.window(…)` before the aggregate
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("words");
    graph.source(memory(["to", "be"])).key_by(|word| word.len()).count().append().sink(console());
}
