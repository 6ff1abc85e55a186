//! A source of shards, to which a test adds shards, rows and ends while a query reads it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{
    Clock, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source, SourceError,
    SourceInfo,
};

/// A row: its shard and its number.
pub(crate) type Row = (u32, i64);

#[derive(Default)]
struct Shard {
    rows: Vec<Row>,
    /// Where it begins for a query that does not know it.
    start: u64,
    has_ended: bool,
}

/// Shards that all clones share.
#[derive(Clone)]
pub(crate) struct Shards {
    shards: Arc<Mutex<Vec<Shard>>>,
    pub(crate) every: Duration,
    /// How many partitions it says that it has, whatever there are.
    pub(crate) pretends: Arc<Mutex<Option<u32>>>,
    /// The shard that cannot be read.
    pub(crate) broken: Arc<Mutex<Option<u32>>>,
}

impl Shards {
    /// Shards with the rows from 0 to these numbers.
    pub(crate) fn new(shards: &[i64]) -> Shards {
        let new = Shards {
            shards: Arc::default(),
            every: Duration::from_millis(1),
            pretends: Arc::default(),
            broken: Arc::default(),
        };
        shards.iter().for_each(|end| new.add(*end));
        new
    }

    /// Adds a shard with the rows from 0 to a number.
    pub(crate) fn add(&self, end: i64) {
        self.shards.lock().unwrap().push(Shard::default());
        let last = self.shards.lock().unwrap().len() - 1;
        self.push(last as u32, 0..end);
    }

    /// Adds rows to a shard.
    pub(crate) fn push(&self, shard: u32, numbers: impl IntoIterator<Item = i64>) {
        let rows = numbers.into_iter().map(|number| (shard, number));
        self.shards.lock().unwrap()[shard as usize].rows.extend(rows);
    }

    /// Has a shard begin behind its rows, for a query that does not know it.
    pub(crate) fn begin_at_end(&self, shard: u32) {
        let shard = &mut self.shards.lock().unwrap()[shard as usize];
        shard.start = shard.rows.len() as u64;
    }

    /// Ends a shard.
    pub(crate) fn end(&self, shard: u32) {
        self.shards.lock().unwrap()[shard as usize].has_ended = true;
    }

    /// All rows, in order.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let shards = self.shards.lock().unwrap();
        let mut rows: Vec<Row> = shards.iter().flat_map(|shard| &shard.rows).copied().collect();
        rows.sort_unstable();
        rows
    }

    fn info(&self) -> SourceInfo<u64> {
        let shards = self.shards.lock().unwrap();
        let count = self.pretends.lock().unwrap().unwrap_or(shards.len() as u32);
        let start = |shard: u32| shards.get(shard as usize).map_or(0, |shard| shard.start);
        SourceInfo::new(count, start).with_discovery(self.every)
    }
}

impl Source for Shards {
    type Item = Row;
    type Offset = u64;
    type Reader = ShardReader;

    fn describe(&self) -> String {
        "shards".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(self.info())
    }
    fn discover(&self, _: ProcessingTime) -> Result<SourceInfo<u64>, SourceError> {
        Ok(self.info())
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn latest(&self, shard: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let shard = &self.shards.lock().unwrap()[shard as usize];
        Ok((shard.rows.len() as u64 + u64::from(shard.has_ended))
            .clamp(*from, from.saturating_add(limits.records())))
    }
    fn open(&self, shard: u32, from: &u64, context: ReaderContext) -> Result<ShardReader, SourceError> {
        Ok(ShardReader { source: self.clone(), shard, at: *from, clock: context.clock })
    }
}

pub(crate) struct ShardReader {
    source: Shards,
    shard: u32,
    at: u64,
    clock: Clock,
}

impl Reader for ShardReader {
    type Item = Row;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<Row>) -> Result<Poll, SourceError> {
        if *self.source.broken.lock().unwrap() == Some(self.shard) {
            return Err(SourceError::Other("the shard cannot be read".into()));
        }
        let shards = self.source.shards.lock().unwrap();
        let shard = &shards[self.shard as usize];
        let end =
            until.map_or(u64::MAX, |until| *until).min(shard.rows.len() as u64).min(self.at + max as u64);
        out.extend_from_slice(&shard.rows[self.at as usize..end.max(self.at) as usize]);
        self.at = end.max(self.at);
        Ok(match shard.has_ended {
            _ if until.is_some_and(|until| self.at >= *until) => Poll::Ready,
            true if self.at == shard.rows.len() as u64 => Poll::End,
            _ if self.at < shard.rows.len() as u64 => Poll::Ready,
            _ => Poll::IdleUntil(self.clock.now() + Duration::from_millis(1)),
        })
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.at = *offset;
        Ok(())
    }
}
