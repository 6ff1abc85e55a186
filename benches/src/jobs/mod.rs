//! The jobs of the comparisons on Tidemill: the same inputs and answers as in [`baseline`](crate::baseline).
//!
//! Each is written as a user would write it, with the defaults, and its time is that of the whole `graph.run()`:
//! starting the threads, reading, computing, committing, ending them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark fails loudly"
)]

pub mod chain;
pub mod distinct;
pub mod join;
pub mod process;
pub mod session;
pub mod sliding;
pub mod top;
pub mod windowed_count;
pub mod word_count;

use std::sync::{Arc, Mutex, PoisonError};

use tidemill::connectors::{IterSource, iterate_partitions};
use tidemill::{Epoch, Sink, SinkError, WindowResult};

use crate::baseline::windowed_count::{STEP, Windowed};
use crate::generator::event;

/// The events of the windowed jobs, distributed among `workers` partitions.
fn events(
    count: u64,
    keys: u64,
    workers: usize,
) -> IterSource<impl Iterator<Item = (u64, i64)> + Send + 'static> {
    let peers = workers as u32;
    iterate_partitions(peers, move |partition| {
        let (first, peers) = (u64::from(partition), u64::from(peers));
        let own = count.saturating_sub(first).div_ceil(peers);
        (0..own).map(move |k| event(first + k * peers, keys, STEP))
    })
}

/// Takes a row of a windowed count into account.
fn count_row(answer: &mut Windowed, row: WindowResult<u64, u64>) {
    answer.add(row.key, row.window.start.as_micros(), row.value);
}

/// A sink for the measuring of everything but sinks: takes every row into account as it comes and keeps none. What an
/// instance has gathered is joined with the others' when it is dropped.
struct Gather<S: Default, F> {
    take: F,
    join: fn(&mut S, S),
    own: S,
    all: Arc<Mutex<S>>,
}

impl<S: Default, F> Gather<S, F> {
    fn new<T>(all: &Arc<Mutex<S>>, take: F, join: fn(&mut S, S)) -> Self
    where
        F: Fn(&mut S, T),
    {
        Gather { take, join, own: S::default(), all: Arc::clone(all) }
    }
}

impl<S: Default + Send + 'static, T: Send + 'static, F: Fn(&mut S, T) + Send + 'static> Sink<T>
    for Gather<S, F>
{
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        rows.drain(..).for_each(|row| (self.take)(&mut self.own, row));
        Ok(())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

impl<S: Default, F> Drop for Gather<S, F> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        (self.join)(&mut all, std::mem::take(&mut self.own));
    }
}

/// What all instances of a [`Gather`] have gathered, once the query is over.
fn gathered<S: Default>(all: &Mutex<S>) -> S {
    std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner))
}
