//! Functions of the user over keyed streams, with state, timers and several outputs.
//!
//! [`KeyedStream::process`] takes a [`ProcessFunction`], [`KeyedStream::connect`] puts two streams side by side for a
//! [`CoProcessFunction`], and [`KeyedStream::connect_broadcast`] a keyed stream beside rules for a [`BroadcastFunction`].
//!
//! Short forms for one value of state by key: [`KeyedStream::map_with_state`], [`KeyedStream::update_state_by_key`] and
//! [`KeyedStream::map_groups_with_state`].
//!
//! They are a layer over [`StatefulOperator`](crate::build::StatefulOperator): a function is called for one row or timer of one key,
//! an operator for a batch. State, timers, checkpoints and other numbers of workers are the same.

mod broadcast;
mod connected;
mod context;
mod failure;
mod function;
mod gathered;
mod groups;
mod initial;
mod map_with_state;
mod runner;
mod update_by_key;

use std::panic::Location;

pub use self::broadcast::{BroadcastFunction, ConnectedBroadcast, RuleContext, Rules};
pub use self::connected::{CoProcessFunction, Connected};
pub use self::context::{CloseContext, KeyContext};
pub(crate) use self::failure::of_key;
pub use self::failure::{Failed, FailedCall, ProcessResult};
pub use self::function::{InitialState, ProcessFunction};
pub use self::groups::{GroupState, GroupTimeout};
pub use self::initial::WithInitialState;

use self::failure::{Divert, FailQuery, OnFailure};
use self::function::One;
use self::runner::Runner;
use crate::build::{ByKey, OperatorBuilder, Outputs};
use crate::chain::Chain;
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, Stream};

/// What a [`ProcessFunction`] may ask and do while it is called.
pub type ProcessContext<'a, F> = KeyContext<'a, <F as ProcessFunction>::Key, <F as ProcessFunction>::Outputs>;

/// What a [`CoProcessFunction`] may ask and do while it is called.
pub type CoContext<'a, F> = KeyContext<'a, <F as CoProcessFunction>::Key, <F as CoProcessFunction>::Outputs>;

/// What a [`BroadcastFunction`] may ask and do while it is called for a key.
pub type BroadcastContext<'a, F> =
    KeyContext<'a, <F as BroadcastFunction>::Key, <F as BroadcastFunction>::Outputs>;

impl<K, V, P, Y> KeyedStream<K, V, P, Y>
where
    K: Key,
    V: Data,
    P: Chain,
    Y: Keying<P::Out, Key = K, Value = V>,
{
    /// Processes the rows of each key with a function that has state, timers and outputs of its own.
    ///
    /// `make` makes an instance for each worker, and one more, from which the graph learns its states.
    ///
    /// Returns a stream for each output, in a tuple; for one output just that. An error that the function returns fails the query,
    /// with the key and the line of this call; [`process_with_failed`](Self::process_with_failed) sends the row elsewhere.
    ///
    /// Visits of users, which end a minute after the last click. All rows of an epoch come before its timers, so a visit lasts until a
    /// watermark has found its end:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::operator::{Events, States, Timer, ValueState};
    /// use tidemill::prelude::*;
    /// use tidemill::process::{ProcessContext, ProcessFunction, ProcessResult};
    ///
    /// struct Visits {
    ///     clicks: ValueState<u32, (u64, EventTime)>,
    /// }
    ///
    /// const GAP: Duration = Duration::from_secs(60);
    ///
    /// impl ProcessFunction for Visits {
    ///     type Key = u32;
    ///     type Row = (u32, i64);
    ///     type Outputs = (Events<(u32, u64)>,);
    ///
    ///     fn state(&mut self, states: &mut States<'_>) {
    ///         states.add("clicks", &mut self.clicks);
    ///     }
    ///
    ///     fn on_record(&mut self, _click: (u32, i64), cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
    ///         let (count, last) = self.clicks.get_or_insert_with(cx.key, || (0, EventTime::MIN));
    ///         *count += 1;
    ///         *last = cx.time().max(*last);
    ///         cx.set_event_timer(*last + GAP);
    ///         Ok(())
    ///     }
    ///
    ///     fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
    ///         // Only the timer of the last click ends the visit.
    ///         if self.clicks.get(cx.key).is_some_and(|(_, last)| *last + GAP == cx.time())
    ///             && let Some((count, _)) = self.clicks.remove(cx.key)
    ///         {
    ///             cx.out.0.push(cx.time(), (*cx.key, count));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let graph = Graph::new("visits");
    /// let (sink, table) = memory_sink();
    /// graph
    ///     .source(memory([(1, 0), (2, 10), (1, 30)]))
    ///     .with_watermark(|click| EventTime::from_secs(click.1), Duration::ZERO)
    ///     .key_by(|click| click.0)
    ///     .process(|| Visits { clicks: ValueState::new() })
    ///     .sink(sink);
    /// graph.run(Options::default())?;
    /// let mut visits = table.snapshot();
    /// visits.sort();
    /// assert_eq!(visits, [(1, 2), (2, 1)]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn process<F, M>(self, make: M) -> <F::Outputs as Outputs>::Streams
    where
        F: ProcessFunction<Key = K, Row = V>,
        M: Fn() -> F + Send + Sync + 'static,
    {
        let input = self.into_process(Location::caller());
        input.stateful(move |_| Runner::<_, FailQuery>::new(One(make()), None))
    }

    /// As [`process`](Self::process); calls that return an error do not fail the query, but leave by a stream of their own.
    ///
    /// Each row is copied before the function gets it.
    ///
    /// ```
    /// use tidemill::operator::Rows;
    /// use tidemill::prelude::*;
    /// use tidemill::process::{FailedCall, ProcessContext, ProcessFunction, ProcessResult};
    ///
    /// struct Parse;
    ///
    /// impl ProcessFunction for Parse {
    ///     type Key = u32;
    ///     type Row = (u32, String);
    ///     type Outputs = (Rows<i64>,);
    ///
    ///     fn on_record(&mut self, (_, text): (u32, String), cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
    ///         cx.out.0.push(text.parse()?);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let graph = Graph::new("numbers");
    /// let rows = [(1u32, "12"), (2, "tide"), (3, "30")].map(|(key, text)| (key, text.to_owned()));
    /// let (numbers, failed) = graph.source(memory(rows)).key_by(|row| row.0).process_with_failed(|| Parse);
    /// let ((sink, parsed), (failed_sink, rest)) = (memory_sink(), memory_sink());
    /// numbers.sink(sink);
    /// failed.sink(failed_sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(parsed.snapshot(), [12, 30]);
    /// let rest = rest.snapshot();
    /// assert_eq!((rest[0].key, &rest[0].error[..]), (2, "invalid digit found in string"));
    /// assert_eq!(rest[0].call, FailedCall::Row((2, "tide".to_owned())));
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn process_with_failed<F, M>(
        self,
        make: M,
    ) -> (<F::Outputs as Outputs>::Streams, Stream<Failed<K, V>>)
    where
        F: ProcessFunction<Key = K, Row = V>,
        M: Fn() -> F + Send + Sync + 'static,
        V: Clone,
    {
        let input = self.into_process(Location::caller());
        input.stateful(move |_| Runner::<_, Divert>::new(One(make()), None))
    }

    fn into_process(self, location: &'static Location<'static>) -> OperatorBuilder<(ByKey<K, V>,)> {
        let graph = self.port.graph.clone();
        graph.operator("process").keyed_stream(self).at(location)
    }
}
