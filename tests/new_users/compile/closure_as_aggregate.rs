//~ is not an aggregate
//~ `.reduce(…)` or `.fold(…)`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    let _ = graph.source(memory([1u64, 2])).aggregate(|a: u64, b: u64| a + b);
}
