//~ `(&str, u64)` must implement
//~ StringInsteadOfBorrowedStr
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    let rows = graph.source(memory([("a", 1u64), ("b", 2)]));
    rows.key_by(|row| row.1).count_window(1).count().append().sink(discard().0);
}
