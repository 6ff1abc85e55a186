//! Crashes, other numbers of workers, rolling, errors.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use tidemill_operators::{Clock, ProcessingTime};

use super::super::crash::{Drive, Overlap, ROWS, empty, files, numbers, scratch};
use super::super::testing::{open, write};
use super::*;

const NEVER: u64 = u64::MAX;

fn drive(dir: &Path, roll_at: u64) -> Drive<DirSink, impl Fn() -> Vec<u64> + Clone + 'static> {
    let (dir, read) = (dir.to_owned(), dir.to_owned());
    Drive::new(move |_| json_lines_dir(&dir).roll_at(roll_at), move || numbers(&read))
}

/// A crash may leave any part of what was not synced: half a row at the end of each file under way.
fn tear(dir: &Path) {
    for path in files(dir, true) {
        fs::File::options().append(true).open(path).unwrap().write_all(b"12").unwrap();
    }
}

#[test]
fn a_crash_after_any_step_loses_nothing_repeats_nothing_and_shows_nothing_uncommitted() {
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
                assert_eq!(files(dir, true), Vec::<PathBuf>::new(), "nothing is left of the run before");
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
                assert_eq!(files(dir, true), Vec::<PathBuf>::new(), "nothing is left of the run before");
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
    fn any_number_of_crashes_with_any_numbers_of_workers_comes_to_the_same_rows(
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
        prop_assert_eq!(files(scratch.path(), true), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_file_is_finished_when_it_is_large_or_old_and_its_epoch_commits() {
    let scratch = scratch();
    let dir = scratch.path();
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || ProcessingTime(clock.load(Ordering::Relaxed)));
    let mut sink = json_lines_dir(dir).roll_at(6).roll_every(Duration::from_secs(1));
    let context = SinkContext::new("test", OutputMode::Append, true).with_clock(clock);
    Sink::<u64>::open(&mut sink, &context).unwrap();
    let commit = |sink: &mut DirSink, epoch| Sink::<u64>::commit(sink, Epoch(epoch)).unwrap();
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
fn without_a_checkpoint_an_abort_shows_what_was_committed_and_nothing_else() {
    let scratch = scratch();
    let mut sink = json_lines_dir(scratch.path());
    open::<u64>(&mut sink, OutputMode::Append, false);
    write(&mut sink, 0, vec![1_u64, 2]);
    Sink::<u64>::commit(&mut sink, Epoch(0)).unwrap();
    write(&mut sink, 1, vec![3_u64]);
    sink.write(Epoch(2), &mut vec![4_u64]).unwrap();
    Sink::<u64>::abort(&mut sink);
    assert_eq!(numbers(scratch.path()), [1, 2]);
    assert_eq!(files(scratch.path(), true), Vec::<PathBuf>::new());
}

#[test]
fn another_run_adds_files_and_writes_over_none() {
    let scratch = scratch();
    for row in [1_u64, 2] {
        let mut sink = json_lines_dir(scratch.path());
        open::<u64>(&mut sink, OutputMode::Append, false);
        write(&mut sink, 0, vec![row]);
        Sink::<u64>::commit(&mut sink, Epoch(0)).unwrap();
        Sink::<u64>::close(&mut sink).unwrap();
    }
    assert_eq!(numbers(scratch.path()), [1, 2]);
}

/// A sink that has been opened by the run with that number of a checkpoint that goes on with that epoch.
fn begin(mut sink: DirSink, worker: usize, execution: u64, first: u64) -> Result<DirSink, SinkError> {
    let context = SinkContext::new("test", OutputMode::Append, false).on_worker(worker, 2);
    let context = context.durable(execution);
    let context = match first.checked_sub(1) {
        Some(committed) => context.after_commit(Epoch(committed)),
        None => context,
    };
    Sink::<u64>::open(&mut sink, &context)?;
    Sink::<u64>::recover(&mut sink, None)?;
    Ok(sink)
}

#[test]
fn a_new_checkpoint_over_files_of_an_earlier_run_is_refused_unless_it_is_to_add() {
    let scratch = scratch();
    let dir = scratch.path();
    let run = |sink: DirSink, execution, first| -> Result<(), SinkError> {
        let mut sink = begin(sink, 0, execution, first)?;
        write(&mut sink, first, vec![first]);
        Sink::<u64>::commit(&mut sink, Epoch(first))?;
        Sink::<u64>::close(&mut sink)
    };
    run(json_lines_dir(dir), 0, 0).unwrap();
    for execution in [0, 3] {
        let error = run(json_lines_dir(dir), execution, 0).unwrap_err();
        assert!(matches!(&error, SinkError::Setup(_)), "{error:?}");
        let error = error.to_string();
        for part in [&*dir.display().to_string(), "1 files", "part-0-0-000000.jsonl", ".add_to_existing()"] {
            assert!(error.contains(part), "{error}");
        }
    }
    // Rows of another kind, a sink that is new to a query that goes on, and who says so.
    run(csv_dir(dir), 0, 0).unwrap();
    run(json_lines_dir(dir), 1, 5).unwrap();
    run(json_lines_dir(dir).add_to_existing(), 0, 0).unwrap();
    let shown = files(dir, false);
    assert_eq!(shown.len(), 4, "{shown:?}");
}

#[test]
fn files_under_way_of_another_checkpoint_are_not_thrown_away() {
    let scratch = scratch();
    let dir = scratch.path();
    let sink = || json_lines_dir(dir).add_to_existing();
    // Two instances of a first run may begin after each other.
    let mut first = begin(sink(), 0, 0, 0).unwrap();
    first.write(Epoch(0), &mut vec![1_u64]).unwrap();
    begin(sink(), 1, 0, 0).unwrap();
    Sink::<u64>::prepare(&mut first, Epoch(0)).unwrap();
    drop(first);
    // A new checkpoint must not, whoever tries again, with whatever number of runs.
    for (worker, execution) in [(0, 0), (0, 1), (1, 1), (0, 2)] {
        let error = begin(sink(), worker, execution, 0).err().unwrap().to_string();
        assert!(
            error.contains("1 unfinished files") && error.contains(".part-0-0-000000.jsonl.pending"),
            "{error}"
        );
    }
    let pending = files(dir, true).into_iter().find(|path| path.display().to_string().ends_with("pending"));
    let pending = pending.unwrap();
    let text = fs::read(&pending).unwrap();
    // The one that they belong to goes on with them, as does a new one when they are gone.
    begin(sink(), 0, 1, 1).unwrap();
    assert_eq!(hidden(dir), 0);
    fs::write(&pending, text).unwrap();
    assert!(begin(sink(), 0, 0, 0).is_err());
    fs::remove_file(&pending).unwrap();
    begin(sink(), 0, 1, 0).unwrap();
    assert_eq!(hidden(dir), 0);
}

fn hidden(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'))
        .count()
}

#[test]
fn what_a_crash_before_the_first_commit_left_is_thrown_away() {
    let scratch = scratch();
    let dir = scratch.path();
    let mut first = begin(json_lines_dir(dir), 0, 0, 0).unwrap();
    write(&mut first, 0, vec![1_u64]);
    drop(first);
    assert_eq!(hidden(dir), 1);
    begin(json_lines_dir(dir), 0, 1, 0).unwrap();
    assert_eq!(hidden(dir), 0);
}

#[test]
fn every_csv_file_has_its_header() {
    #[derive(Serialize)]
    struct Count {
        count: u64,
    }
    let scratch = scratch();
    let mut sink = csv_dir(scratch.path()).roll_every_epoch();
    open::<Count>(&mut sink, OutputMode::Update, false);
    for epoch in 0..2 {
        write(&mut sink, epoch, vec![Count { count: epoch }, Count { count: epoch + 10 }]);
        Sink::<Count>::commit(&mut sink, Epoch(epoch)).unwrap();
    }
    let texts: Vec<_> =
        files(scratch.path(), false).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(texts, ["count\n0\n10\n", "count\n1\n11\n"]);
}

#[test]
fn an_error_names_the_file_and_a_complete_table_is_refused() {
    let scratch = scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let context = SinkContext::new("test", OutputMode::Append, false);
    let error = Sink::<u64>::open(&mut json_lines_dir(file.join("out")), &context).unwrap_err();
    assert!(error.to_string().contains("file/out"), "{error}");

    let dir = scratch.path().join("gone");
    let mut sink = json_lines_dir(&dir);
    Sink::<u64>::open(&mut sink, &context).unwrap();
    fs::remove_dir(&dir).unwrap();
    let error = sink.write(Epoch(0), &mut vec![1_u64]).unwrap_err();
    assert!(error.to_string().contains(".part-0-0-000000.jsonl.pending"), "{error}");

    let complete = SinkContext::new("test", OutputMode::Complete, false);
    assert!(matches!(Sink::<u64>::open(&mut json_lines_dir(&dir), &complete), Err(SinkError::Setup(_))));
}

#[test]
fn a_committed_file_that_has_lost_bytes_is_an_error() {
    let scratch = scratch();
    let context = SinkContext::new("test", OutputMode::Append, false).durable(0);
    let mut sink = json_lines_dir(scratch.path());
    Sink::<u64>::open(&mut sink, &context).unwrap();
    sink.write(Epoch(0), &mut vec![1_u64, 2]).unwrap();
    let prepared = vec![Sink::<u64>::prepare(&mut sink, Epoch(0)).unwrap()];
    fs::write(&files(scratch.path(), true)[0], "1\n").unwrap();
    let mut sink = json_lines_dir(scratch.path());
    Sink::<u64>::open(&mut sink, &context.clone().durable(1)).unwrap();
    let committed = Some(Committed { epoch: Epoch(0), prepared });
    let error = Sink::<u64>::recover(&mut sink, committed).unwrap_err();
    assert!(
        matches!(&error, SinkError::Recovery { what, .. } if what.contains(".part-0-0-000000")),
        "{error}"
    );
}
