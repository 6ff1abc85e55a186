//! Looking at a checkpoint without the query that wrote it: what a command line shows.
//!
//! Nothing here needs the types of the state. All but [`prune`] only read, and may be used while the query runs; a file
//! that the query removes in the meantime is then reported as missing.

mod of_key;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::of_key::{KeyState, StateEntry, of_key};

use serde::Serialize;
use tidemill_operators::{Difference, Epoch, EventTime, KeyGroups, Mode, ProcessingTime};

use crate::checkpoint::format::{FILE_HEAD, FrameReader, Kind, NextFrame};
use crate::checkpoint::loader::{fold, pieces};
use crate::checkpoint::log::{CURRENT, History, ReadLog, log_name, read_current, read_log};
use crate::checkpoint::records::{CommitRecord, Current};
use crate::checkpoint::source_log::SOURCES;
use crate::checkpoint::state_file::StateFile;
use crate::checkpoint::store::{Checkpoint, Settings};
use crate::checkpoint::{CheckpointError, Storage, identity, source_log};
use crate::journal::{self, NeededRecord};
use crate::recovery::owner;

/// A checkpoint at a glance.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Overview {
    /// The query.
    pub query: String,
    /// Which run of the query wrote last, from 1.
    pub execution: u64,
    /// Into how many key groups the state is divided.
    pub key_groups: u16,
    /// The epochs that can be restored, the oldest first.
    pub epochs: Vec<EpochOverview>,
    /// Epochs that were planned after the last of them, and not committed.
    pub planned: Vec<Epoch>,
}

/// A committed epoch at a glance.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EpochOverview {
    /// The epoch.
    pub epoch: Epoch,
    /// Which run of the query committed it.
    pub execution: u64,
    /// In which mode.
    pub mode: Mode,
    /// With how many workers.
    pub workers: u32,
    /// When it was committed.
    pub committed_at: ProcessingTime,
    /// In how many files its state is.
    pub files: usize,
    /// How large they are together.
    pub bytes: u64,
}

/// A committed epoch in full.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EpochDetails {
    /// At a glance.
    #[serde(flatten)]
    pub overview: EpochOverview,
    /// The fingerprint of the graph.
    pub fingerprint: String,
    /// The processing time that the epoch saw.
    pub clock: ProcessingTime,
    /// Where each partition resumes, by uid of the source.
    pub offsets: BTreeMap<String, Vec<serde_json::Value>>,
    /// The watermarks, by uid of the operator that assigns them.
    pub watermarks: BTreeMap<String, EventTime>,
    /// The operators with state, by uid.
    pub operators: BTreeMap<String, OperatorDetails>,
    /// The files of its state, the oldest first.
    pub files: Vec<FileDetails>,
}

/// The state of an operator.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct OperatorDetails {
    /// Its name and kind.
    pub label: String,
    /// The user's file and line.
    pub location: String,
    /// The types of the state, in words.
    pub state_type: String,
    /// The rows of state that the operator reported. Of a state with a name, its entries; of the operator that has such
    /// states, the entries of all of them.
    pub rows: u64,
    /// How many entries there are, all changes applied.
    pub entries: u64,
    /// How many bytes its changes take in the files.
    pub bytes: u64,
}

/// A file of state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FileDetails {
    /// Its name.
    pub name: String,
    /// How large it is.
    pub bytes: u64,
    /// Whether it is a whole state, or changes.
    pub base: bool,
}

/// What has been read and found to be as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verified {
    /// The epochs that can be restored.
    pub epochs: Vec<Epoch>,
    /// How many files of state there are.
    pub files: usize,
    /// How large they are together.
    pub bytes: u64,
    /// How many logs of sources and segments of journals there are.
    pub logs: usize,
}

/// How the state of an operator differs between two epochs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct OperatorDifference {
    /// Keys that are new.
    pub added: u64,
    /// Keys that have another value.
    pub changed: u64,
    /// Keys that are gone.
    pub removed: u64,
}

/// The epochs of a checkpoint.
///
/// # Errors
///
/// [`CheckpointError`]: there is no checkpoint, or it is damaged.
pub fn list(storage: &dyn Storage) -> Result<Overview, CheckpointError> {
    let (current, ReadLog { history, .. }) = read(storage)?;
    Ok(Overview {
        query: current.query,
        execution: current.execution,
        key_groups: history.key_groups.count(),
        epochs: history.commits.iter().map(overview).collect(),
        planned: history.pending().iter().map(|plan| plan.epoch).collect(),
    })
}

/// An epoch of a checkpoint: the last one, if none is given. Reads its state, to count it.
///
/// # Errors
///
/// As [`list`]; [`CheckpointError::NoSuchEpoch`].
pub fn show(storage: &dyn Storage, epoch: Option<Epoch>) -> Result<EpochDetails, CheckpointError> {
    let (_, ReadLog { history, .. }) = read(storage)?;
    let commit = find(storage, &history, epoch)?;
    let mut operators: BTreeMap<String, OperatorDetails> = BTreeMap::new();
    for (uid, record) in commit.operators.clone() {
        let (label, location, state_type) = (record.label, record.location, record.state_type);
        let details =
            OperatorDetails { label, location, state_type, rows: record.rows, entries: 0, bytes: 0 };
        operators.insert(uid, details);
    }
    let files = open_all(storage, commit, history.key_groups)?;
    for ((uid, _), parts) in pieces(&files, |_| true) {
        let operator = operators.entry(uid.to_owned()).or_default();
        operator.bytes += parts.iter().map(|(_, piece)| piece.bytes.len() as u64).sum::<u64>();
        operator.entries += fold(&parts)?.len() as u64;
    }
    count_named(commit, &mut operators);
    let values = |offsets: &[crate::checkpoint::records::Json]| {
        offsets.iter().map(|offset| offset.0.clone()).collect()
    };
    let file = |file: &crate::checkpoint::records::FileRef| FileDetails {
        name: file.name.clone(),
        bytes: file.len,
        base: file.base,
    };
    Ok(EpochDetails {
        overview: overview(commit),
        fingerprint: commit.fingerprint.clone(),
        clock: commit.clock,
        offsets: commit.offsets.iter().map(|(uid, offsets)| (uid.clone(), values(offsets))).collect(),
        watermarks: commit.watermarks.iter().map(|(uid, record)| (uid.clone(), record.watermark)).collect(),
        operators,
        files: commit.files.iter().map(file).collect(),
    })
}

/// Counts the rows of states with names, which no operator reports, from the entries in the files.
fn count_named(commit: &CommitRecord, operators: &mut BTreeMap<String, OperatorDetails>) {
    let mut of_owners: BTreeMap<&str, u64> = BTreeMap::new();
    for (uid, record) in &commit.operators {
        if let Some((owner, _)) = owner(uid, record)
            && let Some(state) = operators.get_mut(uid)
        {
            state.rows = state.entries;
            *of_owners.entry(owner).or_default() += state.entries;
        }
    }
    for (owner, entries) in of_owners {
        if let Some(operator) = operators.get_mut(owner) {
            operator.rows = entries;
        }
    }
}

/// Reads everything that any epoch needs: state, logs of sources and journals. The first damage is the error, with its file
/// and bytes.
///
/// A journal must have the records that the epochs resume from and that planned epochs replay. A journal that lost all its
/// files is not noticed here, since the checkpoint does not record which sources are journaled; a run refuses it.
///
/// # Errors
///
/// As [`list`].
pub fn verify(storage: &dyn Storage) -> Result<Verified, CheckpointError> {
    let (_, ReadLog { history, .. }) = read(storage)?;
    identity::verify(storage)?;
    let files: BTreeMap<_, _> =
        history.commits.iter().flat_map(|commit| &commit.files).map(|file| (&file.name, file)).collect();
    for (uid, mark) in &history.sources {
        source_log::check(storage, uid, mark)?;
    }
    let mut logs = journal::verify(storage, &needed_records(&history))?;
    for name in storage.list(SOURCES)? {
        walk(&name, &storage.log(&name)?.read()?)?;
        logs += 1;
    }
    for file in files.values() {
        let file = [Arc::new(StateFile::open(storage, file, history.key_groups)?)];
        for parts in pieces(&file, |_| true).values() {
            fold(parts)?;
        }
    }
    Ok(Verified {
        epochs: history.commits.iter().map(|commit| commit.epoch).collect(),
        files: files.len(),
        bytes: files.values().map(|file| file.len).sum(),
        logs,
    })
}

/// Returns the offsets that commits resume from and planned epochs read, if they may be numbers of records in a journal.
fn needed_records(history: &History) -> Vec<NeededRecord<'_>> {
    let commits = history.commits.iter().flat_map(|commit| {
        let offsets = commit
            .offsets
            .iter()
            .flat_map(|(uid, offsets)| offsets.iter().enumerate().map(move |it| (uid, it)));
        offsets.map(move |(uid, (partition, offset))| (commit.epoch, uid, partition, offset))
    });
    let pending =
        history.plans.values().filter(|plan| history.last().is_none_or(|last| plan.epoch > last.epoch));
    let plans = pending.flat_map(|plan| {
        let ranges =
            plan.ranges.iter().flat_map(|(uid, ranges)| ranges.iter().enumerate().map(move |it| (uid, it)));
        ranges.flat_map(move |(uid, (partition, (from, to)))| {
            [from, to].map(|offset| (plan.epoch, uid, partition, offset))
        })
    });
    commits
        .chain(plans)
        .filter_map(|(epoch, uid, partition, offset)| {
            let (partition, number) = (u32::try_from(partition).ok()?, offset.0.as_u64()?);
            Some(NeededRecord { epoch, uid, partition, number })
        })
        .collect()
}

/// Reads the log of a source from frame to frame. What a crash has left of an append, at its end, is harmless.
fn walk(name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
    if bytes.len() < FILE_HEAD {
        return Ok(());
    }
    let mut reader = FrameReader::new(name, bytes, Kind::Source)?;
    while let NextFrame::Frame(..) = reader.step()? {}
    Ok(())
}

/// How the state of each operator differs between two epochs, by uid: of all that have state in either.
///
/// # Errors
///
/// As [`show`]; [`CheckpointError::Misuse`] if `later` is before `earlier`.
pub fn diff(
    storage: &dyn Storage,
    earlier: Epoch,
    later: Epoch,
) -> Result<BTreeMap<String, OperatorDifference>, CheckpointError> {
    if later < earlier {
        return Err(CheckpointError::Misuse(format!(
            "the earlier epoch comes first: write {later} {earlier} (got {earlier} {later})"
        )));
    }
    let (_, ReadLog { history, .. }) = read(storage)?;
    let groups = history.key_groups;
    let earlier = open_all(storage, find(storage, &history, Some(earlier))?, groups)?;
    let later = open_all(storage, find(storage, &history, Some(later))?, groups)?;
    let (earlier, later) = (pieces(&earlier, |_| true), pieces(&later, |_| true));
    let keys: std::collections::BTreeSet<_> = earlier.keys().chain(later.keys()).copied().collect();
    let mut differences: BTreeMap<String, OperatorDifference> = BTreeMap::new();
    for key in keys {
        let parts = |of: &BTreeMap<_, Vec<_>>| of.get(&key).cloned().unwrap_or_default();
        let (before, after) = (parts(&earlier), parts(&later));
        let Difference { added, changed, removed } = fold(&after)?.difference(&fold(&before)?);
        let operator = differences.entry(key.0.to_owned()).or_default();
        operator.added += added;
        operator.changed += changed;
        operator.removed += removed;
    }
    Ok(differences)
}

/// Forgets all epochs but the last `keep`, and removes what only they needed. The query must not be running.
///
/// # Errors
///
/// As [`list`]; [`CheckpointError::Locked`].
pub fn prune(storage: &Arc<dyn Storage>, keep: usize) -> Result<Overview, CheckpointError> {
    let (current, _) = read(&**storage)?;
    let (mut checkpoint, _) = Checkpoint::open(Arc::clone(storage), &current.query, Settings::default())?;
    checkpoint.keep(keep)?;
    drop(checkpoint);
    list(&**storage)
}

fn overview(commit: &CommitRecord) -> EpochOverview {
    EpochOverview {
        epoch: commit.epoch,
        execution: commit.execution,
        mode: commit.mode,
        workers: commit.workers,
        committed_at: commit.committed_at,
        files: commit.files.len(),
        bytes: commit.files.iter().map(|file| file.len).sum(),
    }
}

/// What is written about the checkpoint, read again if the query has switched to its next log in the meantime.
fn read(storage: &dyn Storage) -> Result<(Current, ReadLog), CheckpointError> {
    let nothing = || CheckpointError::Missing {
        file: format!("{CURRENT} in {}", storage.describe()),
        needed: "there is no checkpoint here".to_owned(),
    };
    loop {
        let current = read_current(storage)?.ok_or_else(nothing)?;
        let log = read_log(storage, &current);
        if log.is_ok() || read_current(storage)?.is_some_and(|now| log_name(now.log) == log_name(current.log))
        {
            return Ok((current, log?));
        }
    }
}

fn find<'a>(
    storage: &dyn Storage,
    history: &'a History,
    epoch: Option<Epoch>,
) -> Result<&'a CommitRecord, CheckpointError> {
    let wanted = |commit: &&CommitRecord| epoch.is_none_or(|epoch| commit.epoch == epoch);
    history.commits.iter().rfind(wanted).ok_or_else(|| CheckpointError::NoSuchEpoch {
        storage: storage.describe(),
        epoch: epoch.unwrap_or_default().number(),
        kept: history.commits.iter().map(|commit| commit.epoch.number()).collect(),
    })
}

fn open_all(
    storage: &dyn Storage,
    commit: &CommitRecord,
    groups: KeyGroups,
) -> Result<Vec<Arc<StateFile>>, CheckpointError> {
    commit.files.iter().map(|file| StateFile::open(storage, file, groups).map(Arc::new)).collect()
}
