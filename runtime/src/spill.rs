//! Temporary files for state that exceeds the memory it may take.
//!
//! Each worker appends to files of its own and has them unlinked as soon as they are open, so they are gone when the
//! process is, however it ends. A file whose blocks are all held no more is given back. There is nothing to sync: what
//! is in the files is never read by another process.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_operators::spill::{SpillError, SpillHandle, SpillSpace, StateMemory};
use tidemill_operators::{files, turn};

use crate::error::RunError;
use crate::options::Options;
use crate::peers::Peers;

/// A file that has grown to so much is appended to no more.
const FILE: u64 = 64 << 20;
/// So much is gathered before it is written: blocks can be as small as a few rows.
const GATHERED: usize = 256 << 10;
/// How the names of the files begin.
const NAME: &str = ".tidemill-spill-";

/// Returns what the state of each worker of this process may take; none where there is no limit.
pub(crate) fn memories(options: &Options, peers: &Peers) -> Result<Vec<Arc<StateMemory>>, RunError> {
    let Some(bytes) = options.state_memory else { return Ok(Vec::new()) };
    let directory = match (&options.spill_dir, &options.checkpoint) {
        (Some(directory), _) => directory.clone(),
        (None, Some(checkpoint)) => checkpoint.join("spill"),
        (None, None) => std::env::temp_dir(),
    };
    prepare(&directory).map_err(|error| RunError::Options {
        option: "--spill-dir",
        problem: format!("cannot create files in {}: {error}; choose another directory", directory.display()),
    })?;
    let share = usize::try_from(bytes / peers.local().len().max(1) as u64).unwrap_or(usize::MAX);
    Ok(peers.local().map(|_| StateMemory::new(share, Box::new(Spill::into(&directory)))).collect())
}

/// Makes the directory and removes what a process has left there that was killed between opening a file and unlinking
/// it. (Where that happens to another that is alive it has been helped.)
fn prepare(directory: &Path) -> io::Result<()> {
    files::make_dirs(directory)?;
    for entry in files::list(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(NAME) {
            // It may have gone already; or not be ours to remove.
            let _ = files::remove(&entry.path());
        }
    }
    // Whether files can be made here is known now, and not when hours later the first is needed.
    let (_, path) = create(directory)?;
    let _ = files::remove(&path);
    Ok(())
}

fn create(directory: &Path) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("{NAME}{}-{number}", std::process::id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok((files::create(&path, &options)?, path))
}

/// The files of one worker.
struct Spill {
    directory: PathBuf,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    open: BTreeMap<u32, Spilled>,
    /// The file that is appended to.
    current: u32,
    /// What is still to be written to it.
    gathered: Vec<u8>,
}

struct Spilled {
    file: File,
    path: PathBuf,
    written: u64,
    /// How many times blocks in it are held.
    held: u64,
}

impl Spill {
    fn into(directory: &Path) -> Spill {
        Spill { directory: directory.to_owned(), files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        turn::lock(&self.files)
    }

    fn disk(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> SpillError {
        let path = path.to_owned();
        move |error| SpillError::Disk { path, doing, error }
    }
}

impl Files {
    /// The file that is appended to, another one if it is full.
    fn current(&mut self, directory: &Path) -> Result<u32, SpillError> {
        if self.open.get(&self.current).is_some_and(|file| file.written >= FILE) {
            self.write_out()?;
            if self.open.get(&self.current).is_some_and(|file| file.held == 0) {
                self.open.remove(&self.current);
            }
            self.current = self.current.wrapping_add(1);
        }
        if !self.open.contains_key(&self.current) {
            let (file, path) =
                create(directory).map_err(Spill::disk(directory, "written to a new file in"))?;
            if cfg!(unix) {
                // Another query that has begun in this directory may have been quicker.
                let _ = files::remove(&path);
            }
            self.open.insert(self.current, Spilled { file, path, written: 0, held: 0 });
        }
        Ok(self.current)
    }

    /// Writes what was gathered.
    fn write_out(&mut self) -> Result<(), SpillError> {
        let Some(spilled) = self.open.get_mut(&self.current) else { return Ok(()) };
        files::write_at(&spilled.file, &spilled.path, &self.gathered, spilled.written)
            .map_err(Spill::disk(&spilled.path, "written to"))?;
        spilled.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}

impl SpillSpace for Spill {
    fn write(&self, bytes: &[u8]) -> Result<SpillHandle, SpillError> {
        let mut files = self.files();
        let number = files.current(&self.directory)?;
        let Files { open, gathered, .. } = &mut *files;
        let file = open.get_mut(&number).ok_or(SpillError::Lost)?;
        let length = u32::try_from(bytes.len()).map_err(|_| {
            Spill::disk(&file.path, "written to")(io::Error::other("a single row takes more than 4 GiB"))
        })?;
        file.held += 1;
        let at = file.written + gathered.len() as u64;
        gathered.extend_from_slice(bytes);
        if gathered.len() >= GATHERED {
            files.write_out()?;
        }
        Ok(SpillHandle { file: number, length, at })
    }

    fn read(&self, handle: SpillHandle, bytes: &mut Vec<u8>) -> Result<(), SpillError> {
        let mut files = self.files();
        let Files { open, gathered, .. } = &mut *files;
        let spilled = open.get_mut(&handle.file).ok_or(SpillError::Lost)?;
        let length = handle.length as usize;
        bytes.clear();
        match handle.at.checked_sub(spilled.written) {
            // A block is in the file or not, never half.
            Some(begin) => {
                let begin = usize::try_from(begin).map_err(|_| SpillError::Lost)?;
                let rest = gathered.get(begin..).and_then(|rest| rest.get(..length));
                bytes.extend_from_slice(rest.ok_or(SpillError::Lost)?);
                Ok(())
            }
            None => {
                bytes.resize(length, 0);
                files::reading(&spilled.path).map_err(Spill::disk(&spilled.path, "read from"))?;
                read_at(&mut spilled.file, bytes, handle.at).map_err(Spill::disk(&spilled.path, "read from"))
            }
        }
    }

    fn retain(&self, handle: SpillHandle) {
        if let Some(spilled) = self.files().open.get_mut(&handle.file) {
            spilled.held += 1;
        }
    }

    fn free(&self, handle: SpillHandle) {
        let mut files = self.files();
        let Files { open, current, gathered } = &mut *files;
        let Some(spilled) = open.get_mut(&handle.file) else { return };
        spilled.held = spilled.held.saturating_sub(1);
        if spilled.held > 0 {
            return;
        }
        if handle.file != *current {
            open.remove(&handle.file);
        } else if crate::sim::tolerate(|| files::set_length(&spilled.file, &spilled.path, 0)).is_ok() {
            // From the beginning again; where that fails, behind the blocks.
            spilled.written = 0;
            gathered.clear();
        }
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        if !cfg!(unix) {
            let _ = files::remove(&self.path);
        }
    }
}

#[cfg(unix)]
fn read_at(file: &mut File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(not(unix))]
fn read_at(file: &mut File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    io::Seek::seek(file, io::SeekFrom::Start(at))?;
    io::Read::read_exact(file, bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn block(n: u32) -> Vec<u8> {
        (0..n % 5_000).map(|i| (i ^ n) as u8).collect()
    }

    #[test]
    fn blocks_come_back_from_the_file_and_from_what_was_gathered() {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path()).unwrap();
        let spill = Spill::into(directory.path());
        let handles: Vec<_> = (0..2_000).map(|n| spill.write(&block(n)).unwrap()).collect();
        let mut bytes = Vec::new();
        for (n, handle) in (0..).zip(&handles) {
            spill.read(*handle, &mut bytes).unwrap();
            assert_eq!(bytes, block(n), "{n}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_files_have_no_name_and_are_given_back() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(format!("{NAME}1-2")), "left").unwrap();
        prepare(directory.path()).unwrap();
        let spill = Spill::into(directory.path());
        let large = vec![1; 1 << 20];
        let handles: Vec<_> = (0..130).map(|_| spill.write(&large).unwrap()).collect();
        assert_eq!(spill.files().open.len(), 3);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        spill.retain(handles[0]);
        handles.iter().for_each(|handle| spill.free(*handle));
        assert_eq!(spill.files().open.len(), 2, "one block is still held, and one file is appended to");
        spill.free(handles[0]);
        assert_eq!(spill.files().open.len(), 1);
        let again = spill.write(&large).unwrap();
        assert_eq!(again.at, 0);
    }

    #[test]
    fn a_place_without_files_is_told_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let options = Options::default().with_state_memory(1 << 20).with_spill_dir(&file);
        let error = memories(&options, &Peers::in_one_process(1)).unwrap_err().to_string();
        assert!(error.starts_with("--spill-dir: cannot create files in "), "{error}");
    }
}
