//! How many threads run futures.

use super::Options;
use crate::RunError;

impl Options {
    /// Sets how many threads run the futures of `map_async`, for all workers together. They need few, unless futures compute.
    ///
    /// ```
    /// use tidemill::prelude::*;
    ///
    /// let options = Options::default().with_async_threads(4);
    /// assert_eq!(options.async_threads, 4);
    /// ```
    #[must_use]
    pub fn with_async_threads(mut self, threads: usize) -> Self {
        self.async_threads = threads;
        self
    }

    pub(super) fn check_async_threads(&self) -> Result<(), RunError> {
        match self.async_threads {
            0 => Err(RunError::Options {
                option: "--async-threads",
                problem: "must be at least 1 (got 0)".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
