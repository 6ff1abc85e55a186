//! The operator that a closed chain becomes: one loop over each batch, through every step, into the next edge.

use std::sync::Arc;

use either::Either;

use crate::buffers::{batch_capacity, give_back, grow, with_room};
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, ObservedWatermark, TimeDomain};
use crate::{Batch, Context, EventTime, Operator, OperatorError};

/// Runs a chain and sends what it yields.
pub(crate) struct ChainOperator<P: Chain> {
    chain: Arc<P>,
}

impl<P: Chain> ChainOperator<P> {
    pub(crate) fn new(chain: Arc<P>) -> Self {
        ChainOperator { chain }
    }
}

impl<P: Chain> Operator for ChainOperator<P> {
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        run_chain(&*self.chain, batch, context, <P::Time as TimeDomain>::pack::<P::Out>)
    }
}

/// Runs a chain over a batch, sending what `pack` makes of each record to output 0.
pub(crate) fn run_chain<P: Chain, R: Send + 'static>(
    chain: &P,
    batch: Batch,
    context: &mut Context,
    pack: impl Fn(EventTime, P::Out) -> R,
) -> Result<(), OperatorError> {
    let origin = batch.origin();
    match incoming::<P>(batch)? {
        Either::Left(rows) => run(chain, rows, origin, context, pack),
        Either::Right(pulled) => run(chain, pulled, origin, context, pack),
    }
    Ok(())
}

fn run<P: Chain, N: Rows<P::In>, R: Send + 'static>(
    chain: &P,
    mut rows: N,
    origin: u32,
    context: &mut Context,
    pack: impl Fn(EventTime, P::Out) -> R,
) {
    // The results of a pull wait for the next operator, and should not leave the cache before.
    rows.limit(2 * batch_capacity::<R>());
    let mut out: Vec<R> = with_room(rows.at_most().min(batch_capacity::<R>()));
    let mut observed = ObservedWatermark::new();
    chain.run(rows, &mut observed, &mut |time, value| {
        // Only where there is room: so the vector stays in registers through the loop.
        if out.len() < out.capacity() {
            out.push(pack(time, value));
        } else {
            out = push_to_full(std::mem::take(&mut out), pack(time, value), origin, context);
        }
    });
    context.send(0, Batch::from_vec(fitting(out)).with_origin(origin));
    if observed.seen {
        context.observe(origin, observed.watermark);
    }
}

/// Few rows in much memory are moved to less: they may have to wait.
fn fitting<R: 'static>(mut rows: Vec<R>) -> Vec<R> {
    if rows.len() >= rows.capacity() / 8 {
        return rows;
    }
    let mut fitting = Vec::with_capacity(rows.len());
    fitting.append(&mut rows);
    give_back(rows);
    fitting
}

/// Makes room for a row, by sending the others if they are a batch.
#[cold]
#[inline(never)]
fn push_to_full<R: Send + 'static>(mut rows: Vec<R>, row: R, origin: u32, context: &mut Context) -> Vec<R> {
    let capacity = batch_capacity::<R>();
    if rows.len() >= capacity {
        context.send(0, Batch::from_vec(rows).with_origin(origin));
        rows = with_room(capacity);
    } else {
        grow(&mut rows, capacity);
    }
    rows.push(row);
    rows
}

/// Runs a chain and hands its records to a sink without their event times.
pub(crate) struct StripTime<P: Chain> {
    chain: Arc<P>,
}

impl<P: Chain> StripTime<P> {
    pub(crate) fn new(chain: Arc<P>) -> Self {
        StripTime { chain }
    }
}

impl<P: Chain> Operator for StripTime<P> {
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        run_chain(&*self.chain, batch, context, |_, value| value)
    }
}
