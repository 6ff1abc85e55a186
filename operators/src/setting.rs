//! The settings that the state of an operator depends on.

/// The name and value of a setting that a state depends on: `("size", "10s")`.
///
/// A checkpoint records the settings of every operator with state. A restart with another value is refused, because the
/// state was made by the old one.
pub type Setting = (&'static str, String);
