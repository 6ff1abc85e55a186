//! Deduplication of rows that come several times from several sources: by time, within the watermark, and for longer than the query runs.

use std::collections::BTreeSet;
use std::time::Duration;

use tidemill::Summary;
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};

use crate::graphs::{compare, timed};
use crate::input::{DELAY, Event, events};

type Pair = (u8, i64);

pub(crate) struct Distinct {
    sources: [SimSource<Event>; 2],
    by_time: SimSink<Pair>,
    within: SimSink<i64>,
    by_clock: SimSink<u8>,
    late: SimSink<Event>,
    /// Keys and times, numbers, and keys.
    wanted: (Vec<Pair>, Vec<i64>, Vec<u8>),
}

impl Distinct {
    pub(crate) fn new(world: &mut World) -> Distinct {
        // The same rows in each partition, so that each partition keeps its promise of delay; some partitions lack some.
        let rows = events(world, 60);
        let mut part = |lacks: u64| -> Vec<Event> {
            rows.iter().copied().filter(|_| lacks == 0 || world.choose(4) >= lacks).collect()
        };
        let input = [vec![part(0), part(1)], vec![part(2), part(1)]];
        let distinct = |pair: fn(&Event) -> Pair| {
            rows.iter().map(pair).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        let keys: BTreeSet<u8> = rows.iter().map(|row| row.key).collect();
        Distinct {
            wanted: (
                distinct(|row| (row.key, row.time)),
                rows.iter().map(|row| row.value).collect(),
                keys.into_iter().collect(),
            ),
            sources: input.map(|partitions| world.source(partitions)),
            by_time: world.sink(),
            within: world.sink(),
            by_clock: world.sink(),
            late: world.sink(),
        }
    }
}

impl Scenario for Distinct {
    fn graph(&self) -> Graph {
        let graph = Graph::new("distinct");
        let [left, right] = &self.sources;
        let left = timed(graph.source(left.clone()).uid("left").boxed());
        let right = timed(graph.source(right.clone()).uid("right").boxed());
        let both = left.union(right).boxed();
        let by_key = || both.clone().key_by(|event| event.key);
        let (by_time, late) = by_key().distinct_with_late();
        // Which of several equal rows comes first depends on the order of the threads: what they share does not.
        by_time.map(|event| (event.key, event.time)).sink(self.by_time.clone());
        late.sink(self.late.clone());
        let within = both.clone().key_by(|event| event.value).distinct_within(DELAY);
        within.map(|event| event.value).sink(self.within.clone());
        by_key()
            .distinct_for(Duration::from_secs(1 << 40))
            .map(|event| event.key)
            .sink(self.by_clock.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in time are late: {summary:?}")));
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        let (by_time, within, by_clock) = &self.wanted;
        compare(&self.by_time.shown(), by_time, is_last).map_err(named("by time"))?;
        compare(&self.within.shown(), within, is_last).map_err(named("within the watermark"))?;
        compare(&self.by_clock.shown(), by_clock, is_last).map_err(named("by the clock"))
    }
}
