//! The disk of the checkpoint: in memory, slow, and it breaks as the plan says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::turn;

use super::plan::{End, Fault};
use super::world::{Shared, lock};
use crate::checkpoint::{CheckpointError, Lock, Log, Owner, Storage};
use crate::sim::{self, Random};

/// What is on the disk; it outlives all runs.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

/// The disk as one run of the query has it.
#[derive(Clone)]
pub(super) struct SimStorage {
    disk: Disk,
    shared: Arc<Shared>,
    run: u64,
    state: Arc<Mutex<State>>,
    slow: Duration,
}

struct State {
    random: Random,
    changes: u64,
    fault: Option<(u64, Fault)>,
    is_full: bool,
    has_failed: bool,
    owner: Option<Owner>,
}

/// What becomes of a change.
enum Fate {
    Happens,
    HappensAndFails,
    Half,
    Fails,
}

impl SimStorage {
    pub(super) fn new(disk: &Disk, shared: &Arc<Shared>, end: End, slow: Duration, seed: u64) -> SimStorage {
        let fault = if let End::Storage(at, fault) = end { Some((at, fault)) } else { None };
        let random = Random::new(seed);
        let state = State { random, changes: 0, fault, is_full: false, has_failed: false, owner: None };
        SimStorage {
            disk: disk.clone(),
            run: shared.run(),
            shared: Arc::clone(shared),
            state: Arc::new(Mutex::new(state)),
            slow,
        }
    }

    /// Whether it has failed as it was told to.
    pub(super) fn has_failed(&self) -> bool {
        lock(&self.state).has_failed
    }

    /// Another thread may do something, and time passes.
    fn wait(&self, point: &'static str) -> Result<(), CheckpointError> {
        if !self.slow.is_zero() {
            let most = self.slow.as_micros() as u64;
            let takes = lock(&self.state).random.below(most);
            sim::sleep(Duration::from_micros(takes));
        }
        turn::point(point);
        self.check("used")
    }

    fn check(&self, what: &str) -> Result<(), CheckpointError> {
        if self.shared.is_alive(self.run) { Ok(()) } else { Err(failed(what, io::ErrorKind::BrokenPipe)) }
    }

    fn fate(&self) -> Fate {
        let mut state = lock(&self.state);
        state.changes += 1;
        if state.is_full {
            return Fate::Fails;
        }
        let Some((_, fault)) = state.fault.filter(|(at, _)| *at == state.changes) else {
            return Fate::Happens;
        };
        state.has_failed = true;
        match fault {
            Fault::Fails => Fate::Fails,
            Fault::FailsLate => Fate::HappensAndFails,
            Fault::Full => {
                state.is_full = true;
                Fate::Half
            }
        }
    }

    /// Makes a change, between two points at which the process may die.
    fn change(
        &self,
        what: &'static str,
        whole: impl FnOnce(&mut BTreeMap<String, Vec<u8>>),
        half: impl FnOnce(&mut BTreeMap<String, Vec<u8>>),
    ) -> Result<(), CheckpointError> {
        self.wait(what)?;
        let fate = self.fate();
        match fate {
            Fate::Happens | Fate::HappensAndFails => whole(&mut lock(&self.disk.0)),
            Fate::Half => half(&mut lock(&self.disk.0)),
            Fate::Fails => {}
        }
        self.wait(what)?;
        if matches!(fate, Fate::Happens) { Ok(()) } else { Err(failed(what, io::ErrorKind::StorageFull)) }
    }
}

fn failed(what: &str, kind: io::ErrorKind) -> CheckpointError {
    CheckpointError::Io { what: format!("the simulated disk: {what}"), error: kind.into() }
}

impl Storage for SimStorage {
    fn describe(&self) -> String {
        "a simulated disk".to_owned()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let put = |files: &mut BTreeMap<_, _>| drop(files.insert(name.to_owned(), bytes.to_vec()));
        self.change("storage.put", put, |_| {})
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.wait("storage.get")?;
        Ok(lock(&self.disk.0).get(name).cloned())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        self.wait("storage.list")?;
        Ok(lock(&self.disk.0).keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        self.change("storage.delete", |files| drop(files.remove(name)), |_| {})
    }

    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        self.wait("storage.log")?;
        lock(&self.disk.0).entry(name.to_owned()).or_default();
        Ok(Box::new(SimLog { storage: self.clone(), name: name.to_owned() }))
    }

    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        self.wait("storage.lock")?;
        let mut state = lock(&self.state);
        if let Some(owner) = state.owner.clone() {
            return Err(CheckpointError::Locked { storage: self.describe(), owner });
        }
        state.owner = Some(owner.clone());
        Ok(Box::new(SimLock(self.clone())))
    }
}

struct SimLog {
    storage: SimStorage,
    name: String,
}

impl Log for SimLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let part = lock(&self.storage.state).random.below(bytes.len() as u64) as usize;
        let append = |files: &mut BTreeMap<String, Vec<u8>>, bytes: &[u8]| {
            files.entry(self.name.clone()).or_default().extend_from_slice(bytes);
        };
        let first = bytes.get(..part).unwrap_or_default();
        // In two pieces, so that a crash may leave a first part of it.
        let rest = bytes.get(part..).unwrap_or_default();
        self.storage.wait("storage.append")?;
        if matches!(lock(&self.storage.state).fault, None | Some((_, Fault::FailsLate))) {
            append(&mut lock(&self.storage.disk.0), first);
            self.storage.wait("storage.append.half")?;
            return self.storage.change("storage.append", |files| append(files, rest), |_| {});
        }
        self.storage.change("storage.append", |files| append(files, bytes), |files| append(files, first))
    }

    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        self.storage.wait("storage.read")?;
        Ok(lock(&self.storage.disk.0).get(&self.name).cloned().unwrap_or_default())
    }

    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        let cut = |files: &mut BTreeMap<String, Vec<u8>>| {
            if let Some(bytes) = files.get_mut(&self.name) {
                bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            }
        };
        self.storage.change("storage.truncate", cut, |_| {})
    }
}

struct SimLock(SimStorage);

impl Lock for SimLock {
    fn set_owner(&mut self, owner: &Owner) -> Result<(), CheckpointError> {
        lock(&self.0.state).owner = Some(owner.clone());
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.0.state).owner = None;
    }
}
