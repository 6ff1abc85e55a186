//! An operator of your own: two keyed inputs, state, timers, two outputs.
//!
//! ```sh
//! cargo run --example custom_operator
//! ```
//!
//! Orders and their payments come on streams of their own, in any order. The operator matches them by number. An order that
//! has not been paid an hour after it was placed, by event time, comes out of the second output.
//!
//! - [`StatefulOperator`] names the key, the outputs and the states, and is called for timers.
//! - [`Takes`] takes the rows of one input. They come with their key and its hash, on the worker that holds the key.
//! - State and timers are in the checkpoint of a query that has one, and move with their keys when the number of workers
//!   changes. [`three_phases`] shows that a restart changes no result.

use std::error::Error;
use std::time::Duration;
use std::vec::Drain;

use serde::{Deserialize, Serialize};
use tidemill::operator::{
    Dealt, Events, HashedKey, Rows, StatefulOperator, States, Takes, Timer, To, ValueState,
};
use tidemill::prelude::*;
use tidemill::testing::{EpochInput, operator_of, three_phases};
use tidemill::{EventStream, OperatorError};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    number: u64,
    placed: EventTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Payment {
    order: u64,
    made: EventTime,
}

/// An order with how long its payment took.
type Paid = (u64, Duration);

/// What is known of an order so far.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Seen {
    Order(EventTime),
    Payment(EventTime),
}

struct MatchPayments {
    seen: ValueState<u64, Seen>,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl StatefulOperator for MatchPayments {
    type Key = u64;
    type Outputs = (Events<Paid>, Rows<u64>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("seen", &mut self.seen);
    }

    fn on_timer(
        &mut self,
        order: HashedKey<'_, u64>,
        _: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        if let Some(Seen::Order(_)) = self.seen.remove(order) {
            to.out.1.push(*order.key);
        }
        Ok(())
    }
}

impl Takes<0> for MatchPayments {
    type Row = Dealt<u64, Order>;

    fn take(&mut self, orders: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for order in orders {
            let placed = order.value.placed;
            if let Some(&Seen::Payment(made)) = self.seen.get(order.hashed()) {
                self.seen.remove(order.hashed());
                to.out.0.push(made.max(placed), (order.key, made.since(placed)));
            } else {
                self.seen.insert(order.hashed(), Seen::Order(placed));
                to.timers.set_event(order.hashed(), placed + HOUR);
            }
        }
        Ok(())
    }
}

impl Takes<1> for MatchPayments {
    type Row = Dealt<u64, Payment>;

    fn take(&mut self, payments: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for payment in payments {
            let made = payment.value.made;
            if let Some(&Seen::Order(placed)) = self.seen.get(payment.hashed()) {
                self.seen.remove(payment.hashed());
                to.timers.delete_event(payment.hashed(), placed + HOUR);
                to.out.0.push(made.max(placed), (payment.key, made.since(placed)));
            } else {
                self.seen.insert(payment.hashed(), Seen::Payment(made));
                to.timers.set_event(payment.hashed(), made + HOUR);
            }
        }
        Ok(())
    }
}

/// The part of the graph with the operator: a function from streams to streams.
fn match_payments(
    orders: EventStream<Order>,
    payments: EventStream<Payment>,
) -> (EventStream<Paid>, Stream<u64>) {
    orders
        .graph()
        .operator("match payments")
        .keyed(orders, |order| order.number)
        .keyed(payments, |payment| payment.order)
        .stateful(|_| MatchPayments { seen: ValueState::new() })
}

/// Orders a second apart; every third is never paid, the others within 100 seconds.
fn orders(count: u64) -> Vec<Order> {
    (0..count).map(|number| Order { number, placed: EventTime::from_secs(number as i64) }).collect()
}

fn payments(count: u64) -> Vec<Payment> {
    let made = |order: u64| EventTime::from_secs((order + order * 7 % 100) as i64);
    (0..count).filter(|order| order % 3 != 0).map(|order| Payment { order, made: made(order) }).collect()
}

fn graph(count: u64) -> (Graph, EventStream<Paid>, Stream<u64>) {
    let graph = Graph::new("payments");
    let delay = Duration::from_secs(100);
    let orders = graph.source(memory(orders(count))).with_watermark(|order| order.placed, delay);
    let payments = graph.source(memory(payments(count))).with_watermark(|payment| payment.made, delay);
    let (paid, unpaid) = match_payments(orders.boxed(), payments.boxed());
    (graph, paid, unpaid)
}

fn main() -> Result<(), Box<dyn Error>> {
    const COUNT: u64 = 10_000;
    for options in [Options::default(), Options::default().with_mode(Mode::Continuous)] {
        let (mode, (graph, paid, unpaid)) = (options.mode, graph(COUNT));
        let ((paid_sink, paid_rows), (unpaid_sink, unpaid_rows)) = (memory_sink(), memory_sink());
        paid.sink(paid_sink);
        unpaid.sink(unpaid_sink);
        graph.run(options.with_workers(2))?;
        let (paid, mut unpaid) = (paid_rows.snapshot(), unpaid_rows.snapshot());
        unpaid.sort_unstable();
        println!("{mode}: {} orders paid, {} not", paid.len(), unpaid.len());
        assert_eq!(unpaid, (0..COUNT).step_by(3).collect::<Vec<_>>());
        assert!(paid.iter().all(|(order, took)| took.as_secs() == order * 7 % 100));
        assert_eq!((paid.len() + unpaid.len()) as u64, COUNT);
    }

    // The same without an engine: orders in one epoch, payments in the next, and a restart in between.
    let (_, paid, _) = graph(0);
    let dealt_orders = orders(9).into_iter().map(|it| Dealt::new(it.number, it.placed, it)).collect();
    let dealt_payments = payments(9).into_iter().map(|it| Dealt::new(it.order, it.made, it)).collect();
    let epochs = [
        EpochInput::until(EventTime::from_secs(0)).keyed(0, dealt_orders),
        EpochInput::until(EventTime::from_secs(3_599)).keyed(1, dealt_payments),
        EpochInput::until(EventTime::from_secs(3_603)),
    ];
    let expected = [vec![], vec![1, 2, 4, 5, 7, 8], vec![0, 3]];
    three_phases(
        Mode::MicroBatch,
        &epochs,
        operator_of(paid),
        |instance| {
            let mut orders: Vec<u64> =
                instance.take::<(EventTime, Paid)>(0).iter().map(|(_, paid)| paid.0).collect();
            orders.extend(instance.take::<u64>(1));
            orders
        },
        &expected,
    );
    Ok(())
}
