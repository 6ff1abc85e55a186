//! The join of two streams in tumbling windows.
//!
//! A window emits when the watermark reaches its end, with its last instant as event time. State: the rows of both sides, each
//! once, by window and key, until their window has closed. A row is late when its window has closed: it is counted and emitted
//! to the late output of its side.

use std::vec::Drain;

use super::window_join::Grouping;
use crate::build::{Dealt, Events, StatefulOperator, Takes, To};
use crate::named::{HashedKey, PanedRows, Side, States};
use crate::window::Grid;
use crate::{Data, EventTime, Key, OperatorError, WindowResult};

/// Input 0: the left side; input 1: the right side. Output 0: the result; 1 and 2: late rows of the left and of the right side.
pub(super) struct Tumbling<K, L, R, G> {
    rows: PanedRows<K, Side<L, R>>,
    grouping: G,
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> Tumbling<K, L, R, G> {
    /// Each instant must be in one window of the grid.
    pub(super) fn new(grid: Grid, grouping: G) -> Self {
        Tumbling { rows: PanedRows::new(grid), grouping }
    }

    #[inline]
    fn add(&mut self, key: HashedKey<'_, K>, time: EventTime, row: Side<L, R>, to: &mut To<'_, Self>) {
        if let Err(late) = self.rows.push(key, time, row, to.watermark()) {
            to.count_late(1);
            match late {
                Side::Left(left) => to.out.1.push(time, left),
                Side::Right(right) => to.out.2.push(time, right),
            }
        }
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> StatefulOperator
    for Tumbling<K, L, R, G>
{
    type Key = K;
    type Outputs = (Events<WindowResult<K, G::Value>>, Events<L>, Events<R>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
    }

    fn on_watermark(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        while let Some(mut pane) = self.rows.take_closed(to.watermark()) {
            let (window, out) = (pane.window, &mut to.out.0);
            let (mut lefts, mut rights) = (Vec::new(), Vec::new());
            for (key, rows) in pane.by_key() {
                lefts.clear();
                rights.clear();
                for row in rows {
                    match row {
                        Side::Left(left) => lefts.push(left),
                        Side::Right(right) => rights.push(right),
                    }
                }
                self.grouping.group(key, &lefts, &rights, |value| {
                    out.push(window.last_instant(), WindowResult { window, key: key.clone(), value });
                });
            }
            self.rows.clear(pane);
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> Takes<0> for Tumbling<K, L, R, G> {
    type Row = Dealt<K, L>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for Dealt { hash, key, time, value } in rows {
            self.add(HashedKey { hash, key: &key }, time, Side::Left(value), to);
        }
        Ok(())
    }
}

impl<K: Key, L: Data + Clone, R: Data + Clone, G: Grouping<K, L, R>> Takes<1> for Tumbling<K, L, R, G> {
    type Row = Dealt<K, R>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for Dealt { hash, key, time, value } in rows {
            self.add(HashedKey { hash, key: &key }, time, Side::Right(value), to);
        }
        Ok(())
    }
}
