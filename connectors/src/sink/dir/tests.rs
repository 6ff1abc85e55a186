//! Crashes, other numbers of workers, rolling, errors.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use tidemill_operators::{Clock, ProcessingTime};

use super::super::crash::{Drive, Overlap, ROWS, empty, files, identity, numbers, pending, scratch};
use super::super::testing::{open, write};
use super::*;

const NEVER: u64 = u64::MAX;

fn drive(dir: &Path, roll_at: u64) -> Drive<DirSink, impl Fn() -> Vec<u64> + Clone + 'static> {
    let (dir, read) = (dir.to_owned(), dir.to_owned());
    Drive::new(move |_| json_lines_dir(&dir).roll_at(roll_at), move || numbers(&read))
}

/// A crash may leave any part of what was not synced: half a row at the end of each file under way.
fn tear(dir: &Path) {
    for path in pending(dir) {
        fs::File::options().append(true).open(path).unwrap().write_all(b"12").unwrap();
    }
}

#[test]
fn crash_after_any_step_shows_committed_rows_once() {
    let scratch = scratch();
    let dir = scratch.path();
    for roll_at in [0, 25, NEVER] {
        for (overlap, abort) in [
            (Overlap::None, false),
            (Overlap::Prepared, false),
            (Overlap::Recorded, false),
            (Overlap::None, true),
            (Overlap::Recorded, true),
        ] {
            let drive = Drive { overlap, abort, ..drive(dir, roll_at) };
            let begin = || {
                assert_eq!(pending(dir), Vec::<PathBuf>::new(), "nothing is left of the run before");
                empty(dir);
                drive.begin(true);
            };
            drive.crash_after_each_step(1, 1, begin, || tear(dir));
        }
    }
}

#[test]
fn another_number_of_workers_finishes_what_the_former_ones_left() {
    let scratch = scratch();
    let dir = scratch.path();
    for (first, then) in [(2, 1), (1, 3), (3, 2)] {
        for overlap in [Overlap::None, Overlap::Recorded] {
            let drive = Drive { overlap, ..drive(dir, 15) };
            let begin = || {
                assert_eq!(pending(dir), Vec::<PathBuf>::new(), "nothing is left of the run before");
                empty(dir);
                drive.begin(true);
            };
            drive.crash_after_each_step(first, then, begin, || tear(dir));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_crashes_with_any_workers_give_same_rows(
        runs in prop::collection::vec((1_usize..4, 0_usize..60, any::<bool>()), 0..8),
        last in 1_usize..4,
        roll_at in prop::sample::select(vec![0, 9, 25, NEVER]),
        overlap in prop::sample::select(vec![Overlap::None, Overlap::Prepared, Overlap::Recorded]),
        abort in any::<bool>(),
    ) {
        let scratch = scratch();
        let drive = Drive { overlap, abort, ..drive(scratch.path(), roll_at) };
        drive.begin(true);
        let mut execution = 0;
        for (workers, fuse, torn) in runs {
            drive.run(execution, workers, Some(fuse));
            execution += 1;
            if torn {
                tear(scratch.path());
            }
        }
        prop_assert!(drive.run(execution, last, None));
        let mut rows = numbers(scratch.path());
        rows.sort_unstable();
        prop_assert_eq!(rows, (0..drive.epochs * ROWS).collect::<Vec<_>>());
        prop_assert_eq!(pending(scratch.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn large_or_old_file_is_finished_when_its_epoch_commits() {
    let scratch = scratch();
    let dir = scratch.path();
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || ProcessingTime::from_micros(clock.load(Ordering::Relaxed)));
    let mut sink = json_lines_dir(dir).roll_at(6).roll_every(Duration::from_secs(1));
    let context = SinkContext::new("test", RowKind::Insert, true).with_clock(clock);
    Sink::<u64>::open(&mut sink, &context).unwrap();
    let commit = |sink: &mut DirSink, epoch| Sink::<u64>::commit(sink, Epoch::new(epoch)).unwrap();
    write(&mut sink, 0, vec![10_u64]);
    commit(&mut sink, 0);
    assert_eq!(numbers(dir), [0_u64; 0]);
    write(&mut sink, 1, vec![11_u64]);
    write(&mut sink, 2, vec![12_u64]);
    commit(&mut sink, 1);
    assert_eq!(numbers(dir), [10, 11]);
    commit(&mut sink, 2);
    now.store(1_000_000, Ordering::Relaxed);
    write(&mut sink, 3, Vec::<u64>::new());
    commit(&mut sink, 3);
    assert_eq!(numbers(dir), [10, 11, 12]);
    write(&mut sink, 4, vec![13_u64]);
    commit(&mut sink, 4);
    Sink::<u64>::close(&mut sink).unwrap();
    assert_eq!(numbers(dir), [10, 11, 12, 13]);
    assert_eq!(files(dir, false).len(), 3);
}

#[test]
fn abort_without_checkpoint_shows_committed_rows_only() {
    let scratch = scratch();
    let mut sink = json_lines_dir(scratch.path());
    open::<u64>(&mut sink, RowKind::Insert, false);
    write(&mut sink, 0, vec![1_u64, 2]);
    Sink::<u64>::commit(&mut sink, Epoch::new(0)).unwrap();
    write(&mut sink, 1, vec![3_u64]);
    sink.write(Epoch::new(2), &mut vec![4_u64]).unwrap();
    Sink::<u64>::abort(&mut sink);
    assert_eq!(numbers(scratch.path()), [1, 2]);
    assert_eq!(files(scratch.path(), true), Vec::<PathBuf>::new());
}

#[test]
fn another_run_adds_files_and_writes_over_none() {
    let scratch = scratch();
    for row in [1_u64, 2] {
        let mut sink = json_lines_dir(scratch.path());
        open::<u64>(&mut sink, RowKind::Insert, false);
        write(&mut sink, 0, vec![row]);
        Sink::<u64>::commit(&mut sink, Epoch::new(0)).unwrap();
        Sink::<u64>::close(&mut sink).unwrap();
    }
    assert_eq!(numbers(scratch.path()), [1, 2]);
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

/// A sink that has been opened, and has recovered.
fn begin(
    mut sink: DirSink,
    context: &SinkContext,
    committed: Option<Committed>,
) -> Result<DirSink, SinkError> {
    Sink::<u64>::open(&mut sink, context)?;
    Sink::<u64>::recover(&mut sink, committed)?;
    Ok(sink)
}

/// Writes an epoch with one row, up to the record of its commit.
fn record(sink: &mut DirSink, epoch: u64) -> Committed {
    sink.write(Epoch::new(epoch), &mut vec![epoch]).unwrap();
    let prepared = vec![Sink::<u64>::prepare(sink, Epoch::new(epoch)).unwrap()];
    Committed { epoch: Epoch::new(epoch), prepared }
}

fn commit(sink: &mut DirSink, epoch: u64) -> Committed {
    let committed = record(sink, epoch);
    Sink::<u64>::commit(sink, Epoch::new(epoch)).unwrap();
    committed
}

#[test]
fn new_checkpoint_over_finished_files_is_refused_unless_adding() {
    let scratch = scratch();
    let dir = scratch.path();
    let run = |sink: DirSink, context: &SinkContext| -> Result<(), SinkError> {
        let mut sink = begin(sink, context, None)?;
        commit(&mut sink, context.committed.map_or(0, |committed| committed.number() + 1));
        Sink::<u64>::close(&mut sink)
    };
    run(json_lines_dir(dir), &context("one", 1, 0)).unwrap();
    for context in [context("two", 1, 0), context("three", 4, 0)] {
        let error = run(json_lines_dir(dir), &context).unwrap_err();
        assert!(matches!(&error, SinkError::Setup(_)), "{error:?}");
        let error = error.to_string();
        for part in [&*dir.display().to_string(), "1 files", "part-0-1-000000.jsonl", ".add_to_existing()"] {
            assert!(error.contains(part), "{error}");
        }
    }
    // A sink that is new to a query that resumes, and one with `add_to_existing`.
    run(json_lines_dir(dir), &context("one", 2, 5)).unwrap();
    run(json_lines_dir(dir).add_to_existing(), &context("two", 2, 0)).unwrap();
    let shown = files(dir, false);
    assert_eq!(shown.len(), 3, "{shown:?}");
    // The directory has gone over to the one that adds.
    let error = run(json_lines_dir(dir), &context("one", 3, 6)).unwrap_err().to_string();
    assert!(error.contains("belongs to the query `two`") && error.contains("--take-over"), "{error}");
    run(json_lines_dir(dir), &context("one", 3, 6).taking_over(true)).unwrap();
}

#[test]
fn unfinished_files_of_another_checkpoint_are_kept() {
    let scratch = scratch();
    let dir = scratch.path();
    let sink = || json_lines_dir(dir).add_to_existing();
    // Two instances of a first run may begin after each other.
    let mut first = begin(sink(), &context("one", 1, 0).on_worker(0, 2), None).unwrap();
    record(&mut first, 0);
    let second = begin(sink(), &context("one", 1, 0).on_worker(1, 2), None).unwrap();
    drop((first, second));
    let kept = pending(dir);
    assert_eq!(kept.len(), 1);
    // A new checkpoint is refused, whichever instance tries again, in whichever run.
    for (worker, execution) in [(0, 1), (0, 2), (1, 2), (0, 3)] {
        let error = begin(sink(), &context("two", execution, 0).on_worker(worker, 2), None).err().unwrap();
        assert!(error.to_string().contains("belongs to the query `one`"), "{error}");
    }
    // So is one that finds no claim.
    fs::remove_file(dir.join(".claim")).unwrap();
    let error = begin(sink(), &context("two", 1, 0), None).err().unwrap().to_string();
    assert!(
        error.contains("1 unfinished files") && error.contains(".part-0-1-000000.jsonl.pending"),
        "{error}"
    );
    assert_eq!(pending(dir), kept);
}

#[test]
fn crash_before_first_commit_leaves_nothing() {
    let scratch = scratch();
    let dir = scratch.path();
    let mut first = begin(json_lines_dir(dir), &context("one", 1, 0), None).unwrap();
    record(&mut first, 0);
    drop(first);
    assert_eq!(pending(dir).len(), 1);
    begin(json_lines_dir(dir), &context("one", 2, 0), None).unwrap();
    assert_eq!(pending(dir).len(), 0);
}

#[test]
fn fork_leaves_directory_of_its_origin_alone() {
    let scratch = scratch();
    let (origin, own) = (scratch.path().join("origin"), scratch.path().join("own"));
    let mut first = begin(json_lines_dir(&origin), &context("one", 1, 0), None).unwrap();
    let committed = Some(record(&mut first, 0));
    let fork = |dir: &Path| {
        let context = context("two", 2, 1).as_fork(true).of_sink("fork", 2);
        begin(json_lines_dir(dir), &context, committed.clone())
    };
    let error = fork(&origin).err().unwrap().to_string();
    assert!(error.contains("is being written to by"), "{error}");
    drop(first);
    let error = fork(&origin).err().unwrap().to_string();
    assert!(error.contains("starts from a savepoint") && error.contains("--take-over"), "{error}");
    let mut forked = fork(&own).unwrap();
    commit(&mut forked, 1);
    Sink::<u64>::close(&mut forked).unwrap();
    assert_eq!((numbers(&own), pending(&origin).len()), (vec![1], 1));
    // The origin finds everything as it was; what it has not finished, its successor finishes.
    let moved = context("three", 2, 1).taking_over(true);
    let moved = begin(json_lines_dir(&origin), &moved, committed.clone()).unwrap();
    assert_eq!(numbers(&origin), [0]);
    drop(moved);
    let error = begin(json_lines_dir(&origin), &context("one", 2, 1), committed).err().unwrap();
    assert!(error.to_string().contains("belongs to the query `three`"), "{error}");
}

#[test]
fn committed_part_missing_at_recovery_is_refused() {
    let scratch = scratch();
    let dir = scratch.path();
    let mut first = begin(json_lines_dir(dir), &context("one", 1, 0), None).unwrap();
    let committed = Some(record(&mut first, 0));
    drop(first);
    let part = pending(dir).remove(0);
    // As a copy without hidden files leaves it.
    empty(dir);
    let again = || begin(json_lines_dir(dir), &context("one", 2, 1), committed.clone());
    let error = again().err().unwrap().to_string();
    assert!(error.contains(&part.display().to_string()) && error.contains("2 bytes"), "{error}");
    // What the message says to do if the rows are not needed.
    fs::write(dir.join(".part-0-1-000000.jsonl.shown"), "").unwrap();
    again().unwrap();
}

#[test]
fn finished_part_taken_by_a_reader_is_not_missed() {
    let scratch = scratch();
    let dir = scratch.path();
    let take = || files(dir, false).into_iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut committed = None;
    for (execution, closes) in [(1, true), (2, false), (3, false), (4, true)] {
        let epoch = execution * 10;
        let context = context("one", execution, if committed.is_some() { epoch - 9 } else { 0 });
        let mut sink = begin(json_lines_dir(dir).roll_every_epoch(), &context, committed).unwrap();
        commit(&mut sink, epoch);
        committed =
            Some(if execution == 3 { record(&mut sink, epoch + 1) } else { commit(&mut sink, epoch + 1) });
        if closes {
            Sink::<u64>::close(&mut sink).unwrap();
        }
        drop(sink);
        take();
        // A recovery that is cut short after it has shown what was left.
        drop(
            begin(json_lines_dir(dir), &self::context("one", execution, epoch + 2), committed.clone())
                .unwrap(),
        );
        take();
    }
    assert_eq!(files(dir, true).len(), 2, "the claim and one marker: {:?}", files(dir, true));
}

#[test]
fn finished_files_newer_than_the_commit_are_refused() {
    let scratch = scratch();
    let dir = scratch.path();
    let sink = || json_lines_dir(dir).roll_every_epoch();
    let mut first = begin(sink(), &context("one", 1, 0), None).unwrap();
    let early = commit(&mut first, 0);
    let last = commit(&mut first, 7);
    Sink::<u64>::close(&mut first).unwrap();
    let again = |committed: Option<Committed>, execution| {
        let epoch = committed.as_ref().map_or(0, |committed| committed.epoch.number() + 1);
        begin(sink(), &context("one", execution, epoch), committed)
    };
    for (committed, file) in [(None, "part-0-1-000000"), (Some(early.clone()), "part-0-1-000001")] {
        let error = again(committed, 2).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains("newer than the checkpoint"), "{error}");
    }
    let mut second = again(Some(last.clone()), 2).unwrap();
    commit(&mut second, 8);
    drop(second);
    let error = again(Some(last), 3).err().unwrap().to_string();
    assert!(error.contains("part-0-2-000000"), "{error}");
    // What the message says to do.
    fs::remove_file(dir.join("part-0-2-000000.jsonl")).unwrap();
    fs::remove_file(dir.join("part-0-1-000001.jsonl")).unwrap();
    again(Some(early), 3).unwrap();
}

#[test]
fn finished_file_longer_than_its_commit_is_refused() {
    let scratch = scratch();
    let dir = scratch.path();
    let mut first = begin(json_lines_dir(dir), &context("one", 1, 0), None).unwrap();
    let early = commit(&mut first, 0);
    let last = commit(&mut first, 1);
    Sink::<u64>::close(&mut first).unwrap();
    let error = begin(json_lines_dir(dir), &context("one", 2, 1), Some(early)).err().unwrap().to_string();
    assert!(error.contains("newer than the checkpoint"), "{error}");
    begin(json_lines_dir(dir), &context("one", 2, 2), Some(last)).unwrap();
}

#[test]
fn added_files_are_told_from_those_there_before() {
    let scratch = scratch();
    let dir = scratch.path();
    let sink = || json_lines_dir(dir).roll_every_epoch().add_to_existing();
    let mut first = begin(sink(), &context("one", 9, 0), None).unwrap();
    commit(&mut first, 0);
    Sink::<u64>::close(&mut first).unwrap();
    drop(first);
    let mut second = begin(sink(), &context("two", 1, 0), None).unwrap();
    let committed = commit(&mut second, 0);
    drop(second);
    assert!(begin(sink(), &context("two", 2, 0), None).is_err(), "its own file is newer");
    begin(sink(), &context("two", 2, 1), Some(committed)).unwrap();
}

#[test]
fn every_csv_file_has_its_header() {
    #[derive(Serialize)]
    struct Count {
        count: u64,
    }
    let scratch = scratch();
    let mut sink = csv_dir(scratch.path()).roll_every_epoch();
    open::<Count>(&mut sink, RowKind::Insert, false);
    for epoch in 0..2 {
        write(&mut sink, epoch, vec![Count { count: epoch }, Count { count: epoch + 10 }]);
        Sink::<Count>::commit(&mut sink, Epoch::new(epoch)).unwrap();
    }
    let texts: Vec<_> =
        files(scratch.path(), false).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(texts, ["count\n0\n10\n", "count\n1\n11\n"]);
}

#[test]
fn directory_error_names_file_and_only_inserts_are_taken() {
    let scratch = scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let context = SinkContext::new("test", RowKind::Insert, false);
    let error = Sink::<u64>::open(&mut json_lines_dir(file.join("out")), &context).unwrap_err();
    assert!(error.to_string().contains("file/out"), "{error}");

    let dir = scratch.path().join("gone");
    let mut sink = json_lines_dir(&dir);
    Sink::<u64>::open(&mut sink, &context).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let error = sink.write(Epoch::new(0), &mut vec![1_u64]).unwrap_err();
    assert!(error.to_string().contains(".part-0-0-000000.jsonl.pending"), "{error}");

    let kinds = [RowKind::Insert, RowKind::Upsert, RowKind::Snapshot];
    assert_eq!(kinds.map(|kind| Sink::<u64>::takes(&json_lines_dir(&dir), kind)), [true, false, false]);
}

#[test]
fn a_committed_file_that_has_lost_bytes_is_an_error() {
    let scratch = scratch();
    let dir = scratch.path();
    let mut sink = begin(json_lines_dir(dir), &context("one", 1, 0), None).unwrap();
    let committed = record(&mut sink, 0);
    drop(sink);
    fs::write(&pending(dir)[0], "").unwrap();
    let error = begin(json_lines_dir(dir), &context("one", 2, 1), Some(committed)).err().unwrap();
    assert!(
        matches!(&error, SinkError::Recovery { what, .. } if what.contains(".part-0-1-000000")),
        "{error}"
    );
}
