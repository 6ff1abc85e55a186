//~ `Order` cannot be sent between workers or kept in state
//~ `#[derive(serde::Serialize, serde::Deserialize)]`
use tidemill::prelude::*;

struct Order {
    cents: u64,
}

fn main() {
    let graph = Graph::new("orders");
    let orders = graph.source(memory([1u64, 2])).map(|cents| Order { cents });
    orders.sink(for_each(|order: Order| println!("{}", order.cents)));
}
