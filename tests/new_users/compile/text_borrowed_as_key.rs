//~ `&str` must implement
//~ StringInsteadOfBorrowedStr
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph.source(memory(["a", "b"])).key_by(|word| *word).count().update().sink(discard().0);
}
