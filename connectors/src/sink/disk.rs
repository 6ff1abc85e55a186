//! What sinks do to a disk: each error names the file, each step can be a kill test's last one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tidemill_operators::SinkError;

use crate::steps;

fn step<R>(
    (before, after): (&'static str, &'static str),
    (what, path): (&str, &Path),
    call: impl FnOnce() -> io::Result<R>,
) -> Result<R, SinkError> {
    steps::reached(before);
    let done = call().map_err(|error| failed(what, path, error))?;
    steps::reached(after);
    Ok(done)
}

/// The error of something that was tried with a file.
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> SinkError {
    SinkError::io(format!("cannot {what} {}", path.display()), error)
}

/// A new file; it is an error if there is one.
pub(super) fn create(path: &Path) -> Result<File, SinkError> {
    step(("sink.create.before", "sink.create.after"), ("create", path), || {
        File::options().write(true).create_new(true).open(path)
    })
}

/// A new file, in the place of one that a crash may have left half written.
pub(super) fn create_over(path: &Path) -> Result<File, SinkError> {
    step(("sink.create.before", "sink.create.after"), ("create", path), || File::create(path))
}

pub(super) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), SinkError> {
    step(("sink.write.before", "sink.write.after"), ("write to", path), || {
        file.write_all(bytes).and_then(|()| file.flush())
    })
}

/// Makes what the file holds, and its length, outlive a crash of the machine.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), SinkError> {
    step(("sink.sync.before", "sink.sync.after"), ("sync", path), || file.sync_data())
}

/// Makes the names in a directory outlive a crash of the machine.
pub(super) fn sync_dir(dir: &Path) -> Result<(), SinkError> {
    // The name of a relative directory's parent may be empty.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    step(("sink.sync_dir.before", "sink.sync_dir.after"), ("sync the directory", dir), || {
        // Elsewhere a directory cannot be opened, and its names are the file system's business.
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    })
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), SinkError> {
    step(("sink.rename.before", "sink.rename.after"), ("rename", from), || fs::rename(from, to))
}

pub(super) fn truncate(file: &File, path: &Path, length: u64) -> Result<(), SinkError> {
    step(("sink.truncate.before", "sink.truncate.after"), ("truncate", path), || file.set_len(length))
}

pub(super) fn delete(path: &Path) -> Result<(), SinkError> {
    step(("sink.delete.before", "sink.delete.after"), ("delete", path), || fs::remove_file(path))
}

/// Makes a directory and those above it; `durable` says whether they must outlive a crash of the machine.
pub(super) fn make_dirs(dir: &Path, durable: bool) -> Result<(), SinkError> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    fs::create_dir_all(dir).map_err(|error| failed("make the directory", dir, error))?;
    if durable {
        missing.iter().rev().filter_map(|dir| dir.parent()).try_for_each(sync_dir)?;
    }
    Ok(())
}
