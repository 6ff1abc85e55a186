//! The process that starts the others, kills them, and looks at what they leave.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemill::Mode;

use crate::child::{Branch, Query, TASK, Task};
use crate::feed::Sender;
use crate::input::{FROM_FILES, FROM_SOCKET, NUMBERS, beyond, counted, event, visible, write_files};
use crate::{incremental, joins, process};

/// How long a child may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a child is to die.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    Never,
    /// At the n-th passing of the point of that name.
    At(String, u64),
    After(Duration),
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    Killed,
}

/// The rows that a query has to leave: in `out`, and in `late`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) rows: Vec<String>,
    pub(crate) late: Vec<String>,
}

/// A query and everything around it, from its first run to its last.
pub(crate) struct World {
    /// None where another world has the place.
    _dir: Option<TempDir>,
    pub(crate) task: Task,
    sender: Option<Sender>,
    /// The points that any run has passed.
    pub(crate) list: PathBuf,
    pub(crate) kills: usize,
    runs: usize,
}

impl World {
    pub(crate) fn new(query: Query) -> World {
        let dir = tempfile::tempdir().unwrap();
        let with_late = matches!(query, Query::Late | Query::Table);
        let files = (0..FROM_FILES).map(|n| event(n, FROM_FILES, with_late));
        let others = (0..FROM_SOCKET).map(move |n| event(n, FROM_SOCKET, with_late));
        let has_numbers = matches!(query, Query::Epochs | Query::Lines);
        if has_numbers {
            write_files(&dir.path().join("in"), 0..NUMBERS, 5_000);
        } else {
            write_files(&dir.path().join("in"), files, 1_000);
        }
        if matches!(query, Query::Process | Query::Joins | Query::Incremental) {
            write_files(&dir.path().join("rules"), process::rules(), 50);
        }
        let sender = if has_numbers {
            None
        } else if with_late {
            write_files(&dir.path().join("more"), others, 1_000);
            None
        } else {
            Some(Sender::of(others))
        };
        let feed = sender.as_ref().map(|sender| sender.address);
        let task = Task {
            query,
            dir: dir.path().to_owned(),
            feed,
            workers: 1,
            max_records_per_epoch: 25,
            mode: Mode::MicroBatch,
            branch: Branch::Origin,
        };
        let list = dir.path().join("points");
        World { _dir: Some(dir), task, sender, list, kills: 0, runs: 0 }
    }

    /// A query that has come from another one, in the same place.
    pub(crate) fn beside(other: &World, branch: Branch) -> World {
        let task = Task { branch, ..other.task.clone() };
        let list = task.dir.join("points-beside");
        World { _dir: None, task, sender: None, list, kills: 0, runs: 0 }
    }

    /// Runs the query once more, with this many workers.
    pub(crate) fn run(&mut self, workers: usize, mode: Mode, death: &Death) -> End {
        self.runs += 1;
        let task = Task { workers, mode, ..self.task.clone() };
        let mut command = child(&task);
        command.env("TIDEMILL_KILL_LIST", &self.list);
        if let Death::At(point, n) = death {
            command.env("TIDEMILL_KILL", format!("{point}:{n}"));
        }
        let errors = self.task.dir.join("errors");
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&errors).unwrap());
        let mut process = command.spawn().unwrap();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            let late = matches!(death, Death::After(time) if begun.elapsed() >= *time);
            if late || begun.elapsed() > PATIENCE {
                process.kill().unwrap();
                let status = process.wait().unwrap();
                assert!(late, "{task:?} hangs, {death:?}, run {}: {}", self.runs, self.keep());
                break status;
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        if let Some(sender) = &self.sender {
            sender.check();
        }
        if status.success() {
            return End::InOrder;
        }
        let said = std::fs::read_to_string(errors).unwrap();
        let was_meant = status.signal() == Some(9) && !matches!(death, Death::Never);
        assert!(was_meant, "{task:?}, {death:?}, run {}: {status}\n{said}", self.runs);
        self.kills += 1;
        End::Killed
    }

    /// What a reader sees now.
    pub(crate) fn results(&self) -> Results {
        let [out, late] = ["out", "late"].map(|name| self.task.branch.output(&self.task, name));
        let (rows, late) = (visible(&out), visible(&late));
        if self.task.query == Query::Joins {
            return Results { rows: joins::without_versions(&rows), late: joins::without_versions(&late) };
        }
        if self.task.query == Query::Incremental {
            return Results { rows: incremental::added_up(&rows), late };
        }
        Results { rows, late }
    }

    /// What a reader sees now is a part of these.
    #[track_caller]
    pub(crate) fn check_part_of(&self, expected: &Results) {
        let found = self.results();
        if self.task.query == Query::Incremental {
            // The table of an earlier moment has other rows.
            return;
        }
        let beyond = (beyond(&found.rows, &expected.rows), beyond(&found.late, &expected.late));
        let is_part = beyond.0.is_empty() && beyond.1.is_empty();
        assert!(is_part, "{}, not expected: {beyond:#?}", self.keep());
    }

    /// What a reader sees now is all of these, each once.
    #[track_caller]
    pub(crate) fn check_all(&self, expected: &Results, what: &str) {
        let found = self.results();
        if found != *expected {
            let more = (beyond(&found.rows, &expected.rows), beyond(&found.late, &expected.late));
            let less = (beyond(&expected.rows, &found.rows), beyond(&expected.late, &found.late));
            panic!("{what}, run {}: {}\nnot expected: {more:#?}\nmissing: {less:#?}", self.runs, self.keep());
        }
        if self.task.query == Query::Joins {
            joins::check_versions(&self.task.dir);
        }
        assert!(self.sender.as_ref().is_none_or(Sender::is_done));
    }

    /// Keeps all files for inspection, and prints where.
    pub(crate) fn keep(&self) -> String {
        let kept = std::env::temp_dir().join(format!("tidemill-kill-{}", std::process::id()));
        let copied = Command::new("cp").arg("-r").arg(&self.task.dir).arg(&kept).status();
        if copied.is_ok_and(|it| it.success()) { format!("see {}", kept.display()) } else { String::new() }
    }

    /// The names of points that this world's runs have passed.
    pub(crate) fn points(&self) -> Vec<String> {
        let list = std::fs::read_to_string(&self.list).unwrap_or_default();
        let mut points: Vec<String> = list.lines().map(str::to_owned).collect();
        points.sort();
        points.dedup();
        points
    }

    /// The lines that were told to a function, in their order.
    pub(crate) fn told(&self) -> Vec<String> {
        let told = std::fs::read_to_string(self.task.dir.join("told")).unwrap();
        told.lines().map(str::to_owned).collect()
    }
}

/// This program as a child with a task.
pub(crate) fn child(task: &Task) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--quiet", "--nocapture"]);
    command.env(TASK, serde_json::to_string(task).unwrap());
    command
}

/// What the query leaves if it is not disturbed, and how long that takes; counted by a plain loop as well, where that
/// can be done.
pub(crate) fn undisturbed(query: Query) -> (Results, Duration) {
    let mut world = World::new(query);
    let begun = Instant::now();
    assert_eq!(world.run(1, Mode::MicroBatch, &Death::Never), End::InOrder);
    let time = begun.elapsed();
    let mut results = world.results();
    if matches!(query, Query::Windows | Query::Updates) {
        let all = (0..FROM_FILES).map(|n| event(n, FROM_FILES, false));
        let counted = counted(all.chain((0..FROM_SOCKET).map(|n| event(n, FROM_SOCKET, false))));
        if query == Query::Windows {
            assert_eq!(results.rows, counted);
        }
        results.rows = counted;
    }
    if query == Query::Process {
        assert_eq!(results.rows, process::expected());
    }
    if query == Query::Joins {
        assert_eq!(results.rows, joins::expected());
    }
    if query == Query::Incremental {
        assert_eq!(results.rows, incremental::expected());
    }
    (results, time)
}
