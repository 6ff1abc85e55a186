//! Several aggregates at once, over everything and by key.

use std::error::Error;
use std::path::Path;

use tidemill::aggregate::{Average, Count, Max, Min, Sum};
use tidemill::prelude::*;

use crate::input::Order;
use crate::{check, input};

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("totals");
    let cents = |order: &Order| order.cents;
    let orders = graph.source(memory(input::orders(80))).inspect(|_| ()).boxed();
    let ((all_sink, all), (each_sink, each)) = (memory_sink(), memory_sink());
    orders.clone().aggregate((Count::new(), Sum::of(cents), Max::of(cents))).complete().sink(all_sink);
    orders
        .key_by(|order| (order.customer, order.product))
        .aggregate((Count::new(), Min::of(|order: &Order| order.number), Average::of(cents)))
        .complete()
        .filter(|((customer, _), _)| *customer == 0)
        .map(|((_, product), (count, first, average))| (product, count, first, average as u64))
        .sink(each_sink);
    graph.run(options.clone())?;

    check(all.snapshot(), vec![(80, 12_000, 300)])?;
    check(each.snapshot(), vec![(0, 3, 0, 133), (1, 4, 14, 150), (4, 5, 7, 140)])
}
