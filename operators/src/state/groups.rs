//! A set of key groups.

use crate::KeyGroup;

/// How many groups a word of the set has.
const WORD: u16 = u128::BITS as u16;

/// Some of the key groups: a bit for each, by number.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Groups {
    /// The first ones, which by default are all.
    first: u128,
    /// Those above; no longer than needed for the highest that was inserted.
    rest: Vec<u128>,
}

impl Groups {
    #[inline]
    pub(super) fn insert(&mut self, group: KeyGroup) {
        let number = group.number();
        if number < WORD {
            self.first |= 1 << number;
        } else {
            self.insert_above(number);
        }
    }

    #[cold]
    fn insert_above(&mut self, number: u16) {
        let word = usize::from(number / WORD - 1);
        if word >= self.rest.len() {
            self.rest.resize(word + 1, 0);
        }
        if let Some(word) = self.rest.get_mut(word) {
            *word |= 1 << (number % WORD);
        }
    }

    pub(super) fn remove(&mut self, group: KeyGroup) {
        let number = group.number();
        match number.checked_sub(WORD) {
            None => self.first &= !(1 << number),
            Some(above) => {
                if let Some(word) = self.rest.get_mut(usize::from(above / WORD)) {
                    *word &= !(1 << (above % WORD));
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words().all(|word| word == 0)
    }

    /// Adds those of another set.
    pub(super) fn add(&mut self, other: &Groups) {
        self.first |= other.first;
        if self.rest.len() < other.rest.len() {
            self.rest.resize(other.rest.len(), 0);
        }
        self.rest.iter_mut().zip(&other.rest).for_each(|(word, other)| *word |= other);
    }

    /// Takes out those of another set.
    pub(super) fn subtract(&mut self, other: &Groups) {
        self.first &= !other.first;
        self.rest.iter_mut().zip(&other.rest).for_each(|(word, other)| *word &= !other);
    }

    /// The numbers of the groups, in order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> {
        let of_word = |(number, word): (u16, u128)| {
            (0..WORD).filter(move |bit| word & (1 << bit) != 0).map(move |bit| number * WORD + bit)
        };
        (0..).zip(self.words()).flat_map(of_word)
    }

    fn words(&self) -> impl Iterator<Item = u128> {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyGroups;

    #[test]
    fn set_has_the_groups_that_were_inserted_and_not_removed() {
        let all = KeyGroups::new(1024).unwrap();
        let of = |numbers: &[u16]| {
            let mut groups = Groups::default();
            numbers.iter().for_each(|number| groups.insert(all.group(*number).unwrap()));
            groups
        };
        let mut groups = of(&[127, 0, 1023, 64, 3, 128, 300]);
        groups.remove(all.group(64).unwrap());
        groups.remove(all.group(300).unwrap());
        groups.remove(all.group(700).unwrap());
        assert_eq!(groups.numbers().collect::<Vec<_>>(), [0, 3, 127, 128, 1023]);
        let mut rest = groups.clone();
        rest.subtract(&of(&[3, 128]));
        assert_eq!(rest.numbers().collect::<Vec<_>>(), [0, 127, 1023]);
        rest.add(&of(&[3, 128]));
        assert_eq!(rest, groups);
        rest.subtract(&groups);
        assert!(rest.is_empty() && !groups.is_empty());
        let mut few = of(&[1]);
        few.add(&groups);
        assert_eq!(few.numbers().count(), 6);
    }
}
