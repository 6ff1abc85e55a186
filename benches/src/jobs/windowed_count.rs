//! Counting events per key and window; see [`baseline::windowed_count`](crate::baseline::windowed_count).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::{EventTime, Graph, Options, Run, tumbling};

use super::{Gather, count_row, events, gathered};
use crate::baseline::windowed_count::{Windowed, WindowedCount};

/// Runs the job (whose number of phases and size of batches are Tidemill's own choice here).
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn windowed_count(job: WindowedCount, options: &Options) -> Windowed {
    let start = Instant::now();
    let answer: Arc<Mutex<Windowed>> = Arc::default();
    let shared = Arc::clone(&answer);
    let graph = Graph::new("windowed count");
    graph
        .source(events(job.events, job.keys, job.workers))
        .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
        .key_by(|event| event.0)
        .window(tumbling(Duration::from_micros(job.width() as u64)))
        .count()
        .append()
        .sink_per_worker(move |_| Ok(Gather::new(&shared, count_row, |all, own| all.join(&own))));
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
