//! Reads from other threads, each compared with plain loops over the records of its epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidemill::connectors::{MemorySource, text_files};
use tidemill::table::{IntoTable, ReadError, TableReader, Tables};
use tidemill::testing::{SimClock, TestDriver};
use tidemill::{Graph, Mode, Options, Restart, Run, RunError, Stream};

use crate::common::{MODES, available_now, end, options, run, wait_until};
use crate::graphs::{appended, log, newest};
use crate::model::{Command, Inputs, Random, Rows, commands, group, join, map};

/// Makes tables queryable. One of them has the number of commands that have been read, so it tells of which content the others are.
fn published(commands: &Stream<Command>) {
    let (a, b) = (newest(commands, 0), newest(commands, 1));
    a.queryable("newest");
    log(commands).queryable("log");
    let by_value = a.rekey(|key, value| (value, key));
    by_value.queryable("by value");
    by_value.count().queryable("counts");
    a.join(&b, |_, left, right| (*left, *right)).queryable("pairs");
    appended(commands).top_k(2).queryable("best");
    let all = commands.clone().map(|_| ()).key_by(|()| "all".to_owned()).into_append_table().uid("all");
    all.count().queryable("commands");
}

/// The same in plain loops.
struct Expected {
    newest: Rows<u32, u32>,
    log: Rows<u32, u32>,
    by_value: Rows<u32, u32>,
    counts: Rows<u32, u64>,
    pairs: Rows<u32, (u32, u32)>,
    best: Rows<u32, u32>,
}

impl Expected {
    fn of(inputs: &Inputs) -> Expected {
        let by_value = map(&inputs.newest(0), |key, value| Some((value, key)));
        Expected {
            counts: group(&by_value, |rows| vec![rows.len() as u64]),
            by_value,
            pairs: join(&inputs.newest(0), &inputs.newest(1), |_, left, right| (*left, *right)),
            best: group(&inputs.appended, |rows| rows.iter().rev().take(2).copied().collect()),
            log: inputs.log.clone(),
            newest: inputs.newest(0),
        }
    }
}

/// The content after each number of commands.
fn expected_after_each(commands: &[Command]) -> Arc<Vec<Expected>> {
    let mut inputs = Inputs::default();
    let mut all = vec![Expected::of(&inputs)];
    for command in commands {
        inputs.apply(command);
        all.push(Expected::of(&inputs));
    }
    Arc::new(all)
}

/// Reads a table in every way.
fn check<V: tidemill::table::TableRow>(
    tables: &Tables,
    name: &str,
    expected: &Rows<u32, V>,
    random: &mut Random,
) {
    let table = tables.table::<u32, V>(name).unwrap();
    let what = format!("{name} at {:?}", tables.epoch());
    let copies =
        |((key, row), copies): (&(u32, V), &i64)| (0..*copies).map(|_| (*key, row.clone())).collect();
    let rows: Vec<(u32, V)> = expected.iter().flat_map(|it| -> Vec<_> { copies(it) }).collect();
    assert_eq!((table.len(), table.is_empty()), (rows.len(), rows.is_empty()), "{what}");
    let key = random.below(12) as u32;
    let of_key: Vec<V> = rows.iter().filter(|row| row.0 == key).map(|row| row.1.clone()).collect();
    assert_eq!(table.get(&key), of_key.last().cloned(), "{what}");
    assert_eq!(table.contains_key(&key), !of_key.is_empty(), "{what}");
    assert_eq!(table.rows(&key), of_key, "{what}");
    let until = key + random.below(4) as u32;
    let of_range: Vec<(u32, V)> = table.range(key..until).map(|(key, row)| (*key, row.clone())).collect();
    let expected: Vec<(u32, V)> = rows.iter().filter(|row| (key..until).contains(&row.0)).cloned().collect();
    assert_eq!(of_range, expected, "{what}");
    let above = (std::ops::Bound::Excluded(key), std::ops::Bound::Included(until));
    assert!(table.range::<u32, _>(above).all(|(of, _)| key < *of && *of <= until), "{what}");
    assert_eq!(table.scan(5), rows[..rows.len().min(5)], "{what}");
    assert!(table.iter().map(|(key, row)| (*key, row.clone())).eq(rows), "{what}");
}

/// Compares all tables with plain loops; returns how many commands they are of.
fn check_all(tables: &Tables, expected: &[Expected], random: &mut Random) -> usize {
    let count = tables.table::<String, u64>("commands").unwrap().get("all").unwrap_or(0) as usize;
    assert!(tables.epoch().is_some() || count == 0);
    let expected = &expected[count];
    check(tables, "newest", &expected.newest, random);
    check(tables, "log", &expected.log, random);
    check(tables, "by value", &expected.by_value, random);
    check(tables, "counts", &expected.counts, random);
    check(tables, "pairs", &expected.pairs, random);
    check(tables, "best", &expected.best, random);
    count
}

/// Threads that read while a query runs.
struct Readers {
    reads: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<BTreeMap<u64, usize>>>,
}

impl Readers {
    fn start(reads: Arc<AtomicU64>, reader: &TableReader, expected: &Arc<Vec<Expected>>) -> Readers {
        let is_over = Arc::new(AtomicBool::new(false));
        let read = |seed: u64| {
            let (reads, is_over) = (Arc::clone(&reads), Arc::clone(&is_over));
            let (reader, expected) = (reader.clone(), Arc::clone(expected));
            thread::spawn(move || {
                let (mut random, mut epochs) = (Random(seed), BTreeMap::new());
                let mut last = None;
                let mut held: Option<(Tables, usize)> = None;
                while !is_over.load(Ordering::Acquire) {
                    let tables = reader.tables();
                    assert!(tables.epoch() >= last, "{:?} after {last:?}", tables.epoch());
                    last = tables.epoch();
                    let count = check_all(&tables, &expected, &mut random);
                    if let Some(epoch) = last {
                        assert_eq!(*epochs.entry(epoch).or_insert(count), count, "epoch {epoch} has changed");
                    }
                    // Tables that are held stay as they were.
                    if let Some((held, count)) = &held {
                        assert_eq!(check_all(held, &expected, &mut random), *count);
                    }
                    if random.below(4) == 0 {
                        held = Some((tables, count));
                    }
                    reads.fetch_add(1, Ordering::Release);
                }
                epochs
            })
        };
        let threads = (1..3).map(read).collect();
        Readers { reads, is_over, threads }
    }

    /// Ends the threads; returns how many commands each epoch had that they have seen.
    fn end(self) -> BTreeMap<u64, usize> {
        self.is_over.store(true, Ordering::Release);
        let seen = self.threads.into_iter().flat_map(|thread| thread.join().unwrap());
        assert!(self.reads.load(Ordering::Acquire) > 0);
        seen.collect()
    }
}

/// A graph that reads a part of the commands only after some reads.
fn paced(commands: &[Command], reads: &Arc<AtomicU64>, fails_at: Option<usize>) -> Graph {
    let graph = Graph::new("reads");
    let reads = Arc::clone(reads);
    let numbered: Vec<_> = commands.iter().copied().enumerate().collect();
    let has_failed = Arc::new(AtomicBool::new(false));
    let paced =
        graph.source(MemorySource::partitioned([numbered])).uid("in").map(move |(number, command)| {
            while reads.load(Ordering::Acquire) < number as u64 / 20 {
                thread::yield_now();
            }
            if Some(number) == fails_at {
                assert!(has_failed.swap(true, Ordering::AcqRel), "fails once");
            }
            command
        });
    published(&paced.boxed());
    graph
}

fn runs_with_readers(commands: &[Command], options: Options, fails_at: Option<usize>) {
    let what = format!("{options:?}");
    let expected = expected_after_each(commands);
    let reads = Arc::new(AtomicU64::new(0));
    let graph = paced(commands, &reads, fails_at);
    let query = graph.start(options).unwrap();
    let reader = query.table_reader();
    let readers = Readers::start(reads, &reader, &expected);
    let summary = end(query, &what).unwrap();
    assert_eq!(summary.restarts, u64::from(fails_at.is_some()));
    let seen = readers.end();
    let counts: Vec<usize> = seen.values().copied().collect();
    assert!(counts.is_sorted() && counts.len() > 3, "{counts:?}, {what}");
    // The last commit can be read after the end.
    assert_eq!(check_all(&reader.tables(), &expected, &mut Random(9)), commands.len(), "{what}");
}

#[test]
fn reads_beside_a_running_query_are_of_committed_epochs() {
    let commands = commands(50, 12, 1_000);
    for mode in MODES {
        for workers in [1, 2, 4] {
            let options = options(mode, workers).with_checkpoint_interval(Duration::from_millis(1));
            runs_with_readers(&commands, options.with_max_records_per_epoch(30).with_max_in_flight(3), None);
        }
    }
}

#[test]
fn reads_stay_consistent_across_a_failure_and_restart() {
    let commands = commands(51, 12, 600);
    for mode in MODES {
        for workers in [1, 2] {
            let place = tempfile::tempdir().unwrap();
            let restart = Restart::Times { times: 2, backoff: Duration::from_millis(1) };
            let options = options(mode, workers).with_checkpoint_interval(Duration::from_millis(1));
            let options = options.with_checkpoint(place.path()).with_restart(restart);
            runs_with_readers(&commands, options.with_max_records_per_epoch(20), Some(400));
        }
    }
}

/// A graph over the files of a directory.
fn over_files(place: &Path) -> Graph {
    let graph = Graph::new("reads");
    let lines = graph.source(text_files(place.join("in").display().to_string())).uid("in");
    published(&lines.map(|line| serde_json::from_str(&line).unwrap()).boxed());
    graph
}

#[test]
fn restored_tables_can_be_read_before_the_first_commit() {
    let commands = commands(52, 12, 300);
    let expected = expected_after_each(&commands);
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("in")).unwrap();
    let ways = [(Mode::MicroBatch, 1), (Mode::MicroBatch, 3), (Mode::Continuous, 2), (Mode::MicroBatch, 4)];
    let mut read = 0;
    for (number, part) in commands.chunks(100).enumerate() {
        let lines = part.iter().map(|command| serde_json::to_string(command).unwrap() + "\n");
        fs::write(place.path().join("in").join(number.to_string()), lines.collect::<String>()).unwrap();
        let durable = |way: Options| way.with_checkpoint(place.path().join("checkpoint"));
        let way = durable(available_now(ways[number].0, ways[number].1)).with_max_records_per_epoch(30);
        let query = over_files(place.path()).start(way).unwrap();
        let reader = query.table_reader();
        end(query, "available now").unwrap();
        read += part.len();
        assert_eq!(check_all(&reader.tables(), &expected, &mut Random(3)), read);
        let committed = reader.tables().epoch();

        // On other workers, without new files, and without a commit.
        let (mode, workers) = ways[number + 1];
        let way = durable(options(mode, workers)).with_checkpoint_interval(Duration::from_secs(3_600));
        let query = over_files(place.path()).start(way).unwrap();
        wait_until(&query, "the restored tables", |query| query.tables().epoch().is_some());
        assert_eq!(query.tables().epoch(), committed, "{mode}, {workers} workers");
        assert_eq!(check_all(&query.tables(), &expected, &mut Random(3)), read, "{mode}, {workers} workers");
        query.stop();
        end(query, "a stop").unwrap();
    }
}

#[test]
fn retained_epochs_can_be_read_and_no_others() {
    let commands = commands(53, 12, 200);
    let expected = expected_after_each(&commands);
    for workers in [1, 2] {
        let graph = Graph::new("reads");
        published(&graph.source(MemorySource::partitioned([commands.clone()])).boxed());
        let options = options(Mode::MicroBatch, workers).with_max_records_per_epoch(10);
        let query = graph.start(options.with_table_epochs(5)).unwrap();
        let reader = query.table_reader();
        end(query, "retained epochs").unwrap();
        let epochs = reader.epochs();
        assert_eq!(epochs.len(), 5);
        for (number, epoch) in epochs.iter().enumerate() {
            let tables = reader.as_of(*epoch).unwrap();
            assert_eq!(tables.epoch(), Some(*epoch));
            assert_eq!(check_all(&tables, &expected, &mut Random(3)), 160 + 10 * number);
        }
        for epoch in [epochs[0] - 1, epochs[4] + 1] {
            let error = reader.as_of(epoch).unwrap_err();
            assert_eq!(error, ReadError::NotRetained { epoch, retained: epochs.clone() });
            assert!(error.to_string().contains("--table-epochs"), "{error}");
        }
    }
    let graph = Graph::new("none");
    published(&graph.source(MemorySource::partitioned([commands])).boxed());
    let error = run(&graph, options(Mode::MicroBatch, 1).with_table_epochs(0)).unwrap_err();
    assert!(matches!(error, RunError::Options { option: "--table-epochs", .. }), "{error}");
}

#[test]
fn tables_are_empty_until_the_first_commit() {
    let commands = commands(54, 12, 60);
    let expected = expected_after_each(&commands);
    let graph = Graph::new("reads");
    published(&graph.source(MemorySource::partitioned([commands])).boxed());
    let options = Options::default().with_max_records_per_epoch(20);
    let mut driver = TestDriver::new(&graph, options, &SimClock::new()).unwrap();
    let reader = driver.table_reader();
    assert_eq!((reader.tables().epoch(), reader.epochs()), (None, vec![]));
    assert_eq!(check_all(&reader.tables(), &expected, &mut Random(4)), 0);
    assert!(matches!(reader.as_of(0), Err(ReadError::NotRetained { epoch: 0, .. })));
    for count in [20, 40, 60] {
        driver.epoch().unwrap().unwrap();
        assert_eq!(check_all(&reader.tables(), &expected, &mut Random(4)), count);
    }
}

#[test]
fn unknown_names_and_other_types_are_errors_that_list_tables() {
    let graph = Graph::new("reads");
    published(&graph.source(MemorySource::partitioned([vec![]])).boxed());
    let query = graph.start(options(Mode::MicroBatch, 1)).unwrap();
    let error = query.table::<u32, u32>("newst").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("no table is queryable as `newst`: the query has `newest` (u32 → u32), "),
        "{text}"
    );
    let error = query.table::<u32, String>("newest").unwrap_err();
    let ReadError::OtherTypes { table, location, asked } = &error else { panic!("{error}") };
    assert_eq!((table.as_str(), asked.0), ("`newest` (u32 → u32)", "u32"));
    assert!(location.contains("reads.rs:"), "{location}");
    assert_eq!(query.tables().names().count(), 7);
    end(query, "no rows").unwrap();

    let graph = Graph::new("none");
    graph.source(MemorySource::partitioned([vec![1u32]])).sink(tidemill::testing::collecting_sink().0);
    let query = graph.start(options(Mode::MicroBatch, 1)).unwrap();
    let error = query.table::<u32, u32>("newest").unwrap_err().to_string();
    assert!(error.contains("no queryable tables; call `.queryable(name)`"), "{error}");
    end(query, "no tables").unwrap();
}

#[test]
fn two_tables_of_one_name_are_refused() {
    let graph = Graph::new("reads");
    let commands = graph.source(MemorySource::partitioned([vec![]])).boxed();
    newest(&commands, 0).queryable("values");
    newest(&commands, 1).queryable("values");
    let error = run(&graph, options(Mode::MicroBatch, 1)).unwrap_err();
    assert!(matches!(error, RunError::Graph(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("has the name `values`, too: choose another one"), "{text}");
    assert_eq!(text.matches("reads.rs:").count(), 2, "{text}");
}
