//! Keys as words, so that a line of text is as checkable as the keys in it.

/// The least number of letters.
const LEAST: u32 = 4;

/// Appends the word of a key: its hexadecimal digits as the letters from `a` to `p`, the lowest first.
#[inline]
pub fn spell(key: u64, to: &mut String) {
    let (mut rest, mut letters) = (key, 0);
    while rest > 0 || letters < LEAST {
        to.push(char::from(b'a' + (rest & 15) as u8));
        rest >>= 4;
        letters += 1;
    }
}

/// The key that a word spells; of anything else, some number.
#[inline]
#[must_use]
pub fn read(word: &str) -> u64 {
    word.bytes().rev().fold(0, |key, letter| (key << 4) | u64::from(letter.wrapping_sub(b'a')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_word_of_its_own() {
        for key in [0, 1, 15, 16, 999, 65_535, 65_536, u64::MAX] {
            let mut word = String::new();
            spell(key, &mut word);
            assert!(word.len() >= 4 && word.bytes().all(|letter| letter.is_ascii_lowercase()), "{word}");
            assert_eq!(read(&word), key);
        }
    }
}
