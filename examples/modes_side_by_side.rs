//! One graph, run both ways, and what that means for latency and throughput.
//!
//! ```sh
//! cargo run --release --example modes_side_by_side
//! ```
//!
//! A clockwork makes 50,000 rows a second; the graph counts them by key and by window of a second, and says each count
//! that has changed. The latency of a row is the time from the instant at which it was *due* until a count with it has
//! arrived in the sink, so a stall of the engine shows in it too.
//!
//! - micro-batch, every 100 ms: a row waits for its trigger, 50 ms on average, and then for the rest of its epoch;
//! - continuous: a row is processed when it arrives, and its count shown at once.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill::aggregate::{Count, Max};
use tidemill::prelude::*;
use tidemill::{QueryHandle, Summary};

const RATE: u64 = 50_000;
const SECONDS: u64 = 3;
const KEYS: u64 = 100;
/// The time between two rows of the same key.
const SPACING: Duration = Duration::from_micros(1_000_000 * KEYS / RATE);

/// A key's count in a window, and when the newest row in it was due.
type Counted = WindowResult<u64, (u64, EventTime)>;

/// The graph: nothing in it says how it will be run.
fn count_by_key(ticks: Stream<RateRow>) -> EventStream<Counted> {
    ticks
        .with_watermark(|row| row.time, Duration::ZERO)
        .key_by(|row| row.value % KEYS)
        .window(tumbling(Duration::from_secs(1)))
        .aggregate((Count::new(), Max::of(|row: &RateRow| row.time)))
        .update()
}

/// What came out of a run.
#[derive(Default)]
struct Outcome {
    /// The last count of each key and window.
    counts: HashMap<(Window, u64), u64>,
    /// The latency of every row.
    latencies: Vec<Duration>,
}

impl Outcome {
    fn note(&mut self, row: Counted) {
        let (count, newest) = row.value;
        let before = self.counts.insert((row.window, row.key), count).unwrap_or(0);
        // The count has grown by this many rows: the newest, the one that was due a little before it, and so on.
        let latency = since(newest);
        self.latencies.extend((0_u32..).zip(before..count).map(|(older, _)| latency + older * SPACING));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let every_100_ms = Options::default().with_trigger(Trigger::Every(Duration::from_millis(100)));
    let ways =
        [("micro-batch", every_100_ms), ("continuous", Options::default().with_mode(Mode::Continuous))];
    let mut medians = Vec::new();
    let mut table = format!("{:12}{:>14}{:>12}{:>12}{:>8}\n", "mode", "rows/s", "p50", "p99", "epochs");
    for (name, options) in ways {
        println!("{name}: {SECONDS} seconds …");
        let (outcome, summary) = run(options)?;
        let counted: u64 = outcome.counts.values().sum();
        if counted != RATE * SECONDS {
            return Err(format!("{name}: {counted} rows were counted, not {}", RATE * SECONDS).into());
        }
        let (p50, p99) = (percentile(&outcome.latencies, 50), percentile(&outcome.latencies, 99));
        let rows_per_second = summary.input_rows as f64 / summary.seconds;
        table += &format!(
            "{name:12}{rows_per_second:>14.0}{:>12}{:>12}{:>8}\n",
            millis(p50),
            millis(p99),
            summary.epochs
        );
        medians.push(p50);
    }
    println!("\n{table}");
    if !medians.is_sorted_by(|micro_batch, continuous| continuous < micro_batch) {
        return Err("record by record should be quicker than batch by batch".into());
    }
    println!("Both counted every row.");
    Ok(())
}

fn run(options: Options) -> Result<(Outcome, Summary), RunError> {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let noted = Arc::clone(&outcome);
    let graph = Graph::new("modes_side_by_side");
    count_by_key(graph.source(rate(RATE).rows(RATE * SECONDS)).boxed()).sink(for_each(
        move |row: Counted| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).note(row);
        },
    ));
    let summary = wait(graph.start(options)?)?;
    let mut outcome = std::mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner));
    outcome.latencies.sort_unstable();
    Ok((outcome, summary))
}

/// Waits for the end of a query, and shows every half second how far it is.
fn wait(query: QueryHandle) -> Result<Summary, RunError> {
    let mut shown = Instant::now();
    while !query.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        if shown.elapsed() >= Duration::from_millis(500) {
            shown = Instant::now();
            let progress = query.progress();
            if let Some(epoch) = progress.epoch {
                println!("    epoch {epoch:>3}: {:>6.0} rows/s", progress.input_rows_per_second);
            }
        }
    }
    query.wait()
}

/// How long ago something was due.
fn since(due: EventTime) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(due.as_micros().unsigned_abs()))
}

/// The least value that is no less than this many percent of them.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
