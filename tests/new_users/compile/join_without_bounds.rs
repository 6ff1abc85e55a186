//~ a join needs bounds, windows or a TTL
//~ put `.within(Bounds::after(min..=max))`, `.window(…)`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("join");
    let at = |n: &i64| EventTime::from_secs(*n);
    let left = graph.source(memory([1i64, 2])).with_watermark(at, Duration::ZERO);
    let right = graph.source(memory([1i64, 2])).with_watermark(at, Duration::ZERO);
    left.key_by(|n| *n).join(right.key_by(|n| *n)).left_outer().sink(console());
}
