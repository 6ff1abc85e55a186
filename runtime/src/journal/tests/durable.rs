//! That no record is emitted before it is durable: with a storage whose appends wait for the test.

use crossbeam_channel::{Receiver, Sender, unbounded};
use tidemill_operators::{Poll, Source};

use super::{Peer, Rig, attached, limits};
use crate::checkpoint::{CheckpointError, Lock, Log, MemoryStorage, Owner, Storage};
use crate::journal::Journal;

#[derive(Clone)]
struct Gated {
    memory: MemoryStorage,
    asks: Sender<()>,
    may: Receiver<()>,
}

struct GatedLog(Gated, Box<dyn Log>);

impl Storage for Gated {
    fn describe(&self) -> String {
        self.memory.describe()
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.memory.put(name, bytes)
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.memory.get(name)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, CheckpointError> {
        self.memory.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        self.memory.delete(name)
    }
    fn log(&self, name: &str) -> Result<Box<dyn Log>, CheckpointError> {
        Ok(Box::new(GatedLog(self.clone(), self.memory.log(name)?)))
    }
    fn lock(&self, owner: &Owner) -> Result<Box<dyn Lock>, CheckpointError> {
        self.memory.lock(owner)
    }
}

impl Log for GatedLog {
    fn append(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.0.asks.send(()).unwrap();
        self.0.may.recv().unwrap();
        self.1.append(bytes)
    }
    fn read(&mut self) -> Result<Vec<u8>, CheckpointError> {
        self.1.read()
    }
    fn truncate(&mut self, length: u64) -> Result<(), CheckpointError> {
        self.1.truncate(length)
    }
}

#[test]
fn records_are_emitted_once_durable_and_share_one_append() {
    let ((asks, asked), (let_go, may)) = (unbounded(), unbounded());
    let storage = Gated { memory: MemoryStorage::new(), asks, may };
    let peer = Peer::default();
    let mut rig = Rig::open(attached(peer.clone().journaled(), &storage), 0).unwrap();

    peer.rows([1]);
    asked.recv().unwrap();
    assert_eq!(rig.read().unwrap(), (vec![], Poll::Idle), "it is being written");
    assert_eq!(rig.source.latest(0, &0, &limits()).unwrap(), 0, "and may not be planned");
    assert_eq!(peer.acknowledged(), 0);
    // These wait while the disk is busy, and share the next append.
    (2..100).for_each(|n| peer.rows([n]));
    let_go.send(()).unwrap();
    assert_eq!(rig.read_at_least(1).unwrap(), [1]);
    asked.recv().unwrap();
    assert_eq!(rig.read().unwrap(), (vec![], Poll::Idle));
    let_go.send(()).unwrap();
    assert_eq!(rig.read_at_least(98).unwrap(), (2..100).collect::<Vec<_>>());
    assert_eq!(peer.acknowledged(), 99);
    assert!(asked.is_empty());
}
