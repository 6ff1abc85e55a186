//! Aggregates over a whole stream, without keys: one value over everything seen so far.
//!
//! Emits by output mode: update (the value, when it has changed) or complete (the value at the end of every epoch). Keeps one
//! accumulator, on one worker; with several, each aggregates its own records first. Knows no lateness.

use std::panic::Location;
use std::time::Duration;

use super::emission::{Complete, Emit, OutputMode, TotalShape, Update};
use super::{Front, Grouping};
use crate::state::RunningState;
use crate::stream::{Chain, Unkeyed};
use crate::{Aggregate, Stream};

/// An aggregate over a whole stream without an output mode. Call [`update`](Self::update) or [`complete`](Self::complete)
/// on it.
#[must_use = "an aggregate needs an output mode: `.update()` or `.complete()`"]
pub struct TotalAggregate<T, P, A> {
    stream: Stream<T, P>,
    aggregate: A,
    location: &'static Location<'static>,
}

impl<T, P, A> std::fmt::Debug for TotalAggregate<T, P, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TotalAggregate")
            .field("aggregate", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Aggregates all records of the stream to one value. Shorter forms: [`count`](Self::count), [`sum`](Self::sum) and so
    /// on. By key it is [`key_by`](Self::key_by) first, by time [`window`](Self::window).
    ///
    /// Before the first record there is no value, and nothing is emitted: an aggregate is created from its first record.
    ///
    /// ```
    /// use tidemill::aggregate::{Count, Max};
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("totals");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..5u64)).aggregate((Count::new(), Max::of(|n: &u64| *n))).update().sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(5, 4)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn aggregate<A: Aggregate<In = T>>(self, aggregate: A) -> TotalAggregate<T, P, A> {
        TotalAggregate { stream: self, aggregate, location: Location::caller() }
    }
}

impl<T: Send + 'static, P: Chain<Out = T>, A: Aggregate<In = T>> TotalAggregate<T, P, A> {
    /// Emits the current value when it has changed.
    ///
    /// In micro-batch once per epoch; in continuous mode at once, or within `latency_budget` while sources have a backlog.
    ///
    /// After a restart from a checkpoint no value is emitted until it changes. So a table of these rows elsewhere must live as
    /// long as the checkpoint, or be rebuilt from the sink's output.
    ///
    /// Its rows are [upserts](crate::RowKind), which not every operator takes.
    pub fn update(self) -> Stream<A::Out> {
        self.build::<Update>(Emit::Update { every: None })
    }

    /// As [`update`](Self::update), but in continuous mode at most once per `every` (processing time) after a change, and at
    /// the end of each epoch (see `Options::checkpoint_interval`).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("how many");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..5u64)).count().update_every(Duration::from_secs(1)).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [5]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn update_every(self, every: Duration) -> Stream<A::Out> {
        self.build::<Update>(Emit::Update { every: Some(every) })
    }

    /// Emits the value at the end of every epoch, changed or not. Its rows are [snapshots](crate::RowKind).
    pub fn complete(self) -> Stream<A::Out> {
        self.build::<Complete>(Emit::Complete)
    }

    fn build<O: OutputMode>(self, emit: Emit) -> Stream<A::Out> {
        let port = Grouping {
            port: self.stream.port,
            front: Front { chain: self.stream.chain, keying: Unkeyed },
            steps: self.stream.steps,
            aggregate: self.aggregate,
            state: RunningState::<(), A, O::Mark>::new,
            local_state: RunningState::<(), A, ()>::new,
            emit,
            op: "aggregate",
            window: String::new(),
            settings: Vec::new(),
            location: self.location,
        }
        .build::<RunningState<(), A, O::Mark>, RunningState<(), A, ()>, TotalShape<O>>();
        Stream::at(port)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{EpochInput, numbers, operator_of, three_phases};
    use crate::{EventTime, Graph, Mode, hash_key};

    #[test]
    fn totals_do_not_depend_on_restarts() {
        let epochs = [vec![1u64, 2], vec![], vec![3], vec![4, 5, 6]]
            .map(|rows| EpochInput::until(EventTime::MIN).by_key(0, rows, |_| hash_key(&())));
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            let graph = Graph::new("totals");
            let sum = |graph: &Graph| numbers(graph, 0).sum(|n| *n);
            let changed = [vec![3u64], vec![], vec![6], vec![21]];
            three_phases(mode, &epochs, operator_of(sum(&graph).update()), |it| it.take::<u64>(0), &changed);
            let whole = [vec![3u64], vec![3], vec![6], vec![21]];
            three_phases(mode, &epochs, operator_of(sum(&graph).complete()), |it| it.take::<u64>(0), &whole);
        }
    }
}
