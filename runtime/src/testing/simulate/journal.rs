//! What of a disk is synced, and what else a crash of the machine may leave of it.
//!
//! The files themselves hold what the system shows to its processes. The journal has, for each file and each directory,
//! what has been synced, and the changes since. A crash loses all of these changes, or any of them in any combination that
//! a file system may leave: see [`part_of`] for the content of files. A change of a directory's entries is kept or lost as
//! a whole, a rename too.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use crate::sim::Random;

/// What a disk writes at once.
const BLOCK: usize = 512;

/// The number of a file or directory, whatever its names.
type Id = usize;

/// How much a crash of the machine loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// All that was not synced.
    All,
    /// Any part of it.
    Some,
}

#[derive(Default)]
pub(super) struct Journal {
    nodes: Vec<Node>,
    /// By device and inode.
    ids: BTreeMap<(u64, u64), Id>,
    directories: BTreeMap<PathBuf, Directory>,
}

#[derive(Default)]
struct Node {
    is_dir: bool,
    synced: Vec<u8>,
    changes: Vec<Change>,
}

enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// The entries of a directory.
#[derive(Default)]
struct Directory {
    synced: BTreeMap<OsString, Id>,
    changes: Vec<EntryChange>,
}

enum EntryChange {
    Link(OsString, Id),
    Unlink(OsString),
    Rename(OsString, OsString, Id),
}

/// What a crash has left of the disk.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The files and what they hold; directories without.
    kept: BTreeMap<PathBuf, Option<Vec<u8>>>,
    lost: BTreeSet<PathBuf>,
}

impl Journal {
    /// Returns the node of a file, which may not have been met before: then all of it counts as synced.
    fn known(
        &mut self,
        metadata: &Metadata,
        content: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Id> {
        let Some(inode) = inode(metadata) else { return Err(io::ErrorKind::Unsupported.into()) };
        if let Some(id) = self.ids.get(&inode) {
            return Ok(*id);
        }
        let is_dir = metadata.is_dir();
        let synced = if is_dir { Vec::new() } else { content()? };
        self.nodes.push(Node { is_dir, synced, changes: Vec::new() });
        self.ids.insert(inode, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    fn of_file(&mut self, file: &File, path: &Path) -> io::Result<Id> {
        self.known(&file.metadata()?, || fs::read(path))
    }

    fn of_path(&mut self, path: &Path) -> io::Result<Id> {
        let id = self.known(&path.metadata()?, || fs::read(path))?;
        let (directory, name) = self.place(path);
        if !directory.names(&name) {
            directory.synced.insert(name, id);
        }
        Ok(id)
    }

    fn place(&mut self, path: &Path) -> (&mut Directory, OsString) {
        let above = path.parent().unwrap_or(Path::new("")).to_owned();
        let name = path.file_name().unwrap_or_default().to_owned();
        (self.directories.entry(above).or_default(), name)
    }

    fn change(&mut self, id: Id, change: Change) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.changes.push(change);
        }
    }

    /// Before a file that is there is written to, cut, renamed or removed: what of it is not in the journal is synced.
    pub(super) fn meet(&mut self, path: &Path) {
        // One that is not there fails where it is used.
        let _ = self.of_path(path);
    }

    /// A file or directory has been created.
    pub(super) fn created(&mut self, path: &Path) -> io::Result<()> {
        let metadata = path.metadata()?;
        // The inode may have been another file's.
        inode(&metadata).map(|inode| self.ids.remove(&inode));
        let id = self.known(&metadata, || Ok(Vec::new()))?;
        let (directory, name) = self.place(path);
        directory.changes.push(EntryChange::Link(name, id));
        Ok(())
    }

    /// These bytes have been written, at that place or up to the cursor.
    pub(super) fn wrote(
        &mut self,
        mut file: &File,
        path: &Path,
        bytes: &[u8],
        at: Option<u64>,
    ) -> io::Result<()> {
        let at = match at {
            Some(at) => at,
            None => file.stream_position()?.saturating_sub(bytes.len() as u64),
        };
        let id = self.of_file(file, path)?;
        self.change(id, Change::Write(at, bytes.to_vec()));
        Ok(())
    }

    /// A file has been cut or extended.
    pub(super) fn resized(&mut self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        let id = self.of_file(file, path)?;
        self.change(id, Change::Length(length));
        Ok(())
    }

    /// A file has been synced.
    pub(super) fn synced(&mut self, file: &File, path: &Path) -> io::Result<()> {
        let id = self.of_file(file, path)?;
        if let Some(node) = self.nodes.get_mut(id) {
            node.changes.drain(..).for_each(|change| change.apply(&mut node.synced));
        }
        Ok(())
    }

    /// A directory has been synced.
    pub(super) fn synced_dir(&mut self, path: &Path) {
        if let Some(directory) = self.directories.get_mut(path) {
            directory.changes.drain(..).for_each(|change| change.apply(&mut directory.synced));
        }
    }

    /// A file has another name.
    pub(super) fn renamed(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.known(&to.metadata()?, || fs::read(to))?;
        if from.parent() == to.parent() {
            let (old, new) = (from.file_name(), to.file_name());
            let (old, new) = (old.unwrap_or_default().to_owned(), new.unwrap_or_default().to_owned());
            self.place(to).0.changes.push(EntryChange::Rename(old, new, id));
            return Ok(());
        }
        let (directory, name) = self.place(to);
        directory.changes.push(EntryChange::Link(name, id));
        let (directory, name) = self.place(from);
        directory.changes.push(EntryChange::Unlink(name));
        Ok(())
    }

    /// A file has been removed.
    pub(super) fn removed(&mut self, path: &Path) {
        let (directory, name) = self.place(path);
        directory.changes.push(EntryChange::Unlink(name));
    }

    /// Crashes the machine: from now on what is left of the disk is all of it.
    pub(super) fn crash(&mut self, loss: Loss, random: &mut Random) -> Left {
        let survives = |random: &mut Random| loss == Loss::Some && random.below(2) == 0;
        let mut left = Left::default();
        for node in &mut self.nodes {
            let changes = std::mem::take(&mut node.changes);
            if loss == Loss::Some && !changes.is_empty() {
                node.synced = part_of(&node.synced, &changes, random);
            }
        }
        for (path, directory) in &mut self.directories {
            let mut names = directory.all_names();
            let is_lost = path.ancestors().any(|above| left.lost.contains(above));
            for change in std::mem::take(&mut directory.changes) {
                if survives(random) {
                    change.apply(&mut directory.synced);
                }
            }
            if is_lost {
                directory.synced.clear();
                continue;
            }
            for (name, id) in &directory.synced {
                let Some(node) = self.nodes.get(*id) else { continue };
                let content = (!node.is_dir).then(|| node.synced.clone());
                left.kept.insert(path.join(name), content);
                names.remove(name);
            }
            left.lost.extend(names.into_iter().map(|name| path.join(name)));
        }
        left
    }

    /// The paths of all files and directories that are there.
    pub(super) fn paths(&self) -> Vec<(PathBuf, Id)> {
        let mut paths = Vec::new();
        for (path, directory) in &self.directories {
            let mut entries = directory.synced.clone();
            directory.changes.iter().for_each(|change| change.apply(&mut entries));
            paths.extend(entries.into_iter().map(|(name, id)| (path.join(name), id)));
        }
        paths
    }

    /// The files at these paths have other inodes now.
    pub(super) fn moved(&mut self, paths: &[(PathBuf, Id)]) {
        self.ids.clear();
        for (path, id) in paths {
            if let Ok(metadata) = path.metadata()
                && let Some(inode) = inode(&metadata)
            {
                self.ids.insert(inode, *id);
            }
        }
    }
}

/// What a crash leaves of a file: of the changes of its length a first part, and of each block that was synced before some
/// state of it. What was appended is there as far as the file is long; but from the beginning of a block on it may be empty.
fn part_of(synced: &[u8], changes: &[Change], random: &mut Random) -> Vec<u8> {
    let kept = random.below(changes.len() as u64 + 1) as usize;
    let mut content = synced.to_vec();
    for (n, change) in changes.iter().enumerate() {
        match change {
            Change::Length(_) if n >= kept => {}
            Change::Length(length) => content.resize(usize_of(*length), 0),
            Change::Write(at, bytes) if n <= kept => {
                let part =
                    if n == kept { random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
                Change::Write(*at, bytes.get(..part).unwrap_or_default().to_vec()).apply(&mut content);
                if n == kept && random.below(4) == 0 {
                    // A block is written as a whole, so all that was appended in the last one lacks.
                    let written = (content.len() / BLOCK * BLOCK).max(synced.len()).min(content.len());
                    let end = content.len().max(usize_of(*at) + bytes.len());
                    content.truncate(written);
                    content.resize(end, 0);
                }
            }
            Change::Write(..) => {}
        }
    }
    let mut begin = 0;
    while let Some(block) = content.get_mut(begin..(begin + BLOCK).min(synced.len())) {
        let mut other = synced.get(begin..begin + block.len()).unwrap_or_default().to_vec();
        let upto = random.below(changes.len() as u64 + 1) as usize;
        for change in changes.iter().take(upto) {
            change.apply_within(begin, &mut other);
        }
        if !other.is_empty() && random.below(2) == 0 {
            block.copy_from_slice(&other);
        }
        if block.is_empty() {
            break;
        }
        begin += BLOCK;
    }
    content
}

fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

impl Left {
    /// Makes a directory hold what is left of another one, `disk`, of which it is a copy.
    pub(super) fn apply(&self, disk: &Path, copy: &Path) -> io::Result<()> {
        let there =
            |path: &Path| path.strip_prefix(disk).map(|path| copy.join(path)).map_err(io::Error::other);
        for path in &self.lost {
            let path = there(path)?;
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else if path.exists() {
                fs::remove_file(path)?;
            }
        }
        for (path, content) in &self.kept {
            match content {
                Some(content) => fs::write(there(path)?, content)?,
                None => fs::create_dir_all(there(path)?)?,
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Length(length) => content.resize(usize_of(*length), 0),
            Change::Write(at, bytes) => {
                let begin = usize_of(*at);
                let end = begin.saturating_add(bytes.len());
                // What was to be before it, and is not, is a hole.
                content.resize(content.len().max(end), 0);
                if let Some(part) = content.get_mut(begin..end) {
                    part.copy_from_slice(bytes);
                }
            }
        }
    }
}

impl Change {
    /// Makes the change in a block that begins there.
    fn apply_within(&self, begin: usize, block: &mut [u8]) {
        match self {
            Change::Length(length) => {
                let gone = usize_of(*length).saturating_sub(begin);
                block.get_mut(gone..).unwrap_or_default().fill(0);
            }
            Change::Write(at, bytes) => {
                let at = usize_of(*at);
                for (n, byte) in block.iter_mut().enumerate() {
                    let written = (begin + n).checked_sub(at).and_then(|n| bytes.get(n));
                    *byte = written.copied().unwrap_or(*byte);
                }
            }
        }
    }
}

impl EntryChange {
    fn apply(&self, entries: &mut BTreeMap<OsString, Id>) {
        match self {
            EntryChange::Link(name, id) => drop(entries.insert(name.clone(), *id)),
            EntryChange::Unlink(name) => drop(entries.remove(name)),
            EntryChange::Rename(old, new, id) => {
                entries.remove(old);
                entries.insert(new.clone(), *id);
            }
        }
    }
}

impl Directory {
    /// Whether an entry of that name is in the journal, there or not.
    fn names(&self, name: &OsStr) -> bool {
        self.all_names().contains(name)
    }

    /// All names that entries have or had.
    fn all_names(&self) -> BTreeSet<OsString> {
        let mut names: BTreeSet<OsString> = self.synced.keys().cloned().collect();
        for change in &self.changes {
            match change {
                EntryChange::Link(name, _) | EntryChange::Unlink(name) => drop(names.insert(name.clone())),
                EntryChange::Rename(old, new, _) => names.extend([old.clone(), new.clone()]),
            }
        }
        names
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What crashes leave of a directory in which `write` is done, for many seeds: the content of each file by name.
    fn outcomes(write: impl Fn(&mut Journal, &Path)) -> BTreeSet<Vec<(String, String)>> {
        let outcome = |seed| {
            let directory = tempfile::tempdir().unwrap();
            let (disk, copy) = (directory.path().join("disk"), directory.path().join("copy"));
            fs::create_dir(&disk).unwrap();
            fs::create_dir(&copy).unwrap();
            let mut journal = Journal::default();
            write(&mut journal, &disk);
            journal.crash(Loss::Some, &mut Random::new(seed)).apply(&disk, &copy).unwrap();
            let files = fs::read_dir(copy).unwrap().map(|entry| entry.unwrap());
            let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
            let mut files: Vec<_> =
                files.map(|file| (name(&file), fs::read_to_string(file.path()).unwrap())).collect();
            files.sort();
            files
        };
        (0..100).map(outcome).collect()
    }

    fn create(journal: &mut Journal, path: &Path) -> File {
        let file = File::create(path).unwrap();
        journal.created(path).unwrap();
        file
    }

    fn append(journal: &mut Journal, mut file: &File, path: &Path, text: &str) {
        file.write_all(text.as_bytes()).unwrap();
        journal.wrote(file, path, text.as_bytes(), None).unwrap();
    }

    fn file(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn unsynced_file_may_be_torn_empty_or_absent() {
        let left = outcomes(|journal, directory| {
            let path = directory.join("x");
            let opened = create(journal, &path);
            append(journal, &opened, &path, "ab");
        });
        for expected in [vec![], vec![file("x", "")], vec![file("x", "a")], vec![file("x", "ab")]] {
            assert!(left.contains(&expected), "{expected:?} is not in {left:?}");
        }
    }

    #[test]
    fn synced_content_and_names_survive_every_crash() {
        let left = outcomes(|journal, directory| {
            let path = directory.join("x");
            let opened = create(journal, &path);
            append(journal, &opened, &path, "ab");
            journal.synced(&opened, &path).unwrap();
            journal.synced_dir(directory);
            append(journal, &opened, &path, "c");
        });
        let expected = ["ab", "abc", "ab\0"].map(|text| vec![file("x", text)]);
        assert_eq!(left, BTreeSet::from(expected));
    }

    #[test]
    fn rename_happens_as_a_whole_or_not_at_all() {
        let left = outcomes(|journal, directory| {
            for (name, text) in [("old", "1"), ("new", "2")] {
                let path = directory.join(name);
                let opened = create(journal, &path);
                append(journal, &opened, &path, text);
                journal.synced(&opened, &path).unwrap();
            }
            journal.synced_dir(directory);
            fs::rename(directory.join("new"), directory.join("old")).unwrap();
            journal.renamed(&directory.join("new"), &directory.join("old")).unwrap();
        });
        let before = vec![file("new", "2"), file("old", "1")];
        assert_eq!(left, BTreeSet::from([before, vec![file("old", "2")]]));
    }

    #[test]
    fn table_written_in_place_may_be_lost() {
        let left = outcomes(|journal, directory| {
            let path = directory.join("x");
            let opened = create(journal, &path);
            append(journal, &opened, &path, "old");
            journal.synced(&opened, &path).unwrap();
            journal.synced_dir(directory);
            opened.set_len(0).unwrap();
            journal.resized(&opened, &path, 0).unwrap();
        });
        assert!(left.contains(&vec![file("x", "old")]) && left.contains(&vec![file("x", "")]), "{left:?}");
    }
}
