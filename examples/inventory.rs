//! What is out of stock, and what runs low: tables that are joined, from a log of what comes in and goes out.
//!
//! ```sh
//! cargo run --example inventory
//! ```
//!
//! The pieces in the warehouse are a table of a log of changes: a delivery inserts a piece, a sale deletes it. The catalogue has the
//! newest version of each product, and products are taken out of it. A change of either changes only the rows that depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use serde::{Deserialize, Serialize};
use tidemill::RowChange;
use tidemill::prelude::*;
use tidemill::table::Table;
use tidemill::testing::collecting_sink;

const PRODUCTS: u32 = 200;

/// A version of a product in the catalogue.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Product {
    id: u32,
    name: String,
    /// Fewer pieces than that are few.
    least: u64,
    is_sold: bool,
}

/// A piece of a product.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Piece {
    product: u32,
    number: u32,
}

/// What the shop wants to know, by product: its name, and how many pieces there are.
type Few = BTreeMap<u32, (String, u64)>;

fn scrambled(number: u32) -> u32 {
    ((u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 40) as u32
}

/// The versions of all products, the newest last.
fn catalogue() -> Vec<Product> {
    let version = |n: u32| Product {
        id: n % PRODUCTS,
        name: format!("product {} of series {}", n % PRODUCTS, n / PRODUCTS),
        least: u64::from(scrambled(n) % 6),
        is_sold: scrambled(n) % 10 < 9,
    };
    (0..3 * PRODUCTS).map(version).collect()
}

/// Deliveries, and the sales of most of the pieces.
fn movements() -> Vec<RowChange<Piece>> {
    let piece = |number: u32| Piece { product: scrambled(number) % PRODUCTS, number };
    (0..4_000u32)
        .flat_map(|number| {
            let sale = number.checked_sub(50).filter(|number| scrambled(*number) % 8 < 7);
            let delivery = Some(RowChange::insert(piece(number)));
            delivery.into_iter().chain(sale.map(|number| RowChange::delete(piece(number))))
        })
        .collect()
}

/// Tables of the products without a piece, and of those with few.
fn few(graph: &Graph) -> (Table<u32, Product>, Table<u32, (String, u64)>) {
    let products = graph.source(memory(catalogue())).key_by(|product| product.id);
    let products = products.into_table_with(|product| product.is_sold.then_some(product)).uid("products");
    let pieces = graph.source(memory(movements())).as_changes().key_by(|change| change.row.product);
    let pieces = pieces.into_changelog_table().uid("pieces");
    let counted = products.join(&pieces.count(), |_, product, count| (product.clone(), *count));
    let low = counted.filter(|_, (product, count)| *count < product.least);
    (products.anti_join(&pieces), low.map(|_, (product, count)| (product.name, count)))
}

/// The same by plain loops.
fn expected() -> Few {
    let mut pieces = BTreeSet::new();
    for RowChange { row, diff } in movements() {
        if diff > 0 {
            pieces.insert(row)
        } else {
            pieces.remove(&row)
        };
    }
    let newest: BTreeMap<u32, Product> =
        catalogue().into_iter().map(|product| (product.id, product)).collect();
    let count = |id: u32| pieces.iter().filter(|piece| piece.product == id).count() as u64;
    let products = newest.into_values().filter(|product| product.is_sold);
    let counted = products.map(|product| (count(product.id), product));
    let few = counted.filter(|(count, product)| *count == 0 || *count < product.least);
    few.map(|(count, product)| (product.id, (product.name, count))).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let graph = Graph::new("inventory");
        let (out_of_stock, low) = few(&graph);
        let ((out_sink, out), (low_sink, low_rows)) = (collecting_sink(), collecting_sink());
        out_of_stock.uid("out of stock").map(|_, product| (product.name, 0)).upserts().sink(out_sink);
        low.uid("low").upserts().sink(low_sink);
        graph.run(Options::default().with_mode(mode).with_workers(2).with_max_records_per_epoch(500))?;

        let mut found = Few::new();
        for rows in [out.committed(), low_rows.committed()] {
            // The newest row of each product; none once it is not one of them any more.
            let newest: BTreeMap<u32, Option<(String, u64)>> = rows.into_iter().collect();
            found.extend(newest.into_iter().filter_map(|(id, row)| Some((id, row?))));
        }
        let expected = expected();
        if found != expected {
            return Err(format!("{mode}: {found:?} instead of {expected:?}").into());
        }
        let gone = found.values().filter(|(_, count)| *count == 0).count();
        println!("{mode}: {gone} products are out of stock, {} run low", found.len() - gone);
    }
    Ok(())
}
