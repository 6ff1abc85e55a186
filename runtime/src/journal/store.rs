//! The journal of one partition, as segments in the storage of a checkpoint.
//!
//! A segment is a file of the checkpoint's format. Its first frame says whose it is and the number of its first record;
//! every other frame is a group of records that became durable at once. Segments follow each other without a gap, and
//! the last one is never removed, so that no number is given twice.

use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tidemill_operators::schema::{Fit, Refusal, Schema, Shape, encode_many, take_as};

use tidemill_operators::turn;

use crate::checkpoint::format::{FILE_HEAD, FrameReader, FrameWriter, Kind, NextFrame, decode};
use crate::checkpoint::{CheckpointError, JOURNALS, Log, Storage};
use crate::kill;

/// The first frame of a segment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) uid: String,
    pub(super) partition: u32,
    /// The number of its first record.
    pub(super) first: u64,
    /// Where the source stood before it, as JSON; none if nothing has been received before.
    pub(super) offset: Option<String>,
    /// The shape of the records, as far as it was known when the segment was begun.
    pub(super) shape: Shape,
}

/// What is in front of the records of a group.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct GroupHead {
    pub(super) records: u32,
    /// Whether the source ended behind them. The end has a number of its own, as if it were a record.
    pub(super) ended: bool,
    /// Where the source stood behind them, as JSON.
    pub(super) offset: String,
    /// The shape of the records from this group on, where they have completed what was known of it.
    pub(super) shape: Option<Shape>,
}

/// How the records of a segment are read.
pub(super) enum Reading {
    /// With postcard: the type has the shape that was recorded.
    AsTheyAre,
    /// By the shape that was recorded.
    ByShape(Shape),
}

/// What to do about a journal whose records the program cannot read.
const WAYS_OUT: &str = "Restore the old type (fields may be added, removed, reordered and renamed: \
                        `#[serde(default)]`, `#[serde(alias)]`), run the old program until it has read the whole \
                        journal, or give the source a new uid";

impl GroupHead {
    /// How many numbers the group takes.
    pub(super) fn numbers(&self) -> u64 {
        u64::from(self.records) + u64::from(self.ended)
    }
}

/// The segments of a partition.
pub(super) struct Store {
    storage: Arc<dyn Storage>,
    uid: String,
    partition: u32,
    prefix: String,
    /// The number of the first record of each segment, in order.
    segments: Mutex<Vec<u64>>,
    /// How long a segment is before the next one is begun.
    segment_size: u64,
    /// The type of the records.
    schema: Arc<Schema>,
}

impl Store {
    /// Looks which segments there are.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        uid: &str,
        partition: u32,
        segment_size: u64,
        schema: Arc<Schema>,
    ) -> Result<Store, CheckpointError> {
        let prefix = segment_prefix(uid, partition);
        let mut segments: Vec<u64> =
            storage.list(&prefix)?.iter().filter_map(|name| first_of(name.strip_prefix(&prefix)?)).collect();
        segments.sort_unstable();
        let segments = Mutex::new(segments);
        Ok(Store { storage, uid: uid.to_owned(), partition, prefix, segments, segment_size, schema })
    }

    fn segments(&self) -> MutexGuard<'_, Vec<u64>> {
        // Nothing panics while holding the lock.
        turn::lock(&self.segments)
    }

    fn name(&self, first: u64) -> String {
        format!("{}{first}.log", self.prefix)
    }

    /// The shape of the records that the program reads and writes.
    fn shape(&self) -> Result<Shape, CheckpointError> {
        let problem = |refusal: Refusal| CheckpointError::Misuse(refusal.to_string());
        self.schema.shape().map_err(problem)
    }

    /// How records of a recorded shape are to be read.
    pub(super) fn reading(&self, name: &str, recorded: &Shape) -> Result<Reading, CheckpointError> {
        match recorded.fit(&self.shape()?) {
            Ok(Fit::Same) => Ok(Reading::AsTheyAre),
            Ok(Fit::Evolved(_)) => Ok(Reading::ByShape(recorded.clone())),
            Err(difference) => {
                let problem = format!("{difference}. {WAYS_OUT}");
                Err(CheckpointError::OtherType { what: name.to_owned(), problem })
            }
        }
    }

    /// What the journal is called where no segment is meant.
    pub(super) fn describe(&self) -> String {
        format!("{}*.log in {}", self.prefix, self.storage.describe())
    }

    /// The file at the beginning of the journal.
    pub(super) fn first_segment(&self) -> String {
        self.name(self.segments().first().copied().unwrap_or(0))
    }

    /// The file at the end of the journal.
    pub(super) fn last_segment(&self) -> String {
        self.name(self.segments().last().copied().unwrap_or(0))
    }

    /// The oldest record that is still there; nothing if there never was any.
    pub(super) fn first(&self) -> Option<u64> {
        self.segments().first().copied()
    }

    /// The name and the bytes of the segment with a record, if there is one that may have it.
    pub(super) fn segment_with(&self, record: u64) -> Result<Option<(String, Vec<u8>)>, CheckpointError> {
        let first = self.segments().iter().rev().find(|first| **first <= record).copied();
        let Some(first) = first else { return Ok(None) };
        let name = self.name(first);
        Ok(self.storage.get(&name)?.map(|bytes| (name, bytes)))
    }

    /// Checks that a segment is what its name says, and one of this journal.
    pub(super) fn check_opening<'a>(
        &self,
        name: &'a str,
        bytes: &'a [u8],
    ) -> Result<(FrameReader<'a>, Opening), CheckpointError> {
        let (reader, opening) = open_segment(name, bytes)?;
        if (opening.uid.as_str(), opening.partition) != (self.uid.as_str(), self.partition) {
            return Err(other_segment(name, &reader));
        }
        Ok((reader, opening))
    }

    /// Removes the segments that have nothing but records before this one. What cannot be removed is tried again.
    pub(super) fn trim(&self, record: u64) {
        loop {
            let gone = match self.segments().as_slice() {
                [first, next, ..] if *next <= record => self.name(*first),
                _ => return,
            };
            kill::point("journal.trim.before");
            if let Err(error) = self.storage.delete(&gone) {
                tracing::warn!(%error, "a segment of a journal that is no longer needed cannot be removed");
                return;
            }
            kill::point("journal.trim.done");
            self.segments().remove(0);
        }
    }
}

/// Appends to a journal.
pub(super) struct Writer {
    store: Arc<Store>,
    log: Box<dyn Log>,
    frames: u64,
    bytes: u64,
    /// The number of the next record.
    end: u64,
    offset: Option<String>,
    /// The shape that the segment has recorded last.
    shape: Shape,
}

impl Writer {
    /// Goes on with a journal, or begins it: cuts off what a crash has left of an append.
    pub(super) fn open(store: Arc<Store>) -> Result<Writer, CheckpointError> {
        let Some(last) = store.segments().last().copied() else { return Writer::begin(store, 0, None) };
        let name = store.name(last);
        let bytes = store.storage.get(&name)?.ok_or_else(|| CheckpointError::Missing {
            file: format!("{name} in {}", store.storage.describe()),
            needed: "it is the end of a journal".to_owned(),
        })?;
        let (mut reader, opening) = store.check_opening(&name, &bytes)?;
        let (mut end, mut offset, mut shape) = (opening.first, opening.offset, opening.shape);
        let is_torn = loop {
            match reader.step()? {
                NextFrame::Frame(payload, range) => {
                    let (head, _) = group(&name, payload, range)?;
                    end += head.numbers();
                    offset = Some(head.offset);
                    shape = head.shape.unwrap_or(shape);
                }
                NextFrame::End => break false,
                NextFrame::Torn => break true,
            }
        };
        let (frames, length) = (reader.number(), reader.offset() as u64);
        let mut log = store.storage.log(&name)?;
        if is_torn {
            kill::point("journal.recover.before-truncate");
            log.truncate(length)?;
        }
        if let Reading::ByShape(_) = store.reading(&name, &shape)? {
            // A segment has records of one shape.
            return Writer::begin(store, end, offset);
        }
        Ok(Writer { store, log, frames, bytes: length, end, offset, shape })
    }

    /// Begins a segment.
    fn begin(store: Arc<Store>, first: u64, offset: Option<String>) -> Result<Writer, CheckpointError> {
        let shape = store.shape()?;
        let (uid, partition) = (store.uid.clone(), store.partition);
        let opening = Opening { uid, partition, first, offset, shape: shape.clone() };
        let mut writer = FrameWriter::new(Kind::Journal);
        writer.value(&opening)?;
        let frames = writer.number();
        let bytes = writer.into_bytes();
        let name = store.name(first);
        kill::point("journal.roll.before");
        store.storage.put(&name, &bytes)?;
        kill::point("journal.roll.done");
        let log = store.storage.log(&name)?;
        let mut segments = store.segments();
        // One without records is replaced.
        if segments.last() != Some(&first) {
            segments.push(first);
        }
        drop(segments);
        let (bytes, offset) = (bytes.len() as u64, opening.offset);
        Ok(Writer { store, log, frames, bytes, end: first, offset, shape })
    }

    /// Encodes records behind others; on an error nothing of them stays.
    pub(super) fn encode<T: Serialize>(&self, records: &[T], bytes: &mut Vec<u8>) -> Result<(), String> {
        if self.store.schema.is_partial() {
            let learn = |record| self.store.schema.learn(record);
            records.iter().try_for_each(learn).map_err(|error| error.to_string())?;
        }
        encode_many(records, bytes).map_err(|error| error.to_string())
    }

    /// Appends a group; it is durable when this returns.
    pub(super) fn append(&mut self, mut head: GroupHead, records: &[u8]) -> Result<(), CheckpointError> {
        // An empty segment is as good as a new one, and has its name.
        if self.bytes >= self.store.segment_size && self.frames > 1 {
            *self = Writer::begin(Arc::clone(&self.store), self.end, self.offset.take())?;
        }
        if self.store.schema.is_partial() {
            let shape = self.store.shape()?;
            if shape != self.shape {
                self.shape = shape.clone();
                head.shape = Some(shape);
            }
        }
        let about = postcard::to_stdvec(&head)
            .map_err(|error| CheckpointError::Misuse(format!("a group cannot be written: {error}")))?;
        let mut writer = FrameWriter::behind(Kind::Journal, self.frames);
        writer.frame(&[&about, records])?;
        self.frames = writer.number();
        let bytes = writer.into_bytes();
        kill::point("journal.append.before");
        self.log.append(&bytes)?;
        kill::point("journal.append.done");
        self.bytes += bytes.len() as u64;
        self.end += head.numbers();
        self.offset = Some(head.offset);
        Ok(())
    }

    /// The number of the next record.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Where the source stood behind the last record, as JSON.
    pub(super) fn offset(&self) -> Option<&str> {
        self.offset.as_deref()
    }

    /// What the journal is called.
    pub(super) fn describe(&self) -> String {
        self.store.describe()
    }
}

/// Reads the first frame of a segment, which must be the one that the file's name says.
pub(super) fn open_segment<'a>(
    name: &'a str,
    bytes: &'a [u8],
) -> Result<(FrameReader<'a>, Opening), CheckpointError> {
    let mut reader = FrameReader::new(name, bytes, Kind::Journal)?;
    let opening: Opening = reader.value()?;
    if name != format!("{}{}.log", segment_prefix(&opening.uid, opening.partition), opening.first) {
        return Err(other_segment(name, &reader));
    }
    Ok((reader, opening))
}

fn other_segment(name: &str, reader: &FrameReader<'_>) -> CheckpointError {
    let reason = "it is another segment, or that of another source";
    CheckpointError::damaged(name, FILE_HEAD..reader.offset(), reason)
}

/// Returns what the names of all segments of a partition begin with.
pub(super) fn segment_prefix(uid: &str, partition: u32) -> String {
    format!("{JOURNALS}{}-{partition}-", file_name(uid))
}

/// The head of a group, and the bytes of its records.
pub(super) fn group<'a>(
    name: &str,
    payload: &'a [u8],
    range: std::ops::Range<usize>,
) -> Result<(GroupHead, &'a [u8]), CheckpointError> {
    postcard::take_from_bytes(payload)
        .map_err(|error| CheckpointError::damaged(name, range, format!("no group of records: {error}")))
}

/// The records of a group.
pub(super) fn records<T: serde::de::DeserializeOwned>(
    name: &str,
    head: &GroupHead,
    reading: &Reading,
    mut bytes: &[u8],
    range: std::ops::Range<usize>,
) -> Result<Vec<T>, CheckpointError> {
    let mut records = Vec::new();
    for number in 0..head.records {
        let taken = match reading {
            Reading::AsTheyAre => postcard::take_from_bytes(bytes).map_err(|error| error.to_string()),
            Reading::ByShape(shape) => take_as(bytes, shape).map_err(|error| error.to_string()),
        };
        let (record, rest) = taken.map_err(|error| match reading {
            Reading::ByShape(_) => {
                CheckpointError::OtherType { what: name.to_owned(), problem: format!("{error}. {WAYS_OUT}") }
            }
            Reading::AsTheyAre => {
                let reason = format!(
                    "record {number} of the group is not of type {}, or not as it was written: {error}",
                    std::any::type_name::<T>()
                );
                CheckpointError::damaged(name, range.clone(), reason)
            }
        })?;
        records.push(record);
        bytes = rest;
    }
    decode::<()>(name, bytes, range)?;
    Ok(records)
}

/// A uid as a part of a file name.
fn file_name(uid: &str) -> String {
    let mut name = String::new();
    for byte in uid.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() > 120 {
        name.truncate(100);
        name.push_str(&format!("%{:016x}", tidemill_operators::hash_key(uid)));
    }
    name
}

/// The number in the last part of a segment's name.
fn first_of(rest: &str) -> Option<u64> {
    let number = rest.strip_suffix(".log")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}
