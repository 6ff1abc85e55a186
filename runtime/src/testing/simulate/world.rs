//! What is outside of the query and outlives it: its disk, and what it has been given.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::{Data, turn};

use super::disk::Disk;
use super::plan::{End, Variant};
use super::{Breach, SimSink, SimSource};
pub(super) use crate::sim::lock;
use crate::sim::{self, JoinHandle, Random};

/// What the parts of a simulation share.
#[derive(Default)]
pub(super) struct Shared {
    /// The number of the run, and whether its process is dead: nothing that it does has an effect any more.
    run: AtomicU64,
    is_dead: AtomicBool,
    /// At which call a sink fails, and whether after it has done what it was asked to.
    pub(super) sink_fault: Mutex<Option<(u64, bool)>>,
    sink_calls: AtomicU64,
    /// What was found wrong while the query ran.
    breach: Mutex<Option<Breach>>,
}

impl Shared {
    /// The run that is under way.
    pub(super) fn run(&self) -> u64 {
        self.run.load(Ordering::SeqCst)
    }

    /// Whether what belongs to that run can still do anything.
    pub(super) fn is_alive(&self, run: u64) -> bool {
        self.run() == run && !self.is_dead.load(Ordering::SeqCst)
    }

    pub(super) fn begin_run(&self, end: End) {
        self.run.fetch_add(1, Ordering::SeqCst);
        self.is_dead.store(false, Ordering::SeqCst);
        self.sink_calls.store(0, Ordering::SeqCst);
        *lock(&self.sink_fault) = if let End::Sink(call, done) = end { Some((call, done)) } else { None };
    }

    pub(super) fn die(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    /// Whether this call of a sink fails, and whether after what it does.
    pub(super) fn sink_fails(&self) -> Option<bool> {
        let call = self.sink_calls.fetch_add(1, Ordering::SeqCst) + 1;
        lock(&self.sink_fault).filter(|(at, _)| *at == call).map(|(_, done)| done)
    }

    /// Whether a sink has failed as it was told to.
    pub(super) fn sink_has_failed(&self) -> bool {
        lock(&self.sink_fault).is_some_and(|(at, _)| at <= self.sink_calls.load(Ordering::SeqCst))
    }

    /// Notes what must never happen; the first counts.
    pub(super) fn violated(&self, breach: Breach) {
        lock(&self.breach).get_or_insert(breach);
    }

    pub(super) fn breach(&self) -> Option<Breach> {
        lock(&self.breach).clone()
    }
}

/// Where a simulation makes its sources and sinks, and what a scenario may choose of its seed.
///
/// What is made here outlives the runs of the query: what a sink has shown stays when the process of the query dies.
pub struct World {
    pub(super) shared: Arc<Shared>,
    pub(super) random: Random,
    /// Whether idle workers read partitions for others, of sources that can be read again.
    moves: bool,
    pub(super) rows: Option<u64>,
    /// When the last row of a source arrives, after the beginning.
    pub(super) last_arrival: Duration,
    pub(super) tasks: Vec<(String, Box<dyn FnOnce() + Send>)>,
    pub(super) disk: Arc<Disk>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    pub(super) fn new(variant: &Variant) -> io::Result<World> {
        let shared = Arc::default();
        Ok(World {
            disk: Disk::new(&shared)?,
            shared,
            random: Random::new(variant.seed),
            // Of a generator of its own, so that old seeds choose the same of everything else.
            moves: Random::new(variant.seed ^ 0x69_64_6c_65).below(2) == 0,
            rows: variant.rows,
            last_arrival: Duration::ZERO,
            tasks: Vec::new(),
        })
    }

    /// A number below `end` that depends on the seed; 0 if `end` is 0.
    pub fn choose(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    /// How many rows an input should have: at most `most`, and few where a failing seed is being shrunk.
    pub fn rows(&mut self, most: u64) -> u64 {
        let rows = self.random.below(most + 1);
        self.rows.map_or(rows, |least| rows.min(least))
    }

    /// A source of these rows, by partition. They arrive one after the other, at times that depend on the seed; when all
    /// have, the source ends. It can be read again from any offset. With half of the seeds, idle workers read its partitions for
    /// others.
    pub fn source<T: Data + Clone + Sync>(&mut self, partitions: Vec<Vec<T>>) -> SimSource<T> {
        let mut all = Vec::new();
        for rows in partitions {
            let arrivals = self.arrivals(Duration::ZERO, rows);
            let last = arrivals.last().map_or(Duration::ZERO, |(arrival, _)| *arrival);
            self.last_arrival = self.last_arrival.max(last);
            all.push(arrivals);
        }
        SimSource::new(Arc::clone(&self.shared), all).moving(self.moves)
    }

    /// A source whose partitions appear one after the other while the query runs, such as shards: there may be none at first. The
    /// rows of each arrive as those of [`source`](Self::source) do, except for its last one: that arrives when all other rows
    /// have. The source never ends, but its partitions do.
    pub fn appearing_source<T: Data + Clone + Sync>(&mut self, partitions: Vec<Vec<T>>) -> SimSource<T> {
        let mut at = Duration::from_millis(2 * self.random.below(2));
        let (mut appear, mut all, mut last) = (Vec::new(), Vec::new(), Duration::ZERO);
        for rows in partitions {
            let arrivals = self.arrivals(at, rows);
            last = arrivals.last().map_or(at, |(arrival, _)| *arrival).max(last);
            appear.push(at);
            all.push(arrivals);
            at += Duration::from_micros(self.random.below(20_000));
        }
        for (arrival, _) in all.iter_mut().filter_map(|arrivals| arrivals.last_mut()) {
            *arrival = last;
        }
        self.last_arrival = self.last_arrival.max(last);
        SimSource::new(Arc::clone(&self.shared), all).moving(self.moves).appearing(appear)
    }

    /// The rows, each with a time at which it arrives, one after the other from `at` on.
    fn arrivals<T>(&mut self, mut at: Duration, rows: Vec<T>) -> Vec<(Duration, T)> {
        let mut arrivals = Vec::new();
        for row in rows {
            at += match self.random.below(4) {
                0 => Duration::from_micros(self.random.below(50_000)),
                _ => Duration::from_micros(self.random.below(200)),
            };
            arrivals.push((at, row));
        }
        arrivals
    }

    /// A sink whose rows become visible with their epoch, once each. Clones of it, one for each graph that is built, show
    /// their rows in the same place.
    pub fn sink<T: Clone + fmt::Debug + Send + 'static>(&mut self) -> SimSink<T> {
        SimSink::new(Arc::clone(&self.shared), true)
    }

    /// A sink without transactions: in continuous mode its rows are visible at once, and those after the last commit come
    /// again after a crash.
    pub fn plain_sink<T: Clone + fmt::Debug + Send + 'static>(&mut self) -> SimSink<T> {
        SimSink::new(Arc::clone(&self.shared), false)
    }

    /// The directory for the outputs of the query, on the simulated disk. When its process dies, what is in it at that
    /// moment is what the next run finds; when its machine crashes, any part of what was not synced is missing.
    ///
    /// That holds for the sinks of this crate's file connectors. A sink of your own that writes files in it meets deaths
    /// of the process, but no crash of the machine and no failing disk.
    pub fn directory(&self) -> PathBuf {
        self.disk.outputs()
    }

    /// The directory for the inputs of the query, which no crash touches. Reading in it may be slow and may fail.
    pub fn outside(&self) -> PathBuf {
        self.disk.inputs()
    }

    /// Something that happens beside the query, such as files that appear: a thread of the simulation that begins with it.
    /// It waits with [`pause`]. The last run begins when all such threads have ended.
    pub fn beside(&mut self, name: &str, body: impl FnOnce() + Send + 'static) {
        self.tasks.push((name.to_owned(), Box::new(body)));
    }

    pub(super) fn start_tasks(&mut self) -> io::Result<Vec<JoinHandle<()>>> {
        self.tasks.drain(..).map(|(name, body)| sim::spawn(&name, body)).collect()
    }

    /// Something that must never happen has happened; the first one is reported.
    pub fn violated(&self, what: impl Into<Breach>) {
        self.shared.violated(what.into());
    }

    /// For threads of your own sinks: whether the process of the query is alive. What a dead one does has no effect.
    pub fn life(&self) -> Life {
        Life { shared: Arc::clone(&self.shared) }
    }
}

/// Whether the process of the query is alive: see [`World::life`].
#[derive(Clone)]
pub struct Life {
    shared: Arc<Shared>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("is_alive", &self.is_alive()).finish()
    }
}

impl Life {
    /// Whether it is alive. Ask before anything that outlives the process; do it if so, without a [`pause`] in between.
    pub fn is_alive(&self) -> bool {
        !self.shared.is_dead()
    }

    /// The number of the run that is under way, from 1.
    pub fn run(&self) -> u64 {
        self.shared.run()
    }

    /// Something that must never happen has happened.
    pub fn violated(&self, what: impl Into<Breach>) {
        self.shared.violated(what.into());
    }
}

/// Waits for so much simulated time, in a thread of a simulation.
pub fn pause(time: Duration) {
    sim::sleep(time);
}

/// A point of that name, in code of your own: another thread may have the next turn, and the process may die here.
pub fn point(name: &'static str) {
    turn::point(name);
}
