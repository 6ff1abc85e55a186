//! The graphs that are simulated.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::aggregate::{Count, Sum};
use tidemill::connectors::{
    EpochRows, MemorySource, for_each_epoch, json_lines, json_lines_dir, json_lines_sink,
};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Life, Scenario, SimSink, SimSource, World, pause, point};
use tidemill::{Epoch, Journal, Mode, Stream, Summary};

use crate::input::{DELAY, Event, Sums, WINDOW, events, micros, partitions, sessions, time, windows};

/// A row of a window: key, start, count, sum.
pub(crate) type Row = (u8, i64, u64, i64);

pub(crate) fn rows(sums: &Sums) -> Vec<Row> {
    sums.iter().map(|((key, start), (count, sum))| (*key, *start, *count, *sum)).collect()
}

/// Whether what is shown are these rows and no others, once each; or a part of them, before the end.
pub(crate) fn compare<T: Ord + Clone + std::fmt::Debug>(
    shown: &[T],
    wanted: &[T],
    is_last: bool,
) -> Result<(), String> {
    let (mut shown, mut wanted) = (shown.to_vec(), wanted.to_vec());
    shown.sort();
    wanted.sort();
    let mut left = wanted.clone();
    let wrong: Vec<&T> = shown
        .iter()
        .filter(|row| match left.binary_search(row) {
            Ok(at) => {
                left.remove(at);
                false
            }
            Err(_) => true,
        })
        .collect();
    if !wrong.is_empty() {
        return Err(format!(
            "{} rows too many or wrong: {wrong:?}; of the right ones these lack: {left:?}",
            wrong.len()
        ));
    }
    if is_last && !left.is_empty() {
        return Err(format!("{} of {} rows lack: {left:?}", left.len(), wanted.len()));
    }
    Ok(())
}

pub(crate) fn timed(stream: Stream<Event>) -> EventStream<Event> {
    stream.with_watermark(time, DELAY).boxed()
}

/// A row that closes all windows before it.
pub(crate) const LAST: Event = Event { key: 0, time: u32::MAX as i64, value: 0 };

/// Which windows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Tumbling,
    Sliding,
    Sessions,
    Collect,
}

/// Windows over one or two sources, their results and what is late.
pub(crate) struct Windows {
    name: &'static str,
    kind: Kind,
    sources: Vec<SimSource<Event>>,
    is_journaled: bool,
    results: SimSink<Row>,
    late: SimSink<Event>,
    wanted: Vec<Row>,
    /// The bytes that all simulations have spilled.
    spilled: Arc<AtomicU64>,
}

impl Windows {
    fn new(world: &mut World, name: &'static str, kind: Kind, sources: usize) -> Windows {
        let input = (0..sources).map(|_| partitions(world, 120)).collect();
        Windows::over(world, name, kind, input)
    }

    fn over(world: &mut World, name: &'static str, kind: Kind, input: Vec<Vec<Vec<Event>>>) -> Windows {
        let all: Vec<Event> = input.iter().flatten().flatten().copied().collect();
        let wanted = match kind {
            Kind::Tumbling | Kind::Collect => windows(&all, WINDOW, WINDOW),
            Kind::Sliding => windows(&all, WINDOW, WINDOW / 5),
            Kind::Sessions => sessions(&all, 10),
        };
        Windows {
            name,
            kind,
            sources: input.into_iter().map(|partitions| world.source(partitions)).collect(),
            is_journaled: false,
            results: world.sink(),
            late: world.sink(),
            wanted: rows(&wanted),
            spilled: Arc::default(),
        }
    }

    pub(crate) fn sliding(world: &mut World) -> Windows {
        Windows::new(world, "sliding", Kind::Sliding, 1)
    }

    pub(crate) fn sessions(world: &mut World) -> Windows {
        Windows::new(world, "sessions", Kind::Sessions, 1)
    }

    pub(crate) fn union(world: &mut World) -> Windows {
        Windows::new(world, "union", Kind::Tumbling, 2)
    }

    pub(crate) fn journaled(world: &mut World) -> Windows {
        let mut input = partitions(world, 120);
        let wanted = rows(&windows(&input.concat(), WINDOW, WINDOW));
        // A socket ends, and its end closes all windows; or it does not, and a last row in each partition closes them.
        let ends = world.choose(2) == 0;
        if !ends {
            input.iter_mut().for_each(|events| events.push(LAST));
        }
        let windows = Windows::over(world, "journaled", Kind::Tumbling, vec![input]);
        let sources = windows.sources.into_iter().map(SimSource::once);
        let sources = sources.map(|source| if ends { source } else { source.without_end() }).collect();
        Windows { sources, wanted, is_journaled: true, ..windows }
    }

    /// Collected rows in little memory.
    pub(crate) fn collect(world: &mut World, spilled: &Arc<AtomicU64>) -> Windows {
        Windows { spilled: Arc::clone(spilled), ..Windows::new(world, "collect", Kind::Collect, 1) }
    }
}

pub(crate) fn row(result: WindowResult<u8, (u64, i64)>) -> Row {
    (result.key, result.window.start.as_micros(), result.value.0, result.value.1)
}

impl Scenario for Windows {
    fn graph(&self) -> Graph {
        let graph = Graph::new(self.name);
        let streams = self.sources.iter().enumerate().map(|(n, source)| {
            let uid = format!("source-{n}");
            timed(match self.is_journaled {
                true => graph.source(source.clone().journaled()).uid(&uid).boxed(),
                false => graph.source(source.clone()).uid(&uid).boxed(),
            })
        });
        let Some(stream) = streams.reduce(|one, other| one.union(other).boxed()) else { return graph };
        let by_key = |event: &Event| event.key;
        let both = (Count::new(), Sum::of(|event: &Event| event.value));
        let (results, late) = match self.kind {
            Kind::Tumbling => {
                let (results, late) =
                    stream.key_by(by_key).window(tumbling(micros(WINDOW))).aggregate(both).append_with_late();
                (results.map(row).boxed(), late)
            }
            Kind::Sliding => {
                let window = sliding(micros(WINDOW), micros(WINDOW / 5));
                let (results, late) = stream.key_by(by_key).window(window).aggregate(both).append_with_late();
                (results.map(row).boxed(), late)
            }
            Kind::Sessions => {
                let (results, late) =
                    stream.key_by(by_key).window(session(micros(10))).aggregate(both).append_with_late();
                (results.map(row).boxed(), late)
            }
            Kind::Collect => {
                // Wide, so that little memory does not hold them.
                let wide = stream.map(|event| (event, "x".repeat(4_000))).key_by(|(event, _)| event.key);
                let (results, late) = wide.window(tumbling(micros(WINDOW))).collect().append_with_late();
                let row = |result: WindowResult<u8, Vec<(Event, String)>>| {
                    let sum = result.value.iter().map(|(event, _)| event.value).sum();
                    (result.key, result.window.start.as_micros(), result.value.len() as u64, sum)
                };
                let late = late.map(|(event, _)| event).boxed();
                (results.map(row).boxed(), late)
            }
        };
        results.sink(self.results.clone());
        late.sink(self.late.clone());
        graph
    }

    fn options(&self, options: Options) -> Options {
        match self.kind {
            // As little as there can be.
            Kind::Collect => {
                let memory = (64 << 10) * options.workers as u64;
                options.with_state_memory(memory)
            }
            _ => options,
        }
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        let spilled = summary.map_or(0, |summary| summary.last.spilled);
        self.spilled.fetch_add(spilled, Ordering::Relaxed);
        check(&self.results, &self.late, &self.wanted, summary, is_last)
    }
}

pub(crate) fn check(
    results: &SimSink<Row>,
    late: &SimSink<Event>,
    wanted: &[Row],
    summary: Option<&Summary>,
    is_last: bool,
) -> Result<(), Breach> {
    let late = late.shown();
    if !late.is_empty() || summary.is_some_and(|summary| summary.late_rows > 0) {
        return Err(Breach::new("in time", format!("rows in time are late: {late:?}, {summary:?}")));
    }
    Ok(compare(&results.shown(), wanted, is_last)?)
}

/// Partitions in order, each at a pace of its own, that are there from the beginning: epochs are read ahead, workers are far
/// apart, and where a partition is forgotten its rows are late.
pub(crate) struct Paces {
    partitions: Vec<Vec<i64>>,
    /// How many operators are between source and watermark.
    steps: u64,
    results: SimSink<(i64, u64)>,
}

impl Paces {
    pub(crate) fn new(world: &mut World) -> Paces {
        let paces = (1..=3).map(|pace| (0..120 / pace).map(|n| n * pace).collect());
        let partitions = paces.chain([vec![]]).collect();
        Paces { partitions, steps: [0, 8][world.choose(2) as usize], results: world.sink() }
    }
}

impl Scenario for Paces {
    fn graph(&self) -> Graph {
        let graph = Graph::new("paces");
        let source = graph.source(MemorySource::partitioned(self.partitions.clone())).boxed();
        (0..self.steps)
            .fold(source, |stream, _| stream.map(|time| time).boxed())
            .with_watermark(|time| EventTime::from_micros(*time), Duration::ZERO)
            .window(tumbling(micros(10)))
            .count()
            .append()
            .map(|result| (result.window.start.as_micros(), result.value))
            .sink(self.results.clone());
        graph
    }

    fn options(&self, options: Options) -> Options {
        options.with_max_records_per_epoch(20).with_max_in_flight(4)
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in order are late: {summary:?}")));
        }
        let in_window = |start: i64| move |time: &&i64| (start..start + 10).contains(*time);
        let rows = |start: i64| self.partitions.iter().flatten().filter(in_window(start)).count() as u64;
        let wanted: Vec<_> = (0..12).map(|n| (n * 10, rows(n * 10))).collect();
        Ok(compare(&self.results.shown(), &wanted, is_last)?)
    }
}

/// Windows over files that appear while the query runs.
pub(crate) struct Files {
    directory: PathBuf,
    partitions: u32,
    results: SimSink<Row>,
    late: SimSink<Event>,
    wanted: Vec<Row>,
}

impl Files {
    pub(crate) fn new(world: &mut World) -> Files {
        let directory = world.outside();
        let input = events(world, 200);
        let mut rest = input.as_slice();
        let mut files = Vec::new();
        while !rest.is_empty() {
            let (first, others) = rest.split_at((1 + world.choose(20) as usize).min(rest.len()));
            let wait =
                Duration::from_micros(if world.choose(2) == 0 { 100_000 } else { world.choose(3_000) });
            let lines = first.iter().map(|event| serde_json::to_string(event).unwrap() + "\n");
            files.push((wait, lines.collect::<String>()));
            rest = others;
        }
        // What closes all windows, in one that is never closed.
        files.push((Duration::from_millis(1), serde_json::to_string(&LAST).unwrap() + "\n"));
        let into = directory.clone();
        world.beside("files", move || {
            for (n, (wait, lines)) in files.into_iter().enumerate() {
                pause(wait);
                let hidden = into.join(format!(".{n}"));
                std::fs::write(&hidden, lines).unwrap();
                std::fs::rename(hidden, into.join(format!("{n:05}.json"))).unwrap();
            }
        });
        Files {
            directory,
            partitions: 1 + world.choose(4) as u32,
            results: world.sink(),
            late: world.sink(),
            wanted: rows(&windows(&input, WINDOW, WINDOW)),
        }
    }
}

impl Scenario for Files {
    fn graph(&self) -> Graph {
        let graph = Graph::new("files");
        let source = json_lines::<Event>(self.directory.display().to_string()).partitions(self.partitions);
        let both = (Count::new(), Sum::of(|event: &Event| event.value));
        let (results, late) = timed(graph.source(source).uid("files").boxed())
            .key_by(|event| event.key)
            .window(tumbling(micros(WINDOW)))
            .aggregate(both)
            .append_with_late();
        results.map(row).sink(self.results.clone());
        late.sink(self.late.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        check(&self.results, &self.late, &self.wanted, summary, is_last)
    }
}

/// A database whose transactions hold the rows of an epoch and its number.
#[derive(Default)]
struct Database {
    done: BTreeSet<Epoch>,
    rows: Vec<Event>,
    /// How many of these earlier runs have given.
    before: usize,
    /// The rows of epochs that are known to be committed: none of them may come again.
    committed: BTreeSet<Event>,
}

impl Database {
    fn transaction(&mut self, rows: EpochRows<Event>) -> Result<(), Breach> {
        if !self.done.insert(rows.epoch) && rows.repeatable {
            return Ok(());
        }
        let again: Vec<&Event> = rows.rows.iter().filter(|row| self.committed.contains(row)).collect();
        let epoch = rows.epoch.number();
        let committed_again = || format!("rows that are committed come again in epoch {epoch}: {again:?}");
        let checked = if again.is_empty() { Ok(()) } else { Err(Breach::new("once", committed_again())) };
        self.rows.extend(rows.rows);
        checked
    }
}

/// Rows into a database and into a directory of files.
pub(crate) struct TwoSinks {
    source: SimSource<Event>,
    life: Life,
    database: Arc<Mutex<Database>>,
    directory: PathBuf,
    /// Whether each epoch has files of its own.
    rolls: bool,
    wanted: Vec<Event>,
    mode: Cell<Mode>,
    has_failed: Cell<bool>,
    /// Whether rows may have come twice to the database.
    may_repeat: Cell<bool>,
}

impl TwoSinks {
    pub(crate) fn new(world: &mut World) -> TwoSinks {
        let input = partitions(world, 120);
        TwoSinks {
            wanted: input.iter().flatten().copied().collect(),
            source: world.source(input),
            life: world.life(),
            database: Arc::default(),
            directory: world.directory().join("rows"),
            rolls: world.choose(2) == 0,
            mode: Cell::new(Mode::MicroBatch),
            has_failed: Cell::new(false),
            may_repeat: Cell::new(false),
        }
    }

    fn in_files(&self) -> Result<Vec<Event>, String> {
        let mut rows = Vec::new();
        let Ok(files) = std::fs::read_dir(&self.directory) else { return Ok(rows) };
        for file in files {
            let file = file.unwrap();
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with(['.', '_']) || !file.file_type().unwrap().is_file() {
                continue;
            }
            for line in std::fs::read_to_string(file.path()).unwrap().lines() {
                rows.push(serde_json::from_str(line).map_err(|error| format!("{name}: {error}: {line}"))?);
            }
        }
        Ok(rows)
    }
}

impl Scenario for TwoSinks {
    fn graph(&self) -> Graph {
        let graph = Graph::new("two sinks");
        let events = graph.source(self.source.clone()).uid("events").boxed();
        let (database, life) = (Arc::clone(&self.database), self.life.clone());
        events.clone().sink(for_each_epoch(move |rows: EpochRows<Event>| {
            point("transaction");
            if !life.is_alive() {
                return Err("the process is dead");
            }
            let done = database.lock().unwrap().transaction(rows);
            done.unwrap_or_else(|breach| life.violated(breach));
            point("transaction");
            Ok(())
        }));
        let (directory, rolls) = (self.directory.clone(), self.rolls);
        events.sink_per_worker(move |_| {
            let sink = json_lines_dir(&directory);
            Ok(if rolls { sink.roll_every_epoch() } else { sink })
        });
        graph
    }

    fn options(&self, options: Options) -> Options {
        // What a failed run has given and not committed comes again: with the same number and rows only in micro-batch.
        if self.has_failed.get() && [self.mode.get(), options.mode].contains(&Mode::Continuous) {
            self.may_repeat.set(true);
        }
        self.mode.set(options.mode);
        options
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        self.has_failed.set(summary.is_none());
        let files = self.in_files()?;
        let mut rows = {
            let mut database = self.database.lock().unwrap();
            // A row in a finished file is committed; so is all that a run has given that ended in order. What a failed run
            // had given need not be: the next one may have stopped before it came again.
            database.committed.extend(&files);
            let given = database.rows.get(database.before..).unwrap_or_default().to_vec();
            database.before = database.rows.len();
            if summary.is_some() {
                database.committed.extend(given);
            }
            database.rows.clone()
        };
        if self.may_repeat.get() {
            rows.sort();
            rows.dedup();
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        compare(&rows, &self.wanted, is_last).map_err(named("database"))?;
        compare(&files, &self.wanted, is_last).map_err(named("files"))
    }
}

/// A reader of a table in a file, which must find it whole at any time.
#[derive(Clone)]
struct TableReader {
    path: PathBuf,
    life: Life,
    /// The run in which it last found rows.
    found: Arc<Mutex<Option<u64>>>,
}

type Table = Vec<(u8, (u64, i64))>;

impl TableReader {
    fn read(&self) -> Result<Table, Breach> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(Breach::new("whole table", format!("the table is torn: {text}")));
        }
        let table: Result<Table, _> = text.lines().map(serde_json::from_str).collect();
        let torn = |error| Breach::new("whole table", format!("the table is torn: {error}: {text}"));
        let mut table = table.map_err(torn)?;
        table.sort();
        Ok(table)
    }

    /// Reads while a query runs. A crash of the machine may undo what a run has shown and not committed.
    fn read_in_run(&self) -> Result<(), Breach> {
        let table = self.read()?;
        let (mut found, run) = (self.found.lock().unwrap(), Some(self.life.run()));
        if table.is_empty() && *found == run {
            return Err(Breach::new("whole table", "the table is empty, and had rows before"));
        }
        if !table.is_empty() {
            *found = run;
        }
        Ok(())
    }

    /// Reads again and again, while a query runs.
    fn read_on(&self) {
        for _ in 0..100 {
            pause(micros(300));
            if self.life.is_alive()
                && let Err(what) = self.read_in_run()
            {
                self.life.violated(what);
            }
        }
    }
}

/// A running aggregate: each change, and the whole table in a file.
pub(crate) struct Running {
    source: SimSource<Event>,
    changes: SimSink<(u8, (u64, i64))>,
    table: TableReader,
    wanted: Vec<(u8, (u64, i64))>,
}

impl Running {
    pub(crate) fn new(world: &mut World) -> Running {
        let input = partitions(world, 120);
        let all: Vec<Event> = input.iter().flatten().copied().collect();
        let sums = windows(&all.iter().map(|event| Event { time: 0, ..*event }).collect::<Vec<_>>(), 1, 1);
        let path = world.directory().join("table.json");
        let table = TableReader { path, life: world.life(), found: Arc::default() };
        let reader = table.clone();
        world.beside("reader", move || reader.read_on());
        Running {
            source: world.source(input),
            changes: world.sink(),
            table,
            wanted: sums.into_iter().map(|((key, _), both)| (key, both)).collect(),
        }
    }
}

impl Scenario for Running {
    fn graph(&self) -> Graph {
        let graph = Graph::new("running");
        let both = || (Count::new(), Sum::of(|event: &Event| event.value));
        let events = graph.source(self.source.clone()).uid("events").boxed();
        events.clone().key_by(|event| event.key).aggregate(both()).update().sink(self.changes.clone());
        let table = events.key_by(|event| event.key).aggregate(both()).complete();
        table.sink(json_lines_sink(&self.table.path));
        graph
    }

    fn check(&self, _: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        let mut last = std::collections::BTreeMap::new();
        for (key, both) in self.changes.shown() {
            if last.insert(key, both).is_some_and(|before: (u64, i64)| before.0 >= both.0) {
                return Err(Breach::new("changes", format!("key {key} was counted down to {both:?}")));
            }
        }
        let last: Vec<_> = last.into_iter().collect();
        if is_last && last != self.wanted {
            let what = format!("the changes end with {last:?} instead of {:?}", self.wanted);
            return Err(Breach::new("changes", what));
        }
        let table = self.table.read()?;
        if is_last && table != self.wanted {
            let what = format!("the table is {table:?} instead of {:?}", self.wanted);
            return Err(Breach::new("last table", what));
        }
        Ok(())
    }
}
