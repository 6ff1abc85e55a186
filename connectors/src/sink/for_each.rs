//! A function of your own: for every row, or for all rows of an epoch.

use tidemill_operators::{
    Cancellation, Chain, Data, Epoch, Prepared, RowKind, Sink, SinkContext, SinkError, Stream,
};

use super::Pending;

/// A sink that calls a function for every row; see [`for_each`] and [`try_for_each`].
pub struct ForEach<T> {
    pending: Pending<T>,
    durable: bool,
    cancellation: Cancellation,
    call: Box<dyn FnMut(T) -> Result<(), SinkError> + Send>,
}

/// Returns a sink that calls `call` for each row.
///
/// In micro-batch it calls when the epoch of the row commits, in continuous mode at once.
///
/// With a checkpoint it calls before the commit is recorded: a crash loses no row, but may repeat rows of the last
/// epoch.
///
/// ```
/// use tidemill::Sink;
/// use tidemill::prelude::*;
///
/// let (sender, receiver) = std::sync::mpsc::channel();
/// let mut sink = for_each(move |row: u32| drop(sender.send(row * 2)));
/// sink.write(Epoch::new(0), &mut vec![1, 2])?;
/// sink.commit(Epoch::new(0))?;
/// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2, 4]);
/// # Ok::<(), tidemill::SinkError>(())
/// ```
pub fn for_each<T: Send + 'static>(mut call: impl FnMut(T) + Send + 'static) -> ForEach<T> {
    let call = move |row| {
        call(row);
        Ok(())
    };
    ForEach::new(Box::new(call))
}

/// Returns a sink as [`for_each`] does, for a function that may fail. Its error ends the query.
pub fn try_for_each<T, E>(mut call: impl FnMut(T) -> Result<(), E> + Send + 'static) -> ForEach<T>
where
    T: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let call = move |row| call(row).map_err(|error| SinkError::Other(error.into()));
    ForEach::new(Box::new(call))
}

/// Ends a stream in a function. Import it, or the prelude, to call [`for_each`](Self::for_each) on a stream.
///
/// The compiler infers the type of the closure's argument here. In `.sink(for_each(|row: Order| …))` it does not.
pub trait ForEachRow<T>: Sized {
    /// Ends the stream in the sink [`for_each`], which calls `call` for each row.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let graph = Graph::new("counts");
    /// graph
    ///     .source(memory([3u64, 4, 5]))
    ///     .key_by(|n| n % 2)
    ///     .count()
    ///     .update()
    ///     .for_each(move |row| drop(sender.send(format!("{}: {}", row.0, row.1))));
    /// graph.run(Options::default())?;
    /// # drop(graph);
    /// let mut rows: Vec<String> = receiver.try_iter().collect();
    /// rows.sort();
    /// assert_eq!(rows, ["0: 1", "1: 2"]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    fn for_each(self, call: impl FnMut(T) + Send + 'static);

    /// Ends the stream in the sink [`try_for_each`]. An error of `call` ends the query.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("even numbers only");
    /// graph.source(memory([2u64, 4, 5])).try_for_each(|n| if n % 2 == 0 { Ok(()) } else { Err(format!("{n} is odd")) });
    /// assert!(graph.run(Options::default()).is_err());
    /// ```
    #[track_caller]
    fn try_for_each<E>(self, call: impl FnMut(T) -> Result<(), E> + Send + 'static)
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>;
}

impl<T: Data, P: Chain<Out = T>> ForEachRow<T> for Stream<T, P> {
    #[track_caller]
    fn for_each(self, call: impl FnMut(T) + Send + 'static) {
        self.sink(for_each(call));
    }

    #[track_caller]
    fn try_for_each<E>(self, call: impl FnMut(T) -> Result<(), E> + Send + 'static)
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.sink(try_for_each(call));
    }
}

impl<T> ForEach<T> {
    fn new(call: Box<dyn FnMut(T) -> Result<(), SinkError> + Send>) -> Self {
        ForEach { pending: Pending::new(), durable: false, cancellation: Cancellation::new(), call }
    }

    /// Calls the function for a row, unless the query has been cancelled: an epoch may have many.
    fn call(&mut self, row: T) -> Result<(), SinkError> {
        if self.cancellation.is_cancelled() { Err(SinkError::Cancelled) } else { (self.call)(row) }
    }
}

impl<T: Send + 'static> Sink<T> for ForEach<T> {
    fn describe(&self) -> String {
        "for each".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.pending.open(context);
        self.durable = context.durable;
        self.cancellation = context.cancellation.clone();
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        self.pending.add(epoch, rows).into_iter().flatten().try_for_each(|row| self.call(row))
    }

    const ONE_BY_ONE: bool = true;

    fn one_by_one(&self) -> bool {
        self.pending.immediate
    }

    fn write_one(&mut self, epoch: Epoch, row: T) -> Result<(), SinkError> {
        if self.pending.immediate { self.call(row) } else { self.write(epoch, &mut vec![row]) }
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        if self.durable {
            Sink::commit(self, epoch)?;
        }
        Ok(Prepared::nothing())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let rows = self.pending.commit(epoch).into_iter().flat_map(|(_, rows)| rows);
        rows.into_iter().try_for_each(|row| self.call(row))
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

/// A sink that calls a function for every epoch; see [`for_each_epoch`].
pub struct ForEachEpoch<T> {
    pending: Pending<T>,
    /// The context's, with the query's name and so on; none before it is opened.
    context: Option<SinkContext>,
    call: Box<dyn FnMut(EpochRows<T>) -> Result<(), SinkError> + Send>,
}

/// All rows of an epoch, as the function of [`for_each_epoch`] gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EpochRows<T> {
    /// The name of the query.
    pub query: String,
    /// The id of the query's checkpoint; empty without one. An epoch number is only unique together with it.
    pub query_id: String,
    /// The epoch.
    pub epoch: Epoch,
    /// The worker that writes: 0, unless there is a sink on each worker.
    pub worker: usize,
    /// Whether the epoch has the same rows if it is repeated after a crash: so in micro-batch with a checkpoint. In
    /// continuous mode with a checkpoint, an epoch number is never repeated, but its rows may be repeated under other
    /// numbers. Without a checkpoint, numbers start at 0 in every run and mean other rows: do not skip any.
    pub repeatable: bool,
    /// The rows, in the order in which they reached the sink. The rows of one worker are in order; if the epoch is
    /// repeated, the rows of different workers may interleave differently.
    pub rows: Vec<T>,
}

/// Returns a sink that calls `call` once per epoch, with all rows of the epoch.
///
/// Epochs without rows are skipped.
///
/// In both modes it calls when the epoch commits; with a checkpoint, before the commit is recorded.
///
/// With one `query_id`, an epoch number stands for the same rows in all runs and modes. In micro-batch an epoch is
/// repeated, with the same id, number and rows, if the process crashes before the commit is recorded. So the effect is
/// exactly once if id and number of the epoch are stored in one transaction with the rows, and an epoch that is already
/// stored is skipped. In continuous mode rows may be repeated under another number: at least once. That also holds for
/// a continuous run after a crash in micro-batch; to keep exactly once, run in micro-batch once more before you change
/// the mode.
///
/// A query that starts from a savepoint has a new id, also with `--take-over`, and emits all rows after the savepoint.
/// Let it write to another database, or restore the database to its content at the savepoint. To move a query that
/// keeps its database, stop the query and move its checkpoint directory.
///
/// Numbers have gaps. A repeated number may be lower than others that are stored, if a run in continuous mode failed in
/// between: look for the number itself, and do not compare it with the greatest. With a sink on each worker, store the
/// number of the worker, too; that works as long as the number of workers does not change.
///
/// ```
/// use std::collections::{BTreeMap, BTreeSet};
/// use tidemill::prelude::*;
/// use tidemill::{RowKind, Sink, SinkContext, SinkError};
/// # use std::sync::{Arc, Mutex};
///
/// /// Stands for a database with transactions.
/// #[derive(Default)]
/// struct Database { done: BTreeSet<(String, Epoch)>, stock: BTreeMap<&'static str, i64> }
///
/// impl Database {
///     fn transaction(&mut self, change: EpochRows<(&'static str, i64)>) {
///         if !self.done.insert((change.query_id, change.epoch)) && change.repeatable {
///             return; // it was written before the crash
///         }
///         for (item, count) in change.rows {
///             *self.stock.entry(item).or_default() += count;
///         }
///     }
/// }
///
/// let database = Arc::new(Mutex::new(Database::default()));
/// let run = |execution| {
///     let database = Arc::clone(&database);
///     let mut sink = for_each_epoch(move |rows| {
///         database.lock().map_err(|_| "the database is broken")?.transaction(rows);
///         Ok::<(), &str>(())
///     });
///     sink.open(&SinkContext::new("shop", RowKind::Insert, false).durable(execution))?;
///     sink.recover(None)?;
///     sink.write(Epoch::new(0), &mut vec![("apples", 3), ("pears", 1)])?;
///     sink.prepare(Epoch::new(0)).map(drop)
/// };
/// run(0)?;
/// // A crash: the commit was not recorded, so the epoch is run again.
/// run(1)?;
/// assert_eq!(database.lock().unwrap().stock["apples"], 3);
/// # Ok::<(), SinkError>(())
/// ```
pub fn for_each_epoch<T, E>(
    mut call: impl FnMut(EpochRows<T>) -> Result<(), E> + Send + 'static,
) -> ForEachEpoch<T>
where
    T: Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let call = move |rows| call(rows).map_err(|error| SinkError::Other(error.into()));
    ForEachEpoch { pending: Pending::new(), context: None, call: Box::new(call) }
}

impl<T: Send + 'static> Sink<T> for ForEachEpoch<T> {
    fn describe(&self) -> String {
        "for each epoch".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.pending.abort();
        self.context = Some(context.clone());
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        // Never opened as immediate, so every row waits for the end of its epoch.
        self.pending.add(epoch, rows);
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        if self.context.as_ref().is_some_and(|context| context.durable) {
            self.commit(epoch)?;
        }
        Ok(Prepared::nothing())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        for (epoch, rows) in self.pending.commit(epoch) {
            if !rows.is_empty() {
                let (query, query_id) = match &self.context {
                    Some(context) => (context.query.clone(), context.query_id.clone()),
                    None => (String::new(), String::new()),
                };
                let (worker, repeatable) =
                    self.context.as_ref().map_or((0, true), |context| (context.worker, context.repeatable));
                (self.call)(EpochRows { query, query_id, epoch, worker, repeatable, rows })?;
            }
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.pending.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use tidemill_operators::RowKind;

    use super::super::at_commit::at_commit;
    use super::super::crash::{Drive, Overlap};
    use super::super::testing::{open, write};
    use super::*;

    #[test]
    fn an_epoch_is_handed_over_once_and_whole_in_both_modes() {
        for immediate in [false, true] {
            let (sender, calls) = crossbeam_channel::unbounded();
            let mut sink = for_each_epoch(move |all: EpochRows<u8>| sender.send((all.epoch, all.rows)));
            open(&mut sink, RowKind::Insert, immediate);
            write(&mut sink, 4, vec![1, 2]);
            write(&mut sink, 5, vec![]);
            sink.commit(Epoch::new(4)).unwrap();
            sink.commit(Epoch::new(5)).unwrap();
            assert_eq!(calls.try_iter().collect::<Vec<_>>(), [(Epoch::new(4), vec![1, 2])]);
        }
    }

    #[test]
    fn cancelled_query_calls_function_for_no_further_row() {
        for (immediate, durable) in [(true, false), (false, false), (false, true)] {
            let cancellation = Cancellation::new();
            let (sender, calls) = crossbeam_channel::unbounded();
            let cancel = cancellation.clone();
            let mut sink = for_each(move |row: u8| {
                sender.send(row).unwrap();
                if row == 2 {
                    cancel.cancel();
                }
            });
            let context = SinkContext::new("test", RowKind::Insert, immediate);
            let context = context.with_cancellation(cancellation);
            sink.open(&if durable { context.durable(0) } else { context }).unwrap();
            let outcome = sink.write(Epoch::new(0), &mut vec![1, 2, 3]);
            let outcome = outcome.and_then(|()| sink.prepare(Epoch::new(0)).map(drop));
            let outcome = outcome.and_then(|()| sink.commit(Epoch::new(0)));
            assert!(matches!(outcome, Err(SinkError::Cancelled)), "{immediate} {durable}");
            assert_eq!(calls.try_iter().collect::<Vec<_>>(), [1, 2]);
        }
    }

    #[test]
    fn an_error_of_the_function_is_the_sinks() {
        let mut sink = try_for_each(|row: u8| row.checked_sub(1).map(drop).ok_or("zero"));
        open(&mut sink, RowKind::Insert, true);
        write(&mut sink, 0, vec![1]);
        assert_eq!(sink.write(Epoch::new(0), &mut vec![0]).unwrap_err().to_string(), "zero");
        assert_eq!(sink.write_one(Epoch::new(0), 0).unwrap_err().to_string(), "zero");
    }

    #[test]
    fn rows_come_one_by_one_where_none_waits_for_its_epoch() {
        for immediate in [false, true] {
            let (sender, calls) = crossbeam_channel::unbounded();
            let mut sink = for_each(move |row: u8| sender.send(row).unwrap());
            open(&mut sink, RowKind::Insert, immediate);
            assert_eq!(sink.one_by_one(), immediate);
            sink.write_one(Epoch::new(0), 1).unwrap();
            write(&mut sink, 0, vec![2, 3]);
            assert_eq!(calls.len(), if immediate { 3 } else { 0 });
            sink.commit(Epoch::new(0)).unwrap();
            assert_eq!(calls.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
        }
    }

    #[test]
    fn with_checkpoint_function_is_called_before_commit_record() {
        let (sender, calls) = crossbeam_channel::unbounded();
        let rows = sender.clone();
        let mut each = for_each(move |row: u8| rows.send(row).unwrap());
        let mut epoch = for_each_epoch(move |all: EpochRows<u8>| {
            assert_eq!((all.query.as_str(), all.worker, all.repeatable), ("test", 1, true));
            all.rows.into_iter().try_for_each(|row| sender.send(row))
        });
        let context = SinkContext::new("test", RowKind::Insert, false).on_worker(1, 2).durable(0);
        each.open(&context).unwrap();
        epoch.open(&context).unwrap();
        write(&mut each, 0, vec![1]);
        write(&mut epoch, 0, vec![2]);
        assert_eq!(calls.try_iter().collect::<Vec<_>>(), [1, 2]);
        each.commit(Epoch::new(0)).unwrap();
        epoch.commit(Epoch::new(0)).unwrap();
        assert!(calls.is_empty());
    }

    #[test]
    fn effect_that_notes_epoch_is_exactly_once_after_any_crash() {
        let database = Arc::new(Mutex::new(BTreeMap::new()));
        let (write, read) = (Arc::clone(&database), Arc::clone(&database));
        let make = move |_| {
            let database = Arc::clone(&write);
            for_each_epoch(move |all: EpochRows<u64>| {
                assert!(all.repeatable);
                database.lock().unwrap().entry((all.query, all.epoch)).or_insert(all.rows);
                Ok::<(), SinkError>(())
            })
        };
        let visible = move || read.lock().unwrap().values().flatten().copied().collect::<Vec<_>>();
        for overlap in [Overlap::None, Overlap::Prepared, Overlap::Recorded] {
            let drive = Drive { overlap, ..Drive::new(make.clone(), visible.clone()) };
            let begin = || {
                database.lock().unwrap().clear();
                drive.begin(false);
            };
            drive.crash_after_each_step(1, 1, begin, || {});
        }
    }

    #[test]
    fn continuous_epoch_is_never_repeatable() {
        let mut sink = at_commit(for_each_epoch(|all: EpochRows<u8>| {
            assert!(!all.repeatable);
            Ok::<(), SinkError>(())
        }));
        open(&mut sink, RowKind::Insert, true);
        write(&mut sink, 0, vec![1]);
        sink.commit(Epoch::new(0)).unwrap();
    }
}
