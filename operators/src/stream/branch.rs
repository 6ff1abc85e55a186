//! `branch`: one stream becomes several of the same type. Keeps no state; a record keeps its event time.

use std::panic::Location;
use std::sync::Arc;

use either::Either;

use super::Stream;
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, FromEdge, ObservedWatermark, TimeDomain};
use crate::graph::{Input, Kinds, NodeKind, NodeSpec, OperatorSpec};
use crate::{Batch, Context, Operator, OperatorError};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Sends every record to the first branch whose predicate accepts it, and what none accepts to the last stream:
    /// `N` predicates make a `Vec` of `N + 1` streams.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("sizes");
    /// let predicate: fn(&u64) -> bool = |n| *n < 3;
    /// let mut branches = graph.source(memory(0..5u64)).branch([predicate]);
    /// let large = branches.pop().ok_or("two streams")?;
    /// let (sink, table) = memory_sink();
    /// branches.pop().ok_or("two streams")?.sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 1, 2]);
    /// # let _ = large;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn branch<F, const N: usize>(self, predicates: [F; N]) -> Vec<Stream<T, FromEdge<T, P::Time>>>
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        let location = Location::caller();
        let watermark = self.chain.watermark();
        let shared = Arc::new((self.chain, predicates));
        let port = self.port.graph.add(NodeSpec {
            kind: NodeKind::Operator(OperatorSpec {
                make: Arc::new(move |_| Box::new(Branch { shared: Arc::clone(&shared) })),
                stateful: false,
                watermark,
                derives_watermark: false,
                states: Vec::new(),
                kinds: Kinds::Keeps,
            }),
            op: "branch",
            steps: self.steps,
            inputs: vec![Input::of_chain::<P>(&self.port)],
            outputs: N + 1,
            location,
            detail: String::new(),
        });
        (0..=N).map(|output| Stream::at(port.sibling(output))).collect()
    }
}

struct Branch<P, F, const N: usize> {
    shared: Arc<(P, [F; N])>,
}

impl<P: Chain, F: Fn(&P::Out) -> bool, const N: usize> Branch<P, F, N> {
    fn deal(&self, rows: impl Rows<P::In>, origin: u32, context: &mut Context) {
        let (chain, predicates) = &*self.shared;
        let mut branches: Vec<Vec<_>> = (0..=N).map(|_| Vec::new()).collect();
        let mut observed = ObservedWatermark::new();
        chain.run(rows, &mut observed, &mut |time, value| {
            let chosen = predicates.iter().position(|accepts| accepts(&value)).unwrap_or(N);
            if let Some(branch) = branches.get_mut(chosen) {
                branch.push(P::Time::pack(time, value));
            }
        });
        for (output, branch) in branches.into_iter().enumerate() {
            context.send(output, Batch::from_vec(branch).with_origin(origin));
        }
        if observed.seen {
            context.observe(origin, observed.watermark);
        }
    }
}

impl<P, F, const N: usize> Operator for Branch<P, F, N>
where
    P: Chain,
    F: Fn(&P::Out) -> bool + Send + Sync + 'static,
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
