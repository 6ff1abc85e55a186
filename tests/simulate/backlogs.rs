//! Partitions with a backlog, fast and slow ones, whose streams meet: those that are ahead wait for the others. No row in order is
//! late, also where a partition waits for longer than it may be silent.

use std::sync::Arc;
use std::time::Duration;

use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, World, pause};
use tidemill::{
    Bounds, EventStream, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError,
    SourceInfo, Summary,
};

use crate::graphs::{Row, check, row, rows};
use crate::input::{Event, micros, sessions};

/// After how long without rows a partition is idle: longer than the polls of all partitions of a worker take.
const IDLE_AFTER: Duration = Duration::from_secs(3);
/// How long a slow reader takes for a poll.
const SLOW: Duration = Duration::from_millis(100);
const GAP: i64 = 10;
/// How long a run takes at most, if nothing waits for too long.
const MOST_SECONDS: f64 = 120.0;

/// A partition and how it is read.
struct Part {
    events: Vec<Event>,
    /// How many rows it gives at a time.
    pace: usize,
    takes: Duration,
}

/// All rows are there from the beginning.
#[derive(Clone)]
struct Backlog(Arc<Vec<Part>>);

impl Source for Backlog {
    type Item = Event;
    type Offset = u64;
    type Reader = BacklogReader;

    fn describe(&self) -> String {
        "backlog".to_owned()
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn is_replayable(&self) -> bool {
        true
    }
    /// Other workers take over what a worker has not begun that is in a slow poll.
    fn may_move(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(self.0.len() as u32, |_| 0))
    }
    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let most = from.saturating_add(limits.records());
        Ok(most.min(self.0[partition as usize].events.len() as u64))
    }
    fn open(&self, partition: u32, from: &u64, _: ReaderContext) -> Result<BacklogReader, SourceError> {
        let (source, partition) = (self.clone(), partition as usize);
        Ok(BacklogReader { source, partition, next: *from })
    }
}

struct BacklogReader {
    source: Backlog,
    partition: usize,
    next: u64,
}

impl Reader for BacklogReader {
    type Item = Event;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<Event>) -> Result<Poll, SourceError> {
        let part = &self.source.0[self.partition];
        let rows = part.events.len() as u64;
        if self.next == rows {
            return Ok(Poll::End);
        }
        if !part.takes.is_zero() {
            pause(part.takes);
        }
        let last = rows.min(self.next + max.min(part.pace) as u64).min(until.copied().unwrap_or(u64::MAX));
        out.extend_from_slice(&part.events[self.next as usize..last as usize]);
        self.next = last;
        Ok(Poll::Ready)
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.next = *offset;
        Ok(())
    }
}

/// Sessions over one stream, or two streams joined; the seed chooses.
pub(crate) struct Backlogs {
    sources: Vec<Backlog>,
    max_ahead: usize,
    results: SimSink<Row>,
    late: [SimSink<Event>; 2],
    wanted: Vec<Row>,
}

impl Backlogs {
    pub(crate) fn new(world: &mut World) -> Backlogs {
        let sources: Vec<_> = (0..1 + world.choose(2)).map(|_| backlog(world)).collect();
        let all = |source: &Backlog| -> Vec<Event> {
            source.0.iter().flat_map(|part| part.events.clone()).collect()
        };
        let wanted = match &sources[..] {
            [left, right] => {
                let right = all(right);
                let of = |left: &Event| {
                    let matches = |right: &&Event| left.key == right.key && left.time == right.time;
                    let left = *left;
                    right.iter().filter(matches).map(move |right| pair(left, *right)).collect::<Vec<_>>()
                };
                all(left).iter().flat_map(of).collect()
            }
            _ => rows(&sessions(&sources.iter().flat_map(all).collect::<Vec<_>>(), GAP)),
        };
        let max_ahead = [1, 3, 10, 40, 0][world.choose(5) as usize];
        let late = [world.sink(), world.sink()];
        Backlogs { sources, max_ahead, results: world.sink(), late, wanted }
    }
}

/// Partitions with rows in order of their times, more or less dense.
fn backlog(world: &mut World) -> Backlog {
    let count = 1 + world.choose(3);
    let part = |number: u64| {
        let step = 1 + world.choose(30);
        let mut time = 0;
        let events = (0..world.rows(60)).map(|n| {
            let step = if world.choose(12) == 0 { 300 } else { step };
            time += world.choose(step + 1) as i64;
            Event { key: world.choose(3) as u8, time, value: (n + 1_000 * number) as i64 }
        });
        let events = events.collect();
        let is_slow = world.choose(2) == 0;
        Part {
            events,
            pace: 1 + world.choose(if is_slow { 2 } else { 20 }) as usize,
            takes: if is_slow { SLOW } else { Duration::ZERO },
        }
    };
    Backlog(Arc::new((0..count).map(part).collect()))
}

fn pair(left: Event, right: Event) -> Row {
    (left.key, left.value, left.time as u64, right.value)
}

fn stream(graph: &Graph, source: &Backlog, uid: &str) -> EventStream<Event> {
    let stream = graph.source(source.clone()).uid(uid).boxed();
    stream.with_watermark(crate::input::time, micros(1)).idle_after(IDLE_AFTER).boxed()
}

impl Scenario for Backlogs {
    fn graph(&self) -> Graph {
        let graph = Graph::new("backlogs");
        let keyed = |at: usize, uid| stream(&graph, &self.sources[at], uid).key_by(|event: &Event| event.key);
        let late = if self.sources.len() == 2 {
            let bounds = Bounds::between(Duration::ZERO, Duration::ZERO);
            let joined = keyed(0, "left").join(keyed(1, "right")).within(bounds).inner_with_late();
            joined.0.map(|(_, left, right)| pair(left, right)).sink(self.results.clone());
            vec![joined.1, joined.2]
        } else {
            let counted = keyed(0, "left").window(session(micros(GAP)));
            let sums = (Count::new(), Sum::of(|event: &Event| event.value));
            let (results, late) = counted.aggregate(sums).append_with_late();
            results.map(row).sink(self.results.clone());
            vec![late]
        };
        for (late, sink) in late.into_iter().zip(&self.late) {
            late.sink(sink.clone());
        }
        graph
    }

    fn options(&self, options: Options) -> Options {
        // A first epoch of micro-batch has 128 rows of each partition, which slow readers read one at a time.
        options.with_max_ahead(self.max_ahead).with_stop_timeout(Duration::from_secs(300))
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if let Some(seconds) = summary.map(|summary| summary.seconds).filter(|it| *it > MOST_SECONDS) {
            return Err(Breach::new("in time", format!("the run took {seconds} s")));
        }
        check(&self.results, &self.late[0], &self.wanted, summary, is_last)?;
        check(&self.results, &self.late[1], &self.wanted, summary, is_last)
    }
}
