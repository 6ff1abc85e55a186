//! Several joins as one graph: an outer interval join, an as-of join behind it and a window join behind both. Rows in time are late
//! nowhere, and each result comes once.

use std::collections::{BTreeMap, BTreeSet};

use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{JoinWindows, Summary};

use crate::graphs::{Row, check, timed};
use crate::input::{Event, WINDOW, micros, partitions};

/// How much younger a payment is than its order, at most.
const REACH: i64 = 30;

/// Orders, payments and rates.
pub(crate) struct Several {
    is_session: bool,
    sources: [SimSource<Event>; 3],
    results: SimSink<Row>,
    late: SimSink<Event>,
    wanted: Vec<Row>,
}

/// An order with what it has been joined with, and the time that it has then.
struct Priced {
    key: u8,
    time: i64,
    value: i64,
}

/// What a row comes to: its own value, and those that it was joined with.
fn value(order: &Event, payment: Option<&Event>, rate: Option<&Event>) -> i64 {
    order.value
        + payment.map_or(0, |it| 10_000 * (it.value + 1))
        + rate.map_or(0, |it| 100_000_000 * (it.value + 1))
}

fn priced(orders: &[Event], payments: &[Event], rates: &[Event]) -> Vec<Priced> {
    let mut rows = vec![];
    for order in orders {
        let matches = |it: &&Event| it.key == order.key && (0..=REACH).contains(&(it.time - order.time));
        let mut of_order: Vec<(i64, Option<&Event>)> =
            payments.iter().filter(matches).map(|it| (it.time, Some(it))).collect();
        if of_order.is_empty() {
            of_order.push((order.time, None));
        }
        for (time, payment) in of_order {
            let rate =
                rates.iter().filter(|it| it.key == order.key && it.time <= time).max_by_key(|it| it.time);
            rows.push(Priced { key: order.key, time, value: value(order, payment, rate) });
        }
    }
    rows
}

/// How many orders and rates each window of a key has, and the sum of the values of the orders.
fn wanted(is_session: bool, priced: &[Priced], rates: &[Event]) -> Vec<Row> {
    let mut rows: Vec<(u8, i64, Option<i64>)> = vec![];
    rows.extend(priced.iter().map(|row| (row.key, row.time, Some(row.value))));
    rows.extend(rates.iter().map(|row| (row.key, row.time, None)));
    rows.sort();
    let (mut windows, mut last) = (BTreeMap::<(u8, i64), (u64, i64)>::new(), None::<(u8, i64, i64)>);
    for (key, time, value) in rows {
        let start = match last {
            Some((of, start, before)) if is_session && of == key && time <= before + WINDOW => start,
            _ if is_session => time,
            _ => time.div_euclid(WINDOW) * WINDOW,
        };
        last = Some((key, start, time));
        let (count, sum) = windows.entry((key, start)).or_default();
        *count += if value.is_some() { 1 } else { 1_000 };
        *sum += value.unwrap_or_default();
    }
    windows.into_iter().map(|((key, start), (count, sum))| (key, start, count, sum)).collect()
}

impl Several {
    pub(crate) fn new(world: &mut World) -> Several {
        let mut input = [partitions(world, 60), partitions(world, 40), partitions(world, 30)];
        // Of two versions with one time either could be the last.
        let mut times = BTreeSet::new();
        for partition in &mut input[2] {
            partition.retain(|rate| times.insert((rate.key, rate.time)));
        }
        let is_session = world.choose(2) == 0;
        let [orders, payments, rates] = [0, 1, 2].map(|n| input[n].concat());
        Several {
            is_session,
            wanted: wanted(is_session, &priced(&orders, &payments, &rates), &rates),
            sources: input.map(|partitions| world.source(partitions)),
            results: world.sink(),
            late: world.sink(),
        }
    }
}

impl Scenario for Several {
    fn graph(&self) -> Graph {
        let graph = Graph::new("several joins");
        let source = |n: usize, uid: &str| timed(graph.source(self.sources[n].clone()).uid(uid).boxed());
        let (orders, payments, rates) = (source(0, "orders"), source(1, "payments"), source(2, "rates"));
        let (paid, late_orders, late_payments) = orders
            .key_by(|order| order.key)
            .join(payments.key_by(|payment| payment.key))
            .within(Bounds::after(micros(0)..=micros(REACH)))
            .left_outer_with_late();
        let (priced, late_paid, late_rates) = paid
            .key_by(|(key, _, _)| *key)
            .join(rates.clone().key_by(|rate| rate.key))
            .as_of()
            .left_outer_with_late();
        let windows: JoinWindows = match self.is_session {
            true => session(micros(WINDOW)).into(),
            false => tumbling(micros(WINDOW)).into(),
        };
        let (grouped, late_priced, too_late_rates) = priced
            .map(|(key, (_, order, payment), rate)| {
                (key, value(&order, payment.as_ref(), rate.as_ref()), order)
            })
            .key_by(|(key, _, _)| *key)
            .join(rates.key_by(|rate| rate.key))
            .window(windows)
            .co_group_with_late(|_, orders, rates| {
                let count = orders.len() as u64 + 1_000 * rates.len() as u64;
                (count, orders.iter().map(|order| order.1).sum::<i64>())
            });
        grouped
            .map(|it| (it.key, it.window.start.as_micros(), it.value.0, it.value.1))
            .sink(self.results.clone());
        let late = late_orders.union(late_payments).union(late_rates).union(too_late_rates);
        let late = late.union(late_paid.map(|(_, order, _)| order).boxed());
        late.union(late_priced.map(|(_, _, order)| order).boxed()).sink(self.late.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        check(&self.results, &self.late, &self.wanted, summary, is_last)
    }
}
