//! State that a process function has before its first row.

use std::panic::Location;
use std::sync::Arc;

use super::failure::{Divert, FailQuery, Failed, ProcessResult};
use super::function::One;
use super::runner::{CallInitial, Initial, Runner};
use super::{InitialState, KeyContext};
use crate::build::Outputs;
use crate::chain::Chain;
use crate::named::HashedKey;
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, OperatorError, Stream};

/// A keyed stream with the state that the function which processes it begins with: see [`KeyedStream::with_initial_state`].
#[must_use = "an initial state does nothing until a function processes the stream: `.process(…)`"]
pub struct WithInitialState<K, V, P, Y, S> {
    stream: KeyedStream<K, V, P, Y>,
    states: Vec<(K, S)>,
}

impl<K, V, P, Y, S> std::fmt::Debug for WithInitialState<K, V, P, Y, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WithInitialState").field("keys", &self.states.len()).finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key + Sync,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Gives the function that processes the stream a state for some keys, before its first row.
    ///
    /// The function takes it in [`InitialState::on_initial`], in the first epoch of the query. A query that resumes has its state in
    /// the checkpoint, and does not take the initial one again. A key may come more than once; the order stays.
    ///
    /// ```
    /// use tidemill::operator::{Rows, States, ValueState};
    /// use tidemill::prelude::*;
    /// use tidemill::process::{InitialState, ProcessContext, ProcessFunction, ProcessResult};
    ///
    /// struct Balance {
    ///     cents: ValueState<u32, i64>,
    /// }
    ///
    /// impl ProcessFunction for Balance {
    ///     type Key = u32;
    ///     type Row = (u32, i64);
    ///     type Outputs = (Rows<(u32, i64)>,);
    ///
    ///     fn state(&mut self, states: &mut States<'_>) {
    ///         states.add("cents", &mut self.cents);
    ///     }
    ///
    ///     fn on_record(&mut self, (account, amount): (u32, i64), cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
    ///         let balance = self.cents.get_or_insert_with(cx.key, || 0);
    ///         *balance += amount;
    ///         cx.out.0.push((account, *balance));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl InitialState for Balance {
    ///     type Initial = i64;
    ///
    ///     fn on_initial(&mut self, balance: i64, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
    ///         self.cents.insert(cx.key, balance);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let graph = Graph::new("balances");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(1u32, 5i64), (2, 7)]))
    ///     .key_by(|payment| payment.0)
    ///     .with_initial_state([(1, 100)])
    ///     .process(|| Balance { cents: ValueState::new() })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(1, 105), (2, 7)]);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn with_initial_state<S>(
        self,
        states: impl IntoIterator<Item = (K, S)>,
    ) -> WithInitialState<K, V, P, Y, S> {
        WithInitialState { stream: self, states: states.into_iter().collect() }
    }
}

impl<K, V, P, Y, S> WithInitialState<K, V, P, Y, S>
where
    K: Key + Sync,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
    S: Clone + Send + Sync + 'static,
{
    /// As [`KeyedStream::process`], with the initial state.
    #[track_caller]
    pub fn process<F, M>(self, make: M) -> <F::Outputs as Outputs>::Streams
    where
        F: InitialState<Key = K, Row = V, Initial = S>,
        M: Fn() -> F + Send + Sync + 'static,
    {
        let states: Arc<dyn Initial<One<F>>> = Arc::new(Given(self.states));
        let input = self.stream.into_process(Location::caller());
        input.stateful(move |_| Runner::<_, FailQuery>::new(One(make()), Some(Arc::clone(&states))))
    }

    /// As [`KeyedStream::process_with_failed`], with the initial state.
    #[track_caller]
    pub fn process_with_failed<F, M>(
        self,
        make: M,
    ) -> (<F::Outputs as Outputs>::Streams, Stream<Failed<K, V>>)
    where
        F: InitialState<Key = K, Row = V, Initial = S>,
        M: Fn() -> F + Send + Sync + 'static,
        V: Clone,
    {
        let states: Arc<dyn Initial<One<F>>> = Arc::new(Given(self.states));
        let input = self.stream.into_process(Location::caller());
        input.stateful(move |_| Runner::<_, Divert>::new(One(make()), Some(Arc::clone(&states))))
    }
}

/// States by key.
struct Given<K, S>(Vec<(K, S)>);

impl<F: InitialState<Key: Sync>> Initial<One<F>> for Given<F::Key, F::Initial> {
    fn load(
        &self,
        of_this_worker: &dyn Fn(u64) -> bool,
        with: &mut dyn FnMut(
            HashedKey<'_, F::Key>,
            &mut CallInitial<'_, One<F>>,
        ) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let keys = self.0.iter().map(|(key, state)| (HashedKey::of(key), state));
        for (key, state) in keys.filter(|(key, _)| of_this_worker(key.hash)) {
            let mut call = |function: &mut One<F>,
                            cx: &mut KeyContext<'_, F::Key, F::Outputs>|
             -> ProcessResult { function.0.on_initial(state.clone(), cx) };
            with(key, &mut call)?;
        }
        Ok(())
    }
}
