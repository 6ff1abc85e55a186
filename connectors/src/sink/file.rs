//! A single file that rows are written to, as bytes: what JSON Lines and CSV have in common.
//!
//! With a checkpoint, `prepare` returns an epoch's bytes and their offset in the file. So a commit can be repeated after a crash,
//! and nothing is in the file before it. Where rows are visible at once, it returns the length of the file: a restart truncates it.
//!
//! Complete tables replace the file as a whole, in both modes: each is written beside it and renamed when its epoch
//! commits. A reader sees the old table or the new one.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_operators::{Committed, Epoch, Prepared, RowKind, SinkContext, SinkError, files};

use super::claim::{self, Claim, Output, Owner, Sharing};
use super::{Pending, disk};

#[derive(Debug)]
pub(super) struct OutFile {
    path: PathBuf,
    pub(super) append: bool,
    /// The open file; none where tables replace it.
    file: Option<File>,
    /// The right to the file.
    claim: Option<Claim>,
    pending: Pending<u8>,
    /// The file that each epoch's table replaces; none where rows are added, or where it is no regular file.
    table: Option<Output>,
    /// Whether a table of this run has been shown.
    shown: bool,
    /// What the sink was told when it was opened.
    context: SinkContext,
    /// With a checkpoint, how long the file is.
    length: u64,
}

/// What must be known to finish a commit.
#[derive(Serialize, Deserialize)]
enum Record {
    /// These bytes come after the first `base` of the file, and nothing else.
    V1 { path: PathBuf, base: u64, bytes: Vec<u8> },
    /// The file holds this table; or, without one, that of an earlier epoch.
    Table { path: PathBuf, bytes: Option<Vec<u8>> },
}

impl OutFile {
    pub(super) fn new(path: PathBuf) -> Self {
        OutFile {
            path,
            append: false,
            file: None,
            claim: None,
            pending: Pending::new(),
            table: None,
            shown: false,
            context: SinkContext::new("", RowKind::Insert, false),
            length: 0,
        }
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn is_regular(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |there| there.is_file())
    }

    /// The file, if it is one: what is written to a pipe or a terminal has other readers, and may have other writers.
    pub(super) fn place(&self) -> Option<PathBuf> {
        self.is_regular().then(|| claim::whole(&self.path))
    }

    /// Whether the file holds the rows of one epoch only.
    pub(super) fn replaces(&self) -> bool {
        self.pending.replaces()
    }

    /// Opens the file, with the directories above it. Returns whether it is empty.
    pub(super) fn open(&mut self, context: &SinkContext) -> Result<bool, SinkError> {
        let complete = context.row_kind == RowKind::Snapshot;
        let parent = self.path.parent().unwrap_or(Path::new(""));
        let durable = context.durable;
        disk::make_dirs(parent, durable)?;
        let failed = |error| disk::failed("open", &self.path, error);
        let (output, is_regular) = (Output::file(&self.path), self.is_regular());
        // Without a checkpoint, those who only append do each other no harm.
        let is_alone = is_regular && (durable || !self.append);
        let claim = match (is_alone, is_regular) {
            (true, _) => Some(self.claim(&output, context)?),
            (false, true) => claim::check_free(&output, context).map(|()| None)?,
            (false, false) => None,
        };
        let mut file = None;
        let table = (complete && is_regular).then_some(output);
        let mut length = 0;
        if table.is_none() {
            let mut options = File::options();
            // What is in it is for `recover` to decide, if there is a checkpoint.
            options.create(true).write(true).append(self.append && !durable).truncate(false);
            let mut opened = files::create(&self.path, &options).map_err(failed)?;
            if is_alone && !durable {
                disk::truncate(&opened, &self.path, 0)?;
            }
            length = opened.metadata().map_err(failed)?.len();
            if durable && is_regular {
                opened.seek(SeekFrom::End(0)).map_err(failed)?;
                disk::sync_dir(parent)?;
            }
            file = Some(opened);
        }
        // Not before: a run of the same graph may be using what is here.
        self.pending.open(context);
        // A table is whole when its epoch is.
        self.pending.immediate &= table.is_none();
        (self.claim, self.file, self.table, self.length) = (claim, file, table, length);
        (self.shown, self.context) = (false, context.clone());
        Ok(length == 0)
    }

    /// Claims the file, unless it holds rows of another query.
    fn claim(&self, output: &Output, context: &SinkContext) -> Result<Claim, SinkError> {
        let begins = context.committed.is_none() && !context.fork;
        let consents = context.take_over || (self.append && context.durable && begins);
        Claim::new(output, context, Sharing::Alone, |owner| match owner {
            Owner::Other(claim) if !consents && !is_empty(&self.path) => {
                Err(claim::refusal(output, claim, context))
            }
            _ => Ok(0),
        })
    }

    /// Finishes what was committed and removes what was not. Returns whether the file is empty.
    pub(super) fn recover(&mut self, committed: Option<Committed>) -> Result<bool, SinkError> {
        // What another query has prepared is in its own file.
        let fork = self.context.fork;
        let committed = committed.filter(|_| !fork);
        // A query that has committed epochs, but none that this sink knows of, had its results written by another
        // sink, perhaps into this very file.
        let begins = fork || self.context.committed.is_none();
        let fresh = committed.is_none() && begins && !self.append;
        for prepared in committed.iter().flat_map(|committed| &committed.prepared) {
            if prepared.is_nothing() {
                continue;
            }
            let record = prepared.read()?;
            let (Record::V1 { path, .. } | Record::Table { path, .. }) = &record;
            self.refuse_other_kind(path, matches!(record, Record::Table { .. }))?;
            let is_here = *path == self.path;
            // Held until the record is finished.
            let _claim = if is_here { None } else { Some(self.claim_former(path)?) };
            let length = match &record {
                Record::V1 { path, base, bytes } => finish(path, *base, bytes)?,
                Record::Table { path, bytes: Some(bytes) } => replace(path, bytes, true)?,
                Record::Table { bytes: None, .. } => self.length,
            };
            if is_here {
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

    /// Refuses to replace a file of rows by tables, and to write rows after a table.
    fn refuse_other_kind(&self, path: &Path, held_table: bool) -> Result<(), SinkError> {
        let (was, is) = match (held_table, self.table.is_some()) {
            (true, false) => (RowKind::Snapshot, "would write rows after it"),
            (false, true) => (RowKind::Insert, "would replace them with a table"),
            _ => return Ok(()),
        };
        if *path != self.path {
            return Ok(());
        }
        let (path, now) = (path.display(), self.context.row_kind);
        Err(SinkError::Setup(format!(
            "an earlier run wrote {was} to {path}, and this one, whose rows are {now}, {is}: give the sink another file"
        )))
    }

    /// Claims a file that an earlier run wrote to, in which something may be left to finish.
    fn claim_former(&self, path: &Path) -> Result<Claim, SinkError> {
        disk::check_former(path, &self.path)?;
        let (output, context) = (Output::file(path), &self.context);
        Claim::new(&output, context, Sharing::Query, |owner| match owner {
            Owner::Other(claim) if !context.take_over => Err(claim::refusal(&output, claim, context)),
            _ => Ok(0),
        })
    }

    pub(super) fn write(&mut self, epoch: Epoch, mut bytes: Vec<u8>) -> Result<(), SinkError> {
        self.pending.add(epoch, &mut bytes).map_or(Ok(()), |bytes| self.show(&bytes))
    }

    pub(super) fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        if !self.context.durable {
            return Ok(Prepared::nothing());
        }
        let path = self.path.clone();
        let waiting = self.pending.epochs.iter().take_while(|(waiting, _)| *waiting <= epoch);
        if self.table.is_some() {
            let bytes = waiting.last().map(|(_, table)| table.clone());
            return Prepared::of(&Record::Table { path, bytes });
        }
        if self.pending.immediate
            && let Some(file) = &self.file
        {
            disk::sync(file, &self.path)?;
        }
        let mut bytes = Vec::new();
        waiting.for_each(|(_, rows)| bytes.extend_from_slice(rows));
        Prepared::of(&Record::V1 { path, base: self.length, bytes })
    }

    pub(super) fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let epochs = self.pending.commit(epoch);
        if let Some(output) = &self.table {
            if let Some((_, table)) = epochs.last() {
                replace(&output.path, table, self.context.durable)?;
                self.shown = true;
            }
            return Ok(());
        }
        let some = !epochs.is_empty();
        epochs.into_iter().try_for_each(|(_, bytes)| self.show(&bytes))?;
        match &self.file {
            Some(file) if some && self.context.durable => disk::sync(file, &self.path),
            _ => Ok(()),
        }
    }

    pub(super) fn close(&mut self) -> Result<(), SinkError> {
        // The table of a query that begins and has no rows is an empty one.
        let begins = self.context.committed.is_none() || self.context.fork;
        if let Some(output) = self.table.take().filter(|_| begins && !self.shown) {
            replace(&output.path, &[], self.context.durable)?;
        }
        self.claim = None;
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        self.pending.abort();
        self.claim = None;
    }

    fn show(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let Some(file) = &self.file else {
            return Err(SinkError::Setup(format!(
                "{} is not open: a defect of Tidemill, please report it",
                self.path.display()
            )));
        };
        disk::write(file, &self.path, bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Whether a file has nothing that could be lost.
fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |there| there.len() == 0)
}

/// Makes the file end with these bytes after the first `base`, whatever of them is there already. Returns its length.
fn finish(path: &Path, base: u64, bytes: &[u8]) -> Result<u64, SinkError> {
    let failed = |error| disk::failed("open", path, error);
    let mut file = files::open(path, File::options().write(true)).map_err(failed)?;
    let there = file.metadata().map_err(failed)?.len();
    if there < base {
        return Err(disk::lost(path, base, there));
    }
    let end = base + bytes.len() as u64;
    if !bytes.is_empty() {
        // Over the old rows: a reader who has seen these rows does not see them vanish.
        file.seek(SeekFrom::Start(base)).map_err(failed)?;
        disk::write(&file, path, bytes)?;
    }
    if there > end {
        disk::truncate(&file, path, end)?;
    }
    disk::sync(&file, path)?;
    Ok(end)
}

/// Replaces the file by one with these bytes, so that readers and crashes see the old or the new ones. Returns its length.
///
/// The bytes are always synced before the file gets its name: a crash of the machine must not leave an empty table. That
/// the new name is there after it matters only where the replacement is `durable`.
fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<u64, SinkError> {
    // A link stays one.
    let path = claim::whole(path);
    let beside = claim::hidden_beside(&path, ".pending");
    let file = disk::create_over(&beside)?;
    if let Ok(former) = std::fs::metadata(&path) {
        let kept = file.set_permissions(former.permissions());
        kept.map_err(|error| disk::failed("set the permissions of", &beside, error))?;
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    disk::write(&file, &beside, first)?;
    disk::write(&file, &beside, second)?;
    disk::sync(&file, &beside)?;
    disk::rename(&beside, &path)?;
    if durable {
        disk::sync_dir(path.parent().unwrap_or(Path::new("")))?;
    }
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tidemill_operators::Sink;

    use super::super::at_commit::at_commit;
    use super::super::crash::{Drive, Overlap, ROWS, empty, identity, numbers, scratch};
    use super::super::file_sink::{FileSink, csv_sink, json_lines_sink};
    use super::*;

    fn drive<S: Sink<u64>>(
        dir: &Path,
        wrap: impl Fn(FileSink) -> S + 'static,
    ) -> Drive<S, impl Fn() -> Vec<u64> + Clone + 'static> {
        let (dir, read) = (dir.to_owned(), dir.to_owned());
        let make = move |worker: usize| wrap(json_lines_sink(dir.join(format!("{worker}.jsonl"))));
        Drive::new(make, move || numbers(&read))
    }

    #[test]
    fn crash_after_any_step_shows_committed_rows_once() {
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
        let drive = Drive { overlap: Overlap::Recorded, ..drive(scratch.path(), FileSink::append) };
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
    fn complete_table_is_whole_after_each_step() {
        let scratch = scratch();
        for (overlap, immediate) in [
            (Overlap::None, false),
            (Overlap::None, true),
            (Overlap::Prepared, false),
            (Overlap::Recorded, true),
        ] {
            let drive = drive(scratch.path(), |sink| sink);
            let read = drive.visible;
            let visible = move || {
                let rows = read();
                assert!(rows.is_empty() || rows.len() as u64 == ROWS, "a torn table: {rows:?}");
                rows
            };
            let mode = RowKind::Snapshot;
            let drive = Drive { overlap, immediate, mode, ..Drive::new(drive.make, visible) };
            let begin = || {
                empty(scratch.path());
                drive.begin(true);
            };
            drive.crash_after_each_step(1, 1, begin, || {});
            // One that was there before the run stays until there is a new one.
            for fuse in 0..30 {
                begin();
                drive.begin(false);
                std::fs::write(scratch.path().join("0.jsonl"), "7\n7\n7\n7\n7\n").unwrap();
                drive.run(0, 1, Some(fuse));
                assert_eq!(numbers(scratch.path()).len() as u64, ROWS);
            }
        }
    }

    #[test]
    fn complete_table_replaces_a_file_that_stays_as_it_was_shared() {
        let scratch = scratch();
        let (path, link) = (scratch.path().join("table"), scratch.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        let write = |rows: Vec<u64>| {
            let mut sink = json_lines_sink(&link);
            let context = SinkContext::new("test", RowKind::Snapshot, false);
            Sink::<u64>::open(&mut sink, &context).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
            if !rows.is_empty() {
                sink.write(Epoch::new(0), &mut rows.clone()).unwrap();
            }
            Sink::<u64>::prepare(&mut sink, Epoch::new(0)).unwrap();
            Sink::<u64>::commit(&mut sink, Epoch::new(0)).unwrap();
            Sink::<u64>::close(&mut sink).unwrap();
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::os::unix::fs::symlink(&path, &link).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
            write(vec![1, 2]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
            std::fs::write(&path, "old").unwrap();
            // A run that ends without a row has an empty table.
            write(vec![]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        }
    }

    /// The context of a run with that number, of the query with that id, whose first epoch is `first`.
    fn context(id: &str, execution: u64, first: u64) -> SinkContext {
        let context = SinkContext::new(id, RowKind::Insert, false).durable(execution);
        let context = context.identified(identity(id, execution)).of_sink("sink", 1);
        match first.checked_sub(1) {
            Some(committed) => context.after_commit(Epoch::new(committed)),
            None => context,
        }
    }

    fn begin(
        mut sink: FileSink,
        context: &SinkContext,
        committed: Option<&Committed>,
    ) -> Result<FileSink, SinkError> {
        Sink::<u64>::open(&mut sink, context)?;
        Sink::<u64>::recover(&mut sink, committed.cloned())?;
        Ok(sink)
    }

    fn commit(sink: &mut FileSink, epoch: u64) -> Committed {
        sink.write(Epoch::new(epoch), &mut vec![epoch]).unwrap();
        let prepared = vec![Sink::<u64>::prepare(sink, Epoch::new(epoch)).unwrap()];
        Sink::<u64>::commit(sink, Epoch::new(epoch)).unwrap();
        Committed { epoch: Epoch::new(epoch), prepared }
    }

    #[test]
    fn fork_leaves_file_of_its_origin_alone() {
        let scratch = scratch();
        let (origin, own) = (scratch.path().join("origin"), scratch.path().join("own"));
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let mut first = begin(json_lines_sink(&origin), &context("one", 1, 0), None).unwrap();
        let savepoint = commit(&mut first, 0);
        let last = commit(&mut first, 1);
        let fork = context("two", 2, 1).as_fork(true);
        let error = begin(json_lines_sink(&origin), &fork, Some(&savepoint)).err().unwrap().to_string();
        assert!(error.contains("is being written to by"), "{error}");
        for stopped in [false, true] {
            let mut forked = begin(json_lines_sink(&own), &fork, Some(&savepoint)).unwrap();
            commit(&mut forked, 1);
            assert_eq!((text(&origin), text(&own)), ("0\n1\n".to_owned(), "1\n".to_owned()), "{stopped}");
            drop(forked);
            if !stopped {
                Sink::<u64>::close(&mut first).unwrap();
            }
        }
        for sink in [json_lines_sink(&origin), json_lines_sink(&origin).append()] {
            let error = begin(sink, &fork, Some(&savepoint)).err().unwrap().to_string();
            assert!(error.contains("starts from a savepoint") && error.contains("--take-over"), "{error}");
        }
        assert_eq!(text(&origin), "0\n1\n");
        // The origin continues; and where it is to be replaced, the file ends with the savepoint.
        drop(begin(json_lines_sink(&origin), &context("one", 2, 2), Some(&last)).unwrap());
        let moved = context("three", 2, 1).taking_over(true);
        let mut moved = begin(json_lines_sink(&origin), &moved, Some(&savepoint)).unwrap();
        assert_eq!(text(&origin), "0\n");
        commit(&mut moved, 1);
        drop(moved);
        let error = begin(json_lines_sink(&origin), &context("one", 3, 2), Some(&last)).err().unwrap();
        assert!(error.to_string().contains("belongs to the query `three`"), "{error}");
    }

    #[test]
    fn copied_checkpoint_is_refused_where_the_original_went_on() {
        let scratch = scratch();
        let path = scratch.path().join("rows");
        let mut first = begin(json_lines_sink(&path), &context("one", 1, 0), None).unwrap();
        let committed = commit(&mut first, 0);
        drop(first);
        let of_copy = |execution| {
            let runs = vec![(1, "run 1".to_owned()), (execution, "of the copy".to_owned())];
            let identity = tidemill_operators::QueryIdentity::new("one", runs);
            context("one", execution, 1).identified(std::sync::Arc::new(identity))
        };
        let original = begin(json_lines_sink(&path), &context("one", 2, 1), Some(&committed));
        commit(&mut original.unwrap(), 1);
        for execution in [2, 3] {
            let error = begin(json_lines_sink(&path), &of_copy(execution), Some(&committed)).err().unwrap();
            assert!(error.to_string().contains("a copy of the other"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\n");
    }

    #[test]
    fn claimed_file_is_refused_to_others_while_it_has_rows() {
        let scratch = scratch();
        let path = scratch.path().join("rows");
        let mut first = begin(json_lines_sink(&path), &context("one", 1, 0), None).unwrap();
        commit(&mut first, 0);
        drop(first);
        let without = SinkContext::new("plain", RowKind::Insert, false);
        let open = |mut sink: FileSink, context: &SinkContext| Sink::<u64>::open(&mut sink, context);
        for sink in [json_lines_sink(&path), json_lines_sink(&path).append()] {
            let error = open(sink, &without).unwrap_err().to_string();
            assert!(error.contains("this run has none"), "{error}");
        }
        assert!(open(json_lines_sink(&path), &context("two", 1, 0)).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n");
        // A new query that appends says by that what it wants.
        commit(&mut begin(json_lines_sink(&path).append(), &context("two", 1, 0), None).unwrap(), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n0\n");
        std::fs::remove_file(&path).unwrap();
        open(json_lines_sink(&path), &context("three", 1, 0)).unwrap();
        open(json_lines_sink(&path), &without).unwrap();
    }

    #[test]
    fn a_complete_table_and_a_csv_header_survive_a_restart() {
        #[derive(Serialize)]
        struct Count {
            count: u64,
        }
        let scratch = scratch();
        let path = scratch.path().join("x.csv");
        for (mode, expected) in [(RowKind::Insert, "count\n0\n1\n2\n"), (RowKind::Snapshot, "count\n2\n")] {
            let mut committed = None;
            for epoch in 0..3 {
                // Each run ends between the record of the commit and the commit.
                let mut sink = csv_sink(&path);
                let context = SinkContext::new("test", mode, false).durable(epoch);
                Sink::<Count>::open(&mut sink, &context).unwrap();
                Sink::<Count>::recover(&mut sink, committed).unwrap();
                sink.write(Epoch::new(epoch), &mut vec![Count { count: epoch }]).unwrap();
                let prepared = vec![Sink::<Count>::prepare(&mut sink, Epoch::new(epoch)).unwrap()];
                committed = Some(Committed { epoch: Epoch::new(epoch), prepared });
            }
            let mut sink = csv_sink(&path);
            Sink::<Count>::open(&mut sink, &SinkContext::new("test", mode, false).durable(3)).unwrap();
            Sink::<Count>::recover(&mut sink, committed.clone()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
            let other = if mode == RowKind::Insert { RowKind::Snapshot } else { RowKind::Insert };
            let mut changed = csv_sink(&path);
            drop(sink);
            Sink::<Count>::open(&mut changed, &SinkContext::new("test", other, false).durable(4)).unwrap();
            let refused = Sink::<Count>::recover(&mut changed, committed.clone()).unwrap_err().to_string();
            assert!(refused.contains(&format!("wrote {mode}")), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
            drop(changed);
            let mut sink = csv_sink(&path);
            Sink::<Count>::open(&mut sink, &SinkContext::new("test", mode, false).durable(5)).unwrap();
            std::fs::write(&path, "").unwrap();
            let again = Sink::<Count>::recover(&mut sink, committed);
            assert_eq!(again.is_err(), mode == RowKind::Insert, "{again:?}");
        }
    }
}
