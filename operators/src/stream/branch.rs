//! `partition`, `branch`: one stream becomes several of the same type. Keeps no state; a record keeps its event time.

use std::panic::Location;
use std::sync::Arc;

use either::Either;

use super::Stream;
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, FromEdge, ObservedWatermark, TimeDomain};
use crate::graph::{Input, Kinds, NodeKind, NodeSpec, OperatorSpec, Port};
use crate::{Batch, Context, Operator, OperatorError};

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Returns two streams: the records that `predicate` accepts, and the others.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("sizes");
    /// let (small, large) = graph.source(memory(0..5u64)).partition(|n| *n < 3);
    /// let ((small_sink, small_rows), (large_sink, large_rows)) = (memory_sink(), memory_sink());
    /// small.sink(small_sink);
    /// large.sink(large_sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(small_rows.snapshot(), [0, 1, 2]);
    /// assert_eq!(large_rows.snapshot(), [3, 4]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn partition<F>(
        self,
        predicate: F,
    ) -> (Stream<T, FromEdge<T, P::Time>>, Stream<T, FromEdge<T, P::Time>>)
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        let port = self.divided([predicate], "partition", Location::caller());
        (Stream::at(port.clone()), Stream::at(port.sibling(1)))
    }

    /// Sends each record to the first branch whose predicate accepts it.
    ///
    /// `N` predicates of one type make a `Vec` of `N + 1` streams; the last one gets the records that no predicate
    /// accepts. For closures of different types call [`partition`](Self::partition) several times, each time on the
    /// second stream.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("sizes");
    /// let sizes = graph.source(memory(0..50u64)).branch([3, 10].map(|most| move |n: &u64| *n < most));
    /// let tables: Vec<_> = sizes
    ///     .into_iter()
    ///     .map(|stream| {
    ///         let (sink, table) = memory_sink();
    ///         stream.sink(sink);
    ///         table
    ///     })
    ///     .collect();
    /// graph.run(Options::default())?;
    /// assert_eq!(tables.iter().map(|table| table.snapshot().len()).collect::<Vec<_>>(), [3, 7, 40]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn branch<F, const N: usize>(self, predicates: [F; N]) -> Vec<Stream<T, FromEdge<T, P::Time>>>
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        let port = self.divided(predicates, "branch", Location::caller());
        (0..=N).map(|output| Stream::at(port.sibling(output))).collect()
    }

    /// Adds the operator that divides the stream. Returns its first output of `N + 1`.
    fn divided<F, const N: usize>(
        self,
        predicates: [F; N],
        op: &'static str,
        location: &'static Location<'static>,
    ) -> Port
    where
        F: Fn(&T) -> bool + Send + Sync + 'static,
    {
        let watermark = self.chain.watermark();
        let shared = Arc::new((self.chain, predicates));
        self.port.graph.add(NodeSpec {
            kind: NodeKind::Operator(OperatorSpec {
                make: Arc::new(move |_| Box::new(Branch { shared: Arc::clone(&shared) })),
                stateful: false,
                watermark,
                derives_watermark: false,
                stays_behind: false,
                awaits_commits: false,
                in_flight: None,
                states: Vec::new(),
                kinds: Kinds::Keeps,
            }),
            op,
            steps: self.steps,
            inputs: vec![Input::of_chain::<P>(&self.port)],
            outputs: N + 1,
            location,
            detail: String::new(),
        })
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
