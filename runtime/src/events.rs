//! Events for the driver, and the bell that wakes its thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use tidemill_operators::graph::NodeId;
use tidemill_operators::{Epoch, ErasedOffset, Prepared, ProcessingTime};

use crate::checkpoint::CheckpointError;
use crate::checkpoint::compaction::Compacted;
use crate::checkpoint::records::FileRef;
use crate::error::RunError;
use crate::sim;

/// What the driver learns from workers, the saver, sources and the user's handle.
#[derive(Debug)]
pub(crate) enum Event {
    /// A source has read all that was planned for an epoch on a worker, or (continuous) has left it. For each
    /// partition: where it stands, and whether its reader has reported its end in this run.
    Read { epoch: Epoch, source: NodeId, rows: u64, offsets: Vec<(u32, ErasedOffset, bool)> },
    /// A source will take no part in epochs after this one.
    SourceDone { last: Option<Epoch> },
    /// A sink has everything of an epoch and can commit it; what it wants to be told after a crash.
    Prepared { epoch: Epoch, rows: u64, sink: NodeId, worker: usize, prepared: Prepared },
    /// A worker's state of an epoch is durable, or cannot be saved.
    Saved(Result<Saved, CheckpointError>),
    /// The checkpoint has been compacted.
    Compacted(Result<Compacted, CheckpointError>),
    /// Somebody wants a copy of the last commit.
    Savepoint { directory: PathBuf, reply: Sender<Result<Epoch, RunError>> },
    /// A sink has committed an epoch.
    Committed { epoch: Epoch },
    /// Something may have come in.
    DataAvailable,
    /// A helper thread has panicked.
    Failed(RunError),
    /// A worker has ended.
    WorkerDone,
    /// Something that the driver looks at by itself has changed: a failure, a stop, an idle source, a timer.
    Wake,
}

/// What one worker has saved of an epoch.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) epoch: Epoch,
    /// None if nothing has changed.
    pub(crate) file: Option<FileRef>,
    /// The processing-time calls that its operators wait for, by uid.
    pub(crate) timers: Vec<(Arc<str>, u32, ProcessingTime)>,
}

/// Sends events to the driver.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    events: Sender<Event>,
    bell: Sender<()>,
}

/// The events that nobody has taken.
#[derive(Debug)]
pub(crate) struct EventQueue {
    events: Receiver<Event>,
    bell: Receiver<()>,
}

/// Returns both ends of a queue.
pub(crate) fn event_queue() -> (EventSender, EventQueue) {
    let ((send, events), (ring, bell)) = (unbounded(), bounded(1));
    (EventSender { events: send, bell: ring }, EventQueue { events, bell })
}

impl EventSender {
    /// Sends an event and wakes the driver's thread; false if the query is over.
    pub(crate) fn send(&self, event: Event) -> bool {
        let is_there = self.events.send(event).is_ok();
        self.ring();
        is_there
    }

    /// Sends an event without waking the driver's thread: the next thread that ticks the driver handles it.
    pub(crate) fn send_without_waking(&self, event: Event) {
        // The driver outlives the workers; should it be gone, nobody needs to know any more.
        let _ = self.events.send(event);
    }

    /// Wakes the driver's thread.
    pub(crate) fn ring(&self) {
        // One that has been rung for already looks anyway.
        let _ = self.bell.try_send(());
    }
}

impl EventQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.events.try_recv()
    }

    /// Waits until the bell rings, at most that long.
    pub(crate) fn wait(&self, most: Duration) -> Result<(), RecvTimeoutError> {
        sim::recv_timeout(&self.bell, most)
    }
}
