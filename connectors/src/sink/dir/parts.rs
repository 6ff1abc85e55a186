//! The files of one instance in a directory of results: which is written, which wait for a commit, which are shown.
//!
//! A file under way holds the rows of one epoch after another; where an epoch ends in it is marked. It is rolled, that
//! is finished, at the end of an epoch only, and gets its final name when that epoch commits. So what has a final name
//! holds committed rows only, and other files can be truncated to the last committed mark.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_operators::{Epoch, Prepared, ProcessingTime, RowKind, SinkContext, SinkError, files};

use super::super::claim::{self, Claim, Output, Sharing};
use super::super::disk;
use super::name::{Kind, PartName};

/// This many bytes are gathered for one call of the system.
const BUFFER: usize = 64 << 10;

/// When a file is finished, looked at as an epoch ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roll {
    pub(super) at: u64,
    pub(super) every: Duration,
}

/// What must be finished of a commit, and what was there at that time.
#[derive(Serialize, Deserialize)]
pub(super) enum Record {
    V1(Files),
}

/// The files of one instance at a commit.
#[derive(Serialize, Deserialize)]
pub(super) struct Files {
    pub(super) dir: String,
    pub(super) worker: u64,
    /// The number of the run in names.
    pub(super) execution: u64,
    /// The number of its next file: those from there on are newer than the commit.
    pub(super) next: u64,
    /// Files that had not got their final name, and how much of each was committed.
    pub(super) parts: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Part {
    name: PartName,
    length: u64,
    /// How long the file was at the end of epochs that are prepared and not committed.
    marks: VecDeque<(Epoch, u64)>,
    committed: u64,
}

impl Part {
    /// The epochs up to this one are committed.
    fn reach(&mut self, epoch: Epoch) {
        while let Some((mark, length)) = self.marks.front()
            && *mark <= epoch
        {
            self.committed = *length;
            self.marks.pop_front();
        }
    }
}

#[derive(Debug)]
struct Writing {
    part: Part,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    since: ProcessingTime,
    synced: u64,
}

impl Writing {
    fn flush(&mut self) -> Result<(), SinkError> {
        if !self.buffer.is_empty() {
            disk::write(&self.file, &self.path, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) dir: PathBuf,
    /// The right to the directory, which the instances of the sink have together.
    claim: Option<Claim>,
    pub(super) roll: Roll,
    /// Whether a query that begins may find files of others.
    pub(super) adds: bool,
    pub(super) context: SinkContext,
    pub(super) extension: &'static str,
    /// The number of this run in names.
    pub(super) execution: u64,
    next: u64,
    writing: Option<Writing>,
    /// Finished files and the epoch with which each is shown.
    rolled: VecDeque<(Epoch, Part)>,
    /// Epochs that are prepared and not committed.
    outstanding: VecDeque<Epoch>,
    /// Whether the directory has names that a crash of the machine may take away.
    unsynced_names: bool,
    /// With a checkpoint: for each worker and run, the last part that was given its final name.
    pub(super) markers: Vec<PartName>,
    /// How many of them are of earlier runs, which are needed until this one commits.
    pub(super) former_markers: usize,
}

impl Parts {
    pub(super) fn new(dir: PathBuf, extension: &'static str) -> Self {
        Parts {
            dir,
            claim: None,
            roll: Roll { at: 64 << 20, every: Duration::from_secs(60) },
            adds: false,
            context: SinkContext::new("", RowKind::Insert, false),
            extension,
            execution: 0,
            next: 0,
            writing: None,
            rolled: VecDeque::new(),
            outstanding: VecDeque::new(),
            unsynced_names: false,
            markers: Vec::new(),
            former_markers: 0,
        }
    }

    pub(super) fn place(&self) -> PathBuf {
        claim::whole(&self.dir)
    }

    pub(super) fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        disk::make_dirs(&self.dir, context.durable)?;
        let output = Output::dir(&self.dir);
        let claim =
            Claim::new(&output, context, Sharing::Instances, |owner| self.inspect(&output, owner, context))?;
        // Nothing that is there is written over, were it the result of a run that had the same number.
        let (worker, execution) = (context.worker as u64, claim.executions_before() + context.execution);
        let same = |part: &PartName| part.worker == worker && part.execution == execution;
        let there = self.list()?.into_iter().map(|(part, _)| part);
        let last = there.filter(same).map(|part| part.sequence).max();
        // Not before: a run of the same graph may be using what is here.
        self.forget();
        self.context = context.clone();
        self.execution = execution;
        self.next = last.map_or(0, |last| last.saturating_add(1));
        self.claim = Some(claim);
        Ok(())
    }

    /// Whether the next bytes are the first of a file.
    pub(super) fn begins(&self) -> bool {
        self.writing.is_none()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => self.create()?,
        };
        writing.buffer.extend_from_slice(bytes);
        writing.part.length += bytes.len() as u64;
        let full = writing.buffer.len() >= BUFFER;
        let writing = self.writing.insert(writing);
        if full { writing.flush() } else { Ok(()) }
    }

    fn create(&mut self) -> Result<Writing, SinkError> {
        let name = PartName {
            worker: self.context.worker as u64,
            execution: self.execution,
            sequence: self.next,
            extension: self.extension.to_owned(),
        };
        let path = name.pending_in(&self.dir);
        let file = disk::create(&path)?;
        self.next += 1;
        self.unsynced_names = true;
        let part = Part { name, length: 0, marks: VecDeque::new(), committed: 0 };
        let since = self.context.clock.now();
        Ok(Writing { part, path, file, buffer: Vec::new(), since, synced: 0 })
    }

    pub(super) fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        let durable = self.context.durable;
        if let Some(writing) = &mut self.writing {
            writing.flush()?;
            if durable && writing.synced < writing.part.length {
                disk::sync(&writing.file, &writing.path)?;
                writing.synced = writing.part.length;
            }
            writing.part.marks.push_back((epoch, writing.part.length));
        }
        if durable && std::mem::take(&mut self.unsynced_names) {
            disk::sync_dir(&self.dir)?;
        }
        let now = self.context.clock.now();
        let Roll { at, every } = self.roll;
        let full = |writing: &mut Writing| writing.part.length >= at || now.since(writing.since) >= every;
        if let Some(writing) = self.writing.take_if(full) {
            self.rolled.push_back((epoch, writing.part));
        }
        self.outstanding.push_back(epoch);
        if !durable {
            return Ok(Prepared::nothing());
        }
        let parts = self.rolled.iter().map(|(_, part)| part).chain(self.writing.iter().map(|w| &w.part));
        let parts = parts.map(|part| (part.name.shown(), part.length)).collect();
        Prepared::of(&Record::V1(Files {
            dir: whole(&self.dir),
            worker: self.context.worker as u64,
            execution: self.execution,
            next: self.next,
            parts,
        }))
    }

    pub(super) fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let shown = self.rolled.iter().take_while(|(last, _)| *last <= epoch).count();
        if let Some((_, last)) = shown.checked_sub(1).and_then(|last| self.rolled.get(last)) {
            self.mark(&last.name.clone())?;
        }
        for (_, part) in self.rolled.drain(..shown) {
            disk::rename(&part.name.pending_in(&self.dir), &part.name.shown_in(&self.dir))?;
        }
        self.drop_former_markers()?;
        if shown > 0 && self.context.durable {
            disk::sync_dir(&self.dir)?;
        }
        let rolled = self.rolled.iter_mut().map(|(_, part)| part);
        for part in rolled.chain(self.writing.iter_mut().map(|w| &mut w.part)) {
            part.reach(epoch);
        }
        self.outstanding.retain(|waiting| *waiting > epoch);
        Ok(())
    }

    /// Shows what is committed of each file under way, and drops the rest of it.
    pub(super) fn close(&mut self) -> Result<(), SinkError> {
        let writing = self.writing.take().map(|writing| writing.part);
        let parts: Vec<Part> = self.rolled.drain(..).map(|(_, part)| part).chain(writing).collect();
        if let Some(last) = parts.iter().rfind(|part| part.committed > 0) {
            self.mark(&last.name)?;
        }
        for Part { name, committed, .. } in &parts {
            if !finish(&self.dir, name, *committed)? && *committed > 0 {
                return Err(gone(&self.dir, name, *committed));
            }
        }
        if self.context.durable {
            disk::sync_dir(&self.dir)?;
        }
        self.claim = None;
        Ok(())
    }

    /// Notes, with a checkpoint, that a part and those before it are being given their final names. After a crash, one that
    /// is not there under any name has then been taken away by a reader.
    pub(super) fn mark(&mut self, part: &PartName) -> Result<(), SinkError> {
        if !self.context.durable {
            return Ok(());
        }
        let to = part.marker_in(&self.dir);
        match self.markers.iter_mut().find(|marker| marker.is_beside(part)) {
            Some(marker) if marker.sequence >= part.sequence => {}
            Some(marker) => {
                disk::rename(&marker.marker_in(&self.dir), &to)?;
                marker.sequence = part.sequence;
            }
            None => {
                disk::create(&to)?;
                self.markers.push(part.clone());
            }
        }
        Ok(())
    }

    /// Once this run has committed, what earlier runs have shown is not needed.
    fn drop_former_markers(&mut self) -> Result<(), SinkError> {
        for marker in self.markers.drain(..std::mem::take(&mut self.former_markers)) {
            disk::delete(&marker.marker_in(&self.dir))?;
        }
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        // With a checkpoint, what waits for its commit may have a commit record: that is for the next run to
        // find out, from files that are as they were.
        let undecided = self.context.durable && !self.outstanding.is_empty();
        if !undecided {
            // The query has its error already; what cannot be shown now is as it would be after a crash.
            drop(self.close());
        }
        self.forget();
    }

    /// Our files in the directory, and what each is.
    pub(super) fn list(&self) -> Result<Vec<(PartName, Kind)>, SinkError> {
        let failed = |error| disk::failed("list", &self.dir, error);
        let mut parts = Vec::new();
        for entry in files::list(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            parts.extend(name.to_str().and_then(PartName::parse));
        }
        Ok(parts)
    }

    fn forget(&mut self) {
        self.claim = None;
        self.writing = None;
        self.rolled.clear();
        self.outstanding.clear();
        self.unsynced_names = false;
        self.markers.clear();
        self.former_markers = 0;
    }
}

/// A directory by its whole path, so that it is known again from elsewhere.
pub(super) fn whole(dir: &Path) -> String {
    fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string()
}

/// Gives the first `length` bytes of a file under way their final name. False if there is no such file.
pub(super) fn finish(dir: &Path, part: &PartName, length: u64) -> Result<bool, SinkError> {
    let pending = part.pending_in(dir);
    let there = match fs::metadata(&pending) {
        Ok(file) => file.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(disk::failed("look at", &pending, error)),
    };
    if there < length {
        return Err(disk::lost(&pending, length, there));
    }
    if length == 0 {
        disk::delete(&pending)?;
        return Ok(true);
    }
    if there > length {
        let file = files::open(&pending, File::options().write(true));
        let file = file.map_err(|error| disk::failed("open", &pending, error))?;
        disk::truncate(&file, &pending, length)?;
        disk::sync(&file, &pending)?;
    }
    disk::rename(&pending, &part.shown_in(dir))?;
    Ok(true)
}

/// The error of a part that is not in the directory to which the sink writes now.
pub(super) fn elsewhere(former: &str, dir: &Path, part: &PartName) -> SinkError {
    SinkError::Recovery {
        what: former.to_owned(),
        reason: format!(
            "the query has written its files there, and the sink now writes to {new}, where {} is missing: let the sink write to \
             the old directory; or move all files, with the hidden ones, to {new}; or, to leave them and fill a new \
             directory from here on, give the stream before the sink another uid (`.uid(\"…\")` behind a step) and start once \
             with --drop-state and the former uid, which the error of that start names",
            part.shown(),
            new = dir.display()
        ),
    }
}

/// The error of a part with committed rows that is not there under any name.
pub(super) fn gone(dir: &Path, part: &PartName, length: u64) -> SinkError {
    SinkError::Recovery {
        what: part.pending_in(dir).display().to_string(),
        reason: format!(
            "{length} bytes of it were committed, and neither it nor {} exists. If hidden files \
             were left out when the directory was copied or moved, put them back; or, to continue without these rows, \
             create an empty file {}",
            part.shown(),
            part.marker_in(dir).display()
        ),
    }
}
