//! Windows of event time, and the grid that most of them lie on.
//!
//! Windows are half-open, `[start, end)`, aligned to 1970-01-01T00:00:00Z plus an offset, and computed with integers. A
//! record at the end of a window belongs to the next one. A window that extends beyond the range of [`EventTime`] is
//! cut off at its limit; the last window includes the instant [`EventTime::MAX`], although that is its end. The idea
//! and the rules are those of the Dataflow model (Akidau et al., 2015) as Spark and Flink know them.

mod firing;
mod grid;

use serde::{Deserialize, Serialize};

pub use self::firing::{FiringKind, WindowFiring};
pub(crate) use self::grid::Grid;

use crate::EventTime;

/// A half-open interval of event time, `[start, end)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The first instant that belongs to the window.
    pub start: EventTime,
    /// The first instant after the window.
    pub end: EventTime,
}

impl Window {
    /// Returns the last instant of the window, one microsecond before its end: the event time of its results.
    pub fn last_instant(&self) -> EventTime {
        EventTime::from_micros(self.end.as_micros().saturating_sub(1))
    }
}

/// The result of a window for a key.
///
/// In JSON and CSV it is a row with the fields `start`, `end`, `key` and `value`. CSV cannot store a tuple or a struct
/// in one field: `.map` such results to a flat struct before a CSV sink.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(from = "Fields<K, V>")]
pub struct WindowResult<K, V> {
    /// The window.
    pub window: Window,
    /// The key.
    pub key: K,
    /// The aggregate over the window's records.
    pub value: V,
}

/// A [`WindowResult`] as it is written. `#[serde(flatten)]` would need a format with field names, and would make a map of it.
#[derive(Serialize, Deserialize)]
#[serde(rename = "WindowResult")]
struct Fields<K, V> {
    start: EventTime,
    end: EventTime,
    key: K,
    value: V,
}

impl<K, V> From<Fields<K, V>> for WindowResult<K, V> {
    fn from(Fields { start, end, key, value }: Fields<K, V>) -> Self {
        WindowResult { window: Window { start, end }, key, value }
    }
}

impl<K: Serialize, V: Serialize> Serialize for WindowResult<K, V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Window { start, end } = self.window;
        Fields { start, end, key: &self.key, value: &self.value }.serialize(serializer)
    }
}
