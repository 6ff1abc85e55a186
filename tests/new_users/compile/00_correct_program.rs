use std::time::Duration;
use tidemill::prelude::*;

fn main() -> Result<(), RunError> {
    let graph = Graph::new("correct");
    graph
        .source(memory([1i64, 2, 3]))
        .with_watermark(|second| EventTime::from_secs(*second), Duration::ZERO)
        .key_by(|second| second % 2)
        .window(tumbling(Duration::from_secs(10)))
        .count()
        .append()
        .sink(console());
    graph.run(Options::default())?;
    Ok(())
}
