//! Views of ads with clicks on them, and the share of each minute.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tidemill::prelude::*;

use crate::check;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Seen {
    ad: u32,
    at: EventTime,
}

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let seconds = Duration::from_secs;
    let seen = |ad: u32, at: u32| Seen { ad, at: EventTime::from_secs(i64::from(at)) };
    let graph = Graph::new("clicks of ads");
    let views = graph
        .source(memory((0..120).map(|n| seen(n, n)).collect::<Vec<_>>()))
        .with_watermark(|view| view.at, seconds(120));
    let clicks = graph
        .source(memory((0..120).filter(|n| n % 4 == 0).map(|n| seen(n, n + 1)).collect::<Vec<_>>()))
        .with_watermark(|click| click.at, seconds(120));
    let (sink, table) = memory_sink();
    views
        .key_by(|view| view.ad)
        .join(clicks.key_by(|click| click.ad))
        .within(Bounds::between(seconds(0), seconds(5)))
        .full_outer()
        .filter_map(|(_, view, click)| view.map(|view| (view.at, click.is_some())))
        .map(|(at, clicked)| (at.as_micros() / 60_000_000, u64::from(clicked)))
        .key_by(|(minute, _)| *minute)
        .window(tumbling(seconds(3_600)))
        .sum(|(_, clicked)| *clicked)
        .append()
        .map(|row| (row.key, row.value))
        .sink(sink);
    graph.run(options.clone())?;
    check(table.snapshot(), vec![(0, 15), (1, 15)])
}
