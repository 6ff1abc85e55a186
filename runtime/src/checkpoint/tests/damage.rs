//! Every byte that is wrong and every file that is missing is found before it does harm.

use std::sync::Arc;

use tidemill_operators::SourceLog;

use super::*;
use crate::checkpoint::MemoryStorage;
use crate::checkpoint::source_log::KeptLog;
use crate::inspect;

const LOG: &str = "commits-0.log";

/// A small checkpoint: two epochs, two workers, deltas and bases, and a plan that is not committed.
fn files() -> BTreeMap<String, Vec<u8>> {
    let memory = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let (mut checkpoint, _) = Checkpoint::open(storage, QUERY, Settings::default()).unwrap();
    for (epoch, base) in [(0, true), (1, false)] {
        let files = write(&checkpoint, epoch, 2, base).unwrap();
        checkpoint.commit(commit(epoch, 2), files, Some(plan(epoch + 1))).unwrap();
    }
    memory.files()
}

fn opened(files: BTreeMap<String, Vec<u8>>) -> (Result<Option<Epoch>, CheckpointError>, Arc<dyn Storage>) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::from_files(files));
    (check(&storage, 2), storage)
}

#[test]
fn every_flipped_byte_is_found_and_named() {
    let whole = files();
    assert_eq!(whole.len(), 7, "{:?}", whole.keys());
    assert_eq!(opened(whole.clone()).0.unwrap(), Some(Epoch::new(1)));
    for name in whole.keys() {
        for at in 0..whole[name].len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut files = whole.clone();
                files.get_mut(name).unwrap()[at] ^= flip;
                let said = inspect::verify(&MemoryStorage::from_files(files.clone()));
                for error in [opened(files).0.map(drop), said.map(drop)].map(Result::unwrap_err) {
                    match error {
                        CheckpointError::Damaged { file, range, .. } => {
                            assert_eq!(&file, name);
                            assert!(range.contains(&(at as u64)), "{name}: byte {at}, said {range:?}");
                        }
                        CheckpointError::Version { file, .. } => {
                            assert_eq!(&file, name);
                            assert!((8..10).contains(&at));
                        }
                        other => panic!("{name}, byte {at}: {other}"),
                    }
                }
            }
        }
    }
}

#[test]
fn every_truncation_is_found_or_is_the_torn_end_of_the_log() {
    let whole = files();
    for name in whole.keys() {
        for length in 0..whole[name].len() {
            let mut files = whole.clone();
            files.get_mut(name).unwrap().truncate(length);
            match opened(files).0 {
                Err(CheckpointError::Damaged { file, .. }) => assert_eq!(&file, name),
                // An append that never came to its end: the state is that of the commit before, and is right.
                Ok(found) if name == LOG => assert!(found <= Some(Epoch::new(1))),
                other => panic!("{name}, {length} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn every_missing_file_is_missed() {
    let whole = files();
    for name in whole.keys() {
        let mut files = whole.clone();
        files.remove(name);
        let (result, storage) = opened(files.clone());
        match result {
            Err(CheckpointError::Missing { file, .. }) => assert!(file.starts_with(name.as_str()), "{file}"),
            other => panic!("without {name}: {other:?}"),
        }
        files.keys().for_each(|kept| assert!(storage.get(kept).unwrap().is_some(), "{kept} was removed"));
    }
}

#[test]
fn a_file_that_takes_the_place_of_another_is_found() {
    let whole = files();
    for name in whole.keys() {
        for other in whole.keys().filter(|other| *other != name) {
            let mut files = whole.clone();
            files.insert(name.clone(), whole[other].clone());
            let error = opened(files).0.unwrap_err();
            assert!(
                matches!(&error, CheckpointError::Damaged { file, .. } if file == name),
                "{name}: {error}"
            );
        }
    }
}

/// What an earlier run wrote for the same epoch and worker is a good file, but not the one that was committed.
#[test]
fn a_good_file_with_another_content_is_found() {
    let mut files = files();
    let memory = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let (checkpoint, _) = Checkpoint::open(storage, QUERY, Settings::default()).unwrap();
    let about = About { epoch: Epoch::new(1), worker: 0, base: false };
    checkpoint.writer().write(about, &sections(0, 2, steps(2))).unwrap();
    let name = "state/1-1-0.delta";
    files.insert(name.to_owned(), memory.files()[name].clone());
    let error = opened(files).0.unwrap_err().to_string();
    assert!(error.contains("but not the one that was committed"), "{error}");
}

#[test]
fn what_a_crash_left_of_an_append_is_cut_off_once() {
    let whole = files();
    let log = &whole[LOG];
    for tail in [&log[20..25], &[0; 4096][..], &[7]] {
        let mut files = whole.clone();
        files.get_mut(LOG).unwrap().extend_from_slice(tail);
        let (result, storage) = opened(files);
        assert_eq!(result.unwrap(), Some(Epoch::new(1)));
        assert_eq!(storage.get(LOG).unwrap().unwrap(), *log);
        drop(run(&storage, Settings::default(), 2, 3, &mut vec![]).unwrap());
        assert_eq!(check(&storage, 1).unwrap(), Some(Epoch::new(3)));
    }
}

#[test]
fn foreign_record_behind_end_of_log_is_damage() {
    let mut files = files();
    let again = files[LOG][11..].to_vec();
    files.get_mut(LOG).unwrap().extend_from_slice(&again);
    assert!(matches!(opened(files).0, Err(CheckpointError::Damaged { .. })));
}

#[test]
fn what_sources_keep_is_verified_as_well() {
    let memory = MemoryStorage::from_files(files());
    let log = KeptLog::open(&memory, "files", None).unwrap();
    log.append(b"the first").unwrap();
    log.append(b"the second").unwrap();
    let whole = memory.files();
    assert_eq!(inspect::verify(&memory).unwrap().logs, 1);
    let name = "sources/files.log";
    let first = whole[name].iter().position(|byte| *byte == b'f').unwrap();
    for at in first..first + b"first".len() {
        let mut files = whole.clone();
        files.get_mut(name).unwrap()[at] ^= 0x20;
        match inspect::verify(&MemoryStorage::from_files(files)).unwrap_err() {
            CheckpointError::Damaged { file, range, .. } => {
                assert_eq!(file, name);
                assert!(range.contains(&(at as u64)), "byte {at}, said {range:?}");
            }
            other => panic!("byte {at}: {other}"),
        }
    }
    // What a crash has left at the end is harmless.
    let mut files = whole;
    files.get_mut(name).unwrap().pop();
    inspect::verify(&MemoryStorage::from_files(files)).unwrap();
}
