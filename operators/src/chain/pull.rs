//! What a chain of steps takes its rows from: a batch of them, or a reader from which it pulls them.
//!
//! [`PulledRows`] are rows that are still in the source. The chain behind the source knows the type of its reader, so the
//! loop that reads and the steps are compiled as one, and a record passes through all of them without being materialised.
//! To the engine they are a batch like any other. The source waits until they have been read. Rows that are wide or own
//! memory are pulled.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use either::Either;

use super::Chain;
use crate::buffers::give_back;
use crate::source::{Polled, Reader, SourceError, Waker};
use crate::turn;
use crate::{Batch, OperatorError, rows};

/// Rows, to be taken one by one.
pub trait Rows<T> {
    /// How many there may be.
    fn at_most(&self) -> usize;

    /// Takes no more than this many, where the others can stay where they are.
    fn limit(&mut self, _rows: usize) {}

    /// Gives every row to `take`.
    fn each(self, take: impl FnMut(T));
}

impl<T: 'static> Rows<T> for Vec<T> {
    fn at_most(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn each(mut self, mut take: impl FnMut(T)) {
        for row in self.drain(..) {
            take(row);
        }
        give_back(self);
    }
}

/// Rows that may come in a batch without being there yet. Named in types, implemented only here.
pub trait Pull<T>: Rows<T> + Sized {
    /// Whether there are any such: whether it can be, and is worth while.
    const POSSIBLE: bool;

    /// Takes them out of a batch, if it has them.
    fn take_from(batch: &mut Batch) -> Option<Self>;
}

/// Of a chain that does not begin at a source.
impl<T> Rows<T> for Infallible {
    fn at_most(&self) -> usize {
        match *self {}
    }

    fn each(self, _take: impl FnMut(T)) {
        match self {}
    }
}

impl<T> Pull<T> for Infallible {
    const POSSIBLE: bool = false;

    fn take_from(_batch: &mut Batch) -> Option<Self> {
        None
    }
}

/// The rows of a batch for a chain: there, or to be read.
pub(crate) fn incoming<P: Chain>(mut batch: Batch) -> Result<Either<Vec<P::In>, P::Pulled>, OperatorError> {
    match P::Pulled::take_from(&mut batch) {
        Some(pulled) => Ok(Either::Right(pulled)),
        None => rows(batch).map(Either::Left),
    }
}

/// A reader, how far it may read, and the outcome of the last pull.
pub(crate) struct Shared<R: Reader> {
    pub(crate) reader: R,
    pub(crate) until: Option<R::Offset>,
    pub(crate) polled: Option<Result<Polled, SourceError>>,
}

impl<R: Reader> Shared<R> {
    pub(crate) fn poll(&mut self, max: usize, out: &mut Vec<R::Item>) -> Result<Polled, SourceError> {
        let poll = self.reader.poll(self.until.as_ref(), max, out)?;
        Ok(Polled { rows: out.len(), poll, skipped: self.reader.take_skipped() })
    }
}

/// Rows that the chain reads from the source in its own loop.
pub struct PulledRows<R: Reader> {
    shared: Arc<Mutex<Shared<R>>>,
    max: usize,
    done: Waker,
}

impl<R: Reader> PulledRows<R> {
    pub(crate) fn new(shared: Arc<Mutex<Shared<R>>>, max: usize, done: Waker) -> Self {
        PulledRows { shared, max, done }
    }

    pub(crate) fn into_batch(self) -> Batch {
        Batch::pulled(self)
    }
}

impl<R: Reader> std::fmt::Debug for PulledRows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PulledRows").field("max", &self.max).finish_non_exhaustive()
    }
}

impl<R: Reader> Rows<R::Item> for PulledRows<R> {
    fn at_most(&self) -> usize {
        self.max
    }

    fn limit(&mut self, rows: usize) {
        self.max = self.max.min(rows);
    }

    #[inline(always)]
    fn each(self, mut take: impl FnMut(R::Item)) {
        let mut shared = turn::lock(&self.shared);
        let Shared { reader, until, polled } = &mut *shared;
        let mut rows = 0;
        let poll = reader.pull(until.as_ref(), self.max, |row| {
            rows += 1;
            take(row);
        });
        *polled = Some(poll.map(|poll| Polled { rows, poll, skipped: reader.take_skipped() }));
        drop(shared);
        self.done.wake();
    }
}

/// Rows above this size are pulled lazily instead of being materialised.
const SMALL: usize = 32;

impl<R: Reader> Pull<R::Item> for PulledRows<R> {
    /// Small plain rows are materialised: a loop that only reads does not wait for the cache misses and mispredicted branches
    /// of the steps.
    const POSSIBLE: bool = size_of::<R::Item>() > SMALL || std::mem::needs_drop::<R::Item>();

    fn take_from(batch: &mut Batch) -> Option<Self> {
        if Self::POSSIBLE { batch.take_pulled() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::counting::Counting;
    use crate::{Poll, ProcessingTime};

    fn read(reader: Counting, until: Option<u64>, max: usize) -> (Vec<u64>, Polled, Counting) {
        let shared = Arc::new(Mutex::new(Shared { reader, until, polled: None }));
        let pulled = PulledRows::new(Arc::clone(&shared), max, Waker::new(|| {}));
        let mut rows = Vec::new();
        PulledRows::<Counting>::take_from(&mut pulled.into_batch()).unwrap().each(|row| rows.push(*row));
        let Shared { reader, polled, .. } = Arc::into_inner(shared).unwrap().into_inner().unwrap();
        (rows, polled.unwrap().unwrap(), reader)
    }

    #[test]
    fn pull_reads_up_to_its_limits() {
        for (until, max, end, poll) in [
            (None, 10_000, 3_000, Poll::End),
            (None, 1_234, 1_234, Poll::Ready),
            (Some(700), 10_000, 700, Poll::Idle),
            (Some(700), 700, 700, Poll::Ready),
        ] {
            let (rows, polled, reader) = read(Counting::to(3_000), until, max);
            assert_eq!(rows, (0..end).collect::<Vec<_>>());
            assert_eq!((polled.rows as u64, polled.poll, reader.offset()), (end, poll, end));
        }
    }

    #[test]
    fn a_reader_that_has_nothing_is_not_asked_twice() {
        let waits = Counting { waits: Some(ProcessingTime::from_micros(7)), ..Counting::to(3) };
        let (rows, polled, _) = read(waits, None, 100);
        assert_eq!((rows, polled.poll), (vec![0, 1, 2], Poll::IdleUntil(ProcessingTime::from_micros(7))));
    }

    #[test]
    fn batch_is_either_pulled_or_materialised() {
        assert!(PulledRows::<Counting>::take_from(&mut Batch::from_vec(vec![1u64])).is_none());
        let shared = Arc::new(Mutex::new(Shared { reader: Counting::to(1), until: None, polled: None }));
        let mut batch = PulledRows::new(shared, 1, Waker::new(|| {})).into_batch();
        assert!(batch.is_pulled());
        assert_eq!((batch.len(), batch.take::<u64>()), (1, None));
        assert!(PulledRows::<Counting>::take_from(&mut batch).is_some());
        assert!(!batch.is_pulled());
    }
}
