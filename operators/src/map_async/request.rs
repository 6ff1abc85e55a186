//! One request as a future: its attempts, each with its timeout, and the times between them.

use std::any::Any;
use std::error::Error;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::failure::{FailedRequest, RequestFailure};
use super::settings::Requests;
use crate::turn::lock;
use crate::{Spawner, Task, Waker};

/// What comes of a request.
pub(super) enum Outcome<T, R> {
    Answered(R),
    Failed(FailedRequest<T>),
    Panicked(Box<dyn Any + Send>),
}

/// The outcomes that an operator has not taken, each with the number of its request.
pub(super) struct Mailbox<T, R> {
    outcomes: Mutex<Vec<(u64, Outcome<T, R>)>>,
    /// Wakes the operator.
    waker: Waker,
}

impl<T, R> Mailbox<T, R> {
    pub(super) fn new(waker: Waker) -> Self {
        Mailbox { outcomes: Mutex::default(), waker }
    }

    pub(super) fn take(&self) -> Vec<(u64, Outcome<T, R>)> {
        std::mem::take(&mut *lock(&self.outcomes))
    }

    fn post(&self, number: u64, outcome: Outcome<T, R>) {
        let mut outcomes = lock(&self.outcomes);
        outcomes.push((number, outcome));
        let is_first = outcomes.len() == 1;
        drop(outcomes);
        // The operator takes all outcomes at once.
        if is_first {
            self.waker.wake();
        }
    }
}

/// Makes requests of an operator.
pub(super) struct Caller<T, R, F> {
    pub(super) settings: Requests,
    pub(super) function: Arc<F>,
    pub(super) spawner: Arc<dyn Spawner>,
    pub(super) mailbox: Mailbox<T, R>,
}

impl<T, R, E, F, Fut> Caller<T, R, F>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    /// Begins the request of a row, whose outcome is posted under this number.
    pub(super) fn begin(caller: &Arc<Self>, number: u64, row: T) {
        let own = Arc::clone(caller);
        let request = async move {
            let outcome = caught(own.request(row)).await.unwrap_or_else(Outcome::Panicked);
            own.mailbox.post(number, outcome);
        };
        caller.spawner.spawn(Box::pin(request));
    }

    async fn request(&self, row: T) -> Outcome<T, R> {
        let Requests { timeout, retry, .. } = self.settings;
        let mut attempts = 1;
        loop {
            let attempt = within((self.function)(row.clone()), self.spawner.sleep(timeout)).await;
            // The error of the user need not be `Send`: its text is.
            let attempt = attempt.map(|result| result.map_err(|error| error.into().to_string()));
            let failure = match attempt {
                Some(Ok(result)) => return Outcome::Answered(result),
                Some(Err(error)) => RequestFailure::Failed(error),
                None => RequestFailure::TimedOut,
            };
            if attempts >= retry.attempts {
                return Outcome::Failed(FailedRequest { row, attempts, failure });
            }
            self.spawner.sleep(retry.after(attempts)).await;
            attempts += 1;
        }
    }
}

/// Catches what panics while a future is polled.
async fn caught<O>(future: impl Future<Output = O>) -> Result<O, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // After a panic the future is not polled again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// Returns what a future returns, or `None` once `limit` is over.
async fn within<O>(future: impl Future<Output = O>, mut limit: Task) -> Option<O> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}
