//! The way out of the region: emits the changes of each tick once that is over, and a checksum of them once their epoch is.
//!
//! The changes of the tick in which inputs emit what they have restored are not emitted, since they were before the restart,
//! unless the reader keeps the table itself, or the output is new.

use tidemill_operators::table::ContentChange;
use tidemill_operators::{Batch, OperatorError, rows};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, Leave};
use xxhash_rust::xxh3::xxh3_128;

use super::handle::{TableKey, TableRow};
use super::pending::Pending;
use super::region::{At, Region};
use super::rows::{Update, Updates};
use super::time::Tick;
use crate::engine::{Edge, EdgeBatch};

/// The output of a way out that has its [`ContentChange`]s.
pub(super) const CONTENT: usize = 1;

/// The changes of a tick, each row once and sorted by key.
pub(super) type TickChanges<K, V> = Vec<((K, V), i64)>;

/// How the changes of a tick leave.
pub(super) struct Leaving<K, V> {
    /// The rows that are emitted.
    pub(super) rows: fn(TickChanges<K, V>) -> Batch,
    /// Whether the rows with which a run begins are emitted.
    pub(super) emits_load: bool,
}

/// By how much the content changes, from the first change of an epoch on.
struct Sum {
    epoch: u64,
    capability: Capability<Tick>,
    load: u128,
    changed: u128,
}

/// Builds the way out: an edge of rows and one of [`ContentChange`]s. The rows are on the workers of their keys.
pub(super) fn exit<'s, 'i, K: TableKey, V: TableRow>(
    updates: Updates<'i>,
    at: &At<'_, 's>,
    region: &Region<'s, 'i>,
    leaving: Leaving<K, V>,
) -> Vec<Edge<'s>> {
    let mut builder = OperatorBuilder::new(at.node.label(), region.scope);
    let mut input = builder.new_input(updates, Pipeline);
    let (out, rows_out) = builder.new_output::<EdgeBatch>();
    let mut out = OutputBuilder::<Tick, NoopBuilder<EdgeBatch>>::from(out);
    let (sums_out, content) = builder.new_output::<EdgeBatch>();
    let mut sums_out = OutputBuilder::<Tick, NoopBuilder<EdgeBatch>>::from(sums_out);
    let (host, ticks) = (at.host.clone(), region.ticks.clone());
    let number = ticks.add_exit();
    let emits_load = leaving.emits_load || !region.is_recorded(at.node.id);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut pending = Pending::<(K, V)>::new();
        let mut sums: Vec<Sum> = Vec::new();
        let mut bytes = Vec::new();
        let mut before = Some(Tick::default());
        move |frontiers| {
            host.enter();
            input.for_each(|capability, edge_batch| {
                let updates = match rows::<Update<K, V>>(host.receive(edge_batch)) {
                    Ok(updates) => updates,
                    Err(error) => return host.fail(error),
                };
                for (_, tick, _) in &updates {
                    if sums.iter().all(|sum| sum.epoch != tick.epoch()) {
                        let (epoch, capability) = (tick.epoch(), capability.delayed(tick, CONTENT));
                        sums.push(Sum { epoch, capability, load: 0, changed: 0 });
                    }
                }
                pending.take(&capability, updates);
            });
            let frontier = frontiers.first().and_then(|frontier| frontier.frontier().first().copied());
            if frontier == before {
                return;
            }
            before = frontier;
            let mut out = out.activate();
            pending.release(frontier, |capability, tick, changes| {
                if let Some(sum) = sums.iter_mut().find(|sum| sum.epoch == tick.epoch()) {
                    let added = match content_of(&changes, &mut bytes) {
                        Ok(added) => added,
                        Err(error) => return host.fail(error),
                    };
                    let of_tick = if tick.is_load() { &mut sum.load } else { &mut sum.changed };
                    *of_tick = of_tick.wrapping_add(added);
                }
                if tick.is_load() && !emits_load {
                    return;
                }
                let batch = (leaving.rows)(changes);
                if !batch.is_empty() {
                    out.session_with_builder(capability).give_container(&mut EdgeBatch::new(batch));
                }
            });
            let mut out = sums_out.activate();
            let is_over = |sum: &mut Sum| frontier.is_none_or(|frontier| sum.epoch < frontier.epoch());
            for Sum { capability, load, changed, .. } in sums.extract_if(.., is_over) {
                let load = ContentChange { sum: load, is_load: true };
                let changed = ContentChange { sum: changed, is_load: false };
                let mut batch = EdgeBatch::new(Batch::from_vec(vec![load, changed]));
                out.session_with_builder(&capability).give_container(&mut batch);
            }
            ticks.has_left(number, frontier);
        }
    });
    vec![rows_out.leave(region.outer), content.leave(region.outer)]
}

/// The sum of the hashes of the rows, each multiplied by the number of copies that are added.
fn content_of<K: TableKey, V: TableRow>(
    changes: &TickChanges<K, V>,
    bytes: &mut Vec<u8>,
) -> Result<u128, OperatorError> {
    let mut sum = 0u128;
    for (row, diff) in changes {
        bytes.clear();
        *bytes = postcard::to_extend(row, std::mem::take(bytes))
            .map_err(|error| OperatorError::User(Box::new(error)))?;
        // A negative number of copies is one modulo 2^128.
        sum = sum.wrapping_add(xxh3_128(bytes).wrapping_mul(*diff as i128 as u128));
    }
    Ok(sum)
}
