//! `inspect`: calls a function with each record and emits the record unchanged. Keeps no state.

use std::panic::Location;

use super::Stream;
use crate::chain::{Chain, Step, Then, sealed};

/// The step of [`Stream::inspect`].
#[derive(Debug, Clone)]
pub struct Inspect<F>(F);

impl<T: Send + 'static, P: Chain<Out = T>> Stream<T, P> {
    /// Calls `function` with each record and emits the record unchanged.
    ///
    /// After a restart `function` may be called again for the same record.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let graph = Graph::new("printed");
    /// let (sink, table) = memory_sink();
    /// graph.source(memory(0..2u64)).inspect(|n| println!("{n}")).sink(sink);
    /// graph.run(Options::default())?;
    /// assert_eq!(table.snapshot(), [0, 1]);
    /// # Ok::<(), RunError>(())
    /// ```
    #[track_caller]
    pub fn inspect<F>(self, function: F) -> Stream<T, Then<P, Inspect<F>>>
    where
        F: Fn(&T) + Send + Sync + 'static,
    {
        self.step("inspect", Location::caller(), |previous| Then::new(previous, Inspect(function)))
    }
}

impl<F> sealed::Sealed for Inspect<F> {}

impl<T: Send + 'static, F: Fn(&T) + Send + Sync + 'static> Step<T> for Inspect<F> {
    type Out = T;

    #[inline(always)]
    fn apply<E: FnMut(T)>(&self, record: T, mut emit: E) {
        (self.0)(&record);
        emit(record);
    }
}
