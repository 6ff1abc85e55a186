//! Which mode is for you? Your own graph answers: this runs it in several ways at several rates, and shows what a row waits
//! and what a core does.
//!
//! ```sh
//! cargo run --release --example which_mode
//! ```
//!
//! Put your own graph in the place of [`watch`], and a source that says when each record was due in the place of `rate`. What
//! is measured are rows that stand for one record each (see `Latency`, which needs the feature `latency`).

use std::error::Error;
use std::time::Duration;

use tidemill::connectors::{DiscardCount, Latency, LatencySummary, discard};
use tidemill::prelude::*;
use tidemill::{Chain, ProcessingTime, Untimed};

const RATES: [u64; 2] = [1_000, 100_000];
const SECONDS: u64 = 1;

/// A payment, and what is thought of it.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Verdict {
    card: u64,
    is_large: bool,
    due: EventTime,
}

/// The graph: every payment gets a verdict, and payments are counted by card and second.
fn watch(
    payments: Stream<RateRow, impl Chain<Out = RateRow, Time = Untimed>>,
    latency: &Latency,
) -> (DiscardCount, DiscardCount) {
    let (verdicts, all) = discard();
    let (counts, windows) = discard();
    let judged = payments
        .map(|row| Verdict { card: row.value % 1_000, is_large: row.value % 97 == 0, due: row.time })
        .boxed();
    judged
        .clone()
        .with_watermark(|verdict| verdict.due, Duration::ZERO)
        .key_by(|verdict| verdict.card)
        .window(tumbling(Duration::from_secs(1)))
        .count()
        .append()
        .sink(counts);
    judged
        .sink(latency.of(verdicts, |verdict: &Verdict| ProcessingTime::from_micros(verdict.due.as_micros())));
    (all, windows)
}

fn main() -> Result<(), Box<dyn Error>> {
    let every = |millis| Options::default().with_trigger(Trigger::Every(Duration::from_millis(millis)));
    let ways = [
        ("micro-batch, every 250 ms", every(250)),
        ("micro-batch, at once", Options::default()),
        ("continuous", Options::default().with_mode(Mode::Continuous)),
    ];
    println!("{:28}{:>10}{:>12}{:>12}{:>14}", "", "rows/s", "p50", "p99", "core busy");
    let mut medians = Vec::new();
    for rate in RATES {
        for (name, options) in &ways {
            let (latency, busy) = run(rate, options.clone())?;
            let LatencySummary { p50, p99, .. } = latency;
            let busy = busy.map_or_else(|| "–".to_owned(), |busy| format!("{:.0} %", 100.0 * busy));
            println!("{name:28}{rate:>10}{:>12}{:>12}{busy:>14}", format!("{p50:.1?}"), format!("{p99:.1?}"));
            medians.push(p50);
        }
    }
    for of_rate in medians.chunks(ways.len()) {
        if of_rate.first() <= of_rate.last() {
            return Err(
                "a record that waits for a trigger should be answered later than one that does not".into()
            );
        }
    }
    println!(
        "\nWhere the first line is soon enough, it is the cheapest. Records are answered soonest one by one. Batches at once are\n\
         small while the graph keeps up, and then cost more than either; with a backlog they are large, and cost least."
    );
    Ok(())
}

/// Runs the graph; also says which part of a core it took.
fn run(per_second: u64, options: Options) -> Result<(LatencySummary, Option<f64>), Box<dyn Error>> {
    let rows = per_second * SECONDS;
    let graph = Graph::new("which_mode");
    let latency = Latency::new();
    let (all, windows) = watch(graph.source(rate(per_second).rows(rows)), &latency);
    let before = cpu_seconds();
    let summary = graph.run(options)?;
    let busy = before.zip(cpu_seconds()).map(|(before, after)| (after - before) / summary.seconds);
    let measured = latency.summary();
    if (all.get(), measured.rows) != (rows, rows) || windows.get() == 0 {
        return Err(format!("{} verdicts, {measured}, of {rows} payments", all.get()).into());
    }
    Ok((measured, busy))
}

/// The processor's seconds that this process has used, where Linux tells.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: Vec<f64> =
        text.rsplit(')').next()?.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    Some(ticks.iter().sum::<f64>() / 100.0)
}
