//! The identity of a query: a random id, made with its checkpoint, and a random number for each of its runs.
//!
//! Outputs are claimed with it. A restart keeps the id. A savepoint has none, so a query that begins from it gets a new one,
//! also where it takes over the outputs: the query that made the savepoint may have used the epoch numbers that follow, and
//! under one id a number must not stand for two sets of rows. A checkpoint that was copied as files keeps the id, but does
//! not know the runs that the original makes afterwards.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_operators::QueryIdentity;

use super::format::{FrameReader, FrameWriter, Kind};
use super::{CheckpointError, Storage};

const IDENTITY: &str = "identity";

/// How many runs are remembered.
const RUNS: usize = 256;

/// The identity of a query in the present run.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) query: Arc<QueryIdentity>,
    /// The first execution with this id: commits of earlier ones are those of the query that made the savepoint.
    pub(crate) since: u64,
}

/// What the file holds. No id: the next run that opens the checkpoint creates one.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    id: String,
    since: u64,
    runs: Vec<(u64, String)>,
}

/// Adds a run to the identity of a checkpoint, which is made if the checkpoint `is_new` or a savepoint; before `current` is
/// replaced, so that this is never without it. `take_over`: the commits of the query that made the savepoint count as this
/// one's.
pub(super) fn begin(
    storage: &dyn Storage,
    execution: u64,
    is_new: bool,
    take_over: bool,
) -> Result<Identity, CheckpointError> {
    let mut record = match is_new {
        true => Record { id: random(), ..Record::default() },
        false => read(storage)?,
    };
    if record.id.is_empty() {
        record = Record { id: random(), since: execution, ..record };
    }
    if take_over {
        record.since = 0;
    }
    record.runs.push((execution, random()));
    let forgotten = record.runs.len().saturating_sub(RUNS);
    record.runs.drain(..forgotten);
    write(storage, &record)?;
    let Record { id, since, runs, .. } = record;
    Ok(Identity { query: Arc::new(QueryIdentity::new(id, runs)), since })
}

/// Gives a copy of a checkpoint no identity: it is to be a query of its own.
pub(super) fn leave_out(source: &dyn Storage, copy: &dyn Storage) -> Result<(), CheckpointError> {
    verify(source)?;
    write(copy, &Record::default())
}

/// Checks that the file is there and as it was written.
pub(crate) fn verify(storage: &dyn Storage) -> Result<(), CheckpointError> {
    read(storage).map(drop)
}

fn read(storage: &dyn Storage) -> Result<Record, CheckpointError> {
    let bytes = storage.get(IDENTITY)?.ok_or_else(|| CheckpointError::Missing {
        file: format!("{IDENTITY} in {}", storage.describe()),
        needed: "it names the query that owns the outputs".to_owned(),
    })?;
    let mut reader = FrameReader::new(IDENTITY, &bytes, Kind::Identity)?;
    let record = reader.value()?;
    reader.end()?;
    Ok(record)
}

fn write(storage: &dyn Storage, record: &Record) -> Result<(), CheckpointError> {
    let mut writer = FrameWriter::new(Kind::Identity);
    writer.value(record)?;
    storage.put(IDENTITY, &writer.into_bytes())
}

/// 128 random bits, in hexadecimal; the keys of the standard library's hash maps are random.
fn random() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStorage;
    use super::*;

    #[test]
    fn restart_keeps_id_and_knows_earlier_runs() {
        let storage = MemoryStorage::new();
        let first = begin(&storage, 1, true, false).unwrap();
        let copy = MemoryStorage::from_files(storage.files());
        let second = begin(&storage, 2, false, false).unwrap();
        let other = begin(&copy, 2, false, false).unwrap();
        assert_eq!([second.query.id(), other.query.id()], [first.query.id(); 2]);
        let claim = |identity: &Identity| identity.query.claim("numbers").unwrap();
        assert!(second.query.owns(&claim(&first)) && other.query.owns(&claim(&first)));
        assert!(!second.query.owns(&claim(&other)) && !other.query.owns(&claim(&second)));
        assert_eq!(second.since, 0);
    }

    #[test]
    fn savepoint_gets_id_of_its_own_also_when_taken_over() {
        let storage = MemoryStorage::new();
        let first = begin(&storage, 1, true, false).unwrap();
        let savepoint = MemoryStorage::new();
        leave_out(&storage, &savepoint).unwrap();
        leave_out(&savepoint, &storage).unwrap();
        let copy = MemoryStorage::from_files(savepoint.files());
        let fork = begin(&storage, 7, false, false).unwrap();
        assert_ne!(fork.query.id(), first.query.id());
        assert_eq!(fork.since, 7);
        assert_eq!(begin(&storage, 8, false, false).unwrap().since, 7);
        let moved = begin(&copy, 7, false, true).unwrap();
        assert_ne!(moved.query.id(), first.query.id());
        assert_eq!(moved.since, 0);
        assert!(!moved.query.owns(&fork.query.claim("numbers").unwrap()));
        let again = begin(&copy, 8, false, false).unwrap();
        assert_eq!((again.query.id(), again.since), (moved.query.id(), 0));
    }

    #[test]
    fn runs_are_bounded_and_those_forgotten_are_believed() {
        let storage = MemoryStorage::new();
        let first = begin(&storage, 1, true, false).unwrap();
        let mut last = first.clone();
        for execution in 2..=600 {
            last = begin(&storage, execution, false, false).unwrap();
        }
        assert_eq!(last.query.runs().len(), RUNS);
        assert!(last.query.owns(&first.query.claim("numbers").unwrap()));
    }
}
