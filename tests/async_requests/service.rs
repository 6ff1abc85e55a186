//! A service whose answer to a row depends on the row alone, and counts its requests.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use serde::{Deserialize, Serialize};
use tidemill::{EventTime, FailedRequest, RequestFailure};

/// What the service does with the first attempts of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Bad {
    Fails,
    Hangs,
}

/// A row: its number, its event time, for how many turns of the executor an answer takes, and how many attempts go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) number: u64,
    pub(crate) time: i64,
    pub(crate) turns: u8,
    pub(crate) bad: Bad,
    pub(crate) bad_attempts: u32,
}

impl Row {
    pub(crate) fn good(number: u64, turns: u8) -> Row {
        Row { number, time: number as i64, turns, bad: Bad::Fails, bad_attempts: 0 }
    }

    pub(crate) fn event_time(&self) -> EventTime {
        EventTime::from_micros(self.time)
    }
}

/// What the naive loop says: the answer, or the failure.
pub(crate) fn expected(row: &Row, attempts: u32) -> Result<u64, FailedRequest<Row>> {
    if row.bad_attempts < attempts {
        return Ok(row.number * 2);
    }
    let failure = match row.bad {
        Bad::Fails => RequestFailure::Failed(format!("no answer to {}", row.number)),
        Bad::Hangs => RequestFailure::TimedOut,
    };
    Err(FailedRequest { row: *row, attempts, failure })
}

/// Lets the executor poll others for that number of turns.
pub(crate) async fn turns(turns: u8) {
    for _ in 0..turns {
        let mut has_yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    seen: Arc<Mutex<BTreeMap<u64, u32>>>,
    in_flight: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// A request in flight.
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service {
    /// Counts a request until what is returned is dropped.
    pub(crate) fn enter(&self) -> InFlight {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        InFlight(Arc::clone(&self.in_flight))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// How many requests were in flight at most.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// How many attempts there were for a row.
    pub(crate) fn attempts(&self, number: u64) -> u32 {
        self.seen.lock().unwrap().get(&number).copied().unwrap_or(0)
    }

    pub(crate) async fn ask(self, row: Row) -> Result<u64, String> {
        let _in_flight = self.enter();
        let attempt = {
            let mut seen = self.seen.lock().unwrap();
            let attempt = seen.entry(row.number).or_insert(0);
            *attempt += 1;
            *attempt
        };
        turns(row.turns).await;
        match row.bad {
            _ if attempt > row.bad_attempts => Ok(row.number * 2),
            Bad::Fails => Err(format!("no answer to {}", row.number)),
            Bad::Hangs => pending().await,
        }
    }
}
