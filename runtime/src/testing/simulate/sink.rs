//! A sink that is a database elsewhere: what it has taken outlives the query.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tidemill_operators::{Committed, Epoch, Prepared, RowKind, Sink, SinkContext, SinkError, turn};

use super::Breach;
use super::world::{Shared, lock};

/// Shows rows with their epochs: see [`World::sink`](super::World::sink).
pub struct SimSink<T> {
    shared: Arc<Shared>,
    table: Arc<Mutex<Table<T>>>,
    is_transactional: bool,
    /// The run that this instance belongs to.
    run: u64,
    context: Option<SinkContext>,
    written: BTreeMap<Epoch, Vec<T>>,
    /// What has been prepared and not committed.
    waiting: Vec<Key>,
}

/// The execution and the epoch of a transaction.
type Key = (u64, u64);

struct Table<T> {
    prepared: BTreeMap<Key, Vec<T>>,
    shown: Vec<(Epoch, T)>,
    /// What an epoch had when it was last prepared: its rows as text, in order of that.
    rows_of: BTreeMap<Epoch, Vec<String>>,
    /// The repeatable epochs that have been prepared and not committed, with the execution that last prepared them.
    owed: BTreeMap<Epoch, u64>,
}

impl<T> Table<T> {
    /// A repeatable epoch is prepared. Returns an epoch before it that was prepared in an earlier run and has not come again:
    /// its rows would come in another epoch, and twice to a sink that has kept them.
    fn owe(&mut self, epoch: Epoch, execution: u64) -> Option<Epoch> {
        let before = self.owed.range(..epoch).find(|(_, prepared)| **prepared != execution);
        let skipped = before.map(|(epoch, _)| *epoch);
        self.owed.insert(epoch, execution);
        skipped
    }

    /// An epoch is committed: neither it nor the plans before it are repeated.
    fn settle(&mut self, committed: Epoch) {
        self.owed = self.owed.split_off(&committed.next());
    }
}

impl<T> Clone for SimSink<T> {
    fn clone(&self) -> Self {
        SimSink::of(Arc::clone(&self.shared), Arc::clone(&self.table), self.is_transactional)
    }
}

impl<T> fmt::Debug for SimSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSink").field("is_transactional", &self.is_transactional).finish_non_exhaustive()
    }
}

impl<T> SimSink<T> {
    pub(super) fn new(shared: Arc<Shared>, is_transactional: bool) -> Self {
        let table = Table {
            prepared: BTreeMap::new(),
            shown: Vec::new(),
            rows_of: BTreeMap::new(),
            owed: BTreeMap::new(),
        };
        SimSink::of(shared, Arc::new(Mutex::new(table)), is_transactional)
    }

    fn of(shared: Arc<Shared>, table: Arc<Mutex<Table<T>>>, is_transactional: bool) -> Self {
        let (context, written, waiting) = (None, BTreeMap::new(), Vec::new());
        SimSink { run: shared.run(), shared, table, is_transactional, context, written, waiting }
    }

    /// Something that outlives the process; nothing comes of it once that is dead.
    fn lasting(&self, change: impl FnOnce(&mut Table<T>)) -> Result<(), SinkError> {
        turn::point("sink");
        let fails = self.shared.sink_fails();
        if !self.shared.is_alive(self.run) || fails == Some(false) {
            return Err(SinkError::Closed("the simulated sink".to_owned()));
        }
        change(&mut lock(&self.table));
        turn::point("sink");
        if fails.is_some() { Err(SinkError::Closed("the simulated sink".to_owned())) } else { Ok(()) }
    }

    fn shows_at_once(&self) -> bool {
        !self.is_transactional && self.context.as_ref().is_some_and(|context| context.immediate)
    }
}

impl<T: Clone> SimSink<T> {
    /// All rows that are visible, in the order in which they became so.
    pub fn shown(&self) -> Vec<T> {
        lock(&self.table).shown.iter().map(|(_, row)| row.clone()).collect()
    }

    /// The same with the epoch of each.
    pub fn shown_by_epoch(&self) -> Vec<(Epoch, T)> {
        lock(&self.table).shown.clone()
    }
}

impl<T: Clone + fmt::Debug + Send + 'static> Sink<T> for SimSink<T> {
    fn describe(&self) -> String {
        "simulated".to_owned()
    }

    /// All kinds: a row of changes has its `diff`.
    fn takes(&self, kind: RowKind) -> bool {
        matches!(kind, RowKind::Insert | RowKind::Upsert | RowKind::Snapshot | RowKind::Changes)
    }

    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        self.run = self.shared.run();
        self.context = Some(context.clone());
        (self.written, self.waiting) = (BTreeMap::new(), Vec::new());
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        if self.shows_at_once() {
            let rows: Vec<T> = std::mem::take(rows);
            return self.lasting(|table| table.shown.extend(rows.into_iter().map(|row| (epoch, row))));
        }
        self.written.entry(epoch).or_default().append(rows);
        Ok(())
    }

    fn recover(&mut self, committed: Option<Committed>) -> Result<(), SinkError> {
        let done: Vec<Key> = match &committed {
            Some(committed) => {
                let all = committed.prepared.iter().filter(|prepared| !prepared.is_nothing());
                all.map(Prepared::read::<Vec<Key>>).collect::<Result<Vec<_>, _>>()?.concat()
            }
            None => Vec::new(),
        };
        self.lasting(|table| {
            for key in done {
                let rows = table.prepared.remove(&key).unwrap_or_default();
                table.shown.extend(rows.into_iter().map(|row| (Epoch::new(key.1), row)));
            }
            table.prepared.clear();
            if let Some(committed) = &committed {
                table.settle(committed.epoch);
            }
        })
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        let Some(context) = &self.context else { return Ok(Prepared::nothing()) };
        let (key, repeatable) = ((context.execution, epoch.number()), context.repeatable);
        let rows = self.written.remove(&epoch).unwrap_or_default();
        if self.shows_at_once() {
            return Ok(Prepared::nothing());
        }
        let shared = Arc::clone(&self.shared);
        self.lasting(|table| {
            let mut sorted: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
            sorted.sort_unstable();
            let before = table.rows_of.insert(epoch, sorted.clone());
            if repeatable
                && let Some(before) = before
                && before != sorted
            {
                let what = format!(
                    "epoch {} came again with other rows, though it is repeatable: {before:?}, then {sorted:?}",
                    epoch.number()
                );
                shared.violated(Breach::new("repeatable", what));
            }
            if repeatable && let Some(skipped) = table.owe(epoch, key.0) {
                let what = format!(
                    "epoch {} comes before epoch {} has come again, which an earlier run had planned and prepared",
                    epoch.number(),
                    skipped.number()
                );
                shared.violated(Breach::new("repeatable", what));
            }
            table.prepared.insert(key, rows);
        })?;
        self.waiting.push(key);
        Prepared::of(&self.waiting)
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        let ready: Vec<Key> = self.waiting.extract_if(.., |(_, of)| *of <= epoch.number()).collect();
        if ready.is_empty() {
            return Ok(());
        }
        self.lasting(|table| {
            table.settle(epoch);
            for key in ready {
                let rows = table.prepared.remove(&key).unwrap_or_default();
                table.shown.extend(rows.into_iter().map(|row| (Epoch::new(key.1), row)));
            }
        })
    }

    fn abort(&mut self) {
        self.written.clear();
    }
}
