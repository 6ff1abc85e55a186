//! Reads a journal back: what was received before, by this run or one that has died.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;

use super::store::{Store, group, records};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::format::NextFrame;

/// What has been read back.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    /// The records from the one that was asked for.
    pub(super) records: VecDeque<T>,
    /// Whether the source ended behind them.
    pub(super) ended: bool,
}

/// Reads on from a record: as far as its segment goes, the source ended, or `head`, which is in memory. Never nothing.
pub(super) fn load<T: DeserializeOwned>(
    store: &Store,
    from: u64,
    head: u64,
) -> Result<Loaded<T>, CheckpointError> {
    let Some((name, bytes)) = store.segment_with(from)? else {
        return Err(CheckpointError::Missing {
            file: store.describe(),
            needed: format!("record {from} must be read again"),
        });
    };
    let (mut reader, opening) = store.check_opening(&name, &bytes)?;
    let mut at = opening.first;
    let mut reading = store.reading(&name, &opening.shape)?;
    let mut loaded = Loaded { records: VecDeque::new(), ended: false };
    // Behind `head` somebody may be writing just now.
    while at < head && !loaded.ended {
        let NextFrame::Frame(payload, range) = reader.step()? else { break };
        let (about, rows) = group(&name, payload, range.clone())?;
        if let Some(shape) = &about.shape {
            reading = store.reading(&name, shape)?;
        }
        let next = at + about.numbers();
        if next > from {
            let rows: Vec<T> = records(&name, &about, &reading, rows, range)?;
            let wanted = (at..head).zip(rows).filter(|(number, _)| *number >= from);
            loaded.records.extend(wanted.map(|(_, row)| row));
            loaded.ended = about.ended && next <= head;
        }
        at = next;
    }
    if loaded.records.is_empty() && !loaded.ended {
        let reason = format!("it ends before record {at}, but it has had record {from}");
        return Err(CheckpointError::damaged(&name, reader.offset()..bytes.len(), reason));
    }
    Ok(loaded)
}
