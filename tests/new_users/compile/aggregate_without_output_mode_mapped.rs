//~ an aggregate has no rows before it has an output mode
//~ put `.update()`, `.complete()` or, behind a window, `.append()` before this
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("words");
    graph.source(memory(["to", "be"])).key_by(|word| word.len()).count().map(|(length, count)| length as u64 + count).sink(console());
}
