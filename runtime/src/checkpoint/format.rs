//! The format of every file: a head, then frames that know their file's kind and their own number.
//!
//! All integers are little-endian.
//!
//! ```text
//! file  := "TIDEMILL" version:u16 kind:u8 frame*
//! frame := length:u32 check:u32 checksum:u64 payload
//! ```
//!
//! The seed of a frame is the xxh3 of its kind, number and length; `check` is the lower half of the seed, `checksum` the
//! xxh3 of the payload by that seed. So a length is known to be right before anything is read by it, and a
//! truncated frame, as the last of a log may be, can be told from a damaged one; and frames cannot change places.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::CheckpointError;

const MAGIC: [u8; 8] = *b"TIDEMILL";
/// Changes with the format.
pub(crate) const VERSION: u16 = 2;
/// How long the head of a file is.
pub(crate) const FILE_HEAD: usize = 11;
/// How long the head of a frame is.
pub(crate) const FRAME_HEAD: usize = 16;
/// What a disk writes at once, in bytes.
const BLOCK: usize = 512;

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Which log counts.
    Current = 1,
    /// Plans and commits.
    Log = 2,
    /// State of the operators.
    State = 3,
    /// What a source has received.
    Journal = 4,
    /// What a source keeps.
    Source = 5,
    /// The query's id and its runs.
    Identity = 6,
}

fn seed(kind: Kind, number: u64, length: u32) -> u64 {
    let mut about = [0u8; 13];
    let (head, tail) = about.split_at_mut(9);
    tail.copy_from_slice(&length.to_le_bytes());
    if let Some((first, rest)) = head.split_first_mut() {
        *first = kind as u8;
        rest.copy_from_slice(&number.to_le_bytes());
    }
    xxh3_64(&about)
}

/// The checksum of a whole file.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Writes a file, or frames to be appended to one.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    kind: Kind,
    number: u64,
}

impl FrameWriter {
    /// A file from its beginning.
    pub(crate) fn new(kind: Kind) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.push(kind as u8);
        FrameWriter { bytes, kind, number: 0 }
    }

    /// Frames behind the first `number` ones of a file.
    pub(crate) fn behind(kind: Kind, number: u64) -> Self {
        FrameWriter { bytes: Vec::new(), kind, number }
    }

    /// Makes room for this many bytes more.
    ///
    /// # Errors
    ///
    /// The system refuses so much memory.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), CheckpointError> {
        let refused = |_| std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let reserved = self.bytes.try_reserve(bytes).map_err(refused);
        reserved.map_err(CheckpointError::io(format!("not enough memory for {bytes} bytes of a file")))
    }

    /// A frame with a value in it.
    pub(crate) fn value<T: Serialize>(&mut self, value: &T) -> Result<(), CheckpointError> {
        let payload = postcard::to_stdvec(value)
            .map_err(|e| CheckpointError::Misuse(format!("a record cannot be written: {e}")))?;
        self.frame(&[&payload])
    }

    /// A frame of these parts.
    pub(crate) fn frame(&mut self, parts: &[&[u8]]) -> Result<(), CheckpointError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length)
            .map_err(|_| CheckpointError::Misuse("a key group of more than 4 GiB of state".to_owned()))?;
        let seed = seed(self.kind, self.number, length);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&(seed as u32).to_le_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 8]);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let checksum = xxh3_64_with_seed(self.bytes.get(at + 8..).unwrap_or_default(), seed);
        if let Some(place) = self.bytes.get_mut(at..at + 8) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        self.number += 1;
        Ok(())
    }

    /// How many bytes have been written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The number of the next frame.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads the frames of a file.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    file: &'a str,
    bytes: &'a [u8],
    kind: Kind,
    at: usize,
    number: u64,
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum NextFrame<'a> {
    /// A frame: its payload, and where that is.
    Frame(&'a [u8], Range<usize>),
    /// The end.
    End,
    /// The beginning of a truncated frame, or one that is empty from a block of the disk on: what a crash leaves of an append.
    Torn,
}

impl<'a> FrameReader<'a> {
    /// Checks the head of the file.
    pub(crate) fn new(file: &'a str, bytes: &'a [u8], kind: Kind) -> Result<Self, CheckpointError> {
        let damaged = |range, reason: &str| Err(CheckpointError::damaged(file, range, reason));
        let Some((head, _)) = bytes.split_at_checked(FILE_HEAD) else {
            return damaged(0..bytes.len(), "it is too short to be a file of a checkpoint");
        };
        let (magic, head) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return damaged(0..MAGIC.len(), "this is no file of a checkpoint");
        }
        let [low, high, found] = *head else { return damaged(0..FILE_HEAD, "it has no head") };
        let version = u16::from_le_bytes([low, high]);
        if version != VERSION {
            return Err(CheckpointError::Version { file: file.to_owned(), found: version, known: VERSION });
        }
        if found != kind as u8 {
            return damaged(FILE_HEAD - 1..FILE_HEAD, "it is another kind of file");
        }
        Ok(FrameReader { file, bytes, kind, at: FILE_HEAD, number: 0 })
    }

    /// How many frames have been read.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The next frame.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Damaged`].
    pub(crate) fn step(&mut self) -> Result<NextFrame<'a>, CheckpointError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(NextFrame::End);
        }
        // A crash of the machine may leave a file longer, but empty, where something was about to be written.
        let Some((head, rest)) =
            rest.split_first_chunk::<FRAME_HEAD>().filter(|_| rest.iter().any(|b| *b != 0))
        else {
            return Ok(NextFrame::Torn);
        };
        let [a, b, c, d, e, f, g, h, checksum @ ..] = *head;
        let (length, check) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let seed = seed(self.kind, self.number, length);
        if check != seed as u32 {
            if self.is_empty_within(FRAME_HEAD) {
                return Ok(NextFrame::Torn);
            }
            let reason = format!("the head of frame {} is not as it was written", self.number);
            return Err(CheckpointError::damaged(self.file, self.at..self.at + FRAME_HEAD, reason));
        }
        let begin = self.at + FRAME_HEAD;
        let Some(payload) = rest.get(..length as usize) else { return Ok(NextFrame::Torn) };
        let range = begin..begin + payload.len();
        if xxh3_64_with_seed(payload, seed) != u64::from_le_bytes(checksum) {
            if self.is_empty_within(FRAME_HEAD + payload.len()) {
                return Ok(NextFrame::Torn);
            }
            let reason = format!("frame {} does not match its checksum", self.number);
            return Err(CheckpointError::damaged(self.file, self.at..range.end, reason));
        }
        self.at = range.end;
        self.number += 1;
        Ok(NextFrame::Frame(payload, range))
    }

    /// Whether the next `length` bytes have been written up to the end of a block of the disk only, and the file is empty
    /// from there on: what a crash of the machine may leave of an append.
    fn is_empty_within(&self, length: usize) -> bool {
        let written = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let empty = written.next_multiple_of(BLOCK);
        (self.at + 1..self.at + length).contains(&empty) && empty < self.bytes.len()
    }

    /// The next frame of a file that was written as a whole and must have it.
    pub(crate) fn frame(&mut self) -> Result<(&'a [u8], Range<usize>), CheckpointError> {
        match self.step()? {
            NextFrame::Frame(payload, range) => Ok((payload, range)),
            NextFrame::End | NextFrame::Torn => {
                Err(CheckpointError::damaged(self.file, self.at..self.bytes.len(), "the file is truncated"))
            }
        }
    }

    /// The value in the next frame of a file that must have it.
    pub(crate) fn value<T: DeserializeOwned>(&mut self) -> Result<T, CheckpointError> {
        let (payload, range) = self.frame()?;
        decode(self.file, payload, range)
    }

    /// That nothing follows.
    pub(crate) fn end(&mut self) -> Result<(), CheckpointError> {
        match self.step()? {
            NextFrame::End => Ok(()),
            _ => Err(CheckpointError::damaged(self.file, self.at..self.bytes.len(), "more than was written")),
        }
    }
}

/// The value in a frame.
pub(crate) fn decode<T: DeserializeOwned>(
    file: &str,
    payload: &[u8],
    range: Range<usize>,
) -> Result<T, CheckpointError> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(CheckpointError::damaged(file, range, "a record with something behind it")),
        Err(error) => Err(CheckpointError::damaged(file, range, format!("no record: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut writer = FrameWriter::new(Kind::Log);
        writer.frame(&[b"ab", b"cd"]).unwrap();
        writer.frame(&[]).unwrap();
        writer.frame(&[&[0; 300]]).unwrap();
        writer.into_bytes()
    }

    /// The payloads, and whether the last frame is truncated.
    fn read(bytes: &[u8]) -> Result<(Vec<Vec<u8>>, bool), CheckpointError> {
        let mut reader = FrameReader::new("log", bytes, Kind::Log)?;
        let mut payloads = vec![];
        loop {
            match reader.step()? {
                NextFrame::Frame(payload, range) => {
                    assert_eq!(payload, &bytes[range]);
                    payloads.push(payload.to_vec());
                }
                NextFrame::End => return Ok((payloads, false)),
                NextFrame::Torn => return Ok((payloads, true)),
            }
        }
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        let (payloads, torn) = read(&file()).unwrap();
        assert_eq!((payloads, torn), (vec![b"abcd".to_vec(), vec![], vec![0; 300]], false));
    }

    #[test]
    fn every_flipped_bit_is_an_error_that_names_where_it_is() {
        for at in 0..file().len() {
            for bit in 0..8 {
                let mut bytes = file();
                bytes[at] ^= 1 << bit;
                match read(&bytes) {
                    Err(CheckpointError::Damaged { range, .. }) => {
                        assert!(range.contains(&(at as u64)), "byte {at}, said {range:?}");
                    }
                    Err(CheckpointError::Version { .. }) => assert!((8..10).contains(&at)),
                    other => panic!("byte {at}, bit {bit}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_file_that_breaks_off_is_torn_or_ends_between_frames() {
        let whole = file();
        let ends = [FILE_HEAD, FILE_HEAD + 20, FILE_HEAD + 36];
        for length in FILE_HEAD..whole.len() {
            let (payloads, torn) = read(&whole[..length]).unwrap();
            assert_eq!(torn, !ends.contains(&length), "at {length}");
            assert_eq!(
                payloads.len(),
                ends.iter().filter(|end| **end > FILE_HEAD && **end <= length).count()
            );
        }
        assert!(read(&whole[..FILE_HEAD - 1]).is_err());
        let mut longer = whole;
        longer.extend_from_slice(&[0; 5000]);
        assert!(read(&longer).unwrap().1, "the file has grown before anything was written");
    }

    #[test]
    fn append_whose_last_blocks_were_not_written_is_torn() {
        let mut writer = FrameWriter::new(Kind::Log);
        writer.frame(&[&[7; 2000]]).unwrap();
        writer.frame(&[&[8; 100]]).unwrap();
        let whole = writer.into_bytes();
        let empty = |range: std::ops::Range<usize>| {
            let mut bytes = whole.clone();
            bytes[range].fill(0);
            read(&bytes).map(|(payloads, torn)| (payloads.len(), torn))
        };
        for (block, frames) in [(512, 0), (1024, 0), (1536, 0), (2048, 1)] {
            assert_eq!(empty(block..whole.len()).unwrap(), (frames, true), "from {block}");
            assert!(empty(block..block + 10).is_err(), "the middle of a frame is damaged at {block}");
        }
        assert!(empty(2040..whole.len()).is_ok_and(|(frames, torn)| torn && frames == 1));
        assert!(empty(2060..whole.len()).is_err(), "the last block was written, so it is damaged");
    }

    #[test]
    fn frames_that_have_changed_places_or_files_are_damaged() {
        let mut one = FrameWriter::new(Kind::Log);
        one.frame(&[b"same length"]).unwrap();
        one.frame(&[b"equal bytes"]).unwrap();
        let bytes = one.into_bytes();
        let (first, second) = bytes[FILE_HEAD..].split_at(27);
        let swapped = [&bytes[..FILE_HEAD], second, first].concat();
        assert!(matches!(read(&swapped), Err(CheckpointError::Damaged { .. })));
        let mut other = FrameWriter::new(Kind::State);
        other.frame(&[b"same length"]).unwrap();
        let moved = [&bytes[..FILE_HEAD], &other.into_bytes()[FILE_HEAD..]].concat();
        assert!(matches!(read(&moved), Err(CheckpointError::Damaged { .. })));
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut bytes = file();
        bytes[8] = 9;
        let error = read(&bytes).unwrap_err();
        assert!(error.to_string().starts_with("log is of format version 9"), "{error}");
    }
}
