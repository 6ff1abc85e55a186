//! Orders with their payments.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tidemill::prelude::*;

use crate::{check, input};

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let seconds = Duration::from_secs;
    let graph = Graph::new("paid orders");
    let orders = graph.source(memory(input::orders(30))).with_watermark(|order| order.at, seconds(40));
    let payments =
        graph.source(memory(input::payments(30))).with_watermark(|payment| payment.at, seconds(40));
    let ((sink, table), (late_sink, late)) = (memory_sink(), memory_sink());
    let (paid, late_orders, _) = orders
        .key_by(|order| order.number)
        .join(payments.key_by(|payment| payment.order))
        .within(Bounds::after(seconds(0)..=seconds(10)))
        .left_outer_with_late();
    paid.map(|(number, order, payment)| (number, order.cents, payment.map(|payment| payment.method)))
        .sink(sink);
    late_orders.map(|order| order.number).sink(late_sink);
    graph.run(options.clone())?;

    check(late.snapshot(), vec![])?;
    let method =
        |order: u64| (order % 3 != 0).then(|| if order % 2 == 0 { "card" } else { "cash" }.to_owned());
    check(table.snapshot(), (0..30).map(|order| (order, 100 * (order % 4), method(order))).collect())
}
