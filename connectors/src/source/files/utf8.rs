//! Bytes of a file as text: as they are, or with U+FFFD for what is not UTF-8.

use std::path::Path;
use std::sync::Arc;

use tidemill_operators::SourceError;

use super::name::shown;
use crate::Text;
use crate::text::Replaced;

/// The text of a piece that begins at that byte of the file. What is not UTF-8 is an error, unless it is to be replaced.
///
/// A line break is never replaced, nor is anything replaced together with one: so the lines of a piece are the same
/// however the file was cut into pieces.
pub(super) fn text(bytes: Vec<u8>, path: &Arc<Path>, at: u64, lossy: bool) -> Result<Text, SourceError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text::read(text, Arc::clone(path), at, None)),
        Err(error) if lossy => {
            let (text, replaced) = replace(error.as_bytes());
            Ok(Text::read(text, Arc::clone(path), at, Some(replaced)))
        }
        Err(error) => Err(SourceError::BadRecord {
            place: format!("{}, byte {}", shown(path), at + error.utf8_error().valid_up_to() as u64),
            reason: "the file is not UTF-8; `.lossy()` on the source replaces such bytes".to_owned(),
        }),
    }
}

/// As [`String::from_utf8_lossy`], and how to find the way back.
fn replace(bytes: &[u8]) -> (String, Replaced) {
    let (mut text, mut replaced, mut read) =
        (String::with_capacity(bytes.len() + bytes.len() / 8), Vec::new(), 0);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        read += chunk.valid().len() + chunk.invalid().len();
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            replaced.push((text.len(), read));
        }
    }
    (text, replaced.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn replaced_text_equals_standard_library_and_finds_its_bytes(
            parts in prop::collection::vec(
                prop::sample::select(vec![&b"a"[..], b"\n", "ö".as_bytes(), "€".as_bytes(), b"\xFF", b"\xE2\x82", b"\xF0\x9F\x98", b"\xC3"]),
                0..20,
            ),
        ) {
            let bytes = parts.concat();
            let text = text(bytes.clone(), &Arc::from(Path::new("file")), 7, true).unwrap();
            prop_assert_eq!(&*text, &*String::from_utf8_lossy(&bytes));
            prop_assert_eq!(text.byte_of_file(text.len()), 7 + bytes.len() as u64);
            let breaks = |text: &[u8]| -> Vec<usize> { memchr::memchr_iter(b'\n', text).collect() };
            let found: Vec<u64> = breaks(text.as_bytes()).into_iter().map(|at| text.byte_of_file(at)).collect();
            let expected: Vec<u64> = breaks(&bytes).into_iter().map(|at| 7 + at as u64).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
