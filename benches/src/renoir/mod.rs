//! The jobs on Renoir 0.6, with the same generator and the same answers.
//!
//! Renoir's own event-time windows open a key's first window at its first record, align the others to it, and drop what
//! comes before: their rows are not those of windows aligned to the clock, and some records are in none. Its session
//! windows go by the clock on the wall. So a user who wants the right answer writes the window, and there are three ways:
//! fold under `(key, window)` (no row before the input ends), a window manager of one's own (one for each key, and all of
//! them are asked at every watermark), or an operator of one's own, which Renoir's `rich_map_custom` takes as a closure
//! over the elements before it. The last is by far the fastest and is used here: one table for all keys of a replica,
//! closed by Renoir's watermarks, as one would write it on timely. Counting is in two phases where there are few keys, as
//! in the program on timely, with the same tables and hashing. The batch between blocks has a fixed size: the default
//! looks at the clock for every record.
//!
//! A block is a thread in Renoir, so a program of two blocks with one worker runs on two cores.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails loudly")]

pub mod chain;
pub mod latency;
pub mod session;
pub mod sliding;
pub mod windowed_count;
pub mod word_count;

use std::collections::VecDeque;

use renoir::Stream;
use renoir::operator::{Operator, StreamElement};
use renoir::prelude::{BatchMode, ParallelIteratorSource, RuntimeConfig, StreamContext, StreamOutput};

use crate::baseline::windowed_count::{STEP, Windowed};
use crate::generator::event;

/// Elements in a batch from block to block.
const BATCH: usize = 4096;
/// Events from watermark to watermark of a source: as many as the program on timely has in a batch.
const WATERMARK: u64 = 8192;

/// A result, or a part of one: key, start of the window, count.
type Row = (u64, i64, u64);

/// Blocks of this many replicas.
fn context(workers: usize) -> StreamContext {
    StreamContext::new(RuntimeConfig::local(workers as u64).expect("a number of workers"))
}

/// The keys of the events, each with its event time as its timestamp, distributed among the replicas.
fn events(context: &StreamContext, count: u64, keys: u64) -> Stream<impl Operator<Out = u64> + 'static> {
    let source = ParallelIteratorSource::new(move |first: u64, peers: u64| {
        (0..count.saturating_sub(first).div_ceil(peers)).map(move |k| event(first + k * peers, keys, STEP))
    });
    let mut since = 0;
    context
        .stream(source)
        .batch_mode(BatchMode::fixed(BATCH))
        .add_timestamps(
            |event| event.1,
            move |_, time| {
                since += 1;
                (since % WATERMARK == 0).then_some(*time)
            },
        )
        .map(|event| event.0)
}

/// What an operator of one's own keeps.
trait State: Clone + Send + 'static {
    /// What comes in.
    type In: Clone + Send;
    /// What goes out.
    type Out: Clone + Send;

    /// Takes an element into account.
    fn take(&mut self, item: Self::In, time: i64);

    /// Nothing before `watermark` comes any more: emits what is complete, each with its timestamp.
    fn advance(&mut self, watermark: i64, out: &mut VecDeque<StreamElement<Self::Out>>);
}

/// A [`State`] as an operator.
fn operator<S: State>(
    stream: Stream<impl Operator<Out = S::In> + 'static>,
    mut state: S,
) -> Stream<impl Operator<Out = S::Out> + 'static> {
    let mut ready = VecDeque::new();
    stream.rich_map_custom(move |mut elements| {
        loop {
            if let Some(element) = ready.pop_front() {
                return element;
            }
            match elements.next() {
                StreamElement::Timestamped(item, time) => state.take(item, time),
                StreamElement::Watermark(watermark) => {
                    state.advance(watermark, &mut ready);
                    ready.push_back(StreamElement::Watermark(watermark));
                }
                StreamElement::FlushAndRestart => {
                    state.advance(i64::MAX, &mut ready);
                    ready.push_back(StreamElement::FlushAndRestart);
                }
                StreamElement::FlushBatch => return StreamElement::FlushBatch,
                StreamElement::Terminate => return StreamElement::Terminate,
                StreamElement::Item(_) => panic!("every event has a timestamp"),
            }
        }
    })
}

/// Rows at the replica that owns their key.
fn by_key(rows: Stream<impl Operator<Out = Row> + 'static>) -> Stream<impl Operator<Out = Row> + 'static> {
    rows.group_by(|row| row.0).drop_key()
}

/// The answer that rows add up to, once the job has run.
fn gather(rows: Stream<impl Operator<Out = Row> + 'static>) -> StreamOutput<Vec<(u64, u64, u64)>> {
    rows.fold_assoc(
        (0, 0, 0),
        |sum: &mut (u64, u64, u64), (key, window, count)| {
            let mut answer = from_sum(*sum);
            answer.add(key, window, count);
            *sum = (answer.rows, answer.events, answer.checksum);
        },
        |sum, part| {
            let mut answer = from_sum(*sum);
            answer.join(&from_sum(part));
            *sum = (answer.rows, answer.events, answer.checksum);
        },
    )
    .collect_vec()
}

fn from_sum((rows, events, checksum): (u64, u64, u64)) -> Windowed {
    Windowed { rows, events, checksum, ..Windowed::default() }
}

/// What was gathered.
fn gathered(output: StreamOutput<Vec<(u64, u64, u64)>>) -> Windowed {
    output.get().unwrap_or_default().first().copied().map(from_sum).unwrap_or_default()
}
