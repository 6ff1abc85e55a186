//~ `Vec<{integer}>` is not a source
//~ `memory(…)` makes one of a collection, `iterate(|| …)` of an iterator
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    graph.source(vec![1, 2, 3]).sink(console());
}
