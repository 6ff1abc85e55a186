//! Requests that are answered out of order, with errors and not at all, and windows over the answers.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{FailedRequest, RequestFailure, Summary};

use crate::graphs::{Row, check, compare, row, rows, timed};
use crate::input::{Event, WINDOW, micros, partitions, windows};

/// What the service does with a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    After { turns: i64 },
    Error,
    None,
}

fn answer(event: &Event) -> Answer {
    match event.value.wrapping_mul(0x9E37) % 17 {
        3 => Answer::Error,
        5 => Answer::None,
        turns => Answer::After { turns },
    }
}

async fn ask(event: Event) -> Result<Event, String> {
    let Answer::After { mut turns } = answer(&event) else {
        if answer(&event) == Answer::None {
            pending::<()>().await;
        }
        return Err("no".to_owned());
    };
    poll_fn(|context| {
        turns -= 1;
        if turns < 0 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    Ok(event)
}

pub(crate) struct Asked {
    requests: Requests,
    is_spread: bool,
    source: SimSource<Event>,
    results: SimSink<Row>,
    late: SimSink<Event>,
    failed: SimSink<(i64, bool)>,
    wanted: Vec<Row>,
    wanted_failures: Vec<(i64, bool)>,
}

impl Asked {
    pub(crate) fn new(world: &mut World) -> Asked {
        let input = partitions(world, 120);
        let (answered, failed): (Vec<Event>, Vec<Event>) =
            input.iter().flatten().copied().partition(|event| matches!(answer(event), Answer::After { .. }));
        let retry = Retry::attempts(1 + world.choose(2) as u32);
        let retry = retry.with_backoff(Duration::from_millis(1), Duration::from_millis(1));
        let requests = Requests::at_most(1 + world.choose(6) as usize)
            // Longer than the steps take in which other requests are answered.
            .with_timeout(Duration::from_millis(500 + world.choose(20)))
            .with_retry(retry);
        Asked {
            requests: if world.choose(2) == 0 { requests } else { requests.unordered() },
            is_spread: world.choose(2) == 0,
            wanted: rows(&windows(&answered, WINDOW, WINDOW)),
            wanted_failures: failed.iter().map(|it| (it.value, answer(it) == Answer::None)).collect(),
            source: world.source(input),
            results: world.sink(),
            late: world.sink(),
            failed: world.sink(),
        }
    }
}

impl Scenario for Asked {
    fn graph(&self) -> Graph {
        let graph = Graph::new("asked");
        let events = timed(graph.source(self.source.clone()).uid("events").boxed());
        let events = if self.is_spread { events.rebalance() } else { events.boxed() };
        let (answers, failed) = events.map_async_with_failed(self.requests, ask);
        let both = (Count::new(), Sum::of(|event: &Event| event.value));
        let windowed = answers.key_by(|event| event.key).window(tumbling(micros(WINDOW)));
        let (results, late) = windowed.aggregate(both).append_with_late();
        results.map(row).sink(self.results.clone());
        late.sink(self.late.clone());
        failed
            .map(|it: FailedRequest<Event>| (it.row.value, it.failure == RequestFailure::TimedOut))
            .sink(self.failed.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        check(&self.results, &self.late, &self.wanted, summary, is_last)?;
        Ok(compare(&self.failed.shown(), &self.wanted_failures, is_last)?)
    }
}
