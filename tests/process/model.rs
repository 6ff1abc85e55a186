//! What [`Watch`](super::function::Watch) emits, by plain loops.

use std::collections::{BTreeMap, BTreeSet};

use super::function::{GAP, Out, PATIENCE, PERIOD, Row, TTL};

#[derive(Default)]
struct OfKey {
    /// The time of the last row, and when it came.
    last: Option<(i64, i64)>,
    rows: Vec<u32>,
    recent: Option<i64>,
    /// Event-time timers; those that the advance under way does not reach any more wait for the next.
    timers: BTreeSet<i64>,
    clock: BTreeSet<i64>,
}

#[derive(Default)]
pub(crate) struct Model {
    keys: BTreeMap<u8, OfKey>,
    watermark: Option<i64>,
    now: i64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Model { watermark: Some(i64::MIN), ..Model::default() }
    }

    fn watermark(&self) -> i64 {
        self.watermark.unwrap_or(i64::MIN)
    }

    pub(crate) fn seen(&mut self, row: Row) {
        let (now, time) = (self.now, row.time & !1);
        let key = self.keys.entry(row.key).or_default();
        let mut last = time;
        if let Some((before, clock)) = key.last {
            key.timers.remove(&(before + GAP));
            key.clock.remove(&(clock + PATIENCE));
            last = before.max(time);
        }
        key.last = Some((last, now));
        key.rows.push(row.number);
        key.timers.insert(last + GAP);
        key.clock.insert(now + PATIENCE);
        let is_recent = key.recent.is_some_and(|written| now - written < TTL);
        if !is_recent {
            key.timers.insert((time + PERIOD) | 1);
        }
        key.recent = Some(now);
    }

    /// An epoch at that time of the clock, with rows in this order, at whose end the watermark is that. `workers` close at the end.
    pub(crate) fn epoch(&mut self, now: i64, rows: &[Row], watermark: i64) -> Vec<Out> {
        let mut out = vec![];
        self.now = now;
        for (key, of_key) in &mut self.keys {
            while let Some(time) = of_key.clock.first().copied().filter(|time| *time <= now) {
                of_key.clock.remove(&time);
                out.push(Out::Clock(*key, time));
            }
        }
        for row in rows {
            if row.time < self.watermark() {
                out.push(Out::Late(*row));
            } else {
                self.seen(*row);
            }
        }
        if watermark > self.watermark() {
            self.watermark = Some(watermark);
            for (key, of_key) in &mut self.keys {
                advance(*key, of_key, watermark, &mut out);
            }
        }
        out
    }

    /// What is left when the input has ended, on any number of workers.
    pub(crate) fn left(&self) -> Vec<Out> {
        let left = self.keys.iter().filter(|(_, it)| !it.rows.is_empty());
        left.map(|(key, it)| Out::Left(*key, it.rows.len())).collect()
    }
}

fn advance(key: u8, it: &mut OfKey, watermark: i64, out: &mut Vec<Out>) {
    while let Some(time) = it.timers.first().copied().filter(|time| *time <= watermark) {
        it.timers.remove(&time);
        if time % 2 == 0 {
            let (last, clock) = it.last.take().unwrap();
            out.push(Out::Silent(key, last, std::mem::take(&mut it.rows)));
            it.clock.remove(&(clock + PATIENCE));
        } else if !it.rows.is_empty() {
            out.push(Out::Tick(key, time, it.rows.len()));
            if watermark < i64::MAX {
                it.timers.insert((time + PERIOD) | 1);
            }
        }
    }
}
