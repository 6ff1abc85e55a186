//! The loop of a chain whose results are passed on in vectors: to an edge or to a sink.
//!
//! A full vector is passed on by a `dyn` call. So the loop, into which all steps are inlined, is compiled once for every
//! receiver.

use super::pull::Rows;
use super::{Chain, ObservedWatermark};
use crate::EventTime;

/// How results are gathered.
pub(crate) struct Gather<R> {
    /// How many rows to take at most, where the others can stay where they are.
    pub(crate) limit: usize,
    /// Returns a vector for the results, given how many rows there may be.
    pub(crate) room: fn(usize) -> Vec<R>,
}

/// Runs a chain over rows, and returns the last results. `full` is given a vector without room and the row that it has
/// no room for, and returns a vector that has the row.
pub(crate) fn drive<P: Chain, N: Rows<P::In>, R>(
    chain: &P,
    mut rows: N,
    gather: Gather<R>,
    pack: impl Fn(EventTime, P::Out) -> R,
    observed: &mut ObservedWatermark,
    full: &mut dyn FnMut(Vec<R>, R) -> Vec<R>,
) -> Vec<R> {
    rows.limit(gather.limit);
    let mut out = (gather.room)(rows.at_most());
    chain.run(rows, observed, &mut |time, value| {
        // Only where there is room: so the vector stays in registers through the loop.
        if out.len() < out.capacity() {
            out.push(pack(time, value));
        } else {
            out = full(std::mem::take(&mut out), pack(time, value));
        }
    });
    out
}

/// A result without its event time.
pub(crate) fn without_time<T>(_time: EventTime, value: T) -> T {
    value
}
