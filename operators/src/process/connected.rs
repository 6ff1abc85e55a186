//! A function of the user over two keyed streams, with state that both share.

use std::panic::Location;
use std::vec::Drain;

use either::Either;

use super::CoContext;
use super::context::{CloseContext, KeyContext};
use super::failure::{Divert, FailQuery, Failed, OnFailure, ProcessResult};
use super::runner::{Function, Runner};
use crate::build::{ByKey, Dealt, OperatorBuilder, Outputs, Takes, To};
use crate::chain::Chain;
use crate::named::{States, Timer};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, OperatorError, Stream};

/// A function over the rows of two keyed streams, with state and timers that both share: what [`Connected::process`] takes.
///
/// It is a [`ProcessFunction`](super::ProcessFunction) with two inputs. Rows of both sides mix in any order, and another one when an
/// epoch is replayed: an answer may well come before its question. So keep whatever comes first, and emit once both have come.
///
/// The idea is Flink's `KeyedCoProcessFunction`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function of two streams",
    note = "implement `CoProcessFunction` for it, with the key of the streams as `Key` and their rows as `Left` and `Right`"
)]
pub trait CoProcessFunction: Sized + 'static {
    /// The key of both streams.
    type Key: Key;
    /// The rows of the left stream, on which `connect` was called.
    type Left: Data;
    /// The rows of the right stream.
    type Right: Data;
    /// The outputs, as those of a [`ProcessFunction`](super::ProcessFunction::Outputs).
    type Outputs: Outputs;

    /// As [`ProcessFunction::state`](super::ProcessFunction::state).
    fn state(&mut self, _states: &mut States<'_>) {}

    /// Takes a row of the left stream.
    ///
    /// # Errors
    ///
    /// An error fails the query, or sends the row to the side output of [`process_with_failed`](Connected::process_with_failed).
    fn on_left(&mut self, row: Self::Left, cx: &mut CoContext<'_, Self>) -> ProcessResult;

    /// Takes a row of the right stream.
    ///
    /// # Errors
    ///
    /// As [`on_left`](Self::on_left).
    fn on_right(&mut self, row: Self::Right, cx: &mut CoContext<'_, Self>) -> ProcessResult;

    /// As [`ProcessFunction::on_timer`](super::ProcessFunction::on_timer).
    ///
    /// # Errors
    ///
    /// As [`on_left`](Self::on_left).
    fn on_timer(&mut self, _timer: Timer, _cx: &mut CoContext<'_, Self>) -> ProcessResult {
        Ok(())
    }

    /// As [`ProcessFunction::on_close`](super::ProcessFunction::on_close).
    ///
    /// # Errors
    ///
    /// An error fails the query.
    fn on_close(&mut self, _cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        Ok(())
    }
}

/// Two keyed streams that a function will process: see [`KeyedStream::connect`].
#[must_use = "connected streams do nothing until a function processes them: `.process(…)`"]
pub struct Connected<K, L, R> {
    inputs: OperatorBuilder<(ByKey<K, L>, ByKey<K, R>)>,
}

impl<K, L, R> std::fmt::Debug for Connected<K, L, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("key", &std::any::type_name::<K>()).finish_non_exhaustive()
    }
}

impl<K, L, P, Y> KeyedStream<K, L, P, Y>
where
    K: Key,
    L: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = L>,
{
    /// Puts two streams with the same type of key side by side, for a function that takes the rows of both.
    ///
    /// ```
    /// use tidemill::operator::{Rows, States, ValueState};
    /// use tidemill::prelude::*;
    /// use tidemill::process::{CoContext, CoProcessFunction, ProcessResult};
    ///
    /// /// Emits orders whose customer is known.
    /// struct WithCustomer {
    ///     name: ValueState<u32, String>,
    ///     waiting: ValueState<u32, u64>,
    /// }
    ///
    /// impl CoProcessFunction for WithCustomer {
    ///     type Key = u32;
    ///     type Left = (u32, u64);
    ///     type Right = (u32, String);
    ///     type Outputs = (Rows<(String, u64)>,);
    ///
    ///     fn state(&mut self, states: &mut States<'_>) {
    ///         states.add("name", &mut self.name);
    ///         states.add("waiting", &mut self.waiting);
    ///     }
    ///
    ///     fn on_left(&mut self, order: (u32, u64), cx: &mut CoContext<'_, Self>) -> ProcessResult {
    ///         match self.name.get(cx.key) {
    ///             Some(name) => cx.out.0.push((name.clone(), order.1)),
    ///             None => drop(self.waiting.insert(cx.key, order.1)),
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn on_right(&mut self, customer: (u32, String), cx: &mut CoContext<'_, Self>) -> ProcessResult {
    ///         if let Some(amount) = self.waiting.remove(cx.key) {
    ///             cx.out.0.push((customer.1.clone(), amount));
    ///         }
    ///         self.name.insert(cx.key, customer.1);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let graph = Graph::new("orders of customers");
    /// let orders = graph.source(memory([(1u32, 30u64), (2, 40)])).key_by(|order| order.0);
    /// let customers = graph.source(memory([(1u32, "ann".to_owned())])).key_by(|customer| customer.0);
    /// let (sink, table) = memory_sink();
    /// orders
    ///     .connect(customers)
    ///     .process(|| WithCustomer { name: ValueState::new(), waiting: ValueState::new() })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [("ann".to_owned(), 30)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn connect<R, Q, Z>(self, right: KeyedStream<K, R, Q, Z>) -> Connected<K, L, R>
    where
        R: Data,
        Q: Chain,
        Z: Keying<Q::Out, Key = K, Value = R>,
    {
        let graph = self.port.graph.clone();
        let inputs = graph.operator("connect").keyed_stream(self).keyed_stream(right);
        Connected { inputs: inputs.at(Location::caller()) }
    }
}

impl<K: Key, L: Data, R: Data> Connected<K, L, R> {
    /// Processes the rows of both streams with a function. `make` makes an instance for each worker, and one more, from which the
    /// graph learns its states.
    ///
    /// Returns a stream for each output, in a tuple; for one output just that.
    #[track_caller]
    pub fn process<F, M>(self, make: M) -> <F::Outputs as Outputs>::Streams
    where
        F: CoProcessFunction<Key = K, Left = L, Right = R>,
        M: Fn() -> F + Send + Sync + 'static,
    {
        let inputs = self.inputs.at(Location::caller()).named("process");
        inputs.stateful(move |_| Runner::<_, FailQuery>::new(Two(make()), None))
    }

    /// As [`process`](Self::process); calls that return an error do not fail the query, but leave by a stream of their own.
    #[track_caller]
    pub fn process_with_failed<F, M>(
        self,
        make: M,
    ) -> (<F::Outputs as Outputs>::Streams, Stream<Failed<K, Either<L, R>>>)
    where
        F: CoProcessFunction<Key = K, Left = L, Right = R>,
        M: Fn() -> F + Send + Sync + 'static,
        L: Clone,
        R: Clone,
    {
        let inputs = self.inputs.at(Location::caller()).named("process");
        inputs.stateful(move |_| Runner::<_, Divert>::new(Two(make()), None))
    }
}

/// A [`CoProcessFunction`] as the operator calls it.
struct Two<F>(F);

impl<F: CoProcessFunction> Function for Two<F> {
    type Key = F::Key;
    type Row = Either<F::Left, F::Right>;
    type Outputs = F::Outputs;

    fn state(&mut self, states: &mut States<'_>) {
        self.0.state(states);
    }

    #[inline]
    fn on_row(&mut self, row: Self::Row, cx: &mut KeyContext<'_, F::Key, F::Outputs>) -> ProcessResult {
        match row {
            Either::Left(row) => self.0.on_left(row, cx),
            Either::Right(row) => self.0.on_right(row, cx),
        }
    }

    #[inline]
    fn on_timer(&mut self, timer: Timer, cx: &mut KeyContext<'_, F::Key, F::Outputs>) -> ProcessResult {
        self.0.on_timer(timer, cx)
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, F::Outputs>) -> ProcessResult {
        self.0.on_close(cx)
    }
}

impl<F, P> Takes<0> for Runner<Two<F>, P>
where
    F: CoProcessFunction,
    P: OnFailure<F::Key, Either<F::Left, F::Right>, F::Outputs>,
{
    type Row = Dealt<F::Key, F::Left>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.rows(rows, to, Either::Left)
    }
}

impl<F, P> Takes<1> for Runner<Two<F>, P>
where
    F: CoProcessFunction,
    P: OnFailure<F::Key, Either<F::Left, F::Right>, F::Outputs>,
{
    type Row = Dealt<F::Key, F::Right>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.rows(rows, to, Either::Right)
    }
}
