//~ an open chain of steps cannot be cloned
//~ close it first, with `.boxed()`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    let doubled = graph.source(memory([1u64, 2])).map(|n| n * 2);
    doubled.clone().sink(console());
    doubled.sink(console());
}
