//! What a chain of steps takes its rows from: a batch of them, or a reader from which it pulls them.
//!
//! [`PulledRows`] are rows that are still in the source. To the engine they are a batch like any other. The source waits
//! until they have been read. Rows that are wide or own memory are pulled: the chain reads some KiB of them, runs, and
//! reads on, so that they stay in the core's cache. Its loop takes them from the same vector as those of a batch, and is
//! compiled once for both ([`Chunks`]).
//!
//! A reader that makes its rows one by one ([`Reader::PULLS`]) is read from within the loop: the chain behind the source
//! knows its type, both are compiled as one, and a record passes through all steps without being materialised.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use either::Either;

use super::Chain;
use crate::buffers::{chunk_capacity, give_back};
use crate::source::{Poll, Polled, Reader, SourceError, Waker};
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

/// Rows that are there, and where others come from.
pub(crate) struct Chunks<T> {
    rows: Vec<T>,
    /// None where all rows are there.
    more: Option<Box<dyn More<T>>>,
}

/// Where more rows come from.
trait More<T> {
    /// How many there may be.
    fn at_most(&self) -> usize;

    /// Reads no more than this many.
    fn limit(&mut self, rows: usize);

    /// Reads some into an empty vector. Returns false after the last ones, for which it is not called again.
    fn read(&mut self, rows: &mut Vec<T>) -> bool;
}

impl<T> Chunks<T> {
    pub(crate) fn new(rows: Vec<T>) -> Self {
        Chunks { rows, more: None }
    }

    /// Whether rows are read from a source.
    pub(crate) fn is_pulled(&self) -> bool {
        self.more.is_some()
    }
}

impl<T: 'static> Rows<T> for Chunks<T> {
    fn at_most(&self) -> usize {
        self.more.as_ref().map_or(self.rows.len(), |more| more.at_most())
    }

    fn limit(&mut self, rows: usize) {
        if let Some(more) = &mut self.more {
            more.limit(rows);
        }
    }

    #[inline(always)]
    fn each(mut self, mut take: impl FnMut(T)) {
        loop {
            for row in self.rows.drain(..) {
                take(row);
            }
            let Some(more) = &mut self.more else { break };
            if !more.read(&mut self.rows) {
                break;
            }
        }
        give_back(self.rows);
    }
}

/// Rows that may come in a batch without being there yet. Named in types, implemented only here.
pub trait Pull<T>: Rows<T> + Sized {
    /// Whether there are any such: whether it can be, and is worth while.
    const POSSIBLE: bool;
    /// Whether they are read from within the loop, which is then compiled for them.
    const IN_LOOP: bool;

    /// Takes them out of a batch, if it has them.
    fn take_from(batch: &mut Batch) -> Option<Self>;

    /// The same, to be read some at a time.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "implemented and called only here")]
    fn into_chunks(self) -> Chunks<T>;
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
    const IN_LOOP: bool = false;

    fn take_from(_batch: &mut Batch) -> Option<Self> {
        None
    }

    #[allow(private_interfaces, reason = "as in the trait")]
    fn into_chunks(self) -> Chunks<T> {
        match self {}
    }
}

/// The rows of a batch for a chain: some at a time, or (where [`Pull::IN_LOOP`]) one by one.
pub(crate) fn incoming<P: Chain>(
    mut batch: Batch,
) -> Result<Either<Chunks<P::In>, P::Pulled>, OperatorError> {
    match P::Pulled::take_from(&mut batch) {
        Some(pulled) if const { P::Pulled::IN_LOOP } => Ok(Either::Right(pulled)),
        Some(pulled) => Ok(Either::Left(pulled.into_chunks())),
        None => rows(batch).map(|rows| Either::Left(Chunks::new(rows))),
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

/// Reads them some at a time, as [`Reader::pull`] does unless it is implemented.
struct Reading<R: Reader> {
    pulled: PulledRows<R>,
    /// What the partition is at, once anything has been read.
    rank: Option<u64>,
    rows: usize,
    /// How the last call of the reader ended, if none follows.
    last: Option<Result<Poll, SourceError>>,
}

impl<R: Reader> More<R::Item> for Reading<R> {
    fn at_most(&self) -> usize {
        self.pulled.max
    }

    fn limit(&mut self, rows: usize) {
        self.pulled.limit(rows);
    }

    fn read(&mut self, rows: &mut Vec<R::Item>) -> bool {
        let mut shared = turn::lock(&self.pulled.shared);
        let Shared { reader, until, polled } = &mut *shared;
        if self.last.is_none() {
            let rank = *self.rank.get_or_insert_with(|| reader.rank());
            let left = self.pulled.max - self.rows;
            let poll = reader.poll(until.as_ref(), left.min(const { chunk_capacity::<R::Item>() }), rows);
            if poll.is_err() {
                rows.clear();
            }
            let read = rows.len();
            self.rows += read;
            let is_last =
                !matches!(poll, Ok(Poll::Ready)) || read == 0 || read >= left || reader.rank() != rank;
            self.last = is_last.then_some(poll);
            if read > 0 {
                return true;
            }
        }
        let poll = self.last.take().unwrap_or(Ok(Poll::Ready));
        *polled = Some(poll.map(|poll| Polled { rows: self.rows, poll, skipped: reader.take_skipped() }));
        drop(shared);
        self.pulled.done.wake();
        false
    }
}

impl<R: Reader> Pull<R::Item> for PulledRows<R> {
    /// Small plain rows are materialised: a loop that only reads does not wait for the cache misses and mispredicted branches
    /// of the steps.
    const POSSIBLE: bool = size_of::<R::Item>() > SMALL || std::mem::needs_drop::<R::Item>();

    const IN_LOOP: bool = Self::POSSIBLE && R::PULLS;

    fn take_from(batch: &mut Batch) -> Option<Self> {
        if const { Self::POSSIBLE } { batch.take_pulled() } else { None }
    }

    #[allow(private_interfaces, reason = "as in the trait")]
    fn into_chunks(self) -> Chunks<R::Item> {
        let more = Box::new(Reading { pulled: self, rank: None, rows: 0, last: None });
        Chunks { rows: Vec::new(), more: Some(more) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ProcessingTime;
    use crate::source::counting::Counting;

    /// Reads in the loop, or some rows at a time: the outcome is known, and the source woken, after the last row.
    fn read(reader: Counting, until: Option<u64>, max: usize, in_loop: bool) -> (Vec<u64>, Polled, Counting) {
        let shared = Arc::new(Mutex::new(Shared { reader, until, polled: None }));
        let woken = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&woken);
        let wake = Waker::new(move || {
            done.fetch_add(1, Ordering::Relaxed);
        });
        let pulled = PulledRows::new(Arc::clone(&shared), max, wake).into_batch();
        let pulled = PulledRows::<Counting>::take_from(&mut { pulled }).unwrap();
        let mut rows = Vec::new();
        let take = |row: Box<u64>| {
            assert_eq!(woken.load(Ordering::Relaxed), 0);
            rows.push(*row);
        };
        if in_loop {
            pulled.each(take)
        } else {
            pulled.into_chunks().each(take)
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
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
            for in_loop in [true, false] {
                let (rows, polled, reader) = read(Counting::to(3_000), until, max, in_loop);
                assert_eq!(rows, (0..end).collect::<Vec<_>>());
                assert_eq!((polled.rows as u64, polled.poll, reader.offset()), (end, poll, end));
            }
        }
    }

    #[test]
    fn a_reader_that_has_nothing_is_not_asked_twice() {
        for in_loop in [true, false] {
            let waits = Counting { waits: Some(ProcessingTime::from_micros(7)), ..Counting::to(3) };
            let (rows, polled, _) = read(waits, None, 100, in_loop);
            assert_eq!((rows, polled.poll), (vec![0, 1, 2], Poll::IdleUntil(ProcessingTime::from_micros(7))));
        }
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
