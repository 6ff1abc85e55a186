//! The events of a source: each worker's share, a container per activation.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilderSession;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, StreamVec};

/// The events of a worker: number `first` and every `step`-th after it, below `end`.
pub(super) struct Share {
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) end: u64,
    /// How many make a container.
    pub(super) batch: usize,
}

/// Emits the share. After each container the timestamp is the `watermark` before the event with the next number.
pub(super) fn generate<'scope, E: Clone + 'static>(
    scope: Scope<'scope, i64>,
    share: Share,
    event: impl Fn(u64) -> E + 'static,
    watermark: impl Fn(u64) -> i64 + 'static,
) -> StreamVec<'scope, i64, E> {
    let Share { first, step, end, batch } = share;
    source(scope, "Generate", |capability, info| {
        let activator = scope.activator_for(info.address);
        let mut capability = Some(capability);
        let mut next = first;
        move |output: &mut OutputBuilderSession<'_, i64, CapacityContainerBuilder<Vec<E>>>| {
            let Some(held) = capability.as_mut() else { return };
            let left = end.saturating_sub(next).div_ceil(step).min(batch as u64);
            let mut events: Vec<E> = (0..left).map(|k| event(next + k * step)).collect();
            next += left * step;
            if !events.is_empty() {
                output.session(held).give_container(&mut events);
            }
            if next < end {
                let watermark = watermark(next);
                if watermark > *held.time() {
                    held.downgrade(&watermark);
                }
                activator.activate();
            } else {
                capability = None;
            }
        }
    })
}
