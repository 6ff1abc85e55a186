//! Whose a file or directory is: two sinks that write into one place lose rows, each the other's, without a word.
//!
//! Within this process a list says who has what. Other processes are kept out by a lock of the system on the file or the
//! directory itself, where there is such a thing: it ends with the process, however that ends, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tidemill_operators::{SinkContext, SinkError};

use crate::lock;

/// What is claimed, by whole path.
static CLAIMED: Mutex<BTreeMap<PathBuf, Claimed>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
struct Claimed {
    /// The instances that have it.
    instances: usize,
    group: u64,
    /// Who they are, for those who come second.
    who: String,
    lock: Option<File>,
}

/// The right to write into a place; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
}

impl Claim {
    /// Claims what is there for the instances of this sink, all of them.
    pub(super) fn together(path: &Path, context: &SinkContext) -> Result<Claim, SinkError> {
        Claim::new(path, context, true)
    }

    /// Claims what is there for this one instance. Those that no engine drives are not told apart.
    pub(super) fn alone(path: &Path, context: &SinkContext) -> Result<Claim, SinkError> {
        Claim::new(path, context, context.group == 0)
    }

    fn new(path: &Path, context: &SinkContext, shares: bool) -> Result<Claim, SinkError> {
        let path = whole(path);
        let refuse = |who: &str| {
            Err(SinkError::Setup(format!(
                "{} is being written to by {who}: one would write over the rows of the other, so each needs a place of \
                 its own",
                path.display()
            )))
        };
        let mut all = lock(&CLAIMED);
        match all.get_mut(&path) {
            Some(claimed) if shares && claimed.group == context.group => claimed.instances += 1,
            Some(claimed) if claimed.group == context.group => {
                return refuse("another instance of this sink");
            }
            Some(claimed) => return refuse(&claimed.who),
            None => {
                let Ok(lock) = lock_of(&path) else { return refuse("a query in another process") };
                let who = format!("{} of the query `{}`", context.site, context.query);
                all.insert(path.clone(), Claimed { instances: 1, group: context.group, who, lock });
            }
        }
        drop(all);
        Ok(Claim { path })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = lock(&CLAIMED);
        let Some(claimed) = all.get_mut(&self.path) else { return };
        claimed.instances -= 1;
        if claimed.instances == 0
            && let Some(Claimed { lock: Some(file), .. }) = all.remove(&self.path)
        {
            // A process that is being started has the file too for a moment, and with it the lock.
            let _ = file.unlock();
        }
    }
}

/// The lock on what is there, or nothing where the system has none of that kind; an error if somebody else has it.
fn lock_of(path: &Path) -> Result<Option<File>, ()> {
    // Elsewhere a directory cannot be opened, and a file that is locked cannot be read.
    let Some(file) = cfg!(unix).then(|| File::open(path).ok()).flatten() else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(()),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// A path from the root on, without links as far as it is there, so that the same place is always called the same.
pub(super) fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((fs::canonicalize(above).ok()?, above)));
    match there {
        Some((whole, above)) => match path.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => whole.join(rest),
            _ => whole,
        },
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::OutputMode;

    use super::*;

    fn of(site: &str, group: u64) -> SinkContext {
        SinkContext::new("test", OutputMode::Append, false).of_sink(site, group)
    }

    #[test]
    fn a_place_is_the_same_however_it_is_spelled() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = whole(scratch.path());
        assert_eq!(whole(&scratch.path().join("./new/x")), dir.join("new/x"));
        fs::create_dir(scratch.path().join("new")).unwrap();
        assert_eq!(whole(&scratch.path().join("new/../new/x")), dir.join("new/x"));
        assert!(whole(Path::new("some/where")).is_absolute());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(scratch.path().join("new"), scratch.path().join("link")).unwrap();
            assert_eq!(whole(&scratch.path().join("link/x")), dir.join("new/x"));
        }
    }

    #[test]
    fn a_place_is_one_sinks_until_its_last_instance_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let first = [(); 2].map(|()| Claim::together(dir.path(), &of("`sink` at a.rs:1", 7)).unwrap());
        let [one, two] = first;
        drop(one);
        let error = Claim::together(dir.path(), &of("`sink` at b.rs:2", 8)).unwrap_err().to_string();
        assert!(error.contains("`sink` at a.rs:1 of the query `test`"), "{error}");
        assert!(Claim::alone(dir.path(), &of("`sink` at a.rs:1", 7)).is_err());
        drop(two);
        drop(Claim::together(dir.path(), &of("`sink` at b.rs:2", 8)).unwrap());
    }

    #[test]
    #[cfg(unix)]
    fn a_place_that_another_process_has_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        // To the system, a file that was opened once more is as if another process had it.
        let other = File::open(dir.path()).unwrap();
        other.lock().unwrap();
        let error = Claim::together(dir.path(), &of("`sink` at a.rs:1", 7)).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(other);
        Claim::together(dir.path(), &of("`sink` at a.rs:1", 7)).unwrap();
    }
}
