//! The files of one instance in a directory of results: which is written, which wait for a commit, which are shown.
//!
//! A file under way holds the rows of one epoch after another; where an epoch ends in it is marked. It is rolled, that
//! is finished, at the end of an epoch only, and gets its final name when that epoch commits. So what has a final name
//! holds committed rows only, and what has none can be cut back to the last committed mark.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_operators::{Committed, Epoch, OutputMode, Prepared, ProcessingTime, SinkContext, SinkError};

use super::super::claim::{self, Claim};
use super::super::disk;
use super::name::PartName;

/// So many bytes are gathered for one call of the system.
const BUFFER: usize = 64 << 10;

/// When a file is finished, looked at as an epoch ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roll {
    pub(super) at: u64,
    pub(super) every: Duration,
}

/// What must be finished of a commit: the directory, names of files in it, and how much of each has been committed.
#[derive(Serialize, Deserialize)]
enum Record {
    V1(String, Vec<(String, u64)>),
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
            disk::write(&mut self.file, &self.path, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    /// The right to the directory, which the instances of the sink have together.
    claim: Option<Claim>,
    pub(super) roll: Roll,
    /// Whether a query that begins may find files of others.
    pub(super) adds: bool,
    context: SinkContext,
    extension: &'static str,
    next: u64,
    writing: Option<Writing>,
    /// Finished files and the epoch with which each is shown.
    rolled: VecDeque<(Epoch, Part)>,
    /// Epochs that are prepared and not committed.
    outstanding: VecDeque<Epoch>,
    /// Whether the directory has names that a crash of the machine may take away.
    unsynced_names: bool,
}

impl Parts {
    pub(super) fn new(dir: PathBuf, extension: &'static str) -> Self {
        Parts {
            dir,
            claim: None,
            roll: Roll { at: 64 << 20, every: Duration::from_secs(60) },
            adds: false,
            context: SinkContext::new("", OutputMode::Append, false),
            extension,
            next: 0,
            writing: None,
            rolled: VecDeque::new(),
            outstanding: VecDeque::new(),
            unsynced_names: false,
        }
    }

    pub(super) fn place(&self) -> PathBuf {
        claim::whole(&self.dir)
    }

    pub(super) fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        disk::make_dirs(&self.dir, context.durable)?;
        let claim = Claim::together(&self.dir, context)?;
        // Nothing that is there is written over, were it the result of a run that had the same number.
        let (worker, execution) = (context.worker as u64, context.execution);
        let same = |part: &PartName| part.worker == worker && part.execution == execution;
        let last =
            self.list()?.into_iter().filter(|(part, _)| same(part)).map(|(part, _)| part.sequence).max();
        // Not before: a run of the same graph may be using what is here.
        self.forget();
        self.context = context.clone();
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
            execution: self.context.execution,
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
        Prepared::of(&Record::V1(whole(&self.dir), parts))
    }

    pub(super) fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let mut shown = false;
        while let Some((last, part)) = self.rolled.front()
            && *last <= epoch
        {
            disk::rename(&part.name.pending_in(&self.dir), &part.name.shown_in(&self.dir))?;
            self.rolled.pop_front();
            shown = true;
        }
        if shown && self.context.durable {
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
        for part in self.rolled.drain(..).map(|(_, part)| part).chain(writing) {
            finish(&self.dir, &part.name, part.committed)?;
        }
        if self.context.durable {
            disk::sync_dir(&self.dir)?;
        }
        self.claim = None;
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        // With a checkpoint, what waits for its commit may be written down as committed: that is for the next run to
        // find out, from files that are as they were.
        let undecided = self.context.durable && !self.outstanding.is_empty();
        if !undecided {
            // The query has its error already; what cannot be shown now is as it would be after a crash.
            drop(self.close());
        }
        self.forget();
    }

    pub(super) fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        for prepared in committed.iter().flat_map(|committed| &committed.prepared) {
            if prepared.is_nothing() {
                continue;
            }
            let Record::V1(dir, parts) = prepared.read()?;
            for (name, length) in parts {
                let Some((part, false)) = PartName::parse(&name) else {
                    let reason = "the checkpoint names it, but no file of ours is called that".to_owned();
                    return Err(SinkError::Recovery { what: name, reason });
                };
                if dir != whole(&self.dir) && part.pending_in(Path::new(&dir)).exists() {
                    let reason = format!(
                        "rows that are committed wait there to be shown, and the sink writes to {} now: give it that \
                         directory, or move the files, also the hidden ones, to the new one first",
                        self.dir.display()
                    );
                    return Err(SinkError::Recovery { what: dir, reason });
                }
                finish(&self.dir, &part, length)?;
            }
        }
        let mut parts = self.list()?;
        parts.retain(|(part, _)| part.extension == self.extension);
        let begins = committed.is_none() && self.context.committed.is_none();
        if begins {
            self.refuse_others(&parts)?;
        }
        // Where other instances still see such files, they need the note.
        if !begins || !parts.iter().any(|(_, pending)| *pending) {
            self.drop_note()?;
        }
        // Whatever is still under way nobody has committed.
        for (part, _) in parts.iter().filter(|(part, pending)| *pending && self.is_ours(part)) {
            disk::delete(&part.pending_in(&self.dir))?;
        }
        if self.context.durable { disk::sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Whether a file that a former run has left under way is to be dealt with here: each instance has its share of
    /// the former instances' files.
    fn is_ours(&self, part: &PartName) -> bool {
        part.worker % self.context.workers.max(1) as u64 == self.context.worker as u64
    }

    /// A checkpoint that has not committed anything has no finished files, nor, in its first run, any under way: what is
    /// there belongs to another one, and its rows would be there twice, or be thrown away.
    fn refuse_others(&self, parts: &[(PartName, bool)]) -> Result<(), SinkError> {
        let dir = self.dir.display();
        // In the first run there are none of this checkpoint but those that other instances have begun. In a later one
        // there may be, from a crash: unless an earlier run has noted that there are others. The note is looked for
        // after the files, since who begins removes it first.
        let noted = self.note().exists();
        let under_way = |(part, pending): &&(PartName, bool)| *pending && (noted || self.is_ours(part));
        let waiting: Vec<_> = parts.iter().filter(under_way).map(|(part, _)| part.pending_name()).collect();
        if let Some(name) = waiting.iter().min().filter(|_| noted || self.context.execution == 0) {
            fs::write(self.note(), "").map_err(|error| disk::failed("write", &self.note(), error))?;
            return Err(SinkError::Setup(format!(
                "{dir} holds {} unfinished files of an earlier run, such as {name}, while the checkpoint of this query is \
                 new: they may have rows that the checkpoint of that run counts as committed. Start the query with that \
                 one; or, if nobody needs them, delete them, or give the sink another directory",
                waiting.len()
            )));
        }
        let shown: Vec<_> =
            parts.iter().filter(|(_, pending)| !pending).map(|(part, _)| part.shown()).collect();
        match shown.iter().min() {
            Some(name) if !self.adds => Err(SinkError::Setup(format!(
                "{dir} holds {} files of an earlier run, such as {name}, while the checkpoint of this query is new: all \
                 rows would be written once more beside them. Start the query with the checkpoint that they belong to; or, \
                 to begin anew, empty the directory or give the sink another one; or, if these rows are to come beside \
                 those, say so by `.add_to_existing()` on the sink",
                shown.len()
            ))),
            _ => Ok(()),
        }
    }

    /// A file that says that files under way belong to another checkpoint: whoever tries again must hear it again.
    fn note(&self) -> PathBuf {
        self.dir.join(format!(".part-others.{}", self.extension))
    }

    fn drop_note(&self) -> Result<(), SinkError> {
        match fs::remove_file(self.note()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(disk::failed("delete", &self.note(), error))
            }
            _ => Ok(()),
        }
    }

    /// Our files in the directory, and whether each is under way.
    fn list(&self) -> Result<Vec<(PartName, bool)>, SinkError> {
        let failed = |error| disk::failed("list", &self.dir, error);
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
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
    }
}

/// A directory by its whole path, so that it is known again from elsewhere.
fn whole(dir: &Path) -> String {
    fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string()
}

/// Gives the first `length` bytes of a file under way their final name, unless that has been done.
fn finish(dir: &Path, part: &PartName, length: u64) -> Result<(), SinkError> {
    let pending = part.pending_in(dir);
    let there = match fs::metadata(&pending) {
        Ok(file) => file.len(),
        // It has its final name, or has even been taken away by a reader who was done with it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk::failed("look at", &pending, error)),
    };
    if there < length {
        let reason = format!("{length} bytes of it were committed, {there} are there");
        return Err(SinkError::Recovery { what: pending.display().to_string(), reason });
    }
    if length == 0 {
        return disk::delete(&pending);
    }
    if there > length {
        let file = File::options().write(true).open(&pending);
        let file = file.map_err(|error| disk::failed("open", &pending, error))?;
        disk::truncate(&file, &pending, length)?;
        disk::sync(&file, &pending)?;
    }
    disk::rename(&pending, &part.shown_in(dir))
}
