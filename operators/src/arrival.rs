//! In which order records have arrived, for aggregates whose result depends on it.
//!
//! A window may be put together from several accumulators: panes, parts of sessions, what several workers have aggregated.
//! So an aggregate that is in order ([`Aggregate::ORDERED`](crate::Aggregate::ORDERED)) divides each accumulator into *runs*:
//! records that have arrived one after the other without one for another place between them. Runs are numbered as they
//! begin, merged by number, and kept apart until the result is asked for.
//!
//! The invariant: the runs of the records of one partition and key never decrease. Between partitions there is no order.
//! So a record continues the run of its place, unless its partition has been somewhere with a higher one since. The number
//! begins with the epoch, so that it increases over restarts, and ends with the worker, so that no two share one.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use crate::Context;

/// The number of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    epoch: u64,
    number: u64,
}

/// The bits of a run's number that name the worker.
const WORKER_BITS: u32 = 16;

impl Run {
    /// The only run where a key's records are all in one place.
    pub(crate) const ONLY: Run = Run { epoch: 0, number: 0 };

    /// Whether the run began before the epoch.
    pub(crate) fn is_before(self, epoch: u64) -> bool {
        self.epoch < epoch
    }
}

/// What arrives on this thread.
struct Arrival {
    epoch: Cell<u64>,
    worker: Cell<u64>,
    /// The partition; none for what was aggregated elsewhere.
    origin: Cell<Option<u32>>,
    /// The run of the place that records go to; none where each accumulator continues its own.
    run: Cell<Option<Run>>,
    /// How many runs have begun on this thread.
    begun: Cell<u64>,
}

thread_local! {
    static NOW: Arrival = const {
        Arrival {
            epoch: Cell::new(0),
            worker: Cell::new(0),
            origin: Cell::new(None),
            run: Cell::new(Some(Run::ONLY)),
            begun: Cell::new(0),
        }
    };
}

/// A batch begins, of a partition or, if there is none, of what was aggregated elsewhere. Where a key's records are all in one
/// place, they are one run.
pub(crate) fn enter(context: &Context, origin: Option<u32>, is_one_place: bool) {
    NOW.with(|now| {
        now.epoch.set(context.epoch().number());
        now.worker.set(context.worker() as u64);
        now.origin.set(origin);
        now.run.set(is_one_place.then_some(Run::ONLY));
    });
}

/// The epoch of the batch.
pub(crate) fn epoch() -> u64 {
    NOW.with(|now| now.epoch.get())
}

/// The partition of the batch.
#[inline]
pub(crate) fn origin() -> Option<u32> {
    NOW.with(|now| now.origin.get())
}

/// The run of the place that records go to.
#[inline]
pub(crate) fn run() -> Option<Run> {
    NOW.with(|now| now.run.get())
}

/// From now on records go to a place with this run.
pub(crate) fn set_run(run: Run) {
    NOW.with(|now| now.run.set(Some(run)));
}

/// Begins a run.
pub(crate) fn begin() -> Run {
    NOW.with(|now| {
        let begun = now.begun.get() + 1;
        now.begun.set(begun);
        Run { epoch: now.epoch.get(), number: begun << WORKER_BITS | now.worker.get() }
    })
}
