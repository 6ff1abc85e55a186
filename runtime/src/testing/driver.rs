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

/// A query that only runs during calls of the test, on one worker.
pub struct TestDriver {
    driver: Driver,
    worker: LocalWorker,
    control: Arc<Control>,
    events: EventQueue,
    clock: SimClock,
    options: Options,
    over: bool,
}

impl Drop for TestDriver {
    fn drop(&mut self) {
        self.control.futures.shut_down();
    }
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
    /// Prepares a graph to run step by step.
    ///
    /// # Errors
    ///
    /// As [`Run::start`](crate::Run::start); and [`RunError::Options`] for more than one worker.
    pub fn new(graph: &Graph, options: Options, clock: &SimClock) -> Result<TestDriver, RunError> {
        TestDriver::prepare(graph, options, clock, None)
    }

    /// Prepares a graph with a checkpoint.
    ///
    /// To simulate a crash, drop the driver and create another one on the same storage.
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

    /// Returns a reader of the tables that are queryable, as [`QueryHandle::table_reader`](crate::QueryHandle::table_reader) does.
    #[cfg(feature = "tables")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tables")))]
    pub fn table_reader(&self) -> crate::table::TableReader {
        crate::table::TableReader::of(self.control.published.clone())
    }

    /// Runs one epoch to its commit and returns its progress; `None` if there is nothing to read, or if the epoch waits for answers
    /// to requests: then [`advance`](Self::advance) lets time pass until they have come or failed.
    ///
    /// In continuous mode it reads the available input and then lets the checkpoint interval pass. That ends an epoch
    /// even without input, so the result is `None` there only while requests are in flight. Use
    /// [`run_to_end`](Self::run_to_end) to run until there is no more input.
    pub fn epoch(&mut self) -> Result<Option<Progress>, RunError> {
        let before = self.driver.progress().epoch;
        if self.options.mode == Mode::Continuous {
            self.settle()?;
            self.advance(self.options.checkpoint_interval)?;
        } else {
            self.rounds(|this| this.driver.progress().epoch != before)?;
        }
        let progress = self.driver.progress();
        Ok((progress.epoch != before).then(|| Progress::clone(progress)))
    }

    /// Runs until no step is possible without more input or time.
    pub fn settle(&mut self) -> Result<(), RunError> {
        self.rounds(|_| false)
    }

    /// Advances the clock, and runs until no step is possible.
    ///
    /// In continuous mode the timers of operators (`update_every`) that are due by then fire one after the other, each
    /// at its own time. Sources, triggers and checkpoint intervals only see these times. If they have to see others,
    /// advance in smaller steps.
    pub fn advance(&mut self, by: Duration) -> Result<(), RunError> {
        let until = self.clock.now() + by;
        while let Some(at) = self.next_timer(until) {
            // One that was due already needs no moving of the clock, and has been served.
            if at > self.clock.now() {
                self.move_to(at)?;
            }
        }
        self.move_to(until)
    }

    /// The next time up to `until` at which an operator or one of its futures is to be called.
    fn next_timer(&self, until: ProcessingTime) -> Option<ProcessingTime> {
        let of_future = self.control.futures.next(0).filter(|at| *at <= until && *at > self.clock.now());
        let of_operator = self.control.reports.timers.take(of_future.unwrap_or(until));
        of_operator.or(of_future)
    }

    fn move_to(&mut self, time: ProcessingTime) -> Result<(), RunError> {
        self.clock.set(time);
        self.control.wakers.wake_all();
        self.settle()
    }

    /// Plans this many epochs before any is read (micro-batch), then runs them.
    ///
    /// So a source is far ahead of the operators.
    pub fn epochs_ahead(&mut self, epochs: usize) -> Result<(), RunError> {
        self.driver.plan_ahead(epochs);
        self.settle()
    }

    /// Runs until all sources have ended, or have no more input at the current time.
    ///
    /// A source that pauses needs [`advance`](Self::advance).
    pub fn run_to_end(&mut self) -> Result<Summary, RunError> {
        self.settle()?;
        Ok(self.driver.summary())
    }

    /// Stops in order: all input that was read is committed.
    pub fn stop(mut self) -> Result<Summary, RunError> {
        self.driver.stop();
        self.settle()?;
        Ok(self.driver.summary())
    }

    /// Returns the last committed epoch.
    pub fn committed(&self) -> Option<Epoch> {
        self.driver.progress().epoch.map(Epoch::new)
    }

    /// Returns the progress as of the last committed epoch.
    pub fn progress(&self) -> &Progress {
        self.driver.progress()
    }

    /// Returns whether the query has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn rounds(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), RunError> {
        let mut quiet = 0;
        while quiet < QUIET && !done(self) {
            let before = self.control.reports.counters.activity();
            if !self.over {
                self.over = self.driver.tick(self.control.clock.now())? == Next::Over;
            }
            self.worker.step();
            let mut heard = false;
            while let Ok(event) = self.events.try_recv() {
                self.driver.hear(event, self.control.clock.now());
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
