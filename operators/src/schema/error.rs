//! What goes wrong while a type is probed, walked over, or decoded by a recorded shape.

use std::fmt;

/// A value does not fit a shape. It gathers the path to the place on its way up.
#[derive(Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// From the inside out.
    path: Vec<String>,
    what: String,
}

impl SchemaError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        SchemaError::of(what.into())
    }

    #[inline(never)]
    fn of(what: String) -> Self {
        SchemaError { path: Vec::new(), what }
    }

    /// The same, as seen from one level further out.
    #[must_use]
    pub(super) fn within(self, part: impl AsRef<str>) -> Self {
        self.inside(part.as_ref())
    }

    // Out of line, as is all of this module that need not know a type: serde makes a visitor of each type, and each of
    // these is compiled with what it calls.
    #[inline(never)]
    fn inside(mut self, part: &str) -> Self {
        self.path.push(part.to_owned());
        self
    }

    /// As [`within`](Self::within), for the field of that name.
    #[must_use]
    #[inline(never)]
    pub(super) fn within_field(self, name: &str) -> Self {
        self.inside(&format!(".{name}"))
    }

    /// As [`within`](Self::within), for the part of that number.
    #[must_use]
    #[inline(never)]
    pub(super) fn within_part(self, number: usize) -> Self {
        self.inside(&format!(".{number}"))
    }

    /// As [`within`](Self::within), for a variant and its enum.
    #[must_use]
    #[inline(never)]
    pub(super) fn within_variant(self, label: &str, name: &str) -> Self {
        self.inside(&format!("::{label}")).inside(name)
    }
}

impl SchemaError {
    /// The path to the place; it begins at the first type that has a name.
    pub(super) fn path(&self) -> String {
        let parts: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        let from = parts.iter().position(|part| part.starts_with(char::is_alphabetic)).unwrap_or(0);
        let mut path = String::new();
        for part in parts.get(from..).unwrap_or_default() {
            if path.is_empty() || !part.starts_with(char::is_alphabetic) {
                path.push_str(part);
            }
        }
        path
    }

    /// What is wrong there.
    pub(super) fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            path if path.is_empty() => f.write_str(&self.what),
            path => write!(f, "{path}: {}", self.what),
        }
    }
}

impl fmt::Debug for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SchemaError {}

impl serde::de::Error for SchemaError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        SchemaError::of(message.to_string())
    }
}

impl serde::ser::Error for SchemaError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        SchemaError::of(message.to_string())
    }
}

impl From<postcard::Error> for SchemaError {
    fn from(error: postcard::Error) -> Self {
        SchemaError::new(error.to_string())
    }
}
