//! Calls of the file system that a simulation answers.
//!
//! Sinks, sources, spilled state and checkpoints in a directory make these calls. On an ordinary thread each is the call of
//! [`std::fs`] after one look at a thread-local pointer. On the threads of a simulation a [`Hook`] gets it: it can delay it,
//! let it fail or do a part of it, and it keeps book of what has been synced. No operator makes such a call.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "for the crates that have files; this one is below all of them"
)]

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A call that is to be made.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Opens or reads a file, or lists a directory.
    Read(&'a Path),
    /// Opens a file, and creates it if it is not there.
    Create(&'a Path),
    /// Makes a directory.
    MakeDir(&'a Path),
    /// Writes bytes where the cursor of the file is, or at its end.
    Write {
        /// The file.
        file: &'a File,
        /// Where it was opened.
        path: &'a Path,
        /// What is written.
        bytes: &'a [u8],
        /// Where, without the cursor.
        at: Option<u64>,
    },
    /// Cuts or extends a file.
    SetLength {
        /// The file.
        file: &'a File,
        /// Where it was opened.
        path: &'a Path,
        /// Its new length.
        length: u64,
    },
    /// Makes what a file holds, and its length, outlive a crash of the machine.
    Sync {
        /// The file.
        file: &'a File,
        /// Where it was opened.
        path: &'a Path,
    },
    /// Makes the names in a directory outlive a crash of the machine.
    SyncDir(&'a Path),
    /// Gives a file another name, in the place of a file that has it.
    Rename {
        /// The old name.
        from: &'a Path,
        /// The new name.
        to: &'a Path,
    },
    /// Removes a file.
    Remove(&'a Path),
}

/// Makes a call, or a smaller one in its place.
pub type Perform<'a> = &'a mut dyn FnMut(Call<'_>) -> io::Result<()>;

/// Answers the calls of a simulated thread.
pub type Hook = fn(Call<'_>, Perform<'_>) -> io::Result<()>;

thread_local! {
    static HOOK: Cell<Option<Hook>> = const { Cell::new(None) };
}

/// Sets the hook of this thread, or removes it.
pub fn set_hook(hook: Option<Hook>) {
    HOOK.set(hook);
}

/// Whether a simulation answers the calls of this thread.
pub fn is_simulated() -> bool {
    HOOK.get().is_some()
}

fn make(call: Call<'_>, perform: Perform<'_>) -> io::Result<()> {
    match HOOK.get() {
        Some(hook) => hook(call, perform),
        None => perform(call),
    }
}

/// Opens a file that is there.
///
/// # Errors
///
/// Those of the system, here and below.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    opened(Call::Read(path), || options.open(path))
}

/// Opens a file to read it.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    opened(Call::Read(path), || File::open(path))
}

/// Opens a file with options that create it; they must not truncate it.
pub fn create(path: &Path, options: &OpenOptions) -> io::Result<File> {
    opened(Call::Create(path), || options.open(path))
}

/// Creates an empty file, or empties the one that is there.
pub fn create_or_empty(path: &Path) -> io::Result<File> {
    let file = create(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    if file.metadata()?.len() > 0 {
        set_length(&file, path, 0)?;
    }
    Ok(file)
}

fn opened(call: Call<'_>, mut open: impl FnMut() -> io::Result<File>) -> io::Result<File> {
    let mut file = None;
    make(call, &mut |_| {
        file = Some(open()?);
        Ok(())
    })?;
    file.ok_or_else(|| io::Error::other("the file was not opened"))
}

/// Announces that a file is about to be read, or a directory to be listed: for readers that the standard library makes.
pub fn reading(path: &Path) -> io::Result<()> {
    if HOOK.get().is_some() { make(Call::Read(path), &mut |_| Ok(())) } else { Ok(()) }
}

/// Reads a whole file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    reading(path)?;
    fs::read(path)
}

/// Lists a directory.
pub fn list(path: &Path) -> io::Result<fs::ReadDir> {
    reading(path)?;
    fs::read_dir(path)
}

/// Writes all of these bytes where the cursor is, or at the end of a file that is appended to.
pub fn write(file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = |call: Call<'_>| match call {
        // A reference to a file can be written to.
        Call::Write { mut file, bytes, .. } => file.write_all(bytes),
        _ => Ok(()),
    };
    make(Call::Write { file, path, bytes, at: None }, &mut { write })
}

/// Writes all of these bytes from byte `at` of the file on.
pub fn write_at(file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
    let write = |call: Call<'_>| match call {
        Call::Write { file, bytes, .. } => write_all_at(file, bytes, at),
        _ => Ok(()),
    };
    make(Call::Write { file, path, bytes, at: Some(at) }, &mut { write })
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_all_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// Cuts or extends a file.
pub fn set_length(file: &File, path: &Path, length: u64) -> io::Result<()> {
    make(Call::SetLength { file, path, length }, &mut |_| file.set_len(length))
}

/// Makes what the file holds, and its length, outlive a crash of the machine.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    make(Call::Sync { file, path }, &mut |_| file.sync_data())
}

/// Makes the names in a directory outlive a crash of the machine.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    // The name of a relative path's parent may be empty.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Elsewhere a directory cannot be opened, and its names are the file system's business.
    let sync = || if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) };
    make(Call::SyncDir(path), &mut |_| sync())
}

/// Makes the name of a directory that is there outlive a crash of the machine: a process that made it may have died before
/// that. A directory above it that may not be opened has not been changed by such a process.
pub fn sync_name(dir: &Path) -> io::Result<()> {
    match sync_dir(dir.parent().unwrap_or(dir)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Gives a file another name, in the place of a file that has it.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    make(Call::Rename { from, to }, &mut |_| fs::rename(from, to))
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<()> {
    make(Call::Remove(path), &mut |_| fs::remove_file(path))
}

/// Makes a directory in one that is there.
pub fn make_dir(path: &Path) -> io::Result<()> {
    make(Call::MakeDir(path), &mut |_| fs::create_dir(path))
}

/// Makes a directory and those above it.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_dirs)?;
    match make_dir(path) {
        // Another one may have made it at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hook_can_refuse_a_call_and_shorten_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let file = create_or_empty(&path).unwrap();
        write(&file, &path, b"whole ").unwrap();
        set_hook(Some(|call, perform| match call {
            Call::Write { file, path, at, .. } => perform(Call::Write { file, path, bytes: b"part", at }),
            Call::Rename { .. } => Err(io::ErrorKind::StorageFull.into()),
            call => perform(call),
        }));
        write(&file, &path, b"never seen").unwrap();
        let renamed = rename(&path, &directory.path().join("y"));
        set_hook(None);
        assert_eq!(renamed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(read(&path).unwrap(), b"whole part");
        create_or_empty(&path).unwrap();
        assert!(read(&path).unwrap().is_empty());
    }
}
