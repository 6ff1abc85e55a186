//! All records, kept.

use std::marker::PhantomData;

use super::Aggregate;
use crate::Data;

/// The records themselves. In which order they stand is not defined when several workers gather them.
///
/// Every record is kept in state until its window closes; prefer an aggregate that needs less where there is one.
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
pub struct Collect<T> {
    records: PhantomData<fn(&T)>,
}

impl<T> Collect<T> {
    /// Collects records of any type.
    pub fn new() -> Self {
        Collect { records: PhantomData }
    }
}

impl<T> Default for Collect<T> {
    fn default() -> Self {
        Collect::new()
    }
}

impl<T> Clone for Collect<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Collect<T> {}

impl<T: Data + Clone> Aggregate for Collect<T> {
    type In = T;
    type Acc = Vec<T>;
    type Out = Vec<T>;

    /// As large as the records: nothing is gained by gathering them twice.
    const SHRINKS: bool = false;

    fn create(&self, value: &T) -> Vec<T> {
        vec![value.clone()]
    }

    fn add(&self, acc: &mut Vec<T>, value: &T) {
        acc.push(value.clone());
    }

    fn merge(&self, acc: &mut Vec<T>, other: Vec<T>) {
        acc.extend(other);
    }

    fn finish(&self, acc: &Vec<T>) -> Vec<T> {
        acc.clone()
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
