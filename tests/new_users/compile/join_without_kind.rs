//~ a join has no rows before it has a kind
//~ put `.inner()`, `.left_outer()`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("join");
    let at = |n: &i64| EventTime::from_secs(*n);
    let left = graph.source(memory([1i64, 2])).with_watermark(at, Duration::ZERO);
    let right = graph.source(memory([1i64, 2])).with_watermark(at, Duration::ZERO);
    let minute = Bounds::after(Duration::ZERO..=Duration::from_secs(60));
    left.key_by(|n| *n).join(right.key_by(|n| *n)).within(minute).sink(console());
}
