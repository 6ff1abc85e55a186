//! The ten greatest words of each key and window; see [`baseline::top`](crate::baseline::top).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::connectors::iterate_partitions;
use tidemill::{EventTime, Graph, Options, Run, WindowResult, tumbling};

use super::{Gather, gathered};
use crate::baseline::join::{Event, event};
use crate::baseline::top::{N, Top, Tops};

/// Runs the job.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn top(job: Top, options: &Options) -> Tops {
    let start = Instant::now();
    let answer: Arc<Mutex<Tops>> = Arc::default();
    let shared = Arc::clone(&answer);
    let events = iterate_partitions(job.workers as u32, move |partition| {
        let (first, peers) = (u64::from(partition), job.workers as u64);
        let own = job.events.saturating_sub(first).div_ceil(peers);
        (0..own).map(move |k| event(first + k * peers, job.keys))
    });
    let graph = Graph::new("top");
    graph
        .source(events)
        .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
        .key_by(|event| event.0)
        .window(tumbling(Duration::from_micros(job.width().unsigned_abs())))
        .top_n(N, |event| event.2)
        .append()
        .sink_per_worker(move |_| {
            let add = |own: &mut Tops, row: WindowResult<u64, Vec<Event>>| {
                own.add(row.key, row.window.start.as_micros(), row.value.iter().map(|event| event.2));
            };
            Ok(Gather::new(&shared, add, |all: &mut Tops, own| all.join(&own)))
        });
    graph.run(options.clone().with_workers(job.workers)).expect("the query runs to its end");
    Tops { elapsed: start.elapsed(), ..gathered(&answer) }
}
