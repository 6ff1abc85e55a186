//! A float that can be part of a row of a table.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A float with a total order: that of [`f64::total_cmp`].
///
/// Rows of a table are sorted and compared, which an `f64` cannot be.
///
/// ```
/// use tidemill::table::Ordered;
///
/// assert!(Ordered(1.5) < Ordered(2.0) && Ordered(f64::NAN) == Ordered(f64::NAN));
/// assert_eq!(*Ordered::from(0.5) + 1.0, 1.5);
/// ```
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ordered(pub f64);

impl PartialEq for Ordered {
    fn eq(&self, other: &Ordered) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Ordered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl From<f64> for Ordered {
    fn from(float: f64) -> Ordered {
        Ordered(float)
    }
}

impl std::ops::Deref for Ordered {
    type Target = f64;

    fn deref(&self) -> &f64 {
        &self.0
    }
}

impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
