//~ a keyed or windowed stream has no rows before it has an aggregate
//~ put an aggregate and an output mode before this, such as `.count().update()`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("words");
    graph.source(memory(["to", "be"])).key_by(|word| word.len()).sink(console());
}
