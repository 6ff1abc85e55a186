//! Drives sinks as the engine does, and crashes: at every step that a sink makes on a disk, and between any two calls.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use tidemill_operators::{Committed, Epoch, Prepared, QueryIdentity, RowKind, Sink, SinkContext};

use crate::steps;

/// An epoch has this many rows, numbered on from those of the epoch before.
pub(super) const ROWS: u64 = 5;

type Record = (Epoch, Vec<Prepared>);

thread_local! {
    /// How many steps are left before the crash.
    static FUSE: Cell<Option<usize>> = const { Cell::new(None) };
    /// What is looked at after every step.
    static WATCH: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
    /// The checkpoint: what has been recorded as committed.
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

struct Crash;

fn step(_name: &'static str) {
    WATCH.with_borrow(|watch| watch.iter().for_each(|watch| watch()));
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            // No message, and no abort of what is under way: as if the power had gone.
            resume_unwind(Box::new(Crash));
        }
        left => FUSE.set(left.map(|left| left - 1)),
    }
}

/// How far epochs overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// An epoch commits before the next is written.
    None,
    /// Two are prepared, then each is recorded and committed in turn.
    Prepared,
    /// Two are prepared and recorded before the first of them commits.
    Recorded,
}

/// What is driven, and how.
pub(super) struct Drive<S, V> {
    pub(super) make: Box<dyn Fn(usize) -> S>,
    /// The rows that a reader sees now, in the order of their names.
    pub(super) visible: V,
    pub(super) epochs: u64,
    pub(super) overlap: Overlap,
    /// Whether a run that ends early is told so.
    pub(super) abort: bool,
    pub(super) immediate: bool,
    /// Whether each epoch's rows are added to those before, or replace them.
    pub(super) mode: RowKind,
}

/// The identity of the query with that id in its run of that number, from 1.
pub(super) fn identity(id: &str, execution: u64) -> Arc<QueryIdentity> {
    let runs = (1..=execution).map(|execution| (execution, format!("run {execution}")));
    Arc::new(QueryIdentity::new(id, runs.collect()))
}

impl<S: Sink<u64>, V: Fn() -> Vec<u64> + Clone + 'static> Drive<S, V> {
    pub(super) fn new(make: impl Fn(usize) -> S + 'static, visible: V) -> Self {
        let overlap = Overlap::None;
        let mode = RowKind::Insert;
        Drive { make: Box::new(make), visible, epochs: 4, overlap, abort: false, immediate: false, mode }
    }

    /// A checkpoint without an epoch; from here on a reader looks after every step and must see committed rows only,
    /// each once.
    pub(super) fn begin(&self, watched: bool) {
        steps::set_hook(step);
        RECORD.set(None);
        let visible = self.visible.clone();
        let watch = move || {
            let rows = visible();
            let committed =
                RECORD.with_borrow(|record| record.as_ref().map_or(0, |(epoch, _)| epoch.number() + 1));
            let unique: BTreeSet<_> = rows.iter().copied().collect();
            assert_eq!(unique.len(), rows.len(), "a row is there twice: {rows:?}");
            assert!(rows.iter().all(|row| *row < committed * ROWS), "epochs before {committed}: {rows:?}");
        };
        WATCH.set(watched.then(|| Box::new(watch) as Box<dyn Fn()>));
    }

    /// Runs from the checkpoint, up to the end or until this many steps have been made; true if to the end.
    pub(super) fn run(&self, execution: u64, workers: usize, fuse: Option<usize>) -> bool {
        let mut sinks: Vec<S> = (0..workers).map(|worker| (self.make)(worker)).collect();
        FUSE.set(fuse);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.drive(&mut sinks, execution)));
        FUSE.set(None);
        match outcome {
            Ok(()) => true,
            Err(payload) if payload.is::<Crash>() => {
                if self.abort {
                    sinks.iter_mut().for_each(Sink::abort);
                }
                false
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    fn drive(&self, sinks: &mut [S], execution: u64) {
        let workers = sinks.len();
        let record = RECORD.with_borrow(Clone::clone);
        for (worker, sink) in sinks.iter_mut().enumerate() {
            let mut context = SinkContext::new("crash", self.mode, self.immediate);
            context.committed = record.as_ref().map(|(epoch, _)| *epoch);
            let context = context.identified(identity("crash", execution + 1)).of_sink("sink", 1);
            let opened = sink.open(&context.on_worker(worker, workers).durable(execution + 1));
            opened.unwrap();
            step("opened");
        }
        for (worker, sink) in sinks.iter_mut().enumerate() {
            let committed = record
                .as_ref()
                .map(|(epoch, prepared)| Committed::of_instances(*epoch, prepared, worker, workers));
            sink.recover(committed).unwrap();
            step("recovered");
        }
        let mut next = record.map_or(0, |(epoch, _)| epoch.number() + 1);
        while next < self.epochs {
            let group = next..(next + 1 + u64::from(self.overlap != Overlap::None)).min(self.epochs);
            next = group.end;
            let prepared: Vec<_> = group.clone().map(|epoch| self.write(sinks, Epoch::new(epoch))).collect();
            let mut uncommitted = Vec::new();
            for (epoch, prepared) in group.clone().zip(prepared) {
                RECORD.set(Some((Epoch::new(epoch), prepared)));
                step("recorded");
                uncommitted.push(epoch);
                if self.overlap == Overlap::Recorded && epoch + 1 < next {
                    continue;
                }
                for epoch in uncommitted.drain(..) {
                    for sink in sinks.iter_mut() {
                        sink.commit(Epoch::new(epoch)).unwrap();
                        step("committed");
                    }
                }
            }
        }
        for sink in sinks.iter_mut() {
            sink.close().unwrap();
            step("closed");
        }
    }

    fn write(&self, sinks: &mut [S], epoch: Epoch) -> Vec<Prepared> {
        let workers = sinks.len();
        for row in epoch.number() * ROWS..(epoch.number() + 1) * ROWS {
            sinks[row as usize % workers].write(epoch, &mut vec![row]).unwrap();
            step("written");
        }
        let prepare = |sink: &mut S| {
            let prepared = sink.prepare(epoch).unwrap();
            step("prepared");
            prepared
        };
        sinks.iter_mut().map(prepare).collect()
    }

    /// Crashes after each step in turn, and resumes with `then` workers; `between` is done in between.
    pub(super) fn crash_after_each_step(
        &self,
        first: usize,
        then: usize,
        begin: impl Fn(),
        between: impl Fn(),
    ) {
        let mut step = 0;
        loop {
            begin();
            let over = self.run(0, first, Some(step));
            between();
            // A run that has ended in order is followed by one that has nothing to do.
            assert!(self.run(1, then, None));
            let mut rows = (self.visible)();
            if (first, then) != (1, 1) {
                rows.sort_unstable();
            }
            let from = if self.mode == RowKind::Snapshot { (self.epochs - 1) * ROWS } else { 0 };
            assert_eq!(rows, (from..self.epochs * ROWS).collect::<Vec<_>>(), "after a crash in step {step}");
            if over {
                assert!(step > 10);
                return;
            }
            step += 1;
        }
    }
}

/// A directory in memory, where there is one: nothing here is about the disk's own speed.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The files in a directory whose names begin with a dot, or those whose names do not, by name.
pub(super) fn files(dir: &Path, hidden: bool) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with('.') == hidden).collect();
    names.sort_unstable();
    names.iter().map(|name| dir.join(name)).collect()
}

/// The files in a directory that are under way.
pub(super) fn pending(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = files(dir, true);
    files.retain(|path| path.extension().is_some_and(|ending| ending == "pending"));
    files
}

/// The numbers on the lines of the files that a reader sees.
pub(super) fn numbers(dir: &Path) -> Vec<u64> {
    let text: String = files(dir, false).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Empties a directory.
pub(super) fn empty(dir: &Path) {
    for path in files(dir, true).into_iter().chain(files(dir, false)) {
        std::fs::remove_file(path).unwrap();
    }
}
