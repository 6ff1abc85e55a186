//! A query that fails and restarts by itself, a savepoint of it, and what a checkpoint holds.
//!
//! ```sh
//! cargo run --release --example recovery
//! ```
//!
//! 1. A function panics now and then. With `--restart 5:10ms` the query starts again from its checkpoint.
//! 2. While it runs, a savepoint is taken: a copy of the last commit.
//! 3. Another query starts from the savepoint, and comes to the same result as the first one.
//! 4. What `tidemill checkpoint list` and `show` say of a checkpoint, a program can ask as well.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::connectors::MemoryTable;
use tidemill::prelude::*;

const TRANSFERS: u64 = 4_000;

#[derive(Clone, Serialize, Deserialize)]
struct Transfer {
    account: u64,
    cents: i64,
}

/// The balance of every account. The function in it panics at those calls, counted over all runs.
fn balances(input: &Path, panics_at: &'static [u64]) -> (Graph, MemoryTable<(u64, i64)>) {
    let calls = Arc::new(AtomicU64::new(0));
    let graph = Graph::new("balances");
    let (sink, table) = memory_sink();
    graph
        .source(json_lines::<Transfer>(input.display().to_string()).bounded().partitions(1))
        .inspect(move |transfer| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            assert!(
                !panics_at.contains(&call),
                "a transfer of {} cents is more than I can bear",
                transfer.cents
            );
            // As if it were much work, so that there is time to watch.
            sleep(Duration::from_micros(50));
        })
        .key_by(|transfer| transfer.account)
        .sum(|transfer| transfer.cents)
        .complete()
        .sink(sink);
    (graph, table)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Panics are expected here: a line each is enough.
    std::panic::set_hook(Box::new(|panic| println!("    {}", panic.to_string().replace('\n', " "))));
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let input = path("transfers.jsonl");
    let expected = write_transfers(&input)?;

    println!("A query that panics three times, and starts again from its checkpoint:");
    let options = Options::default().with_workers(2).with_max_records_per_epoch(100);
    let (graph, table) = balances(&input, &[700, 1_500, 2_200]);
    let first = options.clone().with_checkpoint(path("checkpoint")).with_restart("5:10ms".parse()?);
    let query = graph.start(first)?;
    while query.progress().epoch.is_none_or(|epoch| epoch < 8) && !query.is_finished() {
        sleep(Duration::from_millis(1));
    }
    let epoch = query.savepoint(path("savepoint"))?;
    println!("    a savepoint, while it runs: epoch {epoch}");
    let summary = query.wait()?;
    println!("    done, with epoch {}", summary.last.epoch.unwrap_or_default());
    check(&table, &expected, "the query that was started again")?;

    println!("\nAnother one starts from the savepoint:");
    let (graph, table) = balances(&input, &[]);
    let second = options.with_checkpoint(path("second")).with_from_savepoint(path("savepoint"));
    let summary = graph.run(second)?;
    println!("    it read {} of {TRANSFERS} transfers", summary.input_rows);
    if summary.input_rows != TRANSFERS - 100 * (epoch + 1) {
        return Err("it did not begin behind the savepoint".into());
    }
    check(&table, &expected, "the query from the savepoint")?;
    println!("    both have the balances of a plain loop");

    println!("\nWhat the first one left, as `tidemill checkpoint list` says it:");
    let checkpoint = LocalDirectory::existing(path("checkpoint"))?;
    let overview = inspect::list(&checkpoint)?;
    println!("    query `{}`, execution {}", overview.query, overview.execution);
    for epoch in &overview.epochs {
        let inspect::EpochOverview { epoch, execution, workers, files, bytes, .. } = epoch;
        println!(
            "    epoch {epoch}: by execution {execution}, {workers} workers, {bytes} bytes in {files} files"
        );
    }
    // Three failures, and so three more executions than one.
    if overview.execution != 4 {
        return Err(format!("it was started {} times instead of 4", overview.execution).into());
    }

    println!("\nAnd the savepoint, as `tidemill checkpoint show`:");
    let details = inspect::show(&LocalDirectory::existing(path("savepoint"))?, None)?;
    for (uid, offsets) in &details.offsets {
        let read: Vec<_> = offsets.iter().map(ToString::to_string).collect();
        println!("    source {uid} resumes at {}", read.join(" "));
    }
    for (uid, operator) in &details.operators {
        println!("    {uid} ({}): {} entries, {} bytes", operator.label, operator.entries, operator.bytes);
    }
    let verified = inspect::verify(&checkpoint)?;
    println!("\nVerified: {} files of state, {} bytes.", verified.files, verified.bytes);
    Ok(())
}

fn check(
    table: &MemoryTable<(u64, i64)>,
    expected: &BTreeMap<u64, i64>,
    who: &str,
) -> Result<(), Box<dyn Error>> {
    if table.snapshot().into_iter().collect::<BTreeMap<_, _>>() != *expected {
        return Err(format!("{who} has other balances than the plain loop").into());
    }
    Ok(())
}

/// Writes the input, and adds it up in a plain loop.
fn write_transfers(path: &Path) -> Result<BTreeMap<u64, i64>, Box<dyn Error>> {
    let (mut text, mut balances) = (String::new(), BTreeMap::new());
    for number in 0..TRANSFERS {
        let cents = (number * number % 20_011) as i64 - 10_000;
        let transfer = Transfer { account: number * 7 % 50, cents };
        *balances.entry(transfer.account).or_default() += cents;
        writeln!(text, "{}", serde_json::to_string(&transfer)?)?;
    }
    std::fs::write(path, text)?;
    Ok(balances)
}
