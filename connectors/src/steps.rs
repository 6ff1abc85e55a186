//! Where a test may kill the process: before and after everything that a sink does to a disk.
//!
//! Without the feature `__kill_points` a step does nothing.

#[cfg(any(test, feature = "__kill_points"))]
static HOOK: std::sync::OnceLock<fn(&'static str)> = std::sync::OnceLock::new();

/// From now on calls `hook` with the name of every step that is reached. The first hook stays; false for any other.
#[cfg(any(test, feature = "__kill_points"))]
pub fn set_hook(hook: fn(&'static str)) -> bool {
    HOOK.set(hook).is_ok()
}

/// A step has been reached.
#[inline]
pub(crate) fn reached(_step: &'static str) {
    #[cfg(any(test, feature = "__kill_points"))]
    if let Some(hook) = HOOK.get() {
        hook(_step);
    }
}
