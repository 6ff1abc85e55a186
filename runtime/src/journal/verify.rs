//! Checks that journals have the records that a checkpoint needs, without the types of the records.

use std::collections::BTreeMap;

use tidemill_operators::Epoch;

use super::store::{group, open_segment, segment_prefix};
use crate::checkpoint::format::NextFrame;
use crate::checkpoint::{CheckpointError, JOURNALS, Storage};

/// A record that an epoch resumes from or replays, if the source is journaled.
pub(crate) struct NeededRecord<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) uid: &'a str,
    pub(crate) partition: u32,
    /// The number of the record, or the number behind the last one that is needed.
    pub(crate) number: u64,
}

struct Segment {
    name: String,
    bytes: usize,
    /// The number of its first record.
    first: u64,
    /// The number behind its last record.
    end: u64,
}

/// Reads all journals, and returns the number of their segments.
///
/// # Errors
///
/// A segment is damaged, two do not follow each other, or a needed record is missing.
pub(crate) fn verify(storage: &dyn Storage, needed: &[NeededRecord<'_>]) -> Result<usize, CheckpointError> {
    let mut journals: BTreeMap<(String, u32), Vec<Segment>> = BTreeMap::new();
    let names = storage.list(JOURNALS)?;
    for name in &names {
        // A segment that the query removes in the meantime is not needed.
        let Some(bytes) = storage.get(name)? else { continue };
        let (uid, partition, segment) = read(name, &bytes)?;
        journals.entry((uid, partition)).or_default().push(segment);
    }
    for segments in journals.values_mut() {
        segments.sort_unstable_by_key(|segment| segment.first);
        let follow = segments.iter().zip(segments.iter().skip(1));
        if let Some((segment, next)) = follow.into_iter().find(|(segment, next)| segment.end != next.first) {
            return Err(ends_early(segment, &format!("{} begins with record {}", next.name, next.first)));
        }
    }
    for NeededRecord { epoch, uid, partition, number } in needed {
        let needs = format!("epoch {epoch} of the source `{uid}` needs the records from {number} on");
        match journals.get(&((*uid).to_owned(), *partition)).map(Vec::as_slice) {
            Some([first, ..]) if *number < first.first => {
                let file = format!("{}*.log before {}", segment_prefix(uid, *partition), first.name);
                return Err(CheckpointError::Missing { file, needed: needs });
            }
            Some([.., last]) if *number > last.end => return Err(ends_early(last, &needs)),
            // The source is journaled, as another partition shows.
            None if *number > 0 && journals.keys().any(|(journaled, _)| journaled == uid) => {
                let file = format!("{}*.log in {}", segment_prefix(uid, *partition), storage.describe());
                return Err(CheckpointError::Missing { file, needed: needs });
            }
            _ => {}
        }
    }
    Ok(names.len())
}

fn ends_early(segment: &Segment, needs: &str) -> CheckpointError {
    let reason = format!("it ends before record {}, and {needs}", segment.end);
    CheckpointError::damaged(&segment.name, segment.bytes..segment.bytes, reason)
}

/// Reads a segment from group to group. What a crash has left of an append, at its end, is harmless.
fn read(name: &str, bytes: &[u8]) -> Result<(String, u32, Segment), CheckpointError> {
    let (mut reader, opening) = open_segment(name, bytes)?;
    let mut end = opening.first;
    while let NextFrame::Frame(payload, range) = reader.step()? {
        end += group(name, payload, range)?.0.numbers();
    }
    let segment = Segment { name: name.to_owned(), bytes: bytes.len(), first: opening.first, end };
    Ok((opening.uid, opening.partition, segment))
}
