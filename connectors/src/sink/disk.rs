//! What sinks do to a disk: each error names the file, each step can be a kill test's last one.

use std::fs::File;
use std::io;
use std::path::Path;

use tidemill_operators::{SinkError, files};

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

/// The error of a file that has fewer bytes than were committed of it.
pub(super) fn lost(path: &Path, committed: u64, there: u64) -> SinkError {
    SinkError::Recovery {
        what: path.display().to_string(),
        reason: format!(
            "{committed} bytes of it were committed, but it has {there}: restore the file; or, to write all results again, \
             start with a new checkpoint and without the old output"
        ),
    }
}

/// Checks that a file still exists to which a sink has written that now writes to `path`.
pub(super) fn check_former(former: &Path, path: &Path) -> Result<(), SinkError> {
    if former.exists() {
        return Ok(());
    }
    Err(SinkError::Recovery {
        what: former.display().to_string(),
        reason: format!(
            "the query has written its rows there, and the sink now writes to {}: put the old file back, even if the sink \
             is to continue in the new one, since rows may still have to be added to it",
            path.display()
        ),
    })
}

/// A new file; it is an error if there is one.
pub(super) fn create(path: &Path) -> Result<File, SinkError> {
    step(("sink.create.before", "sink.create.after"), ("create", path), || {
        files::create(path, File::options().write(true).create_new(true))
    })
}

/// A new file, in the place of one that a crash may have left half written.
pub(super) fn create_over(path: &Path) -> Result<File, SinkError> {
    step(("sink.create.before", "sink.create.after"), ("create", path), || files::create_or_empty(path))
}

pub(super) fn write(file: &File, path: &Path, bytes: &[u8]) -> Result<(), SinkError> {
    step(("sink.write.before", "sink.write.after"), ("write to", path), || files::write(file, path, bytes))
}

/// Makes what the file holds, and its length, outlive a crash of the machine.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), SinkError> {
    step(("sink.sync.before", "sink.sync.after"), ("sync", path), || files::sync(file, path))
}

/// Makes the names in a directory outlive a crash of the machine.
pub(super) fn sync_dir(dir: &Path) -> Result<(), SinkError> {
    let steps = ("sink.sync_dir.before", "sink.sync_dir.after");
    step(steps, ("sync the directory", dir), || files::sync_dir(dir))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), SinkError> {
    step(("sink.rename.before", "sink.rename.after"), ("rename", from), || files::rename(from, to))
}

pub(super) fn truncate(file: &File, path: &Path, length: u64) -> Result<(), SinkError> {
    let steps = ("sink.truncate.before", "sink.truncate.after");
    step(steps, ("truncate", path), || files::set_length(file, path, length))
}

pub(super) fn delete(path: &Path) -> Result<(), SinkError> {
    step(("sink.delete.before", "sink.delete.after"), ("delete", path), || files::remove(path))
}

/// Makes a directory and those above it; `durable` says whether they must outlive a crash of the machine.
pub(super) fn make_dirs(dir: &Path, durable: bool) -> Result<(), SinkError> {
    let all = || dir.ancestors().filter(|dir| !dir.as_os_str().is_empty());
    let missing: Vec<&Path> = all().take_while(|dir| !dir.exists()).collect();
    let there = all().nth(missing.len());
    files::make_dirs(dir).map_err(|error| failed("make the directory", dir, error))?;
    if durable {
        let synced = there.map_or(Ok(()), files::sync_name);
        synced.map_err(|error| failed("sync the directory above", there.unwrap_or(dir), error))?;
        missing.iter().rev().filter_map(|dir| dir.parent()).try_for_each(sync_dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use tidemill_operators::files::Call;

    use super::*;

    thread_local! {
        static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn directory_made_by_dead_run_has_its_name_synced() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let synced = |dir: &Path| {
            files::set_hook(Some(|call, perform| {
                if let Call::SyncDir(dir) = call {
                    SYNCED.with_borrow_mut(|synced| synced.push(dir.to_owned()));
                }
                perform(call)
            }));
            make_dirs(dir, true).unwrap();
            files::set_hook(None);
            SYNCED.take()
        };
        std::fs::create_dir(root.join("a")).unwrap();
        let (a, b) = (root.join("a"), root.join("a/b"));
        assert_eq!(synced(&root.join("a/b/c")), [root.to_owned(), a.clone(), b.clone()]);
        assert_eq!(synced(&b), [a]);
    }
}
