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
    let last = match row.bad {
        _ if row.bad_attempts < attempts => Ended::Answered,
        Bad::Fails => Ended::Failed,
        Bad::Hangs => Ended::TimedOut,
    };
    result(row, attempts, last)
}

/// The result of a row whose last attempt has ended so.
pub(crate) fn result(row: &Row, attempts: u32, last: Ended) -> Result<u64, FailedRequest<Row>> {
    let failure = match last {
        Ended::Answered => return Ok(row.number * 2),
        Ended::Failed => RequestFailure::Failed(format!("no answer to {}", row.number)),
        Ended::TimedOut => RequestFailure::TimedOut,
    };
    Err(FailedRequest { row: *row, attempts, failure })
}

/// How an attempt has ended, as the service has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered,
    Failed,
    /// Dropped before there was an answer.
    TimedOut,
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
    seen: Arc<Mutex<BTreeMap<u64, Vec<Ended>>>>,
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
        self.ended(number).len() as u32
    }

    /// How the attempts for a row have ended. On a busy machine one may time out that would have been answered.
    pub(crate) fn ended(&self, number: u64) -> Vec<Ended> {
        self.seen.lock().unwrap().get(&number).cloned().unwrap_or_default()
    }

    fn end(&self, number: u64, attempt: u32, ended: Ended) {
        self.seen.lock().unwrap().get_mut(&number).unwrap()[attempt as usize - 1] = ended;
    }

    pub(crate) async fn ask(self, row: Row) -> Result<u64, String> {
        let _in_flight = self.enter();
        let attempt = {
            let mut seen = self.seen.lock().unwrap();
            let attempts = seen.entry(row.number).or_default();
            attempts.push(Ended::TimedOut);
            attempts.len() as u32
        };
        turns(row.turns).await;
        match row.bad {
            _ if attempt > row.bad_attempts => {
                self.end(row.number, attempt, Ended::Answered);
                Ok(row.number * 2)
            }
            Bad::Fails => {
                self.end(row.number, attempt, Ended::Failed);
                Err(format!("no answer to {}", row.number))
            }
            Bad::Hangs => pending().await,
        }
    }
}
