//! What runs the futures of operators: a pool of threads, or a test's own thread.
//!
//! The pool is shared by the workers of a run and exists only if the graph has an operator that needs it. In the test kit and in a
//! simulation each worker polls the futures of its operators between its steps, by the clock of the test.

#[cfg(feature = "async")]
mod pool;
#[cfg(feature = "async")]
mod stepped;

use std::sync::Arc;

use tidemill_operators::{Clock, ProcessingTime, Spawner};

use crate::error::RunError;
use crate::options::Options;

/// What runs the futures of the operators of a run.
#[derive(Debug, Default)]
pub(crate) struct Futures {
    #[cfg(feature = "async")]
    kind: Kind,
}

#[cfg(feature = "async")]
#[derive(Debug, Default)]
enum Kind {
    /// No operator has futures.
    #[default]
    None,
    Pool(Arc<pool::Pool>),
    /// One for each worker.
    Stepped(Vec<Arc<stepped::Stepped>>),
}

#[cfg(feature = "async")]
impl Futures {
    /// Starts the pool if `needed`; `here`: a test steps the query.
    pub(crate) fn new(
        needed: bool,
        options: &Options,
        clock: &Clock,
        here: bool,
    ) -> Result<Futures, RunError> {
        let kind = match needed {
            false => Kind::None,
            true if here || crate::sim::is_active() => {
                Kind::Stepped((0..options.workers).map(|_| stepped::Stepped::new(clock.clone())).collect())
            }
            true => Kind::Pool(pool::Pool::start(options.async_threads)?),
        };
        Ok(Futures { kind })
    }

    /// What runs the futures of a worker's operators.
    pub(crate) fn spawner(&self, worker: usize) -> Option<Arc<dyn Spawner>> {
        match &self.kind {
            Kind::None => None,
            Kind::Pool(pool) => Some(Arc::<pool::Pool>::clone(pool)),
            Kind::Stepped(workers) => {
                let stepped = workers.get(worker)?;
                Some(Arc::<stepped::Stepped>::clone(stepped))
            }
        }
    }

    /// Polls the futures of a worker's operators, where a test steps them; returns whether any was polled.
    pub(crate) fn step(&self, worker: usize) -> bool {
        match &self.kind {
            Kind::Stepped(workers) => workers.get(worker).is_some_and(|stepped| stepped.step()),
            _ => false,
        }
    }

    /// Where a test steps futures: the next time at which one of a worker's is to be polled.
    pub(crate) fn next(&self, worker: usize) -> Option<ProcessingTime> {
        match &self.kind {
            Kind::Stepped(workers) => workers.get(worker)?.next(),
            _ => None,
        }
    }

    /// Drops the futures that have not come to their end: the query is over.
    pub(crate) fn shut_down(&self) {
        match &self.kind {
            Kind::None => {}
            Kind::Pool(pool) => pool.shut_down(),
            Kind::Stepped(workers) => workers.iter().for_each(|stepped| stepped.shut_down()),
        }
    }
}

#[cfg(not(feature = "async"))]
impl Futures {
    pub(crate) fn new(_: bool, _: &Options, _: &Clock, _: bool) -> Result<Futures, RunError> {
        Ok(Futures::default())
    }

    pub(crate) fn spawner(&self, _: usize) -> Option<Arc<dyn Spawner>> {
        None
    }

    pub(crate) fn step(&self, _: usize) -> bool {
        false
    }

    pub(crate) fn next(&self, _: usize) -> Option<ProcessingTime> {
        None
    }

    pub(crate) fn shut_down(&self) {}
}
