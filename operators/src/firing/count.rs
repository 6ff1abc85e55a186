//! Windows of a number of records for each key.
//!
//! Output 0: the result of each window that is complete. State: `count`, how many records each key has had, and `panes`, their
//! accumulators. No record is late.

use std::panic::Location;

use serde::{Deserialize, Serialize};

use crate::aggregate::kept;
use crate::arrival;
use crate::build::{Dealt, KeepsTime, StatefulOperator, Takes, To};
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::named::{HashedKey, MapState, States, ValueState};
use crate::stream::{Keying, Unkeyed};
use crate::{Aggregate, Data, Key, KeyedStream, OperatorError, Stream};

/// A stream divided into windows of a number of records. Call an aggregate on it.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct CountedStream<K, V, P, Y> {
    keyed: KeyedStream<K, V, P, Y>,
    windows: Counts,
    location: &'static Location<'static>,
}

impl<K, V, P, Y> std::fmt::Debug for CountedStream<K, V, P, Y> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountedStream").field("windows", &self.windows).finish_non_exhaustive()
    }
}

/// An aggregate over such windows without an output mode. Call [`append`](Self::append) on it.
#[must_use = "an aggregate needs an output mode: `.append()`"]
pub struct CountedAggregate<K, V, P, Y, A> {
    windows: CountedStream<K, V, P, Y>,
    aggregate: A,
}

impl<K, V, P, Y, A> std::fmt::Debug for CountedAggregate<K, V, P, Y, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountedAggregate").field("windows", &self.windows).finish_non_exhaustive()
    }
}

/// The result of a count window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CountResult<K, V> {
    /// The key.
    pub key: K,
    /// The number of the window among those of the key, from 0.
    pub number: u64,
    /// The aggregate over the window's records.
    pub value: V,
}

/// Windows of `size` records, one ending every `slide`.
#[derive(Clone, Copy, Debug)]
struct Counts {
    size: u64,
    slide: u64,
}

impl Counts {
    /// The pane of a record, by its number: the number of its first record. Panes begin where a window begins or ends.
    fn pane(self, record: u64) -> u64 {
        let slide = self.slide.max(1);
        let last_end = record / slide * slide;
        // Windows begin `size` records before a multiple of the slide.
        let phase = (slide - self.size % slide) % slide;
        let last_start = if record >= phase { phase + (record - phase) / slide * slide } else { 0 };
        last_end.max(last_start)
    }

    fn problem(self) -> Option<String> {
        if self.size == 0 || self.slide == 0 {
            return Some(
                "a count window has at least 1 record, and so does its slide: both must be greater than zero"
                    .to_owned(),
            );
        }
        (self.slide > self.size).then(|| {
            format!(
                "the slide of {} records is longer than the window of {}: records between two windows would be lost; make the \
                 slide at most the window size, or filter these records out before",
                self.slide, self.size
            )
        })
    }

    fn describe(self) -> String {
        match self.slide == self.size {
            true => format!("{} records", self.size),
            false => format!("{} records every {}", self.size, self.slide),
        }
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Divides the records of each key into windows of `size` records, in the order in which they arrive.
    ///
    /// A window emits when its last record arrives; one that is not complete at the end of the input emits nothing. With
    /// [`every`](CountedStream::every) windows overlap. The stream needs no event time; results have that of their window's last
    /// record.
    ///
    /// The records of one partition of a source arrive in their order; those of several mix in another order in each run, and so the
    /// windows of a key whose records come from several partitions differ between runs.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("averages of three");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([10i64, 20, 30, 40, 50, 60, 70]))
    ///     .key_by(|_| "a".to_owned())
    ///     .count_window(3)
    ///     .average(|price| *price as f64)
    ///     .append()
    ///     .map(|row| (row.number, row.value))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(0, 20.0), (1, 50.0)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn count_window(self, size: u64) -> CountedStream<K, V, P, Y> {
        CountedStream { keyed: self, windows: Counts { size, slide: size }, location: Location::caller() }
    }
}

impl<T: Data, P: Chain<Out = T>> Stream<T, P> {
    /// Divides all records into windows of `size` records, without keys, as [`KeyedStream::count_window`] does.
    ///
    /// One worker has all windows. Records of several partitions arrive in any order.
    #[track_caller]
    pub fn count_window(self, size: u64) -> CountedStream<(), T, P, Unkeyed> {
        let location = Location::caller();
        let windows = Counts { size, slide: size };
        CountedStream { keyed: self.unkeyed(location), windows, location }
    }
}

impl<K, V, P, Y> CountedStream<K, V, P, Y> {
    /// Has a window end every `slide` records of a key, with the last `size` records, or fewer at the beginning.
    ///
    /// It is Flink's `countWindow(size, slide)`.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("the last three");
    /// let (sink, table) = memory_sink();
    /// let prices = graph.source(memory([10i64, 20, 30, 40])).key_by(|_| "a".to_owned());
    /// prices.count_window(3).every(1).sum(|price| *price).append().map(|row| row.value).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [10, 30, 60, 90]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn every(mut self, slide: u64) -> Self {
        self.windows.slide = slide;
        self
    }

    /// Aggregates the records of each window.
    ///
    /// [`count`](Self::count), [`sum`](Self::sum) and others are shorter forms.
    pub fn aggregate<A: Aggregate<In = V>>(self, aggregate: A) -> CountedAggregate<K, V, P, Y, A> {
        CountedAggregate { windows: self, aggregate }
    }
}

impl<K, V, P, Y, A> CountedAggregate<K, V, P, Y, A>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    A: Aggregate<In = V>,
{
    /// Emits each window once, when its last record arrives.
    pub fn append(self) -> Stream<CountResult<K, A::Out>, FromEdge<CountResult<K, A::Out>, P::Time>> {
        let CountedStream { keyed, windows, location } = self.windows;
        let aggregate = self.aggregate;
        let graph = keyed.port.graph.clone();
        let mut operator = graph
            .operator("count_window")
            .at(location)
            .keyed_stream(keyed)
            .setting("window", windows.describe())
            .setting("aggregate", aggregate.describe());
        if let Some(problem) = windows.problem().or_else(|| aggregate.problem()) {
            operator = operator.problem(problem);
        }
        operator.stateful(move |_| Counted {
            windows,
            aggregate: aggregate.clone(),
            count: ValueState::new(),
            panes: MapState::new(),
            marker: std::marker::PhantomData::<fn() -> P::Time>,
        })
    }
}

struct Counted<K: Key, A: Aggregate, M> {
    windows: Counts,
    aggregate: A,
    /// How many records a key has had.
    count: ValueState<K, u64>,
    /// The accumulators, by the number of their first record.
    panes: MapState<K, u64, A::Acc>,
    marker: std::marker::PhantomData<fn() -> M>,
}

impl<K: Key, A: Aggregate<In: Data>, M: TimeDomain> Counted<K, A, M> {
    /// The result of the window that ends before that record.
    fn result(&self, key: HashedKey<'_, K>, end: u64) -> Option<A::Out> {
        let mut panes = self.panes.range(key, end.saturating_sub(self.windows.size)..).map(|(_, acc)| acc);
        let first = panes.next()?;
        let Some(second) = panes.next() else { return Some(self.aggregate.finish(first)) };
        let mut whole = first.clone();
        std::iter::once(second).chain(panes).for_each(|acc| self.aggregate.merge(&mut whole, acc.clone()));
        Some(self.aggregate.finish_owned(whole))
    }

    fn add(&mut self, row: &Dealt<K, A::In>, to: &mut To<'_, Self>) {
        let (key, Counts { size, slide }) = (row.hashed(), self.windows);
        let count = self.count.get_or_insert_with(key, || 0);
        let number = *count;
        *count += 1;
        let end = *count;
        let pane = self.windows.pane(number);
        if let Some(acc) = self.panes.get_mut(key, &pane) {
            kept::add(&self.aggregate, acc, &row.value);
        } else {
            self.panes.insert(key, pane, kept::create(&self.aggregate, &row.value));
        }
        if !end.is_multiple_of(slide) {
            return;
        }
        if let Some(value) = self.result(key, end) {
            let result = CountResult { key: row.key.clone(), number: end / slide - 1, value };
            to.out.0.push(row.time, result);
        }
        let over = (end + slide).saturating_sub(size);
        self.panes.retain_range(key, ..over, |_, _| false);
    }
}

impl<K: Key, A: Aggregate<In: Data>, M: TimeDomain> StatefulOperator for Counted<K, A, M> {
    type Key = K;
    type Outputs = (KeepsTime<CountResult<K, A::Out>, M>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("count", &mut self.count);
        states.add("panes", &mut self.panes);
    }
}

impl<K: Key, A: Aggregate<In: Data>, M: TimeDomain> Takes<0> for Counted<K, A, M> {
    type Row = Dealt<K, A::In>;

    fn take(
        &mut self,
        rows: std::vec::Drain<'_, Self::Row>,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        if A::ORDERED {
            arrival::enter(to.split().2, None, true);
        }
        rows.as_slice().iter().for_each(|row| self.add(row, to));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn pane_begins_where_a_window_begins_or_ends() {
        for (size, slide) in [(3, 3), (4, 2), (5, 2), (7, 3), (5, 1), (1, 1)] {
            let windows = Counts { size, slide };
            let is_edge = |n: u64| n.is_multiple_of(slide) || (n + size).is_multiple_of(slide);
            for record in 0..60 {
                let first = (0..=record).rev().find(|n| is_edge(*n)).unwrap();
                assert_eq!(windows.pane(record), first, "{size}/{slide}: {record}");
            }
        }
    }

    #[test]
    fn definition_that_cannot_work_has_a_problem() {
        let problem = |size, slide| Counts { size, slide }.problem();
        assert_eq!(problem(3, 3), None);
        assert!(problem(0, 0).unwrap().contains("greater than zero"));
        assert!(problem(3, 0).unwrap().contains("greater than zero"));
        assert!(problem(3, 4).unwrap().contains("would be lost"));
    }
}
