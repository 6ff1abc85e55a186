//! Text that shares its memory with its neighbours: a line of a block that was read at once.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill_operators::keeping;

/// A piece of text, cheap to make and to clone: 24 bytes that point into a shared block.
///
/// It behaves as the `str` that it is: compares, hashes and serializes like one. A `Text` keeps its whole block in
/// memory. In keys and state it does not: the engine copies its bytes there, once for each new key and for each value that an
/// aggregate keeps, also where it is in a tuple, a struct or a collection. Code that keeps a short one elsewhere for long
/// should keep a `String` made from it.
///
/// ```
/// use tidemill::prelude::*;
///
/// let block = Text::from("to be or not");
/// let word = block.slice(3..5);
/// assert_eq!(word, "be");
/// assert_eq!(word.len(), 2);
/// assert_eq!(word.to_uppercase(), "BE");
/// ```
pub struct Text {
    block: Arc<Block>,
    start: usize,
    end: usize,
}

/// What pieces of text share.
struct Block {
    text: String,
    origin: Option<Origin>,
}

/// Where text was read.
struct Origin {
    file: Arc<Path>,
    /// The byte of the file at which it begins.
    at: u64,
    /// What stands there for bytes that are no text.
    replaced: Option<Replaced>,
}

/// A text whose block is larger than itself by more than this factor and number of bytes is copied where it is kept.
const ROOMY: (usize, usize) = (2, 128);

/// Where what stands for bytes that are no text ends, one after the other: in the text, and in the bytes that were read.
pub(crate) type Replaced = Arc<[(usize, usize)]>;

impl Text {
    /// What has been read from that byte of a file on.
    pub(crate) fn read(text: String, file: Arc<Path>, at: u64, replaced: Option<Replaced>) -> Text {
        let end = text.len();
        let origin = Some(Origin { file, at, replaced });
        Text { block: Arc::new(Block { text, origin }), start: 0, end }
    }

    /// The byte of the file that stands at that byte of the text; of the text alone, if it comes from no file.
    pub(crate) fn byte_of_file(&self, at: usize) -> u64 {
        let at = self.start.saturating_add(at);
        match &self.block.origin {
            Some(origin) => origin.at.saturating_add(origin.read(at) as u64),
            None => at as u64,
        }
    }

    /// Where it was read: the file, and the byte of it at which the text begins. Nothing for text that comes from
    /// elsewhere, a deserialized one too. [`BadRecord::of`](crate::BadRecord::of) finds the line.
    ///
    /// ```
    /// assert_eq!(tidemill::connectors::Text::from("not read").place(), None);
    /// ```
    pub fn place(&self) -> Option<(&Path, u64)> {
        self.block.origin.as_ref().map(|origin| (&*origin.file, self.byte_of_file(0)))
    }

    /// The text itself.
    #[inline]
    pub fn as_str(&self) -> &str {
        // The range is checked when a `Text` is made, so the fallback is never taken.
        self.block.text.get(self.start..self.end).unwrap_or_default()
    }

    /// The words of the text: see [`words`](crate::words()). As a function it is what
    /// [`keys_by`](tidemill_operators::Stream::keys_by) takes.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("words");
    /// let counts = graph.source(text_files("books/*.txt")).keys_by(Text::words).count().update();
    /// # let _ = counts;
    /// ```
    #[inline]
    pub fn words(&self) -> crate::Words<'_> {
        crate::words(self)
    }

    /// A share of the block; in state, a copy.
    #[inline]
    fn part(&self, start: usize, end: usize) -> Text {
        let text = Text { block: Arc::clone(&self.block), start, end };
        if keeping::on_clone() { text.into_owned() } else { text }
    }

    /// The same text in a block of its own, unless its block has little else in it.
    #[cold]
    fn into_owned(self) -> Text {
        let (factor, bytes) = ROOMY;
        if self.block.text.capacity() <= self.len().saturating_mul(factor).saturating_add(bytes) {
            return self;
        }
        let origin = self.block.origin.as_ref().map(|origin| origin.of_part(self.start, self.end));
        let text = self.as_str().to_owned();
        Text { end: text.len(), start: 0, block: Arc::new(Block { text, origin }) }
    }

    /// A part of the text, by bytes, sharing the same memory. Empty if the range is out of bounds or cuts a character
    /// in two.
    #[inline]
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Text {
        let (start, end) = (self.start.saturating_add(range.start), self.start.saturating_add(range.end));
        if end <= self.end && self.block.text.get(start..end).is_some() {
            self.part(start, end)
        } else {
            self.part(self.start, self.start)
        }
    }
}

impl Origin {
    /// How many bytes had been read for this many of the text.
    fn read(&self, at: usize) -> usize {
        let replaced = self.replaced.as_deref().unwrap_or_default();
        let before = replaced.partition_point(|(text, _)| *text <= at);
        match before.checked_sub(1).and_then(|last| replaced.get(last)) {
            Some((text, read)) => read + (at - text),
            None => at,
        }
    }

    /// The origin of a part of the text.
    fn of_part(&self, start: usize, end: usize) -> Origin {
        let begin = self.read(start);
        let part = self.replaced.iter().flat_map(|replaced| replaced.iter());
        let part = part.filter(|(text, _)| start < *text && *text <= end);
        let part: Replaced = part.map(|(text, read)| (text - start, read.saturating_sub(begin))).collect();
        Origin {
            file: Arc::clone(&self.file),
            at: self.at.saturating_add(begin as u64),
            replaced: (!part.is_empty()).then_some(part),
        }
    }
}

impl Clone for Text {
    #[inline]
    fn clone(&self) -> Self {
        self.part(self.start, self.end)
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::from(String::new())
    }
}

impl Deref for Text {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Text) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let end = text.len();
        Text { block: Arc::new(Block { text, origin: None }), start: 0, end }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text::from(text.to_owned())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Text::from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_text_is_found_in_a_map_by_the_str_it_is() {
        let counts = HashMap::from([(Text::from("a b").slice(2..3), 7)]);
        assert_eq!(counts.get("b"), Some(&7));
    }

    #[test]
    fn a_slice_that_cuts_a_character_is_empty() {
        let text = Text::from("größe");
        assert_eq!(text.slice(2..4), "ö");
        assert_eq!(text.slice(2..3), "");
        assert_eq!(text.slice(0..99), "");
        assert_eq!(text.slice(2..4).slice(0..3), "");
    }

    #[test]
    fn owned_copy_keeps_its_place_in_lossy_file() {
        let block = format!("{}\u{fffd}é\u{fffd}z{}", "a".repeat(200), "b".repeat(200));
        // One byte was read for each character of replacement, which takes three.
        let replaced: Replaced = Arc::new([(203, 201), (208, 204)]);
        let block = Text::read(block, Arc::from(Path::new("words.txt")), 1_000, Some(replaced));
        for (start, end) in [(198, 210), (203, 209), (0, 3), (208, 209)] {
            let part = block.slice(start..end);
            let owned = part.clone().into_owned();
            assert!(!Arc::ptr_eq(&owned.block, &block.block));
            assert_eq!(owned, part);
            assert_eq!(owned.place(), part.place());
            let bytes = |text: &Text| (0..text.len()).map(|at| text.byte_of_file(at)).collect::<Vec<_>>();
            assert_eq!(bytes(&owned), bytes(&part), "{start}..{end}");
        }
    }

    #[test]
    fn text_that_fills_its_block_is_not_copied() {
        let text = Text::from("tide");
        assert!(Arc::ptr_eq(&text.clone().into_owned().block, &text.block));
    }

    #[test]
    fn a_text_serializes_as_a_string() {
        let json = serde_json::to_string(&Text::from("x\"y").slice(1..3)).unwrap();
        assert_eq!(json, r#""\"y""#);
        assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), "\"y");
        assert_eq!(std::mem::size_of::<Text>(), 24);
    }
}
