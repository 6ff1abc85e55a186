//! Lines over TCP: as a client of a server that talks, or as a server for any number of talkers.
//!
//! The sockets are read by threads of their own, which hand the lines over and wake the worker.

mod address;
mod client;
mod lines;
mod listener;

use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::{Poll, Reader, ReaderContext, SourceError};

pub use client::{SocketSource, socket};
pub use listener::{ListenerSource, socket_listener};

use self::lines::fail;
use super::handover::{Feed, Gauge, Intake, handover};
use crate::lock;

/// How many lines may wait for the worker.
const CAPACITY: usize = 8 * 1024;

/// What a thread sends to the worker.
type Message = Result<String, SourceError>;

/// What to do when the other side closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// The stream ends.
    End,
    /// The query fails.
    Fail,
    /// Connect again, and again as long as that fails. A listener simply waits for the next peer.
    Reconnect {
        /// How long to wait before each attempt.
        after: Duration,
    },
}

/// What ends the threads of a connection: the sockets that they may be blocked on.
#[derive(Default)]
struct Stopper {
    stopped: AtomicBool,
    streams: Mutex<Vec<(u64, TcpStream)>>,
    wake: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Stopper {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Notes a stream that is to be shut down at the end; `false` if the end has come already.
    fn add(&self, id: u64, stream: &TcpStream) -> std::io::Result<bool> {
        let mut streams = lock(&self.streams);
        if self.is_stopped() {
            return Ok(false);
        }
        streams.push((id, stream.try_clone()?));
        Ok(true)
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
        let wake = lock(&self.wake).take();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// A running connection: the lines that come in, and what stops the threads when it is dropped.
struct Connection {
    intake: Intake<Message>,
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
        start: impl FnOnce(Feed<Message>, Arc<Stopper>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        if self.gauge.is_none() {
            let (feed, intake, gauge) = handover(CAPACITY);
            let stopper = Arc::new(Stopper::default());
            start(feed, Arc::clone(&stopper))?;
            self.waiting = Some(Connection { intake, stopper });
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
        start: impl FnOnce(Feed<Message>, Arc<Stopper>) -> Result<(), SourceError>,
    ) -> Result<SocketReader, SourceError> {
        if self.waiting.is_none() {
            self.gauge = None;
            self.begin(start)?;
        }
        let mut connection =
            self.waiting.take().ok_or_else(|| SourceError::Setup(format!("{name} is read already")))?;
        connection.intake.open(from, context.waker);
        Ok(SocketReader { connection, name })
    }
}

/// Starts a named thread. A panic on it fails the query; otherwise the source would seem to have ended.
fn spawn(
    name: &'static str,
    feed: Feed<Message>,
    body: impl FnOnce(&Feed<Message>) + Send + 'static,
) -> Result<(), SourceError> {
    let run = move || {
        if catch_unwind(AssertUnwindSafe(|| body(&feed))).is_err() {
            fail(&feed, SourceError::Other(format!("the thread {name} panicked: please report it").into()));
        }
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| SourceError::io(format!("cannot start the thread of {name}"), error))
}

/// Reads the lines of a [`SocketSource`] or a [`ListenerSource`].
pub struct SocketReader {
    connection: Connection,
    name: String,
}

impl Reader for SocketReader {
    type Item = String;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<String>) -> Result<Poll, SourceError> {
        self.connection.intake.poll(until, max, |message| {
            out.push(message?);
            Ok(())
        })
    }

    fn offset(&self) -> u64 {
        self.connection.intake.offset()
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        if *offset == self.offset() {
            return Ok(());
        }
        Err(SourceError::NotReplayable { source_name: self.name.clone(), offset: offset.to_string() })
    }
}
