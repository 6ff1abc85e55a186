//! The eight steps of [`chain`](super::chain) as a program on timely dataflow: a source that makes records batch by
//! batch, one operator that takes each through all steps to its checksum (a programmer who minds the cost writes one, not
//! eight), and a sink. With several workers, each has its share of the records.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};

use super::chain::{Chain, Record, checksum, fused};
use super::run;

/// Bytes in a batch: what fits into a core's own cache with room to spare.
const BATCH_BYTES: usize = 64 * 1024;

/// Builds containers of records.
type Builder<R> = CapacityContainerBuilder<Vec<R>>;

/// Takes `records` records of type `R` through the eight steps.
#[must_use]
pub fn chain<R: Record>(records: u64, workers: usize) -> Chain {
    let start = Instant::now();
    let size = (BATCH_BYTES / size_of::<R>().max(1)).max(1) as u64;
    let parts = run(workers, None, move |worker| {
        let answer: Rc<RefCell<Chain>> = Rc::default();
        let seen = Rc::clone(&answer);
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);
        worker.dataflow::<u64, _, _>(|scope| {
            let made = source(scope, "Generate", |capability, info| {
                let activator = scope.activator_for(info.address);
                let mut capability = Some(capability);
                let mut next = index;
                move |output: &mut OutputBuilderSession<'_, u64, Builder<R>>| {
                    let Some(held) = capability.as_ref() else { return };
                    let own = records.saturating_sub(next).div_ceil(peers).min(size);
                    let mut batch = Vec::with_capacity(own as usize);
                    batch.extend((0..own).map(|k| R::at(next + k * peers)));
                    next += own * peers;
                    if !batch.is_empty() {
                        output.session(held).give_container(&mut batch);
                    }
                    if next < records {
                        activator.activate();
                    } else {
                        capability = None;
                    }
                }
            });
            let kept = made.unary::<Builder<u64>, _, _, _>(Pipeline, "Steps", |first, _| {
                drop(first);
                let mut rows = Vec::new();
                move |input, output| {
                    input.for_each(|capability, batch| {
                        rows.reserve(batch.len());
                        for record in batch.drain(..) {
                            if let Some(record) = fused(record) {
                                rows.push(checksum(&record));
                            }
                        }
                        output.session(&capability).give_container(&mut rows);
                    });
                }
            });
            kept.sink(Pipeline, "Check", move |(input, _)| {
                let mut seen = seen.borrow_mut();
                input.for_each(|_, batch| {
                    seen.count += batch.len() as u64;
                    seen.checksum = batch.iter().fold(seen.checksum, |sum, word| sum.wrapping_add(*word));
                });
            });
        });
        while worker.step_or_park(None) {}
        answer.take()
    });
    let mut answer = Chain { elapsed: start.elapsed(), ..Chain::default() };
    for part in parts {
        answer.count += part.count;
        answer.checksum = answer.checksum.wrapping_add(part.checksum);
    }
    answer
}
