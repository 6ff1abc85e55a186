//! Why a word of the command line or of a file of settings cannot be read.

/// A text is no [`Mode`](crate::Mode), trigger or other setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseOptionError {
    text: String,
    expected: &'static str,
}

impl ParseOptionError {
    /// Returns the error for a text that is not what is `expected`, as in "a time like `500ms`".
    pub fn new(text: impl Into<String>, expected: &'static str) -> Self {
        ParseOptionError { text: text.into(), expected }
    }
}
