//! Eight stateless steps; see [`baseline::chain`](crate::baseline::chain).
//!
//! Each worker makes its share of the records, takes them through the steps and to their checksum, and counts and adds up
//! what comes through.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tidemill::connectors::iterate_partitions;
use tidemill::{Graph, Options, Run};

use super::{Gather, gathered};
use crate::baseline::chain::{
    Chain, Record, checksum, step1, step2, step3, step4, step5, step6, step7, step8,
};

/// Takes `records` records of type `R` through the eight steps.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn chain<R: Record>(records: u64, workers: usize, options: &Options) -> Chain {
    let start = Instant::now();
    let answer: Arc<Mutex<Chain>> = Arc::default();
    let shared = Arc::clone(&answer);
    let graph = Graph::new("chain");
    graph
        .source(iterate_partitions(workers as u32, move |partition| {
            let (first, peers) = (u64::from(partition), workers as u64);
            (0..records.saturating_sub(first).div_ceil(peers)).map(move |k| R::at(first + k * peers))
        }))
        .map(step1)
        .filter(step2)
        .map(step3)
        .filter(step4)
        .map(step5)
        .filter(step6)
        .map(step7)
        .filter(step8)
        .map(|record| checksum(&record))
        .sink_per_worker(move |_| {
            let take = |answer: &mut Chain, word: u64| {
                answer.count += 1;
                answer.checksum = answer.checksum.wrapping_add(word);
            };
            Ok(Gather::new(&shared, take, |all, own| {
                all.count += own.count;
                all.checksum = all.checksum.wrapping_add(own.checksum);
            }))
        });
    graph.run(options.clone().with_workers(workers)).expect("the query runs to its end");
    Chain { elapsed: start.elapsed(), ..gathered(&answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline;
    use crate::baseline::chain::{Large, Small, Style};
    use tidemill::Mode;

    fn check<R: Record>() {
        let expected = baseline::chain::chain::<R>(20_001, 1_000, Style::Fused);
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            for workers in [1, 2] {
                let answer = chain::<R>(20_001, workers, &Options::default().with_mode(mode));
                assert_eq!((answer.count, answer.checksum), (expected.count, expected.checksum), "{mode:?}");
            }
        }
    }

    #[test]
    fn agrees_with_the_baseline() {
        check::<Small>();
        check::<Large>();
    }
}
