//! Updates on the edges of the region: all edges carry the engine's one container, so that timely is compiled once.

use std::collections::VecDeque;
use std::marker::PhantomData;

use differential_dataflow::batcher::{Batcher, Extract};
use differential_dataflow::lattice::Lattice;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::SpanOf;
use differential_dataflow::trace::implementations::ValBatcher;
use tidemill_operators::{Batch, OperatorError, cloner, hash_key, rows};
use timely::container::{ContainerBuilder, NoopBuilder, PushInto};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use timely::progress::Timestamp;
use timely::progress::frontier::AntichainRef;

use super::batches::{SharedSpine, Sorted};
use super::handle::{TableKey, TableRow};
use super::time::Tick;
use crate::engine::{EdgeBatch, FragmentHost};

/// A change of a table: key and row, when, and how many copies are added.
pub(super) type Update<K, V, T = Tick> = ((K, V), T, i64);
/// An edge of the region, or of a loop in it.
pub(super) type Updates<'i, T = Tick> = Stream<'i, T, EdgeBatch>;
/// The updates of an arrangement, as operators read them.
pub(super) type Trace<K, V, T = Tick> = TraceAgent<SharedSpine<K, V, T>>;
/// A table that is arranged by key.
pub(super) type ByKey<'i, K, V, T = Tick> = Arranged<'i, Trace<K, V, T>>;

/// A time of the region or of a loop in it.
pub(super) trait Time: Timestamp + Lattice + Sync {}
impl<T: Timestamp + Lattice + Sync> Time for T {}

/// A batch of updates for an edge, which can be copied for several readers.
pub(super) fn edge_batch<D: Clone + Send + 'static>(rows: Vec<D>) -> EdgeBatch {
    EdgeBatch::new(Batch::from_vec(rows)).copyable(Some(cloner::<D>()))
}

/// A step from batch to batches.
pub(super) type Step = Box<dyn FnMut(Batch, &mut Vec<EdgeBatch>) -> Result<(), OperatorError>>;

/// An operator that keeps nothing. Not generic in the rows, so it is compiled once.
pub(super) fn each<'i, T: Time>(
    updates: Updates<'i, T>,
    host: &FragmentHost,
    name: &str,
    mut step: Step,
) -> Updates<'i, T> {
    let host = host.clone();
    updates.unary::<NoopBuilder<EdgeBatch>, _, _, _>(Pipeline, name, move |_, _| {
        let mut made = Vec::new();
        move |input, output| {
            host.enter();
            input.for_each(|capability, edge_batch| {
                if let Err(error) = step(host.receive(edge_batch), &mut made) {
                    host.fail(error);
                }
                let mut session = output.session_with_builder(&capability);
                for mut made in made.drain(..) {
                    session.give_container(&mut made);
                }
            });
        }
    })
}

/// A step that makes of each row another one, or none.
pub(super) fn map_rows<K, V, K2, W, T>(mut map: impl FnMut(K, V) -> Option<(K2, W)> + 'static) -> Step
where
    K: TableKey,
    V: TableRow,
    K2: TableKey,
    W: TableRow,
    T: Time,
{
    Box::new(move |batch, made| {
        let updates = rows::<Update<K, V, T>>(batch)?.into_iter();
        let mapped = updates.filter_map(|((key, row), tick, diff)| Some((map(key, row)?, tick, diff)));
        let mapped: Vec<Update<K2, W, T>> = mapped.collect();
        if !mapped.is_empty() {
            made.push(edge_batch(mapped));
        }
        Ok(())
    })
}

/// A step that takes away what another one adds.
pub(super) fn negate_rows<K: TableKey, V: TableRow, T: Time>() -> Step {
    Box::new(move |batch, made| {
        let mut updates = rows::<Update<K, V, T>>(batch)?;
        for (_, _, diff) in &mut updates {
            *diff = -*diff;
        }
        made.push(edge_batch(updates));
        Ok(())
    })
}

/// Sends each row to the worker that holds its key.
pub(super) fn exchange<'i, K: TableKey, V: TableRow, T: Time>(
    updates: Updates<'i, T>,
    host: &FragmentHost,
) -> Updates<'i, T> {
    let (at, workers) = (host.clone(), host.workers());
    let deal: Step = Box::new(move |batch, made| {
        let mut parts: Vec<Vec<Update<K, V, T>>> = vec![Vec::new(); workers];
        for update in rows::<Update<K, V, T>>(batch)? {
            let worker = at.worker_of(hash_key(&update.0.0));
            if let Some(part) = parts.get_mut(worker) {
                part.push(update);
            }
        }
        for (worker, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let mut part = edge_batch(part);
            part.batch = part.batch.for_worker(worker);
            made.push(part);
        }
        Ok(())
    });
    received(each(updates, host, "deal", deal), host)
}

/// The exchange of batches that are labelled with their worker.
fn received<'i, T: Time>(dealt: Updates<'i, T>, host: &FragmentHost) -> Updates<'i, T> {
    let mut builder = OperatorBuilder::new("exchange".to_owned(), dealt.scope());
    let mut input = builder.new_input(dealt, host.exchange());
    let (output, updates) = builder.new_output::<EdgeBatch>();
    let mut output = OutputBuilder::<T, NoopBuilder<EdgeBatch>>::from(output);
    let host = host.clone();
    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            let mut output = output.activate();
            input.for_each(|capability, edge_batch| {
                let batch = host.receive(edge_batch);
                output.session_with_builder(&capability).give_container(&mut EdgeBatch::new(batch));
            });
        }
    });
    updates
}

/// Sorts updates into batches.
struct EdgeBatcher<K: TableKey, V: TableRow, T: Time> {
    batcher: ValBatcher<K, V, T, i64>,
    host: FragmentHost,
}

impl<K: TableKey, V: TableRow, T: Time> Extract for EdgeBatcher<K, V, T> {
    type Time = T;
    type Output = Sorted<K, V, T>;

    fn extract<'a>(
        &'a mut self,
        upper: AntichainRef<'_, T>,
    ) -> (Option<Sorted<K, V, T>>, AntichainRef<'a, T>) {
        self.batcher.extract(upper)
    }
}

impl<K: TableKey, V: TableRow, T: Time> Batcher<EdgeBatch> for EdgeBatcher<K, V, T> {
    fn insert(&mut self, edge_batch: &mut EdgeBatch) {
        match rows::<Update<K, V, T>>(self.host.receive(edge_batch)) {
            Ok(mut updates) => self.batcher.insert(&mut updates),
            Err(error) => self.host.fail(error),
        }
    }
}

/// Arranges rows that are on the workers of their keys.
pub(super) fn arrange<'i, K: TableKey, V: TableRow, T: Time>(
    updates: Updates<'i, T>,
    host: &FragmentHost,
) -> ByKey<'i, K, V, T> {
    let host = host.clone();
    arrange_core::<_, EdgeBatch, EdgeBatcher<K, V, T>, SharedSpine<K, V, T>>(
        updates,
        Pipeline,
        "arrange",
        move |logger, id| EdgeBatcher { batcher: ValBatcher::new(logger, id), host },
    )
}

/// The batches of an arrangement, on an edge like any other.
pub(super) fn erase<'i, K: TableKey, V: TableRow, T: Time>(
    batches: Stream<'i, T, Vec<SpanOf<Trace<K, V, T>>>>,
) -> Updates<'i, T> {
    batches.unary::<NoopBuilder<EdgeBatch>, _, _, _>(Pipeline, "erase", |_, _| {
        |input, output| {
            input.for_each(|capability, spans| {
                let mut erased = edge_batch(std::mem::take(spans));
                output.session_with_builder(&capability).give_container(&mut erased);
            });
        }
    })
}

/// The batches of an arrangement that was [erased](erase).
pub(super) fn restore<'i, K: TableKey, V: TableRow, T: Time>(
    erased: Updates<'i, T>,
    host: &FragmentHost,
) -> Stream<'i, T, Vec<SpanOf<Trace<K, V, T>>>> {
    let host = host.clone();
    erased.unary::<NoopBuilder<Vec<SpanOf<Trace<K, V, T>>>>, _, _, _>(Pipeline, "restore", move |_, _| {
        move |input, output| {
            input.for_each(|capability, edge_batch| {
                match rows::<SpanOf<Trace<K, V, T>>>(host.receive(edge_batch)) {
                    Ok(mut spans) => output.session_with_builder(&capability).give_container(&mut spans),
                    Err(error) => host.fail(error),
                }
            });
        }
    })
}

/// Rows that an operator of differential yields one by one, in batches for an edge.
pub(super) struct EdgeBuilder<D> {
    rows: Vec<D>,
    full: VecDeque<EdgeBatch>,
    out: EdgeBatch,
}

/// Rows of a batch that an operator of differential yields.
const ROWS: usize = 1024;

impl<D> Default for EdgeBuilder<D> {
    fn default() -> Self {
        EdgeBuilder { rows: Vec::new(), full: VecDeque::new(), out: EdgeBatch::default() }
    }
}

impl<D: Clone + Send + 'static> PushInto<D> for EdgeBuilder<D> {
    #[inline]
    fn push_into(&mut self, row: D) {
        self.rows.push(row);
        if self.rows.len() == ROWS {
            self.full.push_back(edge_batch(std::mem::take(&mut self.rows)));
        }
    }
}

impl<D: Clone + Send + 'static> ContainerBuilder for EdgeBuilder<D> {
    type Container = EdgeBatch;

    fn extract(&mut self) -> Option<&mut EdgeBatch> {
        self.out = self.full.pop_front()?;
        Some(&mut self.out)
    }

    fn finish(&mut self) -> Option<&mut EdgeBatch> {
        if !self.rows.is_empty() {
            self.full.push_back(edge_batch(std::mem::take(&mut self.rows)));
        }
        self.extract()
    }
}

/// What a part is of, without owning any of it.
pub(super) type Of<T> = PhantomData<fn() -> T>;
