//! Records folded into a value of another type.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Aggregate;
use crate::Data;

/// A value that starts the same for every group, takes each record in, and merges with others of its kind.
///
/// Merging must give what taking all the records would have given, in any order: by itself a fold is given records by pane, by
/// session and by worker. Where the order matters, [`InOrder`](super::InOrder) keeps it, as the method `fold` of a stream does.
///
/// ```
/// use tidemill::aggregate::Fold;
/// use tidemill::prelude::*;
/// use std::collections::BTreeSet;
///
/// let distinct = Fold::new(
///     BTreeSet::new(),
///     |seen: &mut BTreeSet<u64>, user: &u64| {
///         seen.insert(*user);
///     },
///     |seen, others| seen.extend(others),
/// );
/// let mut acc = distinct.create(&7);
/// distinct.add(&mut acc, &7);
/// distinct.merge(&mut acc, [8].into());
/// assert_eq!(distinct.finish(&acc).len(), 2);
/// ```
pub struct Fold<T, S, A, M> {
    parts: Arc<(S, A, M)>,
    records: PhantomData<fn(&T)>,
}

impl<T, S, A, M> Fold<T, S, A, M>
where
    A: Fn(&mut S, &T),
    M: Fn(&mut S, S),
{
    /// Folds with `add` what starts as `init`; `merge` joins what was folded apart.
    pub fn new(init: S, add: A, merge: M) -> Self {
        Fold { parts: Arc::new((init, add, merge)), records: PhantomData }
    }
}

impl<T, S, A, M> Clone for Fold<T, S, A, M> {
    fn clone(&self) -> Self {
        Fold { parts: Arc::clone(&self.parts), records: PhantomData }
    }
}

impl<T, S, A, M> Aggregate for Fold<T, S, A, M>
where
    T: 'static,
    S: Data + Clone + Sync,
    A: Fn(&mut S, &T) + Send + Sync + 'static,
    M: Fn(&mut S, S) + Send + Sync + 'static,
{
    type In = T;
    type Acc = S;
    type Out = S;

    #[inline]
    fn create(&self, value: &T) -> S {
        let mut acc = self.parts.0.clone();
        self.add(&mut acc, value);
        acc
    }

    #[inline]
    fn add(&self, acc: &mut S, value: &T) {
        (self.parts.1)(acc, value);
    }

    #[inline]
    fn merge(&self, acc: &mut S, other: S) {
        (self.parts.2)(acc, other);
    }

    #[inline]
    fn finish(&self, acc: &S) -> S {
        acc.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn a_fold_takes_every_record_once_however_they_are_divided() {
        let lengths =
            Fold::new(0usize, |n: &mut usize, word: &&str| *n += word.len(), |n, other| *n += other);
        assert_eq!(over(&lengths, &["tide", "mill", "s"]), (9, 9));
    }
}
