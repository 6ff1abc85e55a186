//! Records that a thread of your own sends, for inputs without a source of their own.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{SendError, TrySendError};
use tidemill_operators::{
    PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError, SourceInfo,
};

use super::handover::{Consumer, Gauge, Producer, handover};
use crate::lock;

/// Sends records into a query. Cheap to clone; the source ends when the last clone is dropped.
pub struct ChannelSender<T> {
    producer: Producer<T>,
}

impl<T> Clone for ChannelSender<T> {
    fn clone(&self) -> Self {
        ChannelSender { producer: self.producer.clone() }
    }
}

impl<T> ChannelSender<T> {
    /// Sends a record, and waits while the channel is full.
    ///
    /// # Errors
    ///
    /// Returns the record if the query has ended.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.producer.push(value)?;
        self.producer.ring();
        Ok(())
    }

    /// Sends a record if there is room now.
    ///
    /// # Errors
    ///
    /// Returns the record if the channel is full or the query has ended.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.producer.try_push(value)?;
        self.producer.ring();
        Ok(())
    }
}

/// A source of the records that [`ChannelSender`]s send.
///
/// It has one partition, and cannot read a record again.
///
/// ```
/// use tidemill::Source;
/// use tidemill::prelude::*;
///
/// let (sender, source) = channel::<u64>(1024);
/// std::thread::spawn(move || {
///     for n in 0..10 {
///         if sender.send(n).is_err() {
///             break; // the query has ended
///         }
///     }
/// });
/// assert!(!source.is_replayable());
/// ```
pub struct ChannelSource<T> {
    consumer: Mutex<Option<Consumer<T>>>,
    gauge: Arc<Gauge>,
    /// A capacity that no channel can have.
    refused: Option<usize>,
}

/// The most records that a [`channel`] has room for: its slots are allocated at once.
const MAX_CAPACITY: usize = 1 << 24;

/// Returns a sender and a source of its records.
///
/// The channel has room for `capacity` records, from 1 to 16,777,216. Another capacity is an error when the query
/// starts.
pub fn channel<T: Send + 'static>(capacity: usize) -> (ChannelSender<T>, ChannelSource<T>) {
    let is_valid = (1..=MAX_CAPACITY).contains(&capacity);
    let (producer, consumer, gauge) = handover(if is_valid { capacity } else { 1 });
    let refused = (!is_valid).then_some(capacity);
    (ChannelSender { producer }, ChannelSource { consumer: Mutex::new(Some(consumer)), gauge, refused })
}

impl<T: Send + 'static> Source for ChannelSource<T> {
    type Item = T;
    type Offset = u64;
    type Reader = ChannelReader<T>;

    fn describe(&self) -> String {
        format!("channel of {}", std::any::type_name::<T>())
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        if let Some(capacity) = self.refused {
            return Err(SourceError::Setup(format!(
                "a channel's capacity must be from 1 to {MAX_CAPACITY} records (got {capacity})"
            )));
        }
        Ok(SourceInfo::new(1, |_| 0))
    }

    fn latest(&self, _partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let most = from.saturating_add(limits.records());
        Ok(self.gauge.latest(*from).min(most))
    }

    fn open(
        &self,
        _partition: u32,
        from: &u64,
        context: ReaderContext,
    ) -> Result<ChannelReader<T>, SourceError> {
        let mut consumer = lock(&self.consumer).take().ok_or_else(|| {
            SourceError::Setup(format!(
                "the {} has a reader already: it can be read only once",
                self.describe()
            ))
        })?;
        consumer.open(*from, context.waker);
        Ok(ChannelReader { consumer })
    }
}

/// Reads a [`ChannelSource`].
pub struct ChannelReader<T> {
    consumer: Consumer<T>,
}

impl<T: Send + 'static> Reader for ChannelReader<T> {
    type Item = T;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<T>) -> Result<Poll, SourceError> {
        self.consumer.poll(until, max, |value| {
            out.push(value);
            Ok(())
        })
    }

    fn offset(&self) -> u64 {
        self.consumer.offset()
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        if *offset == self.offset() {
            return Ok(());
        }
        Err(SourceError::NotReplayable { source_name: "a channel".to_owned(), offset: offset.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidemill_operators::{Clock, ProcessingTime, Waker};

    use super::*;
    use crate::source::testing::Drive;

    #[test]
    fn epoch_takes_sent_rows_and_next_ends_with_senders() {
        let (sender, source) = channel(8);
        let mut drive = Drive::new(source).unwrap();
        sender.send(1).unwrap();
        sender.clone().send(2).unwrap();
        assert_eq!(drive.epoch(Some(1)).unwrap(), [vec![1]]);
        assert_eq!(drive.epoch(None).unwrap(), [vec![2]]);
        assert!(drive.epoch(None).unwrap().concat().is_empty());
        sender.send(3).unwrap();
        drop(sender);
        assert_eq!(drive.epoch(None).unwrap(), [vec![3]]);
        assert!(!drive.ended());
        drive.epoch(None).unwrap();
        assert!(drive.ended());
    }

    #[test]
    fn no_wake_up_is_lost() {
        let (sender, source) = channel(2);
        let mut drive = Drive::new(source).unwrap();
        let thread = std::thread::spawn(move || (0..50_000).for_each(|n| sender.send(n).unwrap()));
        assert_eq!(drive.read_at_least(50_000).unwrap(), (0..50_000).collect::<Vec<i32>>());
        thread.join().unwrap();
        if !drive.ended() {
            drive.read_at_least(1).unwrap();
        }
        assert!(drive.ended());
    }

    #[test]
    fn an_idle_reader_is_woken_when_the_last_sender_goes() {
        let (sender, source) = channel::<u8>(2);
        let mut drive = Drive::new(source).unwrap();
        assert!(drive.read().unwrap().concat().is_empty());
        assert_eq!(drive.polls, [Poll::Idle]);
        drop(sender);
        drive.wait();
        drive.read().unwrap();
        assert!(drive.ended());
    }

    /// Micro-batch reads only what is planned, and so never comes to the end of the channel.
    #[test]
    fn who_plans_and_finds_nothing_is_told_of_the_next_record() {
        let (sender, source) = channel::<u8>(8);
        let rung = Arc::new(AtomicUsize::new(0));
        let bell = Arc::clone(&rung);
        let waker = Waker::new(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        let clock = Clock::new(|| ProcessingTime::from_micros(0));
        let mut reader = source.open(0, &0, ReaderContext::new(waker, clock)).unwrap();
        let limits = PlanLimits::new(None, ProcessingTime::from_micros(0));
        let rung = || rung.load(Ordering::Relaxed);
        for n in 0..3 {
            assert_eq!(source.latest(0, &n, &limits).unwrap(), n);
            sender.send(7).unwrap();
            assert_eq!(rung(), n as usize + 1);
            assert_eq!(source.latest(0, &n, &limits).unwrap(), n + 1);
            let mut out = Vec::new();
            reader.poll(Some(&(n + 1)), 8, &mut out).unwrap();
            assert_eq!(
                (out, reader.poll(Some(&(n + 1)), 8, &mut Vec::new()).unwrap()),
                (vec![7], Poll::Idle)
            );
        }
        // The reader has not polled since.
        sender.send(7).unwrap();
        assert_eq!(rung(), 3);
    }

    #[test]
    fn a_sender_gets_back_what_cannot_be_sent() {
        let (sender, source) = channel(1);
        sender.try_send("a").unwrap();
        assert_eq!(sender.try_send("b").unwrap_err(), TrySendError::Full("b"));
        drop(source);
        assert_eq!(sender.send("c").unwrap_err(), SendError("c"));
    }

    #[test]
    fn a_channel_cannot_be_opened_twice() {
        let (_sender, source) = channel::<u8>(1);
        let mut drive = Drive::new(source).unwrap();
        let error = drive.reopen().unwrap_err();
        assert!(error.to_string().contains("has a reader already"), "{error}");
    }

    #[test]
    fn channel_without_a_possible_capacity_is_refused_at_start() {
        for capacity in [0, MAX_CAPACITY + 1, usize::MAX] {
            let (_sender, source) = channel::<u64>(capacity);
            let error = source.prepare(&PrepareContext::default()).unwrap_err().to_string();
            assert!(error.contains(&format!("(got {capacity})")), "{error}");
        }
        assert!(channel::<u64>(1).1.prepare(&PrepareContext::default()).is_ok());
    }
}
