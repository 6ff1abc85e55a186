//! Counting events per key and tumbling window; see [`baseline::windowed_count`](crate::baseline::windowed_count).

use std::collections::VecDeque;
use std::time::Instant;

use foldhash::fast::FixedState;
use renoir::Stream;
use renoir::operator::{Operator, StreamElement};
use renoir::prelude::StreamContext;

use super::{Row, State, by_key, context, events, gather, gathered, operator};
use crate::baseline::windowed_count::{Table, Windowed, WindowedCount};

/// Runs the job.
#[must_use]
pub fn windowed_count(job: WindowedCount) -> Windowed {
    let start = Instant::now();
    let context = context(job.workers);
    let output = if job.two_phase {
        gather(in_two_phases(&context, job))
    } else {
        gather(in_one_phase(&context, job))
    };
    context.execute_blocking();
    Windowed { elapsed: start.elapsed(), ..gathered(output) }
}

/// The counts of every key and window, with each replica counting its own events first.
pub(super) fn in_two_phases(
    context: &StreamContext,
    job: WindowedCount,
) -> Stream<impl Operator<Out = Row> + 'static> {
    let counted = operator(events(context, job.events, job.keys), Windows::<u64>::new(job.width(), 1));
    operator(by_key(counted), Windows::<Row>::new(job.width(), 2))
}

/// The same, with every event sent to the replica that owns its key.
pub(super) fn in_one_phase(
    context: &StreamContext,
    job: WindowedCount,
) -> Stream<impl Operator<Out = Row> + 'static> {
    let owned = events(context, job.events, job.keys).group_by(|key| *key).drop_key();
    operator(owned, Windows::<u64>::new(job.width(), 1))
}

/// What a window counts.
trait Counted: Clone + Send + 'static {
    /// Its key and how much it counts.
    fn key_and_count(&self) -> (u64, u64);
}

impl Counted for u64 {
    fn key_and_count(&self) -> (u64, u64) {
        (*self, 1)
    }
}

impl Counted for Row {
    fn key_and_count(&self) -> (u64, u64) {
        (self.0, self.2)
    }
}

/// The open windows of one replica, with a table for each; parts of a window have its start as their timestamp.
struct Windows<I> {
    width: i64,
    seed: u64,
    /// Start and counts, in no order: few are open at a time.
    open: Vec<(i64, Table)>,
    spare: Vec<Table>,
    /// Where in `open` the last element was counted.
    last: usize,
    of: std::marker::PhantomData<fn(I)>,
}

impl<I> Clone for Windows<I> {
    fn clone(&self) -> Self {
        // Renoir clones operators before the run to make replicas.
        Self::new(self.width, self.seed)
    }
}

impl<I> Windows<I> {
    fn new(width: i64, seed: u64) -> Self {
        Self { width, seed, open: Vec::new(), spare: Vec::new(), last: 0, of: std::marker::PhantomData }
    }

    #[cold]
    fn find(&mut self, time: i64) -> usize {
        let start = time.div_euclid(self.width) * self.width;
        self.open.iter().position(|(other, _)| *other == start).unwrap_or_else(|| {
            let table =
                self.spare.pop().unwrap_or_else(|| Table::with_hasher(FixedState::with_seed(self.seed)));
            self.open.push((start, table));
            self.open.len() - 1
        })
    }
}

impl<I: Counted> State for Windows<I> {
    type In = I;
    type Out = Row;

    #[inline]
    fn take(&mut self, item: I, time: i64) {
        let is_in = |start: i64, width: i64| (start..start + width).contains(&time);
        if !self.open.get(self.last).is_some_and(|(start, _)| is_in(*start, self.width)) {
            self.last = self.find(time);
        }
        let Some((_, table)) = self.open.get_mut(self.last) else { return };
        let (key, count) = item.key_and_count();
        *table.entry(key).or_insert(0) += count;
    }

    fn advance(&mut self, watermark: i64, out: &mut VecDeque<StreamElement<Row>>) {
        let (width, spare) = (self.width, &mut self.spare);
        self.open.retain_mut(|(start, table)| {
            if start.saturating_add(width) > watermark {
                return true;
            }
            out.extend(
                table.drain().map(|(key, count)| StreamElement::Timestamped((key, *start, count), *start)),
            );
            spare.push(std::mem::take(table));
            false
        });
    }
}
