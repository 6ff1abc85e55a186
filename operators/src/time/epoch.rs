//! Which commit something belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The unit of commit: everything of an epoch becomes visible and durable together, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// Returns the epoch of this number. The first of a query is 0.
    #[inline]
    pub const fn new(number: u64) -> Self {
        Epoch(number)
    }

    /// Returns the number. Numbers rise from epoch to epoch and may have gaps.
    #[inline]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns the epoch whose number is one higher.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
