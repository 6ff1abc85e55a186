//! Followed files that are rotated, truncated, replaced and removed, in both modes, with restarts in between.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tidemill_operators::{PlanLimits, ProcessingTime, Source, SourceError, SourceLog};

use super::{FileOffset, TextFiles, text_files};
use crate::source::testing::{Drive, starts, warnings};

#[derive(Default)]
struct Log(Mutex<Vec<Vec<u8>>>);

impl SourceLog for Log {
    fn append(&self, entry: &[u8]) -> Result<(), SourceError> {
        self.0.lock().unwrap().push(entry.to_vec());
        Ok(())
    }
    fn entries(&self) -> Result<Vec<Vec<u8>>, SourceError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// A query over followed files that can be stopped and started again.
struct Query {
    pattern: PathBuf,
    partitions: u32,
    continuous: bool,
    log: Arc<Log>,
    drive: Drive<TextFiles>,
    seconds: i64,
    rows: Vec<String>,
}

impl Query {
    fn source(&self) -> TextFiles {
        let source = text_files(self.pattern.display().to_string()).partitions(self.partitions).follow();
        let source = source.block_size(16);
        starts(&source, Some(Arc::clone(&self.log) as Arc<dyn SourceLog>)).unwrap();
        source
    }

    fn start(pattern: PathBuf, partitions: u32, continuous: bool) -> Query {
        let log = Arc::new(Log::default());
        let source = text_files(pattern.display().to_string()).partitions(partitions).follow();
        let source = source.block_size(16);
        let begin = starts(&source, Some(Arc::clone(&log) as Arc<dyn SourceLog>)).unwrap();
        let drive = Drive::resume(source, &begin).unwrap();
        Query { pattern, partitions, continuous, log, drive, seconds: 0, rows: Vec::new() }
    }

    fn pass(&mut self, seconds: i64) {
        self.seconds += seconds;
        self.drive.set_clock(self.seconds * 1_000_000);
    }

    fn try_read(&mut self) -> Result<Vec<String>, SourceError> {
        self.pass(1);
        let mut all = Vec::new();
        for _ in 0..2 {
            let rows = if self.continuous { self.drive.read()? } else { self.drive.epoch(None)? };
            all.extend(rows.into_iter().flatten().map(String::from));
        }
        self.rows.extend(all.clone());
        Ok(all)
    }

    fn epoch(&mut self) {
        self.pass(1);
        let rows = self.drive.epoch(None).unwrap();
        self.rows.extend(rows.into_iter().flatten().map(String::from));
    }

    fn read(&mut self) -> Vec<String> {
        self.try_read().unwrap()
    }

    /// Reads until what waits for a time has come.
    fn read_all(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        for _ in 0..6 {
            self.pass(100);
            rows.extend(self.read());
        }
        rows
    }

    fn plan(&self) -> Vec<FileOffset> {
        let limits = PlanLimits::new(None, ProcessingTime::from_micros(self.seconds * 1_000_000));
        self.drive.source.refresh(&limits).unwrap();
        let latest = |(partition, from)| self.drive.source.latest(partition, &from, &limits).unwrap();
        (0..).zip(self.drive.offsets()).map(latest).collect()
    }

    /// Goes on from a checkpoint, as the driver does.
    fn resume(&mut self, from: &[FileOffset]) {
        let source = self.source();
        let limits = PlanLimits::new(None, ProcessingTime::from_micros(self.seconds * 1_000_000));
        for (partition, from) in (0..).zip(from) {
            source.latest(partition, from, &limits).unwrap();
        }
        self.drive = Drive::resume(source, from).unwrap();
        self.pass(1);
    }

    fn restart(&mut self) {
        let from = self.drive.offsets();
        self.resume(&from);
    }
}

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn truncate(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Every mode, number of partitions and pattern, with and without a restart at each step.
fn everywhere(mut scenario: impl FnMut(&mut Query, &Path, &mut dyn FnMut(&mut Query))) {
    for continuous in [false, true] {
        for partitions in [1, 2, 4] {
            for pattern in ["app.log", "app.log*", ""] {
                for restarts in [false, true] {
                    let dir = tempfile::tempdir().unwrap();
                    let file = dir.path().join("app.log");
                    append(&file, "old 1\nold 2\nold 3\n");
                    let mut query = Query::start(dir.path().join(pattern), partitions, continuous);
                    assert_eq!(query.read(), ["old 1", "old 2", "old 3"]);
                    let mut step = |query: &mut Query| {
                        if restarts {
                            query.restart();
                        }
                    };
                    step(&mut query);
                    scenario(&mut query, &file, &mut step);
                }
            }
        }
    }
}

#[test]
fn truncated_file_is_read_from_its_beginning() {
    everywhere(|query, file, step| {
        truncate(file, 0);
        step(query);
        append(file, "new 1\n");
        step(query);
        assert_eq!(query.read(), ["new 1"]);
        append(file, "new 2\nnew 3\nnew 4\nnew");
        assert_eq!(query.read(), ["new 2", "new 3", "new 4"]);
        append(file, " 5\n");
        assert_eq!(query.read(), ["new 5"]);
        // Longer than before when it is looked at again.
        fs::write(file, "again 1\nagain 2\nagain 3\nagain 4\nagain 5\nagain 6\n").unwrap();
        step(query);
        assert_eq!(query.read_all().len(), 6);
        // As long as before.
        fs::write(file, "AGAIN 1\nAGAIN 2\nAGAIN 3\nAGAIN 4\nAGAIN 5\nAGAIN 6\n").unwrap();
        assert_eq!(query.read_all()[5], "AGAIN 6");
        assert_eq!(query.read_all(), Vec::<String>::new());
    });
}

#[test]
fn file_truncated_right_after_an_epoch_loses_nothing() {
    for (partitions, copied) in [(1, false), (2, false), (4, false), (1, true), (2, true), (4, true)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.log");
        append(&file, "one\n");
        let (rows, said) = warnings(|| {
            let mut query = Query::start(file.clone(), partitions, false);
            for text in ["two\nthree\nfour\nfive\n", "six\nseven\n", "eight\nnine\n"] {
                // One epoch each, so that none finds the file at rest before it is truncated.
                query.epoch();
                append(&file, text);
                query.epoch();
                if copied {
                    fs::copy(&file, dir.path().join(format!("app.log.{}", text.len()))).unwrap();
                }
                truncate(&file, 0);
                append(&file, "new\n");
            }
            query.read_all();
            query.rows.sort();
            query.rows
        });
        let all =
            ["eight", "five", "four", "new", "new", "new", "nine", "one", "seven", "six", "three", "two"];
        assert_eq!(rows, all, "{partitions} partitions, {copied}");
        assert!(said.iter().all(|said| !said.contains("lost")), "{said:?}");
    }
}

#[test]
fn renamed_file_is_read_to_its_end_and_new_one_too() {
    everywhere(|query, file, step| {
        append(file, "old 4\n");
        let renamed = file.with_file_name("app.log.1");
        fs::rename(file, &renamed).unwrap();
        step(query);
        append(&renamed, "old 5\n");
        assert_eq!(query.read(), ["old 4", "old 5"]);
        append(&renamed, "old 6\n");
        step(query);
        append(file, "new 1\n");
        let mut rows = query.read();
        step(query);
        append(file, "new 2\nnew 3\n");
        rows.extend(query.read());
        assert_eq!(rows, ["old 6", "new 1", "new 2", "new 3"]);
        fs::rename(&renamed, file.with_file_name("app.log.2")).unwrap();
        fs::rename(file, &renamed).unwrap();
        append(file, "newer 1\n");
        step(query);
        assert_eq!(query.read_all(), ["newer 1"]);
    });
}

#[test]
fn writer_that_keeps_renamed_file_open_tears_no_line() {
    everywhere(|query, file, _| {
        append(file, "old 4\nhalf a");
        query.read();
        let mut writer = fs::File::options().append(true).open(file).unwrap();
        fs::rename(file, file.with_file_name("app.log.1")).unwrap();
        append(file, "new 1\n");
        query.read();
        writer.write_all(b" line\n").unwrap();
        query.read();
        // Long after.
        query.pass(100);
        query.read();
        writer.write_all(b"late\n").unwrap();
        query.read_all();
        writer.write_all(b"without end").unwrap();
        let mut rows = query.rows.split_off(4);
        let last = query.read_all();
        rows.sort();
        assert_eq!(rows, ["half a line", "late", "new 1"]);
        assert!(last.is_empty() || last == ["without end"], "{last:?}");
    });
}

#[test]
fn copied_and_truncated_file_loses_and_repeats_nothing() {
    everywhere(|query, file, step| {
        append(file, "old 4\nold 5\n");
        let copy = file.with_file_name("app.log.1");
        fs::copy(file, &copy).unwrap();
        truncate(file, 0);
        step(query);
        append(file, "new 1\n");
        step(query);
        let mut rows = query.read_all();
        append(file, "new 2\n");
        step(query);
        rows.extend(query.read_all());
        rows.sort();
        assert_eq!(rows, ["new 1", "new 2", "old 4", "old 5"]);
    });
}

#[test]
fn replaced_file_is_read_from_its_beginning() {
    everywhere(|query, file, step| {
        for (round, text) in
            ["OLD 1\nOLD 2\nOLD 3\n", "longer 1\nlonger 2\nlonger 3\n", "short\n"].iter().enumerate()
        {
            let beside = file.with_file_name(format!(".beside{round}"));
            fs::write(&beside, text).unwrap();
            fs::rename(&beside, file).unwrap();
            step(query);
            assert_eq!(query.read_all(), text.lines().collect::<Vec<_>>(), "{round}");
            // Removed and written again: often the same inode.
            fs::remove_file(file).unwrap();
            step(query);
            let expected = format!("{round}{text}x\n");
            fs::write(file, &expected).unwrap();
            assert_eq!(query.read_all(), expected.lines().collect::<Vec<_>>(), "{round}");
        }
    });
}

#[test]
fn file_that_cannot_be_told_is_repeated_with_warning() {
    everywhere(|query, file, step| {
        let text = "old 1\nold 2\nold 3\nold 4\n";
        let beside = file.with_file_name(".beside");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, file).unwrap();
        let (rows, said) = warnings(|| {
            step(query);
            query.read_all()
        });
        assert_eq!(rows, text.lines().collect::<Vec<_>>());
        assert!(said.iter().any(|said| said.contains("app.log") && said.contains("repeated")), "{said:?}");
        // Cut off behind and before what has been read of it.
        append(file, "old 5");
        query.read();
        truncate(file, text.len() as u64);
        append(file, "5\n");
        assert_eq!(query.read(), ["5"]);
        truncate(file, 12);
        let (rows, said) = warnings(|| {
            step(query);
            query.read_all()
        });
        assert_eq!(rows, ["old 1", "old 2"]);
        assert!(said.iter().any(|said| said.contains("app.log") && said.contains("repeated")), "{said:?}");
    });
}

#[test]
fn names_of_one_followed_file_are_read_once() {
    everywhere(|query, file, step| {
        fs::hard_link(file, file.with_file_name("app.log.link")).unwrap();
        step(query);
        assert!(query.read_all().is_empty());
        append(file, "old 4\n");
        step(query);
        assert_eq!(query.read_all(), ["old 4"]);
        fs::remove_file(file).unwrap();
        append(&file.with_file_name("app.log.link"), "old 5\n");
        step(query);
        assert_eq!(query.read_all(), ["old 5"]);
        // Closed by other files, and grown under two names.
        fs::hard_link(file.with_file_name("app.log.link"), file.with_file_name("app.log.also")).unwrap();
        for other in 0..4 {
            append(&file.with_file_name(format!("app.log.other{other}")), "other\n");
            query.read_all();
        }
        append(&file.with_file_name("app.log.also"), "old 6\n");
        step(query);
        query.read_all();
        // With the pattern app.log, only an open file is still known after a restart.
        let count = query.rows.iter().filter(|row| *row == "old 6").count();
        assert_eq!(count, 1);
    });
}

#[test]
fn removed_file_is_read_to_its_end_while_it_is_open() {
    everywhere(|query, file, step| {
        append(file, "old 4\n");
        let mut writer = fs::File::options().append(true).open(file).unwrap();
        fs::remove_file(file).unwrap();
        writer.write_all(b"old 5\n").unwrap();
        assert_eq!(query.read(), ["old 4", "old 5"]);
        drop(writer);
        let (_, said) = warnings(|| step(query));
        assert!(
            said.iter().all(|said| said.contains("app.log") && said.contains("was removed after")),
            "{said:?}"
        );
        append(file, "new 1\n");
        assert_eq!(query.read_all(), ["new 1"]);
    });
}

#[test]
fn planned_lines_of_rotated_file_are_read_or_refused() {
    type Rotate = fn(&Path);
    let rename: Rotate = |file| fs::rename(file, file.with_file_name("app.log.1")).unwrap();
    let copy: Rotate = |file| {
        fs::copy(file, file.with_file_name("app.log.1")).unwrap();
        truncate(file, 0);
    };
    let cut: Rotate = |file| truncate(file, 0);
    let remove: Rotate = |file| fs::remove_file(file).unwrap();
    for (rotate, kept) in [(rename, true), (copy, true), (cut, false), (remove, false)] {
        for (partitions, first) in [(1, true), (2, true), (4, false), (1, false)] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("app.log");
            append(&file, "old 1\nold 2\n");
            let mut query = Query::start(file.clone(), partitions, false);
            if !first {
                query.read();
                append(&file, "old 3\nold 4\n");
            }
            let (from, until) = (query.drive.offsets(), query.plan());
            rotate(&file);
            append(&file, "new 1\nnew 2\nnew 3\nnew 4\n");
            query.resume(&from);
            let rows = query.drive.epoch_until(&until);
            if kept {
                let rows: Vec<String> = rows.unwrap().into_iter().flatten().map(String::from).collect();
                assert_eq!(rows, if first { ["old 1", "old 2"] } else { ["old 3", "old 4"] });
                assert_eq!(query.read_all().len(), 4);
            } else {
                let error = rows.unwrap_err().to_string();
                for part in ["app.log", "planned", "--drop-state"] {
                    assert!(error.contains(part), "{error}");
                }
            }
        }
    }
}

#[test]
fn more_growing_files_than_partitions_are_all_read() {
    for continuous in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        for file in 0..40 {
            append(&dir.path().join(format!("{file}")), "x\n");
        }
        let mut query = Query::start(dir.path().to_owned(), 2, continuous);
        assert_eq!(query.read_all().len(), 40);
        for file in 0..40 {
            append(&dir.path().join(format!("{file}")), "y\nz");
        }
        assert_eq!(query.read_all().iter().filter(|row| *row == "y").count(), 40);
        query.restart();
        for file in 0..40 {
            append(&dir.path().join(format!("{file}")), "\nx\n");
        }
        query.read_all();
        assert_eq!(query.rows.iter().filter(|row| *row == "x").count(), 80);
    }
}

#[test]
fn available_now_ends_with_superseded_unterminated_line() {
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a"), "1\n2");
    append(&dir.path().join("b"), "3\n");
    let mut query = Query::start(dir.path().to_owned(), 1, false);
    query.drive.source.freeze(ProcessingTime::from_micros(0)).unwrap();
    assert_eq!(query.read(), ["1", "2", "3"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// A line, written in two parts where that is asked for.
    Line(bool),
    Rename,
    CopyTruncate,
    Read,
    /// Plans an epoch, and reads it after the next step but from the checkpoint.
    PlanAndCrash,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Line),
        1 => Just(Step::Rename),
        1 => Just(Step::CopyTruncate),
        3 => Just(Step::Read),
        1 => Just(Step::PlanAndCrash),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn rotated_lines_come_once_whatever_happens(
        steps in steps(),
        partitions in 1u32..5,
        continuous in any::<bool>(),
        glob in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.log");
        append(&file, "line 0\n");
        let pattern = if glob { dir.path().join("app.log*") } else { file.clone() };
        let mut query = Query::start(pattern, partitions, continuous);
        let (mut lines, mut rotations, mut planned) = (1, 0, None);
        for step in &steps {
            match step {
                Step::Line(halves) => {
                    if *halves {
                        append(&file, "li");
                        query.read();
                        append(&file, &format!("ne {lines}\n"));
                    } else {
                        append(&file, &format!("line {lines}\n"));
                    }
                    lines += 1;
                }
                Step::Rename | Step::CopyTruncate => {
                    rotations += 1;
                    let old = dir.path().join(format!("app.log.{rotations}"));
                    if matches!(step, Step::Rename) {
                        if !glob {
                            // A file that is renamed before it has been listed is not seen.
                            query.read();
                        }
                        fs::rename(&file, &old).unwrap();
                    } else {
                        // What has not been read at all has no fingerprint by which to find its copy.
                        query.read();
                        append(&file, &format!("line {lines}\n"));
                        lines += 1;
                        fs::copy(&file, &old).unwrap();
                        truncate(&file, 0);
                    }
                    append(&file, &format!("line {lines}\n"));
                    lines += 1;
                }
                Step::Read => {
                    query.read();
                }
                Step::PlanAndCrash if !continuous => {
                    planned = Some((query.drive.offsets(), query.plan()));
                    continue;
                }
                Step::PlanAndCrash | Step::Restart => query.restart(),
            }
            if let Some((from, until)) = planned.take() {
                if query.drive.offsets() != from {
                    // It has continued in the meantime.
                    continue;
                }
                query.resume(&from);
                let rows = query.drive.epoch_until(&until).unwrap();
                query.rows.extend(rows.into_iter().flatten().map(String::from));
            }
        }
        query.read_all();
        let mut rows = std::mem::take(&mut query.rows);
        rows.sort();
        let mut expected: Vec<String> = (0..lines).map(|line| format!("line {line}")).collect();
        expected.sort();
        prop_assert_eq!(rows, expected);
    }
}
