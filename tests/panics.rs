//! A panic in a function of the user is one typed error, whichever thread of the engine calls the function.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::cmp::Ordering;
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill::checkpoint::{CheckpointError, Lock, Log, MemoryStorage, Storage};
use tidemill::connectors::{channel, discard, for_each, iterate, memory, memory_sink, try_for_each};
use tidemill::{
    Graph, Journal, Mode, Options, PlanLimits, Poll, PrepareContext, QueryHandle, Reader, ReaderContext,
    Restart, Run, RunError, Source, SourceError, SourceInfo,
};

use common::{MODES, alone, end, no_thread_is_left, options, wait_until};

/// Which function of the source panics, from which call of it on.
#[derive(Clone)]
struct Fuse {
    function: &'static str,
    calls: Arc<AtomicU64>,
    last: u64,
}

impl Fuse {
    fn new(function: &'static str, last: u64) -> Fuse {
        Fuse { function, calls: Arc::default(), last }
    }

    fn burn(&self, function: &str) {
        if function == self.function && self.calls.fetch_add(1, atomic::Ordering::Relaxed) >= self.last {
            panic!("no luck in {function}");
        }
    }
}

/// A position whose codec may panic.
#[derive(Clone, Debug)]
struct At(u64, Option<Fuse>);

impl std::fmt::Debug for Fuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function)
    }
}

impl PartialEq for At {
    fn eq(&self, other: &At) -> bool {
        self.0 == other.0
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.1.iter().for_each(|fuse| fuse.burn("serialize"));
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At, D::Error> {
        u64::deserialize(deserializer).map(|at| At(at, None))
    }
}

/// Ten numbers an epoch, without an end.
struct Fickle(Fuse);

struct Numbers {
    at: u64,
    fuse: Fuse,
}

impl Source for Fickle {
    type Item = u64;
    type Offset = At;
    type Reader = Numbers;

    fn describe(&self) -> String {
        self.0.burn("describe");
        "fickle".to_owned()
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<At>, SourceError> {
        self.0.burn("prepare");
        Ok(SourceInfo::new(1, |_| At(0, Some(self.0.clone()))))
    }
    fn refresh(&self, _: &PlanLimits) -> Result<(), SourceError> {
        self.0.burn("refresh");
        Ok(())
    }
    fn latest(&self, _: u32, from: &At, _: &PlanLimits) -> Result<At, SourceError> {
        self.0.burn("latest");
        Ok(At(from.0 + 10, Some(self.0.clone())))
    }
    fn open(&self, _: u32, from: &At, _: ReaderContext) -> Result<Numbers, SourceError> {
        self.0.burn("open");
        Ok(Numbers { at: from.0, fuse: self.0.clone() })
    }
    fn committed(&self, _: u32, _: &At) -> Result<(), SourceError> {
        self.0.burn("committed");
        Ok(())
    }
}

impl Reader for Numbers {
    type Item = u64;
    type Offset = At;

    fn poll(&mut self, until: Option<&At>, _: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        self.fuse.burn("poll");
        let until = until.map_or(self.at + 10, |until| until.0);
        out.extend(self.at..until);
        self.at = until;
        Ok(Poll::Ready)
    }
    fn offset(&self) -> At {
        self.fuse.burn("offset");
        At(self.at, Some(self.fuse.clone()))
    }
    fn seek(&mut self, to: &At) -> Result<(), SourceError> {
        self.at = to.0;
        Ok(())
    }
}

fn fast(mode: Mode, workers: usize) -> Options {
    options(mode, workers).with_checkpoint_interval(Duration::from_millis(5))
}

/// Waits for the end, which must come by itself and leave no thread behind.
#[track_caller]
fn ended(query: QueryHandle, what: &str) -> RunError {
    let error = end(query, what).unwrap_err();
    assert!(!matches!(error.cause(), RunError::Stuck { .. }), "{what}: {error}");
    no_thread_is_left();
    error
}

#[test]
fn panic_in_source_function_ends_query_and_frees_checkpoint() {
    let _alone = alone();
    let functions = ["refresh", "latest", "committed", "describe", "serialize", "offset", "poll"];
    for mode in MODES {
        for (function, workers) in functions.into_iter().zip([1, 2].into_iter().cycle()) {
            if mode == Mode::Continuous && matches!(function, "refresh" | "latest") {
                continue; // not called there, but at a restart
            }
            let directory = tempfile::tempdir().unwrap();
            let way = fast(mode, workers).with_checkpoint(directory.path().join("checkpoint"));
            let graph = Graph::new("panics");
            let line = line!() + 1;
            graph.source(Fickle(Fuse::new(function, 12))).sink(memory_sink().0);
            let what = format!("{function}, {mode:?}");
            let error = ended(graph.start(way.clone()).unwrap(), &what);
            let RunError::Panic { site, message, .. } = &error else { panic!("{what}: {error}") };
            assert_eq!(*message, format!("no luck in {function}"));
            assert!(site.location.ends_with(&format!("panics.rs:{line}")), "{what}: {error}");
            // The checkpoint is free: a sound source resumes from it.
            let graph = Graph::new("panics");
            graph.source(Fickle(Fuse::new("nothing", 0))).sink(memory_sink().0);
            let query = graph.start(way).unwrap();
            wait_until(&query, &what, |query| query.progress().epoch.is_some());
            query.stop();
            end(query, &what).unwrap();
        }
    }
}

#[test]
fn panic_while_query_is_set_up_is_error_with_site() {
    let _alone = alone();
    for mode in MODES {
        for function in ["prepare", "serialize"] {
            let graph = Graph::new("panics");
            graph.source(Fickle(Fuse::new(function, 0))).sink(memory_sink().0);
            let storage = Arc::new(MemoryStorage::new());
            let error = graph.start_in(storage.clone(), fast(mode, 1)).map(|query| ended(query, function));
            let error = error.unwrap_or_else(|error| error);
            let RunError::Panic { site, message, .. } = &error else { panic!("{function}: {error}") };
            assert_eq!(*message, format!("no luck in {function}"));
            assert!(site.location.contains("panics.rs:"), "{error}");
            no_thread_is_left();
            let sound = Graph::new("panics");
            sound.source(memory(0..10u64)).sink(memory_sink().0);
            end(sound.start_in(storage, fast(mode, 1)).unwrap(), function).unwrap();
        }
    }
}

#[test]
fn panic_on_driver_is_retried_as_restart_policy_says() {
    let _alone = alone();
    let graph = Graph::new("panics");
    let fuse = Fuse::new("latest", 6);
    graph.source(Fickle(fuse.clone())).sink(memory_sink().0);
    let restart = Restart::Times { times: 2, backoff: Duration::from_millis(1) };
    let way = fast(Mode::MicroBatch, 1).with_restart(restart);
    let query = graph.start_in(Arc::new(MemoryStorage::new()), way).unwrap();
    let error = ended(query, "restarts");
    assert!(matches!(&error, RunError::GivenUp { restarts: 2, .. }), "{error}");
    assert!(matches!(error.cause(), RunError::Panic { worker: None, .. }), "{error}");
    // The second and the third attempt panic at the first call, while the query is set up.
    assert_eq!(fuse.calls.load(atomic::Ordering::Relaxed), 9);
}

/// Panics on threads of that name.
#[derive(Debug)]
struct Brittle(MemoryStorage, &'static str);

impl Brittle {
    fn try_luck(&self) {
        let here = std::thread::current();
        assert!(here.name() != Some(self.1), "no luck on {}", self.1);
    }
}

impl Storage for Brittle {
    fn describe(&self) -> String {
        "brittle".to_owned()
    }
    fn lock(&self, owner: &tidemill::checkpoint::Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        self.0.lock(owner)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.try_luck();
        self.0.put(name, bytes)
    }
    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        self.0.log(name)
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.try_luck();
        self.0.get(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        self.0.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        self.0.delete(name)
    }
}

const THREADS: [&str; 2] = ["tidemill-saver", "tidemill-compaction"];

#[test]
fn panic_of_storage_on_helper_thread_ends_query() {
    let _alone = alone();
    for (mode, thread) in MODES.into_iter().flat_map(|mode| THREADS.map(|thread| (mode, thread))) {
        let graph = Graph::new("threads");
        // Many small epochs, so that their state is compacted.
        graph.source(iterate(|| 0u64..)).key_by(|n| n % 7).count().update().sink(discard().0);
        let way = fast(mode, 2).with_checkpoint_interval(Duration::from_millis(1));
        let storage = Arc::new(Brittle(MemoryStorage::new(), thread));
        let error = ended(graph.start_in(storage, way.with_max_records_per_epoch(10)).unwrap(), thread);
        let RunError::Panic { message, worker: None, .. } = &error else { panic!("{error}") };
        assert!(message.contains(&format!("no luck on {thread}")), "{message}");
    }
}

/// A record whose codec panics for one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Picky(u64);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 13, "13 is not written");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
        u64::deserialize(deserializer).map(Picky)
    }
}

#[test]
fn panic_in_serialize_ends_query_in_state_and_journal() {
    let _alone = alone();
    for mode in MODES {
        let graph = Graph::new("state");
        graph.source(memory((0..20).map(Picky))).key_by(Clone::clone).count().update().sink(memory_sink().0);
        let query = graph.start_in(Arc::new(MemoryStorage::new()), fast(mode, 2)).unwrap();
        let error = ended(query, "state");
        assert!(matches!(&error, RunError::Panic { .. }), "{error}");

        let graph = Graph::new("journal");
        let (sender, source) = channel(32);
        graph.source(source.journaled()).sink(for_each(|_: Picky| {}));
        let query = graph.start_in(Arc::new(MemoryStorage::new()), fast(mode, 1)).unwrap();
        (0..20).for_each(|n| sender.send(Picky(n)).unwrap_or(()));
        let error = ended(query, "journal");
        assert!(error.to_string().contains("13 is not written"), "{error}");
    }
}

/// A key or value of which one trait panics for one value.
#[derive(Debug, Serialize, Deserialize)]
struct Unlucky(u64, Trait);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Trait {
    Clone,
    Hash,
    Eq,
    Ord,
    Display,
}

impl Unlucky {
    fn try_luck(&self, of: Trait) {
        assert!(self.0 != 13 || self.1 != of, "no luck in {of:?}");
    }
}

impl Clone for Unlucky {
    fn clone(&self) -> Unlucky {
        self.try_luck(Trait::Clone);
        Unlucky(self.0, self.1)
    }
}

impl Hash for Unlucky {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.try_luck(Trait::Hash);
        self.0.hash(hasher);
    }
}

impl PartialEq for Unlucky {
    fn eq(&self, other: &Unlucky) -> bool {
        self.try_luck(Trait::Eq);
        self.0 == other.0
    }
}

impl Eq for Unlucky {}

impl PartialOrd for Unlucky {
    fn partial_cmp(&self, other: &Unlucky) -> Option<Ordering> {
        self.try_luck(Trait::Ord);
        other.try_luck(Trait::Ord);
        self.0.partial_cmp(&other.0)
    }
}

impl Display for Unlucky {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.try_luck(Trait::Display);
        write!(f, "{}", self.0)
    }
}

impl Error for Unlucky {}

#[test]
fn panic_in_trait_of_key_or_value_ends_query_with_its_line() {
    let _alone = alone();
    for mode in MODES {
        for (of, workers) in [Trait::Clone, Trait::Hash, Trait::Eq, Trait::Ord].into_iter().zip([1, 2, 1, 2])
        {
            let graph = Graph::new("traits");
            let numbers = graph.source(memory((0..20u64).chain(0..20)));
            if of == Trait::Ord {
                numbers.key_by(|n| n % 3).max(move |n| Unlucky(*n, of)).update().sink(memory_sink().0);
            } else {
                numbers.key_by(move |n| Unlucky(*n, of)).count().update().sink(memory_sink().0);
            }
            let what = format!("{of:?}, {mode:?}");
            let query = graph.start_in(Arc::new(MemoryStorage::new()), fast(mode, workers)).unwrap();
            let error = ended(query, &what);
            let RunError::Panic { site, message, .. } = &error else { panic!("{what}: {error}") };
            assert_eq!(*message, format!("no luck in {of:?}"));
            assert!(site.location.contains("panics.rs:"), "{what}: {error}");
        }
    }
}

#[test]
fn error_whose_text_panics_ends_query_and_its_restarts() {
    let _alone = alone();
    let restarts = [Restart::Never, Restart::Times { times: 2, backoff: Duration::from_millis(1) }];
    for (mode, restart) in MODES.into_iter().flat_map(|mode| restarts.map(|restart| (mode, restart))) {
        let graph = Graph::new("text");
        let refuse = |n: u64| if n == 13 { Err(Unlucky(n, Trait::Display)) } else { Ok(()) };
        graph.source(memory(0..20u64)).sink(try_for_each(refuse));
        let query =
            graph.start_in(Arc::new(MemoryStorage::new()), fast(mode, 1).with_restart(restart)).unwrap();
        ended(query, "text");
    }
}

#[test]
fn panic_in_drop_of_source_ends_query_with_error() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            panic!("no luck in drop");
        }
    }
    let _alone = alone();
    let graph = Graph::new("drop");
    let last = Last;
    let same = move |n: u64| {
        let _ = &last;
        n
    };
    graph.source(memory(0..10u64)).map(same).sink(memory_sink().0);
    let query = graph.start(fast(Mode::MicroBatch, 1)).unwrap();
    // The query's threads hold the last reference to the graph.
    drop(graph);
    let error = ended(query, "drop");
    assert!(matches!(&error, RunError::Panic { .. }), "{error}");
    assert!(error.to_string().contains("no luck in drop"), "{error}");
}
