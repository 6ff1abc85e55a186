//! Handing the state of a commit to the workers of the next run, whatever their number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidemill_operators::{Folded, KeyGroup, KeyGroups, OperatorError, SnapshotReader, turn, without_dropped};

use super::records::FileRef;
use super::state_file::{Piece, StateFile};
use super::{CheckpointError, Storage};

/// The files of a commit, each read once, when the first worker needs it. Shared by the threads of the workers, and
/// dropped when all have what is theirs.
pub(crate) struct Loader {
    storage: Arc<dyn Storage>,
    files: Vec<(FileRef, Mutex<Option<Arc<StateFile>>>)>,
    groups: KeyGroups,
    /// Operators whose state is given up.
    without: Vec<String>,
}

impl Loader {
    pub(crate) fn new(storage: Arc<dyn Storage>, files: &[FileRef], groups: KeyGroups) -> Loader {
        let files = files.iter().map(|file| (file.clone(), Mutex::new(None))).collect();
        Loader { storage, files, groups, without: Vec::new() }
    }

    /// The same, leaving out the state of these operators.
    #[must_use]
    pub(crate) fn without(mut self, uids: &[String]) -> Loader {
        self.without = uids.to_vec();
        self
    }

    /// Calls `each` with the uid, the group and the changes of every group that `worker` of `workers` holds, and of the first
    /// group of what `is_shared` by all workers: one group
    /// after the other, and those of a group the oldest first. Slots that were dropped later are left out.
    pub(crate) fn load<E: From<CheckpointError>>(
        &self,
        worker: usize,
        workers: usize,
        is_shared: &dyn Fn(&str) -> bool,
        mut each: impl FnMut(&str, KeyGroup, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let files = self.files_of(worker, workers)?;
        let is_mine = |group: KeyGroup| group.worker(workers) == worker;
        for ((uid, group), parts) in pieces(&files, |group| group.number() == 0 || is_mine(group)) {
            if !is_mine(group) && !is_shared(uid) {
                continue;
            }
            if self.without.iter().any(|without| without == uid) {
                continue;
            }
            let bytes: Vec<&[u8]> = parts.iter().map(|(_, piece)| piece.bytes).collect();
            let changes = without_dropped(&bytes).map_err(|error| locate(&parts, error))?;
            for part in changes.iter().filter(|part| !part.is_empty()) {
                each(uid, group, part)?;
            }
        }
        Ok(())
    }

    /// The files that have groups of the worker, the oldest first.
    fn files_of(&self, worker: usize, workers: usize) -> Result<Vec<Arc<StateFile>>, CheckpointError> {
        let mut files = Vec::new();
        for (file, read) in &self.files {
            // A file without groups is small, and is missed like any other.
            // The first group may have what all workers share.
            let has_mine = file.groups.is_none_or(|(first, last)| {
                let holder = |number| self.groups.group(number).map(|group| group.worker(workers));
                let holders = (holder(first), holder(last));
                // A number that there is not is found when the file is read.
                let is_mine = holders.0.is_none_or(|first| first <= worker)
                    && holders.1.is_none_or(|last| worker <= last);
                first == 0 || is_mine
            });
            if !has_mine {
                continue;
            }
            let mut read = turn::lock(read);
            let file = match &*read {
                Some(file) => Arc::clone(file),
                None => {
                    Arc::clone(read.insert(Arc::new(StateFile::open(&*self.storage, file, self.groups)?)))
                }
            };
            files.push(file);
        }
        Ok(files)
    }
}

/// The sections of the wanted groups, by operator and group, the oldest first, each with the file it is in.
pub(crate) fn pieces(
    files: &[Arc<StateFile>],
    wanted: impl Fn(KeyGroup) -> bool,
) -> BTreeMap<(&str, KeyGroup), Vec<(&str, Piece<'_>)>> {
    let mut pieces: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        for piece in file.sections().filter(|piece| wanted(piece.group)) {
            pieces.entry((piece.uid, piece.group)).or_default().push((file.name.as_str(), piece));
        }
    }
    pieces
}

/// What the changes of a group come to.
pub(crate) fn fold<'a>(parts: &[(&str, Piece<'a>)]) -> Result<Folded<'a>, CheckpointError> {
    let mut folded = Folded::new();
    for (_, piece) in parts {
        folded.apply(piece.bytes).map_err(|error| locate(parts, error))?;
    }
    Ok(folded)
}

/// Says in which file the changes are that cannot be read.
fn locate(parts: &[(&str, Piece<'_>)], error: OperatorError) -> CheckpointError {
    for (file, piece) in parts {
        if let Some(Err(error)) = SnapshotReader::new(piece.bytes).find(Result::is_err) {
            let (file, range, reason) = ((*file).to_owned(), piece.range.clone(), error.to_string());
            return CheckpointError::Damaged { file, range, reason };
        }
    }
    error.into()
}
