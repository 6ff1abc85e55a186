//! What passes a deduplication, by plain loops.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidemill::EventTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: u8,
    pub(crate) time: i64,
    /// No two rows have the same.
    pub(crate) number: u32,
}

pub(crate) fn at(row: &Row) -> EventTime {
    EventTime::from_micros(row.time)
}

/// How long a key is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// With the event time, while that is in time.
    ByTime,
    /// Until the watermark is this many microseconds after its first row.
    WithinWatermark(i64),
    /// For rows less than this many microseconds younger than its first one.
    Within(i64),
    /// This many microseconds by the clock.
    For(i64),
}

/// A row that passes, or is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Out {
    Passes(Row),
    Late(Row),
}

pub(crate) struct Model {
    kind: Kind,
    watermark: i64,
    seen: BTreeSet<(u8, i64)>,
    /// By key: the watermark, or the time of the clock, at which it is forgotten.
    until: BTreeMap<u8, i64>,
}

impl Model {
    pub(crate) fn new(kind: Kind) -> Self {
        Model { kind, watermark: i64::MIN, seen: BTreeSet::new(), until: BTreeMap::new() }
    }

    /// An epoch at that time of the clock, with rows in this order, at whose end the watermark is that.
    pub(crate) fn epoch(&mut self, now: i64, rows: &[Row], watermark: i64) -> Vec<Out> {
        let mut out = vec![];
        for row in rows {
            let is_late = row.time < self.watermark;
            let (passed, until) = match self.kind {
                Kind::ByTime | Kind::WithinWatermark(_) | Kind::Within(_) if is_late => {
                    out.push(Out::Late(*row));
                    continue;
                }
                Kind::ByTime => {
                    if self.seen.insert((row.key, row.time)) {
                        out.push(Out::Passes(*row));
                    }
                    continue;
                }
                Kind::WithinWatermark(span) => (self.watermark, row.time.saturating_add(span)),
                Kind::Within(span) => (row.time, row.time.saturating_add(span)),
                Kind::For(ttl) => (now, now + ttl),
            };
            if self.until.get(&row.key).is_none_or(|until| *until <= passed) {
                self.until.insert(row.key, until);
                out.push(Out::Passes(*row));
            }
        }
        self.watermark = self.watermark.max(watermark);
        out
    }
}
