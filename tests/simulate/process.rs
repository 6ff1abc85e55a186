//! A process function between two sources: rules by broadcast that change while rows come, timers of both clocks, a side output for rows
//! that fail.

use std::collections::BTreeMap;

use tidemill::operator::{Events, MapState, Rows, States, Timer};
use tidemill::prelude::*;
use tidemill::process::{
    BroadcastContext, BroadcastFunction, CloseContext, FailedCall, ProcessResult, RuleContext, Rules,
};
use tidemill::testing::simulate::{Breach, Life, Scenario, SimSink, SimSource, World};
use tidemill::{ProcessingTime, Summary};

use crate::graphs::{compare, timed};
use crate::input::{Event, WINDOW, events, micros, partitions};

/// A window of a key: its end, the sum of its rows, and that of the rules from before its end.
type Closed = (u8, i64, i64, i64);

/// Rows that the function refuses.
fn fails(event: &Event) -> bool {
    event.value.rem_euclid(7) == 3
}

fn end_of(time: i64) -> i64 {
    (time.div_euclid(WINDOW) + 1) * WINDOW
}

/// Sums the rows of each window. For each window there is an alarm by the clock, which fires once or is deleted with the window.
struct Weigh {
    life: Life,
    rows: MapState<u8, (i64, i64), ()>,
    /// The end of the window of each alarm that is set, by its time.
    alarms: MapState<u8, i64, i64>,
    /// The alarm of each window, and whether it has fired.
    windows: MapState<u8, i64, (i64, bool)>,
}

impl Weigh {
    fn violated(&self, what: String) {
        if self.life.is_alive() {
            self.life.violated(Breach::new("process", what));
        }
    }

    fn alarm(&mut self, at: i64, cx: &mut BroadcastContext<'_, Self>) {
        let key = *cx.key;
        let end = self.alarms.remove(cx.key, &at);
        match end.and_then(|end| self.windows.get_mut(cx.key, &end)) {
            Some(window) if *window == (at, false) && at <= cx.now().as_micros() => window.1 = true,
            window => {
                let what = format!("an alarm of {key} at {at} fires at {:?}: {end:?}, {window:?}", cx.now());
                self.violated(what);
            }
        }
    }

    fn close(&mut self, end: i64, rules: &Rules<Self>, cx: &mut BroadcastContext<'_, Self>) {
        let key = *cx.key;
        let Some((alarm, has_fired)) = self.windows.remove(cx.key, &end) else {
            return self.violated(format!("no window of {key} ends at {end}"));
        };
        let was_set = cx.delete_processing_timer(ProcessingTime::from_micros(alarm));
        if was_set == has_fired || self.alarms.remove(cx.key, &alarm).is_some() == has_fired {
            self.violated(format!("the alarm of {key} at {alarm}: fired {has_fired}, set {was_set}"));
        }
        let rows = self.rows.drain_range(cx.key, ..(end, i64::MIN));
        let sum = rows.iter().map(|((_, value), ())| value).sum();
        let weight = rules.range(..(end, i64::MIN)).map(|((_, weight), ())| weight).sum();
        cx.out.0.push(cx.time(), (key, end, sum, weight));
    }
}

impl BroadcastFunction for Weigh {
    type Key = u8;
    type Row = Event;
    type Rule = Event;
    type RuleKey = (i64, i64);
    type RuleState = ();
    type Outputs = (Events<Closed>, Rows<u64>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("rows", &mut self.rows);
        states.add("alarms", &mut self.alarms);
        states.add("windows", &mut self.windows);
    }

    fn on_rule(
        &mut self,
        rule: Event,
        rules: &mut Rules<Self>,
        _: &mut RuleContext<'_, Self::Outputs>,
    ) -> ProcessResult {
        rules.insert((rule.time, rule.value), ());
        Ok(())
    }

    fn on_record(
        &mut self,
        row: Event,
        _: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        if cx.is_late() {
            self.violated(format!("{row:?} is late at {}", cx.watermark()));
        }
        if fails(&row) {
            return Err("refused".into());
        }
        self.rows.insert(cx.key, (row.time, row.value), ());
        let end = end_of(row.time);
        if self.windows.get(cx.key, &end).is_none() {
            let mut at = cx.now().as_micros() + [1, 150, 2_000, 40_000][row.value.rem_euclid(4) as usize];
            while self.alarms.get(cx.key, &at).is_some() {
                at += 1;
            }
            self.alarms.insert(cx.key, at, end);
            self.windows.insert(cx.key, end, (at, false));
            cx.set_processing_timer(ProcessingTime::from_micros(at));
            cx.set_event_timer(EventTime::from_micros(end));
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        rules: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        match timer {
            Timer::Processing(at) => self.alarm(at.as_micros(), cx),
            Timer::Event(end) => self.close(end.as_micros(), rules, cx),
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        if !(self.rows.is_empty() && self.windows.is_empty() && self.alarms.is_empty()) {
            self.violated("something is left at the end".to_owned());
        }
        cx.out.1.push(1);
        Ok(())
    }
}

pub(crate) struct Process {
    rows: SimSource<Event>,
    rules: SimSource<Event>,
    life: Life,
    closed: SimSink<Closed>,
    /// How many windows of the function end in each wider window.
    ends: SimSink<(i64, u64)>,
    failed: SimSink<(u8, i64, i64)>,
    closes: SimSink<u64>,
    wanted: Vec<Closed>,
    refused: Vec<(u8, i64, i64)>,
}

/// The width of the windows over the results.
const WIDE: i64 = 4 * WINDOW;

impl Process {
    pub(crate) fn new(world: &mut World) -> Process {
        let rows = partitions(world, 100);
        let rules = events(world, 25);
        let mut sums = BTreeMap::<(u8, i64), i64>::new();
        let (refused, taken): (Vec<Event>, Vec<Event>) = rows.concat().into_iter().partition(fails);
        for event in taken {
            *sums.entry((event.key, end_of(event.time))).or_default() += event.value;
        }
        let before = |end: i64| rules.iter().filter(move |rule| rule.time < end).map(|rule| rule.value).sum();
        Process {
            wanted: sums.iter().map(|((key, end), sum)| (*key, *end, *sum, before(*end))).collect(),
            refused: refused.iter().map(|event| (event.key, event.time, event.value)).collect(),
            rows: world.source(rows),
            rules: world.source(vec![rules]),
            life: world.life(),
            closed: world.sink(),
            ends: world.sink(),
            failed: world.sink(),
            closes: world.sink(),
        }
    }
}

impl Scenario for Process {
    fn graph(&self) -> Graph {
        let graph = Graph::new("process");
        let source = |source: &SimSource<Event>, uid| timed(graph.source(source.clone()).uid(uid).boxed());
        let life = self.life.clone();
        let connected = source(&self.rows, "rows")
            .key_by(|event| event.key)
            .connect_broadcast(source(&self.rules, "rules"));
        let ((closed, closes), failed) = connected.process_with_failed(move || Weigh {
            life: life.clone(),
            rows: MapState::new(),
            alarms: MapState::new(),
            windows: MapState::new(),
        });
        let closed = closed.uid("weigh").boxed();
        closed.clone().sink(self.closed.clone());
        let wide = closed.window(tumbling(micros(WIDE))).count().append();
        wide.map(|result| (result.window.start.as_micros(), result.value)).sink(self.ends.clone());
        // How often it is called depends on the number of workers, and so do its rows; the greatest does not.
        closes
            .key_by(|_| 0u8)
            .max(|closed| *closed)
            .update()
            .map(|(_, closed)| closed)
            .sink(self.closes.clone());
        let row = |call| match call {
            FailedCall::Row(event) => Some::<Event>(event),
            FailedCall::Timer(_) => None,
        };
        let failed = failed.filter_map(move |failed| row(failed.call));
        failed.map(|event| (event.key, event.time, event.value)).sink(self.failed.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in time are late: {summary:?}")));
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        compare(&self.closed.shown(), &self.wanted, is_last).map_err(named("windows"))?;
        compare(&self.failed.shown(), &self.refused, is_last).map_err(named("failed rows"))?;
        let mut ends = BTreeMap::<i64, u64>::new();
        for (_, end, ..) in &self.wanted {
            *ends.entry(end.div_euclid(WIDE) * WIDE).or_default() += 1;
        }
        let ends: Vec<_> = ends.into_iter().collect();
        compare(&self.ends.shown(), &ends, is_last).map_err(named("windows of windows"))?;
        let closes = self.closes.shown().len();
        match is_last && closes == 0 || closes > 8 {
            true => Err(Breach::new("closes", format!("the function was closed {closes} times"))),
            false => Ok(()),
        }
    }
}
