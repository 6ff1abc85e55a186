//! The static side of a join: where its rows come from, and when they are loaded.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::graph::Place;
use crate::source::{Clock, Poll, Reader, ReaderContext, Waker};
use crate::span::words;
use crate::turn::lock;
use crate::{
    Chain, Epoch, OperatorError, PrepareContext, ProcessingTime, Source, SourceError, Stream, Untimed,
};

/// How many rows of a source are read at once.
const CHUNK: usize = 4096;

/// The rows of a static side, as of that time.
type Load<R> = Arc<dyn Fn(ProcessingTime) -> Result<Vec<R>, LoadError> + Send + Sync>;

type KeyOf<K, R> = Arc<dyn Fn(&R) -> K + Send + Sync>;

/// Rows that a stream is joined with, and that are not a stream themselves: a table of products, say.
///
/// See [`KeyedStream::join_static`](crate::KeyedStream::join_static).
///
/// **Loads.** The rows are loaded before the first row of the stream is joined, and kept in the checkpoint: a run that resumes
/// has the rows of the run before it. They are loaded again after [`refresh_every`](Self::refresh_every) or on a signal
/// ([`refresh_on`](Self::refresh_on)), at the end of an epoch; from the beginning of the next one on they are joined. All workers
/// share one load.
///
/// The replay of an epoch joins the same rows as its first run. So a micro-batch query with a checkpoint begins each run with an
/// epoch without rows, in which it loads what is due, and does not join rows of the epoch after a load before that is committed.
///
/// **Placement.** By default each worker has the rows of its own keys, and the rows of the stream travel to them. With
/// [`broadcast`](Self::broadcast) each worker has all rows, and those of the stream stay where they are.
#[must_use = "a static side does nothing until a stream is joined with it"]
pub struct StaticSide<K, R> {
    load: Load<R>,
    key: KeyOf<K, R>,
    pub(super) every: Option<Duration>,
    pub(super) signal: Option<Stream<()>>,
    pub(super) is_broadcast: bool,
    pub(super) problem: Option<String>,
}

impl<K, R> fmt::Debug for StaticSide<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticSide")
            .field("refresh_every", &self.every)
            .field("is_broadcast", &self.is_broadcast)
            .finish_non_exhaustive()
    }
}

impl<K: 'static, R: Send + 'static> StaticSide<K, R> {
    /// A side with the records of a source that ends: a collection, files, an iterator.
    ///
    /// The source is read from its beginning to its end by each load. A graph with a source that does not end is refused.
    pub fn read<S, F>(source: S, key: F) -> Self
    where
        S: Source<Item = R>,
        F: Fn(&R) -> K + Send + Sync + 'static,
    {
        let problem = (!source.is_bounded()).then(|| {
            format!(
                "the static side does not end: {}; give it an end (`.bounded()` on files), or join two streams",
                source.describe()
            )
        });
        let read = move |now| {
            read_all(&source, now)
                .map_err(|error| LoadError { what: source.describe(), error: Box::new(error) })
        };
        StaticSide { problem, ..StaticSide::of(Arc::new(read), key) }
    }

    /// A side with the rows that a function returns: the answer of a database, say.
    ///
    /// The function is called for each load, on the thread of a worker. An error ends the run.
    pub fn load<F, G, E>(load: F, key: G) -> Self
    where
        F: Fn() -> Result<Vec<R>, E> + Send + Sync + 'static,
        G: Fn(&R) -> K + Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let call = move |_| {
            load().map_err(|error| LoadError { what: "its function".to_owned(), error: error.into() })
        };
        StaticSide::of(Arc::new(call), key)
    }

    fn of(load: Load<R>, key: impl Fn(&R) -> K + Send + Sync + 'static) -> Self {
        let key: KeyOf<K, R> = Arc::new(key);
        StaticSide { load, key, every: None, signal: None, is_broadcast: false, problem: None }
    }

    /// Loads the rows again when they are older than `every`, by the engine's clock.
    ///
    /// In micro-batch an epoch is planned for it if there is none, and a run that resumes with older rows loads new ones before it
    /// reads. In continuous mode rows are loaded at the end of an epoch, and so at most every checkpoint interval.
    pub fn refresh_every(mut self, every: Duration) -> Self {
        if every < Duration::from_millis(1) {
            let every = words(every);
            self.problem.get_or_insert_with(|| {
                format!("the static side would be loaded every {every}: make `refresh_every` at least 1ms")
            });
        }
        self.every = Some(every);
        self
    }

    /// Loads the rows again at the end of each epoch in which a row of `signal` comes.
    ///
    /// Its rows have no event time, so that a signal that is silent does not hold the watermark of the stream.
    #[track_caller]
    pub fn refresh_on<T, P>(mut self, signal: Stream<T, P>) -> Self
    where
        T: Send + 'static,
        P: Chain<Out = T, Time = Untimed>,
    {
        self.signal = Some(signal.map(|_| ()).boxed());
        self
    }

    /// Keeps all rows on every worker; the rows of the stream then stay on the worker on which they are.
    ///
    /// For a side that is small: each worker has a copy of it in memory. The checkpoint has one.
    pub fn broadcast(mut self) -> Self {
        self.is_broadcast = true;
        self
    }

    pub(super) fn key(&self) -> KeyOf<K, R> {
        Arc::clone(&self.key)
    }

    pub(super) fn loads(&self) -> Arc<Loads<R>> {
        Arc::new(Loads { load: Arc::clone(&self.load), runs: Mutex::new(BTreeMap::new()) })
    }
}

/// Why a static side has no rows.
#[derive(Debug, thiserror::Error)]
#[error("the static side cannot be loaded from {what}: {error}")]
pub(super) struct LoadError {
    what: String,
    error: Box<dyn Error + Send + Sync>,
}

/// Reads all records of a source that ends.
fn read_all<S: Source>(source: &S, now: ProcessingTime) -> Result<Vec<S::Item>, SourceError> {
    let info = source.prepare(&PrepareContext::default())?;
    let clock = Clock::new(move || now);
    let mut rows = Vec::new();
    for partition in 0..info.partitions() {
        let Some(start) = info.start(partition) else { continue };
        let context = ReaderContext::new(Waker::new(|| ()), clock.clone());
        let mut reader = source.open(partition, start, context)?;
        loop {
            match reader.poll(None, CHUNK, &mut rows)? {
                Poll::End => break,
                Poll::Ready | Poll::Soon => {}
                Poll::Idle | Poll::IdleUntil(_) => {
                    return Err(SourceError::Setup(format!(
                        "partition {partition} has not ended and has nothing to read: a static side is read at once"
                    )));
                }
            }
        }
    }
    Ok(rows)
}

/// The loads of a static side that workers have yet to take, in each run of this process.
pub(super) struct Loads<R> {
    load: Load<R>,
    runs: Mutex<BTreeMap<u64, Run<R>>>,
}

struct Run<R> {
    /// Instances of the join that are there.
    instances: usize,
    first: Option<ForAll<Loaded<R>>>,
    /// What has been decided at the ends of epochs: nothing, or a load.
    ends: BTreeMap<Epoch, ForAll<Option<Loaded<R>>>>,
}

/// What each worker takes once.
struct ForAll<T> {
    it: T,
    /// How many workers have not taken it.
    left: usize,
}

/// The rows of a load.
pub(super) struct Loaded<R> {
    pub(super) rows: Vec<R>,
    pub(super) at: ProcessingTime,
}

/// What an instance of a join takes the loads with.
///
/// The instances of a run share each load, so that all workers have the same rows, and whether there is one at the end of an
/// epoch: in continuous mode their clocks differ. The first instance that asks decides and loads.
pub(super) struct Ticket<R> {
    loads: Arc<Loads<R>>,
    place: Place,
}

impl<R> Ticket<R> {
    pub(super) fn new(loads: &Arc<Loads<R>>, place: Place) -> Self {
        let nothing = || Run { instances: 0, first: None, ends: BTreeMap::new() };
        lock(&loads.runs).entry(place.run()).or_insert_with(nothing).instances += 1;
        Ticket { loads: Arc::clone(loads), place }
    }

    fn load(&self, now: ProcessingTime) -> Result<Loaded<R>, OperatorError> {
        let rows = (self.loads.load)(now).map_err(|error| OperatorError::User(Box::new(error)))?;
        Ok(Loaded { rows, at: now })
    }

    /// Passes the rows that a run without a checkpoint begins with.
    pub(super) fn first<T>(
        &self,
        now: ProcessingTime,
        take: impl FnOnce(&Loaded<R>) -> T,
    ) -> Result<Option<T>, OperatorError> {
        let mut runs = lock(&self.loads.runs);
        let Some(run) = runs.get_mut(&self.place.run()) else { return Ok(None) };
        let first = match run.first.take() {
            Some(first) => first,
            None => ForAll { it: self.load(now)?, left: self.place.workers },
        };
        let taken = take(&first.it);
        run.first = first.rest();
        Ok(Some(taken))
    }

    /// Passes the rows that were loaded at the end of an epoch, if any were. Called by each worker for each epoch.
    pub(super) fn at_end<T>(
        &self,
        epoch: Epoch,
        now: ProcessingTime,
        is_due: bool,
        take: impl FnOnce(&Loaded<R>) -> T,
    ) -> Result<Option<T>, OperatorError> {
        let mut runs = lock(&self.loads.runs);
        let Some(run) = runs.get_mut(&self.place.run()) else { return Ok(None) };
        let end = match run.ends.remove(&epoch) {
            Some(end) => end,
            None => {
                let loaded = if is_due { Some(self.load(now)?) } else { None };
                ForAll { it: loaded, left: self.place.workers }
            }
        };
        let taken = end.it.as_ref().map(take);
        run.ends.extend(end.rest().map(|end| (epoch, end)));
        Ok(taken)
    }
}

impl<T> ForAll<T> {
    /// The same for the other workers.
    fn rest(self) -> Option<Self> {
        let left = self.left.saturating_sub(1);
        (left > 0).then_some(ForAll { left, ..self })
    }
}

impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        let mut runs = lock(&self.loads.runs);
        if let Some(run) = runs.get_mut(&self.place.run()) {
            run.instances = run.instances.saturating_sub(1);
            if run.instances == 0 {
                runs.remove(&self.place.run());
            }
        }
    }
}
