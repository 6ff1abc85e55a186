//! Aggregates over all records of a key so far.
//!
//! Emits by output mode: update (each changed value) or complete (the whole table). Keeps one accumulator per key, for
//! ever. No record is late.

use std::panic::Location;
use std::time::Duration;

use super::emission::{Complete, Emit, OutputMode, RunningShape, Update};
use super::{Front, Grouping};
use crate::state::RunningState;
use crate::stream::{Chain, KeyedStream, Keying};
use crate::{Aggregate, Key, Stream};

/// An aggregate by key without an output mode. Call [`update`](Self::update) or [`complete`](Self::complete) on it.
#[must_use = "an aggregate needs an output mode: `.update()` or `.complete()`"]
pub struct RunningAggregate<K, V, P, Y, A> {
    keyed: KeyedStream<K, V, P, Y>,
    aggregate: A,
    location: &'static Location<'static>,
}

impl<K, V, P, Y, A> std::fmt::Debug for RunningAggregate<K, V, P, Y, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningAggregate")
            .field("aggregate", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Send + 'static,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Aggregates all records of each key.
    ///
    /// [`count`](Self::count), [`sum`](Self::sum) and others are shorter forms.
    ///
    /// ```
    /// use tidemill::aggregate::{Count, Sum};
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("totals");
    /// let (sink, table) = memory_sink();
    /// let numbers = graph.source(memory(0..5u64));
    /// numbers.key_by(|n| n % 2).aggregate((Count::new(), Sum::of(|n: &u64| *n))).update().sink(sink);
    /// graph.run(Options::default())?;
    /// let mut rows = table.snapshot();
    /// rows.sort();
    /// assert_eq!(rows, [(0, (3, 6)), (1, (2, 4))]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn aggregate<A: Aggregate<In = V>>(self, aggregate: A) -> RunningAggregate<K, V, P, Y, A> {
        RunningAggregate { keyed: self, aggregate, location: Location::caller() }
    }
}

impl<K, V, P, Y, A> RunningAggregate<K, V, P, Y, A>
where
    K: Key,
    V: Send + 'static,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    A: Aggregate<In = V>,
{
    /// Emits each key that has changed, with its current value.
    ///
    /// In micro-batch it emits once per epoch; in continuous mode at once, or within `latency_budget` while sources
    /// have a backlog.
    ///
    /// After a restart from a checkpoint no value is emitted until it changes. So a table of these rows elsewhere must live as
    /// long as the checkpoint, or be rebuilt from the sink's output.
    ///
    /// Its rows are [upserts](crate::RowKind), which not every operator takes.
    pub fn update(self) -> Stream<(K, A::Out)> {
        self.build::<Update>(Emit::Update { every: None })
    }

    /// Emits each key that has changed, in continuous mode at most once per `every`.
    ///
    /// `every` is processing time. In continuous mode changed keys are also emitted at the end of each epoch (see
    /// `Options::checkpoint_interval`). In micro-batch it emits as [`update`](Self::update) does.
    pub fn update_every(self, every: Duration) -> Stream<(K, A::Out)> {
        self.build::<Update>(Emit::Update { every: Some(every) })
    }

    /// Emits the whole table at the end of every epoch. Its rows are [snapshots](crate::RowKind).
    pub fn complete(self) -> Stream<(K, A::Out)> {
        self.build::<Complete>(Emit::Complete)
    }

    fn build<O: OutputMode>(self, emit: Emit) -> Stream<(K, A::Out)> {
        let port = Grouping {
            port: self.keyed.port,
            front: Front { chain: self.keyed.chain, keying: self.keyed.keying },
            steps: self.keyed.steps,
            aggregate: self.aggregate,
            state: RunningState::<K, A, O::Mark>::new,
            local_state: RunningState::<K, A, ()>::new,
            emit,
            op: "aggregate",
            window: String::new(),
            settings: Vec::new(),
            location: self.location,
        }
        .build::<RunningState<K, A, O::Mark>, RunningState<K, A, ()>, RunningShape<O>>();
        Stream::at(port)
    }
}
