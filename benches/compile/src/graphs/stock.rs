//! An operator of the program's own: what is left of each product, by deliveries and orders.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::vec::Drain;

use tidemill::OperatorError;
use tidemill::operator::{Dealt, HashedKey, Rows, StatefulOperator, States, Takes, To, ValueState};
use tidemill::prelude::*;

use crate::check;
use crate::input::{self, Order};

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Delivery {
    product: u32,
    count: i64,
}

/// What is left.
struct Stock {
    left: ValueState<u32, i64>,
}

impl StatefulOperator for Stock {
    type Key = u32;
    type Outputs = (Rows<(u32, i64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("left", &mut self.left);
    }
}

impl Stock {
    fn change(&mut self, product: HashedKey<'_, u32>, change: i64, to: &mut To<'_, Self>) {
        let left = self.left.get(product).copied().unwrap_or_default() + change;
        self.left.insert(product, left);
        to.out.0.push((*product.key, left));
    }
}

impl Takes<0> for Stock {
    type Row = Dealt<u32, Delivery>;

    fn take(&mut self, deliveries: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        deliveries.for_each(|row| self.change(row.hashed(), row.value.count, to));
        Ok(())
    }
}

impl Takes<1> for Stock {
    type Row = Dealt<u32, Order>;

    fn take(&mut self, orders: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        orders.for_each(|row| self.change(row.hashed(), -1, to));
        Ok(())
    }
}

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("stock");
    let deliveries =
        graph.source(memory((0..5).map(|product| Delivery { product, count: 100 }).collect::<Vec<_>>()));
    let orders = graph.source(memory(input::orders(60)));
    let (sink, table) = memory_sink();
    graph
        .operator("stock")
        .keyed(deliveries, |delivery| delivery.product)
        .keyed(orders, |order| order.product)
        .stateful(|_| Stock { left: ValueState::new() })
        .sink(sink);
    graph.run(options.clone())?;

    // The last row of each product says what is left when both streams have ended.
    let left: BTreeMap<_, _> = table.snapshot().into_iter().collect();
    check(left.into_iter().collect(), vec![(0, 88), (1, 76), (2, 100), (3, 100), (4, 76)])
}
