//! `limit`: the first rows of a stream, and no others.
//!
//! Each worker passes its first rows on, and one worker counts those of all. Emits a row at once, with the event time that it has.
//! State: how many rows have passed. Late rows are rows like others.

use std::marker::PhantomData;
use std::panic::Location;
use std::vec::Drain;

use crate::build::{KeepsTime, StatefulOperator, Takes, To};
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::named::{SharedState, States};
use crate::{Data, EventTime, OperatorError, Stream};

impl<T: Data, P: Chain<Out = T>> Stream<T, P> {
    /// Passes the first `rows` rows and drops all others.
    ///
    /// The number is exact with any number of workers, in both modes and across restarts. Which rows are the first ones is
    /// chance if several workers read them. The query runs until its sources end.
    ///
    /// All rows that pass go through one worker. A restart may change the number: rows that have passed count.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("a look at the first ones");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..1_000_000u64)).limit(3).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 1, 2]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn limit(self, rows: u64) -> Stream<T, FromEdge<T, P::Time>> {
        let (graph, location) = (self.graph(), Location::caller());
        let first = graph.operator("limit_per_worker").local(self).at(location);
        let first = first.stateful(move |_| OfWorker::<T, P::Time> { left: rows, rows: PhantomData });
        let limit = graph.operator("limit").single(first).at(location);
        limit.stateful(move |_| Limit::<T, P::Time> {
            limit: rows,
            passed: SharedState::new(),
            rows: PhantomData,
        })
    }
}

/// Input 0: rows. Output 0: the first ones of this worker and run, of which there are as many as may pass in all.
struct OfWorker<T, M> {
    /// How many more. No state: after a restart more rows pass here, which are not too many behind.
    left: u64,
    rows: PhantomData<fn() -> (T, M)>,
}

impl<T: Data, M: TimeDomain> StatefulOperator for OfWorker<T, M> {
    type Key = ();
    type Outputs = (KeepsTime<T, M>,);
}

impl<T: Data, M: TimeDomain> Takes<0> for OfWorker<T, M> {
    type Row = (EventTime, T);

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for (time, row) in rows.take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
            self.left -= 1;
            to.out.0.push(time, row);
        }
        Ok(())
    }
}

/// Input 0: rows. Output 0: those that pass.
struct Limit<T, M> {
    limit: u64,
    /// One entry, or none before the first row.
    passed: SharedState<(), u64>,
    rows: PhantomData<fn() -> (T, M)>,
}

impl<T: Data, M: TimeDomain> StatefulOperator for Limit<T, M> {
    type Key = ();
    type Outputs = (KeepsTime<T, M>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("passed", &mut self.passed);
    }
}

impl<T: Data, M: TimeDomain> Takes<0> for Limit<T, M> {
    type Row = (EventTime, T);

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let mut passed = self.passed.get(&()).copied().unwrap_or(0);
        let left = self.limit.saturating_sub(passed);
        if left == 0 {
            return Ok(());
        }
        for (time, row) in rows.take(usize::try_from(left).unwrap_or(usize::MAX)) {
            passed += 1;
            to.out.0.push(time, row);
        }
        self.passed.insert((), passed);
        Ok(())
    }
}
