//! What makes a followed file the same file: its device and inode, and a fingerprint of what has been read of it.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_operators::{SourceError, files};
use xxhash_rust::xxh3::xxh3_64;

use super::scan::failed;

/// How much of each end a fingerprint covers.
const END: u64 = 1024;

/// Identifies a file whatever its name, as long as it exists: a system gives the inode of a deleted file to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    /// Returns the identity, where the system has one.
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Option<FileId> {
        use std::os::unix::fs::MetadataExt;
        Some(FileId { device: metadata.dev(), inode: metadata.ino() })
    }

    #[cfg(not(unix))]
    pub(super) fn of(_metadata: &Metadata) -> Option<FileId> {
        None
    }
}

/// Returns whether a file that is open has no name any more.
#[cfg(unix)]
pub(super) fn is_deleted(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) == 0
}

#[cfg(not(unix))]
pub(super) fn is_deleted(_metadata: &Metadata) -> bool {
    false
}

/// Fills `bytes` from byte `at` of the file on; no cursor is moved, so that several readers may share the file.
#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
pub(super) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
        at += read as u64;
    }
    Ok(())
}

/// A fingerprint of the bytes of a file before byte `upto`: of the first KiB, and of the last one before `upto`.
///
/// A file that grows keeps it; one that is truncated, or that is another one, does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    pub(super) upto: u64,
    hash: u64,
}

impl Fingerprint {
    /// Reads the fingerprint; nothing if the file is shorter than `upto`.
    pub(super) fn read(file: &File, upto: u64) -> io::Result<Option<Fingerprint>> {
        Fingerprint::behind(file, upto, &[])
    }

    /// Computes the fingerprint at the end of `bytes`, which have been read from byte `from` of the file on, and reads what
    /// else it covers; nothing if the file is shorter than `from`.
    pub(super) fn behind(file: &File, from: u64, bytes: &[u8]) -> io::Result<Option<Fingerprint>> {
        let upto = from + bytes.len() as u64;
        let mut covered = Vec::new();
        for (begin, end) in [(0, upto.min(END)), (upto.saturating_sub(END), upto)] {
            let stored = crate::length(from.min(end).saturating_sub(begin));
            let before = covered.len();
            covered.resize(before + stored, 0);
            match read_exact_at(file, covered.get_mut(before..).unwrap_or_default(), begin) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            let at = |byte: u64| crate::length(byte.saturating_sub(from));
            covered.extend_from_slice(bytes.get(at(begin)..at(end)).unwrap_or_default());
        }
        Ok(Some(Fingerprint { upto, hash: xxh3_64(&covered) }))
    }

    /// Returns whether the file begins with the bytes that the fingerprint was made of.
    pub(super) fn matches(&self, file: &File) -> io::Result<bool> {
        Ok(Fingerprint::read(file, self.upto)? == Some(*self))
    }
}

/// Returns whether the file has what the fingerprint was made of, if there is one.
pub(super) fn matches(read: Option<Fingerprint>, file: &File, path: &Path) -> Result<bool, SourceError> {
    read.map_or(Ok(true), |read| read.matches(file)).map_err(|error| failed(path, error))
}

/// Finds the file of that identity in a directory, under whatever name.
pub(super) fn find(directory: &Path, id: FileId) -> io::Result<Option<(PathBuf, File)>> {
    for (path, _) in entries(directory) {
        if path.metadata().is_ok_and(|metadata| FileId::of(&metadata) == Some(id))
            && let Some(file) = open(&path, Some(id))?
        {
            return Ok(Some((path, file)));
        }
    }
    Ok(None)
}

/// A copy of what a file had before it was truncated or removed.
pub(super) struct Copied {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) id: Option<FileId>,
    pub(super) len: u64,
}

/// Finds a copy of a file: one whose name begins with the name of the file, as rotation names it, that is of none of the
/// identities `known`, and that has the fingerprint. Of several, the one that was written to last.
pub(super) fn find_copy(
    original: &Path,
    fingerprint: Fingerprint,
    known: &dyn Fn(FileId) -> bool,
) -> io::Result<Option<Copied>> {
    let name = original.file_name().unwrap_or_default().to_string_lossy();
    let mut copies = Vec::new();
    for (path, _) in entries(directory_of(original)).filter(|(_, entry)| entry.starts_with(&*name)) {
        let Ok(metadata) = path.metadata() else { continue };
        let (id, len) = (FileId::of(&metadata), metadata.len());
        if !metadata.is_file() || len < fingerprint.upto || id.is_none_or(known) || path == original {
            continue;
        }
        if let Some(file) = open(&path, id)?
            && fingerprint.matches(&file)?
        {
            copies.push((metadata.modified()?, Copied { path, file, id, len }));
        }
    }
    Ok(copies.into_iter().max_by_key(|(modified, _)| *modified).map(|(_, copy)| copy))
}

/// Opens a file, if there is one and it is the one of that identity.
pub(super) fn open(path: &Path, id: Option<FileId>) -> io::Result<Option<File>> {
    // A pipe would wait for its writer.
    let opened = path
        .metadata()
        .and_then(|metadata| metadata.is_file().then(|| files::open_to_read(path)).transpose());
    match opened {
        Ok(Some(file)) if id.is_none() || FileId::of(&file.metadata()?) == id => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the directory that a file is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn entries(directory: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_of_grown_file_matches_of_other_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let text: Vec<u8> = (0..5000u32).map(|n| (n * n % 251) as u8).collect();
        for upto in [0, 1, 1023, 1024, 1500, 3000] {
            std::fs::write(&path, &text).unwrap();
            let file = File::open(&path).unwrap();
            let fingerprint = Fingerprint::read(&file, upto).unwrap().unwrap();
            for from in [0, 1, 700, upto] {
                let from = from.min(upto);
                let bytes = &text[from as usize..upto as usize];
                let behind = Fingerprint::behind(&file, from, bytes).unwrap();
                assert_eq!(behind, Some(fingerprint), "{from} {upto}");
            }
            std::fs::write(&path, [text.as_slice(), b"more"].concat()).unwrap();
            assert!(fingerprint.matches(&file).unwrap());
            for byte in [0, upto.saturating_sub(1)].into_iter().filter(|_| upto > 0) {
                let mut other = text.clone();
                other[byte as usize] ^= 1;
                std::fs::write(&path, &other).unwrap();
                assert!(!fingerprint.matches(&file).unwrap(), "{byte} {upto}");
            }
            std::fs::write(&path, &text[..(upto as usize).saturating_sub(1)]).unwrap();
            assert_eq!(fingerprint.matches(&file).unwrap(), upto == 0);
        }
    }
}
