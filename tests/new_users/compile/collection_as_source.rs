//~ `Vec<{integer}>` is not a source
//~ use `memory(…)` for a collection, `iterate(|| …)` for an iterator
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    graph.source(vec![1, 2, 3]).sink(console());
}
