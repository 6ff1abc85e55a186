//! What travels on an edge of the running graph: a batch of records whose type is known only at the two ends.
//!
//! The engine moves batches without knowing what is in them, so it is compiled once, not once per record type.
//! Each end downcasts once per batch, never per record.

use std::any::Any;
use std::fmt;

/// A `Vec<T>` whose `T` is known to the operator that made it and the one that takes it.
///
/// ```
/// use tidemill::Batch;
///
/// let mut batch = Batch::from_vec(vec![1u64, 2, 3]);
/// assert_eq!(batch.len(), 3);
/// assert_eq!(batch.take::<u64>(), Some(vec![1, 2, 3]));
/// assert!(batch.is_empty());
/// ```
#[derive(Default)]
pub struct Batch {
    rows: Option<Box<dyn Any + Send>>,
    len: usize,
    is_pulled: bool,
    origin: u32,
    worker: u32,
    cloner: Option<Cloner>,
}

/// How to copy the rows of one record type; known where a stream is given a second consumer.
pub type Cloner = fn(&(dyn Any + Send)) -> Box<dyn Any + Send>;

/// The [`Cloner`] of a record type.
pub fn cloner<T: Clone + Send + 'static>() -> Cloner {
    |rows| match rows.downcast_ref::<Vec<T>>() {
        Some(rows) => Box::new(rows.clone()),
        None => Box::new(Vec::<T>::new()),
    }
}

impl Batch {
    /// Wraps rows for the way to another operator.
    pub fn from_vec<T: Send + 'static>(rows: Vec<T>) -> Self {
        let len = rows.len();
        Batch { rows: Some(Box::new(rows)), len, is_pulled: false, origin: 0, worker: 0, cloner: None }
    }

    /// A batch whose rows are still to be read from what it holds. Until then it counts as one row.
    pub(crate) fn pulled<F: Send + 'static>(pulled: F) -> Self {
        Batch { rows: Some(Box::new(pulled)), len: 1, is_pulled: true, origin: 0, worker: 0, cloner: None }
    }

    /// Takes out what the rows are to be read from, if there is such a thing.
    pub(crate) fn take_pulled<F: 'static>(&mut self) -> Option<F> {
        if !self.is_pulled {
            return None;
        }
        match self.rows.take()?.downcast::<F>() {
            Ok(pulled) => {
                (self.len, self.is_pulled) = (0, false);
                Some(*pulled)
            }
            Err(pulled) => {
                self.rows = Some(pulled);
                None
            }
        }
    }

    /// Whether its rows are still in the source: the operator that takes the batch reads them, and only it can.
    pub fn is_pulled(&self) -> bool {
        self.is_pulled
    }

    /// Takes the rows out, leaving the batch empty. `None` if the rows are of another type: the graph's own types
    /// rule that out, so to an operator it means a defect of the engine.
    pub fn take<T: Send + 'static>(&mut self) -> Option<Vec<T>> {
        match self.rows.take() {
            None => Some(Vec::new()),
            Some(rows) => match rows.downcast::<Vec<T>>() {
                Ok(rows) => {
                    self.len = 0;
                    Some(*rows)
                }
                Err(rows) => {
                    self.rows = Some(rows);
                    None
                }
            },
        }
    }

    /// How many rows there are; one for those that are [still to be read](Self::is_pulled).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The source partition that the rows come from, as long as they have not been mixed with others'.
    pub fn origin(&self) -> u32 {
        self.origin
    }

    /// Notes the source partition that the rows come from.
    #[must_use]
    pub fn with_origin(mut self, origin: u32) -> Self {
        self.origin = origin;
        self
    }

    /// The worker that the rows are for, where an operator routes its output itself.
    pub fn worker(&self) -> usize {
        self.worker as usize
    }

    /// Labels the batch with the worker that it is for.
    #[must_use]
    pub fn for_worker(mut self, worker: usize) -> Self {
        self.worker = worker as u32;
        self
    }

    /// Teaches the batch to copy itself, for a stream with several consumers.
    pub fn set_cloner(&mut self, cloner: Option<Cloner>) {
        self.cloner = cloner;
    }
}

/// A copy where the rows can be copied; empty where they cannot. The engine copies only batches of streams that were
/// cloned in the graph, and those know how.
impl Clone for Batch {
    fn clone(&self) -> Self {
        match (&self.rows, self.cloner) {
            (Some(rows), Some(cloner)) => Batch {
                rows: Some(cloner(rows.as_ref())),
                len: self.len,
                is_pulled: self.is_pulled,
                origin: self.origin,
                worker: self.worker,
                cloner: self.cloner,
            },
            _ => Batch { rows: None, len: 0, ..*self },
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len).field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_another_type_is_given_back_whole() {
        let mut batch = Batch::from_vec(vec!["a".to_owned()]);
        assert_eq!(batch.take::<u64>(), None);
        assert_eq!(batch.take::<String>(), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn a_batch_copies_itself_once_it_knows_how() {
        let mut batch = Batch::from_vec(vec![1u8, 2]).with_origin(7);
        assert!(batch.clone().is_empty());
        batch.set_cloner(Some(cloner::<u8>()));
        let mut copy = batch.clone();
        assert_eq!((copy.origin(), copy.take::<u8>()), (7, Some(vec![1, 2])));
        assert_eq!(batch.len(), 2);
    }
}
