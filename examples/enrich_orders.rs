//! Orders with the name of their product and the price of their time: a static side and an as-of join.
//!
//! ```sh
//! cargo run --release --example enrich_orders
//! ```
//!
//! The names of products are a file, which each run loads as a whole; orders of products that are not in it are put aside. Prices
//! change while orders come, and each price is valid from its event time on. A window behind both joins sums up sales by category.
//!
//! - [`StaticSide`] has the rows that are no stream. It is broadcast: the orders are not exchanged for it.
//! - `as_of` finds the price that was valid at the time of the order, though prices and orders come in any order.
//! - The result is the same in both modes, with any number of workers.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    product: u32,
    pieces: u64,
    at: EventTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Price {
    product: u32,
    cents: u64,
    at: EventTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    id: u32,
    category: String,
}

const MINUTE: Duration = Duration::from_secs(60);
const PRODUCTS: u32 = 20;
const CATEGORIES: [&str; 3] = ["tea", "salt", "rice"];

/// An order every 50 ms, out of order by up to a second; some are of products that are not in the file.
fn orders() -> Vec<Order> {
    let order = |n: u64| {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let at = EventTime::from_millis(50 * n as i64 + (mixed % 1_000) as i64);
        Order { product: (mixed % u64::from(PRODUCTS + 2)) as u32, pieces: 1 + mixed % 5, at }
    };
    (0..40_000).map(order).collect()
}

/// A new price of a product every second, one product after the other.
fn prices() -> Vec<Price> {
    let price = |second: u32| {
        let cents = 100 + u64::from(second * 37 % 900);
        Price { product: second % PRODUCTS, cents, at: EventTime::from_secs(i64::from(second)) }
    };
    (0..2_000).map(price).collect()
}

fn category(product: u32) -> Option<&'static str> {
    let categories = CATEGORIES.iter().cycle().take(PRODUCTS as usize);
    categories.copied().nth(product as usize)
}

fn write_products(file: &Path) -> std::io::Result<()> {
    let rows = (0..PRODUCTS).filter_map(|id| Some(format!("{id},{}\n", category(id)?)));
    std::fs::write(file, format!("id,category\n{}", rows.collect::<String>()))
}

/// Cents by category and window of ten minutes, and how many orders have no product or no price.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sales {
    cents: BTreeMap<(EventTime, String), u64>,
    unknown: usize,
    without_price: usize,
}

fn sales(products: &Path, options: Options) -> Result<Sales, RunError> {
    let graph = Graph::new("enrich orders");
    let orders = graph.source(memory(orders())).with_watermark(|order| order.at, MINUTE);
    let prices = graph.source(memory(prices())).with_watermark(|price| price.at, MINUTE);
    let products = csv_files::<Product>(products.display().to_string()).bounded();
    let products = StaticSide::read(products, |product: &Product| product.id)
        .refresh_every(Duration::from_secs(600))
        .broadcast();

    let (known, unknown) = orders.key_by(|order| order.product).join_static(products).left_outer().split(
        |(_, order, product)| match product {
            Some(product) => Either::Left((order, product)),
            None => Either::Right(order),
        },
    );
    let (priced, without_price) = known
        .key_by(|(order, _)| order.product)
        .join(prices.key_by(|price| price.product))
        .as_of()
        .left_outer()
        .split(|(_, (order, product), price)| match price {
            Some(price) => Either::Left((product.category, order.pieces * price.cents)),
            None => Either::Right(order),
        });
    let ((sink, table), (unknown_sink, unknown_orders)) = (memory_sink(), memory_sink());
    let (waiting_sink, orders_without_price) = memory_sink();
    priced
        .key_by(|(category, _)| category.clone())
        .window(tumbling(MINUTE * 10))
        .sum(|(_, cents)| *cents)
        .append()
        .sink(sink);
    unknown.sink(unknown_sink);
    without_price.sink(waiting_sink);
    let summary = graph.run(options)?;
    assert_eq!(summary.late_rows, 0);
    Ok(Sales {
        cents: table.snapshot().into_iter().map(|row| ((row.window.start, row.key), row.value)).collect(),
        unknown: unknown_orders.snapshot().len(),
        without_price: orders_without_price.snapshot().len(),
    })
}

/// The same by loops.
fn expected() -> Sales {
    let window = tumbling(MINUTE * 10);
    let mut versions: BTreeMap<(u32, EventTime), u64> = BTreeMap::new();
    versions.extend(prices().into_iter().map(|price| ((price.product, price.at), price.cents)));
    let mut sales = Sales::default();
    for order in orders() {
        let Some(category) = category(order.product) else {
            sales.unknown += 1;
            continue;
        };
        let until = (order.product, order.at);
        match versions.range((order.product, EventTime::MIN)..=until).next_back() {
            Some((_, cents)) => {
                let key = (window.window_of(order.at).start, category.to_owned());
                *sales.cents.entry(key).or_default() += order.pieces * cents;
            }
            None => sales.without_price += 1,
        }
    }
    sales
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let products = directory.path().join("products.csv");
    write_products(&products)?;
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let sales = sales(&products, Options::default().with_mode(mode).with_workers(2))?;
        println!(
            "{mode}: {} orders of unknown products, {} before the first price",
            sales.unknown, sales.without_price
        );
        for ((start, category), cents) in &sales.cents {
            println!("  {start} {category}: {}.{:02}", cents / 100, cents % 100);
        }
        assert_eq!(sales, expected());
    }
    Ok(())
}
