//! Copies of a checkpoint at one epoch, which stay when the checkpoint advances.

use super::log::{CURRENT, History, LOGS, STATE, read_current, read_log, write_current, write_log};
use super::records::Current;
use super::source_log::{self, SOURCES};
use super::state_file::StateFile;
use super::{CheckpointError, JOURNALS, Owner, Storage, identity};

/// Exists while a copy is made: what lies beside it without `current` is left of a copy that was interrupted.
const COPYING: &str = "copying";

/// Copies the last commit of a history, its files, the plans after it, and the journals of the sources. The target must be empty
/// or hold an interrupted copy, which is replaced; it counts as a checkpoint when its last file, `current`, is there.
pub(super) fn copy(
    source: &dyn Storage,
    current: &Current,
    mut history: History,
    target: &dyn Storage,
) -> Result<(), CheckpointError> {
    let _lock = target.lock(&Owner::this_process(&current.query))?;
    if target.get(COPYING)?.is_some() && target.get(CURRENT)?.is_none() {
        for prefix in [LOGS, STATE, JOURNALS, SOURCES] {
            for name in target.list(prefix)? {
                target.delete(&name)?;
            }
        }
    }
    for there in [CURRENT, LOGS, STATE, JOURNALS] {
        if let Some(name) = target.list(there)?.first() {
            let reason = format!(
                "{} holds a checkpoint ({name}): give the savepoint another directory",
                target.describe()
            );
            return Err(CheckpointError::Misuse(reason));
        }
    }
    target.put(COPYING, &[])?;
    let last = history.last().map(|commit| commit.epoch);
    history.commits.retain(|commit| Some(commit.epoch) == last);
    history.plans.retain(|epoch, _| Some(*epoch) > last);
    for commit in &mut history.commits {
        commit.oldest = commit.epoch;
        for file in &commit.files {
            target.put(&file.name, StateFile::open(source, file, history.key_groups)?.bytes())?;
        }
    }
    source_log::copy(source, &history.sources, target)?;
    // Whole, with what has come since: it is to be read on from the commit. A file that goes away meanwhile has nothing
    // but what the commit has read.
    for name in source.list(JOURNALS)? {
        if let Some(bytes) = source.get(&name)? {
            target.put(&name, &bytes)?;
        }
    }
    // What begins with the copy is a query of its own.
    identity::leave_out(source, target)?;
    let frames = write_log(target, current, &history)?;
    write_current(target, &Current { frames, ..current.clone() })?;
    target.delete(COPYING)
}

/// Whether there is a checkpoint in the storage.
pub(crate) fn is_begun(storage: &dyn Storage) -> Result<bool, CheckpointError> {
    Ok(read_current(storage)?.is_some())
}

/// Begins a checkpoint as the copy of a savepoint, which stays as it is.
pub(crate) fn copy_savepoint(savepoint: &dyn Storage, target: &dyn Storage) -> Result<(), CheckpointError> {
    let Some(current) = read_current(savepoint)? else {
        return Err(CheckpointError::Misuse(format!("{} holds no savepoint", savepoint.describe())));
    };
    let history = read_log(savepoint, &current)?.history;
    copy(savepoint, &Current { log: 0, ..current }, history, target)
}
