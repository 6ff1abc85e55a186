//~ windows of processing time have no late records
//~ leave out `.allowed_lateness(…)`
use std::time::Duration;
use tidemill::prelude::*;

fn main() {
    let graph = Graph::new("mistake");
    graph
        .source(memory(0..9u64))
        .processing_time_window(tumbling(Duration::from_secs(5)))
        .allowed_lateness(Duration::from_secs(1))
        .count()
        .append()
        .sink(discard().0);
}
