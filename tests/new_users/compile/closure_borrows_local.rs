//~ closure may outlive the current function
//~ use the `move` keyword
use tidemill::prelude::*;

fn main() {
    let factor = 3u64;
    let graph = Graph::new("numbers");
    graph.source(memory([1u64, 2])).map(|n| n * factor).sink(console());
}
