//! What the whole-graph tests have in common: running a query under a watchdog.
#![allow(unreachable_pub, dead_code, reason = "every test file uses its own part of this")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidemill::{Graph, Mode, Options, QueryHandle, Run, RunError, Summary, Trigger};

/// How long a query may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const MODES: [Mode; 2] = [Mode::MicroBatch, Mode::Continuous];

/// Options for a test: Ctrl-C stays the test runner's.
pub(crate) fn options(mode: Mode, workers: usize) -> Options {
    Options::default().with_mode(mode).with_workers(workers).without_ctrl_c()
}

pub(crate) fn available_now(mode: Mode, workers: usize) -> Options {
    options(mode, workers).with_trigger(Trigger::AvailableNow)
}

/// The ways to run a graph whose results must be the same: both modes, 1, 2 and 4 workers, sources read by their chains from
/// this many rows on, and epochs that end by themselves or after this many records.
pub(crate) fn ways(pulls_from: &[usize], records: u64) -> Vec<Options> {
    let mut ways = Vec::new();
    for mode in MODES {
        for workers in [1, 2, 4] {
            for pulls_from in pulls_from {
                let way = options(mode, workers).with_pulls_from(*pulls_from);
                ways.push(way.clone());
                ways.push(
                    way.with_max_records_per_epoch(records)
                        .with_checkpoint_interval(Duration::from_millis(1)),
                );
            }
        }
    }
    ways
}

/// Runs a graph to its end; one that hangs fails the test, with the last progress of the query.
#[track_caller]
pub(crate) fn run(graph: &Graph, options: Options) -> Result<Summary, RunError> {
    let what = format!("{options:?}");
    end(graph.start(options)?, &what)
}

/// Runs a graph that must end in order.
#[track_caller]
pub(crate) fn run_well(graph: &Graph, options: Options) -> Summary {
    let what = format!("{options:?}");
    run(graph, options).unwrap_or_else(|error| panic!("the query failed: {error}\n{what}"))
}

/// Waits for the end of a query; one that hangs fails the test, with its last progress.
#[track_caller]
pub(crate) fn end(handle: QueryHandle, what: &str) -> Result<Summary, RunError> {
    wait_until(&handle, what, |handle| handle.is_finished());
    handle.wait()
}

/// Waits until something is true of a running query.
#[track_caller]
pub(crate) fn wait_until(handle: &QueryHandle, what: &str, is_true: impl Fn(&QueryHandle) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true(handle) {
        if Instant::now() > deadline {
            let progress = handle.progress();
            handle.cancel();
            panic!("no end after {PATIENCE:?}: {what}\nlast progress: {progress:#?}");
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// Tries again what takes longer than `most`, a few times: other programs may take the machine from one attempt, but not from all.
/// An attempt returns how long it has taken.
#[track_caller]
pub(crate) fn takes_at_most(most: Duration, what: &str, mut attempt: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    while times.len() < 6 {
        let time = attempt();
        if time <= most {
            return;
        }
        times.push(time);
    }
    panic!("{what} takes at most {most:?}, and has taken {times:?}");
}

/// Holds up the rows of a query, so that it cannot end before a test has looked at it, stopped it or cancelled it.
#[derive(Clone)]
pub(crate) struct Hold(Arc<(Mutex<u64>, Condvar)>);

impl Hold {
    /// Lets this many rows pass, and holds up all others until [`Hold::release`].
    pub(crate) fn after(rows: u64) -> Hold {
        Hold(Arc::new((Mutex::new(rows), Condvar::new())))
    }

    /// Holds up no row.
    pub(crate) fn nothing() -> Hold {
        Hold::after(u64::MAX)
    }

    /// Passes a row, perhaps after a while. Called by a function of the query.
    pub(crate) fn pass(&self) {
        let (left, released) = &*self.0;
        let left = left.lock().unwrap();
        // It ends so that a test that has failed leaves no thread behind.
        let (mut left, timeout) = released.wait_timeout_while(left, PATIENCE, |left| *left == 0).unwrap();
        assert!(!timeout.timed_out(), "the rows are not released");
        *left -= 1;
    }

    pub(crate) fn release(&self) {
        *self.0.0.lock().unwrap() = u64::MAX;
        self.0.1.notify_all();
    }
}

/// Runs the rest of a test while no other test of the same file does: for those that look at threads or clocks.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sorts: results of several workers come in any order.
pub(crate) fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

/// Two results are the same rows, in any order; else says only which differ.
#[track_caller]
pub(crate) fn assert_same<T: Ord + Clone + std::fmt::Debug>(
    found: &[T],
    expected: &[T],
    what: impl std::fmt::Display,
) {
    let (found, expected) = (sorted(found.to_vec()), sorted(expected.to_vec()));
    if found == expected {
        return;
    }
    let (mut missing, mut extra) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (found.iter().peekable(), expected.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next();
            }
            (Some(x), y) if y.is_none_or(|y| x < y) => extra.extend(a.next()),
            _ => missing.extend(b.next()),
        }
    }
    let some = |rows: &[&T]| rows.iter().take(8).map(|row| format!("\n    {row:?}")).collect::<String>();
    panic!(
        "{what}: {} rows found, {} expected\n  {} not expected:{}\n  {} missing:{}",
        found.len(),
        expected.len(),
        extra.len(),
        some(&extra),
        missing.len(),
        some(&missing)
    );
}

/// Threads of queries that are there now.
pub(crate) fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names
        .map(|n| n.trim().to_owned())
        .filter(|n| n.starts_with("timely") || n.starts_with("tidemill"))
        .collect()
}

/// Waits until no query has a thread. Those of tests that run beside this one end, too.
#[track_caller]
pub(crate) fn no_thread_is_left() {
    let deadline = Instant::now() + PATIENCE;
    while !threads().is_empty() {
        assert!(Instant::now() < deadline, "threads are left: {:?}", threads());
        std::thread::yield_now();
    }
}
