//! What runs the futures of an operator. The engine has one; this crate has none, as it has no threads and no clock.

use std::pin::Pin;
use std::time::Duration;

/// A future without a result: it passes what it finds to the operator itself.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs futures.
pub trait Spawner: std::fmt::Debug + Send + Sync {
    /// Runs a future. One that has not come to its end when the query ends is dropped.
    fn spawn(&self, task: Task);

    /// A future that lasts that long. To be created by a future that is run.
    fn sleep(&self, time: Duration) -> Task;
}
