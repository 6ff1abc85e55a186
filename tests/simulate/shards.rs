//! A source whose shards appear while it is read, in windows over its event time.

use std::collections::BTreeMap;

use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{Journal, Stream, Summary};

use crate::graphs::{LAST, Row, compare, row, timed};
use crate::input::{Event, WINDOW, events, micros, windows};

/// Shards that appear, their rows, and windows over them. A shard that is discovered when others are far ahead has late rows.
pub(crate) struct Shards {
    source: SimSource<Event>,
    is_journaled: bool,
    /// Whether epochs are small, and several are planned before one is committed.
    plans_ahead: bool,
    all: SimSink<Event>,
    results: SimSink<Row>,
    late: SimSink<Event>,
    wanted: Vec<Event>,
}

impl Shards {
    pub(crate) fn new(world: &mut World) -> Shards {
        let count = 1 + world.choose(6);
        let mut shards: Vec<Vec<Event>> = (0..count).map(|_| events(world, 120 / count)).collect();
        for (number, shard) in (0..).zip(&mut shards) {
            shard.iter_mut().for_each(|event| event.value += 1_000 * number);
            // It closes all windows before it.
            shard.push(Event { value: 1_000_000 + number, ..LAST });
        }
        let wanted = shards.concat();
        let is_journaled = world.choose(3) == 0;
        let mut source = world.appearing_source(shards);
        if is_journaled {
            source = source.once();
        }
        if world.choose(2) == 0 {
            source = source.without_end();
        }
        Shards {
            source,
            is_journaled,
            plans_ahead: world.choose(2) == 0,
            all: world.sink(),
            results: world.sink(),
            late: world.sink(),
            wanted,
        }
    }

    fn stream(&self, graph: &Graph) -> Stream<Event> {
        match self.is_journaled {
            true => graph.source(self.source.clone().journaled()).uid("shards").boxed(),
            false => graph.source(self.source.clone()).uid("shards").boxed(),
        }
    }

    /// Whether every row is in exactly one window or late; before the end, in at most one.
    fn check_windows(&self, is_last: bool) -> Result<(), String> {
        let mut found: BTreeMap<(u8, i64), (u64, i64)> = BTreeMap::new();
        for (key, start, count, sum) in self.results.shown() {
            if found.insert((key, start), (count, sum)).is_some() {
                return Err(format!("the window of key {key} at {start} has two results"));
            }
        }
        for event in self.late.shown() {
            let start = event.time.div_euclid(WINDOW) * WINDOW;
            let (count, sum) = found.entry((event.key, start)).or_default();
            (*count, *sum) = (*count + 1, *sum + event.value);
        }
        let wanted: Vec<Event> =
            self.wanted.iter().copied().filter(|event| event.time != LAST.time).collect();
        let wanted = windows(&wanted, WINDOW, WINDOW);
        for (window, (count, _)) in &found {
            let most = wanted.get(window).map_or(0, |(count, _)| *count);
            if *count > most {
                return Err(format!("{count} of {most} rows are in the window {window:?} or late"));
            }
        }
        match is_last && found != wanted {
            true => Err(format!("in windows or late are {found:?} instead of {wanted:?}")),
            false => Ok(()),
        }
    }
}

impl Scenario for Shards {
    fn graph(&self) -> Graph {
        let graph = Graph::new("shards");
        let stream = self.stream(&graph);
        stream.clone().sink(self.all.clone());
        let both = (Count::new(), Sum::of(|event: &Event| event.value));
        let windowed = timed(stream).key_by(|event| event.key).window(tumbling(micros(WINDOW)));
        let (results, late) = windowed.aggregate(both).append_with_late();
        results.map(row).sink(self.results.clone());
        late.sink(self.late.clone());
        graph
    }

    fn options(&self, options: Options) -> Options {
        match self.plans_ahead {
            true => options.with_max_records_per_epoch(3).with_max_in_flight(4),
            false => options,
        }
    }

    fn check(&self, _: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        compare(&self.all.shown(), &self.wanted, is_last)?;
        Ok(self.check_windows(is_last)?)
    }
}
