//~ windows and joins need event time, and this stream has none
//~ `.with_watermark(|record| event_time, delay)` on the stream before
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("seconds");
    graph
        .source(memory([1i64, 2]))
        .window(tumbling(Duration::from_secs(10)))
        .count()
        .append()
        .sink(console());
}
