//! The top of each window, the running top of each key, and a limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tidemill::Summary;
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};

use crate::graphs::{compare, timed};
use crate::input::{Event, WINDOW, micros, partitions};

/// The key, the start of the window, and the greatest values.
type Top = (u8, i64, Vec<i64>);

const TOP: usize = 3;

pub(crate) struct Ranking {
    source: SimSource<Event>,
    tops: SimSink<Top>,
    first: SimSink<Event>,
    limit: usize,
    rows: BTreeSet<Event>,
    wanted: Vec<Top>,
}

impl Ranking {
    pub(crate) fn new(world: &mut World) -> Ranking {
        let input = partitions(world, 120);
        let rows: BTreeSet<Event> = input.iter().flatten().copied().collect();
        let mut groups = BTreeMap::<(u8, i64), Vec<Reverse<i64>>>::new();
        for event in &rows {
            let start = event.time.div_euclid(WINDOW) * WINDOW;
            groups.entry((event.key, start)).or_default().push(Reverse(event.value));
        }
        let top = |((key, start), mut values): ((u8, i64), Vec<Reverse<i64>>)| {
            values.sort();
            (key, start, values.into_iter().take(TOP).map(|Reverse(value)| value).collect())
        };
        Ranking {
            wanted: groups.into_iter().map(top).collect(),
            limit: world.choose(2 * rows.len() as u64 + 1) as usize,
            source: world.source(input),
            tops: world.sink(),
            first: world.sink(),
            rows,
        }
    }
}

impl Scenario for Ranking {
    fn graph(&self) -> Graph {
        let graph = Graph::new("ranking");
        let events = timed(graph.source(self.source.clone()).boxed());
        let windows = events.clone().key_by(|event| event.key).window(tumbling(micros(WINDOW)));
        let tops = windows.top_n(TOP, |event| event.value).append();
        let values = |events: Vec<Event>| events.iter().map(|event| event.value).collect();
        tops.map(move |top| (top.key, top.window.start.as_micros(), values(top.value)))
            .sink(self.tops.clone());
        events.limit(self.limit as u64).sink(self.first.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in time are late: {summary:?}")));
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        compare(&self.tops.shown(), &self.wanted, is_last).map_err(named("tops"))?;
        // Which rows are the first depends on the order of the threads.
        let first = self.first.shown();
        let distinct: BTreeSet<Event> = first.iter().copied().collect();
        let most = self.limit.min(self.rows.len());
        match distinct.len() == first.len()
            && distinct.is_subset(&self.rows)
            && (first.len() == most || first.len() < most && !is_last)
        {
            true => Ok(()),
            false => Err(Breach::new("limit", format!("of {most} rows these passed: {first:?}"))),
        }
    }
}
