//! Joining two streams by key and event time; see [`baseline::join`](crate::baseline::join).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::connectors::{IterSource, iterate_partitions};
use tidemill::{Bounds, EventTime, Graph, Options, Run};

use super::{Gather, gathered};
use crate::baseline::join::{Event, IntervalJoin, Joined, event};

/// A row of either side: key, and what else the event says.
type Row = (u64, u64);

/// Runs the job.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn interval_join(job: IntervalJoin, options: &Options) -> Joined {
    let start = Instant::now();
    let answer: Arc<Mutex<Joined>> = Arc::default();
    let shared = Arc::clone(&answer);
    let graph = Graph::new("interval join");
    let time = |event: &Event| EventTime::from_micros(event.1);
    // The stream has the time of a row, so that the row need not.
    let row = |(key, _, word): Event| (key, word);
    let left = graph.source(side(job, 0)).with_watermark(time, Duration::ZERO).map(row);
    let right = graph.source(side(job, 1)).with_watermark(time, Duration::ZERO).map(row);
    let bound = Duration::from_micros(job.bound().unsigned_abs());
    left.key_by(|event| event.0)
        .join(right.key_by(|event| event.0))
        .within(Bounds::between(bound, bound))
        .inner()
        .sink_per_worker(move |_| {
            Ok(Gather::new(
                &shared,
                |all: &mut Joined, (key, left, right): (u64, Row, Row)| all.add((key, left.1, right.1)),
                |all, own| all.join(&own),
            ))
        });
    graph.run(options.clone().with_workers(job.workers)).expect("the query runs to its end");
    Joined { elapsed: start.elapsed(), ..gathered(&answer) }
}

/// The events of a side, distributed among as many partitions as workers.
fn side(job: IntervalJoin, side: u64) -> IterSource<impl Iterator<Item = Event> + Send + 'static> {
    let peers = job.workers as u32;
    iterate_partitions(peers, move |partition| {
        let (first, peers) = (side + 2 * u64::from(partition), 2 * u64::from(peers));
        let own = job.events.saturating_sub(first).div_ceil(peers);
        (0..own).map(move |k| event(first + k * peers, job.keys))
    })
}
