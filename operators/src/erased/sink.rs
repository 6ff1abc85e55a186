//! A sink as the engine holds it: its types are hidden, and with it is the chain of steps before it.
//!
//! Where the results of the steps would not leave their worker, there is no operator and no edge between the two: the
//! sink's operator runs the chain, and hands what it yields to the sink some rows at a time, which stay in the core's cache,
//! or one by one if the sink would have it so. Behind a source that is one loop from the reader to the sink.

use std::sync::Arc;

use either::Either;

use crate::buffers::{chunk_capacity, give_back, grow, with_room, write_capacity};
use crate::chain::pull::{Rows, incoming};
use crate::chain::{Chain, ObservedWatermark, TimeDomain};
use crate::sink::{Committed, Prepared, Sink, SinkContext, SinkError};
use crate::{Batch, Epoch, RowKind};

/// A [`Sink`] whose type is hidden; made by the graph, used by the engine.
pub trait DynSink: Send {
    /// See [`Sink::describe`].
    fn describe(&self) -> String;
    /// See [`Sink::takes`].
    fn takes(&self, kind: RowKind) -> bool;
    /// See [`Sink::open`].
    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError>;
    /// See [`Sink::write`]: takes rows that the steps before the sink, if there are any, have been done with. Returns how
    /// many rows there were.
    fn write(&mut self, epoch: Epoch, batch: Batch) -> Result<u64, SinkError>;
    /// Takes rows as they come to the steps before the sink, through these and into the sink. Returns how many rows were
    /// written. `next` is told whose code comes next: at first it is that of the steps.
    fn write_through(
        &mut self,
        epoch: Epoch,
        batch: Batch,
        next: &mut dyn FnMut(Whose),
    ) -> Result<u64, SinkError>;
    /// See [`Sink::recover`].
    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError>;
    /// See [`Sink::prepare`].
    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError>;
    /// See [`Sink::commit`].
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError>;
    /// See [`Sink::close`].
    fn close(&mut self) -> Result<(), SinkError>;
    /// See [`Sink::abort`].
    fn abort(&mut self);
}

/// Whose code runs where steps and a sink are one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of the source, if it is read in the loop, and of the steps.
    Steps,
    /// The sink's.
    Sink,
}

/// Hides the types of a sink and of the chain before it.
pub(crate) struct ErasedSink<S, P> {
    sink: S,
    chain: Arc<P>,
    /// Whether the chain has no steps, and so is not an operator of its own in any plan.
    bare: bool,
}

impl<S, P> ErasedSink<S, P> {
    pub(crate) fn new(sink: S, chain: Arc<P>, bare: bool) -> Self {
        ErasedSink { sink, chain, bare }
    }
}

impl<S: Sink<P::Out>, P: Chain> ErasedSink<S, P> {
    /// Writes what the chain makes of rows, a `FEW` at a time or more.
    fn pass<const FEW: bool>(
        &mut self,
        epoch: Epoch,
        rows: impl Rows<P::In>,
        next: &mut dyn FnMut(Whose),
    ) -> Result<u64, SinkError> {
        let mut chunk = room::<FEW, _>(rows.at_most());
        let mut writing = Writing::<S, FEW> { sink: &mut self.sink, epoch, count: 0, outcome: Ok(()), next };
        // The watermark that the rows justify is not used: a chain that assigns one stays an operator of its own.
        self.chain.run(rows, &mut ObservedWatermark::new(), &mut |_, row| {
            // Only where there is room: so the vector stays in registers through the loop.
            if chunk.len() < chunk.capacity() {
                chunk.push(row);
            } else {
                chunk = writing.push_to_full(std::mem::take(&mut chunk), row);
            }
        });
        if !chunk.is_empty() {
            writing.write(&mut chunk);
        }
        if !FEW {
            give_back(chunk);
        }
        writing.outcome.map(|()| writing.count)
    }

    /// Writes what the chain makes of rows one by one.
    fn pass_one_by_one(
        &mut self,
        epoch: Epoch,
        rows: impl Rows<P::In>,
        next: &mut dyn FnMut(Whose),
    ) -> Result<u64, SinkError> {
        let (sink, mut count, mut outcome) = (&mut self.sink, 0, Ok(()));
        self.chain.run(rows, &mut ObservedWatermark::new(), &mut |_, row| {
            count += 1;
            // The chain cannot be stopped; what it yields after an error is dropped.
            if outcome.is_ok() {
                let panics = Panics(&mut *next);
                let written = sink.write_one(epoch, row);
                std::mem::forget(panics);
                if let Err(error) = written {
                    next(Whose::Sink);
                    outcome = Err(error);
                }
            }
        });
        outcome.map(|()| count)
    }

    /// Writes rows that need no steps.
    fn write_all(&mut self, epoch: Epoch, mut rows: Vec<P::Out>) -> Result<u64, SinkError> {
        let count = rows.len() as u64;
        self.sink.write(epoch, &mut rows)?;
        give_back(rows);
        Ok(count)
    }
}

/// How many rows are written at a time.
const fn most<const FEW: bool, T>() -> usize {
    if FEW { chunk_capacity::<T>() } else { write_capacity::<T>() }
}

/// A vector for as many rows, or for all there are.
fn room<const FEW: bool, T: 'static>(rows: usize) -> Vec<T> {
    let rows = rows.min(const { most::<FEW, T>() });
    if FEW { Vec::with_capacity(rows) } else { with_room(rows) }
}

/// Says that it is the sink's code that runs, if that panics: to say so for every row would cost more than many a row.
struct Panics<'a>(&'a mut dyn FnMut(Whose));

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        (self.0)(Whose::Sink);
    }
}

/// Rows on their way from a chain into a sink.
struct Writing<'a, S, const FEW: bool> {
    sink: &'a mut S,
    epoch: Epoch,
    count: u64,
    /// The first error. The chain cannot be stopped; what it yields after is dropped.
    outcome: Result<(), SinkError>,
    next: &'a mut dyn FnMut(Whose),
}

impl<S, const FEW: bool> Writing<'_, S, FEW> {
    fn write<T>(&mut self, rows: &mut Vec<T>)
    where
        S: Sink<T>,
    {
        self.count += rows.len() as u64;
        if self.outcome.is_ok() {
            (self.next)(Whose::Sink);
            self.outcome = self.sink.write(self.epoch, rows);
            (self.next)(Whose::Steps);
        }
    }

    /// Makes room for a row, by writing the others if they are a chunk.
    #[cold]
    #[inline(never)]
    fn push_to_full<T: 'static>(&mut self, mut rows: Vec<T>, row: T) -> Vec<T>
    where
        S: Sink<T>,
    {
        if rows.len() >= const { most::<FEW, T>() } {
            self.write(&mut rows);
            rows.clear();
        }
        if rows.capacity() == 0 {
            // The sink has kept the memory for itself.
            rows = room::<FEW, _>(usize::MAX);
        } else {
            grow(&mut rows, const { most::<FEW, T>() });
        }
        rows.push(row);
        rows
    }
}

impl<S: Sink<P::Out>, P: Chain> DynSink for ErasedSink<S, P> {
    fn describe(&self) -> String {
        self.sink.describe()
    }
    fn takes(&self, kind: RowKind) -> bool {
        self.sink.takes(kind)
    }
    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.sink.open(context)
    }
    fn write(&mut self, epoch: Epoch, mut batch: Batch) -> Result<u64, SinkError> {
        if self.bare && (P::Time::CARRIED || batch.is_pulled()) {
            return self.write_through(epoch, batch, &mut |_| {});
        }
        match batch.take::<P::Out>() {
            Some(rows) => self.write_all(epoch, rows),
            None => Err(SinkError::Setup(format!(
                "{} got rows of another type: this is a defect of Tidemill, please report it",
                self.describe()
            ))),
        }
    }
    fn write_through(
        &mut self,
        epoch: Epoch,
        batch: Batch,
        next: &mut dyn FnMut(Whose),
    ) -> Result<u64, SinkError> {
        next(Whose::Steps);
        let rows = incoming::<P>(batch).map_err(|error| SinkError::Other(Box::new(error)))?;
        if const { S::ONE_BY_ONE } && self.sink.one_by_one() {
            return match rows {
                Either::Right(pulled) => self.pass_one_by_one(epoch, pulled, next),
                Either::Left(rows) => self.pass_one_by_one(epoch, rows, next),
            };
        }
        match rows {
            // What comes from a source as it is has the widest rows and nothing to hide their cost behind: few at a time,
            // so that they stay in the innermost cache.
            Either::Right(pulled) if self.bare => self.pass::<true>(epoch, pulled, next),
            Either::Right(pulled) => self.pass::<false>(epoch, pulled, next),
            Either::Left(rows) => self.pass::<false>(epoch, rows, next),
        }
    }
    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        self.sink.recover(committed)
    }
    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        self.sink.prepare(epoch)
    }
    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.sink.commit(epoch)
    }
    fn close(&mut self) -> Result<(), SinkError> {
        self.sink.close()
    }
    fn abort(&mut self) {
        self.sink.abort();
    }
}
