//! A graph with an operator of one's own: three inputs, each kind of state, both kinds of timers, two outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use std::vec::Drain;

use serde::{Deserialize, Serialize};
use tidemill::operator::{
    Dealt, Events, HashedKey, ListState, MapState, ReducingState, Rows, SharedState, StatefulOperator,
    States, Takes, Timer, To, ValueState,
};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Life, Scenario, SimSink, SimSource, World};
use tidemill::{OperatorError, ProcessingTime, Summary};

use crate::graphs::{compare, timed};
use crate::input::{Event, WINDOW, events, micros, partitions};

/// A window of a key: its end, the sums of both inputs, and the sum of the rules that were given before its end.
type Closed = (u8, i64, i64, i64, i64);

/// What the alarms of a key have come to: set, fired, the sum of the times that fired, cancelled.
type Tally = (u64, u64, u64, u64);

/// What the second output has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Note {
    /// The alarm for that time has fired.
    Alarm { key: u8, at: i64 },
    /// The input has ended: the first event time of the key, the sum of its values, and its alarms.
    Ended { key: u8, first: i64, sum: i64, tally: Tally, pending: u64 },
}

/// How long a value is kept that expires.
const TTL: Duration = Duration::from_millis(3);

/// After all rows: its timers fire when the inputs end.
const END: EventTime = EventTime::from_micros(1 << 40);

/// Sums both inputs of a key by window. Sets an alarm of processing time for each row of the first; some rows of the second
/// cancel one. Nothing depends on the order in which the rows of an epoch come. Which alarms fire depends on the clock, but
/// each fires once.
struct Watch {
    life: Life,
    first: ValueState<u8, i64>,
    sum: ReducingState<u8, i64>,
    left: MapState<u8, (i64, i64), ()>,
    right: ListState<u8, (i64, i64)>,
    rules: SharedState<(i64, i64), ()>,
    /// The alarms that are set, by their times.
    alarms: MapState<u8, i64, ()>,
    /// The keys that cancel an alarm at the end of the epoch.
    cancels: Vec<u8>,
    tally: ReducingState<u8, Tally>,
    /// When the last row of the first input was taken, and the same in a value that expires.
    taken: ValueState<u8, i64>,
    recent: ValueState<u8, i64>,
}

impl Watch {
    fn new(life: Life) -> Watch {
        Watch {
            life,
            first: ValueState::new(),
            sum: ReducingState::new(|sum, value| *sum += value),
            left: MapState::new(),
            right: ListState::new(),
            rules: SharedState::new(),
            alarms: MapState::new(),
            cancels: Vec::new(),
            tally: ReducingState::new(|sum: &mut Tally, new| {
                *sum = (sum.0 + new.0, sum.1 + new.1, sum.2 + new.2, sum.3 + new.3);
            }),
            taken: ValueState::new(),
            recent: ValueState::with_ttl(TTL),
        }
    }

    fn violated(&self, invariant: &str, what: String) {
        if self.life.is_alive() {
            self.life.violated(Breach::new(invariant, what));
        }
    }

    /// A row of either keyed input.
    fn seen(&mut self, key: HashedKey<'_, u8>, event: Event, to: &mut To<'_, Self>) {
        if EventTime::from_micros(event.time) < to.watermark() {
            self.violated("in time", format!("{event:?} is taken at watermark {:?}", to.watermark()));
        }
        let first = self.first.get_or_insert_with(key, || event.time);
        *first = event.time.min(*first);
        self.sum.add(key, event.value);
        to.timers.set_event(key, EventTime::from_micros((event.time.div_euclid(WINDOW) + 1) * WINDOW));
        to.timers.set_event(key, END);
    }

    /// Sets an alarm, at a time at which the key has no other.
    fn arm(&mut self, key: HashedKey<'_, u8>, delay: i64, to: &mut To<'_, Self>) {
        let mut at = to.now().as_micros() + delay;
        while self.alarms.get(key, &at).is_some() {
            at += 1;
        }
        self.tally.add(key, (1, 0, 0, 0));
        self.alarms.insert(key, at, ());
        to.timers.set_processing(key, ProcessingTime::from_micros(at));
    }

    /// The value that expires is there as long as it should be, and not longer.
    fn check_expiry(&self, key: HashedKey<'_, u8>, to: &To<'_, Self>) {
        let (taken, recent) = (self.taken.get(key), self.recent.get(key));
        let wanted = taken.filter(|taken| to.now().as_micros() - **taken < TTL.as_micros() as i64);
        if recent != wanted {
            let (key, now) = (key.key, to.now().as_micros());
            let what = format!("key {key} at {now}: {recent:?} instead of {wanted:?}, taken at {taken:?}");
            self.violated("expiry", what);
        }
    }

    /// The alarms that are kept and the timers of the key are the same.
    fn check_timers(&self, key: HashedKey<'_, u8>, to: &To<'_, Self>) {
        let alarms =
            self.alarms.iter_of(key).map(|(at, _)| Timer::Processing(ProcessingTime::from_micros(*at)));
        let timers = to.timers.of(key).filter(|timer| matches!(timer, Timer::Processing(_)));
        let (alarms, timers): (Vec<_>, Vec<_>) = (alarms.collect(), timers.collect());
        if alarms != timers {
            self.violated("timers", format!("key {} has {timers:?} instead of {alarms:?}", key.key));
        }
    }

    fn alarm(&mut self, key: HashedKey<'_, u8>, at: ProcessingTime, to: &mut To<'_, Self>) {
        if self.alarms.remove(key, &at.as_micros()).is_none() {
            return self.violated("alarms", format!("an alarm of key {} at {at:?} was not set", key.key));
        }
        if at > to.now() {
            self.violated("alarms", format!("an alarm for {at:?} came at {:?}", to.now()));
        }
        self.tally.add(key, (0, 1, at.as_micros() as u64, 0));
        to.out.1.push(Note::Alarm { key: *key.key, at: at.as_micros() });
        if at.as_micros() % 3 == 0 {
            self.arm(key, 700, to);
        }
        self.check_timers(key, to);
    }

    /// Cancels the earliest alarm of a key.
    fn cancel(&mut self, key: HashedKey<'_, u8>, to: &mut To<'_, Self>) {
        let Some(at) = self.alarms.iter_of(key).next().map(|(at, ())| *at) else { return };
        self.alarms.remove(key, &at);
        self.tally.add(key, (0, 0, 0, 1));
        if !to.timers.delete_processing(key, ProcessingTime::from_micros(at)) {
            self.violated("timers", format!("key {} has no timer at {at}", key.key));
        }
        self.check_timers(key, to);
    }

    fn window(&mut self, key: HashedKey<'_, u8>, end: EventTime, to: &mut To<'_, Self>) {
        let left = self
            .left
            .drain_range(key, ..(end.as_micros(), i64::MIN))
            .iter()
            .map(|((_, value), ())| value)
            .sum();
        let mut right = 0;
        self.right.retain(key, |(time, value)| {
            right += if *time < end.as_micros() { *value } else { 0 };
            *time >= end.as_micros()
        });
        let rules = self.rules.range(..(end.as_micros(), i64::MIN)).map(|((_, value), ())| value).sum();
        to.out.0.push(end, (*key.key, end.as_micros(), left, right, rules));
    }

    fn ended(&mut self, key: HashedKey<'_, u8>, to: &mut To<'_, Self>) {
        if !self.left.is_vacant(key) || self.right.get(key).next().is_some() {
            self.violated("windows", format!("rows of key {} are in no window", key.key));
        }
        let pending = self.alarms.iter_of(key).count() as u64;
        self.alarms.clear(key);
        let (first, sum) = (self.first.remove(key).unwrap_or(0), self.sum.remove(key).unwrap_or(0));
        let tally = self.tally.remove(key).unwrap_or_default();
        to.out.1.push(Note::Ended { key: *key.key, first, sum, tally, pending });
    }
}

impl StatefulOperator for Watch {
    type Key = u8;
    type Outputs = (Events<Closed>, Rows<Note>);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("first", &mut self.first);
        states.add("sum", &mut self.sum);
        states.add("left", &mut self.left);
        states.add("right", &mut self.right);
        states.add("rules", &mut self.rules);
        states.add("alarms", &mut self.alarms);
        states.add("tally", &mut self.tally);
        states.add("taken", &mut self.taken);
        states.add("recent", &mut self.recent);
    }

    fn on_timer(
        &mut self,
        key: HashedKey<'_, u8>,
        timer: Timer,
        to: &mut To<'_, Self>,
    ) -> Result<(), OperatorError> {
        self.check_expiry(key, to);
        match timer {
            Timer::Processing(at) => self.alarm(key, at, to),
            Timer::Event(END) => {
                self.check_timers(key, to);
                self.ended(key, to);
            }
            Timer::Event(end) => self.window(key, end, to),
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for key in std::mem::take(&mut self.cancels) {
            self.cancel(HashedKey::of(&key), to);
        }
        // No alarm that is due is passed over: in micro-batch those of an epoch fire before its rows come.
        let due = self.alarms.iter().find(|(_, at, _)| **at <= to.now().as_micros());
        if to.mode() == tidemill::Mode::MicroBatch
            && let Some(due) = due
        {
            let (epoch, now) = (to.epoch(), to.now().as_micros());
            self.violated("due alarms", format!("at the end of epoch {epoch}, at {now}, one waits: {due:?}"));
        }
        Ok(())
    }
}

impl Takes<0> for Watch {
    type Row = Dealt<u8, Event>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            let (key, event) = (row.hashed(), row.value);
            self.check_expiry(key, to);
            self.seen(key, event, to);
            self.left.insert(key, (event.time, event.value), ());
            self.arm(key, [1, 150, 2_000, 40_000][event.value.rem_euclid(4) as usize], to);
            self.taken.insert(key, to.now().as_micros());
            self.recent.insert(key, to.now().as_micros());
            self.check_expiry(key, to);
        }
        Ok(())
    }
}

impl Takes<1> for Watch {
    type Row = Dealt<u8, Event>;

    fn take(&mut self, rows: Drain<'_, Self::Row>, to: &mut To<'_, Self>) -> Result<(), OperatorError> {
        for row in rows {
            let (key, event) = (row.hashed(), row.value);
            self.check_expiry(key, to);
            self.seen(key, event, to);
            self.right.push(key, (event.time, event.value));
            if event.value % 3 == 0 {
                self.cancels.push(row.key);
            }
            self.check_timers(key, to);
        }
        Ok(())
    }
}

impl Takes<2> for Watch {
    type Row = (EventTime, Event);

    fn take(&mut self, rows: Drain<'_, Self::Row>, _: &mut To<'_, Self>) -> Result<(), OperatorError> {
        rows.for_each(|(_, rule)| _ = self.rules.insert((rule.time, rule.value), ()));
        Ok(())
    }
}

/// Such an operator between three sources and windows over its results.
pub(crate) struct OwnOperator {
    left: SimSource<Event>,
    right: SimSource<Event>,
    rules: SimSource<Event>,
    life: Life,
    closed: SimSink<Closed>,
    notes: SimSink<Note>,
    /// How many windows of the operator end in each wider window.
    ends: SimSink<(i64, u64)>,
    wanted: Vec<Closed>,
    /// The first event time and the sum of values of each key.
    totals: BTreeMap<u8, (i64, i64)>,
}

/// The width of the windows over the results.
const WIDE: i64 = 4 * WINDOW;

impl OwnOperator {
    pub(crate) fn new(world: &mut World) -> OwnOperator {
        let (left, right) = (partitions(world, 80), partitions(world, 80));
        let rules = events(world, 20);
        let (mut sums, mut totals) = (BTreeMap::<(u8, i64), (i64, i64)>::new(), BTreeMap::new());
        let of_left = left.iter().flatten().map(|event| (event, true));
        for (event, is_left) in of_left.chain(right.iter().flatten().map(|event| (event, false))) {
            let end = (event.time.div_euclid(WINDOW) + 1) * WINDOW;
            let sum = sums.entry((event.key, end)).or_default();
            *if is_left { &mut sum.0 } else { &mut sum.1 } += event.value;
            let total: &mut (i64, i64) = totals.entry(event.key).or_insert((event.time, 0));
            *total = (total.0.min(event.time), total.1 + event.value);
        }
        let before = |end: i64| rules.iter().filter(move |rule| rule.time < end).map(|rule| rule.value).sum();
        OwnOperator {
            wanted: sums.iter().map(|((key, end), sum)| (*key, *end, sum.0, sum.1, before(*end))).collect(),
            totals,
            left: world.source(left),
            right: world.source(right),
            rules: world.source(vec![rules]),
            life: world.life(),
            closed: world.sink(),
            notes: world.sink(),
            ends: world.sink(),
        }
    }

    /// Each alarm is to be seen once, and those of the tallies are those that were seen.
    fn check_notes(&self, is_last: bool) -> Result<(), String> {
        let (mut alarms, mut totals) = (BTreeSet::new(), Vec::new());
        let mut tallies = BTreeMap::new();
        for note in self.notes.shown() {
            match note {
                Note::Alarm { key, at } if !alarms.insert((key, at)) => {
                    return Err(format!("the alarm of key {key} for {at} is there twice"));
                }
                Note::Alarm { .. } => {}
                Note::Ended { key, first, sum, tally, pending } => {
                    totals.push((key, (first, sum)));
                    tallies.insert(key, (tally, pending));
                }
            }
        }
        compare(&totals, &self.totals.clone().into_iter().collect::<Vec<_>>(), is_last)?;
        for (key, (tally, pending)) in tallies {
            let times: Vec<i64> = alarms.range((key, 0)..=(key, i64::MAX)).map(|(_, at)| *at).collect();
            let (set, fired, sum, cancelled) = tally;
            let seen = (times.len() as u64, times.iter().sum::<i64>() as u64);
            if (fired, sum) != seen || set != fired + cancelled + pending {
                return Err(format!(
                    "key {key} has alarms {times:?}, and the operator says {tally:?}, {pending} pending"
                ));
            }
        }
        Ok(())
    }
}

impl Scenario for OwnOperator {
    fn graph(&self) -> Graph {
        let graph = Graph::new("own operator");
        let source = |source: &SimSource<Event>, uid| timed(graph.source(source.clone()).uid(uid).boxed());
        let life = self.life.clone();
        let (closed, notes) = graph
            .operator("watch")
            .keyed(source(&self.left, "left"), |event| event.key)
            .keyed(source(&self.right, "right"), |event| event.key)
            .broadcast(source(&self.rules, "rules"))
            .stateful(move |_| Watch::new(life.clone()));
        let closed = closed.uid("watch").boxed();
        closed.clone().sink(self.closed.clone());
        let wide = closed.window(tumbling(micros(WIDE))).count().append();
        wide.map(|result| (result.window.start.as_micros(), result.value)).sink(self.ends.clone());
        notes.sink(self.notes.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in time are late: {summary:?}")));
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        compare(&self.closed.shown(), &self.wanted, is_last).map_err(named("windows"))?;
        let mut ends = BTreeMap::<i64, u64>::new();
        for (_, end, ..) in &self.wanted {
            *ends.entry(end.div_euclid(WIDE) * WIDE).or_default() += 1;
        }
        let ends: Vec<_> = ends.into_iter().collect();
        compare(&self.ends.shown(), &ends, is_last).map_err(named("windows of windows"))?;
        self.check_notes(is_last).map_err(named("notes"))
    }
}
