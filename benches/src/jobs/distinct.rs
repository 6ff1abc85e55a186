//! Dropping rows whose id has been there; see [`baseline::distinct`](crate::baseline::distinct).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::connectors::iterate_partitions;
use tidemill::{EventTime, Graph, Options, Run};

use super::{Gather, gathered};
use crate::baseline::distinct::{Distinct, event};
use crate::baseline::windowed_count::Windowed;

/// Runs the job.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn distinct(job: Distinct, options: &Options) -> Windowed {
    let start = Instant::now();
    let answer: Arc<Mutex<Windowed>> = Arc::default();
    let shared = Arc::clone(&answer);
    let peers = job.workers as u32;
    let events = iterate_partitions(peers, move |partition| {
        let (first, peers) = (u64::from(partition), u64::from(peers));
        let own = job.events.saturating_sub(first).div_ceil(peers);
        (0..own).map(move |k| event(first + k * peers))
    });
    let graph = Graph::new("distinct");
    graph
        .source(events)
        .with_watermark(
            |event| EventTime::from_micros(event.1),
            Duration::from_micros(job.delay.unsigned_abs()),
        )
        .key_by(|event| event.0)
        .distinct_within_watermark()
        .sink_per_worker(move |_| {
            let add = |own: &mut Windowed, (id, time): (u64, i64)| own.add(id, time, 1);
            Ok(Gather::new(&shared, add, |all: &mut Windowed, own| all.join(&own)))
        });
    graph.run(options.clone().with_workers(job.workers)).expect("the query runs to its end");
    Windowed { elapsed: start.elapsed(), ..gathered(&answer) }
}
