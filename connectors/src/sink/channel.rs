//! Rows for a thread of your own.

use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};
use tidemill_operators::{Cancellation, Epoch, RowKind, Sink, SinkContext, SinkError};

use super::Pending;

/// A sink into a channel; see [`channel_sink`].
pub struct ChannelSink<T> {
    pending: Pending<T>,
    sender: Sender<T>,
    cancellation: Cancellation,
}

/// How often a sink that waits for room looks whether the query has been cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// Returns a sink that sends rows into a channel.
///
/// In micro-batch it sends when the epoch commits, in continuous mode at once.
///
/// A full channel blocks the query until it is cancelled. A channel without receivers ends it with an error.
///
/// ```
/// use tidemill::Sink;
/// use tidemill::prelude::*;
///
/// let (sender, receiver) = crossbeam_channel::bounded(16);
/// let mut sink = channel_sink(sender);
/// sink.write(Epoch::new(0), &mut vec![1, 2])?;
/// sink.commit(Epoch::new(0))?;
/// assert_eq!(receiver.try_iter().collect::<Vec<i32>>(), [1, 2]);
/// # Ok::<(), tidemill::SinkError>(())
/// ```
pub fn channel_sink<T: Send + 'static>(sender: Sender<T>) -> ChannelSink<T> {
    ChannelSink { pending: Pending::new(), sender, cancellation: Cancellation::new() }
}

impl<T> ChannelSink<T> {
    fn show(&self, rows: Vec<T>) -> Result<(), SinkError> {
        rows.into_iter().try_for_each(|row| self.send(row))
    }

    fn send(&self, mut row: T) -> Result<(), SinkError> {
        loop {
            match self.sender.send_timeout(row, LOOK) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => {
                    return Err(SinkError::Closed("the channel".into()));
                }
                Err(SendTimeoutError::Timeout(_)) if self.cancellation.is_cancelled() => {
                    return Err(SinkError::Cancelled);
                }
                Err(SendTimeoutError::Timeout(back)) => row = back,
            }
        }
    }
}

impl<T: Send + 'static> Sink<T> for ChannelSink<T> {
    fn describe(&self) -> String {
        "channel".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.pending.open(context);
        self.cancellation = context.cancellation.clone();
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        self.pending.add(epoch, rows).map_or(Ok(()), |rows| self.show(rows))
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.pending.commit(epoch).into_iter().try_for_each(|(_, rows)| self.show(rows))
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::RowKind;

    use super::super::testing::{open, write};
    use super::*;

    #[test]
    fn full_channel_gives_up_when_query_is_cancelled() {
        for immediate in [false, true] {
            let (sender, receiver) = crossbeam_channel::bounded(1);
            let mut sink = channel_sink(sender);
            let cancellation = Cancellation::new();
            let context = SinkContext::new("test", RowKind::Insert, immediate);
            sink.open(&context.with_cancellation(cancellation.clone())).unwrap();
            let waiting = std::thread::spawn(move || {
                sink.write(Epoch::new(0), &mut vec![1, 2]).and_then(|()| sink.commit(Epoch::new(0)))
            });
            while receiver.is_empty() {
                std::thread::yield_now();
            }
            cancellation.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(SinkError::Cancelled)));
            assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
        }
    }

    #[test]
    fn rows_are_sent_with_their_epoch_or_at_once() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let mut sink = channel_sink(sender);
        open(&mut sink, RowKind::Insert, false);
        write(&mut sink, 0, vec![1]);
        assert!(receiver.is_empty());
        sink.commit(Epoch::new(0)).unwrap();
        open(&mut sink, RowKind::Insert, true);
        write(&mut sink, 1, vec![2]);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
        drop(receiver);
        let error = sink.write(Epoch::new(2), &mut vec![3]).unwrap_err();
        assert!(matches!(error, SinkError::Closed(_)), "{error}");
    }
}
