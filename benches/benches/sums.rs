//! Adding a number to an accumulator: exact sums beside plain addition.
//!
//! `cargo bench -p tidemill-benches --bench sums`

#![allow(missing_docs, reason = "criterion makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidemill::Aggregate;
use tidemill::aggregate::{Average, Sum};

/// Numbers in a round.
const NUMBERS: usize = 65_536;

fn measure<A: Aggregate>(criterion: &mut Criterion, what: &str, how: &str, sum: &A, numbers: &[A::In])
where
    A::In: Sized,
{
    let Some((first, others)) = numbers.split_first() else { return };
    let mut group = criterion.benchmark_group(what);
    group.throughput(Throughput::Elements(NUMBERS as u64));
    // One accumulator, in which each addition waits for the one before.
    group.bench_function(BenchmarkId::new(how, "one key"), |bencher| {
        bencher.iter(|| {
            let mut acc = sum.create(first);
            others.iter().for_each(|number| sum.add(&mut acc, black_box(number)));
            sum.finish(&acc)
        });
    });
    // Many accumulators, as in a table in the cache.
    let mut accs: Vec<A::Acc> = numbers.iter().take(1_024).map(|number| sum.create(number)).collect();
    group.bench_function(BenchmarkId::new(how, "1,024 keys"), |bencher| {
        bencher.iter(|| {
            for numbers in numbers.chunks(accs.len()) {
                accs.iter_mut().zip(numbers).for_each(|(acc, number)| sum.add(acc, black_box(number)));
            }
        });
    });
    group.finish();
}

fn sums(criterion: &mut Criterion) {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let amounts: Vec<f64> = (0..NUMBERS).map(|_| (random() % 1_000_000) as f64 / 100.0).collect();
    measure(criterion, "amounts", "plain", &Sum::naive(|n: &f64| *n), &amounts);
    measure(criterion, "amounts", "exact", &Sum::of(|n: &f64| *n), &amounts);
    measure(criterion, "average of amounts", "plain", &Average::naive(|n: &f64| *n), &amounts);
    measure(criterion, "average of amounts", "exact", &Average::of(|n: &f64| *n), &amounts);
    // So far apart that two floats do not hold their sum.
    let wide: Vec<f64> =
        amounts.iter().map(|amount| amount * 2f64.powi((random() % 400) as i32 - 200)).collect();
    measure(criterion, "400 powers of two", "plain", &Sum::naive(|n: &f64| *n), &wide);
    measure(criterion, "400 powers of two", "exact", &Sum::of(|n: &f64| *n), &wide);
    let integers: Vec<i64> = (0..NUMBERS).map(|_| random().cast_signed() >> 8).collect();
    measure(criterion, "64-bit integers", "plain", &Sum::naive(|n: &i64| *n), &integers);
    measure(criterion, "64-bit integers", "exact", &Sum::of(|n: &i64| *n), &integers);
}

criterion_group!(benches, sums);
criterion_main!(benches);
