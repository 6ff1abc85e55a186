//! Whose an output is: two writers into one file or directory overwrite each other's rows without an error.
//!
//! Within this process a list says which sink has which output. Other processes are kept out by a lock of the system on
//! a hidden file beside the output, which ends with the process. With a checkpoint that file stays, and holds the *claim*:
//! the query's id and its last run there. Without one the file is removed when the sink closes.
//!
//! The lock is on this very file, so the claim is replaced in place. The file has two slots, and a claim goes into the one
//! that does not hold the claim before it, with a hash of its text. It is synced before the first row of a run. So a crash
//! of the machine leaves the claim of the run, or the one before it and no row of the run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tidemill_operators::{OutputClaim, SinkContext, SinkError, files};
use xxhash_rust::xxh3::xxh3_64;

use super::disk;
use crate::lock;

/// The outputs that sinks of this process have, by canonical path.
static CLAIMED: Mutex<BTreeMap<PathBuf, Claimed>> = Mutex::new(BTreeMap::new());

/// The length of a slot: what a disk writes at once.
const SLOT: usize = 512;
/// How many characters of a slot are its hash.
const HASH: usize = 16;
/// A name of a query may be long; in a claim it is for messages only.
const NAME: usize = 120;

#[derive(Debug)]
struct Claimed {
    /// The instances that have it.
    instances: usize,
    group: u64,
    query_id: String,
    /// Which sink it is, for those who come second.
    who: String,
    lock: Option<File>,
    /// The file with the lock, to be removed at the end; none if it stays.
    removed: Option<PathBuf>,
    executions_before: u64,
}

/// An output, and the file beside it.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// From the root on, without links.
    pub(super) path: PathBuf,
    beside: PathBuf,
}

impl Output {
    /// A single file.
    pub(super) fn file(path: &Path) -> Output {
        let path = whole(path);
        let beside = hidden_beside(&path, ".claim");
        Output { path, beside }
    }

    /// A directory.
    pub(super) fn dir(dir: &Path) -> Output {
        let path = whole(dir);
        let beside = path.join(".claim");
        Output { path, beside }
    }
}

/// `.name<ending>` in the directory of a file.
pub(super) fn hidden_beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

/// Whose an output was before this run.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// Nothing says.
    Unknown,
    /// This query's.
    This {
        /// The highest number of an execution in names of files that were there before this query.
        executions_before: u64,
    },
    /// Another query's, or that of a copy of this one.
    Other(OutputClaim),
}

/// What the file beside an output holds.
#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    claim: OutputClaim,
    executions_before: u64,
    /// How many claims have been written into the file before this one.
    turn: u64,
}

/// Which other sinks of this process may have the same output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sharing {
    /// None. Instances that no engine drives are not told apart.
    Alone,
    /// The other instances of the sink.
    Instances,
    /// Every sink of the query.
    Query,
}

/// The right to write into an output; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    executions_before: u64,
}

impl Claim {
    /// Claims an output for a sink. `inspect` sees whose it was, and refuses it or returns the executions before this
    /// query; it is called by the first instance that comes, before anything is changed.
    pub(super) fn new(
        output: &Output,
        context: &SinkContext,
        sharing: Sharing,
        inspect: impl FnOnce(&Owner) -> Result<u64, SinkError>,
    ) -> Result<Claim, SinkError> {
        let path = output.path.clone();
        let refuse = |who: &str| {
            Err(SinkError::Setup(format!(
                "{} is being written to by {who}, and one would overwrite the rows of the other: give each another path",
                path.display()
            )))
        };
        let mut all = lock(&CLAIMED);
        if let Some(claimed) = all.get_mut(&path) {
            let is_same_sink = claimed.group == context.group;
            let may_share = match sharing {
                Sharing::Alone => is_same_sink && context.group == 0,
                Sharing::Instances => is_same_sink,
                Sharing::Query => is_same_sink || claimed.query_id == context.query_id,
            };
            if !may_share {
                return refuse(if is_same_sink { "another instance of this sink" } else { &claimed.who });
            }
            claimed.instances += 1;
            return Ok(Claim { executions_before: claimed.executions_before, path });
        }
        let mut held = match take_lock(&output.beside, true) {
            Ok(held) => held,
            Err(Refused::Held) => return refuse("a query in another process"),
            // Where no file can be created beside the output, only sinks of this process exclude each other.
            Err(Refused::Failed(error))
                if error.kind() == ErrorKind::PermissionDenied && !context.durable =>
            {
                None
            }
            Err(Refused::Failed(error)) => return Err(disk::failed("open", &output.beside, error)),
        };
        let (owner, turn) = match &mut held {
            Some(file) => owner(file, &output.beside, context)?,
            None => (Owner::Unknown, 0),
        };
        let inspected = inspect(&owner);
        let executions_before = match inspected {
            Ok(executions) => executions,
            Err(error) => {
                let was_empty = matches!(owner, Owner::Unknown);
                let_go(held, was_empty.then_some(&output.beside));
                return Err(error);
            }
        };
        let mut removed = Some(output.beside.clone());
        if let (Some(file), Some(claim)) = (&mut held, context.claim()) {
            write(file, &output.beside, Record { claim, executions_before, turn })?;
            removed = None;
        } else if let (Some(file), Owner::Other(_)) = (&held, &owner) {
            disk::truncate(file, &output.beside, 0)?;
        }
        let who = format!("{} of the query `{}`", context.site, context.query);
        let (group, query_id) = (context.group, context.query_id.clone());
        let claimed = Claimed { instances: 1, group, query_id, who, lock: held, removed, executions_before };
        all.insert(path.clone(), claimed);
        Ok(Claim { path, executions_before })
    }

    /// The highest number of an execution in names of files that were there before this query.
    pub(super) fn executions_before(&self) -> u64 {
        self.executions_before
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = lock(&CLAIMED);
        let Some(claimed) = all.get_mut(&self.path) else { return };
        claimed.instances -= 1;
        if claimed.instances == 0
            && let Some(claimed) = all.remove(&self.path)
        {
            let_go(claimed.lock, claimed.removed.as_ref());
        }
    }
}

/// Checks that no query with a checkpoint has an output, and that no sink that wants it alone is writing to it.
pub(super) fn check_free(output: &Output, context: &SinkContext) -> Result<(), SinkError> {
    let mut file = match take_lock(&output.beside, false) {
        Ok(Some(file)) => file,
        Err(Refused::Held) => {
            return Err(SinkError::Setup(format!(
                "{} is being written to by another sink, which needs it for itself alone: give this one another file",
                output.path.display()
            )));
        }
        // No such file, or none that can be opened: nothing has been claimed with it.
        Ok(None) | Err(Refused::Failed(_)) => return Ok(()),
    };
    let owner = owner(&mut file, &output.beside, context);
    let_go(Some(file), None);
    match owner?.0 {
        Owner::Other(claim) => Err(refusal(output, &claim, context)),
        Owner::Unknown | Owner::This { .. } => Ok(()),
    }
}

/// The error of a run that must not touch an output, with the ways out.
pub(super) fn refusal(output: &Output, claim: &OutputClaim, context: &SinkContext) -> SinkError {
    let OutputClaim { query_id, query, execution, .. } = claim;
    let (path, short) = (output.path.display(), query_id.get(..8).unwrap_or(query_id));
    let whose = if *query_id == context.query_id {
        format!(
            "was last written to by run {execution} of the query `{query}`, which is not in this checkpoint: one of \
             the two checkpoints is a copy of the other"
        )
    } else if context.fork {
        format!(
            "belongs to the query `{query}` (id {short}, run {execution}), and this run starts from a savepoint, so \
             it is a new query"
        )
    } else {
        format!("belongs to the query `{query}` (id {short}, run {execution}), which has another checkpoint")
    };
    let take_over = if context.durable {
        "; or, if that query has stopped for good and this one replaces it, start this one once with --take-over \
         (`Options::with_take_over`)"
    } else {
        ", and this run has none"
    };
    SinkError::Setup(format!(
        "{path} {whose}: this run would destroy its rows. Give the sink another path{take_over}; or, if the rows are \
         not needed, delete them, and {}",
        output.beside.display()
    ))
}

/// Whose an output is by the file beside it, and the turn of the next claim.
fn owner(file: &mut File, path: &Path, context: &SinkContext) -> Result<(Owner, u64), SinkError> {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    read.map_err(|error| disk::failed("read", path, error))?;
    let Some(record) = bytes.chunks(SLOT).filter_map(record).max_by_key(|record| record.turn) else {
        // A first claim that a crash of the machine cut short: its run had not written any row.
        let is_cut = bytes.len() < SLOT || bytes.contains(&0);
        if is_cut && bytes.len() <= SLOT {
            return Ok((Owner::Unknown, 0));
        }
        return Err(SinkError::Recovery {
            what: path.display().to_string(),
            reason: "it names the query that owns the output beside it, and cannot be read: if no other query writes \
                     there, delete it"
                .to_owned(),
        });
    };
    let Record { claim, executions_before, turn } = record;
    let owner = if context.owns(&claim) { Owner::This { executions_before } } else { Owner::Other(claim) };
    Ok((owner, turn + 1))
}

/// The claim in a slot, if it is whole.
fn record(slot: &[u8]) -> Option<Record> {
    let (hash, text) = std::str::from_utf8(slot).ok()?.trim_end().split_at_checked(HASH)?;
    (*hash == hash_of(text)).then(|| serde_json::from_str(text).ok())?
}

fn hash_of(text: &str) -> String {
    format!("{:0HASH$x}", xxh3_64(text.as_bytes()))
}

fn write(file: &mut File, path: &Path, mut record: Record) -> Result<(), SinkError> {
    if let Some((end, _)) = record.claim.query.char_indices().nth(NAME) {
        record.claim.query.truncate(end);
    }
    let failed = |error| disk::failed("write to", path, error);
    let text = format!(" {}", serde_json::to_string(&record).map_err(|error| failed(error.into()))?);
    let mut bytes = (hash_of(&text) + &text).into_bytes();
    if bytes.len() >= SLOT {
        return Err(failed(std::io::Error::other("the claim is too long")));
    }
    bytes.resize(SLOT - 1, b' ');
    bytes.push(b'\n');
    file.seek(SeekFrom::Start(record.turn % 2 * SLOT as u64)).map_err(failed)?;
    disk::write(file, path, &bytes)?;
    disk::sync(file, path)?;
    disk::sync_dir(path.parent().unwrap_or(Path::new("")))
}

enum Refused {
    Held,
    Failed(std::io::Error),
}

/// Opens and locks a file; nothing if it is not there and not to be made. Where the file system has no locks, the file is
/// not locked.
fn take_lock(path: &Path, create: bool) -> Result<Option<File>, Refused> {
    loop {
        let mut options = File::options();
        options.read(true).write(true).create(create).truncate(false);
        let opened = if create { files::create(path, &options) } else { files::open(path, &options) };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && !create => return Ok(None),
            Err(error) => return Err(Refused::Failed(error)),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Refused::Held),
            // Its former owner may have removed it in between.
            Ok(()) if !is_at(&file, path) => {}
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(Some(file)),
        }
    }
}

/// Gives a lock back, and removes the file if that is wanted.
fn let_go(lock: Option<File>, removed: Option<&PathBuf>) {
    let Some(file) = lock else { return };
    if let Some(path) = removed {
        // An empty file that stays is harmless.
        let _ = files::remove(path);
    }
    // A process that is being started has the file too for a moment, and with it the lock.
    let _ = file.unlock();
}

/// Whether an open file is the one that has this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same =
        |one: &fs::Metadata, other: &fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    file.metadata().is_ok_and(|one| fs::metadata(path).is_ok_and(|other| same(&one, &other)))
}

/// A file that is open keeps its name.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
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
    use std::sync::Arc;

    use tidemill_operators::{QueryIdentity, RowKind};

    use super::*;

    fn of(site: &str, group: u64) -> SinkContext {
        SinkContext::new("test", RowKind::Insert, false).of_sink(site, group)
    }

    fn claim(dir: &Path, context: &SinkContext, sharing: Sharing) -> Result<Claim, SinkError> {
        Claim::new(&Output::dir(dir), context, sharing, |_| Ok(0))
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
    fn output_belongs_to_one_sink_until_last_instance_closes() {
        let dir = tempfile::tempdir().unwrap();
        let one_sink = of("`sink` at a.rs:1", 7);
        let first = [(); 2].map(|()| claim(dir.path(), &one_sink, Sharing::Instances).unwrap());
        let [one, two] = first;
        drop(one);
        let other = of("`sink` at b.rs:2", 8);
        let error = claim(dir.path(), &other, Sharing::Instances).unwrap_err().to_string();
        assert!(error.contains("`sink` at a.rs:1 of the query `test`"), "{error}");
        assert!(claim(dir.path(), &one_sink, Sharing::Alone).is_err());
        drop(two);
        drop(claim(dir.path(), &other, Sharing::Instances).unwrap());
        // Without a checkpoint nothing stays.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn output_locked_by_another_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        // To the system, a file that was opened once more is as if another process had it.
        let other = File::create(dir.path().join(".claim")).unwrap();
        other.lock().unwrap();
        let context = of("`sink` at a.rs:1", 7);
        let error = claim(dir.path(), &context, Sharing::Instances).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        assert!(check_free(&Output::dir(dir.path()), &context).is_err());
        drop(other);
        claim(dir.path(), &context, Sharing::Instances).unwrap();
        check_free(&Output::dir(dir.path()), &context).unwrap();
    }

    #[test]
    fn claim_tells_own_runs_from_those_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let run = |id: &str, runs: &[(u64, &str)]| {
            let runs = runs.iter().map(|(execution, run)| (*execution, (*run).to_owned())).collect();
            of("a", 7).durable(1).identified(Arc::new(QueryIdentity::new(id, runs)))
        };
        let found = |context: &SinkContext, take: bool| {
            let mut found = None;
            let inspect = |owner: &Owner| {
                found = Some(owner.clone());
                if take { Ok(5) } else { Err(SinkError::Setup("no".to_owned())) }
            };
            drop(Claim::new(&Output::dir(dir.path()), context, Sharing::Alone, inspect));
            found.unwrap()
        };
        assert!(matches!(found(&run("one", &[(1, "a")]), false), Owner::Unknown));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a claim that was refused leaves nothing");
        assert!(matches!(found(&run("one", &[(1, "a")]), true), Owner::Unknown));
        for (id, runs, own) in [
            ("one", &[(1, "a"), (2, "b")][..], true),
            ("one", &[(1, "c"), (2, "d")], false),
            ("two", &[(1, "a")], false),
        ] {
            let owner = found(&run(id, runs), false);
            assert_eq!(matches!(owner, Owner::This { executions_before: 5 }), own, "{owner:?}");
            assert_eq!(matches!(owner, Owner::Other(_)), !own);
        }
        let unnamed = found(&of("a", 7), false);
        assert!(matches!(&unnamed, Owner::Other(claim) if claim.query == "test"), "{unnamed:?}");
        assert_eq!(fs::read(dir.path().join(".claim")).unwrap().len(), SLOT);
    }

    #[test]
    fn claim_cut_by_a_crash_leaves_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join(".claim");
        let run = |execution: u64| {
            let runs = (1..=execution).map(|execution| (execution, format!("run {execution}"))).collect();
            of("a", 7).durable(1).identified(Arc::new(QueryIdentity::new("one", runs)))
        };
        let last_run = || {
            let (owner, _) = owner(&mut File::open(&beside).unwrap(), &beside, &of("a", 7))?;
            Ok::<_, SinkError>(match owner {
                Owner::Other(claim) => Some(claim.execution),
                _ => None,
            })
        };
        let is_either = |execution| {
            let before = (execution > 1).then_some(execution - 1);
            [before, Some(execution)].contains(&last_run().unwrap())
        };
        for execution in 1..6 {
            let before = fs::read(&beside).unwrap_or_default();
            drop(claim(dir.path(), &run(execution), Sharing::Alone).unwrap());
            assert_eq!(last_run().unwrap(), Some(execution));
            let after = fs::read(&beside).unwrap();
            let changed = |at: &usize| before.get(*at) != after.get(*at);
            let first = (0..after.len()).find(changed).unwrap();
            let last = (0..after.len()).rfind(changed).unwrap();
            // Some of the bytes reached the disk; where the file grew, the others are missing or zero.
            for cut in first + 1..last {
                let mut torn = before.clone();
                torn.resize(torn.len().max(cut), 0);
                torn[first..cut].copy_from_slice(&after[first..cut]);
                fs::write(&beside, &torn).unwrap();
                assert!(is_either(execution), "{execution} {cut}");
                torn.resize(after.len(), 0);
                torn[first..cut]
                    .copy_from_slice(&before.get(first..cut).map_or(vec![0; cut - first], <[u8]>::to_vec));
                torn[cut..].copy_from_slice(&after[cut..]);
                fs::write(&beside, &torn).unwrap();
                assert!(is_either(execution), "{execution} {cut}");
            }
            fs::write(&beside, &after).unwrap();
        }
        // Damage to whole claims is no cut one.
        fs::write(&beside, [b'x'; SLOT]).unwrap();
        assert!(last_run().is_err());
    }
}
