//! How many.

use std::marker::PhantomData;

use super::Aggregate;

/// How many records there are.
///
/// ```
/// use tidemill::aggregate::Count;
/// use tidemill::prelude::*;
///
/// let count = Count::new();
/// let mut acc = count.create(&"a");
/// count.add(&mut acc, &"b");
/// assert_eq!(count.finish(&acc), 2);
/// ```
pub struct Count<T> {
    records: PhantomData<fn(&T)>,
}

impl<T> Count<T> {
    /// Counts records of any type.
    pub fn new() -> Self {
        Count { records: PhantomData }
    }
}

impl<T> Default for Count<T> {
    fn default() -> Self {
        Count::new()
    }
}

impl<T> Clone for Count<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Count<T> {}

impl<T: 'static> Aggregate for Count<T> {
    type In = T;
    type Acc = u64;
    type Out = u64;

    const RETRACTS: bool = true;

    const OWNS: bool = true;

    #[inline]
    fn create(&self, _value: &T) -> u64 {
        1
    }

    #[inline]
    fn add(&self, acc: &mut u64, _value: &T) {
        *acc += 1;
    }

    #[inline]
    fn merge(&self, acc: &mut u64, other: u64) {
        *acc += other;
    }

    #[inline]
    fn finish(&self, acc: &u64) -> u64 {
        *acc
    }

    #[inline]
    fn retract(&self, acc: &mut u64, of: &u64) {
        *acc -= of;
    }
}

#[cfg(test)]
mod tests {
    use super::super::over;
    use super::*;

    #[test]
    fn counts_add_up_however_the_records_are_divided() {
        assert_eq!(over(&Count::new(), &["a", "b", "a"]), (3, 3));
    }
}
