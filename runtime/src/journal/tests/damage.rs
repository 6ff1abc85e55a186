//! Journals that are not as they were written.

use super::{Peer, Rig, Say, attached};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::{MemoryStorage, Storage};
use crate::journal::{Journal, NeededRecord, verify};
use tidemill_operators::{Epoch, SourceError};

/// Thirty records in several segments, the last one with several groups.
fn written() -> MemoryStorage {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let mut rig = Rig::open(attached(peer.clone().journaled().with_segment_size(100), &storage), 0).unwrap();
    for round in 0..15 {
        peer.rows([2 * round, 2 * round + 1]);
        rig.read_at_least(2).unwrap();
    }
    rig.crash();
    storage
}

fn names(storage: &MemoryStorage) -> Vec<String> {
    let mut names = storage.list("journal/").unwrap();
    names.sort_by_key(|name| {
        name.trim_end_matches(".log").rsplit('-').next().unwrap().parse::<u64>().unwrap()
    });
    names
}

/// The rows of a journal, and one that comes after them.
fn read(storage: &MemoryStorage) -> Result<Vec<u64>, SourceError> {
    let peer = Peer::default();
    peer.say([Say::Row(1000), Say::End]);
    Rig::open(attached(peer.journaled(), storage), 0)?.read_to_end()
}

fn expected(rows: u64) -> Vec<u64> {
    (0..rows).chain([1000]).collect()
}

#[test]
fn torn_append_is_cut_off_and_its_numbers_reused() {
    let storage = written();
    let last = names(&storage).pop().unwrap();
    let whole = storage.get(&last).unwrap().unwrap();
    assert_eq!(read(&MemoryStorage::from_files(storage.files())).unwrap(), expected(30));
    for length in whole.len() - 18..whole.len() {
        let torn = MemoryStorage::from_files(storage.files());
        torn.put(&last, &whole[..length]).unwrap();
        assert_eq!(read(&torn).unwrap(), expected(28), "{length} of {}", whole.len());
        assert_eq!(read(&torn).unwrap(), expected(28), "and it stays so");
    }
    let zeros = MemoryStorage::from_files(storage.files());
    zeros.put(&last, &[whole, vec![0; 4096]].concat()).unwrap();
    assert_eq!(read(&zeros).unwrap(), expected(30));
}

#[test]
fn flipped_bit_is_error_with_file_and_bytes() {
    let storage = written();
    let names = names(&storage);
    assert!(names.len() > 3);
    for name in [&names[0], &names[1], &names[names.len() - 1]] {
        let whole = storage.get(name).unwrap().unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let damaged = MemoryStorage::from_files(storage.files());
            damaged.put(name, &bytes).unwrap();
            let error = read(&damaged).unwrap_err().to_string();
            let said = error.starts_with(&format!("{name} is damaged at bytes "))
                || error.starts_with(&format!("{name} is of format version "));
            assert!(said, "byte {at}: {error}");
        }
    }
}

#[test]
fn missing_short_or_foreign_segment_is_error() {
    let storage = written();
    let names = names(&storage);
    let missing = MemoryStorage::from_files(storage.files());
    missing.delete(&names[1]).unwrap();
    let error = read(&missing).unwrap_err().to_string();
    assert!(error.contains(&names[0]) && error.contains("it ends before record"), "{error}");

    let short = MemoryStorage::from_files(storage.files());
    let whole = short.get(&names[1]).unwrap().unwrap();
    short.put(&names[1], &whole[..whole.len() - 3]).unwrap();
    let error = read(&short).unwrap_err().to_string();
    assert!(error.contains(&names[1]) && error.contains("it ends before record"), "{error}");

    let exchanged = MemoryStorage::from_files(storage.files());
    exchanged.put(&names[1], &storage.get(&names[2]).unwrap().unwrap()).unwrap();
    let error = read(&exchanged).unwrap_err().to_string();
    assert!(error.contains("it is another segment"), "{error}");
}

#[test]
fn journal_without_rows_that_query_has_read_is_refused() {
    let error = |storage: &MemoryStorage, from| {
        let source = attached(Peer::default().journaled(), storage);
        Rig::open(source, from).err().unwrap().to_string()
    };
    let told = error(&written(), 31);
    assert!(told.contains("records from 0 to 30, and the query resumes at 31"), "{told}");
    let told = error(&MemoryStorage::new(), 5);
    assert!(told.contains("journal/in-0-*.log in memory"), "{told}");
}

fn verified(storage: &MemoryStorage, partition: u32, number: u64) -> Result<usize, CheckpointError> {
    verify(storage, &[NeededRecord { epoch: Epoch::new(3), uid: "in", partition, number }])
}

#[test]
fn journal_without_needed_records_is_reported_by_verify() {
    let storage = written();
    let names = names(&storage);
    for number in [0, 30] {
        assert_eq!(verified(&storage, 0, number).unwrap(), names.len());
    }
    let error = verified(&storage, 0, 31).unwrap_err().to_string();
    let last = names.last().unwrap();
    assert!(error.starts_with(last) && error.contains("ends before record 30, and epoch 3"), "{error}");
    let error = verified(&storage, 1, 1).unwrap_err().to_string();
    assert!(error.contains("journal/in-1-*.log in memory is missing"), "{error}");
    verified(&storage, 1, 0).unwrap();

    let cut = MemoryStorage::from_files(storage.files());
    let whole = cut.get(last).unwrap().unwrap();
    cut.put(last, &whole[..whole.len() - 3]).unwrap();
    assert!(verified(&cut, 0, 30).unwrap_err().to_string().starts_with(last));
    verified(&cut, 0, 28).unwrap();

    storage.delete(&names[1]).unwrap();
    let error = verified(&storage, 0, 30).unwrap_err().to_string();
    assert!(error.starts_with(&names[0]) && error.contains(&names[2]), "{error}");
    storage.delete(&names[0]).unwrap();
    let error = verified(&storage, 0, 0).unwrap_err().to_string();
    assert!(error.contains(&names[2]) && error.contains("is missing"), "{error}");
}
