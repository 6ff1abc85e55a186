//~ a join needs keys
//~ put `.key_by(…)` before `.join(…)`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("join");
    let left = graph.source(memory([1i64, 2]));
    let right = graph.source(memory([1i64, 2]));
    let _ = left.join(right);
}
