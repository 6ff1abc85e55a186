//! The process that is killed: this test program again, told by its environment what to run.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidemill::aggregate::{Count, Sum};
use tidemill::prelude::*;

use crate::database::Database;
use crate::feed::Feed;
use crate::input::{DELAY, Event, Row, WINDOW};
use crate::process::weigh;
use crate::{incremental, joins};

/// Which query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Query {
    /// Windows over files and a socket, into a directory. Nothing is late.
    Windows,
    /// Windows over two directories of files, some records late, and these into a directory of their own.
    Late,
    /// Windows over files and a socket; every change is told at once, by a function.
    Updates,
    /// The whole table of keys over two directories of files, into one file that every epoch replaces.
    Table,
    /// Lines of files, written to a database with the number of their epoch in one transaction.
    Epochs,
    /// Lines of files, appended to one file.
    Lines,
    /// A process function with rules by broadcast, over files and a socket, into a directory.
    Process,
    /// An interval join of files and a socket, and a static side that is loaded again and again, into two directories.
    Joins,
    /// Tables with two joins and a top_k over files and a socket, whose changes go into a directory.
    Incremental,
}

/// Which of the queries that have come from one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Branch {
    /// The first one.
    #[default]
    Origin,
    /// One that begins from `savepoint`, with a checkpoint and outputs of its own.
    Fork,
    /// One that has copied the checkpoint to `copy`, with the outputs of the first one.
    Copy,
}

impl Branch {
    fn prefix(self) -> &'static str {
        if self == Branch::Fork { "fork-" } else { "" }
    }

    /// Where the rows, or the late rows, of a task go.
    pub(crate) fn output(self, task: &Task, name: &str) -> PathBuf {
        task.dir.join(format!("{}{name}", self.prefix()))
    }
}

/// What a child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) query: Query,
    /// Where everything is: `in`, `more`, `checkpoint`, `out`, `late`, `told`.
    pub(crate) dir: PathBuf,
    pub(crate) feed: Option<SocketAddr>,
    pub(crate) workers: usize,
    pub(crate) max_records_per_epoch: u64,
    pub(crate) mode: Mode,
    pub(crate) branch: Branch,
}

/// The variable with the task, as JSON.
pub(crate) const TASK: &str = "TIDEMILL_KILL_TASK";

type Events = EventStream<Event>;

fn files(graph: &Graph, dir: &Path, uid: &str) -> Stream<Event> {
    graph.source(json_lines::<Event>(dir.display().to_string()).partitions(3).bounded()).uid(uid).boxed()
}

fn feed(graph: &Graph, address: SocketAddr) -> Stream<Event> {
    graph.source(Feed::from(address).journaled().with_segment_size(4_000)).uid("feed").boxed()
}

fn timed(stream: Stream<Event>) -> Events {
    stream
        .with_watermark(|event| EventTime::from_micros(event.time), Duration::from_micros(DELAY as u64))
        .boxed()
}

fn row(result: WindowResult<u64, (u64, u64)>) -> Row {
    let (count, sum) = result.value;
    Row { start: result.window.start.as_micros(), key: result.key, count, sum }
}

fn numbers(graph: &Graph, task: &Task) -> Stream<u64> {
    let files = json_lines::<u64>(task.dir.join("in").display().to_string());
    // So that a run in continuous mode takes long enough to be killed in.
    let slowly = |number| {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        number
    };
    graph.source(files.partitions(3).bounded()).uid("numbers").map(slowly).boxed()
}

/// The graph of a task.
fn graph(task: &Task) -> Graph {
    let graph = Graph::new("killed");
    match task.query {
        Query::Epochs => {
            let mut database = Database::open(&task.dir.join("rows.db")).unwrap();
            numbers(&graph, task).sink(for_each_epoch(move |rows| database.write(&rows)));
            return graph;
        }
        Query::Lines => {
            numbers(&graph, task).sink(json_lines_sink(task.dir.join("lines.jsonl")));
            return graph;
        }
        Query::Windows
        | Query::Late
        | Query::Updates
        | Query::Table
        | Query::Process
        | Query::Joins
        | Query::Incremental => {}
    }
    let size = tumbling(Duration::from_micros(WINDOW as u64));
    let both = || (Count::new(), Sum::of(|event: &Event| event.value));
    let from_files = files(&graph, &task.dir.join("in"), "files");
    if let (Query::Joins, Some(address)) = (task.query, task.feed) {
        let right = timed(feed(&graph, address));
        let signals = files(&graph, &task.dir.join("rules"), "signals");
        let rows = joins::join(timed(from_files), right, signals, &task.dir);
        let out = task.branch.output(task, "out");
        rows.clone().sink_per_worker(move |_| Ok(json_lines_dir(&out).roll_at(2_000)));
        rows.sink(json_lines_dir(task.branch.output(task, "late")).roll_at(2_000));
        return graph;
    }
    if let (Query::Incremental, Some(address)) = (task.query, task.feed) {
        let rules = files(&graph, &task.dir.join("rules"), "rules");
        let rows = incremental::tables(from_files, feed(&graph, address), rules);
        rows.sink(json_lines_dir(task.branch.output(task, "out")).roll_at(2_000));
        return graph;
    }
    let events = match task.feed {
        // Each with a watermark of its own: then none is late because the other has gone ahead, however the records of
        // both fall into epochs.
        Some(address) => timed(from_files).union(timed(feed(&graph, address))),
        // One for both: what is late depends on the epochs, and these are repeated as they were.
        None => timed(from_files.union(files(&graph, &task.dir.join("more"), "more"))),
    };
    let out = task.branch.output(task, "out");
    if task.query == Query::Table {
        let table = events.key_by(|event| event.key).aggregate(both()).complete();
        let rows = table.map(|(key, (count, sum))| Row { start: 0, key, count, sum });
        rows.sink(json_lines_sink(out.join("table.jsonl")));
        return graph;
    }
    let part = move |_| Ok(json_lines_dir(&out).roll_at(2_000));
    if task.query == Query::Process {
        let rules = timed(files(&graph, &task.dir.join("rules"), "rules"));
        weigh(events, rules).sink_per_worker(part);
        return graph;
    }
    let windows = events.key_by(|event| event.key).window(size);
    match task.query {
        Query::Windows => windows.aggregate(both()).append().map(row).sink_per_worker(part),
        Query::Late => {
            let (results, late) = windows.aggregate(both()).append_with_late();
            results.map(row).sink_per_worker(part);
            late.sink(json_lines_dir(task.branch.output(task, "late")).roll_at(500));
        }
        Query::Table | Query::Epochs | Query::Lines | Query::Process | Query::Joins | Query::Incremental => {}
        Query::Updates => {
            let mut file = without_torn_line(&task.dir.join("told"));
            windows.aggregate(both()).update().map(row).sink(for_each(move |row: Row| {
                let line = serde_json::to_string(&row).unwrap() + "\n";
                file.write_all(line.as_bytes()).unwrap();
            }));
        }
    }
    graph
}

/// Opens a file of lines to append to it. A kill may have cut the last line off where it crosses a page of memory: such a line is
/// removed here, and the restarted query writes its row again.
fn without_torn_line(path: &Path) -> File {
    let mut file = File::options().append(true).read(true).create(true).open(path).unwrap();
    let mut lines = Vec::new();
    file.read_to_end(&mut lines).unwrap();
    let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    file.set_len(whole as u64).unwrap();
    file
}

/// Runs the task of this process, if it has one, and says how it went.
pub(crate) fn run() {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Task = serde_json::from_str(&task).unwrap();
    tidemill::connectors::steps::set_hook(tidemill_runtime::kill::point);
    let checkpoint = match task.branch {
        Branch::Origin => "checkpoint",
        Branch::Fork => "fork-checkpoint",
        Branch::Copy => "copy",
    };
    let mut options = Options::default()
        .with_mode(task.mode)
        .with_workers(task.workers)
        .with_max_records_per_epoch(task.max_records_per_epoch)
        .with_checkpoint_interval(Duration::from_millis(1))
        .with_checkpoint(task.dir.join(checkpoint))
        .without_ctrl_c();
    options.retain = 2;
    if task.branch == Branch::Fork {
        options = options.with_from_savepoint(task.dir.join("savepoint"));
    }
    match graph(&task).run(options) {
        Ok(summary) => {
            let expects_late = task.feed.is_none();
            assert!(expects_late || summary.late_rows == 0, "{} rows were late", summary.late_rows);
        }
        Err(error) => {
            eprintln!("the query failed: {error}");
            std::process::exit(3);
        }
    }
}
