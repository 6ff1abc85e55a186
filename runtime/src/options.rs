//! The settings of a run.

mod async_threads;
mod backpressure;
mod checks;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_operators::{KeyGroups, Mode};

pub use self::backpressure::{Backpressure, Pid};
#[cfg(feature = "cli")]
use self::words::parse_duration;
pub use self::words::{Idle, Restart, Trigger};

/// Settings of a run. By default a graph runs in micro-batches on one worker.
///
/// With the feature `cli` it also implements `clap::Args`: flatten it into the arguments of your program, and the
/// program takes the same flags as the examples.
///
/// ```
/// use std::time::Duration;
/// use tidemill::prelude::*;
///
/// let options = Options::default()
///     .with_mode(Mode::MicroBatch)
///     .with_trigger(Trigger::Every(Duration::from_millis(500)))
///     .with_workers(2);
/// assert_eq!(options.workers, 2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "How to run", about = None, long_about = None))]
#[serde(default)]
#[non_exhaustive]
pub struct Options {
    /// `micro-batch`: a trigger cuts the input into epochs, each committed exactly once. `continuous`: each record
    /// passes through the graph when it arrives.
    #[cfg_attr(feature = "cli", arg(long, default_value = "micro-batch", value_name = "MODE"))]
    pub mode: Mode,

    /// When an epoch begins: `asap` (as soon as the previous one is done), an interval like `500ms` (at its multiples
    /// since 1970), `available-now` (reads all input available at the start, then stops), `once` (the same in a single
    /// epoch). An interval is an error in continuous mode, which has `--checkpoint-interval`.
    #[cfg_attr(feature = "cli", arg(long, default_value = "asap", value_name = "WHEN"))]
    pub trigger: Trigger,

    /// Number of worker threads.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1, value_name = "N"))]
    pub workers: usize,

    /// Number of key groups of the state: a power of two, 128 by default. Each worker holds at least one group, so
    /// there cannot be more workers than groups. A checkpoint keeps the number with which it was created.
    #[cfg_attr(feature = "cli", arg(long, value_name = "GROUPS"))]
    pub key_groups: Option<u16>,

    /// Maximum of records per source partition and epoch (micro-batch). By default each epoch reads the input available
    /// when it is planned, but at most as many records as take 12 ms, or twice the time of a commit if that is longer.
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub max_records_per_epoch: Option<u64>,

    /// How many records an epoch reads of a source with a backlog (micro-batch): `epochs` (as many as take about 12 ms), or
    /// `pid` (one epoch per interval of the trigger, as many records as it can process).
    #[cfg_attr(feature = "cli", arg(long, default_value = "epochs", value_name = "HOW"))]
    pub backpressure: Backpressure,

    /// Maximum of epochs in flight (micro-batch): with 2, the next epoch is read while the current one is committed.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 2, value_name = "EPOCHS"))]
    pub max_in_flight: usize,

    /// Maximum of records queued between workers, above which sources pause: it limits the memory if a sink is slow. If
    /// functions are slow, sources pause earlier, at the number of records that a worker processes in 25 ms.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 65_536, value_name = "RECORDS"))]
    pub max_queued: usize,

    /// Continuous mode: maximum of records per worker that sources with a backlog read ahead of the watermark, divided among
    /// the partitions of the streams that meet. A partition that is ahead pauses while those that hold the watermark have a
    /// backlog too; so windows and joins keep few records that wait for the others. `0` switches it off.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = MAX_AHEAD, value_name = "RECORDS"))]
    pub max_ahead: usize,

    /// Continuous mode: time between the ends of epochs; with a checkpoint, each end is a commit. An epoch ends when
    /// all its records have been processed, which takes at most some tens of milliseconds.
    #[cfg_attr(feature = "cli", arg(long, value_parser = parse_duration, default_value = "1s", value_name = "TIME"))]
    pub checkpoint_interval: Duration,

    /// Directory of the checkpoint. If it has a checkpoint, the query resumes from it. Without this option each run
    /// starts from the beginning.
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub checkpoint: Option<PathBuf>,

    /// Number of epochs that the checkpoint keeps, to inspect them or to return to one of them.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = RETAIN, value_name = "EPOCHS"))]
    pub retain: usize,

    /// Savepoint from which the query starts, if there is no checkpoint yet. It is copied into the checkpoint.
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR", requires = "checkpoint"))]
    pub from_savepoint: Option<PathBuf>,

    /// Take over outputs that belong to another query, or to a later run of a copy of this checkpoint. That query must
    /// have stopped, and is refused on these outputs from then on; outputs of a running query are never taken over. To
    /// replace a query by way of a savepoint, set this in the first run that starts from the savepoint, and leave it
    /// out of later runs.
    #[cfg_attr(feature = "cli", arg(long, requires = "checkpoint"))]
    pub take_over: bool,

    /// Continuous mode: maximum time for which results are held under a backlog, so that a key that changes often is
    /// emitted once. A longer time raises the throughput and delays results. Without a backlog nothing is held (a
    /// source has a backlog if it returns `Poll::Ready`). Only operators on the worker of the source, without an
    /// exchange between them, hold results. `0ms` switches it off.
    #[cfg_attr(feature = "cli", arg(long, value_parser = parse_duration, default_value = "100ms", value_name = "TIME"))]
    pub latency_budget: Duration,

    /// Drop the state of an operator, or the position of a source, with this uid. If the graph has an operator with the
    /// uid, it starts with empty state. The first commit records that, so leave the flag out of later runs. A uid that
    /// neither the graph nor the checkpoint has is an error.
    #[cfg_attr(feature = "cli", arg(long, value_name = "UID"))]
    pub drop_state: Vec<String>,

    /// Maximum time in which a stop processes and commits the records that have been read. After it the query is
    /// cancelled.
    #[cfg_attr(feature = "cli", arg(long, value_parser = parse_duration, default_value = "10s", value_name = "TIME"))]
    pub stop_timeout: Duration,

    /// Restarts after a failure of a source, a sink or a function: `never`, or `3` or `3:1s` to restart from the
    /// checkpoint at most three times, first after one second; the delay doubles each time.
    #[cfg_attr(feature = "cli", arg(long, default_value = "never", value_name = "POLICY"))]
    pub restart: Restart,

    /// With a checkpoint, accept sources that cannot replay their records after a crash: the records are then lost or
    /// counted twice. By default such a query is refused; prefer `.journaled()` on the source.
    #[cfg_attr(feature = "cli", arg(long))]
    pub allow_loss: bool,
    /// Memory for the rows that `collect` keeps, like `512MiB`, divided among the workers. Beyond it, older rows spill
    /// to temporary files. By default all rows are in memory.
    #[cfg_attr(feature = "cli", arg(long, value_parser = crate::size::parse_size, value_name = "SIZE"))]
    pub state_memory: Option<u64>,

    /// Directory of these temporary files, which should be on a disk, not in memory. By default it is `spill` in the
    /// checkpoint directory, or, without a checkpoint, the system's directory for temporary files.
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR"))]
    pub spill_dir: Option<PathBuf>,

    /// Number of keys in the progress of each operator that gets its rows by key, but for aggregates: those of most rows, and which share of
    /// the rows they have. A key with more than a quarter of the rows is also logged. At most 64; by default no keys are counted.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 0, value_name = "N"))]
    pub top_keys: usize,

    /// Number of committed epochs in which other threads can read the tables that are `queryable`. The memory of rows that have been
    /// replaced or deleted is kept for as long. Needs the feature `tables`.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 1, value_name = "EPOCHS"))]
    pub table_epochs: usize,

    /// What an idle worker does: `park`, or `spin:50us` to poll for that long before it parks.
    #[cfg_attr(feature = "cli", arg(long, default_value = "park", value_name = "HOW"))]
    pub idle: Idle,

    /// Keep each worker on one of the cores that the process may use. Needs the feature `pinning`. Worthwhile if no
    /// other process uses these cores.
    #[cfg_attr(feature = "cli", arg(long))]
    pub pin: bool,

    /// Number of threads that run the futures of `map_async`, for all workers together. Needs the feature `async`.
    #[cfg_attr(feature = "cli", arg(long, default_value_t = 2, value_name = "N"))]
    pub async_threads: usize,

    /// Whether Ctrl-C (SIGINT) and SIGTERM stop the query in order; a second signal ends the process. While no query
    /// runs, they end the process. A program with signal handlers of its own switches this off.
    #[cfg_attr(feature = "cli", arg(skip = true))]
    pub ctrl_c: bool,

    /// How many rows a source must have at once for the chain behind it to pull them. For the engine's own tests.
    #[doc(hidden)]
    #[cfg_attr(feature = "cli", arg(skip = PULLS_FROM))]
    pub pulls_from: usize,
}

/// Fewer rows are sent as a batch: pulling them takes one more step of the worker.
const PULLS_FROM: usize = 64;

/// How many records a worker reads ahead of the watermark. A windowed count reads as many in a millisecond.
const MAX_AHEAD: usize = 131_072;

/// How many epochs a checkpoint keeps unless it is told otherwise.
const RETAIN: usize = 3;

impl Default for Options {
    fn default() -> Self {
        Options {
            mode: Mode::MicroBatch,
            trigger: Trigger::Asap,
            workers: 1,
            key_groups: None,
            max_records_per_epoch: None,
            backpressure: Backpressure::Epochs,
            max_in_flight: 2,
            max_queued: 65_536,
            max_ahead: MAX_AHEAD,
            pulls_from: PULLS_FROM,
            checkpoint_interval: Duration::from_secs(1),
            checkpoint: None,
            retain: RETAIN,
            from_savepoint: None,
            take_over: false,
            drop_state: Vec::new(),
            latency_budget: Duration::from_millis(100),
            stop_timeout: Duration::from_secs(10),
            restart: Restart::Never,
            allow_loss: false,
            async_threads: 2,
            state_memory: None,
            spill_dir: None,
            top_keys: 0,
            table_epochs: 1,
            idle: Idle::Park,
            pin: false,
            ctrl_c: true,
        }
    }
}

impl Options {
    /// Sets the mode.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the trigger.
    #[must_use]
    pub fn with_trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// Sets the number of worker threads.
    ///
    /// Partition `p` of a source is read by worker `p % workers`; in micro-batch an idle worker takes over partitions of
    /// [some sources](tidemill_operators::Source::may_move). So several sources with one partition each are all read by
    /// worker 0, and a slow function behind one of them delays the others. `rebalance` distributes rows among the workers.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets the number of key groups: a power of two, at most 32 768.
    ///
    /// The query can never have more workers than key groups. A checkpoint keeps the number with which it was created:
    /// later runs leave it out or set the same.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_workers(200).with_key_groups(1024);
    /// assert_eq!(options.key_groups, Some(1024));
    /// ```
    #[must_use]
    pub fn with_key_groups(mut self, groups: u16) -> Self {
        self.key_groups = Some(groups);
        self
    }

    /// Sets the maximum of records per source partition and epoch (micro-batch).
    #[must_use]
    pub fn with_max_records_per_epoch(mut self, records: u64) -> Self {
        self.max_records_per_epoch = Some(records);
        self
    }

    /// Sets the maximum of epochs in flight (micro-batch).
    #[must_use]
    pub fn with_max_in_flight(mut self, epochs: usize) -> Self {
        self.max_in_flight = epochs;
        self
    }

    /// Sets how long results may be held under a backlog (continuous mode); zero switches it off.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_latency_budget(Duration::from_millis(5));
    /// assert_eq!(options.latency_budget.as_millis(), 5);
    /// ```
    #[must_use]
    pub fn with_latency_budget(mut self, budget: Duration) -> Self {
        self.latency_budget = budget;
        self
    }

    /// Sets the maximum of records queued between workers.
    #[must_use]
    pub fn with_max_queued(mut self, records: usize) -> Self {
        self.max_queued = records;
        self
    }

    /// Sets the maximum of records per worker that sources with a backlog read ahead of the watermark (continuous mode).
    ///
    /// Zero switches it off: then a partition that is read faster than others runs ahead of them, and what it has read is
    /// state until the watermark comes.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_max_ahead(20_000);
    /// assert_eq!(options.max_ahead, 20_000);
    /// ```
    #[must_use]
    pub fn with_max_ahead(mut self, records: usize) -> Self {
        self.max_ahead = records;
        self
    }

    /// Sets from how many rows at once the chain behind a source pulls them.
    #[doc(hidden)]
    #[must_use]
    pub fn with_pulls_from(mut self, rows: usize) -> Self {
        self.pulls_from = rows;
        self
    }

    /// Sets the time between commits in continuous mode.
    #[must_use]
    pub fn with_checkpoint_interval(mut self, interval: Duration) -> Self {
        self.checkpoint_interval = interval;
        self
    }

    /// Sets the memory for rows kept in state, in bytes over all workers.
    ///
    /// Further rows spill to temporary files.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_state_memory(512 << 20).with_spill_dir("/var/tmp");
    /// assert_eq!(options.state_memory, Some(536_870_912));
    /// ```
    #[must_use]
    pub fn with_state_memory(mut self, bytes: u64) -> Self {
        self.state_memory = Some(bytes);
        self
    }

    /// Sets the directory of spilled rows.
    #[must_use]
    pub fn with_spill_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spill_dir = Some(directory.into());
        self
    }

    /// Sets how many keys the progress shows of each operator that gets its rows by key: those of most rows.
    ///
    /// All rows of a key are processed by one worker there, so a hot key keeps it busy while the others wait. Aggregates are left out:
    /// each worker aggregates its own rows first, and a hot key costs no more than others. The keys are found in a sample of the rows;
    /// [`TopKey`](crate::TopKey) says how exact the shares are. A key with more than a quarter of an operator's rows is also
    /// logged, as a warning. Zero, the default, counts no keys.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("which number is hot?");
    /// let (sink, _) = discard();
    /// let numbers = graph.source(memory([7u64, 7, 1, 7, 2])).key_by(|n| *n);
    /// numbers.map_with_state(|_, n, seen: &mut Option<bool>| (n, seen.replace(true).is_some())).sink(sink);
    /// let summary = graph.run(Options::default().with_top_keys(1))?;
    /// let [seen] = &summary.last.state_operators[..] else { panic!("one operator has state") };
    /// assert_eq!(seen.top_keys[0].key, "7");
    /// assert_eq!(seen.top_keys[0].percent, 60);
    /// # Ok::<(), RunError>(())
    /// ```
    #[must_use]
    pub fn with_top_keys(mut self, keys: usize) -> Self {
        self.top_keys = keys;
        self
    }

    /// Sets in how many committed epochs other threads can read the tables that are `queryable`.
    ///
    /// By default only in the last one. `TableReader::as_of` reads the others. The memory of rows that have been replaced or deleted
    /// is kept for as long. Needs the feature `tables`.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_table_epochs(10);
    /// assert_eq!(options.table_epochs, 10);
    /// ```
    #[must_use]
    pub fn with_table_epochs(mut self, epochs: usize) -> Self {
        self.table_epochs = epochs;
        self
    }

    /// Sets the directory of the checkpoint.
    #[must_use]
    pub fn with_checkpoint(mut self, directory: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(directory.into());
        self
    }

    /// Sets the number of epochs that the checkpoint keeps.
    #[must_use]
    pub fn with_retain(mut self, epochs: usize) -> Self {
        self.retain = epochs;
        self
    }

    /// Sets the savepoint from which the query starts, if there is no checkpoint yet.
    #[must_use]
    pub fn with_from_savepoint(mut self, directory: impl Into<PathBuf>) -> Self {
        self.from_savepoint = Some(directory.into());
        self
    }

    /// Takes over the outputs of another query that has stopped.
    ///
    /// A query that starts from a savepoint is a new query, which must write to other outputs. To let it replace the
    /// query that made the savepoint, and write to the same files, stop the old query and set this in the first run of
    /// the new one. That run truncates the files to the commit of the savepoint.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let moved = Options::default().with_checkpoint("new").with_from_savepoint("before-the-move").with_take_over();
    /// assert!(moved.take_over);
    /// ```
    #[must_use]
    pub fn with_take_over(mut self) -> Self {
        self.take_over = true;
        self
    }

    /// Drops the state that the checkpoint holds for that uid.
    #[must_use]
    pub fn with_drop_state(mut self, uid: impl Into<String>) -> Self {
        self.drop_state.push(uid.into());
        self
    }

    /// Sets how long a stop may take before the query is cancelled.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_stop_timeout(Duration::from_secs(60));
    /// assert_eq!(options.stop_timeout.as_secs(), 60);
    /// ```
    #[must_use]
    pub fn with_stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// Sets the restart policy.
    #[must_use]
    pub fn with_restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Accepts sources that cannot be replayed, so that a crash may lose records or count them twice.
    #[must_use]
    pub fn with_allow_loss(mut self) -> Self {
        self.allow_loss = true;
        self
    }

    /// Sets what idle workers do.
    #[must_use]
    pub fn with_idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Sets whether each worker stays on one core.
    ///
    /// Worker `i` stays on core `i % n` of the `n` cores that the calling thread may use. Other threads, such as
    /// those of sources and sinks, are not pinned.
    ///
    /// Needs the feature `pinning`. Without the feature, or if the operating system refuses, the query ends with an
    /// error.
    #[must_use]
    pub fn with_pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Leaves Ctrl-C and SIGTERM to the program.
    #[must_use]
    pub fn without_ctrl_c(mut self) -> Self {
        self.ctrl_c = false;
        self
    }

    /// Returns the key groups of a new checkpoint, or of a query without one.
    pub(crate) fn key_groups(&self) -> KeyGroups {
        self.key_groups.and_then(KeyGroups::new).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_being_written_down() {
        let options = Options::default()
            .with_trigger(Trigger::Every(Duration::from_millis(20)))
            .with_idle(Idle::Spin(Duration::from_micros(50)));
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
    }
}
