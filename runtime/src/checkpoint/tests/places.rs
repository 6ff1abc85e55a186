//! The storages themselves.

use std::sync::Arc;

use super::*;
use crate::checkpoint::{LocalDirectory, MemoryStorage, Owner};

fn contract(storage: &dyn Storage) {
    assert_eq!(storage.get("a").unwrap(), None);
    storage.put("a", b"1").unwrap();
    storage.put("a", b"22").unwrap();
    storage.put("state/b", b"").unwrap();
    assert_eq!(storage.get("a").unwrap().unwrap(), b"22");
    assert_eq!(storage.list("").unwrap(), ["a", "state/b"]);
    assert_eq!(storage.list("state/").unwrap(), ["state/b"]);
    storage.delete("state/b").unwrap();
    storage.delete("state/b").unwrap();
    let mut log = storage.log("log").unwrap();
    log.append(b"one").unwrap();
    log.append(b"two").unwrap();
    assert_eq!(log.read().unwrap(), b"onetwo");
    log.truncate(4).unwrap();
    log.append(b"!").unwrap();
    drop(log);
    assert_eq!(storage.log("log").unwrap().read().unwrap(), b"onet!");
    assert_eq!(storage.list("").unwrap(), ["a", "log"]);

    let mut owner = Owner::this_process("first");
    let mut lock = storage.lock(&owner).unwrap();
    owner.execution = Some(7);
    lock.set_owner(&owner).unwrap();
    let Err(error) = storage.lock(&Owner::this_process("second")) else { panic!("taken twice") };
    let text = error.to_string();
    let pid = std::process::id();
    assert!(text.contains(&format!("query `first` (execution 7), process {pid} on ")), "{text}");
    assert!(text.contains(", since 20"), "{text}");
    drop(lock);
    drop(storage.lock(&Owner::this_process("second")).unwrap());
}

#[test]
fn a_directory_and_memory_keep_the_contract() {
    contract(&MemoryStorage::new());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some/where");
    contract(&LocalDirectory::open(&path).unwrap());
    LocalDirectory::existing(&path).unwrap();
    assert!(LocalDirectory::existing(directory.path().join("nowhere")).is_err());
}

#[test]
fn a_directory_holds_a_checkpoint_over_many_runs() {
    let directory = tempfile::tempdir().unwrap();
    for (workers, until) in [(1, 3), (3, 20), (2, 33)] {
        let storage: Arc<dyn Storage> = Arc::new(LocalDirectory::open(directory.path()).unwrap());
        drop(run(&storage, Settings::default(), workers, until, &mut vec![]).unwrap());
        assert_eq!(check(&storage, 2).unwrap(), Some(Epoch::new(until)));
    }
}

#[test]
fn second_query_on_directory_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Storage> { Arc::new(LocalDirectory::open(directory.path()).unwrap()) };
    let checkpoint = run(&open(), Settings::default(), 1, 3, &mut vec![]).unwrap();
    std::fs::write(directory.path().join("state/9-9-9.delta.1.1.tmp"), "on its way").unwrap();
    let Err(error) = Checkpoint::open(open(), QUERY, Settings::default()) else { panic!("taken twice") };
    let text = error.to_string();
    assert!(text.contains("is in use by query `tides` (execution 1)"), "{text}");
    assert!(directory.path().join("state/9-9-9.delta.1.1.tmp").exists());
    drop(checkpoint);
    assert_eq!(check(&open(), 2).unwrap(), Some(Epoch::new(3)));
    assert!(!directory.path().join("state/9-9-9.delta.1.1.tmp").exists(), "it was a dead run's");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalDirectory::open(directory.path().join("here")).unwrap();
    for name in ["", "..", "../x", "/etc/passwd", "a/../../b", "a/b/c"] {
        assert!(matches!(storage.put(name, b""), Err(CheckpointError::Misuse(_))), "{name}");
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let error = LocalDirectory::open(file.join("below")).unwrap_err().to_string();
    assert!(error.contains("cannot make the directory") && error.contains("file"), "{error}");
}
