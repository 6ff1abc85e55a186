//! Runs a graph on the thread of the test, one epoch after another.

use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::{Epoch, Graph, Mode, ProcessingTime};

use super::SimClock;
use crate::checkpoint::Storage;
use crate::control::Control;
use crate::driver::{Driver, Next};
use crate::engine::LocalWorker;
use crate::error::RunError;
use crate::events::EventQueue;
use crate::options::Options;
use crate::prepare::PreparedRun;
use crate::progress::{Progress, Summary};

/// How many rounds without news mean that nothing more will happen by itself.
const QUIET: u32 = 64;

/// A query under the test's control: nothing happens between calls. One worker, the engine's own code.
pub struct TestDriver {
    driver: Driver,
    worker: LocalWorker,
    control: Arc<Control>,
    events: EventQueue,
    clock: SimClock,
    options: Options,
    over: bool,
}

impl std::fmt::Debug for TestDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestDriver")
            .field("options", &self.options)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl TestDriver {
    /// Prepares a graph to be stepped.
    ///
    /// # Errors
    ///
    /// As [`Run::start`](crate::Run::start); and [`RunError::Options`] for more than one worker.
    pub fn new(graph: &Graph, options: Options, clock: &SimClock) -> Result<TestDriver, RunError> {
        TestDriver::prepare(graph, options, clock, None)
    }

    /// The same with a checkpoint. Drop the driver and make another one on the same storage to see what a crash does.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`RunError::Checkpoint`] and [`RunError::Restore`] if the checkpoint cannot be used.
    pub fn with_checkpoint(
        graph: &Graph,
        options: Options,
        clock: &SimClock,
        storage: Arc<dyn Storage>,
    ) -> Result<TestDriver, RunError> {
        TestDriver::prepare(graph, options, clock, Some(storage))
    }

    fn prepare(
        graph: &Graph,
        options: Options,
        clock: &SimClock,
        storage: Option<Arc<dyn Storage>>,
    ) -> Result<TestDriver, RunError> {
        if options.workers != 1 {
            let problem =
                "a test driver steps one worker; use `graph.run(…)` to test with several".to_owned();
            return Err(RunError::Options { option: "--workers", problem });
        }
        // One epoch at a time: a test wants to look between them.
        let options = options.with_max_in_flight(1);
        let PreparedRun { plan, control, driver, events, options } =
            PreparedRun::new(graph, options, clock.clock(), storage, true)?;
        let worker = LocalWorker::new(&plan, &control);
        Ok(TestDriver { driver, worker, control, events, clock: clock.clone(), options, over: false })
    }

    /// Runs one epoch to its commit, and says what it did; `None` if there is nothing to read. In continuous mode it
    /// reads the available input and then lets the checkpoint interval pass, which is an epoch even if nothing came: there
    /// it is never `None`, and [`run_to_end`](Self::run_to_end) is what runs until there is no more.
    pub fn epoch(&mut self) -> Result<Option<Progress>, RunError> {
        let before = self.driver.progress().epoch;
        if self.options.mode == Mode::Continuous {
            self.settle()?;
            self.advance(self.options.checkpoint_interval)?;
        } else {
            self.rounds(|this| this.driver.progress().epoch != before)?;
        }
        let progress = self.driver.progress();
        Ok((progress.epoch != before).then(|| progress.clone()))
    }

    /// Lets everything happen that happens without more input or time.
    pub fn settle(&mut self) -> Result<(), RunError> {
        self.rounds(|_| false)
    }

    /// Moves the clock on, and lets happen what that brings about. In continuous mode the timers of operators that come
    /// due on the way (`update_every`) fire one after the other, each at its own time; sources, triggers and checkpoint
    /// intervals may see no other time in between than these, so a test that wants them to takes smaller steps.
    pub fn advance(&mut self, by: Duration) -> Result<(), RunError> {
        let until = self.clock.now() + by;
        while let Some(at) = self.control.reports.timers.take(until) {
            // One that was due already needs no moving of the clock, and has been served.
            if at > self.clock.now() {
                self.move_to(at)?;
            }
        }
        self.move_to(until)
    }

    fn move_to(&mut self, time: ProcessingTime) -> Result<(), RunError> {
        self.clock.set(time);
        self.control.wakers.wake_all();
        self.settle()
    }

    /// Plans this many epochs before any is read (micro-batch), then runs them: a source far ahead of the operators.
    pub fn epochs_ahead(&mut self, epochs: usize) -> Result<(), RunError> {
        self.driver.plan_ahead(epochs);
        self.settle()
    }

    /// Runs to the end: until all sources have ended, or have nothing more to say at this time by the clock. A source
    /// that pauses needs [`advance`](Self::advance).
    pub fn run_to_end(&mut self) -> Result<Summary, RunError> {
        self.settle()?;
        Ok(self.driver.summary())
    }

    /// Stops in order: what has been read is committed.
    pub fn stop(mut self) -> Result<Summary, RunError> {
        self.driver.stop();
        self.settle()?;
        Ok(self.driver.summary())
    }

    /// The epoch last committed.
    pub fn committed(&self) -> Option<Epoch> {
        self.driver.progress().epoch.map(Epoch::new)
    }

    /// The progress as of the last committed epoch.
    pub fn progress(&self) -> &Progress {
        self.driver.progress()
    }

    /// Whether the query is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn rounds(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), RunError> {
        let mut quiet = 0;
        while quiet < QUIET && !done(self) {
            let before = self.control.reports.counters.activity();
            if !self.over {
                self.over = self.driver.tick()? == Next::Over;
            }
            self.worker.step();
            let mut heard = false;
            while let Ok(event) = self.events.try_recv() {
                self.driver.hear(event);
                heard = true;
            }
            if let Some(error) = self.control.reports.take_failure() {
                return Err(error);
            }
            quiet = if heard || self.control.reports.counters.activity() != before { 0 } else { quiet + 1 };
        }
        Ok(())
    }
}
