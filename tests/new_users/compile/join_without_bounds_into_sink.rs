//~ a join needs bounds, windows or a TTL
//~ put `.within(Bounds::after(min..=max))`
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    let [left, right] = [0..9u64, 0..5].map(|numbers| graph.source(memory(numbers)).key_by(|n| *n));
    left.join(right).sink(discard().0);
}
