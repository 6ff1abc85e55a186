//! The operator that starts requests, holds their rows, and emits what comes of them.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::panic::resume_unwind;
use std::sync::Arc;

use super::failure::OnFailure;
use super::request::{Caller, Mailbox, Outcome};
use super::settings::Requests;
use crate::build::Outputs;
use crate::chain::TimeDomain;
use crate::{Batch, Context, EventTime, Holding, Operator, OperatorError, rows};

/// Input 0: the rows. Output 0: the results; output 1, if there is one: the requests that failed.
pub(super) struct MapAsync<T: Send + 'static, R: Send + 'static, M: TimeDomain, F, O: OnFailure<T, R, M>> {
    settings: Requests,
    function: Arc<F>,
    /// Made with the first rows, when the engine says what wakes the operator.
    caller: Option<Arc<Caller<T, R, F>>>,
    /// Rows whose requests have not begun, each batch with the watermark under which it came. One batch, unless the engine does not
    /// hold back the others.
    waiting: VecDeque<(EventTime, std::vec::IntoIter<M::Row<T>>)>,
    /// The requests that have begun and whose outcome is not emitted, by number.
    begun: BTreeMap<u64, Begun<T, R>>,
    next: u64,
    out: O::Outputs,
}

/// A request that has begun.
struct Begun<T, R> {
    /// The event time of its row.
    time: EventTime,
    /// The watermark of the outputs does not advance beyond it until the result is emitted.
    held_at: EventTime,
    /// What came of it, if that waits for earlier ones.
    outcome: Option<Outcome<T, R>>,
}

impl<T, R, M, E, F, Fut, O> MapAsync<T, R, M, F, O>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
    M: TimeDomain,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    O: OnFailure<T, R, M>,
{
    pub(super) fn new(settings: Requests, function: Arc<F>) -> Self {
        MapAsync {
            settings,
            function,
            caller: None,
            waiting: VecDeque::new(),
            begun: BTreeMap::new(),
            next: 0,
            out: O::Outputs::default(),
        }
    }

    fn caller(&mut self, context: &Context) -> Result<Arc<Caller<T, R, F>>, OperatorError> {
        if let Some(caller) = &self.caller {
            return Ok(Arc::clone(caller));
        }
        let (Some(waker), Some(spawner)) = (context.waker(), context.spawner()) else {
            let problem = "nothing here runs futures: enable the feature `async` of `tidemill`";
            return Err(OperatorError::User(problem.into()));
        };
        let caller = Arc::new(Caller {
            settings: self.settings,
            function: Arc::clone(&self.function),
            spawner: Arc::clone(spawner),
            mailbox: Mailbox::new(waker.clone()),
        });
        Ok(Arc::clone(self.caller.insert(caller)))
    }

    /// Begins as many requests as may be in flight.
    fn begin(&mut self, context: &Context) -> Result<(), OperatorError> {
        let caller = self.caller(context)?;
        while self.begun.len() < self.settings.capacity
            && let Some((watermark, rows)) = self.waiting.front_mut()
        {
            let Some(row) = rows.next() else {
                self.waiting.pop_front();
                continue;
            };
            let (time, row) = M::unpack(row);
            // Of a row that was late when it came, the result must not be later still.
            let held_at = time.max(*watermark);
            self.begun.insert(self.next, Begun { time, held_at, outcome: None });
            Caller::begin(&caller, self.next, row);
            self.next += 1;
        }
        self.waiting.retain(|(_, rows)| rows.len() > 0);
        Ok(())
    }

    /// Takes the outcomes that have come.
    fn collect(&mut self) -> Result<(), OperatorError> {
        let Some(caller) = &self.caller else { return Ok(()) };
        for (number, outcome) in caller.mailbox.take() {
            if self.settings.is_ordered {
                if let Some(begun) = self.begun.get_mut(&number) {
                    begun.outcome = Some(outcome);
                }
            } else if let Some(begun) = self.begun.remove(&number) {
                self.emit(begun.time, outcome)?;
            }
        }
        while let Some(first) = self.begun.first_entry() {
            let time = first.get().time;
            if first.get().outcome.is_none() {
                break;
            }
            if let Some(outcome) = first.remove().outcome {
                self.emit(time, outcome)?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, time: EventTime, outcome: Outcome<T, R>) -> Result<(), OperatorError> {
        match outcome {
            Outcome::Answered(result) => O::answered(&mut self.out, time, result),
            Outcome::Failed(failed) => O::failed(&mut self.out, time, failed)?,
            // The engine catches it here, where it knows the operator, as it does any panic of the user's code.
            Outcome::Panicked(panic) => resume_unwind(panic),
        }
        Ok(())
    }

    /// Emits, and reports what is held.
    fn settle(&mut self, context: &mut Context) {
        self.out.send(context);
        let begun = self.begun.values().map(|begun| begun.held_at);
        let least = begun.chain(self.waiting.iter().map(|(watermark, _)| *watermark)).min();
        context.hold(least.map_or(Holding::Nothing, |least| Holding::Rows {
            least,
            is_full: !self.waiting.is_empty() || self.begun.len() >= self.settings.capacity,
        }));
    }
}

impl<T, R, M, E, F, Fut, O> Operator for MapAsync<T, R, M, F, O>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
    M: TimeDomain,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    O: OnFailure<T, R, M>,
{
    fn batch(&mut self, _input: usize, batch: Batch, context: &mut Context) -> Result<(), OperatorError> {
        self.waiting.push_back((context.watermark(), rows::<M::Row<T>>(batch)?.into_iter()));
        self.begin(context)?;
        self.settle(context);
        Ok(())
    }

    fn woken(&mut self, context: &mut Context) -> Result<(), OperatorError> {
        self.collect()?;
        self.begin(context)?;
        self.settle(context);
        Ok(())
    }
}
