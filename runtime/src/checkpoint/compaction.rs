//! Making one base of a base and many deltas.
//!
//! A compaction rewrites all files of a commit, of any writer, into one base for each worker that there is now. It
//! runs beside the epochs; when it is done, its bases take the place of the files that they were made of in the commits
//! that follow. Those files go when no commit that is kept needs them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::{Epoch, KeyGroup, KeyGroups};

use super::loader::{fold, pieces};
use super::records::FileRef;
use super::state_file::{About, Section, StateFile, StateWriter};
use super::{CheckpointError, Storage};

/// Deltas of that many epochs are compacted, however small they are.
const MOST_DELTAS: usize = 16;
/// Deltas that come to less than this are not compacted for their size.
const SMALL: u64 = 64 * 1024;

/// Whether this many deltas of this size are worth a compaction: then what is written for it is at most as much as was
/// written for the deltas.
pub(super) fn is_due(chain: &[FileRef]) -> bool {
    let bytes = |base: bool| chain.iter().filter(|file| file.base == base).map(|file| file.len).sum::<u64>();
    let mut epochs: Vec<Epoch> = chain.iter().filter(|file| !file.base).map(|file| file.epoch).collect();
    epochs.dedup();
    epochs.len() > MOST_DELTAS || bytes(false) > bytes(true).max(SMALL)
}

/// A compaction to be run, on a thread that has time for it.
pub(crate) struct Compaction {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) writer: StateWriter,
    pub(super) groups: KeyGroups,
    /// The files of the last commit.
    pub(super) files: Vec<FileRef>,
    /// Its epoch.
    pub(super) epoch: Epoch,
    pub(super) workers: u32,
    /// Operators whose state is given up.
    pub(super) without: Vec<String>,
    /// Operators whose values are rewritten.
    pub(super) convert: BTreeMap<String, Convert>,
}

/// Rewrites a value of a state, by its slot, its key and its bytes.
pub(crate) type Convert =
    Arc<dyn for<'a> Fn(&'a [u8], &'a [u8], &'a [u8]) -> Result<Cow<'a, [u8]>, String> + Send + Sync>;

/// What a compaction has made of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Compacted {
    pub(super) files: Vec<FileRef>,
    pub(super) bases: Vec<FileRef>,
}

impl Compaction {
    /// Reads the files and writes the bases; they are durable when it returns.
    pub(crate) fn run(self) -> Result<Compacted, CheckpointError> {
        let files: Vec<Arc<StateFile>> = self
            .files
            .iter()
            .map(|file| StateFile::open(&*self.storage, file, self.groups).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let mut bases = Vec::new();
        for worker in 0..self.workers {
            let is_mine = |group: KeyGroup| group.worker(self.workers as usize) == worker as usize;
            let mut sections = Vec::new();
            for ((uid, group), parts) in pieces(&files, is_mine) {
                if self.without.iter().any(|gone| gone == uid) {
                    continue;
                }
                let folded = fold(&parts)?;
                if folded.is_empty() {
                    continue;
                }
                let bytes = match self.convert.get(uid) {
                    None => folded.write(),
                    Some(convert) => folded
                        .write_converted(|slot, key, value| convert(slot, key, value))
                        .map_err(|problem| CheckpointError::OtherType { what: uid.to_owned(), problem })?,
                };
                sections.push(Section { uid: uid.into(), group, bytes });
            }
            let about = About { epoch: self.epoch, worker, base: true };
            bases.extend(self.writer.write(about, &sections)?);
        }
        Ok(Compacted { files: self.files, bases })
    }
}
