//! `split`: one stream becomes two of different types. Keeps no state; a record keeps its event time.

use std::panic::Location;
use std::sync::Arc;

use either::Either;

use super::Stream;
use crate::buffers::with_room;
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, FromEdge, ObservedWatermark, TimeDomain};
use crate::graph::{Input, Kinds, NodeKind, NodeSpec, OperatorSpec};
use crate::{Batch, Context, Operator, OperatorError};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Splits the stream in two: `Left` goes to the first stream, `Right` to the second.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("parsed");
    /// let lines = graph.source(memory(["0", "one", "2"]));
    /// let (parsed, refused) = lines.split(|line| match line.parse::<u64>() {
    ///     Ok(number) => Either::Left(number),
    ///     Err(_) => Either::Right(line),
    /// });
    /// # let _ = refused;
    /// let (sink, table) = memory_sink();
    /// parsed.sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 2]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn split<L, R, F>(
        self,
        function: F,
    ) -> (Stream<L, FromEdge<L, P::Time>>, Stream<R, FromEdge<R, P::Time>>)
    where
        L: Send + 'static,
        R: Send + 'static,
        F: Fn(T) -> Either<L, R> + Send + Sync + 'static,
    {
        let location = Location::caller();
        let watermark = self.chain.watermark();
        let shared = Arc::new((self.chain, function));
        let port = self.port.graph.add(NodeSpec {
            kind: NodeKind::Operator(OperatorSpec {
                make: Arc::new(move |_| Box::new(Split { shared: Arc::clone(&shared), sent: (0, 0) })),
                stateful: false,
                watermark,
                derives_watermark: false,
                stays_behind: false,
                awaits_commits: false,
                in_flight: None,
                states: Vec::new(),
                kinds: Kinds::Makes,
            }),
            op: "split",
            steps: self.steps,
            inputs: vec![Input::of_chain::<P>(&self.port)],
            outputs: 2,
            location,
            detail: String::new(),
        });
        (Stream::at(port.clone()), Stream::at(port.sibling(1)))
    }
}

struct Split<P, F> {
    shared: Arc<(P, F)>,
    /// How many rows were sent to either side last time: about as many come again.
    sent: (usize, usize),
}

impl<P: Chain, F> Split<P, F> {
    fn deal<L: Send + 'static, R: Send + 'static>(
        &mut self,
        rows: impl Rows<P::In>,
        origin: u32,
        context: &mut Context,
    ) where
        F: Fn(P::Out) -> Either<L, R>,
    {
        let (chain, function) = &*self.shared;
        let most = rows.at_most();
        let room = |sent: usize| (sent + sent / 8).min(most);
        let (mut left, mut right) = (with_room(room(self.sent.0)), with_room(room(self.sent.1)));
        let mut observed = ObservedWatermark::new();
        chain.run(rows, &mut observed, &mut |time, value| match function(value) {
            Either::Left(value) => left.push(P::Time::pack(time, value)),
            Either::Right(value) => right.push(P::Time::pack(time, value)),
        });
        self.sent = (left.len(), right.len());
        context.send(0, Batch::from_vec(left).with_origin(origin));
        context.send(1, Batch::from_vec(right).with_origin(origin));
        if observed.seen {
            context.observe(origin, observed.watermark);
        }
    }
}

impl<P, L, R, F> Operator for Split<P, F>
where
    P: Chain,
    L: Send + 'static,
    R: Send + 'static,
    F: Fn(P::Out) -> Either<L, R> + Send + Sync + 'static,
{
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        let origin = batch.origin();
        match incoming::<P>(batch)? {
            Either::Left(rows) => self.deal(rows, origin, context),
            Either::Right(pulled) => self.deal(pulled, origin, context),
        }
        Ok(())
    }
}
