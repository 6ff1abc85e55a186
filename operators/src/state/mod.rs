//! The keyed state behind aggregations: one shape for running aggregates, panes and sessions, so that the operators
//! which route, pre-aggregate and emit are written once.

#[cfg(test)]
mod arrival_tests;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod delta_size;
#[cfg(test)]
mod deltas;
mod groups;
mod known;
mod mark;
mod order;
mod pane;
mod pane_runs;
mod pane_snapshot;
mod panes;
mod reach;
#[cfg(test)]
pub(crate) mod reference;
mod running;
mod session;
mod session_parts;
mod sessions;
mod split;
mod table;
mod timers;
mod totals;
#[cfg(test)]
mod totals_tests;

use std::borrow::Borrow;
use std::hash::Hash;

pub use self::mark::{Mark, Stamp};
pub use self::panes::PaneState;
pub use self::reach::Reach;
pub use self::running::RunningState;
pub use self::session_parts::SessionParts;
pub use self::sessions::{Gap, SessionState};
pub(crate) use self::table::{Entry, Table, relieve};
pub use crate::prefetch::fetch_value;

use crate::setting::Setting;
use crate::{Aggregate, Data, EventTime, Key, KeyGroup, OperatorError, SnapshotWriter, Window};

/// Whether records are so wide that to hand one over and get it back costs more than what is spared by it.
pub(crate) const fn is_wide<V>() -> bool {
    size_of::<V>() > 64
}

/// Accumulators by key and by where in event time they belong: how records come into them.
pub trait Intake<K: Key, A: Aggregate>: Send + 'static {
    /// Where a partial accumulator belongs: nowhere in particular, a pane, a session.
    type Slot: Copy + Data;

    /// Whether every window that the record belongs to has closed by `watermark`.
    fn is_late(&self, time: EventTime, value: &A::In, watermark: EventTime) -> bool;

    /// Where a record belongs.
    fn slot(&mut self, time: EventTime, value: &A::In) -> Self::Slot;

    /// Adds a record. The key is only made owned when it is new.
    fn add<Q>(&mut self, aggregate: &A, hash: u64, key: &Q, time: EventTime, value: &A::In)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized;

    /// Whether all records of a key that come together in a result are in one accumulator from the beginning.
    fn is_one_place(&self) -> bool {
        true
    }

    /// A batch begins: until [`end`](Self::end) there are only [`offer`](Self::offer)s, with that watermark, or only
    /// [`merge`](GroupState::merge)s.
    fn begin(&mut self, _watermark: EventTime) {}

    /// Adds a record, or gives it back if it [is late](Self::is_late) by the watermark of the batch.
    #[inline(always)]
    fn offer<Q>(
        &mut self,
        aggregate: &A,
        hash: u64,
        key: &Q,
        time: EventTime,
        value: A::In,
        watermark: EventTime,
    ) -> Option<A::In>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if self.is_late(time, &value, watermark) {
            return Some(value);
        }
        self.add(aggregate, hash, key, time, &value);
        None
    }

    /// The batch is over.
    fn end(&mut self) {}

    /// As [`offer`](Self::offer), for a record that stays where it is, and outside of batches: says whether it is late and
    /// has not been added. For records that are wide.
    #[inline(always)]
    fn turns_away<Q>(
        &mut self,
        aggregate: &A,
        hash: u64,
        key: &Q,
        time: EventTime,
        value: &A::In,
        watermark: EventTime,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let is_late = self.is_late(time, value, watermark);
        if !is_late {
            self.add(aggregate, hash, key, time, value);
        }
        is_late
    }

    /// How many accumulators there are.
    fn len(&self) -> usize;

    /// Whether there is no accumulator.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a worker has aggregated of its own records, until it is emitted. Of one key and place there may be several
/// accumulators.
pub trait PartialState<K: Key, A: Aggregate>: Intake<K, A> {
    /// Empties the state: every accumulator, for another worker to merge.
    fn drain(&mut self, emit: &mut impl FnMut(u64, K, Self::Slot, A::Acc));
}

/// The accumulators of the keys that a worker holds, and their results.
pub trait GroupState<K: Key, A: Aggregate>: Intake<K, A> {
    /// What a result is about: nothing but its key, or a window.
    type Scope: Copy;

    /// What a snapshot writes for a key and slot.
    type Stored: Data;

    /// Whether slots that touch are one. A record at the very end of one then still changes it, so that it may close only
    /// when the watermark is beyond it: the engine has the watermark of such an aggregation stay an instant behind.
    const TOUCHES: bool = false;

    /// The slot, as a snapshot writes it, whose entries are not by key: positions in event time.
    const OWN_SLOT: Option<&'static [u8]> = None;

    /// How to have the entries of keys fetched before they are asked for, where that pays. To be taken again from time to
    /// time, as a table that has grown is elsewhere.
    #[inline]
    fn reach(&self) -> Option<Reach> {
        None
    }

    /// Has the part fetched that the next record changes of what a key's accumulator owns elsewhere.
    ///
    /// Its entry has been [asked for](Self::reach) before. This looks it up once more, and is for aggregates with
    /// [`FETCHES`](Aggregate::FETCHES) only: the ten greatest records of each of 100,000 keys take a fifth less processor time.
    #[inline]
    fn fetch_next(&self, _aggregate: &A, _hash: u64, _key: &K) {}

    /// Adds what another worker has aggregated.
    fn merge(&mut self, aggregate: &A, hash: u64, key: K, slot: Self::Slot, acc: A::Acc);

    /// Whether any window with records would close by `watermark`; true also where that is not known without much ado.
    fn closes(&self, watermark: EventTime) -> bool;

    /// Forgets every window that has closed by `watermark`, in order of their ends, handing the results over.
    fn close(&mut self, aggregate: &A, watermark: EventTime, emit: &mut impl FnMut(K, Self::Scope, A::Out));

    /// As [`close`](Self::close), where all results have been emitted before: nothing is emitted.
    fn forget(&mut self, aggregate: &A, watermark: EventTime) {
        self.close(aggregate, watermark, &mut |_, _, _| {});
    }

    /// The results that have changed since the last call (only where changes are tracked, see [`Mark`]).
    fn changed(&mut self, aggregate: &A, emit: &mut impl FnMut(K, Self::Scope, A::Out));

    /// All results.
    fn all(&self, aggregate: &A, emit: &mut impl FnMut(K, Self::Scope, A::Out));

    /// Memory is short: every accumulator that can keep what it holds elsewhere does so.
    fn relieve(&mut self, aggregate: &A);

    /// From now on [`snapshot`](Self::snapshot) writes changes only. Called at most once, on an empty state.
    fn track(&mut self);

    /// Writes what has changed since the last call, at the cost of what has changed. A state that is not
    /// [tracked](Self::track) writes everything.
    fn snapshot(&mut self, aggregate: &A, writer: &mut SnapshotWriter) -> Result<(), OperatorError>;

    /// About how many entries the next snapshot will write, where that is tracked.
    fn unsaved(&self) -> usize;

    /// Applies changes of a group, the oldest first: what `snapshot` wrote, then what happened since. Nothing counts as
    /// changed by it, neither for [`changed`](Self::changed) nor for `snapshot`. When all groups are back, `close` by the
    /// watermark of the checkpoint before the first record: a group without entries does not tell it.
    fn restore(&mut self, group: KeyGroup, bytes: &[u8]) -> Result<(), OperatorError>;
}

/// How a window definition keeps its state; implemented by the window types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a window",
    note = "windows are `tumbling(length)`, `sliding(length, slide)`, `session(gap)` and `session_by(|record| gap)`"
)]
pub trait Windowing<V>: Clone + Send + Sync + 'static {
    /// Where a partial accumulator belongs: the same in both.
    type Slot: Copy + Data;

    /// The state for a key, an aggregate over `V`, and changes tracked or not.
    type State<K: Key, A: Aggregate<In = V>, M: Mark>: GroupState<K, A, Slot = Self::Slot, Scope = Window>;

    /// What a worker that aggregates its own records before they are exchanged keeps them in.
    type Partials<K: Key, A: Aggregate<In = V>>: PartialState<K, A, Slot = Self::Slot>;

    /// An empty state.
    fn state<K: Key, A: Aggregate<In = V>, M: Mark>(&self) -> Self::State<K, A, M>;

    /// As [`state`](Self::state), for the first of two phases.
    fn partials<K: Key, A: Aggregate<In = V>>(&self) -> Self::Partials<K, A>;

    /// Why the definition cannot work, if it cannot: a size of zero, a slide longer than the window.
    fn problem(&self) -> Option<String>;

    /// The definition in words, for plans: `tumbling 10m`.
    fn describe(&self) -> String;

    /// The settings that a state of these windows depends on, in order. A restart with other values is refused.
    fn settings(&self) -> Vec<Setting> {
        vec![("window", self.describe())]
    }
}
