//! A storage whose calls are noted, so that one that panics or does not return is named.

use std::sync::Arc;

use crate::checkpoint::{CheckpointError, Lock, Log, Owner, Storage};
use crate::user_code::{STORAGE, within};

/// The storage of a query.
pub(crate) struct Watched<S>(pub(crate) S);

impl Storage for Watched<Arc<dyn Storage>> {
    fn describe(&self) -> String {
        within(STORAGE, || self.0.describe())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        within(STORAGE, || self.0.put(name, bytes))
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        within(STORAGE, || self.0.get(name))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        within(STORAGE, || self.0.list(prefix))
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        within(STORAGE, || self.0.delete(name))
    }

    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        Ok(Box::new(Watched(within(STORAGE, || self.0.log(name))?)))
    }

    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        within(STORAGE, || self.0.lock(owner))
    }
}

impl Log for Watched<Box<dyn Log>> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        within(STORAGE, || self.0.append(bytes))
    }

    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        within(STORAGE, || self.0.read())
    }

    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        within(STORAGE, || self.0.truncate(length))
    }
}
