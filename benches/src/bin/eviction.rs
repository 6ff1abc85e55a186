//! What joins, process functions and deduplications keep: a simulated day of each operator whose state is bounded, over many keys.
//!
//! `cargo run --release -p tidemill-benches --bin eviction -- --help`
//!
//! The exit code is not zero if the state of an operator, or the memory of the process, still grows after a warm-up of two hours.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails loudly")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tidemill::operator::{Dealt, Events, Place, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{CoContext, CoProcessFunction, ProcessResult};
use tidemill::testing::{Harness, operator_of};
use tidemill::{Chain, Operator, ProcessingTime};
use tidemill_benches::harness::provenance::JsonLines;
use tidemill_benches::measure::rss;

/// Runs each operator for a simulated day and prints what it keeps.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many keys.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Rows of each side in a simulated minute.
    #[arg(long, default_value_t = 5_000)]
    rows: u64,
    /// Simulated hours.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// How much more than at the end of the warm-up there may be, in per cent.
    #[arg(long, default_value_t = 10)]
    limit: u64,
    /// Also append the results to this file, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const MINUTE: Duration = Duration::from_secs(60);
/// When the state has reached its size, in hours.
const WARM: u64 = 2;
/// What the allocator may add, in bytes.
const SLACK: u64 = 16 << 20;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Row {
    key: u64,
    at: EventTime,
}

type Instance = Harness<Box<dyn Operator>>;

/// An operator, what feeds it the rows of a minute, and what drops its results.
struct Case {
    name: &'static str,
    instance: Instance,
    feed: fn(&mut Instance, [Vec<Dealt<u64, Row>>; 2]),
    drop_results: fn(&mut Instance) -> usize,
}

/// Two sides that are about to be joined, or connected.
macro_rules! join {
    () => {
        join!(join)
    };
    ($method:ident) => {{
        let graph = Graph::new("eviction");
        let side = || {
            let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(|row: &Row| row.at, MINUTE);
            rows.key_by(|row| row.key)
        };
        side().$method(side())
    }};
}

fn case<T, P>(name: &'static str, rows: Stream<T, P>, drop_results: fn(&mut Instance) -> usize) -> Case
where
    T: Send + 'static,
    P: Chain<Out = T>,
{
    let make = operator_of(rows);
    let instance = Harness::new(Mode::MicroBatch, move || make(Place::new(0, 1, Mode::MicroBatch)));
    Case { name, instance, feed: two_inputs, drop_results }
}

fn two_inputs(instance: &mut Instance, [left, right]: [Vec<Dealt<u64, Row>>; 2]) {
    instance.batch(0, left).unwrap();
    instance.batch(1, right).unwrap();
}

fn one_input(instance: &mut Instance, [left, right]: [Vec<Dealt<u64, Row>>; 2]) {
    instance.batch(0, left.into_iter().chain(right).collect::<Vec<_>>()).unwrap();
}

/// As [`one_input`], for an operator whose key contains the event time.
fn by_time(instance: &mut Instance, sides: [Vec<Dealt<u64, Row>>; 2]) {
    let rows = sides.into_iter().flatten();
    let rows = rows.map(|row| Dealt::new((row.key, row.time), row.time, row.value));
    instance.batch(0, rows.collect::<Vec<_>>()).unwrap();
}

fn drop_passed(instance: &mut Instance) -> usize {
    assert!(instance.take::<(EventTime, Row)>(1).is_empty(), "no row is late");
    instance.take::<(EventTime, Row)>(0).len()
}

/// Drops results of type `T` and late rows.
fn timed<T: Send + 'static>(instance: &mut Instance) -> usize {
    let late = instance.take::<(EventTime, Row)>(1).len() + instance.take::<(EventTime, Row)>(2).len();
    assert_eq!(late, 0, "no row is late");
    instance.take::<(EventTime, T)>(0).len()
}

/// Counts the rows of a key until there has been none for ten minutes of event time, and remembers its last row for ten minutes
/// of the clock.
struct Visits {
    counts: ValueState<u64, (EventTime, u64)>,
    last: ValueState<u64, Row>,
}

impl Visits {
    fn new() -> Self {
        Visits { counts: ValueState::new(), last: ValueState::with_ttl(MINUTE * 10) }
    }

    fn visit(&mut self, row: Row, cx: &mut CoContext<'_, Self>) {
        let (last, count) = self.counts.get_or_insert_with(cx.key, || (row.at, 0));
        *last = row.at.max(*last);
        *count += 1;
        cx.set_event_timer(*last + MINUTE * 10);
        self.last.insert(cx.key, row);
    }
}

impl CoProcessFunction for Visits {
    type Key = u64;
    type Left = Row;
    type Right = Row;
    type Outputs = (Events<(u64, u64)>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("counts", &mut self.counts);
        states.add("last", &mut self.last);
    }

    fn on_left(&mut self, row: Row, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        self.visit(row, cx);
        Ok(())
    }

    fn on_right(&mut self, row: Row, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        self.visit(row, cx);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        let is_over = self.counts.get(cx.key).is_some_and(|(last, _)| *last + MINUTE * 10 == cx.time());
        if is_over && let Some((_, count)) = self.counts.remove(cx.key) {
            cx.out.0.push(cx.time(), (*cx.key, count));
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let bounds = || Bounds::between(MINUTE, MINUTE * 5);
    let graph = Graph::new("eviction");
    let keyed = |delay| {
        let rows = graph.source(memory(Vec::<Row>::new())).with_watermark(|row: &Row| row.at, delay);
        rows.key_by(|row| row.key)
    };
    vec![
        Case { feed: by_time, ..case("distinct by key and time", keyed(MINUTE).distinct(), drop_passed) },
        Case {
            feed: one_input,
            ..case(
                "distinct within watermark, 10m",
                keyed(MINUTE * 10).distinct_within_watermark(),
                drop_passed,
            )
        },
        Case {
            feed: one_input,
            ..case("distinct for a TTL of 10m", keyed(MINUTE).distinct_for(MINUTE * 10), drop_passed)
        },
        case("interval, inner", join!().within(bounds()).inner(), timed::<(u64, Row, Row)>),
        case(
            "interval, full outer",
            join!().within(bounds()).full_outer(),
            timed::<(u64, Option<Row>, Option<Row>)>,
        ),
        case("interval, anti", join!().within(bounds()).anti(), timed::<(u64, Row)>),
        case(
            "window, tumbling 10m",
            join!().window(tumbling(MINUTE * 10)).inner(),
            timed::<WindowResult<u64, (Row, Row)>>,
        ),
        case(
            "window, sliding 10m every 2m",
            join!().window(sliding(MINUTE * 10, MINUTE * 2)).inner(),
            timed::<WindowResult<u64, (Row, Row)>>,
        ),
        case(
            "window, session 5m",
            join!().window(session(MINUTE * 5)).full_outer(),
            timed::<WindowResult<u64, (Option<Row>, Option<Row>)>>,
        ),
        case("as of", join!().as_of().left_outer(), timed::<(u64, Row, Option<Row>)>),
        case("by key, TTL 10m", join!().with_ttl(MINUTE * 10).inner(), |instance| {
            instance.take::<(EventTime, (u64, Row, Row))>(0).len()
        }),
        case("process function, timers and TTL 10m", join!(connect).process(Visits::new), |instance| {
            instance.take::<(EventTime, (u64, u64))>(0).len()
        }),
    ]
}

/// The rows of a minute: keys in an order that looks random, each once before any comes again; times out of order by up to a minute.
fn rows(arguments: &Arguments, minute: u64, step: u64) -> Vec<Dealt<u64, Row>> {
    let row = |n: u64| {
        let number = minute * arguments.rows + n;
        let key = number.wrapping_mul(step) % arguments.keys;
        let back = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let second = 60 * (minute + 1) - back % 60;
        let at = EventTime::from_secs(second as i64);
        Dealt::new(key, at, Row { key, at })
    };
    (0..arguments.rows).map(row).collect()
}

/// What an operator has kept: in the hours of the warm-up, and in those after it.
#[derive(Serialize)]
struct Kept {
    operator: &'static str,
    keys: u64,
    rows_per_minute: u64,
    hours: u64,
    /// The most rows of state: during the warm-up, and afterwards.
    state_rows: [usize; 2],
    /// The most memory of the process at the end of an hour, in bytes: the same.
    rss: [u64; 2],
    results: usize,
    is_flat: bool,
}

/// Runs an operator for as long as the arguments say.
fn run(case: Case, arguments: &Arguments) -> Kept {
    let Case { name, mut instance, feed, drop_results } = case;
    let (mut warm, mut most, mut results) = ((0, 0), (0, 0), 0);
    println!("{name}");
    println!("{:>6} {:>12} {:>12} {:>12}", "hour", "state rows", "RSS, MiB", "results");
    for hour in 0..arguments.hours {
        let mut of_hour = 0;
        for minute in hour * 60..(hour + 1) * 60 {
            instance.advance_to(ProcessingTime::from_micros(minute as i64 * 60_000_000)).unwrap();
            feed(&mut instance, [rows(arguments, minute, 7_919), rows(arguments, minute, 104_729)]);
            instance.end_epoch(EventTime::from_secs(60 * minute as i64 - 1)).unwrap();
            results += drop_results(&mut instance);
            of_hour = of_hour.max(instance.state_rows());
        }
        let now = (of_hour, rss().unwrap_or_default());
        if hour < WARM {
            warm = (now.0.max(warm.0), now.1.max(warm.1));
        } else {
            most = (now.0.max(most.0), now.1.max(most.1));
        }
        if hour < WARM || hour % 6 == 5 {
            println!("{:>6} {:>12} {:>12} {results:>12}", hour + 1, now.0, now.1 >> 20);
        }
    }
    let limit = |warm: u64| warm + warm * arguments.limit / 100;
    let is_flat = most.0 as u64 <= limit(warm.0 as u64) && most.1 <= limit(warm.1) + SLACK;
    let is_flat = is_flat && results > 0;
    println!("       {}", if is_flat { "flat after the warm-up" } else { "STILL GROWS after the warm-up" });
    Kept {
        operator: name,
        keys: arguments.keys,
        rows_per_minute: 2 * arguments.rows,
        hours: arguments.hours,
        state_rows: [warm.0, most.0],
        rss: [warm.1, most.1],
        results,
        is_flat,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = JsonLines::append(arguments.json.as_deref());
    let mut json = json.expect("the file can be opened");
    println!("{}", json.provenance().headline());
    let mut are_flat = true;
    for case in cases() {
        let kept = run(case, &arguments);
        are_flat &= kept.is_flat;
        json.write(&kept).expect("the results can be written");
    }
    if are_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
