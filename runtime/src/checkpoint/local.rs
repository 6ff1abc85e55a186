//! A checkpoint in a directory of the local file system.
//!
//! What is put is written beside its place, synced, and renamed into it; then the directory is synced. What is appended
//! is written and synced. The directory is taken by a lock of the operating system on the file `lock`, which ends with
//! the process; the file stays, and says who has, or had, the directory.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_operators::files;

use super::{CheckpointError, Lock, Log, Owner, Storage};
use crate::kill;

/// A directory for a checkpoint.
///
/// ```
/// use tidemill::checkpoint::{LocalDirectory, Storage};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("orders");
/// let storage = LocalDirectory::open(&path)?;
/// storage.put("state/1", b"the tide")?;
/// assert_eq!(storage.get("state/1")?.as_deref(), Some(&b"the tide"[..]));
/// assert_eq!(storage.list("state/")?, ["state/1"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LocalDirectory {
    path: PathBuf,
    /// Numbers the files on their way to their place.
    written: AtomicU64,
}

/// The ending of a file on its way to its place. Those of dead runs are removed when the directory is taken.
const TEMPORARY: &str = ".tmp";
const LOCK: &str = "lock";

impl LocalDirectory {
    /// The directory at this path, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if it cannot be made or is no directory.
    pub fn open(path: impl Into<PathBuf>) -> Result<LocalDirectory, CheckpointError> {
        let path = path.into();
        make_directory(&path)?;
        sync_directory(&path)?;
        Ok(LocalDirectory { path, written: AtomicU64::new(0) })
    }

    /// The directory at this path, which must be there: for those who only look.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`] if there is no such directory.
    pub fn existing(path: impl Into<PathBuf>) -> Result<LocalDirectory, CheckpointError> {
        let path = path.into();
        if path.is_dir() {
            return Ok(LocalDirectory { path, written: AtomicU64::new(0) });
        }
        Err(CheckpointError::Missing {
            file: path.display().to_string(),
            needed: "there is no such directory".to_owned(),
        })
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, CheckpointError> {
        let relative = Path::new(name);
        let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain || !(1..=2).contains(&relative.components().count()) {
            return Err(CheckpointError::Misuse(format!("`{name}` is no name for a file of a checkpoint")));
        }
        Ok(self.path.join(relative))
    }

    /// Makes the directory of a file, but not the checkpoint's own: that it is gone must be noticed.
    fn make_place(&self, directory: &Path) -> Result<(), CheckpointError> {
        if directory.is_dir() {
            return Ok(());
        }
        if !self.path.is_dir() {
            return Err(CheckpointError::Gone { file: self.path.display().to_string() });
        }
        make_directory(directory)
    }

    /// The files of the directory and of those in it, by name.
    fn files(&self) -> Result<Vec<String>, CheckpointError> {
        let mut names = Vec::new();
        let mut directories = vec![String::new()];
        while let Some(prefix) = directories.pop() {
            let directory = self.path.join(&prefix);
            let failed = || CheckpointError::io(format!("cannot list {}", directory.display()));
            for entry in files::list(&directory).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let kind = entry.file_type().map_err(failed())?;
                if kind.is_file() {
                    names.push(format!("{prefix}{name}"));
                } else if kind.is_dir() && prefix.is_empty() {
                    directories.push(format!("{name}/"));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what dead runs left on its way to its place. Only for who has the lock.
    fn clean_up(&self) -> Result<(), CheckpointError> {
        for name in self.files()?.iter().filter(|name| name.ends_with(TEMPORARY)) {
            self.delete(name)?;
        }
        Ok(())
    }
}

/// Makes a directory and those above it, and makes them durable.
fn make_directory(path: &Path) -> Result<(), CheckpointError> {
    let failed = || CheckpointError::io(format!("cannot make the directory {}", path.display()));
    if path.is_dir() {
        // A run that made it may have died before its name was durable.
        return files::sync_name(path)
            .map_err(CheckpointError::io(format!("cannot sync {}", above(path).display())));
    }
    make_directory(above(path))?;
    kill::point("checkpoint.directory.before-make");
    match files::make_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed()(error)),
        _ => {}
    }
    kill::point("checkpoint.directory.before-sync");
    sync_directory(above(path))
}

fn above(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes what has been created, renamed and removed in a directory durable.
fn sync_directory(path: &Path) -> Result<(), CheckpointError> {
    files::sync_dir(path)
        .map_err(CheckpointError::io(format!("cannot sync the directory {}", path.display())))
}

/// Writes everything; where a process may be killed, in two halves.
fn write_all(file: &File, path: &Path, bytes: &[u8], between: &'static str) -> std::io::Result<()> {
    if kill::ENABLED {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        files::write(file, path, first)?;
        kill::point(between);
        return files::write(file, path, second);
    }
    files::write(file, path, bytes)
}

impl Storage for LocalDirectory {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let place = self.path_of(name)?;
        let directory = place.parent().unwrap_or(&self.path);
        self.make_place(directory)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let file_name = place.file_name().unwrap_or_default().to_string_lossy();
        let beside = directory.join(format!("{file_name}.{}.{number}{TEMPORARY}", std::process::id()));
        let written = (|| {
            let failed = |what: &str| CheckpointError::io(format!("cannot {what} {}", beside.display()));
            kill::point("checkpoint.put.before-create");
            let file = files::create_or_empty(&beside).map_err(failed("create"))?;
            kill::point("checkpoint.put.before-write");
            write_all(&file, &beside, bytes, "checkpoint.put.half-written").map_err(failed("write"))?;
            kill::point("checkpoint.put.before-sync");
            files::sync(&file, &beside).map_err(failed("sync"))?;
            kill::point("checkpoint.put.before-rename");
            files::rename(&beside, &place)
                .map_err(CheckpointError::io(format!("cannot rename {} to {name}", beside.display())))
        })();
        if written.is_err() {
            // It would be removed at the next start; on a full disk, better now.
            let _ = files::remove(&beside);
            return written;
        }
        kill::point("checkpoint.put.before-sync-directory");
        sync_directory(directory)?;
        kill::point("checkpoint.put.done");
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        let path = self.path_of(name)?;
        match files::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CheckpointError::io(format!("cannot read {}", path.display()))(error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        let mut names = self.files()?;
        names.retain(|name| name.starts_with(prefix) && !name.ends_with(TEMPORARY) && name != LOCK);
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        let path = self.path_of(name)?;
        kill::point("checkpoint.delete.before");
        match files::remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CheckpointError::io(format!("cannot remove {}", path.display()))(error))
            }
            // Not synced: a file that comes back after a crash is removed again.
            _ => {
                kill::point("checkpoint.delete.done");
                Ok(())
            }
        }
    }

    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        let path = self.path_of(name)?;
        let failed = |what: &str| CheckpointError::io(format!("cannot {what} {}", path.display()));
        let directory = path.parent().unwrap_or(&self.path);
        self.make_place(directory)?;
        kill::point("checkpoint.log.before-open");
        let file = files::create(&path, OpenOptions::new().read(true).append(true).create(true));
        let file = file.map_err(failed("open"))?;
        // Also one that is there: a run that died may have appended to it, or made it, and not have synced that.
        kill::point("checkpoint.log.before-sync-new");
        files::sync(&file, &path).map_err(failed("sync"))?;
        sync_directory(directory)?;
        Ok(Box::new(LocalLog { path, file }))
    }

    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        let path = self.path.join(LOCK);
        let failed = |what: &str| CheckpointError::io(format!("cannot {what} {}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = files::create(&path, &options).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                file.read_to_end(&mut text).map_err(failed("read"))?;
                // The other one may be writing just now.
                let owner = serde_json::from_slice(&text).unwrap_or_else(|_| Owner {
                    query: "unknown".to_owned(),
                    execution: None,
                    pid: 0,
                    host: "an unknown host".to_owned(),
                    since: "just now".to_owned(),
                });
                return Err(CheckpointError::Locked { storage: self.describe(), owner });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let mut lock = LocalLock { path, file };
        lock.set_owner(owner)?;
        self.clean_up()?;
        Ok(Box::new(lock))
    }
}

struct LocalLog {
    path: PathBuf,
    file: File,
}

impl LocalLog {
    /// Whether the file that is written is still the one that a later run will find.
    fn is_in_place(&self) -> Result<bool, CheckpointError> {
        let there = match std::fs::metadata(&self.path) {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.failed("look at")(error)),
        };
        Ok(is_same(&there, &self.file.metadata().map_err(self.failed("look at"))?))
    }

    fn failed(&self, what: &str) -> impl FnOnce(std::io::Error) -> CheckpointError + use<> {
        CheckpointError::io(format!("cannot {what} {}", self.path.display()))
    }
}

#[cfg(unix)]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere only a file that is not there is noticed.
#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

impl Log for LocalLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        kill::point("checkpoint.log.before-append");
        write_all(&self.file, &self.path, bytes, "checkpoint.log.half-appended")
            .map_err(self.failed("append to"))?;
        kill::point("checkpoint.log.before-sync");
        files::sync(&self.file, &self.path).map_err(self.failed("sync"))?;
        kill::point("checkpoint.log.appended");
        if self.is_in_place()? {
            return Ok(());
        }
        Err(CheckpointError::Gone { file: self.path.display().to_string() })
    }

    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = Vec::new();
        files::reading(&self.path).map_err(self.failed("read"))?;
        self.file.seek(SeekFrom::Start(0)).map_err(self.failed("read"))?;
        self.file.read_to_end(&mut bytes).map_err(self.failed("read"))?;
        Ok(bytes)
    }

    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        kill::point("checkpoint.log.before-truncate");
        files::set_length(&self.file, &self.path, length).map_err(self.failed("truncate"))?;
        kill::point("checkpoint.log.before-sync-truncated");
        files::sync(&self.file, &self.path).map_err(self.failed("sync"))?;
        kill::point("checkpoint.log.truncated");
        Ok(())
    }
}

struct LocalLock {
    path: PathBuf,
    file: File,
}

impl Lock for LocalLock {
    fn set_owner(&mut self, owner: &Owner) -> Result<(), CheckpointError> {
        let text = serde_json::to_vec_pretty(owner).unwrap_or_default();
        let mut write = || {
            files::set_length(&self.file, &self.path, 0)?;
            self.file.seek(SeekFrom::Start(0))?;
            files::write(&self.file, &self.path, &text)
        };
        write().map_err(CheckpointError::io(format!("cannot write {}", self.path.display())))
    }
}

impl Drop for LocalLock {
    /// Closing the file is not enough: a process that this one starts at the same moment holds the file as well, for as long
    /// as it takes to become another program, and with it the lock. An error leaves the lock to the end of the file.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that is started has all descriptors of this one until it becomes another program; a lock that only goes
    /// with its last descriptor would outlive the query by that long.
    #[test]
    fn lock_ends_with_its_query_though_the_file_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK);
        let file = File::create(&path).unwrap();
        file.lock().unwrap();
        let inherited = file.try_clone().unwrap();
        drop(LocalLock { path: path.clone(), file });
        File::open(&path).unwrap().try_lock().unwrap();
        drop(inherited);
    }

    #[test]
    fn log_of_dead_run_is_synced_before_it_counts() {
        thread_local! {
            static SYNCED: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
        }
        let directory = tempfile::tempdir().unwrap();
        let storage = LocalDirectory::open(directory.path()).unwrap();
        std::fs::create_dir(directory.path().join("journal")).unwrap();
        std::fs::write(directory.path().join("journal/x.log"), "not synced").unwrap();
        files::set_hook(Some(|call, perform| {
            if matches!(call, files::Call::Sync { .. } | files::Call::SyncDir(_)) {
                SYNCED.set(SYNCED.get() + 1);
            }
            perform(call)
        }));
        let log = storage.log("journal/x.log");
        files::set_hook(None);
        assert_eq!(log.unwrap().read().unwrap(), b"not synced");
        assert_eq!(SYNCED.get(), 2, "the file and the directory");
    }

    #[test]
    fn checkpoint_whose_name_cannot_be_synced_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        LocalDirectory::open(&path).unwrap();
        files::set_hook(Some(|call, perform| match call {
            files::Call::SyncDir(path) if !path.ends_with("checkpoint") => {
                Err(std::io::Error::other("a bad sector"))
            }
            call => perform(call),
        }));
        let opened = LocalDirectory::open(&path);
        files::set_hook(None);
        assert!(opened.unwrap_err().to_string().contains("a bad sector"));
    }
}
