//! Orders with the name of their product, the price of their time and the discount of a service: a static side, an as-of join and
//! asynchronous requests.
//!
//! ```sh
//! cargo run --release --example enrich_orders
//! ```
//!
//! The names of products are a file, which each run loads as a whole; orders of products that are not in it are put aside. Prices
//! change while orders come, and each price is valid from its event time on. A service, which answers out of order and now and then not at
//! all, knows the discount of large orders. A window behind all of these sums up sales by category.
//!
//! - [`StaticSide`] has the rows that are no stream. It is broadcast: the orders are not exchanged for it.
//! - `as_of` finds the price that was valid at the time of the order, though prices and orders come in any order.
//! - `map_async_with_failed` asks the service for up to 64 orders at once on each worker, and again if it fails. Orders for which it has no
//!   answer are put aside.
//! - The result is the same in both modes, with any number of workers.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// Only orders of this many pieces or more are counted.
const LARGE: u64 = 4;
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

/// The percentage to be paid for a large order; none where the service does not answer.
fn percent(pieces: u64, cents: u64) -> Option<u64> {
    (!cents.is_multiple_of(97)).then_some(100 - 5 * pieces)
}

/// The service. Every tenth request finds it busy and has to be made again; it has no answer to some orders.
async fn ask(pieces: u64, cents: u64, request: u64) -> Result<u64, String> {
    tokio::time::sleep(Duration::from_micros(request % 7 * 100)).await;
    match request % 10 {
        9 => Err("the service is busy".to_owned()),
        _ => percent(pieces, cents).ok_or_else(|| format!("no discount is known at {cents} cents")),
    }
}

fn write_products(file: &Path) -> std::io::Result<()> {
    let rows = (0..PRODUCTS).filter_map(|id| Some(format!("{id},{}\n", category(id)?)));
    std::fs::write(file, format!("id,category\n{}", rows.collect::<String>()))
}

/// Cents of large orders by category and window of ten minutes, and how many orders have no product, no price or no discount.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sales {
    cents: BTreeMap<(EventTime, String), u64>,
    unknown: usize,
    without_price: usize,
    without_discount: usize,
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
            Some(price) => Either::Left((product.category, order.pieces, price.cents)),
            None => Either::Right(order),
        });
    let requests = Requests::at_most(64)
        .unordered()
        .with_timeout(Duration::from_secs(5))
        .with_retry(Retry::attempts(15).with_backoff(Duration::from_millis(1), Duration::from_millis(4)));
    let made = Arc::new(AtomicU64::new(0));
    let (priced, without_discount) =
        priced.filter(|(_, pieces, _)| *pieces >= LARGE).map_async_with_failed(
            requests,
            move |(category, pieces, cents): (String, u64, u64)| {
                let request = made.fetch_add(1, Ordering::Relaxed);
                async move {
                    Ok::<_, String>((category, pieces * cents * ask(pieces, cents, request).await? / 100))
                }
            },
        );
    let (unanswered_sink, orders_without_discount) = memory_sink();
    without_discount.sink(unanswered_sink);
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
        without_discount: orders_without_discount.snapshot().len(),
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
            Some(_) if order.pieces < LARGE => {}
            Some((_, cents)) => match percent(order.pieces, *cents) {
                Some(percent) => {
                    let key = (window.window_of(order.at).start, category.to_owned());
                    *sales.cents.entry(key).or_default() += order.pieces * cents * percent / 100;
                }
                None => sales.without_discount += 1,
            },
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
            "{mode}: {} orders of unknown products, {} before the first price, {} without an answer",
            sales.unknown, sales.without_price, sales.without_discount
        );
        for ((start, category), cents) in &sales.cents {
            println!("  {start} {category}: {}.{:02}", cents / 100, cents % 100);
        }
        assert_eq!(sales, expected());
    }
    Ok(())
}
