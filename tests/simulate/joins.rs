//! Interval joins of two sources with watermarks of their own: rows in time are never late, and each result comes once.

use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{Bounds, Summary};

use crate::graphs::{Row, check, timed};
use crate::input::{Event, micros, partitions};

/// Which rows come out.
#[derive(Clone, Copy)]
enum Kind {
    Inner,
    Full,
    Semi,
    Anti,
}

/// Two sources and a join whose kind and bounds the seed chooses.
pub(crate) struct Joins {
    kind: Kind,
    /// The least and the greatest `right - left`.
    within: (i64, i64),
    /// Whether epochs are small, and many are planned before one is committed: workers are then several epochs apart.
    plans_ahead: bool,
    sources: [SimSource<Event>; 2],
    results: SimSink<Row>,
    late: [SimSink<Event>; 2],
    wanted: Vec<Row>,
}

/// A row of any kind: the values of both sides tell which rows it is made of.
fn row(key: u8, left: Option<Event>, right: Option<Event>) -> Row {
    (key, left.map_or(-1, |left| left.value), 0, right.map_or(-1, |right| right.value))
}

fn wanted(kind: Kind, (least, greatest): (i64, i64), left: &[Event], right: &[Event]) -> Vec<Row> {
    let matches = |left: &Event, right: &Event| {
        left.key == right.key && (least..=greatest).contains(&(right.time - left.time))
    };
    let mut rows = vec![];
    for one in left {
        let mut of_one = right.iter().filter(|other| matches(one, other)).peekable();
        let is_matched = of_one.peek().is_some();
        match kind {
            Kind::Full if !is_matched => rows.push(row(one.key, Some(*one), None)),
            Kind::Inner | Kind::Full => {
                rows.extend(of_one.map(|other| row(one.key, Some(*one), Some(*other))))
            }
            Kind::Semi | Kind::Anti if is_matched == matches!(kind, Kind::Semi) => {
                rows.push(row(one.key, Some(*one), None));
            }
            Kind::Semi | Kind::Anti => {}
        }
    }
    if matches!(kind, Kind::Full) {
        let alone = right.iter().filter(|other| !left.iter().any(|one| matches(one, other)));
        rows.extend(alone.map(|other| row(other.key, None, Some(*other))));
    }
    rows
}

impl Joins {
    pub(crate) fn new(world: &mut World) -> Joins {
        let kind = [Kind::Inner, Kind::Full, Kind::Semi, Kind::Anti][world.choose(4) as usize];
        let within = [(-15, 25), (0, 40), (5, 30), (0, 0)][world.choose(4) as usize];
        let input = [partitions(world, 60), partitions(world, 60)];
        Joins {
            kind,
            within,
            plans_ahead: world.choose(2) == 0,
            wanted: wanted(kind, within, &input[0].concat(), &input[1].concat()),
            sources: input.map(|partitions| world.source(partitions)),
            results: world.sink(),
            late: [world.sink(), world.sink()],
        }
    }
}

impl Scenario for Joins {
    fn graph(&self) -> Graph {
        let graph = Graph::new("joins");
        let [left, right] = &self.sources;
        let left = timed(graph.source(left.clone()).uid("left").boxed()).key_by(|event| event.key);
        let right = timed(graph.source(right.clone()).uid("right").boxed()).key_by(|event| event.key);
        let (least, greatest) = self.within;
        let bounds = match least < 0 {
            true => Bounds::between(micros(-least), micros(greatest)),
            false => Bounds::after(micros(least)..=micros(greatest)),
        };
        let join = left.join(right).within(bounds);
        let results = self.results.clone();
        let late = match self.kind {
            Kind::Inner => {
                let (rows, left, right) = join.inner_with_late();
                rows.map(|(key, left, right)| row(key, Some(left), Some(right))).sink(results);
                [left, right]
            }
            Kind::Full => {
                let (rows, left, right) = join.full_outer_with_late();
                rows.map(|(key, left, right)| row(key, left, right)).sink(results);
                [left, right]
            }
            Kind::Semi => {
                let (rows, left, right) = join.semi_with_late();
                rows.map(|(key, left)| row(key, Some(left), None)).sink(results);
                [left, right]
            }
            Kind::Anti => {
                let (rows, left, right) = join.anti_with_late();
                rows.map(|(key, left)| row(key, Some(left), None)).sink(results);
                [left, right]
            }
        };
        for (late, sink) in late.into_iter().zip(&self.late) {
            late.sink(sink.clone());
        }
        graph
    }

    fn options(&self, options: Options) -> Options {
        match self.plans_ahead {
            true => options.with_max_records_per_epoch(3).with_max_in_flight(8),
            false => options,
        }
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        check(&self.results, &self.late[0], &self.wanted, summary, is_last)?;
        check(&self.results, &self.late[1], &self.wanted, summary, is_last)
    }
}
