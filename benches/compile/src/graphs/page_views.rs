//! Visits to each page in windows of a minute.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tidemill::prelude::*;

use crate::{check, input};

/// By how many seconds a visit may be late. `ci/compile.sh` changes this line.
const DELAY: u64 = 5;

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("page views");
    let (sink, table) = memory_sink();
    graph
        .source(memory(input::visits(180)))
        .filter(|visit| visit.user != 9)
        .with_watermark(|visit| visit.at, Duration::from_secs(DELAY))
        .key_by(|visit| visit.page.clone())
        .window(tumbling(Duration::from_secs(60)))
        .count()
        .append()
        .map(|row| (row.window.start.as_micros() / 1_000_000, row.key, row.value))
        .sink(sink);
    graph.run(options.clone())?;

    let expected = [0, 60, 120]
        .into_iter()
        .flat_map(|start| ["/help", "/home", "/shop"].map(|page| (start, page.to_owned(), 18)));
    check(table.snapshot(), expected.collect())
}
