//! What of a record is aggregated.

use std::marker::PhantomData;
use std::sync::Arc;

/// A function from a record to the value that an aggregate is about; made by the `of` of an aggregate.
///
/// It is called directly, not through a pointer, and shared, so that the function itself need not be `Clone`.
pub struct Projection<T, N, F> {
    function: Arc<F>,
    types: PhantomData<fn(&T) -> N>,
}

impl<T, N, F: Fn(&T) -> N> Projection<T, N, F> {
    pub(super) fn new(function: F) -> Self {
        Projection { function: Arc::new(function), types: PhantomData }
    }

    #[inline]
    pub(super) fn of(&self, value: &T) -> N {
        (self.function)(value)
    }
}

impl<T, N, F> Clone for Projection<T, N, F> {
    fn clone(&self) -> Self {
        Projection { function: Arc::clone(&self.function), types: PhantomData }
    }
}
