//! A single file that rows are written to, as bytes: what JSON Lines and CSV have in common.
//!
//! With a checkpoint, an epoch's bytes are part of what its `prepare` returns, together with where in the file they
//! belong. So the commit can be done again after a crash, to the same place, and nothing is in the file before it.
//! Where rows are shown at once, the length of the file is kept instead: what is beyond it is cut off after a crash.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_operators::{Committed, Epoch, OutputMode, Prepared, SinkContext, SinkError};

use super::claim::{self, Claim};
use super::{Pending, disk};

#[derive(Debug)]
pub(super) struct OutFile {
    path: PathBuf,
    pub(super) append: bool,
    file: Option<File>,
    /// The right to the file.
    claim: Option<Claim>,
    pending: Pending<u8>,
    /// The epoch that was shown last.
    shown: Option<Epoch>,
    durable: bool,
    /// Whether the query has committed nothing yet.
    begins: bool,
    /// With a checkpoint, how long the file is.
    length: u64,
}

/// What must be known to finish a commit: that these bytes come after the first `base` of the file, and nothing else.
#[derive(Serialize, Deserialize)]
enum Record {
    V1 { path: PathBuf, base: u64, bytes: Vec<u8> },
}

impl OutFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let pending = Pending::new();
        OutFile {
            path,
            append: false,
            file: None,
            claim: None,
            pending,
            shown: None,
            durable: false,
            begins: true,
            length: 0,
        }
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The file, if it is one: what is written to a pipe or a terminal has other readers, and may have other writers.
    pub(super) fn place(&self) -> Option<PathBuf> {
        let is_file = std::fs::metadata(&self.path).map_or(true, |there| there.is_file());
        is_file.then(|| claim::whole(&self.path))
    }

    /// Whether the file holds the rows of one epoch only.
    pub(super) fn replaces(&self) -> bool {
        self.pending.replaces()
    }

    /// Opens the file, with the directories above it. Returns whether it is empty.
    pub(super) fn open(&mut self, context: &SinkContext) -> Result<bool, SinkError> {
        if self.append && context.output_mode == OutputMode::Complete {
            return Err(SinkError::Setup(format!(
                "{} cannot be appended to: every epoch outputs the complete table, which replaces the last one",
                self.name()
            )));
        }
        let parent = self.path.parent().unwrap_or(Path::new(""));
        let durable = context.durable;
        disk::make_dirs(parent, durable)?;
        let failed = |error| disk::failed("open", &self.path, error);
        let mut options = File::options();
        // What is in it is for `recover` to decide, if there is a checkpoint, and may be another's.
        options.create(true).write(true).append(self.append && !durable).truncate(false);
        let mut file = options.open(&self.path).map_err(failed)?;
        // Without a checkpoint, those who only append do each other no harm.
        let is_alone = file.metadata().map_err(failed)?.is_file() && (durable || !self.append);
        let claim = if is_alone { Some(Claim::alone(&self.path, context)?) } else { None };
        if is_alone && !durable {
            file.set_len(0).map_err(failed)?;
        }
        let length = file.metadata().map_err(failed)?.len();
        if durable {
            file.seek(SeekFrom::End(0)).map_err(failed)?;
            disk::sync_dir(parent)?;
        }
        // Not before: a run of the same graph may be using what is here.
        self.pending.open(context);
        (self.shown, self.begins, self.durable) = (None, context.committed.is_none(), durable);
        (self.claim, self.file, self.length) = (claim, Some(file), length);
        Ok(length == 0)
    }

    /// Finishes what was committed and takes back what was not. Returns whether the file is empty.
    pub(super) fn recover(&mut self, committed: Option<Committed>) -> Result<bool, SinkError> {
        // A query that has committed epochs, but none that this sink knows of, had its results written by another
        // sink, perhaps into this very file.
        let fresh = committed.is_none() && self.begins && !self.append;
        for prepared in committed.iter().flat_map(|committed| &committed.prepared) {
            if prepared.is_nothing() {
                continue;
            }
            let Record::V1 { path, base, bytes } = prepared.read()?;
            let length = finish(&path, base, &bytes)?;
            if path == self.path {
                self.length = length;
            }
        }
        if let Some(file) = &mut self.file {
            if fresh {
                disk::truncate(file, &self.path, 0)?;
                self.length = 0;
            }
            let place = file.seek(SeekFrom::Start(self.length));
            place.map_err(|error| disk::failed("open", &self.path, error))?;
        }
        Ok(self.length == 0)
    }

    pub(super) fn write(&mut self, epoch: Epoch, mut bytes: Vec<u8>) -> Result<(), SinkError> {
        self.pending.add(epoch, &mut bytes).map_or(Ok(()), |bytes| self.show(epoch, &bytes))
    }

    pub(super) fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        if !self.durable {
            return Ok(Prepared::nothing());
        }
        let (mut base, mut bytes) = (self.length, Vec::new());
        if self.pending.immediate {
            if let Some(file) = &self.file {
                disk::sync(file, &self.path)?;
            }
            if self.replaces() {
                // The next epoch overwrites this one's table at once; there is no going back to it.
                return Ok(Prepared::nothing());
            }
        }
        for (_, rows) in self.pending.epochs.iter().take_while(|(waiting, _)| *waiting <= epoch) {
            if self.replaces() {
                base = 0;
                bytes.clear();
            }
            bytes.extend_from_slice(rows);
        }
        Prepared::of(&Record::V1 { path: self.path.clone(), base, bytes })
    }

    pub(super) fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let epochs = self.pending.commit(epoch);
        let some = !epochs.is_empty();
        epochs.into_iter().try_for_each(|(epoch, bytes)| self.show(epoch, &bytes))?;
        match &self.file {
            Some(file) if some && self.durable => disk::sync(file, &self.path),
            _ => Ok(()),
        }
    }

    pub(super) fn close(&mut self) {
        self.claim = None;
    }

    pub(super) fn abort(&mut self) {
        self.pending.abort();
        self.claim = None;
    }

    fn show(&mut self, epoch: Epoch, bytes: &[u8]) -> Result<(), SinkError> {
        let fresh = self.replaces() && self.shown != Some(epoch);
        let Some(file) = &mut self.file else {
            return Err(SinkError::Setup(format!("{} has not been opened", self.path.display())));
        };
        if fresh {
            disk::truncate(file, &self.path, 0)?;
            let start = file.seek(SeekFrom::Start(0));
            start.map_err(|error| disk::failed("write to", &self.path, error))?;
            self.length = 0;
        }
        disk::write(file, &self.path, bytes)?;
        self.length += bytes.len() as u64;
        self.shown = Some(epoch);
        Ok(())
    }
}

/// Makes the file end with these bytes after the first `base`, whatever of them is there already. Returns its length.
fn finish(path: &Path, base: u64, bytes: &[u8]) -> Result<u64, SinkError> {
    let failed = |error| disk::failed("open", path, error);
    let mut file = File::options().write(true).open(path).map_err(failed)?;
    let there = file.metadata().map_err(failed)?.len();
    if there < base {
        let reason = format!("{base} bytes of it were committed, {there} are there");
        return Err(SinkError::Recovery { what: path.display().to_string(), reason });
    }
    let end = base + bytes.len() as u64;
    if !bytes.is_empty() {
        // Over what is there: a reader who has seen these rows does not see them vanish.
        file.seek(SeekFrom::Start(base)).map_err(failed)?;
        disk::write(&mut file, path, bytes)?;
    }
    if there > end {
        disk::truncate(&file, path, end)?;
    }
    disk::sync(&file, path)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tidemill_operators::Sink;

    use super::super::at_commit::at_commit;
    use super::super::crash::{Drive, Overlap, ROWS, empty, numbers, scratch};
    use super::super::csv::csv_sink;
    use super::super::json_lines::{JsonLinesSink, json_lines_sink};
    use super::*;

    fn drive<S: Sink<u64>>(
        dir: &Path,
        wrap: impl Fn(JsonLinesSink) -> S + 'static,
    ) -> Drive<S, impl Fn() -> Vec<u64> + Clone + 'static> {
        let (dir, read) = (dir.to_owned(), dir.to_owned());
        let make = move |worker: usize| wrap(json_lines_sink(dir.join(format!("{worker}.jsonl"))));
        Drive::new(make, move || numbers(&read))
    }

    #[test]
    fn a_crash_after_any_step_loses_nothing_repeats_nothing_and_shows_nothing_uncommitted() {
        let scratch = scratch();
        for (first, then) in [(1, 1), (2, 1), (1, 3)] {
            for (overlap, abort) in
                [(Overlap::None, false), (Overlap::Prepared, false), (Overlap::Recorded, true)]
            {
                let drive = Drive { overlap, abort, immediate: true, ..drive(scratch.path(), at_commit) };
                let begin = || {
                    empty(scratch.path());
                    drive.begin(true);
                };
                drive.crash_after_each_step(first, then, begin, || {});
            }
        }
    }

    #[test]
    fn rows_that_were_shown_at_once_are_taken_back_and_come_again() {
        let scratch = scratch();
        let drive = Drive { immediate: true, ..drive(scratch.path(), |sink| sink) };
        let begin = || {
            empty(scratch.path());
            drive.begin(false);
        };
        // In continuous mode what comes after a crash need not be what came before it.
        let tear = || {
            if let Ok(mut file) = File::options().append(true).open(scratch.path().join("0.jsonl")) {
                file.write_all(&[b'7'; 200]).unwrap();
            }
        };
        drive.crash_after_each_step(1, 1, begin, tear);
    }

    #[test]
    fn what_was_in_a_file_that_is_appended_to_stays() {
        let scratch = scratch();
        let drive = Drive { overlap: Overlap::Recorded, ..drive(scratch.path(), JsonLinesSink::append) };
        let path = scratch.path().join("0.jsonl");
        for fuse in 0..40 {
            drive.begin(false);
            std::fs::write(&path, "77\n").unwrap();
            drive.run(0, 1, Some(fuse));
            assert!(drive.run(1, 1, None));
            let rows: Vec<_> = std::iter::once(77).chain(0..drive.epochs * ROWS).collect();
            assert_eq!(numbers(scratch.path()), rows);
        }
    }

    #[test]
    fn a_complete_table_and_a_csv_header_survive_a_restart() {
        #[derive(Serialize)]
        struct Count {
            count: u64,
        }
        let scratch = scratch();
        let path = scratch.path().join("x.csv");
        for (mode, expected) in
            [(OutputMode::Append, "count\n0\n1\n2\n"), (OutputMode::Complete, "count\n2\n")]
        {
            let mut committed = None;
            for epoch in 0..3 {
                // Each run ends between the record of the commit and the commit.
                let mut sink = csv_sink(&path);
                let context = SinkContext::new("test", mode, false).durable(epoch);
                Sink::<Count>::open(&mut sink, &context).unwrap();
                Sink::<Count>::recover(&mut sink, committed).unwrap();
                sink.write(Epoch(epoch), &mut vec![Count { count: epoch }]).unwrap();
                let prepared = vec![Sink::<Count>::prepare(&mut sink, Epoch(epoch)).unwrap()];
                committed = Some(Committed { epoch: Epoch(epoch), prepared });
            }
            let mut sink = csv_sink(&path);
            Sink::<Count>::open(&mut sink, &SinkContext::new("test", mode, false).durable(3)).unwrap();
            Sink::<Count>::recover(&mut sink, committed.clone()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
            std::fs::write(&path, "").unwrap();
            let again = Sink::<Count>::recover(&mut sink, committed);
            assert_eq!(again.is_err(), mode == OutputMode::Append, "{again:?}");
        }
    }
}
