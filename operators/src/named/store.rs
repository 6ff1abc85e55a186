//! What the adapter asks of each state, whatever its kind: implemented by the two stores, one value for each key and
//! many.

use std::time::Duration;

use crate::state::Reach;
use crate::{Change, OperatorError, ProcessingTime, SnapshotWriter};

/// Entries that can be written, restored and expired.
pub trait Store {
    /// As [`NamedState::rows`](super::NamedState::rows).
    fn rows(&self) -> usize;

    /// As [`NamedState::unsaved`](super::NamedState::unsaved).
    fn unsaved(&self) -> usize;

    /// How to have the entries of keys prefetched, if there are many.
    fn reach(&self) -> Option<Reach>;

    /// As [`NamedState::track`](super::NamedState::track).
    fn track(&mut self);

    /// As [`NamedState::snapshot`](super::NamedState::snapshot).
    fn snapshot(&mut self, name: &str, writer: &mut SnapshotWriter) -> Result<(), OperatorError>;

    /// As [`NamedState::restore`](super::NamedState::restore).
    fn restore(&mut self, change: Change<'_>) -> Result<(), OperatorError>;

    /// As [`NamedState::expire`](super::NamedState::expire).
    fn expire(&mut self);

    /// As [`NamedState::ttl`](super::NamedState::ttl).
    fn ttl(&self) -> Option<Duration>;

    /// As [`NamedState::set_now`](super::NamedState::set_now).
    fn set_now(&mut self, now: ProcessingTime);
}

/// A state that is a store inside. This trait cannot be named outside of the crate, so it seals
/// [`NamedState`](super::NamedState).
pub trait Held {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// The store.
    fn store_mut(&mut self) -> &mut dyn Store;
}
