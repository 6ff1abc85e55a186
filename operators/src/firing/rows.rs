//! What a firing is as a row: an insert for windows that fire once, an upsert for those that may fire more often.

use crate::window::{FiringKind, WindowFiring};
use crate::{Window, WindowResult};

/// The rows of windows.
pub(super) trait FiringRow<K, V>: Send + 'static {
    /// A firing; none if the row has no form for it.
    fn of(firing: WindowFiring<K, V>) -> Option<Self>
    where
        Self: Sized;
}

impl<K: Send + 'static, V: Send + 'static> FiringRow<K, V> for WindowFiring<K, V> {
    fn of(firing: WindowFiring<K, V>) -> Option<Self> {
        Some(firing)
    }
}

impl<K: Send + 'static, V: Send + 'static> FiringRow<K, V> for WindowResult<K, V> {
    fn of(firing: WindowFiring<K, V>) -> Option<Self> {
        let WindowFiring { window, key, value, .. } = firing;
        value.map(|value| WindowResult { window, key, value })
    }
}

/// A firing without a value, for a window that is part of another one now.
pub(super) fn retraction<K, V>(
    window: Window,
    key: K,
    kind: FiringKind,
    revision: u64,
) -> WindowFiring<K, V> {
    WindowFiring { window, key, value: None, kind, revision }
}
