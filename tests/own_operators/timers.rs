//! Timers of the clock in a query that has nothing else to do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::vec::Drain;

use tidemill::connectors::{channel, memory_sink};
use tidemill::operator::{Dealt, HashedKey, Rows, StatefulOperator, Takes, Timer, To};
use tidemill::{Graph, Idle, Mode, OperatorError, Run};

use crate::common::{end, options, takes_at_most, wait_until};

/// How many timers fire, one after the other.
const TIMERS: usize = 100;

const GAP: Duration = Duration::from_millis(10);

/// Sets a timer for each row, and the next when one fires. Emits how late each was, in microseconds by the system's clock.
struct Lateness;

impl StatefulOperator for Lateness {
    type Key = u64;
    type Outputs = (Rows<i64>,);

    fn on_timer(
        &mut self,
        key: HashedKey<'_, u64>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let Timer::Processing(due) = timer else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        to.out.0.push(now - due.as_micros());
        to.timers.set_processing(key, to.now() + GAP);
        Ok(())
    }
}

impl Takes<0> for Lateness {
    type Row = Dealt<u64, u64>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            to.timers.set_processing(row.hashed(), to.now() + GAP);
        }
        Ok(())
    }
}

#[test]
fn timer_of_idle_query_fires_at_its_time() {
    for workers in [1, 2] {
        takes_at_most(Duration::from_millis(20), "the median of the timers", || {
            let graph = Graph::new("lateness");
            let ((sender, source), (sink, fired)) = (channel(16), memory_sink());
            graph.operator("lateness").keyed(graph.source(source), |n| *n).stateful(|_| Lateness).sink(sink);
            let query = graph.start(options(Mode::Continuous, workers).with_idle(Idle::Park)).unwrap();
            sender.send(7).unwrap();
            wait_until(&query, "timers", |_| fired.snapshot().len() >= TIMERS);
            query.stop();
            end(query, "timers of an idle query").unwrap();
            let mut late = fired.snapshot();
            late.sort_unstable();
            let (soonest, median) = (late[0], late[late.len() / 2]);
            println!("{workers} workers: median {median} us, worst {} us", late[late.len() - 1]);
            // The clocks of engine and system may differ a little.
            assert!(soonest > -1_000, "a timer came {} us too soon", -soonest);
            Duration::from_micros(median.unsigned_abs())
        });
    }
}
