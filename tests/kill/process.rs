//! A process function with timers of both clocks, and rules by broadcast: killed at random moments, in changing modes.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::operator::{Events, MapState, States, Timer};
use tidemill::prelude::*;
use tidemill::process::{
    BroadcastContext, BroadcastFunction, CloseContext, ProcessResult, RuleContext, Rules,
};
use tidemill::{EventStream, ProcessingTime};

use crate::child::Query;
use crate::input::{Event, FROM_FILES, FROM_SOCKET, Row, WINDOW, event};
use crate::parent::{Results, undisturbed};
use crate::{Dice, kill_at, kill_at_random, wanted};

/// How many rules there are.
const RULES: u64 = 120;

/// The rules: each weighs something from its time on.
pub(crate) fn rules() -> impl Iterator<Item = Event> {
    (0..RULES).map(|n| event(n, RULES, false))
}

/// The end of the window of a time.
fn end_of(time: i64) -> i64 {
    (time.div_euclid(WINDOW) + 1) * WINDOW
}

/// Counts and sums the rows of each window, and adds the weight of all rules from before its end. For each window there is an
/// alarm by the clock, which fires once or is deleted with the window.
struct Weigh {
    rows: MapState<u64, (i64, u64), u64>,
    /// The end of the window of each alarm that is set, by its time.
    alarms: MapState<u64, i64, i64>,
    /// The alarm of each window, and whether it has fired.
    windows: MapState<u64, i64, (i64, bool)>,
}

impl Weigh {
    fn new() -> Self {
        Weigh { rows: MapState::new(), alarms: MapState::new(), windows: MapState::new() }
    }

    fn alarm(&mut self, at: ProcessingTime, cx: &mut BroadcastContext<'_, Self>) -> ProcessResult {
        let at = at.as_micros();
        let end = self.alarms.remove(cx.key, &at).ok_or(format!("the alarm at {at} is not set"))?;
        let window = self.windows.get_mut(cx.key, &end).ok_or(format!("no window ends at {end}"))?;
        if window != &(at, false) || at > cx.now().as_micros() {
            return Err(
                format!("the alarm at {at} fires at {}, and was {window:?}", cx.now().as_micros()).into()
            );
        }
        window.1 = true;
        Ok(())
    }

    fn close(&mut self, end: i64, rules: &Rules<Self>, cx: &mut BroadcastContext<'_, Self>) -> ProcessResult {
        let (alarm, has_fired) =
            self.windows.remove(cx.key, &end).ok_or(format!("no window ends at {end}"))?;
        let was_set = cx.delete_processing_timer(ProcessingTime::from_micros(alarm));
        let was_kept = self.alarms.remove(cx.key, &alarm).is_some();
        if (was_set, was_kept) != (!has_fired, !has_fired) {
            return Err(
                format!("the alarm at {alarm}: fired {has_fired}, set {was_set}, kept {was_kept}").into()
            );
        }
        let (mut count, mut sum) = (0, 0);
        for ((_, value), times) in self.rows.drain_range(cx.key, ..(end, 0)) {
            count += times;
            sum += value * times;
        }
        sum += rules.range(..(end, 0)).map(|((_, weight), times)| weight * times).sum::<u64>();
        cx.out.0.push(cx.time(), Row { start: end - WINDOW, key: *cx.key, count, sum });
        Ok(())
    }
}

impl BroadcastFunction for Weigh {
    type Key = u64;
    type Row = Event;
    type Rule = Event;
    type RuleKey = (i64, u64);
    type RuleState = u64;
    type Outputs = (Events<Row>,);

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
        let times = rules.get(&(rule.time, rule.value)).copied().unwrap_or(0);
        rules.insert((rule.time, rule.value), times + 1);
        Ok(())
    }

    fn on_record(
        &mut self,
        row: Event,
        _: &Rules<Self>,
        cx: &mut BroadcastContext<'_, Self>,
    ) -> ProcessResult {
        if cx.is_late() {
            return Err(format!("{row:?} is late at {}", cx.watermark()).into());
        }
        let times = self.rows.get(cx.key, &(row.time, row.value)).copied().unwrap_or(0);
        self.rows.insert(cx.key, (row.time, row.value), times + 1);
        let end = end_of(row.time);
        if self.windows.get(cx.key, &end).is_none() {
            let mut at = cx.now().as_micros() + [1, 500, 3_000, 60_000][(row.value % 4) as usize];
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
            Timer::Processing(at) => self.alarm(at, cx),
            Timer::Event(end) => self.close(end.as_micros(), rules, cx),
        }
    }

    fn on_close(&mut self, _: &mut CloseContext<'_, Self::Outputs>) -> ProcessResult {
        if self.rows.is_empty() && self.windows.is_empty() && self.alarms.is_empty() {
            Ok(())
        } else {
            Err("something is left at the end".into())
        }
    }
}

/// The part of the graph with the function.
pub(crate) fn weigh(events: EventStream<Event>, rules: EventStream<Event>) -> EventStream<Row> {
    events.key_by(|event| event.key).connect_broadcast(rules).process(Weigh::new)
}

/// The rows that plain loops find, sorted.
pub(crate) fn expected() -> Vec<String> {
    let of_files = (0..FROM_FILES).map(|n| event(n, FROM_FILES, false));
    let mut windows = BTreeMap::<(i64, u64), (u64, u64)>::new();
    for event in of_files.chain((0..FROM_SOCKET).map(|n| event(n, FROM_SOCKET, false))) {
        let (count, sum) = windows.entry((end_of(event.time), event.key)).or_default();
        *count += 1;
        *sum += event.value;
    }
    let row = |((end, key), (count, sum)): ((i64, u64), (u64, u64))| {
        let weight: u64 = rules().filter(|rule| rule.time < end).map(|rule| rule.value).sum();
        serde_json::to_string(&Row { start: end - WINDOW, key, count, sum: sum + weight }).unwrap()
    };
    let mut rows: Vec<String> = windows.into_iter().map(row).collect();
    rows.sort();
    rows
}

/// Kills at points of the checkpoint's protocol.
fn at_points(expected: &Results) -> usize {
    let points =
        [("checkpoint.log.appended", 23), ("journal.append.done", 7), ("checkpoint.put.before-rename", 18)];
    let kills = points.into_iter().enumerate().map(|(n, (point, passing))| {
        kill_at(Query::Process, &[(point.to_owned(), passing)], n, expected).kills
    });
    kills.sum()
}

#[test]
fn function_with_timers_and_rules_is_exact_after_kills() {
    let (expected, time) = undisturbed(Query::Process);
    assert!(at_points(&expected) > 0);
    kill_at_random(Query::Process, &mut Dice(17), 5, time.max(Duration::from_millis(50)), &expected);
}

#[test]
#[ignore = "takes minutes: ci/kill.sh"]
fn at_random_moments_with_timers_and_rules() {
    let mut dice = Dice(std::env::var("TIDEMILL_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1));
    let (expected, time) = undisturbed(Query::Process);
    let (mut kills, mut worlds) = (at_points(&expected), 3);
    while kills < wanted() {
        kills += kill_at_random(Query::Process, &mut dice, 8, time, &expected).kills;
        worlds += 1;
    }
    println!("with timers and rules: {kills} kills of {worlds} queries");
}
