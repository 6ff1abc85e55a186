//! `map_with_state` and `flat_map_with_state`: a function with one value of state for each key. It is called for each row at once, and
//! never without one; late rows come like all others. State: the value of each key, until the function sets it to none.

use std::error::Error;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::failure::{Divert, FailQuery, Failed, OnFailure, ProcessResult};
use super::function::One;
use super::runner::Runner;
use super::{ProcessContext, ProcessFunction};
use crate::build::{KeepsTime, Outputs};
use crate::chain::{Chain, FromEdge, TimeDomain};
use crate::named::{States, ValueState};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, Row, Stream};

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Maps each row with a function that also has the state of the row's key.
    ///
    /// The state is none for a key that is new; a function that sets it to none removes it. Results keep the event time of their row.
    ///
    /// It is Flink's `mapWithState`, and Spark's without a timeout;
    /// [`map_groups_with_state`](Self::map_groups_with_state) has timeouts, and [`process`](Self::process) anything else.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("changes");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(1u32, 20i64), (2, 5), (1, 23)]))
    ///     .key_by(|reading| reading.0)
    ///     .map_with_state(|sensor, (_, celsius), last: &mut Option<i64>| {
    ///         let before = last.replace(celsius);
    ///         (*sensor, before.map_or(0, |before| celsius - before))
    ///     })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(1, 0), (2, 0), (1, 3)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn map_with_state<S, U, F>(self, function: F) -> Stream<U, FromEdge<U, P::Time>>
    where
        S: Data,
        U: Row,
        F: Fn(&K, V, &mut Option<S>) -> U + Send + Sync + 'static,
    {
        let function = move |key: &K, row: V, state: &mut Option<S>| Ok(Some(function(key, row, state)));
        self.with_state::<FailQuery, S, _, _>("map_with_state", Location::caller(), function)
    }

    /// As [`map_with_state`](Self::map_with_state), with a function that may fail. Rows that it returns an error for leave by the second
    /// stream.
    ///
    /// Each row is copied before the function gets it. The state is what the function has left.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("balances");
    /// let ((sink, balances), (refused_sink, refused)) = (memory_sink(), memory_sink());
    /// let payments = graph.source(memory([(1u32, 50i64), (1, -80), (1, -20)])).key_by(|payment| payment.0);
    /// let (paid, failed) = payments.try_map_with_state(|_, (_, amount), balance: &mut Option<i64>| {
    ///     let after = balance.unwrap_or(0) + amount;
    ///     if after < 0 {
    ///         return Err(format!("{} cents are missing", -after));
    ///     }
    ///     *balance = Some(after);
    ///     Ok(after)
    /// });
    /// paid.sink(sink);
    /// failed.map(|failed| failed.error).sink(refused_sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(balances.snapshot(), [50, 30]);
    /// assert_eq!(refused.snapshot(), ["30 cents are missing"]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn try_map_with_state<S, U, E, F>(
        self,
        function: F,
    ) -> (Stream<U, FromEdge<U, P::Time>>, Stream<Failed<K, V>>)
    where
        V: Clone,
        S: Data,
        U: Row,
        E: Into<Box<dyn Error + Send + Sync>>,
        F: Fn(&K, V, &mut Option<S>) -> Result<U, E> + Send + Sync + 'static,
    {
        let function = move |key: &K, row: V, state: &mut Option<S>| {
            function(key, row, state).map(Some).map_err(Into::into)
        };
        self.with_state::<Divert, S, _, _>("try_map_with_state", Location::caller(), function)
    }

    /// As [`map_with_state`](Self::map_with_state), with any number of results for each row.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("first of each");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([1u32, 1, 2, 1, 2]))
    ///     .key_by(|n| *n)
    ///     .flat_map_with_state(|_, n, seen: &mut Option<()>| seen.replace(()).is_none().then_some(n))
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [1, 2]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn flat_map_with_state<S, I, F>(self, function: F) -> Stream<I::Item, FromEdge<I::Item, P::Time>>
    where
        S: Data,
        I: IntoIterator<Item: Row> + 'static,
        F: Fn(&K, V, &mut Option<S>) -> I + Send + Sync + 'static,
    {
        let function = move |key: &K, row: V, state: &mut Option<S>| Ok(function(key, row, state));
        self.with_state::<FailQuery, S, _, _>("flat_map_with_state", Location::caller(), function)
    }

    fn with_state<X, S, I, F>(
        self,
        name: &'static str,
        location: &'static Location<'static>,
        function: F,
    ) -> <X::Outputs as Outputs>::Streams
    where
        X: OnFailure<K, V, (KeepsTime<I::Item, P::Time>,)>,
        S: Data,
        I: IntoIterator<Item: Row> + 'static,
        F: Fn(&K, V, &mut Option<S>) -> Result<I, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        self.into_process(location).named(name).stateful(move |_| {
            let (state, function) = (ValueState::new(), Arc::clone(&function));
            let function = WithState::<K, V, S, I, P::Time, F> { state, function, marker: PhantomData };
            Runner::<_, X>::new(One(function), None)
        })
    }
}

struct WithState<K: Key, V, S: Data, I, M, F> {
    /// None only while the function is called.
    state: ValueState<K, Option<S>>,
    function: Arc<F>,
    marker: PhantomData<fn(V) -> (I, M)>,
}

impl<K, V, S, I, M, F> ProcessFunction for WithState<K, V, S, I, M, F>
where
    K: Key,
    V: Data,
    S: Data,
    I: IntoIterator<Item: Row> + 'static,
    M: TimeDomain,
    F: Fn(&K, V, &mut Option<S>) -> Result<I, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
{
    type Key = K;
    type Row = V;
    type Outputs = (KeepsTime<I::Item, M>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("state", &mut self.state);
    }

    #[inline]
    fn on_record(&mut self, row: V, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let state = self.state.get_or_insert_with(cx.key, || None);
        let results = (self.function)(cx.key.key, row, state);
        if state.is_none() {
            self.state.remove(cx.key);
        }
        let time = cx.time();
        results?.into_iter().for_each(|result| cx.out.0.push(time, result));
        Ok(())
    }
}
