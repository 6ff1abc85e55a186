//! Eight stateless steps; see [`baseline::chain`](crate::baseline::chain). Renoir fuses them with the source and the sum.

use std::time::Instant;

use renoir::prelude::ParallelIteratorSource;

use super::context;
use crate::baseline::chain::{
    Chain, Record, checksum, step1, step2, step3, step4, step5, step6, step7, step8,
};

/// Takes `records` records of type `R` through the eight steps.
#[must_use]
pub fn chain<R: Record>(records: u64, workers: usize) -> Chain {
    let start = Instant::now();
    let context = context(workers);
    let source = ParallelIteratorSource::new(move |first: u64, peers: u64| {
        (0..records.saturating_sub(first).div_ceil(peers)).map(move |k| R::at(first + k * peers))
    });
    let output = context
        .stream(source)
        .map(step1)
        .filter(step2)
        .map(step3)
        .filter(step4)
        .map(step5)
        .filter(step6)
        .map(step7)
        .filter(step8)
        .map(|record| checksum(&record))
        .fold_assoc(
            (0_u64, 0_u64),
            |sum, word| *sum = (sum.0 + 1, sum.1.wrapping_add(word)),
            |sum, part| *sum = (sum.0 + part.0, sum.1.wrapping_add(part.1)),
        )
        .collect_vec();
    context.execute_blocking();
    let (count, checksum) = output.get().unwrap_or_default().first().copied().unwrap_or_default();
    Chain { count, checksum, elapsed: start.elapsed() }
}
