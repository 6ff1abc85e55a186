//! Tables: joined, grouped, iterated, and once out of the region and back. At every instant the changes that are visible are those of
//! tables, and in the end of those that plain loops compute.

use std::collections::{BTreeMap, BTreeSet};

use tidemill::aggregate::Sum;
use tidemill::graph::reachable;
use tidemill::prelude::*;
use tidemill::table::{IntoChangelogTable, IntoTable};
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{RowChange, Summary};

/// A row of an input: its key and its value; none deletes the key.
type Command = (u32, Option<u64>);
/// An output, a key, a value, and how many copies are added.
type Change = (u8, u64, u64, i64);

/// Orders by number, and prices by value.
pub(crate) struct Tables {
    sources: [SimSource<Command>; 2],
    changes: SimSink<Change>,
    wanted: BTreeMap<(u8, u64, u64), i64>,
}

impl Tables {
    pub(crate) fn new(world: &mut World) -> Tables {
        let mut newest = [BTreeMap::new(), BTreeMap::new()];
        let sources = [0, 1].map(|table| {
            let mut partitions = vec![Vec::new(); 3];
            for _ in 0..world.rows(80) {
                // All rows of a key are in one partition.
                let key = world.choose(12) as u32;
                let value = (world.choose(4) > 0).then(|| world.choose(6));
                partitions[key as usize % 3].push((key, value));
                match value {
                    Some(value) => newest[table].insert(key, value),
                    None => newest[table].remove(&key),
                };
            }
            world.source(partitions)
        });
        Tables { sources, changes: world.sink(), wanted: wanted(&newest) }
    }
}

/// The outputs in plain loops.
fn wanted([orders, prices]: &[BTreeMap<u32, u64>; 2]) -> BTreeMap<(u8, u64, u64), i64> {
    let mut rows = BTreeMap::new();
    let mut sums = BTreeMap::<u64, u64>::new();
    let mut by_price = BTreeMap::<u64, u64>::new();
    for (order, value) in orders {
        match prices.get(&(*value as u32)) {
            Some(price) => *sums.entry(*value).or_default() += price + u64::from(*order),
            None => *rows.entry((1, *value, u64::from(*order))).or_default() += 1,
        }
    }
    for (value, sum) in &sums {
        rows.insert((0, *value, *sum), 1);
        *by_price.entry(sum % 4).or_default() += 1;
    }
    // An order leads to the one whose number is its value; the first two prices are where the ways begin.
    let mut reached: BTreeSet<u32> = prices.keys().copied().filter(|key| *key < 2).collect();
    let mut open: Vec<u32> = reached.iter().copied().collect();
    while let Some(order) = open.pop() {
        let next = orders.get(&order).map(|value| *value as u32);
        open.extend(next.filter(|next| reached.insert(*next)));
    }
    rows.extend(reached.into_iter().map(|order| ((3, u64::from(order), 0), 1)));
    rows.extend(by_price.into_iter().map(|(key, count)| ((2, key, count), 1)));
    rows
}

impl Scenario for Tables {
    fn graph(&self) -> Graph {
        let graph = Graph::new("tables");
        let table = |number: usize, uid: &str| {
            let rows = graph.source(self.sources[number].clone()).uid(&format!("{uid}-source"));
            rows.key_by(|row| row.0).into_table_with(|row| row.1).uid(uid)
        };
        let edges = table(0, "orders");
        let orders = edges.rekey(|order, value| (value as u32, order));
        let prices = table(1, "prices");
        let sums =
            orders.join(&prices, |_, order, price| price + u64::from(*order)).group(Sum::of(|it: &u64| *it));
        let roots = prices.filter(|key, _| *key < 2);
        let reached = reachable(&edges.map(|_, value| value as u32), &roots).uid("reached").changes();
        let reached = reached.as_inserts().map(|it| (3, u64::from(it.row.0), 0, it.diff));
        let alone = orders.anti_join(&prices).uid("alone");
        // No thread reads them, but an epoch is committed only once they have been published.
        alone.queryable("alone");
        sums.queryable("sums");
        let sums = sums.uid("sums").changes();
        let again = sums.clone().key_by(|change| change.row.1 % 4).into_changelog_table().uid("again");
        let of = |number: u8| {
            move |change: RowChange<(u64, u64)>| (number, change.row.0, change.row.1, change.diff)
        };
        let sums = sums
            .as_inserts()
            .map(|it| RowChange { row: (u64::from(it.row.0), it.row.1), diff: it.diff })
            .map(of(0));
        let alone = alone.changes().as_inserts();
        let alone = alone
            .map(|it| RowChange { row: (u64::from(it.row.0), u64::from(it.row.1)), diff: it.diff })
            .map(of(1));
        let counts = again.count().uid("counts").changes().as_inserts().map(of(2));
        sums.boxed()
            .union(alone.boxed())
            .union(counts.boxed())
            .union(reached.boxed())
            .sink(self.changes.clone());
        graph
    }

    fn check(&self, _: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        let mut found = BTreeMap::<(u8, u64, u64), i64>::new();
        for (output, key, value, diff) in self.changes.shown() {
            let copies = found.entry((output, key, value)).or_default();
            *copies += diff;
        }
        found.retain(|_, copies| *copies != 0);
        if let Some(row) = found.iter().find(|(_, copies)| **copies < 0) {
            return Err(Breach::new("tables", format!("{row:?} is removed more often than added")));
        }
        match is_last && found != self.wanted {
            true => Err(Breach::new("exactly once", format!("{found:?} instead of {:?}", self.wanted))),
            false => Ok(()),
        }
    }
}
