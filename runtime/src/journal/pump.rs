//! From the source into the journal, and from there to the graph: on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::schema::encode_many;
use tidemill_operators::{Clock, Data, Poll, Reader, ReaderContext, Source, SourceError, Waker};

use super::queue::Queue;
use super::store::{GroupHead, Writer};
use crate::sim::{self, JoinHandle};
use crate::user_code::message;

/// How many records are asked for at once.
const POLL_ROWS: usize = 1024;
/// How many records and bytes become durable at once, at most; a batch that was asked for is not divided.
const GROUP_ROWS: usize = 8 * 1024;
const GROUP_BYTES: usize = 1 << 20;
/// A source that says when to come back goes by the engine's clock, which may be a test's: so often one looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Reads a partition of a source, appends its records to the journal, and emits them once they are durable.
pub(super) struct Pump<S: Source> {
    source: Arc<S>,
    partition: u32,
    /// Where the source begins if the journal is empty.
    start: S::Offset,
    clock: Clock,
    /// Opened when it is first asked.
    reader: Option<S::Reader>,
    /// None where nothing is kept.
    writer: Option<Writer>,
    queue: Arc<Queue<S::Item>>,
    /// Where the source stands behind `records`.
    position: Option<S::Offset>,
    records: Vec<S::Item>,
    bytes: Vec<u8>,
    /// How many bytes a record of the last batch has, on average.
    row_bytes: usize,
    /// Whether the end, or an error, has been emitted: it is emitted once, and has one number.
    over: bool,
}

/// What a turn has found.
#[derive(PartialEq, Debug)]
pub(super) enum Found {
    /// Perhaps more at once.
    More,
    /// Nothing before somebody rings, or that long; or no room.
    Nothing(Option<Duration>),
    /// The end, or an error.
    Over,
}

impl<S: Source> Pump<S>
where
    S::Item: Data,
{
    pub(super) fn new(
        source: Arc<S>,
        (partition, start): (u32, S::Offset),
        clock: Clock,
        writer: Option<Writer>,
        queue: Arc<Queue<S::Item>>,
    ) -> Self {
        let (records, bytes) = (Vec::new(), Vec::new());
        Pump {
            source,
            partition,
            start,
            clock,
            reader: None,
            writer,
            queue,
            position: None,
            records,
            bytes,
            row_bytes: 0,
            over: false,
        }
    }

    /// Goes on, on a thread of its own, until the source ends or the reader has gone.
    pub(super) fn start(mut self) -> Result<JoinHandle<()>, SourceError> {
        let run = move || {
            while self.queue.is_wanted() {
                match self.turn() {
                    Found::More => {}
                    Found::Nothing(most) => self.queue.wait(most),
                    Found::Over => return,
                }
            }
        };
        let thread = sim::spawn("tidemill-journal", run);
        thread.map_err(|error| SourceError::io("cannot start the thread of a journal", error))
    }

    /// Takes everything that is there, as far as there is room.
    pub(super) fn look(&mut self) {
        while self.turn() == Found::More {}
    }

    /// One group of records. Errors and panics go to the reader in the graph, behind the records before them.
    pub(super) fn turn(&mut self) -> Found {
        if self.over {
            return Found::Over;
        }
        let found = quietly(self.partition, || self.group()).unwrap_or_else(|error| {
            self.queue.fail(error);
            Found::Over
        });
        self.over = found == Found::Over;
        found
    }

    fn group(&mut self) -> Result<Found, SourceError> {
        let room = self.queue.room().min(GROUP_ROWS);
        if room == 0 {
            return Ok(Found::Nothing(None));
        }
        self.records.clear();
        self.bytes.clear();
        // One large record does not hold its memory for ever.
        self.bytes.shrink_to(2 * GROUP_BYTES);
        let polled = self.gather(room);
        let ended = matches!(polled, Ok(Poll::End));
        let (skipped, rank) = self.reader.as_mut().map_or((0, 0), |r| (r.take_skipped(), r.rank()));
        let any = !self.records.is_empty();
        if any || ended {
            // The error reaches the reader, unless the query has been stopped meanwhile: then it loses nothing.
            sim::tolerate(|| self.write(ended))?;
        }
        if any || ended || skipped > 0 {
            self.queue.push(&mut self.records, self.bytes.len(), ended, skipped, rank);
        }
        match polled? {
            Poll::Ready | Poll::Soon => Ok(Found::More),
            Poll::End => Ok(Found::Over),
            Poll::Idle => {
                self.queue.set_idle();
                Ok(Found::Nothing(None))
            }
            Poll::IdleUntil(at) => {
                self.queue.set_idle();
                let wait = at.since(self.clock.now()).clamp(Duration::from_micros(1), LOOK_AGAIN);
                Ok(Found::Nothing(Some(wait)))
            }
        }
    }

    /// Takes records as long as there are any, and writes them into the buffer. What was read before an error stays.
    fn gather(&mut self, room: usize) -> Result<Poll, SourceError> {
        if self.reader.is_none() {
            self.reader = Some(self.open()?);
        }
        let Some(reader) = &mut self.reader else { return Ok(Poll::End) };
        let mut polled = Ok(Poll::Ready);
        while self.records.len() < room && self.bytes.len() < GROUP_BYTES {
            let before = self.records.len();
            // As many as the bytes allow, if the next ones are like those before them.
            let fit = (GROUP_BYTES - self.bytes.len()) / self.row_bytes.max(1);
            let most = fit.clamp(1, POLL_ROWS).min(room - before);
            let encoded = self.bytes.len();
            let mut has_returned = false;
            polled = quietly(self.partition, || {
                let polled = reader.poll(None, most, &mut self.records);
                has_returned = true;
                polled
            });
            if !has_returned {
                // Its position is unknown now; what came before is kept.
                self.records.truncate(before);
                break;
            }
            let records = self.records.get(before..).unwrap_or_default();
            let written = match &self.writer {
                Some(writer) => writer.encode(records, &mut self.bytes),
                // Only how many bytes they have; what cannot be encoded is passed on all the same.
                None => encode_many(records, &mut self.bytes).or::<String>(Ok(())),
            };
            self.row_bytes = (self.bytes.len() - encoded) / records.len().max(1);
            if let Err(error) = written {
                self.records.truncate(before);
                let what = std::any::type_name::<S::Item>();
                return Err(SourceError::Other(
                    format!("a {what} cannot be written into a journal: {error}").into(),
                ));
            }
            self.position = Some(reader.offset());
            if !matches!(polled, Ok(Poll::Ready | Poll::Soon)) || self.records.len() == before {
                break;
            }
        }
        polled
    }

    /// Where the journal says that the source was; at its start if there is nothing.
    fn open(&self) -> Result<S::Reader, SourceError> {
        let from = match self.writer.as_ref().and_then(Writer::offset) {
            None => self.start.clone(),
            Some(offset) => serde_json::from_str(offset).map_err(|error| {
                let name = self.writer.as_ref().map_or_else(String::new, Writer::describe);
                let reason = format!("{name} has `{offset}` as the position of its source: {error}");
                SourceError::Other(reason.into())
            })?,
        };
        let queue = Arc::downgrade(&self.queue);
        let waker = Waker::new(move || {
            if let Some(queue) = queue.upgrade() {
                queue.ring();
            }
        });
        self.source.open(self.partition, &from, ReaderContext::new(waker, self.clock.clone()))
    }

    /// Makes the group durable; then its source may forget it.
    fn write(&mut self, ended: bool) -> Result<(), SourceError> {
        let (Some(writer), Some(position)) = (&mut self.writer, &self.position) else { return Ok(()) };
        let offset = serde_json::to_string(position).map_err(|e| SourceError::Other(Box::new(e)))?;
        let records = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        let head = GroupHead { records, ended, offset, shape: None };
        writer.append(head, &self.bytes).map_err(|error| SourceError::Other(Box::new(error)))?;
        self.source.committed(self.partition, position)
    }
}

impl<S: Source> Drop for Pump<S> {
    fn drop(&mut self) {
        // The reader releases its connection before the release is reported.
        let reader = self.reader.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(reader)));
        self.writer = None;
        self.queue.set_gone();
    }
}

/// Calls the source; a panic is an error.
fn quietly<R>(partition: u32, call: impl FnOnce() -> Result<R, SourceError>) -> Result<R, SourceError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let said = message(&*panic);
        Err(SourceError::Other(format!("the reader of partition {partition} panicked: {said}").into()))
    })
}
