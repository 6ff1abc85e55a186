//! Named state and durable timers, which an operator keeps between records.
//!
//! An operator holds its states as fields and names them in one method, for [`States`]:
//!
//! ```
//! use tidemill::operator::{MapState, States, ValueState};
//! use tidemill::prelude::*;
//!
//! struct Join {
//!     left: MapState<u64, EventTime, String>,
//!     matches: ValueState<u64, u32>,
//! }
//!
//! impl Join {
//!     fn state(&mut self, states: &mut States<'_>) {
//!         states.add("left", &mut self.left);
//!         states.add("matches", &mut self.matches);
//!     }
//! }
//! # let mut join = Join { left: MapState::new(), matches: ValueState::new() };
//! # assert_eq!(States::describe(|states| join.state(states))?.len(), 2);
//! # Ok::<(), tidemill::OperatorError>(())
//! ```
//!
//! Timers need not be named: an operator has them in [`To::timers`](crate::build::To::timers).
//!
//! | state | for each key | after |
//! |---|---|---|
//! | [`ValueState`] | a value | Flink's `ValueState`, Spark's `transformWithState` |
//! | [`ReducingState`] | a value that others are merged into | Flink's `ReducingState` |
//! | [`ListState`] | elements in the order in which they came | Flink's and Spark's `ListState` |
//! | [`MapState`] | a sorted map | Flink's and Spark's `MapState` |
//! | [`SharedState`] | a sorted map without keys, the same on every worker | Flink's broadcast state |
//! | [`Timers`] | instants of event time and of processing time | Flink's timer service |
//!
//! The engine tracks changes per entry (a value, an element, an entry of a map, a timer), and a snapshot writes the
//! entries that have changed since the last one, under the name of the state and the key group of the key. So a state
//! that is added later starts empty, and a restart with other workers redistributes the groups. Keys without entries
//! take no memory.
//!
//! A state can have a TTL: the time since an entry's last write, by the engine's clock, after which it is not returned
//! any more and is removed in the background. The time of the last write is stored with the entry. So the TTL includes
//! the time before a restart, and a changed, new or removed TTL applies to old entries as well.

mod changes;
mod expiring;
mod flat;
mod hashed;
mod life;
mod list;
mod lives;
mod map;
#[cfg(test)]
mod model;
mod nested;
mod paned;
mod reducing;
mod rows;
mod shared;
mod sides;
mod sorted;
mod states;
mod store;
mod sweep;
mod timed;
mod timers;
mod value;
mod written;

use std::time::Duration;

pub(crate) use self::expiring::ExpiringKeys;
pub use self::hashed::HashedKey;
pub use self::list::ListState;
pub use self::map::MapState;
pub use self::nested::UserKey;
pub(crate) use self::paned::PanedRows;
pub use self::reducing::ReducingState;
pub(crate) use self::rows::LoadedRows;
pub use self::shared::SharedState;
pub(crate) use self::sides::{OfKey, Side, SidedRows};
pub use self::states::{StateInfo, States};
pub(crate) use self::timed::TimedRows;
pub use self::timers::{Timer, Timers};
pub use self::value::ValueState;

use self::store::Held;
use crate::schema::StateSchema;
use crate::state::Reach;
use crate::{Change, OperatorError, ProcessingTime, SnapshotWriter};

/// A state of any kind, as those see it who run an operator. Implemented in this module only.
pub trait NamedState: Held + 'static {
    /// What kind of state it is, in a word: another kind cannot read what this one wrote.
    fn kind(&self) -> &'static str;

    /// Returns the types of the keys and values that [`snapshot`](Self::snapshot) writes.
    fn schema(&self) -> StateSchema;

    /// Whether it belongs to no key: written by the owner of key group 0, restored on every worker.
    fn is_shared(&self) -> bool {
        false
    }

    /// Says whether this worker writes a [shared](Self::is_shared) state. Nothing to others.
    fn set_writer(&mut self, _writes: bool) {}

    /// Returns how long entries are kept after their last write; `None` is for ever.
    ///
    /// No setting that a restart has to repeat: entries keep the time of their last write.
    fn ttl(&self) -> Option<Duration> {
        self.store().ttl()
    }

    /// Moves the engine's clock. It does not go back.
    fn set_now(&mut self, now: ProcessingTime) {
        self.store_mut().set_now(now);
    }

    /// Removes some of what has expired: looks at a bounded number of entries, and at none if nothing can have expired
    /// since the last time.
    fn expire(&mut self) {
        self.store_mut().expire();
    }

    /// How to have the entries of keys prefetched, if there are many.
    #[doc(hidden)]
    fn reach(&self) -> Option<Reach> {
        self.store().reach()
    }

    /// Tracks changes from now on: each [`snapshot`](Self::snapshot) writes those since the last one. Called before the
    /// first change.
    fn track(&mut self) {
        self.store_mut().track();
    }

    /// Writes what has changed since the last call, in the slot of the state's name; everything if changes are not
    /// tracked.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if something cannot be serialized.
    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError> {
        self.store_mut().snapshot(name, writer)
    }

    /// Applies a change that [`snapshot`](Self::snapshot) wrote. Called before the first change of the state's own.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if the change is not of this state's types.
    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError> {
        self.store_mut().restore(change)
    }

    /// About how many entries the next snapshot will write, if changes are tracked.
    fn unsaved(&self) -> usize {
        self.store().unsaved()
    }

    /// How many entries are in memory: with a TTL also some that have expired.
    fn rows(&self) -> usize {
        self.store().rows()
    }
}
