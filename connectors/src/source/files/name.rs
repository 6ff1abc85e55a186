//! Formats paths for messages and encodes them for logs, including paths that are not UTF-8.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Formats a path for a message.
///
/// A UTF-8 path is printed unchanged. Any other path is printed in quotes, with each invalid byte written as `\xF6`.
pub(super) fn shown(path: &Path) -> impl Display {
    struct Shown<'a>(&'a Path);
    impl Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0.to_str() {
                Some(text) => f.write_str(text),
                None => write!(f, "{:?}", self.0),
            }
        }
    }
    Shown(path)
}

/// Returns whether [`shown`] formats `path` as `text`.
pub(super) fn is_shown_as(path: &Path, text: &str) -> bool {
    path.to_str().map_or_else(|| shown(path).to_string() == text, |path| path == text)
}

/// The first character of an escaped path in a log. No path contains it: the system forbids NUL in names.
const ESCAPED: char = '\0';

/// A path that serializes to a string, whether it is UTF-8 or not.
///
/// A UTF-8 path is written unchanged. Any other path is written as [`ESCAPED`] and the path, in which a backslash becomes
/// `\\` and each invalid byte becomes `\xF6`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Logged(pub(super) PathBuf);

/// Serializes a path as [`Logged`] does; for `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_str(&escaped(path.as_os_str().as_encoded_bytes())),
    }
}

/// Deserializes a path as [`Logged`] does; for `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.strip_prefix(ESCAPED) {
        None => Ok(PathBuf::from(text)),
        Some(escaped) => unescaped(escaped).and_then(path_of).ok_or_else(|| {
            serde::de::Error::custom(format!("invalid escape in the logged path {escaped:?}"))
        }),
    }
}

impl Serialize for Logged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Logged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Logged)
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::from(ESCAPED);
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!(r"\x{byte:02X}")));
    }
    text
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('\\');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    while let Some(part) = parts.next() {
        match part.strip_prefix('x') {
            Some(rest) => {
                let (digits, rest) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                bytes.extend_from_slice(rest.as_bytes());
            }
            // An escaped backslash: the split leaves an empty part between the two.
            None if part.is_empty() => {
                bytes.push(b'\\');
                bytes.extend_from_slice(parts.next()?.as_bytes());
            }
            None => return None,
        }
    }
    Some(bytes)
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes)).map(|name: std::ffi::OsString| name.into())
}

#[cfg(not(unix))]
fn path_of(_: Vec<u8>) -> Option<PathBuf> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    fn path(bytes: &[u8]) -> PathBuf {
        OsString::from_vec(bytes.to_vec()).into()
    }

    #[test]
    fn name_that_is_not_utf8_is_shown_with_its_bytes() {
        assert_eq!(shown(&path(b"logs/a\\b.txt")).to_string(), r"logs/a\b.txt");
        assert_eq!(shown(&path(b"gr\xF6\xDFe.txt")).to_string(), r#""gr\xF6\xDFe.txt""#);
        assert!(is_shown_as(&path(b"a\xFF"), r#""a\xFF""#) && !is_shown_as(&path(b"a\xFE"), r#""a\xFF""#));
    }

    #[test]
    fn name_that_is_utf8_is_logged_as_it_is() {
        assert_eq!(serde_json::to_string(&Logged("größe\\x".into())).unwrap(), r#""größe\\x""#);
    }

    proptest! {
        #[test]
        fn logged_name_comes_back(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'x'), Just(b'F'), Just(0xC3), Just(0xB6), 1..=255u8], 0..12,
        )) {
            let name = Logged(path(&bytes));
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<Logged>(&json).unwrap(), name);
        }
    }
}
