//! The words of a text, found 64 bytes at a time.
//!
//! A loop that looks at one byte after the other guesses at every word where it ends, and mostly guesses wrong. Here the
//! white space of 64 bytes becomes the bits of one number first, in a few operations for every eight of them; the words
//! are what lies between the bits.

use std::iter::FusedIterator;

/// How many bytes are looked at together: as many as a mask has bits.
const WIDTH: usize = 64;
/// A one in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte of a word.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The words of a text: what stands between white space as Unicode defines it, and never empty. The same words as those
/// of [`str::split_whitespace`], found several times as fast where the text is mostly ASCII.
///
/// ```
/// use tidemill::connectors::words;
///
/// let found: Vec<&str> = words(" to be,\tor\u{2003}not\n").collect();
/// assert_eq!(found, ["to", "be,", "or", "not"]);
/// ```
#[inline]
#[must_use]
pub fn words(text: &str) -> Words<'_> {
    let mut words = Words { text, base: 0, space: 0, begun: 0, start: 0 };
    words.space = words.look(0);
    words
}

/// The iterator that [`words`] and [`Text::words`](crate::Text::words) return.
#[derive(Clone, Debug)]
pub struct Words<'t> {
    text: &'t str,
    /// Where the bytes that are being looked at begin.
    base: usize,
    /// Their white space, a bit for each byte, without what has been passed.
    space: u64,
    /// White space that began among them, among the next bytes.
    begun: u64,
    /// Where the word begins that has not been given, if there is one.
    start: usize,
}

impl Words<'_> {
    /// The white space among the bytes from `base` on. What is past the end of the text is some.
    #[inline(always)]
    fn look(&mut self, base: usize) -> u64 {
        let bytes = self.text.as_bytes().get(base..).unwrap_or_default();
        let last;
        let chunk = match bytes.first_chunk::<WIDTH>() {
            Some(chunk) => chunk,
            None => {
                last = filled(bytes);
                &last
            }
        };
        let space = ascii_space(chunk) | std::mem::take(&mut self.begun);
        if is_ascii(chunk) { space } else { space | self.look_closer(base, others(chunk)) }
    }

    /// The white space that begins at some of the bytes from `base` on, which begin characters. Of a character of several
    /// bytes each has its bit.
    #[inline(never)]
    fn look_closer(&mut self, base: usize, mut begin: u64) -> u64 {
        let mut space = 0u128;
        while begin != 0 {
            let at = begin.trailing_zeros();
            begin &= begin - 1;
            let character = self.text.get(base + at as usize..).and_then(|text| text.chars().next());
            if let Some(blank) = character.filter(|character| character.is_whitespace()) {
                space |= ((1 << blank.len_utf8()) - 1) << at;
            }
        }
        self.begun = (space >> WIDTH) as u64;
        space as u64
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    #[inline(always)]
    fn next(&mut self) -> Option<&'t str> {
        loop {
            while self.space == 0 {
                if self.base + WIDTH > self.text.len() {
                    return None;
                }
                self.base += WIDTH;
                self.space = self.look(self.base);
            }
            let end = self.base + self.space.trailing_zeros() as usize;
            self.space &= self.space - 1;
            let start = std::mem::replace(&mut self.start, end + 1);
            if start < end {
                return self.text.get(start..end);
            }
        }
    }
}

impl FusedIterator for Words<'_> {}

/// The last bytes of a text, with space after them.
#[inline(never)]
fn filled(bytes: &[u8]) -> [u8; WIDTH] {
    let mut chunk = [b' '; WIDTH];
    if let Some(filled) = chunk.get_mut(..bytes.len()) {
        filled.copy_from_slice(bytes);
    }
    chunk
}

/// The numbers of eight bytes in which a chunk comes.
#[inline(always)]
fn eights(chunk: &[u8; WIDTH]) -> impl Iterator<Item = u64> {
    chunk.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight))
}

#[inline(always)]
fn is_ascii(chunk: &[u8; WIDTH]) -> bool {
    eights(chunk).fold(0, |all, eight| all | eight) & HIGH == 0
}

/// What is white space in ASCII: a bit for each byte.
#[inline(always)]
fn ascii_space(chunk: &[u8; WIDTH]) -> u64 {
    bits(chunk, |low, high| (within(low, b' ', b' ') | within(low, b'\t', b'\r')) & !high)
}

/// The bytes that begin characters among which there is white space that is not ASCII: a bit for each.
#[inline(always)]
fn others(chunk: &[u8; WIDTH]) -> u64 {
    /// U+0085 and U+00A0.
    const TWO: u8 = 0xC2 & 0x7F;
    /// U+1680, U+2000 to U+205F, U+3000.
    const THREE: (u8, u8) = (0xE1 & 0x7F, 0xE3 & 0x7F);
    bits(chunk, |low, high| (within(low, TWO, TWO) | within(low, THREE.0, THREE.1)) & high)
}

/// Which of eight bytes, without their highest bits, lie within two bounds: their highest bits then, and what comes of it
/// in the other bits.
#[inline(always)]
const fn within(low: u64, least: u8, most: u8) -> u64 {
    // Adding this carries into the highest bit of every byte that is large enough, and no further.
    (low + ONES * (0x80 - least as u64)) & !(low + ONES * (0x7F - most as u64))
}

/// A bit for each byte of a chunk for which `which` sets the highest bit. It is given eight bytes at a time, without their
/// highest bits, and as they are.
#[inline(always)]
fn bits(chunk: &[u8; WIDTH], which: impl Fn(u64, u64) -> u64) -> u64 {
    /// Multiplying by this gathers the lowest bits of the bytes in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut all = 0;
    for (place, eight) in eights(chunk).enumerate() {
        let found = (which(eight & !HIGH, eight) & HIGH) >> 7;
        all |= (found.wrapping_mul(GATHER) >> 56) << (8 * place);
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) {
        let expected: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
    }

    #[test]
    fn every_character_separates_as_in_standard_library() {
        // At the end of a chunk a character may lie in two of them.
        for character in (0..=char::MAX as u32).filter_map(char::from_u32) {
            let ascii_or_space = character.is_ascii() || character.is_whitespace();
            let places = if ascii_or_space { 0..70 } else { 62..65 };
            for place in places {
                let text = format!("{}{character}y", "x".repeat(place));
                let expected: Vec<&str> = text.split_whitespace().collect();
                assert!(words(&text).eq(expected), "{character:?} at {place}");
            }
        }
    }

    #[test]
    fn texts_of_every_length() {
        for length in 0..200 {
            check(&"x".repeat(length));
            check(&" ".repeat(length));
            check(&format!("{} ", "x".repeat(length)));
            check(&"größe ".repeat(length));
            check(&"ab c\u{3000}".repeat(length));
        }
    }

    #[test]
    fn it_is_over_when_it_is_over() {
        let mut one = words("one");
        assert_eq!((one.next(), one.next(), one.next()), (Some("one"), None, None));
    }

    proptest! {
        #[test]
        fn the_words_of_any_text(text in "(?s)([a-z]{0,9}[ \t\n\u{b}\u{1c}]{0,2}|\u{85}|\u{a0}|\u{2003}|ü|한국|.){0,60}") {
            check(&text);
        }
    }
}
