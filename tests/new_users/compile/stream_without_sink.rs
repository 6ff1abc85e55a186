//~ warning: unused `Stream` that must be used
//~ a stream does nothing until it ends in a sink
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("numbers");
    graph.source(memory([1u64, 2])).map(|n| n * 2);
}
