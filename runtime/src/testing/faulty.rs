//! A storage that breaks when the test says so.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_operators::turn;

use crate::checkpoint::{CheckpointError, Lock, Log, MemoryStorage, Owner, Storage};

/// How a [`FaultyStorage`] breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// The process dies just before the change: nothing works any more.
    CrashBefore,
    /// The process dies in the middle of it: an append has left its first half.
    CrashWithin,
    /// The process dies just after the change, before anybody learns of it.
    CrashAfter,
    /// There is no room on the disk: an append has left its first half, other changes did not happen. Whatever else is
    /// written fails as well; reading and removing still work.
    DiskFull,
}

/// A [`MemoryStorage`] that breaks at the n-th change. What is left can be opened again by the handle that it was made
/// of.
///
/// ```
/// use tidemill::checkpoint::{MemoryStorage, Storage};
/// use tidemill::testing::{Break, FaultyStorage};
///
/// let memory = MemoryStorage::new();
/// let faulty = FaultyStorage::new(memory.clone(), 2, Break::CrashBefore);
/// faulty.put("a", b"1")?;
/// assert!(faulty.put("b", b"2").is_err());
/// assert_eq!(memory.list("")?, ["a"]);
/// # Ok::<(), tidemill::checkpoint::CheckpointError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaultyStorage {
    memory: MemoryStorage,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    at: u64,
    how: Break,
    changes: AtomicU64,
    broken: Mutex<bool>,
}

/// How a change is handled.
enum Fate {
    Happens,
    HappensUnheard,
    Half,
    Fails,
}

impl FaultyStorage {
    /// A storage that breaks at the change of that number, from 1.
    pub fn new(memory: MemoryStorage, at: u64, how: Break) -> Self {
        let plan = Plan { at, how, changes: AtomicU64::new(0), broken: Mutex::new(false) };
        FaultyStorage { memory, plan: Arc::new(plan) }
    }

    /// How many changes were asked for so far.
    pub fn changes(&self) -> u64 {
        self.plan.changes.load(Ordering::SeqCst)
    }

    /// Whether it has broken.
    pub fn is_broken(&self) -> bool {
        *turn::lock(&self.plan.broken)
    }

    fn fate(&self) -> Fate {
        let number = self.plan.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut broken = turn::lock(&self.plan.broken);
        if *broken {
            return Fate::Fails;
        }
        *broken = number == self.plan.at;
        match self.plan.how {
            _ if !*broken => Fate::Happens,
            Break::CrashBefore => Fate::Fails,
            Break::CrashWithin | Break::DiskFull => Fate::Half,
            Break::CrashAfter => Fate::HappensUnheard,
        }
    }

    fn change(
        &self,
        what: &str,
        whole: impl FnOnce() -> Result<(), CheckpointError>,
        half: impl FnOnce() -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        match self.fate() {
            Fate::Happens => return whole(),
            Fate::HappensUnheard => whole()?,
            Fate::Half => half()?,
            Fate::Fails => {}
        }
        Err(self.error(what))
    }

    fn error(&self, what: &str) -> CheckpointError {
        let kind = match self.plan.how {
            Break::DiskFull => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::Other,
        };
        CheckpointError::Io { what: format!("cannot {what}"), error: kind.into() }
    }

    /// Reading and removing work until the process is dead.
    fn alive(&self, what: &str) -> Result<(), CheckpointError> {
        if self.is_broken() && self.plan.how != Break::DiskFull { Err(self.error(what)) } else { Ok(()) }
    }
}

impl Storage for FaultyStorage {
    fn describe(&self) -> String {
        "memory that breaks".to_owned()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.change(&format!("write {name}"), || self.memory.put(name, bytes), || Ok(()))
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.alive("read")?;
        self.memory.get(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        self.alive("list")?;
        self.memory.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        if self.plan.how == Break::DiskFull {
            return self.memory.delete(name);
        }
        self.change(&format!("remove {name}"), || self.memory.delete(name), || Ok(()))
    }

    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        self.alive("open a log")?;
        let log = self.memory.log(name)?;
        Ok(Box::new(FaultyLog { storage: self.clone(), log, name: name.to_owned() }))
    }

    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        self.memory.lock(owner)
    }
}

struct FaultyLog {
    storage: FaultyStorage,
    log: Box<dyn Log>,
    name: String,
}

impl Log for FaultyLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let (half, _) = bytes.split_at(bytes.len() / 2);
        let log = std::cell::RefCell::new(&mut self.log);
        let append = |bytes| log.borrow_mut().append(bytes);
        self.storage.change(&format!("append to {}", self.name), || append(bytes), || append(half))
    }

    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        self.storage.alive("read")?;
        self.log.read()
    }

    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        self.storage.change(&format!("truncate {}", self.name), || self.log.truncate(length), || Ok(()))
    }
}
