//! `update_state_by_key`: one value of state for each key, all of which are visited in each epoch.
//!
//! Emits, at the end of each epoch, the state of every key: a snapshot. State: the value of each key, until the function sets it to none.
//! Late rows count like all others.

use std::panic::Location;
use std::sync::Arc;
use std::vec::Drain;

use super::gathered::{Gathered, Group};
use crate::build::{Dealt, Snapshots, StatefulOperator, Takes, To};
use crate::chain::Chain;
use crate::named::{HashedKey, States, ValueState};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, OperatorError, Stream};

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Updates the state of every key at the end of each epoch, and emits all of it.
    ///
    /// The function is called for each key that has a state or got rows in the epoch: with its rows, in the order in which they came,
    /// and its state, which is none for a new key. A function that sets it to none removes the key. The result is a
    /// [snapshot](crate::RowKind::Snapshot): the rows of an epoch replace those of the one before.
    ///
    /// It is Spark's `updateStateByKey`, and costs as much: work for every key in each epoch.
    /// [`map_with_state`](Self::map_with_state) is called for rows only. In continuous mode an epoch ends with each checkpoint.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("scores");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([("ann", 3u64), ("bob", 1), ("ann", 2)].map(|(name, points)| (name.to_owned(), points))))
    ///     .key_by(|score| score.0.clone())
    ///     .update_state_by_key(|_, scores, sum: &mut Option<u64>| {
    ///         *sum = Some(sum.unwrap_or(0) + scores.iter().map(|score| score.1).sum::<u64>());
    ///     })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut sums = table.snapshot();
    /// sums.sort();
    /// assert_eq!(sums, [("ann".to_owned(), 5), ("bob".to_owned(), 1)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn update_state_by_key<S, F>(self, function: F) -> Stream<(K, S)>
    where
        S: Data + Clone,
        F: Fn(&K, Vec<V>, &mut Option<S>) + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        self.into_process(Location::caller()).named("update_state_by_key").stateful(move |_| UpdateByKey {
            state: ValueState::new(),
            rows: Gathered::new(),
            function: Arc::clone(&function),
        })
    }
}

struct UpdateByKey<K, V, S, F> {
    /// None only while the function is called.
    state: ValueState<K, Option<S>>,
    rows: Gathered<K, V>,
    function: Arc<F>,
}

impl<K, V, S, F> UpdateByKey<K, V, S, F>
where
    K: Key,
    V: Data,
    S: Data + Clone,
    F: Fn(&K, Vec<V>, &mut Option<S>) + Send + Sync + 'static,
{
    fn update(&mut self, key: HashedKey<'_, K>, rows: Vec<V>, to: &mut To<'_, Self>) {
        let state = self.state.get_or_insert_with(key, || None);
        (self.function)(key.key, rows, state);
        match state {
            Some(state) => to.out.0.push((key.cloned(), state.clone())),
            None => drop(self.state.remove(key)),
        }
    }
}

impl<K, V, S, F> StatefulOperator for UpdateByKey<K, V, S, F>
where
    K: Key,
    V: Data,
    S: Data + Clone,
    F: Fn(&K, Vec<V>, &mut Option<S>) + Send + Sync + 'static,
{
    type Key = K;
    type Outputs = (Snapshots<(K, S)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("state", &mut self.state);
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let known: Vec<K> = self.state.iter().map(|(key, _)| key.clone()).collect();
        for key in &known {
            let key = HashedKey::of(key);
            let rows = self.rows.take(key);
            self.update(key, rows, to);
        }
        for Group { hash, key, rows, .. } in self.rows.take_all() {
            self.update(HashedKey { hash, key: &key }, rows, to);
        }
        Ok(())
    }
}

impl<K, V, S, F> Takes<0> for UpdateByKey<K, V, S, F>
where
    K: Key,
    V: Data,
    S: Data + Clone,
    F: Fn(&K, Vec<V>, &mut Option<S>) + Send + Sync + 'static,
{
    type Row = Dealt<K, V>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        rows.for_each(|row| self.rows.push(row));
        Ok(())
    }
}
