//! Exactly once into a database: the rows of an epoch and its number are written in one transaction.
//!
//! ```sh
//! cargo run --release --example sqlite_sink
//! cargo run --release --example sqlite_sink -- --workers 2
//! ```
//!
//! The query adds up the sales of each product, minute by minute, and the sink adds each sum to the product's total in a
//! table: to do that twice would be wrong. With a checkpoint [`for_each_epoch`] gives every epoch at least once, and in
//! micro-batch always with the same rows. So the sink stores, in the same transaction, which epoch was the last, and
//! leaves out what comes again.
//!
//! The query runs in a process of its own that ends at the worst moment several times: when the transaction is safe in
//! the database, and the checkpoint does not know yet. Each next run is then given that epoch again.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

const SALES: i64 = 6_000;
const PRODUCTS: i64 = 7;
/// The epochs whose transaction is the last thing that a run does.
const CRASH_AFTER: [u64; 4] = [5, 6, 11, 17];
/// How the process ends then.
const CRASHED: i32 = 75;

/// Shows a database that has every sale once, though the query crashes.
#[derive(Parser)]
struct Args {
    /// Be the process that crashes: run the query in this directory.
    #[arg(long, hide = true)]
    query_in: Option<PathBuf>,

    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Serialize, Deserialize)]
struct Sale {
    product: i64,
    cents: i64,
    at: EventTime,
}

type Sums = EpochRows<WindowResult<i64, i64>>;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    match &args.query_in {
        Some(directory) => run_query(directory, args.options),
        None => crash_and_look(args.options),
    }
}

fn run_query(directory: &Path, options: Options) -> Result<(), Box<dyn Error>> {
    let mut database = Database::open(directory)?;
    let graph = Graph::new("sales");
    graph
        .source(json_lines::<Sale>(directory.join("sales.jsonl").display().to_string()).bounded())
        .with_watermark(|sale| sale.at, Duration::from_secs(5))
        .key_by(|sale| sale.product)
        .window(tumbling(Duration::from_secs(60)))
        .sum(|sale| sale.cents)
        .append()
        .sink(for_each_epoch(move |sums| database.write(sums)));
    graph.run(options)?;
    Ok(())
}

/// The database, as the sink has it.
struct Database {
    connection: Connection,
}

impl Database {
    fn open(directory: &Path) -> Result<Database, rusqlite::Error> {
        let connection = Connection::open(directory.join("sales.db"))?;
        // What is committed must be on the disk: the checkpoint relies on it.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS totals (product INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS written (query TEXT, epoch INTEGER, PRIMARY KEY (query, epoch));
             CREATE TABLE IF NOT EXISTS skipped (epoch INTEGER NOT NULL);",
        )?;
        Ok(Database { connection })
    }

    /// Everything of an epoch in one transaction, its number included; nothing, if it is there.
    ///
    /// The numbers count within one checkpoint, which has an id. A query with a new checkpoint reads its input from the
    /// beginning, so it needs an empty database as well.
    fn write(&mut self, sums: Sums) -> Result<(), Box<dyn Error + Send + Sync>> {
        if !sums.repeatable {
            return Err("an epoch must come again with the same rows: run it with --mode micro-batch".into());
        }
        let epoch = i64::try_from(sums.epoch.number())?;
        let transaction = self.connection.transaction()?;
        let is_new = transaction
            .execute("INSERT OR IGNORE INTO written VALUES (?1, ?2)", params![sums.query_id, epoch])?;
        if is_new == 0 {
            // Only so that the example can tell.
            transaction.execute("INSERT INTO skipped VALUES (?1)", [epoch])?;
            transaction.commit()?;
            return Ok(());
        }
        for sum in &sums.rows {
            transaction.execute(
                "INSERT INTO totals VALUES (?1, ?2) ON CONFLICT DO UPDATE SET cents = cents + excluded.cents",
                params![sum.key, sum.value],
            )?;
        }
        transaction.commit()?;
        if CRASH_AFTER.contains(&sums.epoch.number()) {
            // As if the machine had lost power: the transaction is done, the commit is not recorded.
            std::process::exit(CRASHED);
        }
        Ok(())
    }
}

fn crash_and_look(options: Options) -> Result<(), Box<dyn Error>> {
    if options.checkpoint.is_some() {
        return Err(
            "the checkpoint belongs to the database, which is created for each run: leave out --checkpoint"
                .into(),
        );
    }
    let directory = tempfile::tempdir()?;
    let expected = write_sales(directory.path())?;
    println!("{SALES} sales\n\n{:>5}{:>20}   end", "run", "last epoch written");
    let mut crashes = 0;
    loop {
        let status = Command::new(std::env::current_exe()?)
            // Small epochs; what the caller says comes later and counts.
            .args(["--max-records-per-epoch", "250"])
            .args(std::env::args_os().skip(1))
            .arg("--query-in")
            .arg(directory.path())
            .arg("--checkpoint")
            .arg(directory.path().join("checkpoint"))
            .status()?;
        let database = Database::open(directory.path())?;
        let last: Option<i64> =
            database.connection.query_row("SELECT max(epoch) FROM written", [], |row| row.get(0))?;
        let last = last.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        println!("{:>5}{last:>20}   {status}", crashes + 1);
        match status.code() {
            Some(0) => break,
            Some(CRASHED) => crashes += 1,
            _ => return Err("the query failed".into()),
        }
    }

    let database = Database::open(directory.path())?.connection;
    let skipped = numbers(&database, "SELECT DISTINCT epoch FROM skipped ORDER BY epoch")?;
    println!("\nEpochs that were there when they came again: {skipped:?}\n");
    let mut totals = database.prepare("SELECT product, cents FROM totals ORDER BY product")?;
    let totals = totals.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let totals = totals.collect::<Result<BTreeMap<i64, i64>, _>>()?;
    println!("{:>9}{:>14}{:>16}", "product", "in the table", "in a plain loop");
    for (product, cents) in &expected {
        println!("{product:>9}{:>14}{cents:>16}", totals.get(product).copied().unwrap_or_default());
    }
    if totals != expected {
        return Err("the table is not what the plain loop says".into());
    }
    if skipped.len() != crashes {
        return Err(format!("{crashes} crashes, but {} epochs were given again", skipped.len()).into());
    }
    println!("\nExact, after {crashes} crashes.");
    Ok(())
}

fn numbers(database: &Connection, query: &str) -> Result<Vec<i64>, rusqlite::Error> {
    database.prepare(query)?.query_map([], |row| row.get(0))?.collect()
}

/// Writes the input, and adds it up in a plain loop.
fn write_sales(directory: &Path) -> Result<BTreeMap<i64, i64>, Box<dyn Error>> {
    let mut totals = BTreeMap::new();
    let mut text = String::new();
    for number in 0..SALES {
        let at = EventTime::from_secs(1_772_366_400 + number);
        let sale = Sale { product: number % PRODUCTS, cents: 100 + number * number % 997, at };
        *totals.entry(sale.product).or_default() += sale.cents;
        writeln!(text, "{}", serde_json::to_string(&sale)?)?;
    }
    std::fs::write(directory.join("sales.jsonl"), text)?;
    Ok(totals)
}
