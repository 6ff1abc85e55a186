//! The records of the graphs.

use serde::{Deserialize, Serialize};
use tidemill::EventTime;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Visit {
    pub page: String,
    pub user: u32,
    pub at: EventTime,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub number: u64,
    pub customer: u32,
    pub product: u32,
    pub cents: u64,
    pub at: EventTime,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payment {
    pub order: u64,
    pub method: String,
    pub at: EventTime,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub sensor: u32,
    pub celsius: f64,
    pub at: EventTime,
}

/// One visit a second.
pub fn visits(count: u64) -> Vec<Visit> {
    let page = |n: u64| ["/home", "/shop", "/help"].into_iter().cycle().nth(n as usize % 3).unwrap_or("/");
    let visit =
        |n| Visit { page: page(n).to_owned(), user: (n % 10) as u32, at: EventTime::from_secs(n as i64) };
    (0..count).map(visit).collect()
}

/// One order a second.
pub fn orders(count: u64) -> Vec<Order> {
    let order = |number: u64| Order {
        number,
        customer: (number % 7) as u32,
        product: (number * number % 5) as u32,
        cents: 100 * (number % 4),
        at: EventTime::from_secs(number as i64),
    };
    (0..count).map(order).collect()
}

/// A payment two seconds after each order, but every third.
pub fn payments(count: u64) -> Vec<Payment> {
    let payment = |order: u64| Payment {
        order,
        method: if order % 2 == 0 { "card" } else { "cash" }.to_owned(),
        at: EventTime::from_secs(order as i64 + 2),
    };
    (0..count).filter(|order| order % 3 != 0).map(payment).collect()
}

/// A reading a second, of four sensors in turn.
pub fn readings(count: u64) -> Vec<Reading> {
    let reading = |n: u64| Reading {
        sensor: (n % 4) as u32,
        celsius: 20.0 + (n % 8) as f64,
        at: EventTime::from_secs(n as i64),
    };
    (0..count).map(reading).collect()
}
