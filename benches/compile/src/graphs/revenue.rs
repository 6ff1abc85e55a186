//! What each customer has spent: from files of JSON to a file of JSON.

use std::error::Error;
use std::path::Path;

use serde::Serialize;
use tidemill::prelude::*;

use crate::check;
use crate::input::{self, Order};

#[derive(Clone, Serialize, serde::Deserialize)]
struct Spent {
    customer: u32,
    euros: u64,
}

pub fn run(scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let order = |order: Order| {
        let Order { number, customer, product, cents, at } = order;
        let at = at.as_micros();
        format!(
            "{{\"number\":{number},\"customer\":{customer},\"product\":{product},\"cents\":{cents},\"at\":{at}}}\n"
        )
    };
    std::fs::write(
        scratch.join("orders.jsonl"),
        input::orders(70).into_iter().map(order).collect::<String>(),
    )?;
    let out = scratch.join("spent.jsonl");
    let graph = Graph::new("revenue");
    graph
        .source(json_lines::<Order>(scratch.join("orders.jsonl").display().to_string()).bounded())
        .filter(|order| order.cents > 0)
        .key_by(|order| order.customer)
        .sum(|order| order.cents)
        .complete()
        .map(|(customer, cents)| Spent { customer, euros: cents / 100 })
        .sink(json_lines_sink(&out));
    graph.run(options.clone())?;

    let rows = std::fs::read_to_string(&out)?.lines().map(str::to_owned).collect();
    let mut euros = [0; 7];
    for order in input::orders(70) {
        euros[order.customer as usize] += order.cents / 100;
    }
    let expected = euros
        .iter()
        .enumerate()
        .map(|(customer, euros)| format!("{{\"customer\":{customer},\"euros\":{euros}}}"));
    check(rows, expected.collect())
}
