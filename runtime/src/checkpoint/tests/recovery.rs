use std::sync::Arc;

use tidemill_operators::KeyGroups;

use super::*;
use crate::checkpoint::MemoryStorage;
use crate::testing::{Break, FaultyStorage};

fn small() -> Settings {
    Settings { retain: 2, roll_after: 5, ..Settings::default() }
}

#[test]
fn a_query_goes_on_where_it_was_with_any_number_of_workers() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    for (n, workers) in [1, 2, 3, 1, 5, 4, 2].into_iter().enumerate() {
        let until = n as u64 * 4 + 3;
        let checkpoint = run(&storage, small(), workers, until, &mut vec![]).unwrap();
        assert_eq!(checkpoint.execution(), n as u64 + 1);
        drop(checkpoint);
        for now in [1, 2, 7, 128] {
            assert_eq!(check_only(&storage, now), Some(Epoch::new(until)));
        }
    }
}

/// As `check`, and leaves everything as it was.
fn check_only(storage: &Arc<dyn Storage>, workers: usize) -> Option<Epoch> {
    let copy = MemoryStorage::new();
    for name in storage.list("").unwrap() {
        copy.put(&name, &storage.get(&name).unwrap().unwrap()).unwrap();
    }
    let copy: Arc<dyn Storage> = Arc::new(copy);
    check(&copy, workers).unwrap()
}

#[test]
fn a_break_at_any_change_loses_no_commit_and_makes_none() {
    for how in [Break::CrashBefore, Break::CrashWithin, Break::CrashAfter, Break::DiskFull] {
        let mut at = 0;
        loop {
            at += 1;
            let memory = MemoryStorage::new();
            // A run that stops in order first, so that its remains are broken into as well.
            let first: Arc<dyn Storage> = Arc::new(memory.clone());
            let mut told = vec![];
            drop(run(&first, small(), 2, 4, &mut told).unwrap());
            let faulty = FaultyStorage::new(memory.clone(), at, how);
            let broken: Arc<dyn Storage> = Arc::new(faulty.clone());
            let result = run(&broken, small(), 3, 21, &mut told);
            if !faulty.is_broken() {
                assert!(result.is_ok() && at > 50, "{at} changes");
                break;
            }
            if let Err(error) = &result {
                let text = error.to_string();
                assert!(how != Break::DiskFull || text.contains("the disk is full; make room"), "{text}");
            }
            drop(result);
            let last = told.last().copied().unwrap();
            let found = check_only(&first, 2).unwrap();
            // A crash after the append, before the caller returned, is a commit that no sink was told of.
            assert!(found == last || (how == Break::CrashAfter && found == last.next()), "{how:?} at {at}");
            let checkpoint = run(&first, small(), 1, 23, &mut vec![]).unwrap();
            drop(checkpoint);
            assert_eq!(check(&first, 2).unwrap(), Some(Epoch::new(23)), "{how:?} at {at}");
        }
    }
}

#[test]
fn break_while_checkpoint_is_created_leaves_none_or_fresh_one() {
    for how in [Break::CrashBefore, Break::CrashWithin, Break::CrashAfter, Break::DiskFull] {
        for at in 1..12 {
            let memory = MemoryStorage::new();
            let mut told = vec![];
            let faulty: Arc<dyn Storage> = Arc::new(FaultyStorage::new(memory.clone(), at, how));
            drop(run(&faulty, small(), 2, 2, &mut told));
            let storage: Arc<dyn Storage> = Arc::new(memory);
            assert!(check_only(&storage, 2) >= told.last().copied(), "{how:?} at {at}");
            drop(run(&storage, small(), 2, 5, &mut told).unwrap());
            assert_eq!(check(&storage, 1).unwrap(), Some(Epoch::new(5)));
        }
    }
}

#[test]
fn after_a_failed_write_everything_is_refused() {
    let faulty: Arc<dyn Storage> = Arc::new(FaultyStorage::new(MemoryStorage::new(), 5, Break::DiskFull));
    let (mut checkpoint, _) = Checkpoint::open(faulty, QUERY, small()).unwrap();
    checkpoint.plan(plan(0)).unwrap();
    assert!(matches!(checkpoint.commit(commit(0, 1), vec![], None), Err(CheckpointError::Io { .. })));
    for _ in 0..2 {
        assert!(matches!(checkpoint.commit(commit(0, 1), vec![], None), Err(CheckpointError::Stopped)));
        assert!(matches!(checkpoint.plan(plan(1)), Err(CheckpointError::Stopped)));
    }
}

#[test]
fn uncommitted_plan_is_repeated_on_every_restart() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let (mut checkpoint, recovered) = Checkpoint::open(Arc::clone(&storage), QUERY, small()).unwrap();
    assert_eq!(recovered, None);
    for epoch in 0..3 {
        checkpoint.plan(plan(epoch)).unwrap();
    }
    drop(checkpoint);
    for execution in 2..9 {
        let (mut checkpoint, recovered) = Checkpoint::open(Arc::clone(&storage), QUERY, small()).unwrap();
        assert_eq!(checkpoint.execution(), execution);
        let recovered = recovered.unwrap();
        assert_eq!(recovered.plans.iter().map(|plan| plan.epoch.number()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(recovered.commit, None);
        assert_eq!(recovered.plans[1], PlanRecord { execution: recovered.plans[1].execution, ..plan(1) });
        checkpoint.plan(plan(0)).unwrap();
    }
    let (mut checkpoint, _) = Checkpoint::open(Arc::clone(&storage), QUERY, small()).unwrap();
    checkpoint.commit(commit(1, 1), vec![], Some(plan(3))).unwrap();
    drop(checkpoint);
    let (_, recovered) = Checkpoint::open(storage, QUERY, small()).unwrap();
    let plans = recovered.unwrap().plans;
    assert_eq!(plans.iter().map(|plan| plan.epoch.number()).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn log_without_current_leaves_number_of_key_groups_open() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let of = |groups| Settings { key_groups: KeyGroups::new(groups).unwrap(), ..small() };
    drop(Checkpoint::open(Arc::clone(&storage), QUERY, of(8)).unwrap());
    // A run that dies here has chosen a number and has not begun.
    storage.delete("current").unwrap();
    let (mut checkpoint, _) = Checkpoint::open(Arc::clone(&storage), QUERY, of(16)).unwrap();
    assert_eq!(checkpoint.key_groups().count(), 16);
    checkpoint.commit(commit(0, 1), vec![], None).unwrap();
    drop(checkpoint);
    // From now on it is that one, in the next log too.
    for _ in 0..2 {
        let (mut checkpoint, _) = Checkpoint::open(Arc::clone(&storage), QUERY, of(32)).unwrap();
        assert_eq!(checkpoint.key_groups().count(), 16);
        checkpoint.keep(1).unwrap();
    }
}

#[test]
fn numbers_once_used_stay_used_in_logs_and_savepoints() {
    let memory = MemoryStorage::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let (mut checkpoint, _) = Checkpoint::open(Arc::clone(&storage), QUERY, small()).unwrap();
    checkpoint.plan(plan(4)).unwrap();
    checkpoint.reserve(Epoch::new(40)).unwrap();
    let continuous = |epoch| CommitRecord { mode: Mode::Continuous, ..commit(epoch, 1) };
    for epoch in 5..25 {
        checkpoint.commit(continuous(epoch), vec![], None).unwrap();
        assert_eq!(checkpoint.free(), Epoch::new(40));
    }
    let savepoint = MemoryStorage::new();
    checkpoint.savepoint(&savepoint).unwrap();
    drop(checkpoint);
    assert_eq!(
        memory.files().keys().filter(|name| name.starts_with("commits")).count(),
        1,
        "the log has rolled"
    );
    for copy in [memory, savepoint] {
        let (mut checkpoint, recovered) = Checkpoint::open(Arc::new(copy), QUERY, small()).unwrap();
        assert_eq!((checkpoint.free(), recovered.unwrap().plans), (Epoch::new(40), vec![]));
        // A run that ends in order uses no number, and frees those that it has reserved.
        checkpoint.reserve(Epoch::new(50)).unwrap();
        assert_eq!(checkpoint.free(), Epoch::new(50));
        checkpoint.close().unwrap();
        assert_eq!(checkpoint.free(), Epoch::new(40));
    }
}

#[test]
fn plans_are_void_once_a_later_continuous_run_commits() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let open = || Checkpoint::open(Arc::clone(&storage), QUERY, small()).unwrap();
    let plans = |recovered: Option<Recovered>| -> Vec<u64> {
        recovered.into_iter().flat_map(|it| it.plans).map(|plan| plan.epoch.number()).collect()
    };
    let (mut micro_batch, _) = open();
    (0..4).for_each(|epoch| micro_batch.plan(plan(epoch)).unwrap());
    drop(micro_batch);
    let (mut continuous, recovered) = open();
    assert_eq!(plans(recovered), [0, 1, 2, 3]);
    // As if it had numbered its epochs without regard to the plans.
    let record = CommitRecord { mode: Mode::Continuous, ..commit(1, 1) };
    continuous.commit(record, vec![], None).unwrap();
    assert_eq!(continuous.free(), Epoch::new(4), "sinks may have seen the plans that are void");
    drop(continuous);
    let (mut micro_batch, recovered) = open();
    assert_eq!(plans(recovered), [0; 0]);
    // What is planned after that commit is what comes next.
    micro_batch.plan(plan(4)).unwrap();
    drop(micro_batch);
    assert_eq!(plans(open().1), [4]);
}

#[test]
fn an_epoch_is_neither_planned_nor_committed_twice() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut checkpoint = run(&storage, small(), 1, 4, &mut vec![]).unwrap();
    for epoch in [3, 4] {
        assert!(matches!(checkpoint.commit(commit(epoch, 1), vec![], None), Err(CheckpointError::Misuse(_))));
        assert!(matches!(checkpoint.plan(plan(epoch)), Err(CheckpointError::Misuse(_))));
    }
    checkpoint.commit(commit(5, 1), vec![], None).unwrap();
}

#[test]
fn bases_and_changes_are_not_mixed_in_an_epoch() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let (mut checkpoint, _) = Checkpoint::open(storage, QUERY, small()).unwrap();
    let mut files = write(&checkpoint, 0, 1, true).unwrap();
    files.extend(write(&checkpoint, 0, 1, false).unwrap());
    assert!(matches!(checkpoint.commit(commit(0, 1), files, None), Err(CheckpointError::Misuse(_))));
}

#[test]
fn a_checkpoint_is_one_query_s() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    drop(run(&storage, small(), 1, 1, &mut vec![]).unwrap());
    let Err(error) = Checkpoint::open(Arc::clone(&storage), "ebbs", small()) else { panic!("foreign") };
    let said = "memory holds the checkpoint of query `tides`, not of `ebbs`: use another directory, or name the graph `tides`";
    assert_eq!(error.to_string(), said);
    assert_eq!(check(&storage, 1).unwrap(), Some(Epoch::new(1)), "and the lock is given back");
}
