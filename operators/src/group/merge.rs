//! The intake of the second phase of an aggregation: takes what the workers have aggregated of the keys that this one holds.
//!
//! Output 0: results. State: the accumulators. Nothing is late here: a worker sends a partial under a watermark that has
//! not yet closed its windows, so the worker that holds the keys cannot have closed them either.

use std::marker::PhantomData;

use super::holder::Intake;
use super::{Partial, Passed};
use crate::arrival;
use crate::buffers::give_back;
use crate::state::{GroupState, Reach};
use crate::{Aggregate, Batch, Context, EventTime, Key, OperatorError, rows};

pub(super) struct Merge<K, V>(PhantomData<fn(K, V)>);

impl<K, V> Merge<K, V> {
    pub(super) fn new() -> Self {
        Merge(PhantomData)
    }
}

impl<K: Key, V: Send + 'static, A: Aggregate<In = V>, S: GroupState<K, A>> Intake<A, S> for Merge<K, V> {
    fn take(
        &mut self,
        mut batch: Batch,
        aggregate: &A,
        state: &mut S,
        _drops_late: bool,
        context: &mut Context,
    ) -> Result<(), OperatorError> {
        if A::ORDERED {
            arrival::enter(context, None, state.is_one_place());
        }
        if const { Passed::<K, V>::instead_of::<S::Slot, A>() }
            && let Some(passed) = batch.take::<Passed<K, V>>()
        {
            each(
                passed,
                (aggregate, state),
                |row| (row.hash, &row.key),
                |state, Passed { hash, key, time, value }| {
                    let late = state.offer(aggregate, hash, &key, time, value, EventTime::MIN);
                    debug_assert!(late.is_none(), "the worker that sent the record has tested it");
                },
            );
            return Ok(());
        }
        let partials = rows::<Partial<K, S::Slot, A::Acc>>(batch)?;
        each(
            partials,
            (aggregate, state),
            |row| (row.hash, &row.key),
            |state, Partial { hash, key, slot, acc }| {
                state.merge(aggregate, hash, key, slot, acc);
            },
        );
        Ok(())
    }
}

/// Adds rows to the state, whose entries are fetched ahead if the state is large.
#[inline(always)]
fn each<R: 'static, K: Key, A: Aggregate, S: GroupState<K, A>>(
    mut rows: Vec<R>,
    (aggregate, state): (&A, &mut S),
    of: impl Fn(&R) -> (u64, &K),
    mut add: impl FnMut(&mut S, R),
) {
    state.begin(EventTime::MIN);
    let mut left = rows.drain(..);
    // One loop for both cases: called in two places, `add` would not be inlined.
    while left.len() > 0 {
        let mut count = left.len();
        if let Some(reach) = state.reach() {
            count = Reach::AHEAD;
            let next = left.as_slice().iter().take(count).map(&of);
            next.clone().for_each(|(hash, _)| reach.fetch(hash));
            if const { A::FETCHES } {
                next.for_each(|(hash, key)| state.fetch_next(aggregate, hash, key));
            }
        }
        for row in left.by_ref().take(count) {
            add(state, row);
        }
    }
    drop(left);
    give_back(rows);
    state.end();
}
