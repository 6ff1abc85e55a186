//! Counting events per key and window; see [`baseline::windowed_count`](crate::baseline::windowed_count).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::connectors::iterate_partitions;
use tidemill::{EventTime, Graph, Options, Run, WindowResult, tumbling};

use super::{Gather, gathered};
use crate::baseline::windowed_count::{STEP, Windowed, WindowedCount};
use crate::generator::event;

/// Runs the job (whose number of phases and size of batches are Tidemill's own choice here).
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn windowed_count(job: WindowedCount, options: &Options) -> Windowed {
    let start = Instant::now();
    let answer: Arc<Mutex<Windowed>> = Arc::default();
    let shared = Arc::clone(&answer);
    let (events, keys, peers) = (job.events, job.keys, job.workers as u32);
    let graph = Graph::new("windowed count");
    graph
        .source(iterate_partitions(peers, move |partition| {
            let (first, peers) = (u64::from(partition), u64::from(peers));
            let own = events.saturating_sub(first).div_ceil(peers);
            (0..own).map(move |k| event(first + k * peers, keys, STEP))
        }))
        .with_watermark(|event| EventTime(event.1), Duration::ZERO)
        .key_by(|event| event.0)
        .window(tumbling(Duration::from_micros(job.width() as u64)))
        .count()
        .append()
        .sink_per_worker(move |_| {
            let take = |answer: &mut Windowed, row: WindowResult<u64, u64>| {
                answer.add(row.key, row.window.start.0, row.value);
            };
            Ok(Gather::new(&shared, take, |all, own| {
                all.rows += own.rows;
                all.events += own.events;
                all.checksum = all.checksum.wrapping_add(own.checksum);
            }))
        });
    graph.run(options.clone().with_workers(job.workers)).expect("the query runs to its end");
    Windowed { elapsed: start.elapsed(), ..gathered(&answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline;
    use tidemill::Mode;

    #[test]
    fn agrees_with_the_baseline() {
        for (events, keys, workers) in [(1, 1, 1), (50_001, 7, 1), (100_000, 20_000, 2), (9_999, 100, 2)] {
            let job = WindowedCount::new(events, keys, workers);
            let expected = baseline::windowed_count::windowed_count(job);
            for mode in [Mode::MicroBatch, Mode::Continuous] {
                let answer = windowed_count(job, &Options::default().with_mode(mode));
                assert_eq!(Windowed { elapsed: expected.elapsed, ..answer }, expected, "{mode:?} {job:?}");
            }
        }
    }
}
