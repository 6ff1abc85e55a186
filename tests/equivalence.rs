//! One graph, one input, one result: in both modes, with any number of workers, however the input is cut into epochs;
//! and the one that a few plain loops compute.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidemill::aggregate::{Average, Collect, Count, Fold, Max, Min, Reduce, Sum};
use tidemill::connectors::{MemorySource, MemoryTable, memory, memory_sink};
use tidemill::{
    Chain, Either, EventStream, EventTime, Graph, Mode, Options, Stream, Untimed, Window, session,
    session_by, sliding, tumbling,
};
use tidemill_operators::state::Windowing;

use common::{assert_same, options, run_well};

/// Event time in microseconds, and a value.
type Record = (i64, i64);
/// Wide enough to be read by the chain behind the source.
type Wide = (Record, [u64; 4]);

fn wide(partitions: &[Vec<Record>]) -> MemorySource<Wide> {
    let wide = |records: &Vec<Record>| records.iter().map(|record| (*record, [0; 4])).collect();
    MemorySource::partitioned(partitions.iter().map(wide).collect::<Vec<Vec<Wide>>>())
}

// ---- random graphs ----

#[derive(Clone, Debug)]
enum Op {
    Map(i64),
    Filter(i64),
    FilterMap(i64),
    FlatMap(i64),
    Inspect,
    Name,
    Split(i64),
    Branch(i64),
    Rebalance,
    /// The records once more, with another value, by a second consumer.
    Again(i64),
    /// Another source.
    Other(Vec<Record>),
}

macro_rules! apply {
    ($graph:expr, $stream:expr, $op:expr, $other:expr) => {{
        let stream = $stream;
        match $op.clone() {
            Op::Map(n) => stream.map(move |(t, v): Record| (t, v.wrapping_mul(3) + n)).boxed(),
            Op::Filter(n) => stream.filter(move |(_, v): &Record| v.rem_euclid(5) != n).boxed(),
            Op::FilterMap(n) => {
                stream.filter_map(move |(t, v): Record| (v.rem_euclid(4) != n).then_some((t, v + 1))).boxed()
            }
            Op::FlatMap(n) => stream
                .flat_map(move |(t, v): Record| (0..v.rem_euclid(3)).map(move |i| (t, v + i * n)))
                .boxed(),
            Op::Inspect => stream.inspect(|_| {}).boxed(),
            Op::Name => stream.map(|r: Record| r).name("renamed").boxed(),
            Op::Split(n) => {
                let (left, right) = stream.split(move |(t, v): Record| {
                    if v.rem_euclid(3) == n { Either::Left((t, v)) } else { Either::Right((t, v, 7i64)) }
                });
                left.union(right.map(|(t, v, n): (i64, i64, i64)| (t, v - n)))
            }
            Op::Branch(n) => {
                let predicates: [fn(&Record) -> bool; 2] = [|(_, v)| v % 2 == 0, |(_, v)| *v > 5];
                let mut branches = stream.branch(predicates);
                let (c, b, a) = (branches.pop().unwrap(), branches.pop().unwrap(), branches.pop().unwrap());
                a.union(b.map(move |(t, v): Record| (t, v + n))).union(c)
            }
            Op::Rebalance => stream.rebalance(),
            Op::Again(n) => {
                let again = stream.clone().map(move |(t, v): Record| (t, v + n));
                stream.union(again)
            }
            Op::Other(records) => stream.union($other($graph.source(memory(records)))),
        }
    }};
}

fn naive(op: &Op, records: Vec<Record>) -> Vec<Record> {
    let map = |f: &dyn Fn(Record) -> Vec<Record>| records.iter().copied().flat_map(f).collect();
    match op {
        Op::Map(n) => map(&|(t, v)| vec![(t, v.wrapping_mul(3) + n)]),
        Op::Filter(n) => map(&|(t, v)| if v.rem_euclid(5) != *n { vec![(t, v)] } else { vec![] }),
        Op::FilterMap(n) => map(&|(t, v)| if v.rem_euclid(4) != *n { vec![(t, v + 1)] } else { vec![] }),
        Op::FlatMap(n) => map(&|(t, v)| (0..v.rem_euclid(3)).map(|i| (t, v + i * n)).collect()),
        Op::Split(n) => map(&|(t, v)| vec![(t, if v.rem_euclid(3) == *n { v } else { v - 7 })]),
        Op::Branch(n) => map(&|(t, v)| vec![(t, if v % 2 != 0 && v > 5 { v + n } else { v })]),
        Op::Again(n) => map(&|(t, v)| vec![(t, v), (t, v + n)]),
        Op::Other(more) => records.into_iter().chain(more.iter().copied()).collect(),
        Op::Inspect | Op::Name | Op::Rebalance => records,
    }
}

const DELAY: Duration = Duration::from_secs(10);

fn timed(stream: Stream<Record, impl Chain<Out = Record, Time = Untimed>>) -> EventStream<Record> {
    stream.with_watermark(|(t, _)| EventTime::from_micros(*t), DELAY).boxed()
}

// ---- windows and aggregates ----

#[derive(Clone, Debug)]
enum Cut {
    Tumbling(u64, u64),
    Sliding(u64, u64, u64),
    Session(u64),
    SessionBy,
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Append,
    Update,
    Complete,
}

fn gap_of(value: i64) -> Duration {
    Duration::from_micros(value.rem_euclid(9) as u64)
}

/// What all records of a group come to, in words: by an aggregate that shrinks, or by one that does not.
fn in_words(shrinking: bool, records: &[Record]) -> String {
    let values: Vec<i64> = records.iter().map(|(_, v)| *v).collect();
    let (count, sum) = (values.len() as u64, values.iter().sum::<i64>());
    if shrinking {
        let (min, max) = (values.iter().min().unwrap(), values.iter().max().unwrap());
        let last = records.iter().max().unwrap();
        format!("{count} {sum} {min} {max} {} {last:?}", sum as f64 / count as f64)
    } else {
        let distinct: BTreeSet<i64> = values.iter().copied().collect();
        format!("{count} {:?} {distinct:?}", common::sorted(records.to_vec()))
    }
}

type Row = (String, String);

fn about(window: Option<Window>, key: i64) -> String {
    window
        .map_or_else(|| format!("{key}"), |w| format!("{} {} {key}", w.start.as_micros(), w.end.as_micros()))
}

/// Aggregates what is grouped in one of two ways, with the results in words.
macro_rules! aggregated {
    ($grouped:expr, $shrinking:expr, $finish:ident) => {
        if $shrinking {
            let all = (
                (
                    Count::new(),
                    Sum::of(|r: &Record| r.1),
                    Min::of(|r: &Record| r.1),
                    Max::of(|r: &Record| r.1),
                ),
                (Average::of(|r: &Record| r.1), Reduce::with(|a: Record, b: Record| a.max(b))),
            );
            $finish!($grouped.aggregate(all), |((count, sum, min, max), (average, last))| format!(
                "{count} {sum} {min} {max} {average} {last:?}"
            ))
        } else {
            let distinct = Fold::new(
                BTreeSet::new(),
                |seen: &mut BTreeSet<i64>, r: &Record| {
                    seen.insert(r.1);
                },
                |seen: &mut BTreeSet<i64>, more: BTreeSet<i64>| seen.extend(more),
            );
            $finish!($grouped.aggregate((Count::new(), Collect::new(), distinct)), |(
                count,
                records,
                distinct,
            )| format!(
                "{count} {:?} {distinct:?}",
                common::sorted(records)
            ))
        }
    };
}

struct Tables {
    rows: MemoryTable<Row>,
    late: MemoryTable<Record>,
}

/// Ends a stream of timed records in windows, and these in sinks.
fn windowed<W: Windowing<Record>>(
    stream: EventStream<Record>,
    keys: i64,
    window: W,
    shrinking: bool,
    said: Said,
) -> Tables {
    let (sink, rows) = memory_sink();
    let (late_sink, late) = memory_sink();
    let grouped = stream.key_by(move |r| r.1.rem_euclid(keys)).window(window);
    macro_rules! finish {
        ($aggregated:expr, $words:expr) => {{
            let words = $words;
            match said {
                Said::Append => {
                    let (main, late) = $aggregated.append_with_late();
                    main.map(move |r| (about(Some(r.window), r.key), words(r.value))).sink(sink);
                    late.sink(late_sink);
                }
                Said::Update => {
                    let (main, late) = $aggregated.update_with_late();
                    main.map(move |r| (about(Some(r.window), r.key), words(r.value))).sink(sink);
                    late.sink(late_sink);
                }
                Said::Complete => {
                    $aggregated
                        .complete()
                        .map(move |r| (about(Some(r.window), r.key), words(r.value)))
                        .sink(sink);
                }
            }
        }};
    }
    aggregated!(grouped, shrinking, finish);
    Tables { rows, late }
}

fn running(stream: EventStream<Record>, keys: i64, shrinking: bool, said: Said) -> Tables {
    let (sink, rows) = memory_sink();
    let (_, late) = memory_sink::<Record>();
    let grouped = stream.key_by(move |r| r.1.rem_euclid(keys));
    macro_rules! finish {
        ($aggregated:expr, $words:expr) => {{
            let words = $words;
            match said {
                Said::Complete => {
                    $aggregated.complete().map(move |(key, v)| (about(None, key), words(v))).sink(sink);
                }
                _ => $aggregated.update().map(move |(key, v)| (about(None, key), words(v))).sink(sink),
            }
        }};
    }
    aggregated!(grouped, shrinking, finish);
    Tables { rows, late }
}

fn cut(stream: EventStream<Record>, cut: &Cut, keys: i64, shrinking: bool, said: Said) -> Tables {
    let micros = Duration::from_micros;
    match *cut {
        Cut::Tumbling(size, offset) => {
            windowed(stream, keys, tumbling(micros(size)).offset(micros(offset)), shrinking, said)
        }
        Cut::Sliding(size, slide, offset) => {
            let window = sliding(micros(size), micros(slide)).offset(micros(offset));
            windowed(stream, keys, window, shrinking, said)
        }
        Cut::Session(gap) => windowed(stream, keys, session(micros(gap)), shrinking, said),
        Cut::SessionBy => windowed(stream, keys, session_by(|r: &Record| gap_of(r.1)), shrinking, said),
        Cut::Running => running(stream, keys, shrinking, said),
    }
}

// ---- the same in plain loops ----

/// The windows that a record is in (of a session: what it spans alone), by counting.
fn windows_of(cut: &Cut, (time, value): Record) -> Vec<(i64, i64)> {
    match *cut {
        Cut::Tumbling(size, offset) => windows_of(&Cut::Sliding(size, size, offset), (time, value)),
        Cut::Sliding(size, slide, offset) => {
            let (size, slide, offset) = (size as i64, slide as i64, offset as i64);
            let mut start = (time - offset).div_euclid(slide) * slide + offset;
            let mut windows = Vec::new();
            while start + size > time {
                windows.push((start, start + size));
                start -= slide;
            }
            windows
        }
        Cut::Session(gap) => vec![(time, time + gap as i64)],
        Cut::SessionBy => vec![(time, time + (gap_of(value).as_micros() as i64).max(1))],
        Cut::Running => vec![(i64::MIN, i64::MAX)],
    }
}

type Groups = BTreeMap<(i64, i64, i64), Vec<Record>>;

/// Puts a record into those of its windows that the watermark has left open.
fn add(cut: &Cut, keys: i64, watermark: i64, groups: &mut Groups, record: Record) {
    let key = record.1.rem_euclid(keys);
    for (mut start, mut end) in windows_of(cut, record) {
        if end <= watermark {
            continue;
        }
        let mut records = vec![record];
        if matches!(cut, Cut::Session(_) | Cut::SessionBy) {
            while let Some(met) =
                groups.keys().find(|(k, s, e)| *k == key && *s <= end && start <= *e).copied()
            {
                records.extend(groups.remove(&met).unwrap());
                (start, end) = (start.min(met.1), end.max(met.2));
            }
        }
        groups.entry((key, start, end)).or_default().extend(records);
    }
}

fn rows(cut: &Cut, shrinking: bool, groups: &Groups) -> Vec<Row> {
    let row = |(group, records): (&(i64, i64, i64), &Vec<Record>)| {
        let window = Window { start: EventTime::from_micros(group.1), end: EventTime::from_micros(group.2) };
        let window = (!matches!(cut, Cut::Running)).then_some(window);
        (about(window, group.0), in_words(shrinking, records))
    };
    groups.iter().map(row).collect()
}

/// In update mode the last row about each group.
fn last(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
}

// ---- strategies ----

fn record() -> impl Strategy<Value = Record> {
    (-60i64..60, -20i64..20)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0i64..5).prop_map(Op::Map),
        (0i64..5).prop_map(Op::Filter),
        (0i64..4).prop_map(Op::FilterMap),
        (0i64..3).prop_map(Op::FlatMap),
        Just(Op::Inspect),
        Just(Op::Name),
        (0i64..3).prop_map(Op::Split),
        (0i64..5).prop_map(Op::Branch),
        Just(Op::Rebalance),
        (1i64..5).prop_map(Op::Again),
        prop::collection::vec(record(), 0..6).prop_map(Op::Other),
    ]
}

fn windows() -> impl Strategy<Value = Cut> {
    prop_oneof![
        (1u64..40, 0u64..50).prop_map(|(size, offset)| Cut::Tumbling(size, offset)),
        (1u64..40, 1u64..40, 0u64..50).prop_map(|(a, b, offset)| Cut::Sliding(a.max(b), a.min(b), offset)),
        (1u64..20).prop_map(Cut::Session),
        Just(Cut::SessionBy),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![Just(Said::Append), Just(Said::Update), Just(Said::Complete)]
}

fn partitions() -> impl Strategy<Value = Vec<Vec<Record>>> {
    prop::collection::vec(prop::collection::vec(record(), 0..12), 1..5)
}

/// The ways to run a graph whose results must be the same.
fn ways(records: u64) -> Vec<Options> {
    let mut ways = Vec::new();
    for workers in [1, 2, 4] {
        // Sources whose rows come in batches, and sources that the chains behind them read.
        let limited = options(Mode::MicroBatch, workers).with_max_records_per_epoch(records);
        ways.push(options(Mode::MicroBatch, workers));
        ways.push(limited.clone());
        ways.push(limited.with_pulls_from(0));
        let continuous = options(Mode::Continuous, workers);
        let cut = continuous.clone().with_checkpoint_interval(Duration::from_micros(300));
        ways.push(cut.clone());
        ways.push(cut.with_pulls_from(0));
        ways.push(continuous);
    }
    ways.push(
        options(Mode::MicroBatch, 2).with_max_records_per_epoch(1).with_max_in_flight(5).with_max_queued(1),
    );
    ways
}

fn config() -> ProptestConfig {
    // Enough for every day; a soak asks for more by the variable that proptest itself knows.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    ProptestConfig { cases, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_graph_without_state_has_one_result(
        input in partitions(),
        before in prop::collection::vec(op(), 0..4),
        after in prop::collection::vec(op(), 0..3),
        records in 1u64..8,
    ) {
        let expected = before.iter().chain(&after).fold(input.concat(), |records, op| naive(op, records));
        for way in ways(records) {
            let graph = Graph::new("stateless");
            let source = graph.source(wide(&input)).map(|(r, _): Wide| r).boxed();
            let stream = before.iter().fold(source, |s, op| apply!(graph, s, op, |other| other));
            let stream = after.iter().fold(timed(stream), |s, op| apply!(graph, s, op, timed));
            let (sink, table) = memory_sink();
            stream.sink(sink);
            let summary = run_well(&graph, way.clone());
            assert_same(&table.snapshot(), &expected, format!("{way:?}"));
            assert_eq!(summary.output_rows, expected.len() as u64);
        }
    }

    #[test]
    fn a_graph_of_windows_has_one_result(
        input in partitions(),
        before in prop::collection::vec(op(), 0..3),
        after in prop::collection::vec(op(), 0..3),
        by in windows(),
        keys in 1i64..6,
        shrinking: bool,
        said in said(),
        records in 1u64..8,
    ) {
        let all = before.iter().chain(&after).fold(input.concat(), |records, op| naive(op, records));
        let mut groups = Groups::new();
        all.iter().for_each(|r| add(&by, keys, i64::MIN, &mut groups, *r));
        let expected = rows(&by, shrinking, &groups);
        for way in ways(records) {
            let graph = Graph::new("windows");
            let source = graph.source(wide(&input)).map(|(r, _): Wide| r).boxed();
            let stream = before.iter().fold(source, |s, op| apply!(graph, s, op, |other| other));
            let stream = after.iter().fold(timed(stream), |s, op| apply!(graph, s, op, timed));
            let tables = cut(stream, &by, keys, shrinking, said);
            let summary = run_well(&graph, way.clone());
            let found = tables.rows.snapshot();
            let found = match said {
                // A session that grows is emitted again under another window: the largest ones are the last.
                Said::Update if matches!(by, Cut::Session(_) | Cut::SessionBy) => {
                    let found: BTreeSet<Row> = found.into_iter().collect();
                    expected.iter().filter(|row| found.contains(row)).cloned().collect()
                }
                Said::Update => last(found),
                _ => found,
            };
            assert_same(&found, &expected, format!("{way:?}"));
            assert_eq!(summary.late_rows, 0);
        }
    }

    #[test]
    fn a_graph_of_running_aggregates_has_one_last_result(
        input in partitions(),
        before in prop::collection::vec(op(), 0..3),
        after in prop::collection::vec(op(), 0..2),
        keys in 1i64..6,
        shrinking: bool,
        complete: bool,
        records in 1u64..8,
    ) {
        let said = if complete { Said::Complete } else { Said::Update };
        let all = before.iter().chain(&after).fold(input.concat(), |records, op| naive(op, records));
        let mut groups = Groups::new();
        all.iter().for_each(|r| add(&Cut::Running, keys, i64::MIN, &mut groups, *r));
        let expected = rows(&Cut::Running, shrinking, &groups);
        for way in ways(records) {
            let graph = Graph::new("running");
            let source = graph.source(wide(&input)).map(|(r, _): Wide| r).boxed();
            let stream = before.iter().fold(source, |s, op| apply!(graph, s, op, |other| other));
            let stream = after.iter().fold(timed(stream), |s, op| apply!(graph, s, op, timed));
            let tables = cut(stream, &Cut::Running, keys, shrinking, said);
            run_well(&graph, way.clone());
            let found = if complete { tables.rows.snapshot() } else { last(tables.rows.snapshot()) };
            assert_same(&found, &expected, format!("{way:?}"));
        }
    }

    #[test]
    fn micro_batch_windows_and_late_rows_match_model(
        input in partitions(),
        by in windows(),
        delay in 0i64..40,
        keys in 1i64..5,
        refused in 0i64..8,
        shrinking: bool,
        update: bool,
        records in 1usize..6,
    ) {
        let said = if update && !matches!(by, Cut::Session(_) | Cut::SessionBy) { Said::Update } else { Said::Append };
        let seen = move |r: &Record| r.1.rem_euclid(8) != refused;
        let (results, late) = model(&input, &by, delay, keys, (shrinking, said), records, seen);
        for workers in [1, 2, 4] {
            let graph = Graph::new("late");
            let stream = graph
                .source(MemorySource::partitioned(input.clone()))
                .filter(seen)
                .with_watermark(|(t, _)| EventTime::from_micros(*t), Duration::from_micros(delay as u64))
                .boxed();
            let tables = cut(stream, &by, keys, shrinking, said);
            let way = options(Mode::MicroBatch, workers).with_max_records_per_epoch(records as u64);
            let summary = run_well(&graph, way);
            let by_epoch = |epochs: Vec<(tidemill::Epoch, Vec<Row>)>| -> Vec<(u64, Row)> {
                epochs.into_iter().flat_map(|(e, rows)| rows.into_iter().map(move |r| (e.number(), r))).collect()
            };
            assert_same(&by_epoch(tables.rows.by_epoch()), &results, format!("results, {workers} workers"));
            let late_found: Vec<(u64, Record)> = tables.late.by_epoch().into_iter()
                .flat_map(|(e, rows)| rows.into_iter().map(move |r| (e.number(), r))).collect();
            assert_same(&late_found, &late, format!("late, {workers} workers"));
            assert_eq!(summary.late_rows, late.len() as u64);
        }
    }

    #[test]
    fn in_continuous_mode_every_row_is_counted_in_a_window_or_late(
        input in partitions(),
        size in 1u64..20,
        delay in 0u64..40,
        keys in 1i64..5,
    ) {
        for workers in [1, 2, 4] {
            let graph = Graph::new("late");
            let stream = graph
                .source(MemorySource::partitioned(input.clone()))
                .with_watermark(|(t, _)| EventTime::from_micros(*t), Duration::from_micros(delay))
                .boxed();
            let by = Cut::Tumbling(size, 0);
            let tables = cut(stream, &by, keys, false, Said::Append);
            let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_micros(500));
            let summary = run_well(&graph, way);
            let late = tables.late.snapshot();
            assert_eq!(summary.late_rows, late.len() as u64);
            let mut on_time = input.concat();
            for row in &late {
                let place = on_time.iter().position(|r| r == row).expect("a late row is one that was read");
                on_time.swap_remove(place);
            }
            let mut groups = Groups::new();
            on_time.iter().for_each(|r| add(&by, keys, i64::MIN, &mut groups, *r));
            assert_same(&tables.rows.snapshot(), &rows(&by, false, &groups), format!("{workers} workers"));
        }
    }
}

/// What comes out in which epoch, and which rows are late in which.
fn model(
    input: &[Vec<Record>],
    by: &Cut,
    delay: i64,
    keys: i64,
    (shrinking, said): (bool, Said),
    records: usize,
    seen: impl Fn(&Record) -> bool,
) -> (Vec<(u64, Row)>, Vec<(u64, Record)>) {
    // A row at the very end of a session belongs to it: its watermark stays a microsecond behind.
    let delay = if matches!(by, Cut::Session(_) | Cut::SessionBy) { delay + 1 } else { delay };
    let epochs = input.iter().map(|p| p.len().div_ceil(records)).max().unwrap_or(0).max(1);
    let mut greatest: Vec<Option<i64>> = vec![None; input.len()];
    let (mut watermark, mut groups) = (i64::MIN, Groups::new());
    let (mut results, mut late) = (Vec::new(), Vec::new());
    for epoch in 0..epochs {
        let mut least = i64::MAX;
        let mut changed = Groups::new();
        for (partition, greatest) in input.iter().zip(&mut greatest) {
            let range = partition.iter().skip(epoch * records).take(records).filter(|r| seen(r));
            for record in range {
                *greatest = Some(greatest.map_or(record.0, |g| g.max(record.0)));
                let windows = windows_of(by, *record);
                if windows.iter().all(|(_, end)| *end <= watermark) {
                    late.push((epoch as u64, *record));
                    continue;
                }
                add(by, keys, watermark, &mut groups, *record);
                for (start, end) in windows.into_iter().filter(|(_, end)| *end > watermark) {
                    changed.entry((record.1.rem_euclid(keys), start, end)).or_default();
                }
            }
            // It holds the others back until it has ended, also where it has shown nothing.
            if partition.len() > (epoch + 1) * records {
                least = least.min(greatest.map_or(i64::MIN, |greatest| greatest - delay));
            }
        }
        let end = if epoch + 1 == epochs { i64::MAX } else { least.max(watermark) };
        if said == Said::Update {
            let rows = rows(
                by,
                shrinking,
                &groups.clone().into_iter().filter(|(g, _)| changed.contains_key(g)).collect(),
            );
            results.extend(rows.into_iter().map(|row| (epoch as u64, row)));
        }
        let closed: Groups = groups.clone().into_iter().filter(|((_, _, e), _)| *e <= end).collect();
        if said == Said::Append {
            results.extend(rows(by, shrinking, &closed).into_iter().map(|row| (epoch as u64, row)));
        }
        groups.retain(|(_, _, e), _| *e > end);
        watermark = end;
    }
    (results, late)
}
