//~ is not a sink for rows of type `u64`
//~ use `for_each(|row| …)` for a closure
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    graph.source(memory([1u64, 2])).sink(|n: u64| println!("{n}"));
}
