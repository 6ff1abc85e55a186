//! A function of the user over a keyed stream, with rules that a broadcast stream changes while it runs.
//!
//! Every worker has all rules. They pass through the first worker, which puts them in one order for all. In micro-batch the operator
//! buffers the keyed rows of an epoch until its rules have come; in continuous mode it takes both as they come.

use std::panic::Location;
use std::vec::Drain;

use super::BroadcastContext;
use super::context::{CloseContext, KeyContext};
use super::failure::{Divert, FailQuery, Failed, OnFailure, ProcessResult};
use super::runner::{Buffered, Function, Runner};
use crate::build::{ByKey, Dealt, OperatorBuilder, Outputs, Takes, To, Whole};
use crate::chain::{Chain, TimeDomain};
use crate::named::{SharedState, States, Timer, UserKey};
use crate::stream::Keying;
use crate::{Context, Data, Epoch, EventTime, Key, KeyedStream, Mode, OperatorError, ProcessingTime, Stream};

/// The rules of a [`BroadcastFunction`]: a sorted map, the same on every worker.
pub type Rules<F> = SharedState<<F as BroadcastFunction>::RuleKey, <F as BroadcastFunction>::RuleState>;

/// A function over the rows of a keyed stream, with rules that come on a broadcast stream: what [`ConnectedBroadcast::process`] takes.
///
/// It is a [`ProcessFunction`](super::ProcessFunction) that may also read [`Rules`], which only [`on_rule`](Self::on_rule) changes.
/// They are state: in the checkpoint, and on every worker after a restart.
///
/// **When a rule holds.** In micro-batch the rules of an epoch hold for all rows of the epoch: the function gets the rules first. For
/// that the rows of an epoch are buffered until it ends. In continuous mode a rule holds for the rows that come after it.
/// Rules that come from one partition come in its order. Those of several partitions mix, in the same order on each worker, but in
/// another one when an epoch is replayed.
///
/// **Watermark.** The watermark of the function is the least of both streams. A stream of rules that has event time and is silent
/// holds it, unless it has [`idle_after`](crate::Stream::idle_after). One without event time never holds it, and seldom needs one.
///
/// The idea is Flink's broadcast state pattern, `KeyedBroadcastProcessFunction`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function with rules",
    note = "implement `BroadcastFunction` for it, with the key of the stream as `Key`, its rows as `Row` and those of the rules as `Rule`"
)]
pub trait BroadcastFunction: Sized + 'static {
    /// The key of the keyed stream.
    type Key: Key;
    /// The rows of the keyed stream.
    type Row: Data;
    /// The rows of the broadcast stream.
    type Rule: Data;
    /// What rules are kept under.
    type RuleKey: UserKey;
    /// What is kept of a rule.
    type RuleState: Data;
    /// The outputs, as those of a [`ProcessFunction`](super::ProcessFunction::Outputs).
    type Outputs: Outputs;

    /// As [`ProcessFunction::state`](super::ProcessFunction::state). The rules are a state of their own, `rules`.
    fn state(&mut self, _states: &mut States<'_>) {}

    /// Takes a row of the broadcast stream, on every worker. What is put into `rules` has to be the same on each, so it may depend
    /// on this row and the rules alone. What is emitted is emitted by each worker.
    ///
    /// # Errors
    ///
    /// An error fails the query.
    fn on_rule(
        &mut self,
        rule: Self::Rule,
        rules: &mut Rules<Self>,
        cx: &mut RuleContext<'_, Self::Outputs>,
    ) -> ProcessResult;

    /// Takes a row of the keyed stream.
    ///
    /// # Errors
    ///
    /// An error fails the query, or sends the row to the side output of
    /// [`process_with_failed`](ConnectedBroadcast::process_with_failed).
    fn on_record(
        &mut self,
        row: Self::Row,
        rules: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult;

    /// As [`ProcessFunction::on_timer`](super::ProcessFunction::on_timer).
    ///
    /// # Errors
    ///
    /// As [`on_record`](Self::on_record).
    fn on_timer(
        &mut self,
        _timer: Timer,
        _rules: &Rules<Self>,
        _cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
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

/// What a function may ask and do while it is called for a rule, where no key is meant.
pub struct RuleContext<'a, O> {
    /// The outputs: a tuple, as the function declares it.
    pub out: &'a mut O,
    time: EventTime,
    context: &'a Context,
}

impl<O> RuleContext<'_, O> {
    /// Returns the event time of the rule; [`EventTime::MIN`] if its stream has none.
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// Returns the watermark, the least of both streams.
    pub fn watermark(&self) -> EventTime {
        self.context.watermark()
    }

    /// Returns the processing time.
    pub fn now(&self) -> ProcessingTime {
        self.context.now()
    }

    /// Returns the epoch that the call belongs to.
    pub fn epoch(&self) -> Epoch {
        self.context.epoch()
    }
}

impl<O> std::fmt::Debug for RuleContext<'_, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleContext").field("time", &self.time).finish_non_exhaustive()
    }
}

/// A keyed stream and a broadcast one that a function will process: see [`KeyedStream::connect_broadcast`].
#[must_use = "connected streams do nothing until a function processes them: `.process(…)`"]
pub struct ConnectedBroadcast<K, V, R, M> {
    inputs: OperatorBuilder<(ByKey<K, V>, Whole<R, M>)>,
}

impl<K, V, R, M> std::fmt::Debug for ConnectedBroadcast<K, V, R, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectedBroadcast").field("key", &std::any::type_name::<K>()).finish_non_exhaustive()
    }
}

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Connects a stream of rules, each row of which goes to every worker, for a function that applies them to the rows of this one.
    ///
    /// ```
    /// use tidemill::operator::Rows;
    /// use tidemill::prelude::*;
    /// use tidemill::process::{BroadcastContext, BroadcastFunction, ProcessResult, RuleContext, Rules};
    ///
    /// /// Emits payments above the limit of their currency.
    /// struct AboveLimit;
    ///
    /// impl BroadcastFunction for AboveLimit {
    ///     type Key = u32;
    ///     type Row = (u32, String, u64);
    ///     type Rule = (String, u64);
    ///     type RuleKey = String;
    ///     type RuleState = u64;
    ///     type Outputs = (Rows<(u32, u64)>,);
    ///
    ///     fn on_rule(
    ///         &mut self,
    ///         (currency, limit): (String, u64),
    ///         rules: &mut Rules<Self>,
    ///         _: &mut RuleContext<'_, Self::Outputs>,
    ///     ) -> ProcessResult {
    ///         rules.insert(currency, limit);
    ///         Ok(())
    ///     }
    ///
    ///     fn on_record(
    ///         &mut self,
    ///         (account, currency, amount): (u32, String, u64),
    ///         rules: &Rules<Self>,
    ///         cx: &mut BroadcastContext<'_, Self>,
    ///     ) -> ProcessResult {
    ///         if rules.get(&currency).is_some_and(|limit| amount > *limit) {
    ///             cx.out.0.push((account, amount));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let graph = Graph::new("limits");
    /// let payments = [(1u32, "EUR", 50u64), (2, "USD", 70), (2, "EUR", 150)];
    /// let payments = payments.map(|(account, currency, amount)| (account, currency.to_owned(), amount));
    /// let limits = graph.source(memory([("EUR".to_owned(), 100u64), ("USD".to_owned(), 60)]));
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory(payments))
    ///     .key_by(|payment| payment.0)
    ///     .connect_broadcast(limits)
    ///     .process(|| AboveLimit)
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [(2, 70), (2, 150)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn connect_broadcast<R, Q>(self, rules: Stream<R, Q>) -> ConnectedBroadcast<K, V, R, Q::Time>
    where
        R: Data + Clone,
        Q: Chain<Out = R>,
        <Q::Time as TimeDomain>::Row<R>: Clone,
    {
        let location = Location::caller();
        let graph = self.port.graph.clone();
        let inputs =
            graph.operator("connect_broadcast").keyed_stream(self).broadcast(rules.on_first_worker(location));
        ConnectedBroadcast { inputs: inputs.at(location) }
    }
}

impl<K: Key, V: Data, R: Data, M: TimeDomain> ConnectedBroadcast<K, V, R, M> {
    /// Processes the rows and the rules with a function. `make` makes an instance for each worker, and one more, from which the
    /// graph learns its states.
    ///
    /// Returns a stream for each output, in a tuple; for one output just that.
    #[track_caller]
    pub fn process<F, B>(self, make: B) -> <F::Outputs as Outputs>::Streams
    where
        F: BroadcastFunction<Key = K, Row = V, Rule = R>,
        B: Fn() -> F + Send + Sync + 'static,
    {
        let inputs = self.inputs.at(Location::caller()).named("process");
        inputs.stateful(move |_| Runner::<_, FailQuery>::new(Ruled::new(make()), None))
    }

    /// As [`process`](Self::process); keyed rows and timers for which the function returns an error do not fail the query, but leave
    /// by a stream of their own.
    #[track_caller]
    pub fn process_with_failed<F, B>(
        self,
        make: B,
    ) -> (<F::Outputs as Outputs>::Streams, Stream<Failed<K, V>>)
    where
        F: BroadcastFunction<Key = K, Row = V, Rule = R>,
        B: Fn() -> F + Send + Sync + 'static,
        V: Clone,
    {
        let inputs = self.inputs.at(Location::caller()).named("process");
        inputs.stateful(move |_| Runner::<_, Divert>::new(Ruled::new(make()), None))
    }
}

/// A [`BroadcastFunction`] as the operator calls it.
struct Ruled<F: BroadcastFunction> {
    function: F,
    rules: Rules<F>,
    /// In micro-batch: the rows of the epoch.
    buffer: Buffered<F::Key, F::Row>,
}

impl<F: BroadcastFunction> Ruled<F> {
    fn new(function: F) -> Self {
        Ruled { function, rules: SharedState::new(), buffer: Buffered::default() }
    }
}

impl<F: BroadcastFunction> Function for Ruled<F> {
    type Key = F::Key;
    type Row = F::Row;
    type Outputs = F::Outputs;

    fn state(&mut self, states: &mut States<'_>) {
        self.function.state(states);
        states.add("rules", &mut self.rules);
    }

    #[inline]
    fn on_row(&mut self, row: F::Row, cx: &mut KeyContext<'_, F::Key, F::Outputs>) -> ProcessResult {
        self.function.on_record(row, &self.rules, cx)
    }

    #[inline]
    fn on_timer(&mut self, timer: Timer, cx: &mut KeyContext<'_, F::Key, F::Outputs>) -> ProcessResult {
        self.function.on_timer(timer, &self.rules, cx)
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, F::Outputs>) -> ProcessResult {
        self.function.on_close(cx)
    }

    fn take_buffered(&mut self) -> Option<Buffered<F::Key, F::Row>> {
        (!self.buffer.rows.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }
}

impl<F, P> Takes<0> for Runner<Ruled<F>, P>
where
    F: BroadcastFunction,
    P: OnFailure<F::Key, F::Row, F::Outputs>,
{
    type Row = Dealt<F::Key, F::Row>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if to.mode() == Mode::Continuous {
            return self.rows(rows, to, |row| row);
        }
        self.function.buffer.watermark = to.watermark();
        self.function.buffer.rows.extend(rows);
        Ok(())
    }
}

impl<F, P> Takes<1> for Runner<Ruled<F>, P>
where
    F: BroadcastFunction,
    P: OnFailure<F::Key, F::Row, F::Outputs>,
{
    type Row = (EventTime, F::Rule);

    fn take(&mut self, rules: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.start(to)?;
        let (out, _, context) = to.split();
        for (time, rule) in rules {
            let mut cx = RuleContext { out: P::outputs(out), time, context };
            let Ruled { function, rules, .. } = &mut self.function;
            function.on_rule(rule, rules, &mut cx).map_err(OperatorError::User)?;
        }
        Ok(())
    }
}
