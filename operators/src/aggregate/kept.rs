//! Calls to an aggregate whose accumulator is state: it owns its bytes, whatever records share.

use super::Aggregate;
use crate::keeping::{copying, keep};

/// [`Aggregate::create`], for state.
#[inline(always)]
pub(crate) fn create<A: Aggregate>(aggregate: &A, value: &A::In) -> A::Acc {
    if A::OWNS { aggregate.create(value) } else { keep(|| aggregate.create(value)) }
}

/// [`Aggregate::add`], for state.
#[inline(always)]
pub(crate) fn add<A: Aggregate>(aggregate: &A, acc: &mut A::Acc, value: &A::In) {
    if const { A::OWNS || !std::mem::needs_drop::<A::Acc>() } {
        return aggregate.add(acc, value);
    }
    copying(|| aggregate.add(acc, value));
}
