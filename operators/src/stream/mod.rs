//! Streams: handles without lifetimes, from which a graph is built.

mod as_changes;
mod as_inserts;
mod branch;
mod filter;
mod filter_map;
mod flat_map;
mod inspect;
mod key_by;
mod map;
mod rebalance;
mod sink;
mod source;
mod split;
mod terminal;
mod union;
mod watermark;

use std::marker::PhantomData;
use std::panic::Location;

pub use self::filter::Filter;
pub use self::filter_map::FilterMap;
pub use self::flat_map::FlatMap;
pub use self::inspect::Inspect;
pub use self::key_by::{FlatKeyBy, KeyBy, KeyedStream, Keying, Keys, KeysBy, KeysOf, Unkeyed};
pub use self::map::Map;
pub use self::watermark::{AssignTime, Punctuated};
pub use crate::chain::{
    Chain, FromEdge, FromSource, HasEventTime, NoEventTime, Then, TimeDomain, Timed, Untimed, WithTime,
};

pub(crate) use self::terminal::ChainOperator;

use crate::graph::{Graph, Input, NodeId, NodeKind, NodeSpec, OnKind, OperatorSpec, Port, StepInfo};
use crate::{Cloner, Source};

/// A stream of records of type `T`: a handle to an output in a [`Graph`].
///
/// `P` is the chain of stateless steps since the last operator. It grows with every `map` and `filter`, as an iterator's type
/// does, and costs nothing at run time. A stream without open steps is `Stream<T>`, a type that can be named, stored and
/// returned; [`boxed`](Stream::boxed) makes one of any stream.
///
/// Only a closed stream can be cloned, and so have two consumers: the steps of an open one would run twice. If the
/// compiler reports that it expected `Stream<T>` or [`EventStream<T>`] but found `Stream<T, Then<…>>` or `Stream<T,
/// AssignTime<…>>`, call `.boxed()` on the stream.
#[must_use = "a stream does nothing until it ends in a sink"]
pub struct Stream<T, P = FromEdge<T>> {
    pub(crate) port: Port,
    pub(crate) chain: P,
    pub(crate) steps: Vec<StepInfo>,
    pub(crate) marker: PhantomData<fn() -> T>,
}

/// A closed [`Stream`] whose records have an event time.
pub type EventStream<T> = Stream<T, FromEdge<T, Timed>>;

/// Returns a handle for a second consumer of the same records.
impl<T, P: Shared<T>> Clone for Stream<T, P> {
    fn clone(&self) -> Self {
        self.port.set_cloner(P::cloner());
        Stream { port: self.port.clone(), chain: P::again(), steps: self.steps.clone(), marker: PhantomData }
    }
}

impl<T, P> Stream<T, P> {
    /// As [`Clone::clone`], and found in its place, so that the compiler says what an open chain lacks.
    #[doc(hidden)]
    #[allow(clippy::should_implement_trait, reason = "it is implemented, and this is it")]
    pub fn clone(&self) -> Self
    where
        P: Shared<T>,
    {
        Clone::clone(self)
    }
}

/// A closed chain, whose records can be copied for a second consumer. Implemented only here.
#[diagnostic::on_unimplemented(
    message = "an open chain of steps cannot be cloned: its steps would run twice",
    label = "close it first, with `.boxed()`"
)]
pub trait Shared<T>: Sized {
    #[doc(hidden)]
    fn cloner() -> Cloner;
    #[doc(hidden)]
    fn again() -> Self;
}

impl<T: Clone + Send + 'static, M: TimeDomain<Row<T>: Clone>> Shared<T> for FromEdge<T, M> {
    fn cloner() -> Cloner {
        crate::cloner::<M::Row<T>>()
    }
    fn again() -> Self {
        FromEdge::new()
    }
}

impl<S: Source<Item: Clone>> Shared<S::Item> for FromSource<S> {
    fn cloner() -> Cloner {
        crate::cloner::<S::Item>()
    }
    fn again() -> Self {
        FromSource::new()
    }
}

impl<S: Source> Stream<S::Item, FromSource<S>> {
    pub(crate) fn from_source(port: Port) -> Self {
        Stream { port, chain: FromSource::new(), steps: Vec::new(), marker: PhantomData }
    }
}

impl<T, P> Stream<T, P> {
    /// Says what the last step does with the kind of its rows.
    pub(crate) fn on_kind(mut self, on_kind: OnKind) -> Self {
        if let Some(step) = self.steps.last_mut() {
            step.on_kind = on_kind;
        }
        self
    }
}

impl<T, P> std::fmt::Debug for Stream<T, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("of", &std::any::type_name::<T>())
            .field("after", &self.steps.iter().map(|s| s.op).collect::<Vec<_>>())
            .finish()
    }
}

impl<T: Send + 'static, M: TimeDomain> Stream<T, FromEdge<T, M>> {
    pub(crate) fn at(port: Port) -> Self {
        Stream { port, chain: FromEdge::new(), steps: Vec::new(), marker: PhantomData }
    }
}

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Adds a step to the chain.
    pub(crate) fn step<U, Q>(
        self,
        op: &'static str,
        location: &'static Location<'static>,
        step: impl FnOnce(P) -> Q,
    ) -> Stream<U, Q> {
        let mut steps = self.steps;
        steps.push(StepInfo::new(op, location));
        Stream { port: self.port, chain: step(self.chain), steps, marker: PhantomData }
    }

    /// Sets the name of the last step in plans, metrics and errors.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("orders");
    /// let doubled = graph.source(memory(0..3u64)).map(|n| n * 2).name("double");
    /// # let _ = doubled;
    /// ```
    pub fn name(mut self, name: &str) -> Self {
        match self.steps.last_mut() {
            Some(step) => step.name = Some(name.to_owned()),
            None => self.port.update(|node| node.name = Some(name.to_owned())),
        }
        self
    }

    /// Sets the uid of the last operator of this stream.
    ///
    /// A checkpoint stores the state of an operator under its uid. With a uid of its own, an operator keeps its state
    /// when the graph around it changes between runs. Right after `.append()` or `.update()` the uid belongs to the
    /// aggregation; after a further `map` it belongs to the `map`. If an operator has several outputs, set its uid on
    /// one of them. A second, different uid for an operator is an error of the graph. On a stream with open steps this closes the
    /// chain.
    #[track_caller]
    pub fn uid(self, uid: &str) -> Stream<T, P::Closed> {
        let port = if self.steps.is_empty() { self.port } else { self.boxed().port };
        let mut first = None;
        port.update(|node| first = node.uid.replace(uid.to_owned()));
        if let Some(first) = first.filter(|first| first != uid) {
            let message = format!(
                "has the uid `{first}` and gets a second one, `{uid}`: `.uid(…)` names the operator right before it. Leave one \
                 out; to name the place before a sink, put a step between, such as `.map(|row| row)`"
            );
            port.graph.problem(port.node, message);
        }
        Stream { port, chain: P::closed(), steps: Vec::new(), marker: PhantomData }
    }

    /// Closes the chain: its steps become one operator, and the type of the stream is `Stream<T>` again.
    #[track_caller]
    pub fn boxed(self) -> Stream<T, FromEdge<T, P::Time>> {
        if self.steps.is_empty() {
            // No steps: the chain is the edge itself.
            return Stream::at(self.port);
        }
        let location = self.steps.first().map_or(Location::caller(), |s| s.location);
        let watermark = self.chain.watermark();
        let chain = std::sync::Arc::new(self.chain);
        let make = move |_| -> Box<dyn crate::Operator> {
            Box::new(ChainOperator::<P>::new(std::sync::Arc::clone(&chain)))
        };
        let operator = OperatorSpec::of_chain(std::sync::Arc::new(make), watermark);
        let input = Input::of_chain::<P>(&self.port);
        Stream::at(self.port.graph.add(NodeSpec {
            kind: NodeKind::Operator(operator),
            op: "chain",
            steps: self.steps,
            inputs: vec![input],
            outputs: 1,
            location,
            detail: String::new(),
        }))
    }

    /// Returns the graph that the stream belongs to.
    pub fn graph(&self) -> Graph {
        self.port.graph.clone()
    }

    pub(crate) fn node(&self) -> NodeId {
        self.port.node
    }

    /// Returns the uid of the node that the stream comes from, given or derived.
    #[doc(hidden)]
    pub fn node_uid(&self) -> String {
        let mut uid = String::new();
        self.port.update(|node| node.uid().clone_into(&mut uid));
        uid
    }
}
