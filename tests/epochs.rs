//! Epoch numbers across runs: after any sequence of modes and failures a number stands for the same rows, and what a
//! checkpoint has lost is noticed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tidemill::checkpoint::{LocalDirectory, MemoryStorage, Storage, inspect};
use tidemill::connectors::{EpochRows, for_each, for_each_epoch, memory_sink, text_files};
use tidemill::testing::{Break, FaultyStorage, SimClock, TestDriver};
use tidemill::{Epoch, EventTime, Graph, Mode, Options, RunError, tumbling};

use common::{MODES, options};

/// Stands for a database that writes rows and the number of their epoch in one transaction.
#[derive(Default)]
struct Store {
    done: BTreeSet<Epoch>,
    rows: Vec<u64>,
    /// What was given under each number, whether or not the transaction happened.
    given: BTreeMap<Epoch, Vec<u64>>,
    /// How many more epochs are taken, and whether the transaction of the one that fails is done.
    fails: Option<(usize, bool)>,
    /// How often each row was written in an epoch that is repeatable.
    repeatable: BTreeMap<u64, usize>,
    /// The newest count of each key.
    counts: BTreeMap<u64, u64>,
}

impl Store {
    fn give(&mut self, mut all: EpochRows<u64>) -> Result<(), &'static str> {
        // How the rows of several workers are mixed may differ.
        all.rows.sort_unstable();
        if let Some(before) = self.given.get(&all.epoch) {
            assert!(all.repeatable, "epoch {} came twice, and is not repeatable", all.epoch);
            assert_eq!(*before, all.rows, "epoch {} came twice, with other rows", all.epoch);
        }
        self.given.insert(all.epoch, all.rows.clone());
        let fate = match &mut self.fails {
            Some((0, done)) => Some(*done),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if fate == Some(false) {
            return Err("no transaction");
        }
        if self.done.insert(all.epoch) {
            for row in all.rows.iter().filter(|_| all.repeatable) {
                *self.repeatable.entry(*row).or_default() += 1;
            }
            self.rows.extend(all.rows);
        }
        if fate.is_some() { Err("after the transaction") } else { Ok(()) }
    }

    /// Every row was written, and no row in two epochs that are repeatable.
    #[track_caller]
    fn check(&self, total: u64) {
        let mut rows = common::sorted(self.rows.clone());
        rows.dedup();
        assert_eq!(rows, (0..total).collect::<Vec<_>>());
        let twice: Vec<_> = self.repeatable.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "rows in several epochs that are repeatable: {twice:?}");
    }
}

/// Numbers from files into a store, and counted by key.
fn graph(input: &Path, store: &Arc<Mutex<Store>>) -> Graph {
    let graph = Graph::new("numbers");
    let (given, counted) = (Arc::clone(store), Arc::clone(store));
    let numbers = graph
        .source(text_files(format!("{}/*.txt", input.display())))
        .uid("files")
        .map(|line| line.parse::<u64>().unwrap())
        .boxed();
    numbers.clone().sink(for_each_epoch(move |all| given.lock().unwrap().give(all)));
    numbers.key_by(|n| n % 3).count().update().sink(for_each(move |(key, count)| {
        counted.lock().unwrap().counts.insert(key, count);
    }));
    graph
}

/// Adds a file with this many of the numbers that follow.
fn add(input: &Path, total: &mut u64, count: u64) {
    if count == 0 {
        return;
    }
    let text: String = (*total..*total + count).map(|n| format!("{n}\n")).collect();
    std::fs::write(input.join(format!("{total:06}.txt")), text).unwrap();
    *total += count;
}

/// What breaks in a run.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    /// The query is stopped before it has read anything.
    Stop,
    /// The process dies before the query has ended in order.
    Crash,
    /// The storage breaks at its n-th change.
    Storage(u64, Break),
    /// The sink fails at its n-th epoch; whether its transaction is done.
    Sink(usize, bool),
}

fn one_run(
    input: &Path,
    store: &Arc<Mutex<Store>>,
    memory: &MemoryStorage,
    mode: Mode,
    fault: Fault,
) -> Result<(), RunError> {
    store.lock().unwrap().fails = if let Fault::Sink(at, done) = fault { Some((at, done)) } else { None };
    let storage: Arc<dyn Storage> = match fault {
        Fault::Storage(at, how) => Arc::new(FaultyStorage::new(memory.clone(), at, how)),
        _ => Arc::new(memory.clone()),
    };
    let options = options(mode, 1).with_max_records_per_epoch(7);
    let mut driver = TestDriver::with_checkpoint(&graph(input, store), options, &SimClock::new(), storage)?;
    if matches!(fault, Fault::Stop) {
        return driver.stop().map(drop);
    }
    for _ in 0..3 {
        driver.epoch()?;
    }
    if matches!(fault, Fault::Crash) {
        return Ok(());
    }
    driver.run_to_end()?;
    driver.stop().map(drop)
}

fn fault() -> impl Strategy<Value = Fault> {
    let how = prop_oneof![
        Just(Break::CrashBefore),
        Just(Break::CrashWithin),
        Just(Break::CrashAfter),
        Just(Break::DiskFull)
    ];
    prop_oneof![
        1 => Just(Fault::Nothing),
        1 => Just(Fault::Stop),
        1 => Just(Fault::Crash),
        4 => (1..24u64, how).prop_map(|(at, how)| Fault::Storage(at, how)),
        4 => (0..4usize, any::<bool>()).prop_map(|(at, done)| Fault::Sink(at, done)),
    ]
}

/// What is run: the mode, how much input comes before, what breaks.
type Runs = Vec<(Mode, u64, Fault)>;

fn runs(modes: &'static [Mode]) -> impl Strategy<Value = Runs> {
    let run = (proptest::sample::select(modes), 0..20u64, fault());
    proptest::collection::vec(run, 1..9)
}

/// Runs all of it, and once more to the end in each mode; checks what holds in any case.
fn play(runs: Runs) -> (Vec<u64>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (store, memory, mut total) = (Arc::default(), MemoryStorage::new(), 0);
    for (mode, rows, fault) in runs {
        add(dir.path(), &mut total, rows);
        let _ = one_run(dir.path(), &store, &memory, mode, fault);
    }
    add(dir.path(), &mut total, 5);
    for mode in MODES {
        one_run(dir.path(), &store, &memory, mode, Fault::Nothing).unwrap();
    }
    inspect::verify(&memory).unwrap();
    let store = store.lock().unwrap();
    let counts: BTreeMap<u64, u64> =
        (0..3).map(|key| (key, (0..total).filter(|n| n % 3 == key).count() as u64)).collect();
    assert_eq!(store.counts, counts, "the state");
    store.check(total);
    (common::sorted(store.rows.clone()), total)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn epochs_of_micro_batch_runs_are_exactly_once(runs in runs(&[Mode::MicroBatch])) {
        let (rows, total) = play(runs);
        prop_assert_eq!(rows, (0..total).collect::<Vec<_>>());
    }

    #[test]
    fn epochs_of_runs_in_any_mode_lose_no_row(runs in runs(&MODES)) {
        play(runs);
    }
}

#[test]
fn first_epoch_planned_after_continuous_commit_is_replayed() {
    for done in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, memory, mut total) = (Arc::default(), MemoryStorage::new(), 0);
        let run = |mode, fault| one_run(dir.path(), &store, &memory, mode, fault);
        add(dir.path(), &mut total, 5);
        run(Mode::Continuous, Fault::Nothing).unwrap();
        add(dir.path(), &mut total, 5);
        assert!(run(Mode::MicroBatch, Fault::Sink(0, done)).is_err());
        add(dir.path(), &mut total, 5);
        run(Mode::MicroBatch, Fault::Nothing).unwrap();
        assert_eq!(common::sorted(store.lock().unwrap().rows.clone()), (0..total).collect::<Vec<_>>());
    }
}

#[test]
fn plan_survives_a_continuous_run_that_commits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, memory, mut total) = (Arc::default(), MemoryStorage::new(), 0);
    let run = |mode, fault| one_run(dir.path(), &store, &memory, mode, fault);
    add(dir.path(), &mut total, 5);
    assert!(run(Mode::MicroBatch, Fault::Sink(0, true)).is_err());
    add(dir.path(), &mut total, 5);
    // As a sink that refuses to be run in this mode.
    assert!(run(Mode::Continuous, Fault::Sink(0, false)).is_err());
    add(dir.path(), &mut total, 5);
    run(Mode::MicroBatch, Fault::Nothing).unwrap();
    assert_eq!(common::sorted(store.lock().unwrap().rows.clone()), (0..total).collect::<Vec<_>>());
    let given: Vec<u64> = store.lock().unwrap().given.keys().map(|epoch| epoch.number()).collect();
    assert!(given.windows(2).any(|pair| pair[1] > pair[0] + 1), "no gap behind the replayed plan: {given:?}");
}

#[test]
fn continuous_commit_covers_the_plans_that_it_voids() {
    for done in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, memory, mut total) = (Arc::default(), MemoryStorage::new(), 0);
        let run = |mode, fault| one_run(dir.path(), &store, &memory, mode, fault);
        add(dir.path(), &mut total, 20);
        assert!(run(Mode::MicroBatch, Fault::Sink(0, done)).is_err());
        run(Mode::Continuous, Fault::Stop).unwrap();
        run(Mode::MicroBatch, Fault::Nothing).unwrap();
        store.lock().unwrap().check(total);
    }
}

#[test]
fn gap_behind_replayed_plans_holds_up_no_worker() {
    for workers in [1, 2, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut total) = (Arc::<Mutex<Store>>::default(), 0);
        let run = |mode, fails| {
            store.lock().unwrap().fails = fails;
            let options = common::available_now(mode, workers)
                .with_checkpoint(dir.path().join("checkpoint"))
                .with_max_records_per_epoch(50)
                .with_max_in_flight(3)
                .with_max_queued(20);
            common::run(&graph(dir.path(), &store), options)
        };
        add(dir.path(), &mut total, 300);
        assert!(run(Mode::MicroBatch, Some((2, true))).is_err());
        assert!(run(Mode::Continuous, Some((0, false))).is_err());
        add(dir.path(), &mut total, 300);
        run(Mode::MicroBatch, None).unwrap();
        let store = store.lock().unwrap();
        assert_eq!(common::sorted(store.rows.clone()), (0..total).collect::<Vec<_>>(), "{workers} workers");
        let given: Vec<u64> = store.given.keys().map(|epoch| epoch.number()).collect();
        assert!(given.windows(2).any(|pair| pair[1] > pair[0] + 1), "{given:?}");
    }
}

#[test]
fn numbers_have_no_gap_after_an_orderly_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, memory, mut total) = (Arc::default(), MemoryStorage::new(), 0);
    for mode in MODES.into_iter().chain(MODES) {
        add(dir.path(), &mut total, 5);
        one_run(dir.path(), &store, &memory, mode, Fault::Nothing).unwrap();
        let epochs = inspect::list(&memory).unwrap().epochs;
        let numbers: Vec<u64> = epochs.iter().map(|epoch| epoch.epoch.number()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}

#[test]
fn epochs_without_a_checkpoint_are_not_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let mut total = 0;
    add(dir.path(), &mut total, 5);
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let graph = Graph::new("no checkpoint");
    let sink = Arc::clone(&seen);
    graph.source(text_files(format!("{}/*.txt", dir.path().display()))).map(|line| line.len()).sink(
        for_each_epoch(move |all: EpochRows<usize>| {
            sink.lock().unwrap().push(all.repeatable);
            Ok::<(), &str>(())
        }),
    );
    for mode in MODES {
        let mut driver = TestDriver::new(&graph, options(mode, 1), &SimClock::new()).unwrap();
        driver.run_to_end().unwrap();
        driver.stop().unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [false, false]);
}

/// A checkpoint of a query that has read two files one after the other, and ended in order or not.
fn files_of_two_runs(input: &Path, total: &mut u64, mode: Mode, last: Fault) -> BTreeMap<String, Vec<u8>> {
    let (store, memory) = (Arc::default(), MemoryStorage::new());
    for fault in [Fault::Nothing, last] {
        add(input, total, 15);
        let _ = one_run(input, &store, &memory, mode, fault);
    }
    memory.files()
}

#[test]
fn source_log_missing_or_cut_is_refused() {
    for mode in MODES {
        for last in [Fault::Nothing, Fault::Crash, Fault::Sink(1, true)] {
            let dir = tempfile::tempdir().unwrap();
            let mut total = 0;
            let files = files_of_two_runs(dir.path(), &mut total, mode, last);
            add(dir.path(), &mut total, 5);
            let name = "sources/files.log";
            let whole = files[name].clone();
            let cuts = (0..whole.len()).map(|length| Some(whole[..length].to_vec()));
            let mut other = whole.clone();
            // A log of as many bytes, all frames of it whole: one that another checkpoint has.
            let another = {
                let dir = tempfile::tempdir().unwrap();
                files_of_two_runs(dir.path(), &mut 7, mode, last)[name].clone()
            };
            other.clone_from(&another);
            for log in cuts.chain([None, Some(other)]) {
                let mut damaged = files.clone();
                damaged.remove(name);
                damaged.extend(log.clone().map(|log| (name.to_owned(), log)));
                let memory = MemoryStorage::from_files(damaged.clone());
                assert!(
                    inspect::verify(&memory).is_err(),
                    "{mode:?}, {last:?}: {:?} of {} bytes",
                    log.map(|log| log.len()),
                    whole.len()
                );
                let error = one_run(dir.path(), &Arc::default(), &memory, mode, Fault::Nothing).unwrap_err();
                let (error, length) = (error.to_string(), log.map(|log| log.len()));
                assert!(error.contains(name), "{length:?} bytes: {error}");
                assert!(error.contains("--drop-state files"), "{length:?} bytes: {error}");
                assert_eq!(memory.files().get(name), damaged.get(name), "a refusal changes nothing");
            }
        }
    }
}

#[test]
fn source_log_lost_and_given_up_is_written_anew() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let mut total = 0;
        let mut files = files_of_two_runs(dir.path(), &mut total, mode, Fault::Sink(1, true));
        files.remove("sources/files.log");
        let memory = MemoryStorage::from_files(files);
        let store: Arc<Mutex<Store>> = Arc::default();
        for dropped in [true, false] {
            add(dir.path(), &mut total, 5);
            let options = options(mode, 1);
            let options = if dropped { options.with_drop_state("files") } else { options };
            let storage = Arc::new(memory.clone());
            let graph = graph(dir.path(), &store);
            let mut driver = TestDriver::with_checkpoint(&graph, options, &SimClock::new(), storage).unwrap();
            driver.epoch().unwrap();
            driver.run_to_end().unwrap();
            driver.stop().unwrap();
        }
        assert_eq!(common::sorted(store.lock().unwrap().rows.clone()), (0..total).collect::<Vec<_>>());
    }
}

/// Where the frames of a file end.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![11];
    while let Some(length) = bytes.get(ends[ends.len() - 1]..ends[ends.len() - 1] + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        ends.push(ends[ends.len() - 1] + 16 + length);
    }
    assert_eq!(ends.last(), Some(&bytes.len()));
    ends
}

#[test]
fn commit_log_cut_by_whole_frames_is_refused() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let mut total = 0;
        let files = files_of_two_runs(dir.path(), &mut total, mode, Fault::Nothing);
        let log = files["commits-0.log"].clone();
        let ends = ends(&log);
        assert!(ends.len() > 8, "{ends:?}");
        for end in &ends[1..ends.len() - 1] {
            let mut cut = files.clone();
            cut.insert("commits-0.log".to_owned(), log[..*end].to_vec());
            let memory = MemoryStorage::from_files(cut.clone());
            assert!(inspect::verify(&memory).is_err());
            let error = one_run(dir.path(), &Arc::default(), &memory, mode, Fault::Nothing).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("commits are missing") && error.contains("savepoint"), "{end}: {error}");
            assert_eq!(memory.files(), cut, "{end}: nothing is changed by a refusal");
        }
    }
}

#[test]
fn commit_log_cut_after_a_crash_is_refused_by_states() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (mut total, store, memory) = (0, Arc::default(), MemoryStorage::new());
        let graph = graph(dir.path(), &store);
        let storage = Arc::new(memory.clone());
        let clock = SimClock::new();
        let mut driver = TestDriver::with_checkpoint(&graph, options(mode, 1), &clock, storage).unwrap();
        for _ in 0..4 {
            add(dir.path(), &mut total, 5);
            // Files are looked for from time to time.
            driver.advance(Duration::from_secs(1)).unwrap();
            driver.epoch().unwrap();
        }
        // A crash: the run has no end that would be noted.
        drop(driver);
        let files = memory.files();
        let log = files["commits-0.log"].clone();
        let commits = |memory: &MemoryStorage| {
            let epochs = inspect::list(memory).unwrap().epochs;
            epochs.last().map(|epoch| epoch.epoch)
        };
        let last = commits(&memory).unwrap();
        let ends = ends(&log);
        let mut refused = 0;
        for end in &ends[1..ends.len() - 1] {
            let mut cut = files.clone();
            cut.insert("commits-0.log".to_owned(), log[..*end].to_vec());
            let memory = MemoryStorage::from_files(cut);
            let found = commits(&memory);
            match one_run(dir.path(), &Arc::default(), &memory, mode, Fault::Nothing) {
                Err(error) => {
                    assert!(error.to_string().contains("commits are missing"), "{error}");
                    refused += 1;
                }
                // The states of the last epoch are as a crash leaves them before its commit.
                Ok(()) => assert!(found.is_some_and(|found| found.next() >= last), "{found:?} of {last}"),
            }
        }
        assert!(refused > 2, "{refused}");
    }
}

#[test]
fn removed_checkpoint_directory_fails_the_next_commit() {
    for mode in MODES {
        for moved in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (input, checkpoint) = (dir.path().join("in"), dir.path().join("checkpoint"));
            std::fs::create_dir(&input).unwrap();
            let (mut total, store) = (0, Arc::default());
            add(&input, &mut total, 5);
            let storage = Arc::new(LocalDirectory::open(&checkpoint).unwrap());
            let graph = graph(&input, &store);
            let mut driver =
                TestDriver::with_checkpoint(&graph, options(mode, 1), &SimClock::new(), storage).unwrap();
            driver.epoch().unwrap().unwrap();
            if moved {
                std::fs::rename(&checkpoint, dir.path().join("elsewhere")).unwrap();
            } else {
                std::fs::remove_dir_all(&checkpoint).unwrap();
            }
            add(&input, &mut total, 5);
            driver.advance(Duration::from_secs(1)).and_then(|()| driver.epoch()).unwrap_err();
            drop(driver);
            assert!(!checkpoint.exists(), "nothing is left that would look like a checkpoint");
        }
    }
}

#[test]
fn replaced_checkpoint_directory_fails_the_next_commit() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (input, checkpoint) = (dir.path().join("in"), dir.path().join("checkpoint"));
        std::fs::create_dir(&input).unwrap();
        let (mut total, store) = (0, Arc::default());
        add(&input, &mut total, 5);
        let open = || {
            let storage = Arc::new(LocalDirectory::open(&checkpoint).unwrap());
            TestDriver::with_checkpoint(&graph(&input, &store), options(mode, 1), &SimClock::new(), storage)
        };
        let mut driver = open().unwrap();
        driver.epoch().unwrap().unwrap();
        std::fs::rename(&checkpoint, dir.path().join("elsewhere")).unwrap();
        store.lock().unwrap().given.clear();
        drop(open().unwrap());
        store.lock().unwrap().given.clear();
        add(&input, &mut total, 5);
        let error = driver.advance(Duration::from_secs(1)).and_then(|()| driver.epoch()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("was removed or replaced while the query was running"), "{error}");
    }
}

#[test]
fn record_at_the_end_of_time_does_not_end_time() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStorage::new();
        let mut late = 0;
        for (run, text) in [format!("1\n{}\n", i64::MAX), "20\n".to_owned()].iter().enumerate() {
            std::fs::write(dir.path().join(format!("{run}.txt")), text).unwrap();
            let graph = Graph::new("end of time");
            graph
                .source(text_files(format!("{}/*.txt", dir.path().display())))
                .map(|line| line.parse::<i64>().unwrap())
                .with_watermark(|time| EventTime::from_micros(*time), Duration::ZERO)
                .window(tumbling(Duration::from_micros(10)))
                .count()
                .append()
                .sink(memory_sink().0);
            let options = options(mode, 1);
            let storage = Arc::new(memory.clone());
            let mut driver = TestDriver::with_checkpoint(&graph, options, &SimClock::new(), storage).unwrap();
            driver.epoch().unwrap();
            late += driver.stop().unwrap().late_rows;
        }
        // It is late, which is counted; the sources have not ended.
        assert_eq!(late, 1, "{mode:?}");
    }
}

/// Reads with the options that a user has.
#[test]
fn record_at_the_end_of_time_does_not_end_the_next_run() {
    for mode in MODES {
        for workers in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            for (run, text) in [format!("1\n{}\n", i64::MAX), "20\n".to_owned()].iter().enumerate() {
                std::fs::write(dir.path().join(format!("{run}.txt")), text).unwrap();
                let graph = Graph::new("end of time");
                graph
                    .source(text_files(format!("{}/*.txt", dir.path().display())))
                    .map(|line| line.parse::<i64>().unwrap())
                    .with_watermark(|time| EventTime::from_micros(*time), Duration::ZERO)
                    .window(tumbling(Duration::from_micros(10)))
                    .count()
                    .append()
                    .sink(memory_sink().0);
                let options: Options =
                    common::available_now(mode, workers).with_checkpoint(dir.path().join("checkpoint"));
                let summary = common::run_well(&graph, options);
                assert_eq!(summary.late_rows, run as u64, "{mode:?} with {workers} workers");
            }
        }
    }
}
