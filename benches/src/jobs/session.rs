//! Counting events per key and session; see [`baseline::session`](crate::baseline::session).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::{EventTime, Graph, Options, Run, session};

use super::{Gather, count_row, events, gathered};
use crate::baseline::session::Sessions;
use crate::baseline::windowed_count::Windowed;

/// Runs the job.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn sessions(job: Sessions, options: &Options) -> Windowed {
    let start = Instant::now();
    let answer: Arc<Mutex<Windowed>> = Arc::default();
    let shared = Arc::clone(&answer);
    let graph = Graph::new("session count");
    graph
        .source(events(job.events, job.keys, job.workers))
        .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
        .key_by(|event| event.0)
        .window(session(Duration::from_micros(job.gap as u64)))
        .count()
        .append()
        .sink_per_worker(move |_| Ok(Gather::new(&shared, count_row, |all, own| all.join(&own))));
    graph.run(options.clone().with_workers(job.workers)).expect("the query runs to its end");
    Windowed { elapsed: start.elapsed(), ..gathered(&answer) }
}
