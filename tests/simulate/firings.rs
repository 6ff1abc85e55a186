//! Windows that fire early and late, of event time and of the clock, and windows of their firings; a watermark without delay, so that
//! windows fire before their last rows.

use std::collections::BTreeMap;

use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{Early, FiringKind, Summary, WindowFiring};

use crate::graphs::compare;
use crate::input::{DELAY, Event, Sums, WINDOW, micros, partitions, sessions, time, windows};

/// A firing: key, start and end, how it fires, its revision, and the count and sum unless it retracts.
type Fired = (u8, i64, i64, FiringKind, u64, Option<(u64, i64)>);

fn fired(firing: WindowFiring<u8, (u64, i64)>) -> Fired {
    let WindowFiring { window, key, value, kind, revision } = firing;
    (key, window.start.as_micros(), window.end.as_micros(), kind, revision, value)
}

pub(crate) struct Firings {
    source: SimSource<Event>,
    tumbling: SimSink<Fired>,
    sessions: SimSink<Fired>,
    /// The counts and sums of windows of the clock, by key.
    clock: SimSink<(u8, u64, i64)>,
    /// The counts and sums of windows of batches, by key: each row is in four of them.
    batches: SimSink<(u8, u64, i64)>,
    /// The numbers of the windows of a key in wider windows, from their firings on time.
    wide: SimSink<(u8, i64, u64)>,
    input: Vec<Event>,
}

/// The width of the windows over firings.
const WIDE: i64 = 4 * WINDOW;
const GAP: i64 = 10;

impl Firings {
    pub(crate) fn new(world: &mut World) -> Firings {
        let input = partitions(world, 120);
        Firings {
            input: input.concat(),
            source: world.source(input),
            tumbling: world.sink(),
            sessions: world.sink(),
            clock: world.sink(),
            batches: world.sink(),
            wide: world.sink(),
        }
    }
}

/// The table that the firings make. Continuous mode may repeat firings after a crash, also those of a session that has been retracted.
fn table(shown: Vec<Fired>) -> Sums {
    let mut table = BTreeMap::new();
    for (key, start, end, _, _, value) in shown {
        match value {
            Some(value) => table.insert((key, start, end), value),
            None => table.remove(&(key, start, end)),
        };
    }
    table.into_iter().map(|((key, start, _), value)| ((key, start), value)).collect()
}

impl Scenario for Firings {
    fn graph(&self) -> Graph {
        let graph = Graph::new("firings");
        let both = || (Count::new(), Sum::of(|event: &Event| event.value));
        let events = graph.source(self.source.clone()).uid("events");
        let events = events.with_watermark(time, std::time::Duration::ZERO).uid("timed").boxed();
        let early = Early::every_records(3).or_every(micros(30_000));
        let tumbled = events
            .clone()
            .key_by(|event| event.key)
            .window(tumbling(micros(WINDOW)))
            .allowed_lateness(DELAY)
            .early(early)
            .aggregate(both())
            .firings()
            .uid("tumbling")
            .boxed();
        tumbled.clone().map(fired).sink(self.tumbling.clone());
        // A window that a late row makes does not fire on time.
        let first = tumbled.as_inserts().filter(|firing| firing.kind != FiringKind::Early).boxed();
        first
            .key_by(|firing| firing.key)
            .window(tumbling(micros(WIDE)))
            .collect()
            .append()
            .map(|wide| {
                let all: std::collections::BTreeSet<Window> = wide.value.iter().map(|it| it.window).collect();
                (wide.key, wide.window.start.as_micros(), all.len() as u64)
            })
            .sink(self.wide.clone());
        let by_key = |event: &Event| event.key;
        let sessions = events.clone().key_by(by_key).window(session(micros(GAP))).allowed_lateness(DELAY);
        sessions.aggregate(both()).firings().uid("sessions").map(fired).sink(self.sessions.clone());
        let counted = events.clone().map(|event| (event.key, 1u64, event.value));
        let counted = counted.batches(micros(10_000)).key_by(|row| row.0);
        let batches = counted.reduce_by_key_and_window_inverse(
            |a, b| (a.0, a.1 + b.1, a.2 + b.2),
            |a, b| (a.0, a.1 - b.1, a.2 - b.2),
            micros(80_000),
            micros(20_000),
        );
        batches.uid("batches").map(|it| it.value).sink(self.batches.clone());
        let clock = events.key_by(by_key).processing_time_window(tumbling(micros(40_000)));
        let clock = clock.aggregate(both()).append().uid("clock");
        clock.map(|it| (it.key, it.value.0, it.value.1)).sink(self.clock.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in time are late: {summary:?}")));
        }
        if !is_last {
            return Ok(());
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        let as_rows = |sums: Sums| sums.into_iter().collect::<Vec<_>>();
        let of_windows = windows(&self.input, WINDOW, WINDOW);
        compare(&as_rows(table(self.tumbling.shown())), &as_rows(of_windows.clone()), true)
            .map_err(named("windows"))?;
        let wanted = as_rows(sessions(&self.input, GAP));
        compare(&as_rows(table(self.sessions.shown())), &wanted, true).map_err(named("sessions"))?;
        let mut wide = BTreeMap::<(u8, i64), u64>::new();
        for (key, start) in of_windows.keys() {
            *wide.entry((*key, start.div_euclid(WIDE) * WIDE)).or_default() += 1;
        }
        let wide: Vec<_> = wide.into_iter().map(|((key, start), count)| (key, start, count)).collect();
        compare(&self.wide.shown(), &wide, true).map_err(named("windows of windows"))?;
        let sums = |rows: &mut dyn Iterator<Item = (u8, u64, i64)>| {
            let mut sums = BTreeMap::<u8, (u64, i64)>::new();
            for (key, count, sum) in rows {
                let of_key = sums.entry(key).or_default();
                *of_key = (of_key.0 + count, of_key.1 + sum);
            }
            sums.into_iter().collect::<Vec<_>>()
        };
        let clock = sums(&mut self.clock.shown().into_iter());
        let wanted = sums(&mut self.input.iter().map(|event| (event.key, 1, event.value)));
        compare(&clock, &wanted, true).map_err(named("windows of the clock"))?;
        let batches = sums(&mut self.batches.shown().into_iter());
        let wanted = sums(&mut self.input.iter().map(|event| (event.key, 4, 4 * event.value)));
        compare(&batches, &wanted, true).map_err(named("windows of batches"))
    }
}
