//! What it costs that rows go from worker to worker: one graph without an exchange, with one in turn, and with one by key.
//!
//! `cargo bench -p tidemill-benches --bench exchange`
//!
//! A run is a whole query on two workers, with its threads.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion makes a public function; a benchmark fails loudly"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidemill::connectors::{discard, iterate_partitions};
use tidemill::{Data, Graph, Mode, Options, Run};
use tidemill_benches::generator::splitmix64;

const WORKERS: u32 = 2;
/// Of each worker.
const ROWS: u64 = 200_000;

type Narrow = (u64, u64);
type Wide = (u64, [u64; 7]);

#[derive(Clone, Copy, Debug)]
enum Way {
    /// A worker's rows stay with it.
    Stay,
    /// They are distributed in turn.
    Rebalance,
    /// They are counted by keys that are all different, so nothing is put together before it goes to the key's worker.
    ByKey,
}

fn run<T: Data + Clone>(way: Way, mode: Mode, row: fn(u64) -> T, key: fn(&T) -> u64) {
    let graph = Graph::new("exchange");
    let rows = graph.source(iterate_partitions(WORKERS, move |partition| {
        let first = u64::from(partition) * ROWS;
        (first..first + ROWS).map(row)
    }));
    match way {
        Way::Stay => rows.sink(discard().0),
        Way::Rebalance => rows.rebalance().sink(discard().0),
        Way::ByKey => rows.key_by(key).count().update().sink(discard().0),
    };
    check(&graph, mode);
}

fn check(graph: &Graph, mode: Mode) {
    let options = Options::default().with_mode(mode).with_workers(WORKERS as usize).without_ctrl_c();
    let summary = graph.run(options).expect("the query runs to its end");
    assert_eq!(summary.input_rows, ROWS * u64::from(WORKERS));
}

fn exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange between two workers");
    group.throughput(Throughput::Elements(ROWS * u64::from(WORKERS)));
    group.sample_size(20);
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for way in [Way::Stay, Way::Rebalance, Way::ByKey] {
            let name = format!("{way:?}, {mode:?}");
            let narrow = |n| (splitmix64(n), n);
            group.bench_function(BenchmarkId::new(&name, "16 bytes"), |bencher| {
                bencher.iter(|| run::<Narrow>(way, mode, narrow, |row| row.0));
            });
            let wide = |n| (splitmix64(n), [n; 7]);
            group.bench_function(BenchmarkId::new(&name, "64 bytes"), |bencher| {
                bencher.iter(|| run::<Wide>(way, mode, wide, |row| row.0));
            });
        }
    }
    group.finish();
}

criterion_group!(workers, exchange);
criterion_main!(workers);
