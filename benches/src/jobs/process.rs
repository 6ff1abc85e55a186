//! A function by key with one value and one timer per record; see [`baseline::process`](crate::baseline::process).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::operator::{Rows, States, Timer, ValueState};
use tidemill::process::{ProcessContext, ProcessFunction, ProcessResult};
use tidemill::{EventTime, Graph, Options, Run};

use super::{Gather, events, gathered};
use crate::baseline::process::Process;
use crate::baseline::windowed_count::Windowed;

/// Counts the records of each key whose timer is still to come.
struct Pending {
    count: ValueState<u64, u64>,
    delay: Duration,
}

impl ProcessFunction for Pending {
    type Key = u64;
    type Row = (u64, i64);
    type Outputs = (Rows<(u64, i64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("count", &mut self.count);
    }

    #[inline]
    fn on_record(&mut self, _: (u64, i64), cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        *self.count.get_or_insert_with(cx.key, || 0) += 1;
        cx.set_event_timer(cx.time() + self.delay);
        Ok(())
    }

    #[inline]
    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        if let Some(count) = self.count.get_mut(cx.key) {
            *count -= 1;
            if *count == 0 {
                self.count.remove(cx.key);
            }
        }
        cx.out.0.push((*cx.key, cx.time().as_micros()));
        Ok(())
    }
}

/// Counts the records of each key and emits each count; a timer for each record fires later and changes the key's state.
pub(crate) struct Running {
    /// How many records so far, and how many have a timer that is still to come.
    counts: ValueState<u64, (u64, u64)>,
    delay: Duration,
}

impl Running {
    pub(crate) fn new(delay: Duration) -> Self {
        Running { counts: ValueState::new(), delay }
    }
}

impl ProcessFunction for Running {
    type Key = u64;
    type Row = (u64, u64);
    type Outputs = (Rows<(u64, u64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("counts", &mut self.counts);
    }

    #[inline]
    fn on_record(&mut self, _: (u64, u64), cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let (count, pending) = self.counts.get_or_insert_with(cx.key, Default::default);
        (*count, *pending) = (*count + 1, *pending + 1);
        cx.out.0.push((*cx.key, *count));
        cx.set_event_timer(cx.time() + self.delay);
        Ok(())
    }

    #[inline]
    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        if let Some((_, pending)) = self.counts.get_mut(cx.key) {
            *pending -= 1;
        }
        Ok(())
    }
}

/// Runs the job.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn process(job: Process, options: &Options) -> Windowed {
    let start = Instant::now();
    let answer: Arc<Mutex<Windowed>> = Arc::default();
    let shared = Arc::clone(&answer);
    let delay = Duration::from_micros(job.delay as u64);
    let graph = Graph::new("process");
    graph
        .source(events(job.events, job.keys, job.workers))
        .with_watermark(|event| EventTime::from_micros(event.1), Duration::ZERO)
        .key_by(|event| event.0)
        .process(move || Pending { count: ValueState::new(), delay })
        .sink_per_worker(move |_| {
            let add = |own: &mut Windowed, (key, time): (u64, i64)| own.add(key, time, 1);
            Ok(Gather::new(&shared, add, |all: &mut Windowed, own| all.join(&own)))
        });
    graph.run(options.clone().with_workers(job.workers)).expect("the query runs to its end");
    Windowed { elapsed: start.elapsed(), ..gathered(&answer) }
}
