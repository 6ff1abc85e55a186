//! How records get from a thread that may block to the worker that must not: a bounded channel and a bell.
//!
//! The bell rings only for a reader that has nothing to do, or for who plans what it reads and has found nothing. No wake-up
//! is lost: the reader says that it waits, *then* looks into the channel once more; the sender sends, *then* looks whether
//! the reader waits. Between the two steps
//! each has a sequentially consistent fence, so at least one of them sees what the other did.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, SendError, Sender, TryRecvError, TrySendError};
use tidemill_operators::{Poll, SourceError, Waker};

/// What both ends, and the source that is asked how far one could read, know of the channel.
#[derive(Default)]
pub(super) struct Gauge {
    /// Records sent. Counted after the sending, so it never promises what cannot be received yet.
    sent: AtomicU64,
    producers: AtomicUsize,
    waiting: AtomicBool,
    waker: OnceLock<Waker>,
    /// The offset of the first record that was sent.
    base: OnceLock<u64>,
}

impl Gauge {
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed)
            && self.waiting.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }

    /// How far one could read now. Beyond what was sent if nothing more will be, so that the reader is asked and
    /// says that it has ended. Who learns that there is nothing is told when there is.
    pub(super) fn latest(&self, from: u64) -> u64 {
        let latest = self.could_read(from);
        if latest > from {
            return latest;
        }
        self.waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.could_read(from)
    }

    fn could_read(&self, from: u64) -> u64 {
        let closed = self.producers.load(Ordering::Acquire) == 0;
        let sent = self.base.get().unwrap_or(&from).saturating_add(self.sent.load(Ordering::Acquire));
        if closed && sent <= from { from.saturating_add(1) } else { sent.max(from) }
    }
}

/// The sending end. The reader learns of the end when the last one is dropped.
pub(super) struct Producer<T> {
    // Dropped in this order: when the bell rings for the last time, the channel is closed already.
    sender: Sender<T>,
    bell: Bell,
}

impl<T> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Producer { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

struct Bell(Arc<Gauge>);

impl Bell {
    fn new(gauge: &Arc<Gauge>) -> Self {
        gauge.producers.fetch_add(1, Ordering::Relaxed);
        Bell(Arc::clone(gauge))
    }
}

impl Clone for Bell {
    fn clone(&self) -> Self {
        Bell::new(&self.0)
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.producers.fetch_sub(1, Ordering::AcqRel);
        self.0.ring();
    }
}

impl<T> Producer<T> {
    /// Sends without waking the reader: for several records in a row, with a [`Producer::ring`] after them. Where the
    /// channel is full it wakes the reader and waits.
    pub(super) fn push(&self, value: T) -> Result<(), SendError<T>> {
        self.push_batch(value, 1)
    }

    /// Sends what counts as that many records, as [`push`](Self::push) does.
    pub(super) fn push_batch(&self, value: T, records: u64) -> Result<(), SendError<T>> {
        match self.sender.try_send(value) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(value)) => return Err(SendError(value)),
            Err(TrySendError::Full(value)) => {
                self.ring();
                self.sender.send(value)?;
            }
        }
        self.bell.0.sent.fetch_add(records, Ordering::Release);
        Ok(())
    }

    /// Sends if there is room. Does not wake the reader.
    pub(super) fn try_push(&self, value: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(value)?;
        self.bell.0.sent.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Wakes the reader if it waits.
    pub(super) fn ring(&self) {
        self.bell.0.ring();
    }
}

/// The receiving end.
pub(super) struct Consumer<T> {
    receiver: Receiver<T>,
    gauge: Arc<Gauge>,
    /// The offset of the next record.
    at: u64,
}

/// A channel with room for `capacity` records (at least one).
pub(super) fn handover<T>(capacity: usize) -> (Producer<T>, Consumer<T>, Arc<Gauge>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity.max(1));
    let gauge = Arc::new(Gauge::default());
    let producer = Producer { sender, bell: Bell::new(&gauge) };
    (producer, Consumer { receiver, gauge: Arc::clone(&gauge), at: 0 }, gauge)
}

impl<T> Consumer<T> {
    /// Says what the offset of the first record is, and whom to wake.
    pub(super) fn open(&mut self, from: u64, waker: Waker) {
        self.at = from;
        // An consumer is opened once.
        let _ = self.gauge.base.set(from);
        let _ = self.gauge.waker.set(waker);
    }

    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// Hands at most `max` records to `take`, none beyond `until`.
    pub(super) fn poll(
        &mut self,
        until: Option<&u64>,
        max: usize,
        mut take: impl FnMut(T) -> Result<(), SourceError>,
    ) -> Result<Poll, SourceError> {
        let room = super::room(self.at, until, max);
        for taken in 0..room {
            match self.receive(taken == 0) {
                Ok(value) => {
                    self.at += 1;
                    take(value)?;
                }
                Err(TryRecvError::Empty) => return Ok(if taken > 0 { Poll::Soon } else { Poll::Idle }),
                Err(TryRecvError::Disconnected) => return Ok(Poll::End),
            }
        }
        Ok(if room == 0 { Poll::Idle } else { Poll::Ready })
    }

    /// Receives what was sent next. If there is nothing and the reader `waits`, the next one that sends wakes it.
    pub(super) fn receive(&self, waits: bool) -> Result<T, TryRecvError> {
        match self.receiver.try_recv() {
            Err(TryRecvError::Empty) if waits => self.look_again(),
            received => received,
        }
    }

    fn look_again(&self) -> Result<T, TryRecvError> {
        self.gauge.waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let received = self.receiver.try_recv();
        if received.is_ok() {
            self.gauge.waiting.store(false, Ordering::Relaxed);
        }
        received
    }
}
