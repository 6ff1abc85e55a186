//! Events for the driver, and the bell that wakes its thread.
//!
//! A [`Report`] is data: a worker of another process can send it. The other events come from this process.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use serde::{Deserialize, Serialize};
use tidemill_operators::graph::NodeId;
use tidemill_operators::{Epoch, Prepared, ProcessingTime};

use crate::checkpoint::CheckpointError;
use crate::checkpoint::compaction::Compacted;
use crate::checkpoint::records::{FileRef, Json};
use crate::error::RunError;
use crate::sim;

/// What the driver learns from workers, the saver, sources and the user's handle.
///
/// Not serializable as a whole: a failure holds errors of the user and of the system, which are not data, and a savepoint
/// is answered over a channel.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker, a source or the saver has done something.
    Report(Report),
    /// The checkpoint has been compacted.
    Compacted(Result<Compacted, CheckpointError>),
    /// Somebody wants a copy of the last commit.
    Savepoint { directory: PathBuf, reply: Sender<Result<Epoch, RunError>> },
    /// The saver has failed, or a helper thread has panicked.
    Failed(RunError),
    /// Something that the driver looks at by itself has changed: a failure, a stop, an idle source, a timer.
    Wake,
}

/// What workers, their sources and sinks, and the saver report of epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A source has read all that was planned for an epoch on a worker, or (continuous) has left it.
    Read { epoch: Epoch, source: NodeId, worker: usize, rows: u64, partitions: Vec<PartitionRead> },
    /// A source will take no part in epochs after this one.
    SourceDone { last: Option<Epoch> },
    /// A sink has everything of an epoch and can commit it; what it wants to be told after a crash.
    Prepared { epoch: Epoch, rows: u64, sink: NodeId, worker: usize, prepared: Prepared },
    /// A worker's state of an epoch is durable.
    Saved(Saved),
    /// A sink has committed an epoch.
    Committed { epoch: Epoch },
    /// Something may have come in.
    DataAvailable,
    /// A worker has ended.
    WorkerDone,
}

impl From<Report> for Event {
    fn from(report: Report) -> Event {
        Event::Report(report)
    }
}

/// Where a source stands in a partition at the end of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartitionRead {
    pub(crate) partition: u32,
    pub(crate) offset: Json,
    /// Whether its reader has reported its end in this run.
    pub(crate) has_ended: bool,
}

/// What one worker has saved of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) epoch: Epoch,
    /// None if nothing has changed.
    pub(crate) file: Option<FileRef>,
    /// The processing-time calls that its operators wait for: uid, worker, time.
    pub(crate) timers: Vec<(String, u32, ProcessingTime)>,
}

/// Sends events to the driver.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    events: Sender<Event>,
    bell: Sender<()>,
}

/// The events that have not been taken.
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
        // The driver outlives the workers; should it be gone, the event is not needed any more.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_serialized_and_read_back_is_the_same() {
        let file = FileRef {
            name: "state/3-1-0.delta".to_owned(),
            len: 5,
            checksum: 6,
            epoch: Epoch::new(3),
            worker: 1,
            base: false,
            groups: Some((0, 127)),
        };
        let offset = Json(serde_json::json!({"file": "a.csv", "byte": u64::MAX, "at": null}));
        let reports = [
            Report::Read {
                epoch: Epoch::new(3),
                source: NodeId(2),
                worker: 1,
                rows: 70_000,
                partitions: vec![PartitionRead { partition: 4, offset, has_ended: true }],
            },
            Report::SourceDone { last: None },
            Report::SourceDone { last: Some(Epoch::new(7)) },
            Report::Prepared {
                epoch: Epoch::new(3),
                rows: 9,
                sink: NodeId(5),
                worker: 1,
                prepared: Prepared::from(vec![0, 255]),
            },
            Report::Saved(Saved {
                epoch: Epoch::new(3),
                file: Some(file),
                timers: vec![("reminders".to_owned(), 1, ProcessingTime::from_micros(-5))],
            }),
            Report::Saved(Saved { epoch: Epoch::new(4), file: None, timers: Vec::new() }),
            Report::Committed { epoch: Epoch::new(3) },
            Report::DataAvailable,
            Report::WorkerDone,
        ];
        for report in reports {
            let bytes = postcard::to_stdvec(&report).unwrap();
            assert_eq!(postcard::from_bytes::<Report>(&bytes).unwrap(), report);
        }
    }
}
