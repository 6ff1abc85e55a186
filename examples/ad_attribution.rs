//! Which ads were clicked within a minute: a left outer join of two streams, and a window behind it.
//!
//! ```sh
//! cargo run --release --example ad_attribution
//! ```
//!
//! Views of ads and clicks on them come on streams of their own, in any order. A click belongs to the view with its number if it
//! comes within a minute of event time. The join emits each view with its click, and each view without a click once the watermark
//! proves that none can come. Behind it, a window counts views and clicks of each campaign by ten minutes.
//!
//! - [`Bounds`] say how far apart in event time rows may be that match.
//! - The output of an outer join has a watermark of its own: no view is late for its window.
//! - The result is the same in both modes, with any number of workers.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
struct View {
    number: u64,
    campaign: u32,
    at: EventTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Click {
    view: u64,
    at: EventTime,
}

const MINUTE: Duration = Duration::from_secs(60);
const CAMPAIGNS: u32 = 3;
const VIEWS: u64 = 20_000;

/// A view every 100 ms; those of every third campaign are clicked most.
fn views() -> Vec<View> {
    let at = |number: u64| EventTime::from_millis(100 * number as i64);
    (0..VIEWS).map(|number| View { number, campaign: number as u32 % CAMPAIGNS, at: at(number) }).collect()
}

/// How long after a view its click comes, in seconds: up to 90, so not all in time.
fn pause(number: u64) -> Option<i64> {
    let chance = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (chance % 10 <= number % u64::from(CAMPAIGNS)).then_some((chance % 91) as i64)
}

fn clicks() -> Vec<Click> {
    let click = |view: View| {
        let pause = Duration::from_secs(pause(view.number)?.unsigned_abs());
        Some(Click { view: view.number, at: view.at + pause })
    };
    let mut clicks: Vec<Click> = views().into_iter().filter_map(click).collect();
    clicks.sort_by_key(|click| click.at);
    clicks
}

/// Views and clicks by campaign and window of ten minutes.
type Counts = BTreeMap<(EventTime, u32), (u64, u64)>;

fn attribution(options: Options) -> Result<Counts, RunError> {
    let graph = Graph::new("ad attribution");
    let views = graph.source(memory(views())).with_watermark(|view| view.at, MINUTE);
    let clicks = graph.source(memory(clicks())).with_watermark(|click| click.at, MINUTE);
    let (sink, table) = memory_sink();
    views
        .key_by(|view| view.number)
        .join(clicks.key_by(|click| click.view))
        .within(Bounds::after(Duration::ZERO..=MINUTE))
        .left_outer()
        .map(|(_, view, click)| (view, click.is_some()))
        .key_by(|(view, _)| view.campaign)
        .window(tumbling(MINUTE * 10))
        .aggregate((Count::new(), Sum::of(|(_, is_clicked): &(View, bool)| u64::from(*is_clicked))))
        .append()
        .sink(sink);
    let summary = graph.run(options)?;
    assert_eq!(summary.late_rows, 0);
    Ok(table.snapshot().into_iter().map(|row| ((row.window.start, row.key), row.value)).collect())
}

/// The same by a loop. A pair has the event time of the click, a view without a click its own.
fn expected() -> Counts {
    let window = tumbling(MINUTE * 10);
    let mut counts = Counts::new();
    for view in views() {
        let pause = pause(view.number).map(|secs| Duration::from_secs(secs.unsigned_abs()));
        let pause = pause.filter(|pause| *pause <= MINUTE);
        let at = view.at + pause.unwrap_or_default();
        let (views, clicks) = counts.entry((window.window_of(at).start, view.campaign)).or_default();
        *views += 1;
        *clicks += u64::from(pause.is_some());
    }
    counts
}

fn main() -> Result<(), Box<dyn Error>> {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let counts = attribution(Options::default().with_mode(mode).with_workers(2))?;
        println!("{mode}:");
        for ((start, campaign), (views, clicks)) in &counts {
            let percent = 100.0 * *clicks as f64 / *views as f64;
            println!("  {start} campaign {campaign}: {views} views, {clicks} clicks ({percent:.1} %)");
        }
        assert_eq!(counts, expected());
    }
    Ok(())
}
