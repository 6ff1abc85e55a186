//! A checkpoint in memory: for tests of queries that are stopped and started again within one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tidemill_operators::turn;

use super::{CheckpointError, Lock, Log, Owner, Storage};

/// Memory for a checkpoint. Clones are handles on the same memory.
///
/// ```
/// use tidemill::checkpoint::{MemoryStorage, Storage};
///
/// let storage = MemoryStorage::new();
/// storage.put("current", b"1")?;
/// assert_eq!(storage.clone().get("current")?.as_deref(), Some(&b"1"[..]));
/// # Ok::<(), tidemill::checkpoint::CheckpointError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    owner: Option<Owner>,
}

impl MemoryStorage {
    /// Memory with nothing in it.
    pub fn new() -> Self {
        MemoryStorage::default()
    }

    /// Everything in it, by name: what a test may look at, or change before it [puts it back](Self::from_files).
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared().files.clone()
    }

    /// Memory with these files in it, locked by no query.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Self {
        MemoryStorage { shared: Arc::new(Mutex::new(Shared { files, owner: None })) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        turn::lock(&self.shared)
    }
}

impl Storage for MemoryStorage {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.shared().files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        Ok(self.shared().files.get(name).cloned())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        Ok(self.shared().files.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        self.shared().files.remove(name);
        Ok(())
    }

    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        self.shared().files.entry(name.to_owned()).or_default();
        Ok(Box::new(MemoryLog { storage: self.clone(), name: name.to_owned() }))
    }

    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        let mut shared = self.shared();
        if let Some(owner) = shared.owner.clone() {
            return Err(CheckpointError::Locked { storage: self.describe(), owner });
        }
        shared.owner = Some(owner.clone());
        Ok(Box::new(MemoryLock(self.clone())))
    }
}

struct MemoryLog {
    storage: MemoryStorage,
    name: String,
}

impl Log for MemoryLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.storage.shared().files.entry(self.name.clone()).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        Ok(self.storage.shared().files.get(&self.name).cloned().unwrap_or_default())
    }

    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        if let Some(bytes) = self.storage.shared().files.get_mut(&self.name) {
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Ok(())
    }
}

struct MemoryLock(MemoryStorage);

impl Lock for MemoryLock {
    fn set_owner(&mut self, owner: &Owner) -> Result<(), CheckpointError> {
        self.0.shared().owner = Some(owner.clone());
        Ok(())
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.shared().owner = None;
    }
}
