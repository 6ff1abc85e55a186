//! All records, kept.

use std::marker::PhantomData;

use super::Aggregate;
use crate::Data;
use crate::codec::{Codec, Postcard};
use crate::spill::Rows;

/// The records themselves. In which order they stand is not defined when several workers gather them.
///
/// Every record is kept in state until its window closes; prefer an aggregate that needs less where there is one. Beyond
/// the memory that the query may use for state, older records are kept in temporary files, in the form that the codec
/// gives them.
///
/// ```
/// use tidemill_operators::Aggregate;
/// use tidemill_operators::aggregate::Collect;
///
/// let all = Collect::new();
/// let mut acc = all.create(&'a');
/// all.add(&mut acc, &'b');
/// assert_eq!(all.finish(&acc), ['a', 'b']);
/// ```
pub struct Collect<T, C = Postcard> {
    types: PhantomData<fn(&T) -> C>,
}

impl<T> Collect<T> {
    /// Collects records of any type.
    pub fn new() -> Self {
        Collect { types: PhantomData }
    }
}

impl<T, C> Collect<T, C> {
    /// The same with another codec for records that leave memory.
    ///
    /// ```
    /// use tidemill_operators::aggregate::Collect;
    /// use tidemill_operators::codec::Postcard;
    ///
    /// let all = Collect::<u64>::new().with_codec(Postcard);
    /// # let _ = all;
    /// ```
    #[must_use]
    pub fn with_codec<D>(self, _codec: D) -> Collect<T, D> {
        Collect { types: PhantomData }
    }
}

impl<T> Default for Collect<T> {
    fn default() -> Self {
        Collect::new()
    }
}

impl<T, C> Clone for Collect<T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Collect<T, C> {}

impl<T: Data + Clone, C: Codec<T>> Aggregate for Collect<T, C> {
    type In = T;
    type Acc = Rows<T, C>;
    type Out = Vec<T>;

    /// As large as the records: nothing is gained by gathering them twice.
    const SHRINKS: bool = false;
    const RELIEVES: bool = true;

    #[inline]
    fn create(&self, value: &T) -> Rows<T, C> {
        Rows::of(value.clone())
    }

    #[inline]
    fn add(&self, acc: &mut Rows<T, C>, value: &T) {
        acc.push(value.clone());
    }

    fn merge(&self, acc: &mut Rows<T, C>, other: Rows<T, C>) {
        acc.append(other);
    }

    fn finish(&self, acc: &Rows<T, C>) -> Vec<T> {
        acc.to_vec()
    }

    fn relieve(&self, acc: &mut Rows<T, C>) {
        acc.relieve();
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn every_record_is_there() {
        assert_eq!(over(&Collect::new(), &[3, 1, 3]), (vec![3, 1, 3], vec![3, 1, 3]));
    }
}
