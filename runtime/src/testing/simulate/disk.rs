//! The disk of a simulation: files of sources, sinks, spilled state and the checkpoint.
//!
//! They lie in a directory of the machine, in memory where it has one for that. What the engine does with them goes through
//! [`files`](tidemill_operators::files) and comes here, where another thread may have its turn, time passes, and the plan
//! of the run decides what fails. When the process dies, the directory is copied, and the next run finds the copy; when the
//! machine crashes, the copy is what the [`Journal`] says is left.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::files::{Call, Perform};
use tidemill_operators::turn;

use super::journal::{Journal, Loss};
use super::plan::{End, Fault, Run};
use super::world::{Shared, lock};
use crate::sim::{self, Random};

pub(super) struct Disk {
    shared: Arc<Shared>,
    root: PathBuf,
    /// What the process writes to, and what a crash touches.
    inside: PathBuf,
    /// What `inside` held when the process died.
    kept: PathBuf,
    state: Mutex<State>,
}

struct State {
    journal: Journal,
    random: Random,
    /// How long a call takes at most.
    slow: Duration,
    calls: u64,
    fault: Option<(u64, Fault)>,
    is_full: bool,
    failed: Option<Failed>,
    /// Whether the process has ended: what its last threads still try has no effect.
    is_over: bool,
}

/// A call that has failed as it was told to.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) what: String,
    /// Whether the run must fail for that.
    pub(super) matters: bool,
}

/// How a call is handled.
enum Fate {
    Happens,
    HappensAndFails,
    Fails,
    Full,
}

impl Disk {
    pub(super) fn new(shared: &Arc<Shared>) -> io::Result<Arc<Disk>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = base.join(format!("tidemill-simulation-{}-{number}", std::process::id()));
        let state = State {
            journal: Journal::default(),
            random: Random::new(0),
            slow: Duration::ZERO,
            calls: 0,
            fault: None,
            is_full: false,
            failed: None,
            is_over: false,
        };
        let (inside, kept) = (root.join("disk"), root.join("kept"));
        let shared = Arc::clone(shared);
        let disk = Disk { shared, root, inside, kept, state: Mutex::new(state) };
        fs::create_dir_all(disk.outputs())?;
        fs::create_dir_all(disk.inputs())?;
        fs::create_dir_all(disk.spill())?;
        Ok(Arc::new(disk))
    }

    /// The directory of the query's outputs.
    pub(super) fn outputs(&self) -> PathBuf {
        self.inside.join("query")
    }

    /// The directory of the checkpoint.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.inside.join("checkpoint")
    }

    /// The directory of the query's inputs, which others write.
    pub(super) fn inputs(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// The directory of spilled state.
    pub(super) fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }

    pub(super) fn begin_run(&self, run: &Run) {
        let mut state = lock(&self.state);
        (state.random, state.slow, state.calls) = (Random::new(run.seed), run.slow, 0);
        state.fault = if let End::Disk(at, fault) = run.end { Some((at, fault)) } else { None };
        (state.is_full, state.failed, state.is_over) = (false, None, false);
    }

    /// The process of the run ends. Returns the call that has failed, if one has.
    pub(super) fn end_run(&self) -> Option<Failed> {
        let mut state = lock(&self.state);
        state.is_over = true;
        state.failed.take()
    }

    /// Keeps what the process leaves that dies now, or what the machine does that crashes now.
    pub(super) fn keep(&self, power: Option<Loss>) -> io::Result<()> {
        copy(&self.inside, &self.kept)?;
        let Some(loss) = power else { return Ok(()) };
        let State { journal, random, .. } = &mut *lock(&self.state);
        journal.crash(loss, random).apply(&self.inside, &self.kept)
    }

    /// Goes back to what was kept, if anything was.
    pub(super) fn restore(&self) -> io::Result<()> {
        if self.kept.exists() {
            let mut state = lock(&self.state);
            let paths = state.journal.paths();
            fs::remove_dir_all(&self.inside)?;
            fs::rename(&self.kept, &self.inside)?;
            state.journal.moved(&paths);
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What stays is in a place for temporary files.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        entries.insert(entry.file_name(), entry.file_type()?);
    }
    for (name, kind) in entries {
        match kind.is_dir() {
            true => copy(&from.join(&name), &to.join(&name))?,
            false => drop(fs::copy(from.join(&name), to.join(&name))?),
        }
    }
    Ok(())
}

/// The name of the point at a call, its path, and whether the run must fail if the call does.
fn describe<'a>(call: Call<'a>) -> (&'static str, &'a Path, bool) {
    match call {
        Call::Read(path) => ("disk.read", path, false),
        Call::Create(path) => ("disk.create", path, true),
        Call::MakeDir(path) => ("disk.make_dir", path, true),
        Call::Write { path, .. } => ("disk.write", path, true),
        Call::SetLength { path, .. } => ("disk.set_length", path, true),
        Call::Sync { path, .. } => ("disk.sync", path, true),
        Call::SyncDir(path) => ("disk.sync_dir", path, true),
        Call::Rename { from, .. } => ("disk.rename", from, true),
        // What cannot be removed is removed by a later run.
        Call::Remove(path) => ("disk.remove", path, false),
    }
}

impl State {
    fn fate(&mut self, call: Call<'_>) -> Fate {
        self.calls += 1;
        let grows = matches!(call, Call::Write { .. } | Call::Create(_) | Call::MakeDir(_));
        let fate = match self.fault {
            _ if self.is_full && grows => Fate::Fails,
            Some((at, Fault::Full)) if at <= self.calls && grows => Fate::Full,
            Some((at, Fault::Fails)) if at == self.calls => Fate::Fails,
            Some((at, Fault::FailsLate)) if at == self.calls => Fate::HappensAndFails,
            _ => return Fate::Happens,
        };
        self.is_full |= matches!(fate, Fate::Full);
        let (what, path, matters) = describe(call);
        let matters = matters && !sim::is_tolerant();
        self.failed.get_or_insert_with(|| Failed { what: format!("{what} of {}", path.display()), matters });
        fate
    }

    /// Makes a call, and notes it.
    fn make(&mut self, call: Call<'_>, perform: Perform<'_>) -> io::Result<()> {
        let journal = &mut self.journal;
        match call {
            Call::Read(_) => perform(call),
            Call::Create(path) => {
                let is_new = !path.exists();
                perform(call)?;
                if is_new {
                    return journal.created(path);
                }
                journal.meet(path);
                Ok(())
            }
            Call::MakeDir(path) => perform(call).and_then(|()| journal.created(path)),
            Call::Write { file, path, bytes, at } => {
                journal.meet(path);
                perform(call)?;
                journal.wrote(file, path, bytes, at)
            }
            Call::SetLength { file, path, length } => {
                journal.meet(path);
                perform(call)?;
                journal.resized(file, path, length)
            }
            Call::Sync { file, path } => perform(call).and_then(|()| journal.synced(file, path)),
            Call::SyncDir(path) => perform(call).map(|()| journal.synced_dir(path)),
            Call::Rename { from, to } => {
                journal.meet(from);
                journal.meet(to);
                perform(call)?;
                journal.renamed(from, to)
            }
            Call::Remove(path) => {
                journal.meet(path);
                perform(call).map(|()| journal.removed(path))
            }
        }
    }
}

impl sim::Disk for Disk {
    fn call(&self, call: Call<'_>, perform: Perform<'_>) -> io::Result<()> {
        let (point, path, _) = describe(call);
        let most = lock(&self.state).slow;
        if !most.is_zero() {
            let takes = lock(&self.state).random.below(most.as_micros() as u64);
            sim::sleep(Duration::from_micros(takes));
        }
        turn::point(point);
        if self.shared.is_dead() || lock(&self.state).is_over {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the simulated process is dead"));
        }
        let mut state = lock(&self.state);
        let mut make = |state: &mut State, call| match path.starts_with(&self.inside) && cfg!(unix) {
            true => state.make(call, perform),
            false => perform(call),
        };
        let failure = || io::Error::other("the simulated disk has an error");
        match state.fate(call) {
            Fate::Happens => make(&mut state, call),
            Fate::HappensAndFails => match make(&mut state, call) {
                Ok(()) => Err(failure()),
                Err(error) => {
                    // Its own failure is what the caller sees.
                    state.failed = None;
                    Err(error)
                }
            },
            Fate::Fails if state.is_full => Err(io::ErrorKind::StorageFull.into()),
            Fate::Fails => Err(failure()),
            Fate::Full => {
                if let Call::Write { file, path, bytes, at } = call {
                    let part = state.random.below(bytes.len() as u64) as usize;
                    let bytes = bytes.get(..part).unwrap_or_default();
                    make(&mut state, Call::Write { file, path, bytes, at })?;
                }
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }
}
