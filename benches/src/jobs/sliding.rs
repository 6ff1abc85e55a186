//! Counting events per key and sliding window; see [`baseline::sliding`](crate::baseline::sliding).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::{EventTime, Graph, Options, Run, sliding as windows};

use super::{Gather, count_row, events, gathered};
use crate::baseline::sliding::Sliding;
use crate::baseline::windowed_count::Windowed;

/// Runs the job.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn sliding(job: Sliding, options: &Options) -> Windowed {
    let start = Instant::now();
    let answer: Arc<Mutex<Windowed>> = Arc::default();
    let shared = Arc::clone(&answer);
    let micros = |time: i64| Duration::from_micros(time as u64);
    let graph = Graph::new("sliding count");
    graph
        .source(events(job.count.events, job.count.keys, job.count.workers))
        .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
        .key_by(|event| event.0)
        .window(windows(micros(job.size()), micros(job.slide())))
        .count()
        .append()
        .sink_per_worker(move |_| Ok(Gather::new(&shared, count_row, |all, own| all.join(&own))));
    graph.run(options.clone().with_workers(job.count.workers)).expect("the query runs to its end");
    Windowed { elapsed: start.elapsed(), ..gathered(&answer) }
}
