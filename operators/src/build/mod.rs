//! Operators of your own, with up to six inputs and six outputs, named state and timers.
//!
//! [`Graph::operator`] returns a builder. Each input is added with the way in which its rows go to the workers, and
//! [`stateful`](OperatorBuilder::stateful) adds the operator to the graph. The operator itself implements
//! [`StatefulOperator`], and [`Takes`] once for each input. The library's own operators with several inputs are built
//! in the same way.

mod adapter;
mod deal;
mod input;
mod output;

use std::any::Any;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

pub use self::adapter::{StatefulOperator, Takes, To};
pub use self::deal::Dealt;
pub use self::input::{Append, ByKey, InputRows, Inputs, Whole};
pub use self::output::{Changes, Events, Output, OutputPlace, Outputs, Rows, Snapshots, Upserts};

pub(crate) use self::output::{Emitted, KeepsTime};

use self::adapter::Adapter;
use self::deal::Deal;
use crate::chain::{Chain, TimeDomain};
use crate::graph::{
    FragmentSpec, Graph, Input, Kinds, Make, NodeKind, NodeSpec, OperatorSpec, Place, Port, Route, Setting,
};
use crate::stream::Keying;
use crate::{Data, Key, KeyedStream, RowKind, Stream};

/// The builder of an operator: see [`Graph::operator`].
#[must_use = "an operator enters the graph with `.stateful(…)`"]
pub struct OperatorBuilder<I> {
    graph: Graph,
    name: &'static str,
    location: &'static Location<'static>,
    inputs: Vec<(Port, Route)>,
    /// Whether an input belongs to another graph.
    is_foreign: bool,
    /// What the state depends on.
    settings: Vec<Setting>,
    /// Whether its watermark stays behind.
    stays_behind: bool,
    /// What is wrong with it.
    problem: Option<String>,
    marker: PhantomData<fn() -> I>,
}

impl Graph {
    /// Returns the builder of an operator of your own.
    ///
    /// `name` is its name in plans, errors and metrics.
    ///
    /// Inputs are numbered from 0 in the order in which they are added. An order is matched with its payment here, by number;
    /// one that has not been paid within a minute of event time comes out of the second output:
    ///
    /// ```
    /// use std::time::Duration;
    /// use std::vec::Drain;
    ///
    /// use tidemill::OperatorError;
    /// use tidemill::operator::{Dealt, HashedKey, Rows, StatefulOperator, States, Takes, Timer, To, ValueState};
    /// use tidemill::prelude::*;
    ///
    /// struct Match {
    ///     open: ValueState<u64, EventTime>,
    /// }
    ///
    /// impl StatefulOperator for Match {
    ///     type Key = u64;
    ///     type Outputs = (Rows<(u64, i64)>, Rows<u64>);
    ///
    ///     fn state(&mut self, states: &mut States<'_>) {
    ///         states.add("open", &mut self.open);
    ///     }
    ///
    ///     fn on_timer(
    ///         &mut self,
    ///         order: HashedKey<'_, u64>,
    ///         _: Timer,
    ///         to: &mut To<'_, Self>,
    ///     ) -> Result<(), OperatorError> {
    ///         if self.open.remove(order).is_some() {
    ///             to.out.1.push(*order.key);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Takes<0> for Match {
    ///     type Row = Dealt<u64, u64>;
    ///
    ///     fn take(&mut self, orders: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
    ///         for order in orders {
    ///             self.open.insert(order.hashed(), order.time);
    ///             to.timers.set_event(order.hashed(), order.time + Duration::from_secs(60));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Takes<1> for Match {
    ///     type Row = Dealt<u64, (u64, i64)>;
    ///
    ///     fn take(&mut self, payments: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
    ///         for payment in payments {
    ///             if self.open.remove(payment.hashed()).is_some() {
    ///                 to.out.0.push(payment.value);
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let graph = Graph::new("payments");
    /// let at = |_: &u64| EventTime::from_secs(0);
    /// let orders = graph.source(memory([1u64, 2])).with_watermark(at, Duration::ZERO);
    /// let payments = graph.source(memory([(2u64, 99i64)]));
    /// let (paid, overdue) = graph
    ///     .operator("match")
    ///     .keyed(orders, |order| *order)
    ///     .keyed(payments, |payment| payment.0)
    ///     .stateful(|_| Match { open: ValueState::new() });
    /// let ((paid_sink, in_time), (overdue_sink, reminders)) = (memory_sink(), memory_sink());
    /// paid.sink(paid_sink);
    /// overdue.sink(overdue_sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(in_time.snapshot(), [(2, 99)]);
    /// assert_eq!(reminders.snapshot(), [1]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn operator(&self, name: &'static str) -> OperatorBuilder<()> {
        OperatorBuilder {
            graph: self.clone(),
            name,
            location: Location::caller(),
            inputs: Vec::new(),
            is_foreign: false,
            settings: Vec::new(),
            stays_behind: false,
            problem: None,
            marker: PhantomData,
        }
    }
}

impl<I> OperatorBuilder<I> {
    /// Adds an input whose rows go to the worker that owns their key.
    ///
    /// The operator gets them as [`Dealt`], with the key and its hash. The operator's [`KINDS`](Takes::KINDS) are the
    /// kinds of rows that the input takes.
    #[track_caller]
    pub fn keyed<K, T, P, F>(self, stream: Stream<T, P>, key: F) -> OperatorBuilder<I::All>
    where
        K: Key,
        T: Data,
        P: Chain<Out = T>,
        F: Fn(&T) -> K + Send + Sync + 'static,
        I: Append<ByKey<K, T>>,
    {
        self.keyed_stream(stream.key_by(key))
    }

    /// Adds a stream that has keys, as [`keyed`](Self::keyed) does.
    pub(crate) fn keyed_stream<K, V, P, Y>(self, stream: KeyedStream<K, V, P, Y>) -> OperatorBuilder<I::All>
    where
        K: Key,
        V: Data,
        P: Chain,
        Y: Keying<P::Out, Key = K, Value = V>,
        I: Append<ByKey<K, V>>,
    {
        self.dealt(stream, Route::ByKey)
    }

    /// As [`keyed_stream`](Self::keyed_stream), for rows that come as [`Dealt`] and stay on the worker on which they are.
    pub(crate) fn keyed_local<K, V, P, Y>(self, stream: KeyedStream<K, V, P, Y>) -> OperatorBuilder<I::All>
    where
        K: Key,
        V: Data,
        P: Chain,
        Y: Keying<P::Out, Key = K, Value = V>,
        I: Append<ByKey<K, V>>,
    {
        self.dealt(stream, Route::Local)
    }

    fn dealt<K, V, P, Y, J>(self, stream: KeyedStream<K, V, P, Y>, route: Route) -> OperatorBuilder<J>
    where
        K: Key,
        V: Data,
        P: Chain,
        Y: Keying<P::Out, Key = K, Value = V>,
    {
        let is_local = matches!(route, Route::Local);
        let steps = stream.steps;
        let location = steps.first().map_or(self.location, |step| step.location);
        let watermark = stream.chain.watermark();
        let shared = Arc::new((stream.chain, stream.keying));
        let inputs = vec![Input::of_chain::<P>(&stream.port)];
        let port = stream.port.graph.add(NodeSpec {
            kind: NodeKind::Operator(OperatorSpec {
                make: Arc::new(move |_| Box::new(Deal::new(Arc::clone(&shared), is_local))),
                stateful: false,
                watermark,
                derives_watermark: false,
                stays_behind: false,
                awaits_commits: false,
                in_flight: None,
                states: Vec::new(),
                kinds: Kinds::Keeps,
            }),
            op: "chain",
            steps,
            inputs,
            outputs: 1,
            location,
            detail: String::new(),
        });
        self.with(port, route)
    }

    /// Adds an input whose rows stay on their worker.
    #[track_caller]
    pub fn local<T, P>(self, stream: Stream<T, P>) -> OperatorBuilder<I::All>
    where
        T: Send + 'static,
        P: Chain<Out = T>,
        I: Append<Whole<T, P::Time>>,
    {
        let port = stream.boxed().port;
        self.with(port, Route::Local)
    }

    /// Adds an input to a [part](Self::part) that knows the types of its inputs by itself.
    #[doc(hidden)]
    pub fn also<T, P>(self, stream: Stream<T, P>) -> Self
    where
        T: Send + 'static,
        P: Chain<Out = T>,
    {
        let port = stream.boxed().port;
        self.with(port, Route::Local)
    }

    /// Adds an input whose rows go to every worker, such as rules that all workers apply.
    ///
    /// Keep them in a [`SharedState`](crate::named::SharedState).
    #[track_caller]
    pub fn broadcast<T, P>(self, stream: Stream<T, P>) -> OperatorBuilder<I::All>
    where
        T: Data + Clone,
        P: Chain<Out = T>,
        <P::Time as TimeDomain>::Row<T>: Clone,
        I: Append<Whole<T, P::Time>>,
    {
        let port = stream.boxed().port;
        self.with(port, Route::Broadcast(crate::cloner::<<P::Time as TimeDomain>::Row<T>>()))
    }

    /// Adds an input whose rows all go to worker 0.
    ///
    /// Keep them in a [`SharedState`](crate::named::SharedState).
    #[track_caller]
    pub fn single<T, P>(self, stream: Stream<T, P>) -> OperatorBuilder<I::All>
    where
        T: Data,
        P: Chain<Out = T>,
        I: Append<Whole<T, P::Time>>,
    {
        let port = stream.boxed().port;
        self.with(port, Route::Single)
    }

    /// Declares a setting on which the state depends, such as the size of a window.
    ///
    /// A checkpoint records it, and a restart with another value is refused.
    pub fn setting(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }

    /// What plans, errors and metrics call it from here on.
    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Where the user's program asks for it.
    pub(crate) fn at(mut self, location: &'static Location<'static>) -> Self {
        self.location = location;
        self
    }

    /// Its windows are one where they touch: see [`OperatorSpec::stays_behind`].
    pub(crate) fn behind(mut self, stays_behind: bool) -> Self {
        self.stays_behind = stays_behind;
        self
    }

    /// Records a problem, with which the graph is refused when it is run.
    #[doc(hidden)]
    pub fn problem(mut self, problem: String) -> Self {
        self.problem = Some(problem);
        self
    }

    fn with<J>(mut self, port: Port, route: Route) -> OperatorBuilder<J> {
        self.is_foreign |= !self.graph.is(&port.graph);
        self.inputs.push((port, route));
        let OperatorBuilder {
            graph,
            name,
            location,
            inputs,
            is_foreign,
            settings,
            stays_behind,
            problem,
            ..
        } = self;
        let marker = PhantomData;
        OperatorBuilder { graph, name, location, inputs, is_foreign, settings, stays_behind, problem, marker }
    }

    /// Adds the operator to the graph.
    ///
    /// `make` is called for each worker, and once more when the graph is built, to find out the
    /// [states](StatefulOperator::state) of the operator.
    ///
    /// Returns a tuple with a stream for each output, or the stream if there is one output.
    pub fn stateful<O, F>(self, make: F) -> <O::Outputs as Outputs>::Streams
    where
        O: StatefulOperator,
        I: Inputs<O>,
        F: Fn(Place) -> O + Send + Sync + 'static,
    {
        let states = Adapter::<O, I>::new(make(Place::new(0, 1, crate::Mode::default()))).states();
        let (states, problem) = match states {
            Ok(states) => (states, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let of_instance = states.clone();
        let make: Make =
            Arc::new(move |place| Box::new(Adapter::<O, I>::new(make(place)).at(place, &of_instance)));
        let stays_behind = self.stays_behind;
        let port = self.add(
            NodeKind::Operator(OperatorSpec {
                make,
                stateful: true,
                watermark: None,
                derives_watermark: O::DERIVES_WATERMARK,
                stays_behind,
                awaits_commits: O::AWAITS_COMMITS,
                in_flight: None,
                states,
                kinds: Kinds::Declared { takes: I::KINDS, emits: O::Outputs::KINDS },
            }),
            O::Outputs::COUNT,
        );
        if let Some(problem) = problem {
            port.graph.problem(port.node, problem);
        }
        O::Outputs::streams(&OutputPlace::first_of(port))
    }

    /// Adds a fragment to the graph, whose inputs and outputs have types and whose inside the engine gets from `lowering`. The
    /// outputs have the rows of `O`: batches of `(EventTime, T)` for [`Events`], of `T` for [`Rows`] and the others. `takes` has
    /// the kinds of rows by input.
    #[doc(hidden)]
    pub fn fragment<O: Outputs>(
        self,
        takes: &'static [&'static [RowKind]],
        lowering: Arc<dyn Any + Send + Sync>,
    ) -> O::Streams {
        self.any_fragment::<O>(takes, lowering, false)
    }

    /// As [`fragment`](Self::fragment), for a part of the nested dataflow that all parts of the graph share.
    #[doc(hidden)]
    pub fn part<O: Outputs>(
        self,
        takes: &'static [&'static [RowKind]],
        lowering: Arc<dyn Any + Send + Sync>,
    ) -> O::Streams {
        self.any_fragment::<O>(takes, lowering, true)
    }

    fn any_fragment<O: Outputs>(
        self,
        takes: &'static [&'static [RowKind]],
        lowering: Arc<dyn Any + Send + Sync>,
        is_part: bool,
    ) -> O::Streams {
        let kinds = Kinds::Declared { takes, emits: O::KINDS };
        let port = self.add(NodeKind::Fragment(FragmentSpec { lowering, kinds, is_part }), O::COUNT);
        O::streams(&OutputPlace::first_of(port))
    }

    fn add(self, kind: NodeKind, outputs: usize) -> Port {
        let inputs = self.inputs.iter().map(|(port, route)| Input::by(port.node, port.output, route.clone()));
        let port = self.graph.add(NodeSpec {
            kind,
            op: self.name,
            steps: Vec::new(),
            inputs: inputs.collect(),
            outputs,
            location: self.location,
            detail: self.settings.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", "),
        });
        if !self.settings.is_empty() {
            let mut settings = vec![("operator", self.name.to_owned())];
            settings.extend(self.settings);
            port.update(|node| node.settings = settings);
        }
        if let Some(problem) = self.problem {
            self.graph.problem(port.node, problem);
        }
        if self.is_foreign {
            let problem = "its inputs belong to different graphs: build all of them on one `Graph`";
            self.graph.problem(port.node, problem);
        }
        port
    }
}

impl<I> std::fmt::Debug for OperatorBuilder<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorBuilder")
            .field("name", &self.name)
            .field("inputs", &self.inputs.len())
            .finish_non_exhaustive()
    }
}
