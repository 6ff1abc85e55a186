//! Windows that are emitted whenever they change, and the visits that come too late for them.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tidemill::prelude::*;

use crate::{check, input};

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let mut visits = input::visits(100);
    visits.reverse();
    let graph = Graph::new("late visits");
    let ((sink, table), (late_sink, late)) = (memory_sink(), memory_sink());
    let (longest, too_late) = graph
        .source(memory(visits))
        .with_watermark(|visit| visit.at, Duration::from_secs(200))
        .key_by(|visit| visit.user)
        .window(tumbling(Duration::from_secs(50)))
        .max(|visit| visit.page.len())
        .update_with_late();
    longest.map(|row| (row.key, row.window.start.as_micros() / 50_000_000, row.value)).sink(sink);
    too_late.map(|visit| visit.page).sink(late_sink);
    graph.run(options.clone())?;

    check(late.snapshot(), vec![])?;
    // A window comes again when it has changed; its last value is the right one.
    let last: std::collections::BTreeMap<_, _> =
        table.snapshot().into_iter().map(|(user, window, longest)| ((user, window), longest)).collect();
    let rows = last.into_iter().map(|((user, window), longest)| (user, window, longest));
    check(rows.collect(), (0..10).flat_map(|user| [(user, 0, 5), (user, 1, 5)]).collect())
}
