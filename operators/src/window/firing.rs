//! The rows of windows that fire more than once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Window;
use crate::EventTime;

/// When a window has fired, in relation to its end: Beam's `PaneInfo.Timing`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FiringKind {
    /// Before its end: the value is that of the records so far.
    Early,
    /// At its end: once per window.
    OnTime,
    /// After its end: a late record has been added.
    Late,
}

/// As in JSON: `early`, `on_time`, `late`.
impl fmt::Display for FiringKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FiringKind::Early => "early",
            FiringKind::OnTime => "on_time",
            FiringKind::Late => "late",
        })
    }
}

/// A firing of a window for a key: the newest value of the window, which replaces those of earlier firings.
///
/// It is an [upsert](crate::RowKind::Upsert) of key and window. Without a value it retracts: the window was a session that has
/// become part of a longer one, whose own firing follows in the same epoch.
///
/// In JSON and CSV it is a row with the fields `start`, `end`, `key`, `value`, `kind` and `revision`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(from = "Fields<K, V>")]
pub struct WindowFiring<K, V> {
    /// The window.
    pub window: Window,
    /// The key.
    pub key: K,
    /// The aggregate over all records of the window so far; none if the window is no more.
    pub value: Option<V>,
    /// Whether it fires before, at or after the window's end.
    pub kind: FiringKind,
    /// How often the window has fired before. A session that others have merged into continues the greatest of their numbers.
    pub revision: u64,
}

/// The fields of a [`WindowFiring`] in files and checkpoints.
#[derive(Serialize, Deserialize)]
#[serde(rename = "WindowFiring")]
struct Fields<K, V> {
    start: EventTime,
    end: EventTime,
    key: K,
    value: Option<V>,
    kind: FiringKind,
    revision: u64,
}

impl<K, V> From<Fields<K, V>> for WindowFiring<K, V> {
    fn from(Fields { start, end, key, value, kind, revision }: Fields<K, V>) -> Self {
        WindowFiring { window: Window { start, end }, key, value, kind, revision }
    }
}

impl<K: Serialize, V: Serialize> Serialize for WindowFiring<K, V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Window { start, end } = self.window;
        let (key, value, kind, revision) = (&self.key, self.value.as_ref(), self.kind, self.revision);
        Fields { start, end, key, value, kind, revision }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firing_is_one_flat_row_in_json() {
        let window = Window { start: EventTime::from_secs(0), end: EventTime::from_secs(10) };
        let firing =
            WindowFiring { window, key: "ann", value: Some(3), kind: FiringKind::OnTime, revision: 1 };
        let json = serde_json::to_string(&firing).unwrap();
        assert_eq!(
            json,
            r#"{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:10Z","key":"ann","value":3,"kind":"on_time","revision":1}"#
        );
        assert_eq!(serde_json::from_str::<WindowFiring<&str, i32>>(&json).unwrap(), firing);
        assert_eq!(firing.kind.to_string(), "on_time");
    }
}
