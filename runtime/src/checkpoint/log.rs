//! The log of plans and commits, and the file that says which log counts.
//!
//! One log counts at a time. When it has grown long, the next one is written, at once, with what is still needed of it;
//! then `current` is replaced; then the old one is removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::{Epoch, KeyGroups, Mode};

use super::format::{FrameReader, FrameWriter, Kind, NextFrame, decode};
use super::records::{CommitRecord, Current, LogMark, Opening, PlanRecord, Record, Reserved};
use super::{CheckpointError, Log, Storage};

pub(crate) const CURRENT: &str = "current";
pub(super) const LOGS: &str = "commits-";
pub(super) const STATE: &str = "state/";

/// The name of a log.
pub(crate) fn log_name(number: u64) -> String {
    format!("{LOGS}{number}.log")
}

/// What the log comes to: the commits that can be restored, and the plans since the oldest of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct History {
    /// The oldest first.
    pub(crate) commits: Vec<CommitRecord>,
    pub(crate) plans: BTreeMap<Epoch, PlanRecord>,
    /// The first epoch that no run without plans may have shown to a sink.
    pub(crate) reserved: Epoch,
    /// What the logs of sources hold at least, by uid.
    pub(crate) sources: BTreeMap<String, LogMark>,
    /// Of the state, from the beginning of the checkpoint on.
    pub(crate) key_groups: KeyGroups,
}

impl History {
    /// Takes the next record in.
    pub(super) fn push(&mut self, record: Record) {
        match record {
            Record::Plan(plan) => drop(self.plans.insert(plan.epoch, plan)),
            Record::Commit(commit) => {
                if commit.mode == Mode::Continuous {
                    self.supersede(commit.execution);
                }
                self.commits.push(*commit);
                self.forget();
            }
            Record::Reserve(Reserved { until, .. }) => self.reserved = until,
            Record::Sources(marks) => self.sources.extend(marks),
            Record::KeyGroups(groups) => self.key_groups = groups,
        }
    }

    /// Drops the plans that were made before a continuous run, which has committed what they would read. A sink may have
    /// seen their numbers all the same.
    fn supersede(&mut self, execution: u64) {
        let reserved = &mut self.reserved;
        self.plans.retain(|epoch, plan| {
            let stays = plan.execution >= execution;
            if !stays {
                *reserved = (*reserved).max(epoch.next());
            }
            stays
        });
    }

    /// The first epoch that no run has committed, planned or shown to a sink: the number of the next new epoch.
    pub(crate) fn free(&self) -> Epoch {
        let committed = self.last().map(|commit| commit.epoch.next());
        let planned = self.plans.keys().next_back().map(|epoch| epoch.next());
        self.reserved.max(committed.unwrap_or_default()).max(planned.unwrap_or_default())
    }

    /// Forgets what the last commit says is no longer kept.
    fn forget(&mut self) {
        let Some(oldest) = self.commits.last().map(|commit| commit.oldest) else { return };
        self.commits.retain(|commit| commit.epoch >= oldest);
        self.plans.retain(|epoch, _| *epoch > oldest);
    }

    /// Goes back to an epoch: its commit is the last one. The plans of the epochs behind it stay, to be repeated.
    pub(super) fn go_back(&mut self, epoch: Epoch) -> bool {
        self.reserved = self.free();
        self.commits.retain(|commit| commit.epoch <= epoch);
        self.commits.last().is_some_and(|commit| commit.epoch == epoch)
    }

    /// Returns whether nothing has happened yet.
    pub(super) fn is_empty(&self) -> bool {
        *self == History { key_groups: self.key_groups, ..History::default() }
    }

    /// The last commit.
    pub(crate) fn last(&self) -> Option<&CommitRecord> {
        self.commits.last()
    }

    /// The epochs that were planned after the last commit, in order.
    pub(crate) fn pending(&self) -> Vec<PlanRecord> {
        let done = self.last().map(|commit| commit.epoch);
        self.plans.values().filter(|plan| Some(plan.epoch) > done).cloned().collect()
    }

    /// Whether a commit refers to a file.
    pub(super) fn refers_to(&self, name: &str) -> bool {
        self.commits.iter().any(|commit| commit.files.iter().any(|file| file.name == name))
    }

    /// What a new log begins with.
    fn records(&self) -> Vec<Record> {
        let mut records: Vec<_> =
            self.commits.iter().map(|commit| Record::Commit(Box::new(commit.clone()))).collect();
        records.extend(self.plans.values().cloned().map(Record::Plan));
        if self.reserved > Epoch::new(0) {
            records.push(Record::Reserve(Reserved { execution: 0, until: self.reserved }));
        }
        if !self.sources.is_empty() {
            records.push(Record::Sources(self.sources.clone()));
        }
        // Programs that know no other number can read a log that has the default one.
        if self.key_groups != KeyGroups::default() {
            records.push(Record::KeyGroups(self.key_groups));
        }
        records
    }
}

/// A log that has been read.
#[derive(Debug)]
pub(crate) struct ReadLog {
    pub(super) opening: Opening,
    pub(crate) history: History,
    /// How many frames it has, and where they end: behind that there is what a crash left of an append.
    pub(super) frames: u64,
    pub(super) length: u64,
}

/// Reads `current`, if it is there.
pub(crate) fn read_current(storage: &dyn Storage) -> Result<Option<Current>, CheckpointError> {
    let Some(bytes) = storage.get(CURRENT)? else { return Ok(None) };
    let mut reader = FrameReader::new(CURRENT, &bytes, Kind::Current)?;
    let current = reader.value()?;
    reader.end()?;
    Ok(Some(current))
}

/// Makes a log the one that counts.
pub(super) fn write_current(storage: &dyn Storage, current: &Current) -> Result<(), CheckpointError> {
    let mut writer = FrameWriter::new(Kind::Current);
    writer.value(current)?;
    storage.put(CURRENT, &writer.into_bytes())
}

/// Reads the log that counts.
pub(crate) fn read_log(storage: &dyn Storage, current: &Current) -> Result<ReadLog, CheckpointError> {
    let name = log_name(current.log);
    let bytes = storage.get(&name)?.ok_or_else(|| CheckpointError::Missing {
        file: format!("{name} in {}", storage.describe()),
        needed: "it lists the committed epochs".to_owned(),
    })?;
    let log = parse(&name, &bytes)?;
    if (log.opening.log, &log.opening.query) != (current.log, &current.query) {
        let reason = "it is the log of another checkpoint, or another log of this one";
        return Err(CheckpointError::damaged(&name, 0..bytes.len(), reason));
    }
    if log.frames < current.frames {
        let reason = format!(
            "it holds {} records, and held {} when the last run began or ended: later commits are missing, and \
             resuming from an earlier one would write rows to the outputs a second time. Restore the file, or start \
             from a savepoint or with a new checkpoint",
            log.frames, current.frames
        );
        return Err(CheckpointError::damaged(&name, bytes.len()..bytes.len(), reason));
    }
    Ok(log)
}

pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<ReadLog, CheckpointError> {
    let mut reader = FrameReader::new(name, bytes, Kind::Log)?;
    let opening: Opening = reader.value()?;
    let mut history = History::default();
    loop {
        let at = reader.offset();
        // What was carried over was written at once.
        let (payload, range) = if reader.number() <= u64::from(opening.carried) {
            reader.frame()?
        } else {
            match reader.step()? {
                NextFrame::Frame(payload, range) => (payload, range),
                NextFrame::End | NextFrame::Torn => break,
            }
        };
        let record: Record = decode(name, payload, range.clone())?;
        if let Record::Commit(commit) = &record
            && history.last().is_some_and(|last| last.epoch >= commit.epoch)
        {
            let reason = format!("epoch {} is committed after a later one", commit.epoch);
            return Err(CheckpointError::damaged(name, at..range.end, reason));
        }
        history.push(record);
    }
    Ok(ReadLog { opening, history, frames: reader.number(), length: reader.offset() as u64 })
}

/// The log that counts, to be appended to.
pub(super) struct CommitLog {
    storage: Arc<dyn Storage>,
    log: Box<dyn Log>,
    current: Current,
    frames: u64,
    /// How many frames the log may have before the next one takes its place.
    most: u64,
}

impl CommitLog {
    /// Writes a log with this history and makes it the one that counts.
    pub(super) fn begin(
        storage: &Arc<dyn Storage>,
        mut current: Current,
        history: &History,
        roll_after: u64,
    ) -> Result<CommitLog, CheckpointError> {
        let frames = write_log(&**storage, &current, history)?;
        current.frames = frames;
        write_current(&**storage, &current)?;
        let log = storage.log(&log_name(current.log))?;
        Ok(CommitLog { storage: Arc::clone(storage), log, current, frames, most: frames + roll_after })
    }

    /// Goes on with a log that has been read, as a new execution: what a crash left of an append is cut off.
    pub(super) fn resume(
        storage: &Arc<dyn Storage>,
        mut current: Current,
        read: &ReadLog,
        roll_after: u64,
    ) -> Result<CommitLog, CheckpointError> {
        current.frames = read.frames;
        let mut log = storage.log(&log_name(current.log))?;
        log.truncate(read.length)?;
        write_current(&**storage, &current)?;
        let most = u64::from(read.opening.carried) + 1 + roll_after;
        Ok(CommitLog { storage: Arc::clone(storage), log, current, frames: read.frames, most })
    }

    /// Whether it is time for [`next`](Self::next).
    pub(super) fn is_long(&self) -> bool {
        self.frames >= self.most
    }

    /// The log that takes the place of this one, and the name of this one, which is no longer needed.
    pub(super) fn next(
        &self,
        history: &History,
        roll_after: u64,
    ) -> Result<(CommitLog, String), CheckpointError> {
        let current = Current { log: self.current.log + 1, ..self.current.clone() };
        let next = CommitLog::begin(&self.storage, current, history, roll_after)?;
        Ok((next, log_name(self.current.log)))
    }

    /// Appends records, all at once; they are durable when it returns.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), CheckpointError> {
        let mut writer = FrameWriter::behind(Kind::Log, self.frames);
        for record in records {
            writer.value(record)?;
        }
        self.frames = writer.number();
        self.log.append(&writer.into_bytes())
    }

    /// Notes how many frames there are, so that a log that lacks some of them is noticed.
    pub(super) fn note_frames(&mut self) -> Result<(), CheckpointError> {
        self.current.frames = self.frames;
        write_current(&*self.storage, &self.current)
    }

    pub(super) fn name(&self) -> String {
        log_name(self.current.log)
    }
}

/// Writes a log with this history; it is not read as long as `current` says otherwise. Says how many frames it has.
pub(super) fn write_log(
    storage: &dyn Storage,
    current: &Current,
    history: &History,
) -> Result<u64, CheckpointError> {
    let mut writer = FrameWriter::new(Kind::Log);
    let Current { query, execution, log, .. } = current.clone();
    let records = history.records();
    let carried = u32::try_from(records.len()).unwrap_or(u32::MAX);
    writer.value(&Opening { query, log, execution, carried })?;
    for record in &records {
        writer.value(record)?;
    }
    let frames = writer.number();
    storage.put(&log_name(current.log), &writer.into_bytes())?;
    Ok(frames)
}
