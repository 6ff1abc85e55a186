//! A part of a record that is hashed or counted: computed from the record, or borrowed from it.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Projection;

/// What a sketch takes from a record; made by the `of` and `of_ref` of [`HyperLogLog`](super::HyperLogLog) and its like.
pub trait Part<T>: Clone + Send + Sync + 'static {
    /// What it takes.
    type Value: ?Sized;

    /// Calls back with the part of a record.
    #[doc(hidden)]
    fn with<R>(&self, record: &T, then: impl FnOnce(&Self::Value) -> R) -> R;
}

impl<T, N, F> Part<T> for Projection<T, N, F>
where
    T: 'static,
    N: 'static,
    F: Fn(&T) -> N + Send + Sync + 'static,
{
    type Value = N;

    #[inline]
    fn with<R>(&self, record: &T, then: impl FnOnce(&N) -> R) -> R {
        then(&self.of(record))
    }
}

/// A function from a record to a part of it, which is borrowed: a string is hashed without being cloned.
pub struct Borrowed<T, Q: ?Sized, F> {
    function: Arc<F>,
    types: PhantomData<fn(&T, &Q)>,
}

impl<T, Q: ?Sized, F: Fn(&T) -> &Q> Borrowed<T, Q, F> {
    pub(super) fn new(function: F) -> Self {
        Borrowed { function: Arc::new(function), types: PhantomData }
    }
}

impl<T, Q: ?Sized, F> Clone for Borrowed<T, Q, F> {
    fn clone(&self) -> Self {
        Borrowed { function: Arc::clone(&self.function), types: PhantomData }
    }
}

impl<T, Q, F> Part<T> for Borrowed<T, Q, F>
where
    T: 'static,
    Q: ?Sized + 'static,
    F: Fn(&T) -> &Q + Send + Sync + 'static,
{
    type Value = Q;

    #[inline]
    fn with<R>(&self, record: &T, then: impl FnOnce(&Q) -> R) -> R {
        then((self.function)(record))
    }
}
