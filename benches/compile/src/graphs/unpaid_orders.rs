//! Orders that were not paid within ten seconds, and the orders of each customer that were.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tidemill::prelude::*;

use crate::{check, input};

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let seconds = Duration::from_secs;
    let graph = Graph::new("unpaid orders");
    let orders =
        graph.source(memory(input::orders(30))).with_watermark(|order| order.at, seconds(40)).boxed();
    let payments =
        graph.source(memory(input::payments(30))).with_watermark(|payment| payment.at, seconds(40)).boxed();
    let (sender, unpaid) = mpsc::channel();
    orders
        .clone()
        .key_by(|order| order.number)
        .join(payments.clone().key_by(|payment| payment.order))
        .within(Bounds::after(seconds(0)..=seconds(10)))
        .anti()
        .map(|(number, _)| number)
        .sink(for_each(move |number| sender.send(number).unwrap_or_default()));
    let (sink, paid) = memory_sink();
    orders
        .key_by(|order| order.number)
        .join(payments.key_by(|payment| payment.order))
        .within(Bounds::after(seconds(0)..=seconds(10)))
        .semi()
        .key_by(|(_, order)| order.customer)
        .count()
        .complete()
        .sink(sink);
    graph.run(options.clone())?;

    check(unpaid.try_iter().collect(), (0..30).filter(|number| number % 3 == 0).collect())?;
    check(paid.snapshot(), vec![(0, 2), (1, 4), (2, 3), (3, 2), (4, 3), (5, 3), (6, 3)])
}
