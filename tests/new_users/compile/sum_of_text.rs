//~ String` cannot be added up
//~ return a number from the closure
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("words");
    graph.source(memory(["1", "2"])).key_by(|word| word.len()).sum(|word| word.to_string()).update().sink(console());
}
