//! The driver of a running query, ticked by its own thread or, after a step, by a worker.
//!
//! A small epoch takes less time than a thread takes to wake up, and an epoch needs the driver twice: to commit it, and to
//! plan the next one. So in micro-batch without a checkpoint a worker whose step has sent events ticks the driver itself. With a
//! checkpoint it does not: a plan and a commit wait for a disk. Nor does it while the sources take long to find new input
//! to read ([`QUICK`]); then, and when time passes without an event, the driver's own thread ticks.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use tidemill_operators::{Mode, ProcessingTime, turn};

use super::{Driver, Next};
use crate::control::Control;
use crate::error::RunError;
use crate::events::EventQueue;
use crate::plan::Layout;
use crate::progress::Progress;
use crate::user_code::caught;

/// A plan that takes longer is left to the driver's own thread.
pub(super) const QUICK: Duration = Duration::from_micros(200);

/// A driver that several threads may tick, one at a time.
pub(crate) struct SharedDriver {
    state: Mutex<State>,
    events: EventQueue,
    control: Arc<Control>,
    layout: Arc<Layout>,
    progress: Arc<Mutex<Arc<Progress>>>,
    /// Whether workers ever tick it.
    workers_may_tick: bool,
}

struct State {
    /// None once the query is over.
    driver: Option<Driver>,
    /// Until when the driver's own thread sleeps, by the engine's clock.
    asleep_until: ProcessingTime,
}

impl SharedDriver {
    pub(crate) fn new(
        driver: Driver,
        events: EventQueue,
        progress: Arc<Mutex<Arc<Progress>>>,
    ) -> SharedDriver {
        let (control, layout) = (Arc::clone(&driver.control), Arc::clone(&driver.layout));
        let workers_may_tick = driver.options.mode == Mode::MicroBatch && driver.coordinator.is_none();
        let state = State { driver: Some(driver), asleep_until: ProcessingTime::from_micros(i64::MIN) };
        SharedDriver { state: Mutex::new(state), events, control, layout, progress, workers_may_tick }
    }

    /// Does something with the driver, unless it has been taken.
    pub(crate) fn with(&self, act: impl FnOnce(&mut Driver)) {
        if let Some(driver) = &mut turn::lock(&self.state).driver {
            act(driver);
        }
    }

    /// Takes the driver: the query is over.
    pub(crate) fn take(&self) -> Option<Driver> {
        turn::lock(&self.state).driver.take()
    }

    /// Ticks the driver on its own thread, and waits for the next event; returns whether the query is over.
    pub(crate) fn tick_and_wait(&self, most: Duration) -> Result<bool, RunError> {
        let mut state = turn::lock(&self.state);
        let now = self.control.clock.now();
        let Next::Wait(wait) = self.tick(&mut state, now)? else { return Ok(true) };
        let wait = wait.min(most);
        state.asleep_until = self.control.clock.now() + wait;
        drop(state);
        // A worker that found the driver locked has left its events.
        fence(Ordering::SeqCst);
        if self.events.is_empty() {
            // Rung, or time has passed: either way it looks again.
            let _ = self.events.wait(wait);
        }
        Ok(false)
    }

    /// Ticks the driver on a worker's thread, between two steps, if there are events.
    pub(crate) fn after_step(&self) {
        while self.workers_may_tick && !self.events.is_empty() {
            if !self.control.schedule.workers_tick() {
                return self.control.reports.events.ring();
            }
            // The holder of the lock looks for events after it has released it: either it finds these, or the lock is free here.
            fence(Ordering::SeqCst);
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(state)) => state.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            if state.driver.is_none() {
                return;
            }
            let now = self.control.clock.now();
            match caught(&self.layout.nodes, None, "the driver", || self.tick(&mut state, now)) {
                Ok(Next::Wait(wait)) => {
                    if now + wait < state.asleep_until {
                        self.control.reports.events.ring();
                    }
                }
                Ok(Next::Over) => self.control.reports.events.ring(),
                Err(error) => self.control.fail(error),
            }
            drop(state);
            fence(Ordering::SeqCst);
        }
    }

    /// Has the driver hear all events, and ticks it. Only where it waits for a disk is the clock read again for each event: an
    /// epoch takes microseconds otherwise, and a reading a hundredth of it.
    fn tick(&self, state: &mut State, mut now: ProcessingTime) -> Result<Next, RunError> {
        let Some(driver) = &mut state.driver else { return Ok(Next::Over) };
        let is_durable = driver.is_durable();
        let mut news = false;
        while let Ok(event) = self.events.try_recv() {
            news |= driver.hear(event, now);
            if is_durable {
                now = self.control.clock.now();
            }
        }
        if news {
            turn::lock(&self.progress).clone_from(driver.progress());
        }
        driver.tick(now)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_operators::Graph;
    use tidemill_operators::testing::{nowhere, numbers};

    use super::*;
    use crate::checkpoint::{MemoryStorage, Storage};
    use crate::engine::LocalWorker;
    use crate::options::Options;
    use crate::prepare::PreparedRun;
    use crate::testing::SimClock;

    /// Runs five epochs on a worker that steps, after the driver's own thread has ticked once; returns whether the query ends.
    fn ends_without_thread(storage: Option<Arc<dyn Storage>>) -> bool {
        let graph = Graph::new("shared");
        numbers(&graph, 5).sink(nowhere());
        let mut options = Options::default().with_max_records_per_epoch(1).without_ctrl_c();
        if storage.is_some() {
            options = options.with_allow_loss();
        }
        let clock = SimClock::new().clock();
        let prepared = PreparedRun::new(&graph, options, clock, storage, true).unwrap();
        let PreparedRun { plan, control, driver, events, .. } = prepared;
        let driver = SharedDriver::new(driver, events, Arc::default());
        assert!(!driver.tick_and_wait(Duration::ZERO).unwrap());
        let mut worker = LocalWorker::new(&plan, &control);
        for _ in 0..1_000 {
            worker.step();
            driver.after_step();
        }
        control.schedule.is_closed()
    }

    #[test]
    fn worker_ticks_driver_only_without_checkpoint() {
        assert!(ends_without_thread(None));
        assert!(!ends_without_thread(Some(Arc::new(MemoryStorage::new()))));
    }
}
