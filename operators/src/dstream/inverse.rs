//! `reduce_by_key_and_window_inverse`: windows over batches, of which each takes in what comes and gives back what goes.
//!
//! Emits, at each multiple of the slide, the value of each key with records in the window that ends there; at the end of the input, of
//! all windows with records. State: for each key the total of the window, and the sum of each slide in it. A key without records in its
//! window has no state. A slide costs one call of the function and one of its inverse for each key, however long windows are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use serde::{Deserialize, Serialize};

use crate::assigners::{SlidingWindow, sliding};
use crate::build::{Dealt, Rows, StatefulOperator, Takes, To};
use crate::named::{HashedKey, States, Timer, ValueState};
use crate::{Data, EventTime, Key, OperatorError, ProcessingTime, Window, WindowResult};

/// The window of a key.
#[derive(Serialize, Deserialize)]
struct Sums<V> {
    /// The sum of the slides that have ended.
    total: Option<V>,
    /// How many these are, of the next field.
    ended: usize,
    /// The sum of each slide with records, by its end.
    slides: VecDeque<(EventTime, V)>,
    /// The end of the last window.
    last: EventTime,
}

/// The operator. `F` combines two values, `G` takes the second out of the first.
pub(super) struct Inverse<K: Key, V, F, G> {
    length: Duration,
    slide: Duration,
    /// Windows of one slide.
    slides: SlidingWindow,
    sums: ValueState<K, Sums<V>>,
    functions: Arc<(F, G)>,
}

impl<K, V, F, G> Inverse<K, V, F, G>
where
    K: Key,
    V: Data + Clone,
    F: Fn(V, V) -> V + Send + Sync + 'static,
    G: Fn(V, V) -> V + Send + Sync + 'static,
{
    pub(super) fn new((length, slide): (Duration, Duration), functions: Arc<(F, G)>) -> Self {
        Inverse { length, slide, slides: sliding(slide, slide), sums: ValueState::new(), functions }
    }

    /// Ends the window of a key at `end`. Returns when its next one ends, if it has records.
    fn advance(&mut self, key: HashedKey<'_, K>, end: EventTime, to: &mut To<'_, Self>) -> Option<EventTime> {
        let (add, take_out) = &*self.functions;
        let sums = self.sums.get_mut(key)?;
        if end <= sums.last {
            // It has ended before: the clock of a restart may be behind.
            return Some(sums.last + self.slide);
        }
        let first = end - self.length;
        while let Some((_, value)) = sums.slides.get(sums.ended).filter(|(at, _)| *at <= end) {
            let total = sums.total.take();
            sums.total = Some(total.map_or_else(|| value.clone(), |total| add(total, value.clone())));
            sums.ended += 1;
        }
        while sums.slides.front().is_some_and(|(at, _)| *at <= first) {
            let Some((_, value)) = sums.slides.pop_front() else { break };
            sums.ended -= 1;
            let total = sums.total.take().filter(|_| sums.ended > 0);
            sums.total = total.map(|total| take_out(total, value));
        }
        sums.last = end;
        if let Some(total) = &sums.total {
            let window = Window { start: first, end };
            to.out.0.push(WindowResult { window, key: key.cloned(), value: total.clone() });
        }
        if sums.slides.is_empty() {
            self.sums.remove(key);
            return None;
        }
        Some(end + self.slide)
    }
}

fn timer(at: EventTime) -> ProcessingTime {
    ProcessingTime::from_micros(at.as_micros())
}

impl<K, V, F, G> StatefulOperator for Inverse<K, V, F, G>
where
    K: Key,
    V: Data + Clone,
    F: Fn(V, V) -> V + Send + Sync + 'static,
    G: Fn(V, V) -> V + Send + Sync + 'static,
{
    type Key = K;
    type Outputs = (Rows<WindowResult<K, V>>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("windows", &mut self.sums);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, K>,
        at: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        let Timer::Processing(at) = at else { return Ok(()) };
        if let Some(next) = self.advance(key, EventTime::from_micros(at.as_micros()), to) {
            to.timers.set_processing(key, timer(next));
        }
        Ok(())
    }

    fn on_watermark(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        if to.watermark() < EventTime::MAX {
            return Ok(());
        }
        let keys: Vec<(K, EventTime)> = self
            .sums
            .iter()
            .filter_map(|(key, sums)| {
                let next = match sums.ended {
                    0 => sums.slides.front()?.0,
                    _ => sums.last + self.slide,
                };
                Some((key.clone(), next))
            })
            .collect();
        for (key, first) in &keys {
            let (key, mut next) = (HashedKey::of(key), Some(*first));
            while let Some(end) = next.filter(|end| *end < EventTime::MAX) {
                next = self.advance(key, end, to);
            }
        }
        to.timers.forget_processing();
        Ok(())
    }
}

impl<K, V, F, G> Takes<0> for Inverse<K, V, F, G>
where
    K: Key,
    V: Data + Clone,
    F: Fn(V, V) -> V + Send + Sync + 'static,
    G: Fn(V, V) -> V + Send + Sync + 'static,
{
    type Row = Dealt<K, V>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        let now = EventTime::from_micros(to.now().as_micros());
        let Some(Window { end, .. }) = self.slides.windows_of(now).next() else { return Ok(()) };
        for row in rows {
            let key = row.hashed();
            let new = || Sums { total: None, ended: 0, slides: VecDeque::new(), last: EventTime::MIN };
            let sums = self.sums.get_or_insert_with(key, new);
            // A clock that has gone back does not reopen a window.
            let end = end.max(sums.last + self.slide).max(sums.slides.back().map_or(end, |(at, _)| *at));
            match sums.slides.back_mut().filter(|(at, _)| *at == end) {
                Some((_, sum)) => *sum = (self.functions.0)(sum.clone(), row.value),
                None => {
                    if sums.slides.is_empty() {
                        to.timers.set_processing(key, timer(end));
                    }
                    sums.slides.push_back((end, row.value));
                }
            }
        }
        Ok(())
    }
}
