//! Two sources become one stream, which has three consumers.

use std::error::Error;
use std::path::Path;

use tidemill::prelude::*;

use crate::{check, input};

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("two sources");
    let (count_sink, count) = discard();
    let ((large_sink, large), (sum_sink, sums)) = (memory_sink(), memory_sink());
    let shop = graph.source(memory(input::orders(40))).map(|order| (order.customer, order.cents));
    let web = graph.source(iterate(|| (0..40u64).map(|n| (n as u32 % 7, n))));
    let all = shop.boxed().union(web.boxed());
    all.clone().sink(count_sink);
    all.clone().filter(|(_, cents)| *cents > 250).sink(large_sink);
    all.key_by(|(customer, _)| *customer).sum(|(_, cents)| *cents).complete().sink(sum_sink);
    graph.run(options.clone())?;

    check(vec![count.get()], vec![80])?;
    let orders = input::orders(40);
    let paid = |order: &input::Order| (order.customer, order.cents);
    let expected: Vec<_> = orders.iter().map(paid).filter(|(_, cents)| *cents > 250).collect();
    check(large.snapshot(), expected)?;
    let web = (0..40).map(|n| (n as u32 % 7, n));
    let sum = |customer| -> u64 {
        orders.iter().map(paid).chain(web.clone()).filter(|row| row.0 == customer).map(|row| row.1).sum()
    };
    check(sums.snapshot(), (0..7).map(|customer| (customer, sum(customer))).collect())
}
