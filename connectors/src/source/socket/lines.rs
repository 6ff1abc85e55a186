//! Reads lines from a stream and passes them on as they arrive.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use memchr::memchr;
use tidemill_operators::SourceError;

use super::memory::{LongLine, QUEUED, Share};
use super::{Batch, CAPACITY, Outlet};

/// How much is read at once; a line of more bytes is a long one.
const BUFFER: usize = 16 * 1024;
/// What a line takes besides its bytes: its `String`, and what the allocator adds.
const LINE: usize = 64;
/// The least that a batch is charged, so that the channel has a slot for each that has been granted room.
const BATCH: usize = QUEUED / CAPACITY;
/// For how long a long line may be read while others wait for its memory.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the reader of a long line looks whether others wait.
const LOOK: Duration = Duration::from_secs(1);

/// What counts as a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// How many bytes it may have, without its end.
    pub(super) max: usize,
    /// Whether bytes that are not UTF-8 are replaced.
    pub(super) lossy: bool,
    /// Whether bad lines are left out and counted.
    pub(super) skip: bool,
    pub(super) patience: Duration,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { max: 1 << 20, lossy: false, skip: false, patience: PATIENCE }
    }
}

/// Why reading has stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The peer has closed the connection.
    Closed,
    /// The query has ended.
    Unwanted,
    /// The connection, or what came over it, is broken.
    Failed(SourceError),
}

/// Reads lines until the stream ends. A last line without terminator is a bad one: it may be the half of what the peer
/// was writing when it died.
pub(super) fn read_lines(stream: &TcpStream, peer: &str, lines: Lines, outlet: &Outlet) -> Stopped {
    let share = Share::default();
    let mut reading =
        Reading { stream, peer, lines, outlet, share, batch: Batch::default(), cost: 0, half: None, at: 0 };
    match reading.run() {
        Ok(()) => Stopped::Closed,
        Err(stopped) => stopped,
    }
}

/// One connection.
struct Reading<'a> {
    stream: &'a TcpStream,
    peer: &'a str,
    lines: Lines,
    outlet: &'a Outlet,
    share: Share,
    batch: Batch,
    /// What the batch is charged.
    cost: usize,
    half: Option<Half>,
    /// Where in the stream the next line begins, or the half one.
    at: u64,
}

/// The beginning of a line whose end has not come yet.
struct Half {
    /// Empty once the line is known to be bad.
    bytes: Vec<u8>,
    /// How many bytes have come.
    length: u64,
    is_bad: bool,
    /// The memory of a long line.
    room: Option<LongLine>,
    /// For how long it has been waited for bytes of a long line.
    waited: Duration,
}

impl Reading<'_> {
    fn run(&mut self) -> Result<(), Stopped> {
        let mut buffer = vec![0; BUFFER];
        let broken = loop {
            let read = match self.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Of a long line.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.check_patience()?;
                    self.outlet.producer.ring();
                    continue;
                }
                Err(error) => break Some(error),
            };
            self.take(buffer.get(..read).unwrap_or_default())?;
            self.flush()?;
        };
        if let Some(half) = self.half.take().filter(|half| !half.is_bad) {
            let why = broken.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
            let reason =
                format!("the connection ended{why} before the line did, after {} bytes of it", half.length);
            self.bad(0, &reason)?;
        }
        self.outlet.producer.ring();
        match broken {
            None => Ok(()),
            Some(error) => {
                Err(Stopped::Failed(SourceError::io(format!("cannot read from {}", self.peer), error)))
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.half {
            Some(half) if half.room.is_some() => {
                let begun = Instant::now();
                let read = self.stream.read(buffer);
                half.waited += begun.elapsed();
                read
            }
            _ => self.stream.read(buffer),
        }
    }

    fn take(&mut self, mut rest: &[u8]) -> Result<(), Stopped> {
        while let Some(end) = memchr(b'\n', rest) {
            let (line, next) = rest.split_at(end);
            rest = next.get(1..).unwrap_or_default();
            self.line(line)?;
        }
        if !rest.is_empty() {
            self.begin(rest)?;
        }
        self.check_patience()
    }

    /// A line ends with these bytes.
    fn line(&mut self, end: &[u8]) -> Result<(), Stopped> {
        let mut line = match &self.half {
            None if self.is_too_long(&[], end) => {
                self.too_long()?;
                self.at += end.len() as u64 + 1;
                return Ok(());
            }
            None => end.to_vec(),
            Some(_) => {
                self.begin(end)?;
                Vec::new()
            }
        };
        let half = self.half.take();
        let length = half.as_ref().map_or(end.len() as u64, |half| half.length);
        // The memory of a long line is given back once it has room in the queue.
        let mut room = None;
        if let Some(half) = half {
            if half.is_bad {
                self.at += length + 1;
                return Ok(());
            }
            (line, room) = (half.bytes, half.room);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let line = match String::from_utf8(line) {
            Ok(line) => Some(line),
            Err(error) if self.lines.lossy => Some(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            Err(error) => {
                let reason = "the line is not UTF-8; `.lossy()` on the source replaces such bytes";
                self.bad(error.utf8_error().valid_up_to() as u64, reason)?;
                None
            }
        };
        if let Some(line) = line {
            self.cost += line.capacity() + LINE;
            self.batch.lines.push(line);
        }
        self.at += length + 1;
        if room.is_some() {
            self.flush()?;
            self.set_timeout(None);
        }
        Ok(())
    }

    /// A line continues, or begins, with these bytes, and does not end yet.
    fn begin(&mut self, more: &[u8]) -> Result<(), Stopped> {
        let half = self.half.get_or_insert_with(|| Half {
            bytes: Vec::new(),
            length: 0,
            is_bad: false,
            room: None,
            waited: Duration::ZERO,
        });
        half.length += more.len() as u64;
        if half.is_bad {
            return Ok(());
        }
        let begun = std::mem::take(&mut half.bytes);
        if self.is_too_long(&begun, more) {
            drop(begun);
            return self.give_up(Reading::too_long);
        }
        let begun = self.extended(begun, more)?;
        if let Some(half) = &mut self.half {
            half.bytes = begun;
        }
        Ok(())
    }

    fn extended(&mut self, mut begun: Vec<u8>, more: &[u8]) -> Result<Vec<u8>, Stopped> {
        let needed = begun.len() + more.len();
        if needed > begun.capacity() {
            let most = self.lines.max.saturating_add(1).max(needed);
            let capacity = needed.max(begun.capacity().saturating_mul(2)).min(most);
            if capacity > BUFFER {
                // What is complete need not wait for the memory of this line.
                self.flush()?;
                let is_new = self.half.as_ref().is_some_and(|half| half.room.is_none());
                let memory = &self.outlet.memory;
                let granted = self
                    .half
                    .as_mut()
                    .is_some_and(|half| half.room.get_or_insert_with(|| memory.long_line()).grow(capacity));
                if !granted {
                    return Err(Stopped::Unwanted);
                }
                if is_new {
                    self.set_timeout(Some(LOOK));
                }
            }
            begun.reserve_exact(capacity - begun.len());
        }
        begun.extend_from_slice(more);
        Ok(begun)
    }

    /// Gives a long line up whose rest does not come, while others wait for its memory.
    fn check_patience(&mut self) -> Result<(), Stopped> {
        let Some(Half { room: Some(room), waited, .. }) = &self.half else { return Ok(()) };
        if *waited < self.lines.patience || !room.is_in_the_way() {
            return Ok(());
        }
        self.give_up(|reading| {
            let (length, waited) =
                reading.half.as_ref().map_or((0, Duration::ZERO), |half| (half.length, half.waited));
            reading.bad(
                0,
                &format!(
                    "only {length} bytes of the line arrived in {} s, and other peers with long lines need its \
                     memory; send a line without pauses, or make it shorter than {BUFFER} bytes",
                    waited.as_secs()
                ),
            )
        })
    }

    /// The half line is bad: its rest is passed over.
    fn give_up(&mut self, account: impl FnOnce(&mut Self) -> Result<(), Stopped>) -> Result<(), Stopped> {
        account(self)?;
        let was_long = self.half.as_mut().and_then(|half| {
            (half.is_bad, half.bytes) = (true, Vec::new());
            half.room.take()
        });
        if was_long.is_some() {
            self.set_timeout(None);
        }
        Ok(())
    }

    fn set_timeout(&self, timeout: Option<Duration>) {
        // It fails only for a connection that is gone, which the next read reports.
        let _ = self.stream.set_read_timeout(timeout);
    }

    /// Whether a line that continues so is longer than it may be; a CR at its end does not count.
    fn is_too_long(&self, begun: &[u8], more: &[u8]) -> bool {
        let length = begun.len() + more.len();
        let end = more.last().or_else(|| begun.last());
        length - usize::from(end == Some(&b'\r')) > self.lines.max
    }

    fn too_long(&mut self) -> Result<(), Stopped> {
        self.bad(0, &crate::source::too_long(self.lines.max))
    }

    /// A line is bad, which begins at `at`; `within` it at that byte.
    fn bad(&mut self, within: u64, reason: &str) -> Result<(), Stopped> {
        if self.lines.skip {
            self.outlet.memory.skip();
            return Ok(());
        }
        // The lines before it count.
        self.flush()?;
        let place = format!("{}, byte {}", self.peer, self.at + within);
        let reason = crate::source::skippable(reason);
        Err(Stopped::Failed(SourceError::BadRecord { place, reason }))
    }

    /// Passes on what is complete, and wakes the reader.
    fn flush(&mut self) -> Result<(), Stopped> {
        if !self.batch.lines.is_empty() {
            let mut batch = std::mem::take(&mut self.batch);
            let cost = std::mem::take(&mut self.cost).max(BATCH);
            batch.charge = Some(self.outlet.memory.queue(&mut self.share, cost).ok_or(Stopped::Unwanted)?);
            self.outlet.push(batch).map_err(|_| Stopped::Unwanted)?;
        }
        self.outlet.producer.ring();
        Ok(())
    }
}

/// Passes an error on. If the query has ended, it does not matter any more.
pub(super) fn fail(outlet: &Outlet, error: SourceError) {
    let _ = outlet.push(Batch { failure: Some(error), ..Batch::default() });
    outlet.producer.ring();
}
