//! Rows to bytes and back, with each codec; with the feature `abomonation` also as they lie in memory.
//!
//! `cargo bench -p tidemill-benches --features abomonation --bench codecs`

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion makes a public function; a benchmark fails loudly"
)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use tidemill::Data;
#[cfg(feature = "abomonation")]
use tidemill::codec::Abomonated;
use tidemill::codec::{Codec, Postcard};

/// Rows in a block.
const ROWS: u64 = 4_096;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    customer: String,
    cents: u64,
    items: Vec<u32>,
}
#[cfg(feature = "abomonation")]
tidemill::abomonate!(Order { customer: String, cents: u64, items: Vec<u32> });

fn codec<T, C>(criterion: &mut Criterion, name: &str, rows_are: &str, rows: &[T])
where
    T: Data + Clone + PartialEq + std::fmt::Debug,
    C: Codec<T>,
{
    let mut block = Vec::new();
    C::encode(rows, &mut block).expect("rows are encoded");
    let mut read = Vec::new();
    C::decode(&mut block.clone(), &mut read).expect("rows are decoded");
    assert_eq!(read, rows);

    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function(BenchmarkId::new("encode", rows_are), |bencher| {
        let mut bytes = Vec::with_capacity(block.len());
        bencher.iter(|| {
            bytes.clear();
            C::encode(black_box(rows), &mut bytes).expect("rows are encoded");
        });
    });
    group.bench_function(BenchmarkId::new("decode", rows_are), |bencher| {
        let decode = |mut bytes: Vec<u8>| {
            let mut read = Vec::with_capacity(rows.len());
            C::decode(&mut bytes, &mut read).expect("rows are decoded");
            read
        };
        bencher.iter_batched(|| block.clone(), decode, BatchSize::SmallInput);
    });
    group.bench_function(BenchmarkId::new("visit", rows_are), |bencher| {
        let visit = |mut bytes: Vec<u8>| {
            let mut seen = 0;
            C::visit(&mut bytes, &mut |rows| seen += black_box(rows).len()).expect("rows are shown");
            (seen, bytes)
        };
        bencher.iter_batched(|| block.clone(), visit, BatchSize::SmallInput);
    });
    group.finish();
}

fn codecs(criterion: &mut Criterion) {
    let order = |n: u64| Order {
        customer: format!("customer {}", n * 2_654_435_761 % 1_000_003),
        cents: n * 7,
        items: (0..n as u32 % 8).collect(),
    };
    let orders: Vec<Order> = (0..ROWS).map(order).collect();
    let pairs: Vec<(u64, u64)> = (0..ROWS).map(|n| (n, n * 0x9E37 % 1_000_003)).collect();
    codec::<_, Postcard>(criterion, "postcard", "pairs", &pairs);
    codec::<_, Postcard>(criterion, "postcard", "orders", &orders);
    #[cfg(feature = "abomonation")]
    {
        codec::<_, Abomonated>(criterion, "abomonation", "pairs", &pairs);
        codec::<_, Abomonated>(criterion, "abomonation", "orders", &orders);
    }
}

criterion_group!(rows, codecs);
criterion_main!(rows);
