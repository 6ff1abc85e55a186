//! A checkpoint that a query writes: the one place that knows in which order things become durable.
//!
//! An epoch, in this order: its plan (micro-batch); the files of its state; its commit, which is one append to the log
//! and the moment at which the epoch has happened; then whatever no kept commit needs is removed. When a write of the log
//! fails it is unknown what is durable: everything is refused from then on, and a restart finds out.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::{Epoch, KeyGroups};

use super::compaction::{self, Compacted, Compaction, Convert};
use super::identity::{self, Identity};
use super::log::{self, CURRENT, CommitLog, History, LOGS, STATE, log_name};
use super::records::{CommitRecord, Current, FileRef, LogMark, PlanRecord, Record, Reserved};
use super::state_file::{StateWriter, written_after};
use super::{CheckpointError, Lock, Owner, Storage};

/// How a checkpoint is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// How many epochs are kept so that they can be restored; at least one.
    pub(crate) retain: usize,
    /// The epoch to go back to, instead of the last one.
    pub(crate) at: Option<Epoch>,
    /// After how many records a log gives way to the next.
    pub(crate) roll_after: u64,
    /// Whether the commits of the query that made a savepoint count as this one's.
    pub(crate) take_over: bool,
    /// How many key groups a new checkpoint has.
    pub(crate) key_groups: KeyGroups,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { retain: 3, at: None, roll_after: 256, take_over: false, key_groups: KeyGroups::default() }
    }
}

/// What a checkpoint holds to resume from.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Recovered {
    /// The last commit; none if no epoch has been committed.
    pub(crate) commit: Option<CommitRecord>,
    /// What was planned after it, in order: to be read again, as planned, before anything else is.
    pub(crate) plans: Vec<PlanRecord>,
}

/// A checkpoint, taken by this query until it is dropped.
pub(crate) struct Checkpoint {
    storage: Arc<dyn Storage>,
    _lock: Box<dyn Lock>,
    query: String,
    execution: u64,
    identity: Identity,
    settings: Settings,
    log: CommitLog,
    history: History,
    writer: StateWriter,
    /// The first epoch that was free when this run began.
    begun_at: Epoch,
    /// How far the logs of sources reach, by uid: written with the next record if it is news.
    sources: BTreeMap<String, LogMark>,
    /// The first epoch that this run does not need yet: reserved with the next record if it is not.
    ahead: Epoch,
    /// The files that make up the state, as the next commit will list them, before its own.
    chain: Vec<FileRef>,
    /// Files that are not needed and could not be removed yet.
    doomed: Vec<String>,
    is_compacting: bool,
    is_stopped: bool,
}

impl Checkpoint {
    /// Takes the storage, cuts off what a crash has left, and begins a new execution of the query.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        query: &str,
        settings: Settings,
    ) -> Result<(Checkpoint, Option<Recovered>), CheckpointError> {
        let mut owner = Owner::this_process(query);
        let mut lock = storage.lock(&owner)?;
        let current = log::read_current(&*storage)?;
        let (log, history, execution, identity) = match current {
            None => {
                refuse_remains(&*storage)?;
                let current = Current { query: query.to_owned(), execution: 1, log: 0, frames: 0 };
                let history = History { key_groups: settings.key_groups, ..History::default() };
                if let Some(epoch) = settings.at {
                    return Err(no_such_epoch(&*storage, &history, epoch));
                }
                let identity = identity::begin(&*storage, 1, true, settings.take_over)?;
                (CommitLog::begin(&storage, current, &history, settings.roll_after)?, history, 1, identity)
            }
            Some(current) => resume(&storage, query, settings, current)?,
        };
        owner.execution = Some(execution);
        lock.set_owner(&owner)?;
        let mut checkpoint = Checkpoint {
            chain: history.last().map(|commit| commit.files.clone()).unwrap_or_default(),
            doomed: orphans(&*storage, &log, &history)?,
            writer: StateWriter::new(Arc::clone(&storage), execution, history.last().map(|last| last.epoch)),
            begun_at: history.free(),
            sources: history.sources.clone(),
            ahead: Epoch::new(0),
            storage,
            _lock: lock,
            query: query.to_owned(),
            execution,
            identity,
            settings,
            log,
            history,
            is_compacting: false,
            is_stopped: false,
        };
        checkpoint.sweep();
        let recovered = Recovered { commit: checkpoint.last().cloned(), plans: checkpoint.history.pending() };
        let is_new = recovered.commit.is_none() && recovered.plans.is_empty();
        Ok((checkpoint, (!is_new).then_some(recovered)))
    }

    /// Which run of the query this is, from 1. No other run has, had or will have the same number.
    pub(crate) fn execution(&self) -> u64 {
        self.execution
    }

    /// The id of the query, and its runs.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the key groups with which the checkpoint began.
    pub(crate) fn key_groups(&self) -> KeyGroups {
        self.history.key_groups
    }

    /// The first epoch that no run has committed, planned or shown to a sink.
    pub(crate) fn free(&self) -> Epoch {
        self.history.free()
    }

    /// The first epoch that is not reserved for this run.
    pub(crate) fn reserved(&self) -> Epoch {
        self.history.reserved
    }

    /// How far the logs of sources must reach, by uid.
    pub(crate) fn sources(&self) -> &BTreeMap<String, LogMark> {
        &self.history.sources
    }

    /// How far the logs of sources reach now, by uid: the next plan or commit relies on it.
    pub(crate) fn set_sources(&mut self, marks: impl IntoIterator<Item = (String, LogMark)>) {
        self.sources.extend(marks);
    }

    /// Reserves the epochs below `until`, before a sink sees rows of one that has no plan.
    pub(crate) fn reserve(&mut self, until: Epoch) -> Result<(), CheckpointError> {
        self.reserve_with_next(until);
        if self.ahead > self.history.reserved { self.append(Vec::new()) } else { Ok(()) }
    }

    /// The same with the next plan or commit, and without a wait of its own.
    pub(crate) fn reserve_with_next(&mut self, until: Epoch) {
        self.ahead = self.ahead.max(until);
    }

    fn reservation(&self, until: Epoch) -> Record {
        Record::Reserve(Reserved { execution: self.execution, until })
    }

    /// The run has ended in order: no epoch but those committed has reached a sink. Numbers that were reserved and not used
    /// are free again, and the next run knows how many records the log has.
    pub(crate) fn close(&mut self) -> Result<(), CheckpointError> {
        let used = self.history.last().map(|last| last.epoch.next()).unwrap_or_default().max(self.begun_at);
        self.ahead = used;
        if self.history.reserved > used {
            self.append(vec![self.reservation(used)])?;
        }
        if self.is_stopped {
            return Err(CheckpointError::Stopped);
        }
        self.log.note_frames()
    }

    /// The last commit.
    pub(crate) fn last(&self) -> Option<&CommitRecord> {
        self.history.last()
    }

    /// The epochs that can be restored.
    #[cfg(test)]
    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        self.history.commits.iter().map(|commit| commit.epoch).collect()
    }

    /// Returns the files of the state of the last commit, as [rewritten](Self::rewrite) where they were.
    pub(crate) fn files(&self) -> &[FileRef] {
        &self.chain
    }

    #[cfg(test)]
    pub(crate) fn loader(&self) -> super::loader::Loader {
        super::loader::Loader::new(Arc::clone(&self.storage), &self.chain, self.key_groups())
    }

    /// Writes files of state, from any thread.
    pub(crate) fn writer(&self) -> StateWriter {
        self.writer.clone()
    }

    /// Makes the plan of an epoch durable, before the epoch is read.
    pub(crate) fn plan(&mut self, mut plan: PlanRecord) -> Result<(), CheckpointError> {
        self.check_epoch("planned", plan.epoch)?;
        plan.execution = self.execution;
        self.append(vec![Record::Plan(plan)])
    }

    /// Commits an epoch, whose state is in `files` and what the commits before it say, and perhaps plans another one:
    /// both with one wait. All files are bases, or none is.
    pub(crate) fn commit(
        &mut self,
        mut commit: CommitRecord,
        files: Vec<FileRef>,
        next: Option<PlanRecord>,
    ) -> Result<(), CheckpointError> {
        self.check_epoch("committed", commit.epoch)?;
        let bases = files.iter().filter(|file| file.base).count();
        if bases > 0 && bases < files.len() {
            return Err(CheckpointError::Misuse("some workers wrote bases, some changes".to_owned()));
        }
        let mut chain = if bases > 0 { Vec::new() } else { self.chain.clone() };
        chain.extend(files);
        commit.files.clone_from(&chain);
        commit.execution = self.execution;
        commit.query.clone_from(&self.query);
        let kept = self.history.commits.len().saturating_sub(self.settings.retain.max(1) - 1);
        commit.oldest = self.history.commits.get(kept).map_or(commit.epoch, |oldest| oldest.epoch);
        let epoch = commit.epoch;
        let mut records = vec![Record::Commit(Box::new(commit))];
        records.extend(next.map(|plan| Record::Plan(PlanRecord { execution: self.execution, ..plan })));
        let before: Vec<FileRef> =
            self.history.commits.iter().take(kept).flat_map(|gone| gone.files.clone()).collect();
        self.append(records)?;
        self.writer.note_commit(epoch);
        self.chain = chain;
        self.doomed.extend(before.into_iter().map(|file| file.name));
        self.sweep();
        Ok(())
    }

    /// A compaction that is worth its while, to be run and then [handed back](Self::compacted); one at a time.
    pub(crate) fn compaction(&mut self, workers: u32) -> Option<Compaction> {
        let last = self.history.last()?;
        if self.is_compacting || self.is_stopped || !compaction::is_due(&last.files) {
            return None;
        }
        self.is_compacting = true;
        Some(Compaction {
            storage: Arc::clone(&self.storage),
            writer: self.writer(),
            groups: self.history.key_groups,
            files: last.files.clone(),
            epoch: last.epoch,
            workers,
            without: Vec::new(),
            convert: BTreeMap::new(),
        })
    }

    /// Rewrites the state before a run: without that of some operators, and with the values of others converted. The
    /// commits from the next one on refer to what is written here; until then nothing does, and the next run begins with
    /// the old files again.
    pub(crate) fn rewrite(
        &mut self,
        without: &[String],
        convert: BTreeMap<String, Convert>,
        workers: u32,
    ) -> Result<(), CheckpointError> {
        let Some(last) = self.history.last() else { return Ok(()) };
        let is_concerned = |uid: &String| without.contains(uid) || convert.contains_key(uid);
        if !last.operators.keys().any(is_concerned) || last.files.is_empty() {
            return Ok(());
        }
        let rewrite = Compaction {
            storage: Arc::clone(&self.storage),
            writer: self.writer(),
            groups: self.history.key_groups,
            files: last.files.clone(),
            epoch: last.epoch,
            workers,
            without: without.to_vec(),
            convert,
        };
        let rewritten = rewrite.run()?;
        self.compacted(Ok(rewritten));
        Ok(())
    }

    /// Takes the result of a compaction: its bases are in the next commit, in the place of what they were made of. A
    /// compaction that failed is forgotten; the epochs do not need it.
    pub(crate) fn compacted(&mut self, result: Result<Compacted, CheckpointError>) {
        self.is_compacting = false;
        match result {
            Ok(Compacted { files, bases }) => match self.chain.strip_prefix(files.as_slice()) {
                Some(since) => self.chain = [bases, since.to_vec()].concat(),
                // Somebody has written a whole state in the meantime.
                None => self.doomed.extend(bases.into_iter().map(|base| base.name)),
            },
            Err(error) => tracing::warn!(query = self.query, %error, "a checkpoint was not compacted"),
        }
    }

    /// Copies the last commit, with the plans after it, into another storage, where it can be opened.
    pub(crate) fn savepoint(&self, target: &dyn Storage) -> Result<(), CheckpointError> {
        let current = Current { query: self.query.clone(), execution: self.execution, log: 0, frames: 0 };
        super::savepoint::copy(&*self.storage, &current, self.history.clone(), target)
    }

    /// Forgets all epochs but the last ones.
    pub(crate) fn keep(&mut self, epochs: usize) -> Result<(), CheckpointError> {
        let gone = self.history.commits.len().saturating_sub(epochs.max(1));
        let files = self.history.commits.drain(..gone).flat_map(|commit| commit.files);
        self.doomed.extend(files.map(|file| file.name));
        let Some(oldest) = self.history.commits.first().map(|commit| commit.epoch) else { return Ok(()) };
        for commit in &mut self.history.commits {
            commit.oldest = commit.oldest.max(oldest);
        }
        self.history.plans.retain(|epoch, _| *epoch > oldest);
        self.roll()?;
        self.sweep();
        Ok(())
    }

    /// Goes on in the next log.
    fn roll(&mut self) -> Result<(), CheckpointError> {
        let (next, name) = self.log.next(&self.history, self.settings.roll_after)?;
        self.log = next;
        self.doomed.push(name);
        Ok(())
    }

    fn check_epoch(&self, what: &str, epoch: Epoch) -> Result<(), CheckpointError> {
        match self.last() {
            Some(last) if epoch <= last.epoch => {
                Err(CheckpointError::Misuse(format!("epoch {epoch} is {what} after epoch {}", last.epoch)))
            }
            _ => Ok(()),
        }
    }

    /// Appends records to the log, and takes them in.
    fn append(&mut self, mut records: Vec<Record>) -> Result<(), CheckpointError> {
        // Before the commit: what it relies on must not be what a truncated append lacks.
        if self.ahead > self.history.reserved {
            records.insert(0, self.reservation(self.ahead));
        }
        if self.sources != self.history.sources {
            records.insert(0, Record::Sources(self.sources.clone()));
        }
        if std::mem::replace(&mut self.is_stopped, true) {
            return Err(CheckpointError::Stopped);
        }
        if self.log.is_long() {
            self.roll()?;
        }
        self.log.append(&records)?;
        self.is_stopped = false;
        records.into_iter().for_each(|record| self.history.push(record));
        Ok(())
    }

    /// Removes files that are not needed. What cannot be removed now is tried again, or found by the next run.
    fn sweep(&mut self) {
        let kept = self.history.commits.iter().flat_map(|commit| &commit.files).chain(&self.chain);
        let kept: std::collections::HashSet<&str> = kept.map(|file| file.name.as_str()).collect();
        self.doomed.sort();
        self.doomed.dedup();
        self.doomed.retain(|name| {
            if kept.contains(name.as_str()) {
                return false;
            }
            let removed = self.storage.delete(name);
            if let Err(error) = &removed {
                tracing::warn!(query = self.query, %error, "a file of an old checkpoint cannot be removed");
            }
            removed.is_err()
        });
    }
}

/// Goes on with a checkpoint that is there.
fn resume(
    storage: &Arc<dyn Storage>,
    query: &str,
    settings: Settings,
    mut current: Current,
) -> Result<(CommitLog, History, u64, Identity), CheckpointError> {
    if current.query != query {
        return Err(CheckpointError::Foreign {
            storage: storage.describe(),
            found: current.query,
            expected: query.to_owned(),
        });
    }
    let read = log::read_log(&**storage, &current)?;
    refuse_lost_commits(&**storage, &current, &read)?;
    let execution = current.execution + 1;
    current.execution = execution;
    let mut history = read.history.clone();
    let goes_back = settings.at.filter(|at| history.last().map(|commit| commit.epoch) != Some(*at));
    if let Some(epoch) = goes_back
        && !history.go_back(epoch)
    {
        return Err(no_such_epoch(&**storage, &read.history, epoch));
    }
    let identity = identity::begin(&**storage, execution, false, settings.take_over)?;
    let log = if goes_back.is_some() {
        // What came after the epoch is gone when this log counts, and not before.
        current.log += 1;
        CommitLog::begin(storage, current, &history, settings.roll_after)?
    } else {
        CommitLog::resume(storage, current, &read, settings.roll_after)?
    };
    Ok((log, history, execution, identity))
}

/// A log that lacks records at its end looks like one from which a crash took an append. But files of state say which
/// commits were durable when they were written.
fn refuse_lost_commits(
    storage: &dyn Storage,
    current: &Current,
    read: &log::ReadLog,
) -> Result<(), CheckpointError> {
    let last = read.history.last().map(|commit| commit.epoch);
    for name in storage.list(STATE)?.iter().filter(|name| !read.history.refers_to(name)) {
        let Some(bytes) = storage.get(name)? else { continue };
        // Files of earlier runs were removed, or could not be; those runs are accounted for in `current`.
        let known = written_after(name, &bytes).filter(|(execution, _)| *execution == current.execution);
        let Some((_, committed)) = known.filter(|(_, committed)| Some(*committed) > last) else { continue };
        let found = last.map_or_else(|| "none".to_owned(), |last| format!("epoch {last}"));
        return Err(CheckpointError::Damaged {
            file: log_name(current.log),
            range: read.length..read.length,
            reason: format!(
                "the last commit in it is {found}, but {name} was written when epoch {committed} was committed: later \
                 commits are missing, and resuming from an earlier one would write rows to the outputs a second time. \
                 Restore the file, or start from a savepoint or with a new checkpoint"
            ),
        });
    }
    Ok(())
}

fn no_such_epoch(storage: &dyn Storage, history: &History, epoch: Epoch) -> CheckpointError {
    let kept = history.commits.iter().map(|commit| commit.epoch.number()).collect();
    CheckpointError::NoSuchEpoch { storage: storage.describe(), epoch: epoch.number(), kept }
}

/// A storage without `current` is new, unless there is something in it that had one. A run that died while it began may
/// have left its first log, with nothing in it.
fn refuse_remains(storage: &dyn Storage) -> Result<(), CheckpointError> {
    let mut remains = storage.list(STATE)?;
    for name in storage.list(LOGS)? {
        let is_new = name == log_name(0)
            && storage
                .get(&name)?
                .is_some_and(|bytes| log::parse(&name, &bytes).is_ok_and(|log| log.history.is_empty()));
        if !is_new {
            remains.push(name);
        }
    }
    match remains.first() {
        None => Ok(()),
        Some(name) => Err(CheckpointError::Missing {
            file: format!("{CURRENT} in {}", storage.describe()),
            needed: format!("without it, it is unknown whether {name} is the current log"),
        }),
    }
}

/// What dead runs have left: files of state that no commit refers to, and logs that do not count.
fn orphans(
    storage: &dyn Storage,
    log: &CommitLog,
    history: &History,
) -> Result<Vec<String>, CheckpointError> {
    let mut orphans = storage.list(STATE)?;
    orphans.retain(|name| !history.refers_to(name));
    orphans.extend(storage.list(LOGS)?.into_iter().filter(|name| *name != log.name()));
    Ok(orphans)
}
