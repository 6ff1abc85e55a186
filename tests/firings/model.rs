//! Windows by plain loops over lists.

use tidemill::FiringKind::{self, Early, Late, OnTime};
use tidemill::Mode;

use super::input::{Epoch, Kind, Row};

/// What comes out: key, start and end; the numbers of the rows, how the window fires, and its revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Out {
    Fired(u8, i64, i64, Option<Vec<u32>>, FiringKind, u64),
    TooLate(u32),
}

/// How windows are assigned and fire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) kind: Kind,
    pub(crate) lateness: i64,
    pub(crate) every_records: Option<usize>,
    pub(crate) every: Option<i64>,
    /// Whether windows are of the clock.
    pub(crate) by_clock: bool,
}

struct Open {
    key: u8,
    start: i64,
    end: i64,
    rows: Vec<u32>,
    fresh: usize,
    fired: u64,
    /// The bounds with which it last fired.
    shown: Option<(i64, i64)>,
    is_closed: bool,
    early_at: Option<i64>,
    replaces: Vec<(i64, i64)>,
}

pub(crate) struct Model {
    policy: Policy,
    mode: Mode,
    open: Vec<Open>,
    /// The watermark, or the clock.
    reached: i64,
    now: i64,
    out: Vec<Out>,
}

impl Model {
    pub(crate) fn run(policy: Policy, mode: Mode, epochs: &[Epoch]) -> Vec<Vec<Out>> {
        let mut model = Model { policy, mode, open: vec![], reached: i64::MIN, now: 0, out: vec![] };
        epochs.iter().map(|epoch| model.epoch(epoch)).collect()
    }

    fn epoch(&mut self, (rows, watermark, now): &Epoch) -> Vec<Out> {
        self.clock(*now);
        let mut waiting: Vec<Row> = rows.iter().copied().filter(|row| !self.take(row)).collect();
        if self.policy.kind.merges() {
            // A row may connect others with a session.
            while let Some(at) = waiting.iter().position(|row| self.take(row)) {
                waiting.remove(at);
            }
        }
        self.out.extend(waiting.iter().map(|row| Out::TooLate(row.number)));
        // In micro-batch, all rows come before the watermark advances.
        let next = if self.policy.by_clock { self.reached } else { *watermark };
        let due = match self.mode {
            Mode::MicroBatch => next,
            _ => i64::MIN,
        };
        let Policy { every_records, .. } = self.policy;
        self.fire(|window| match window.is_closed {
            true => (window.fresh > 0).then_some(Late),
            false => (window.end > due && every_records.is_some_and(|n| window.fresh >= n)).then_some(Early),
        });
        if !self.policy.by_clock || *watermark == i64::MAX {
            self.advance(*watermark);
        }
        std::mem::take(&mut self.out)
    }

    /// The clock advances.
    fn clock(&mut self, now: i64) {
        // Each microsecond, so that everything comes in order.
        while self.now < now {
            self.now = if self.now == 0 { now } else { self.now + 1 };
            if self.policy.by_clock {
                self.advance(self.now);
            }
            let now = self.now;
            self.fire(|window| {
                (window.early_at.is_some_and(|at| at <= now) && !window.is_closed).then_some(Early)
            });
        }
    }

    fn fire(&mut self, kind: impl Fn(&Open) -> Option<FiringKind>) {
        for window in &mut self.open {
            if let Some(kind) = kind(window) {
                for (start, end) in window.replaces.drain(..) {
                    self.out.push(Out::Fired(window.key, start, end, None, kind, window.fired));
                }
                let mut rows = window.rows.clone();
                rows.sort();
                self.out.push(Out::Fired(
                    window.key,
                    window.start,
                    window.end,
                    Some(rows),
                    kind,
                    window.fired,
                ));
                window.fired += 1;
                window.shown = Some((window.start, window.end));
                window.fresh = 0;
                window.early_at = None;
            }
        }
    }

    fn advance(&mut self, to: i64) {
        self.reached = self.reached.max(to);
        self.fire(|window| (!window.is_closed && window.end <= to).then_some(OnTime));
        let lateness = self.policy.lateness;
        for window in &mut self.open {
            window.is_closed |= window.end <= to;
        }
        self.open.retain(|window| window.end.saturating_add(lateness) > to);
    }

    /// Adds a row; says whether it has been added anywhere.
    fn take(&mut self, row: &Row) -> bool {
        let (lateness, reached) = (self.policy.lateness, self.reached);
        let time = if self.policy.by_clock { self.now } else { row.time };
        let is_over = |end: i64| end.saturating_add(lateness) <= reached;
        let mut is_added = false;
        for (start, end) in self.policy.kind.windows(row, time) {
            let meets = |it: &Open| match self.policy.kind.merges() {
                true => it.key == row.key && it.start <= end && it.end >= start,
                false => it.key == row.key && (it.start, it.end) == (start, end),
            };
            if is_over(end) && !self.open.iter().any(meets) {
                continue;
            }
            is_added = true;
            let mut whole = Open {
                key: row.key,
                start,
                end,
                rows: vec![row.number],
                fresh: 1,
                fired: 0,
                shown: None,
                is_closed: false,
                early_at: None,
                replaces: vec![],
            };
            let (met, others): (Vec<Open>, Vec<Open>) = self.open.drain(..).partition(meets);
            self.open = others;
            for one in &met {
                (whole.start, whole.end) = (whole.start.min(one.start), whole.end.max(one.end));
            }
            for one in met {
                if one.shown == Some((whole.start, whole.end)) {
                    whole.shown = one.shown;
                } else {
                    whole.replaces.extend(one.shown);
                }
                whole.replaces.extend(one.replaces);
                whole.rows.extend(one.rows);
                whole.fresh += one.fresh;
                whole.fired = whole.fired.max(one.fired);
                whole.early_at = whole.early_at.into_iter().chain(one.early_at).min();
            }
            whole.is_closed = whole.end <= reached;
            let by_count = self.policy.every_records.is_some_and(|n| whole.fresh >= n);
            if !whole.is_closed && !by_count && whole.early_at.is_none() {
                whole.early_at = self.policy.every.map(|every| self.now + every);
            }
            self.open.push(whole);
        }
        is_added
    }
}
