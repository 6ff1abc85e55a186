//! Runs futures on the thread of a worker, between its steps, by a clock that a test moves.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tidemill_operators::turn::lock;
use tidemill_operators::{Clock, ProcessingTime, Spawner, Task};

/// The futures of one worker.
pub(super) struct Stepped {
    own: Weak<Stepped>,
    clock: Clock,
    tasks: Mutex<Vec<(Arc<Ready>, Task)>>,
    sleeps: Mutex<Vec<(ProcessingTime, Waker)>>,
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("tasks", &lock(&self.tasks).len()).finish_non_exhaustive()
    }
}

/// Whether a future is to be polled.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        crate::sim::note_work();
    }
}

impl Stepped {
    pub(super) fn new(clock: Clock) -> Arc<Stepped> {
        Arc::new_cyclic(|own| Stepped {
            own: Weak::clone(own),
            clock,
            tasks: Mutex::default(),
            sleeps: Mutex::default(),
        })
    }

    /// Polls the futures that are to be polled, each once; returns whether there were any.
    pub(super) fn step(&self) -> bool {
        let now = self.clock.now();
        let due: Vec<_> = lock(&self.sleeps).extract_if(.., |(at, _)| *at <= now).collect();
        due.into_iter().for_each(|(_, waker)| waker.wake());
        let tasks: Vec<_> =
            lock(&self.tasks).extract_if(.., |(ready, _)| ready.0.swap(false, Ordering::SeqCst)).collect();
        let has_polled = !tasks.is_empty();
        for (ready, mut task) in tasks {
            let waker = Waker::from(Arc::clone(&ready));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                lock(&self.tasks).push((ready, task));
            }
        }
        has_polled
    }

    /// The next time at which a future is to be polled.
    pub(super) fn next(&self) -> Option<ProcessingTime> {
        lock(&self.sleeps).iter().map(|(at, _)| *at).min()
    }

    pub(super) fn shut_down(&self) {
        lock(&self.sleeps).clear();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        drop(tasks);
    }
}

impl Spawner for Stepped {
    fn spawn(&self, task: Task) {
        lock(&self.tasks).push((Arc::new(Ready(AtomicBool::new(true))), task));
        crate::sim::note_work();
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(Sleep { until: self.clock.now() + time, on: Weak::clone(&self.own), is_set: false })
    }
}

/// Lasts until a time of the clock.
struct Sleep {
    until: ProcessingTime,
    on: Weak<Stepped>,
    is_set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(on) = self.on.upgrade() else { return Poll::Ready(()) };
        if on.clock.now() >= self.until {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut self.is_set, true) {
            lock(&on.sleeps).push((self.until, context.waker().clone()));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SimClock;

    #[test]
    fn sleep_ends_when_clock_reaches_its_time() {
        let clock = SimClock::new();
        let stepped = Stepped::new(clock.clock());
        let woken = Arc::new(AtomicBool::new(false));
        let (spawner, done) = (Arc::clone(&stepped), Arc::clone(&woken));
        stepped.spawn(Box::pin(async move {
            spawner.sleep(Duration::from_secs(2)).await;
            done.store(true, Ordering::SeqCst);
        }));
        assert!(stepped.step());
        assert_eq!(stepped.next(), Some(clock.now() + Duration::from_secs(2)));
        clock.advance(Duration::from_secs(1));
        assert!(!stepped.step());
        clock.advance(Duration::from_secs(1));
        assert!(stepped.step() && woken.load(Ordering::SeqCst));
        assert!(!stepped.step() && stepped.next().is_none());
    }
}
