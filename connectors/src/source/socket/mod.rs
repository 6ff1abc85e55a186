//! Lines over TCP: as a client of a server that talks, or as a server for any number of talkers.
//!
//! The sockets are read by threads of their own, which pass the lines on in batches and wake the worker. [`memory`] bounds
//! the bytes that all peers of a source may have in memory.

mod address;
mod client;
mod lines;
mod listener;
mod memory;
mod source;
#[cfg(test)]
mod tests;

use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, TryRecvError};
use tidemill_operators::{Poll, Reader, ReaderContext, SourceError};

pub use client::socket;
pub use listener::{ListenerSource, socket_listener};
pub use source::SocketSource;

use self::lines::fail;
use self::memory::{Charge, Memory};
use super::handover::{Consumer, Gauge, Producer, handover};
use crate::lock;

/// How many batches may wait for the worker.
const CAPACITY: usize = 1024;
/// About how many bytes of lines one poll of the reader returns.
const POLL_BYTES: usize = 1 << 20;

/// What a thread sends to the worker.
#[derive(Default)]
struct Batch {
    lines: Vec<String>,
    /// Comes behind the lines, and counts as one.
    failure: Option<SourceError>,
    charge: Option<Charge>,
}

/// The way to the worker, and the memory that is left for it.
#[derive(Clone)]
struct Outlet {
    producer: Producer<Batch>,
    memory: Arc<Memory>,
}

impl Outlet {
    /// Sends without waking the worker.
    fn push(&self, batch: Batch) -> Result<(), SendError<Batch>> {
        let records = batch.lines.len() as u64 + u64::from(batch.failure.is_some());
        self.producer.push_batch(batch, records)
    }
}

/// What to do when the other side closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// The stream ends.
    End,
    /// The query fails.
    Fail,
    /// The source connects again, and repeats that while it fails. A listener waits for the next peer.
    Reconnect {
        /// How long to wait before each attempt.
        after: Duration,
    },
}

/// What ends the threads of a connection: the sockets that they may be blocked on.
struct Stopper {
    stopped: AtomicBool,
    streams: Mutex<Vec<(u64, Arc<TcpStream>)>>,
    wake: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    memory: Arc<Memory>,
    /// Held until the end.
    running: Mutex<Option<Sender<()>>>,
    end: Receiver<()>,
}

impl Stopper {
    fn new(memory: Arc<Memory>) -> Stopper {
        let (running, end) = crossbeam_channel::bounded(0);
        Stopper {
            stopped: AtomicBool::new(false),
            streams: Mutex::default(),
            wake: Mutex::default(),
            memory,
            running: Mutex::new(Some(running)),
            end,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits that long; `false` if the end has come.
    fn pause(&self, time: Duration) -> bool {
        self.end.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    /// Notes a stream that is to be shut down at the end; `false` if the end has come already.
    fn add(&self, id: u64, stream: &Arc<TcpStream>) -> bool {
        let mut streams = lock(&self.streams);
        if self.is_stopped() {
            return false;
        }
        streams.push((id, Arc::clone(stream)));
        true
    }

    /// Forgets a stream; returns how many are left.
    fn remove(&self, id: u64) -> usize {
        let mut streams = lock(&self.streams);
        streams.retain(|(other, _)| *other != id);
        streams.len()
    }

    fn stop(&self) {
        let mut streams = lock(&self.streams);
        self.stopped.store(true, Ordering::SeqCst);
        for (_, stream) in streams.drain(..) {
            // A stream that is closed already is as good as shut down.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(streams);
        self.memory.close();
        drop(lock(&self.running).take());
        let wake = lock(&self.wake).take();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// A running connection: the lines that come in, and what stops the threads when it is dropped.
struct Connection {
    consumer: Consumer<Batch>,
    stopper: Arc<Stopper>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// The connection of a source: begun when the query first looks at it, taken over by the reader.
#[derive(Default)]
struct Slot {
    waiting: Option<Connection>,
    gauge: Option<Arc<Gauge>>,
}

impl Slot {
    /// Starts the threads, unless they run.
    fn begin(
        &mut self,
        start: impl FnOnce(Outlet, Arc<Stopper>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        if self.gauge.is_none() {
            let (producer, consumer, gauge) = handover(CAPACITY);
            let memory = Memory::new();
            let stopper = Arc::new(Stopper::new(Arc::clone(&memory)));
            start(Outlet { producer, memory }, Arc::clone(&stopper))?;
            self.waiting = Some(Connection { consumer, stopper });
            self.gauge = Some(gauge);
        }
        Ok(())
    }

    fn latest(&self, from: u64) -> u64 {
        self.gauge.as_ref().map_or(from, |gauge| gauge.latest(from))
    }

    fn open(
        &mut self,
        name: String,
        from: u64,
        context: ReaderContext,
        start: impl FnOnce(Outlet, Arc<Stopper>) -> Result<(), SourceError>,
    ) -> Result<SocketReader, SourceError> {
        if self.waiting.is_none() {
            self.gauge = None;
            self.begin(start)?;
        }
        let mut connection = self.waiting.take().ok_or_else(|| {
            SourceError::Setup(format!("{name} has a reader already: it can be read only once"))
        })?;
        connection.consumer.open(from, context.waker);
        let rest = Vec::new().into_iter();
        Ok(SocketReader { connection, name, at: from, rest, failure: None, charge: None })
    }
}

/// Starts a named thread. A panic on it fails the query; otherwise the source would seem to have ended.
fn spawn(
    name: &'static str,
    outlet: Outlet,
    body: impl FnOnce(&Outlet) + Send + 'static,
) -> Result<(), SourceError> {
    let run = move || {
        if catch_unwind(AssertUnwindSafe(|| body(&outlet))).is_err() {
            fail(&outlet, SourceError::Other(format!("the thread {name} panicked: please report it").into()));
        }
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| SourceError::io(format!("cannot start the thread of {name}"), error))
}

/// Reads the lines of a [`SocketSource`].
pub struct SocketReader {
    connection: Connection,
    name: String,
    /// The offset of the next line.
    at: u64,
    /// What is left of the batch that was received last.
    rest: std::vec::IntoIter<String>,
    failure: Option<SourceError>,
    charge: Option<Charge>,
}

impl Reader for SocketReader {
    type Item = String;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<String>) -> Result<Poll, SourceError> {
        let room = super::room(self.at, until, max);
        let (mut taken, mut bytes) = (0, 0);
        while taken < room && bytes < POLL_BYTES {
            if let Some(line) = self.rest.next() {
                (self.at, taken, bytes) = (self.at + 1, taken + 1, bytes + line.len());
                out.push(line);
                // Not at the next poll: that may wait for lines that wait for this room.
                if self.rest.len() == 0 {
                    self.charge = None;
                }
                continue;
            }
            if let Some(error) = self.failure.take() {
                self.at += 1;
                return Err(error);
            }
            match self.connection.consumer.receive(taken == 0) {
                Ok(batch) => {
                    (self.failure, self.charge) = (batch.failure, batch.charge);
                    self.rest = batch.lines.into_iter();
                }
                Err(TryRecvError::Empty) => return Ok(if taken > 0 { Poll::Soon } else { Poll::Idle }),
                Err(TryRecvError::Disconnected) => return Ok(Poll::End),
            }
        }
        Ok(if room == 0 { Poll::Idle } else { Poll::Ready })
    }

    fn offset(&self) -> u64 {
        self.at
    }

    fn take_skipped(&mut self) -> u64 {
        self.connection.stopper.memory.take_skipped()
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        if *offset == self.offset() {
            return Ok(());
        }
        Err(SourceError::NotReplayable { source_name: self.name.clone(), offset: offset.to_string() })
    }
}
