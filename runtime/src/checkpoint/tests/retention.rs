//! What is kept, what is compacted, what goes; and looking at it.

use std::sync::Arc;

use super::*;
use crate::checkpoint::MemoryStorage;
use crate::inspect;

fn settings(retain: usize) -> Settings {
    Settings { retain, roll_after: 4, ..Settings::default() }
}

fn memory() -> (MemoryStorage, Arc<dyn Storage>) {
    let memory = MemoryStorage::new();
    (memory.clone(), Arc::new(memory))
}

#[test]
fn the_last_epochs_can_be_restored_and_nothing_else_is_kept() {
    let (memory, storage) = memory();
    for until in [0, 3, 6, 29, 41] {
        let checkpoint = run(&storage, settings(3), 2, until, &mut vec![]).unwrap();
        let kept: Vec<Epoch> = (until.saturating_sub(2)..=until).map(Epoch::new).collect();
        assert_eq!(checkpoint.epochs(), kept);
        drop(checkpoint);
        let overview = inspect::list(&memory).unwrap();
        assert_eq!(overview.epochs.iter().map(|e| e.epoch).collect::<Vec<_>>(), kept);
        let files = memory.files();
        assert_eq!(files.keys().filter(|name| name.starts_with("commits-")).count(), 1);
        let verified = inspect::verify(&memory).unwrap();
        assert_eq!(verified.files, files.keys().filter(|name| name.starts_with("state/")).count(), "{until}");
        assert!(files.values().map(Vec::len).sum::<usize>() < 40_000, "it does not grow");
    }
}

#[test]
fn rollback_to_kept_epoch_drops_and_replans_later_epochs() {
    for back in [7, 8, 9] {
        let (memory, storage) = memory();
        drop(run(&storage, settings(3), 2, 9, &mut vec![]).unwrap());
        let at = Settings { at: Some(Epoch::new(back)), ..settings(3) };
        let (checkpoint, recovered) = Checkpoint::open(Arc::clone(&storage), QUERY, at).unwrap();
        let Recovered { commit, plans } = recovered.unwrap();
        assert_eq!(commit.unwrap().epoch, Epoch::new(back));
        assert_eq!(
            plans.iter().map(|plan| plan.epoch.number()).collect::<Vec<_>>(),
            (back + 1..=9).collect::<Vec<_>>()
        );
        assert_eq!(load(&checkpoint, 3).unwrap(), state_at(Epoch::new(back)));
        drop(checkpoint);
        assert_eq!(
            inspect::list(&memory).unwrap().epochs.last().unwrap().epoch,
            Epoch::new(back),
            "it lasts"
        );
        drop(run(&storage, settings(3), 1, 12, &mut vec![]).unwrap());
        assert_eq!(check(&storage, 2).unwrap(), Some(Epoch::new(12)));
    }
    let (_, storage) = memory();
    drop(run(&storage, settings(3), 2, 9, &mut vec![]).unwrap());
    for gone in [0, 6, 10] {
        let at = Settings { at: Some(Epoch::new(gone)), ..settings(3) };
        let Err(error) = Checkpoint::open(Arc::clone(&storage), QUERY, at) else { panic!("epoch {gone}") };
        let text = format!("epoch {gone} is not in memory: the epochs kept there are [7, 8, 9]");
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(check(&storage, 2).unwrap(), Some(Epoch::new(9)));
}

#[test]
fn keeping_fewer_or_more_epochs_than_before_is_no_harm() {
    let (_, storage) = memory();
    for (retain, until, kept) in [(4, 9, 4), (1, 10, 1), (5, 12, 3), (5, 20, 5), (0, 21, 1)] {
        let checkpoint = run(&storage, settings(retain), 2, until, &mut vec![]).unwrap();
        assert_eq!(checkpoint.epochs().len(), kept, "{retain} at {until}");
        drop(checkpoint);
        assert_eq!(check(&storage, 1).unwrap(), Some(Epoch::new(until)));
    }
}

#[test]
fn many_deltas_become_a_base_while_epochs_go_on() {
    let (memory, storage) = memory();
    let (mut checkpoint, _) = Checkpoint::open(Arc::clone(&storage), QUERY, settings(2)).unwrap();
    let mut running = None;
    let mut compactions = 0;
    for epoch in 0..80 {
        let files = write(&checkpoint, epoch, 2, false).unwrap();
        // A compaction that takes two epochs.
        if let Some((begun, job)) = running.take_if(|(begun, _)| *begun + 2 <= epoch) {
            let job: super::super::compaction::Compaction = job;
            assert!(checkpoint.compaction(2).is_none(), "one at a time, and this has run since {begun}");
            checkpoint.compacted(job.run());
            compactions += 1;
        }
        checkpoint.commit(commit(epoch, 2), files, None).unwrap();
        if running.is_none() {
            running = checkpoint.compaction(3).map(|job| (epoch, job));
        }
        assert_eq!(load(&checkpoint, 2).unwrap(), state_at(Epoch::new(epoch)));
        assert!(checkpoint.last().unwrap().files.len() < 60, "epoch {epoch}");
    }
    assert!(compactions > 2, "{compactions}");
    drop((checkpoint, running));
    assert_eq!(check(&storage, 5).unwrap(), Some(Epoch::new(79)));
    inspect::verify(&memory).unwrap();
}

#[test]
fn a_whole_state_written_during_a_compaction_wins() {
    let (memory, storage) = memory();
    let (mut checkpoint, _) = Checkpoint::open(Arc::clone(&storage), QUERY, settings(1)).unwrap();
    for epoch in 0..30 {
        let files = write(&checkpoint, epoch, 2, false).unwrap();
        checkpoint.commit(commit(epoch, 2), files, None).unwrap();
    }
    let job = checkpoint.compaction(2).unwrap().run();
    let files = write(&checkpoint, 30, 2, true).unwrap();
    checkpoint.commit(commit(30, 2), files, None).unwrap();
    checkpoint.compacted(job);
    let files = write(&checkpoint, 31, 2, false).unwrap();
    checkpoint.commit(commit(31, 2), files, None).unwrap();
    drop(checkpoint);
    assert_eq!(check(&storage, 2).unwrap(), Some(Epoch::new(31)));
    let state = memory.files().into_keys().filter(|name| name.starts_with("state/")).count();
    assert_eq!(state, inspect::verify(&memory).unwrap().files);
}

#[test]
fn a_savepoint_opens_elsewhere_and_stays() {
    let (_, storage) = memory();
    let (elsewhere, target) = memory();
    let mut checkpoint = run(&storage, settings(3), 2, 9, &mut vec![]).unwrap();
    checkpoint.plan(plan(10)).unwrap();
    storage.put("journal/in-0-40.log", b"what a source has received").unwrap();
    checkpoint.savepoint(&*target).unwrap();
    assert_eq!(elsewhere.get("journal/in-0-40.log").unwrap().unwrap(), b"what a source has received");
    let error = checkpoint.savepoint(&*target).unwrap_err().to_string();
    assert!(error.contains("give the savepoint another directory"), "{error}");
    drop(checkpoint);
    drop(run(&storage, settings(3), 2, 15, &mut vec![]).unwrap());

    let overview = inspect::list(&elsewhere).unwrap();
    assert_eq!(overview.epochs.iter().map(|e| e.epoch).collect::<Vec<_>>(), [Epoch::new(9)]);
    assert_eq!(overview.planned, [Epoch::new(10)]);
    assert_eq!(check(&target, 3).unwrap(), Some(Epoch::new(9)));
    drop(run(&target, settings(3), 3, 12, &mut vec![]).unwrap());
    assert_eq!(check(&target, 1).unwrap(), Some(Epoch::new(12)));
}

#[test]
fn a_checkpoint_tells_what_is_in_it() {
    let (memory, storage) = memory();
    drop(run(&storage, settings(3), 2, 9, &mut vec![]).unwrap());
    let entries =
        |epoch: u64, uid: &str| state_at(Epoch::new(epoch)).keys().filter(|key| key.0 == uid).count() as u64;
    for epoch in [7, 8, 9] {
        let details = inspect::show(&memory, Some(Epoch::new(epoch))).unwrap();
        assert_eq!(details.offsets["source"], [serde_json::json!({ "row": epoch + 1 })]);
        for uid in ["count", "join"] {
            assert_eq!(details.operators[uid].entries, entries(epoch, uid), "{uid} at {epoch}");
        }
    }
    assert_eq!(inspect::show(&memory, None).unwrap().overview.epoch, Epoch::new(9));
    let json = serde_json::to_value(inspect::show(&memory, None).unwrap()).unwrap();
    assert_eq!(json["epoch"], 9);

    let (before, after) = (state_at(Epoch::new(7)), state_at(Epoch::new(9)));
    let reversed = inspect::diff(&memory, Epoch::new(9), Epoch::new(7)).unwrap_err().to_string();
    assert!(reversed.contains("write 7 9 (got 9 7)"), "{reversed}");
    let difference = inspect::diff(&memory, Epoch::new(7), Epoch::new(9)).unwrap();
    let count = |found: &dyn Fn(&(String, u64, u64)) -> bool, of: &State| {
        of.keys().filter(|key| key.0 == "count" && found(key)).count() as u64
    };
    let expected = inspect::OperatorDifference {
        added: count(&|key| !before.contains_key(key), &after),
        changed: count(&|key| before.contains_key(key) && before[key] != after[key], &after),
        removed: count(&|key| !after.contains_key(key), &before),
    };
    assert_eq!(difference["count"], expected);
    assert!(expected.added > 0 && expected.removed > 0);
}

#[test]
fn pruning_keeps_last_epochs_and_is_refused_while_running() {
    let (memory, storage) = memory();
    let checkpoint = run(&storage, settings(3), 2, 9, &mut vec![]).unwrap();
    assert!(matches!(inspect::prune(&storage, 1), Err(CheckpointError::Locked { .. })));
    drop(checkpoint);
    let overview = inspect::prune(&storage, 2).unwrap();
    assert_eq!(overview.epochs.iter().map(|e| e.epoch.number()).collect::<Vec<_>>(), [8, 9]);
    assert_eq!(inspect::list(&memory).unwrap(), overview);
    let state = memory.files().into_keys().filter(|name| name.starts_with("state/")).count();
    assert_eq!(state, inspect::verify(&memory).unwrap().files);
    assert_eq!(check(&storage, 2).unwrap(), Some(Epoch::new(9)));
}

#[test]
fn where_there_is_no_checkpoint_inspection_says_so() {
    let error = inspect::list(&MemoryStorage::new()).unwrap_err().to_string();
    assert_eq!(error, "current in memory is missing: there is no checkpoint here");
}
