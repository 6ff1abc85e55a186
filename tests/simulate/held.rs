//! An operator whose rows are older than the watermark of its inputs, and windows over the watermark that it derives.

use std::time::Duration;
use std::vec::Drain;

use tidemill::aggregate::{Count, Sum};
use tidemill::operator::{
    Dealt, Events, HashedKey, MapState, StatefulOperator, States, Takes, Timer, To, ValueState,
};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};
use tidemill::{OperatorError, Summary};

use crate::graphs::{Row, check, row, rows, timed};
use crate::input::{Event, WINDOW, micros, partitions, windows};

/// For how long after its own time a row is held, in event time.
const HELD: Duration = Duration::from_micros(13);

/// Emits every row with its own time, once the watermark has passed that by [`HELD`].
struct Hold {
    rows: MapState<u8, (EventTime, u64), Event>,
    /// The number of a key's next row.
    next: ValueState<u8, u64>,
}

impl Hold {
    fn hold(&mut self, rows: Drain<'_, Dealt<u8, Event>>, to: &mut To<'_, Self>) {
        for row in rows {
            let number = self.next.get_or_insert_with(row.hashed(), || 0);
            *number += 1;
            let number = *number;
            self.rows.insert(row.hashed(), (row.time, number), row.value);
            to.timers.set_event(row.hashed(), row.time + HELD);
        }
    }
}

impl StatefulOperator for Hold {
    type Key = u8;
    type Outputs = (Events<Event>,);
    const DERIVES_WATERMARK: bool = true;

    fn output_watermark(&self, watermark: EventTime) -> EventTime {
        watermark - HELD
    }

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
        states.add("next", &mut self.next);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, u8>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        if let Timer::Event(due) = timer {
            let until = (due - HELD, u64::MAX);
            for ((time, _), event) in self.rows.drain_range(key, ..=until) {
                to.out.0.push(time, event);
            }
        }
        Ok(())
    }
}

impl Takes<0> for Hold {
    type Row = Dealt<u8, Event>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.hold(rows, to);
        Ok(())
    }
}

impl Takes<1> for Hold {
    type Row = Dealt<u8, Event>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        self.hold(rows, to);
        Ok(())
    }
}

/// Two sources with watermarks of their own, rows that are held, and windows.
pub(crate) struct Held {
    sources: [SimSource<Event>; 2],
    results: SimSink<Row>,
    late: SimSink<Event>,
    wanted: Vec<Row>,
}

impl Held {
    pub(crate) fn new(world: &mut World) -> Held {
        let input = [partitions(world, 80), partitions(world, 80)];
        let all: Vec<Event> = input.iter().flatten().flatten().copied().collect();
        Held {
            wanted: rows(&windows(&all, WINDOW, WINDOW)),
            sources: input.map(|partitions| world.source(partitions)),
            results: world.sink(),
            late: world.sink(),
        }
    }
}

impl Scenario for Held {
    fn graph(&self) -> Graph {
        let graph = Graph::new("held");
        let [left, right] = &self.sources;
        let left = timed(graph.source(left.clone()).uid("left").boxed());
        let right = timed(graph.source(right.clone()).uid("right").boxed());
        let held = graph
            .operator("hold")
            .keyed(left, |event| event.key)
            .keyed(right, |event| event.key)
            .stateful(|_| Hold { rows: MapState::new(), next: ValueState::new() });
        let both = (Count::new(), Sum::of(|event: &Event| event.value));
        let windowed = held.key_by(|event| event.key).window(tumbling(micros(WINDOW)));
        let (results, late) = windowed.aggregate(both).append_with_late();
        results.map(row).sink(self.results.clone());
        late.sink(self.late.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        check(&self.results, &self.late, &self.wanted, summary, is_last)
    }
}
