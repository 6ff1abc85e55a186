//! How a query that ends where it stands reaches those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells whether a query has been cancelled or has failed. Cheap to clone; looking costs a load.
///
/// ```
/// use tidemill::Cancellation;
///
/// let cancellation = Cancellation::new();
/// let seen_by_a_sink = cancellation.clone();
/// assert!(!seen_by_a_sink.is_cancelled());
/// cancellation.cancel();
/// assert!(seen_by_a_sink.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// That of a query that runs.
    pub fn new() -> Self {
        Cancellation::default()
    }

    /// Ends the query where it stands.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the query has ended.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
