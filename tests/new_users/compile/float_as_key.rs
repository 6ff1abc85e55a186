//~ `f64` cannot be a key
//~ round floats to an integer, or take their `to_bits()`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("prices");
    graph.source(memory([1.5f64, 2.0])).key_by(|price| *price).count().update().sink(console());
}
