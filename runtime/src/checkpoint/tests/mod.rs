//! A query in small, and what its state must be at every epoch.

mod damage;
#[cfg(all(unix, feature = "__kill_points"))]
mod kill;
mod places;
mod recovery;
mod retention;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::{
    Change, Epoch, KeyGroups, Mode, ProcessingTime, SnapshotReader, SnapshotWriter, decode, hash_key,
};

use super::records::{CommitRecord, FileRef, Json, PlanRecord};
use super::state_file::{About, Section};
use super::store::{Checkpoint, Recovered, Settings};
use super::{CheckpointError, Storage};

/// (uid, slot, key) → value.
pub(super) type State = BTreeMap<(String, u64, u64), String>;

pub(super) const QUERY: &str = "tides";

/// A change of an epoch to the state; no key is a whole slot, no value is none any more.
type Step = (&'static str, u64, Option<u64>, Option<String>);

fn steps(epoch: u64) -> Vec<Step> {
    let mut steps = vec![
        ("count", 0, Some(epoch % 5), Some(format!("{epoch}"))),
        ("count", 0, Some((epoch + 2) % 5), None),
        ("count", 1 + epoch / 3, Some(epoch), Some("in a pane".to_owned())),
        ("join", 0, Some(epoch % 7), Some("x".repeat(epoch as usize % 7 * 40))),
    ];
    if epoch % 3 == 2 {
        steps.push(("count", epoch / 3, None, None));
    }
    if epoch % 4 == 3 { vec![] } else { steps }
}

fn apply(state: &mut State, (uid, slot, key, value): Step) {
    match (key, value) {
        (Some(key), Some(value)) => drop(state.insert((uid.to_owned(), slot, key), value)),
        (Some(key), None) => drop(state.remove(&(uid.to_owned(), slot, key))),
        (None, _) => state.retain(|(u, s, _), _| (u.as_str(), *s) != (uid, slot)),
    }
}

/// The state at the end of an epoch, without any checkpoint.
pub(super) fn state_at(epoch: Epoch) -> State {
    let mut state = State::new();
    (0..=epoch.number()).flat_map(steps).for_each(|step| apply(&mut state, step));
    state
}

/// What a worker writes: changes, or the whole of a state.
fn sections(worker: usize, workers: usize, steps: impl IntoIterator<Item = Step>) -> Vec<Section> {
    let mut writers: BTreeMap<&str, SnapshotWriter> = BTreeMap::new();
    for (uid, slot, key, value) in steps {
        let writer = writers.entry(uid).or_default();
        match key {
            Some(key) => {
                let group = writer.key_groups().of(hash_key(&key));
                if group.worker(workers) == worker {
                    match value {
                        Some(value) => writer.put(group, &slot, &key, &value).unwrap(),
                        None => writer.remove(group, &slot, &key).unwrap(),
                    }
                }
            }
            None => KeyGroups::default().iter().filter(|group| group.worker(workers) == worker).for_each(
                |group| {
                    writer.drop_slot(group, &slot).unwrap();
                },
            ),
        }
    }
    let of = |(uid, writer): (&str, SnapshotWriter)| {
        let uid: Arc<str> = uid.into();
        writer.into_groups().map(move |(group, bytes)| Section { uid: Arc::clone(&uid), group, bytes })
    };
    writers.into_iter().flat_map(of).collect()
}

/// What the workers that there are now get of the last commit.
pub(super) fn load(checkpoint: &Checkpoint, workers: usize) -> Result<State, CheckpointError> {
    let mut state = State::new();
    let loader = checkpoint.loader();
    for worker in 0..workers {
        loader.load::<CheckpointError>(worker, workers, &|_| false, |uid, group, bytes| {
            assert_eq!(group.worker(workers), worker);
            for change in SnapshotReader::new(bytes) {
                match change? {
                    Change::Put { slot, key, value } => {
                        state.insert((uid.to_owned(), decode(slot)?, decode(key)?), decode(value)?);
                    }
                    Change::Remove { slot, key } => {
                        state.remove(&(uid.to_owned(), decode(slot)?, decode(key)?));
                    }
                    Change::DropSlot { .. } => panic!("dropped slots are left out"),
                }
            }
            Ok(())
        })?;
    }
    Ok(state)
}

pub(super) fn plan(epoch: u64) -> PlanRecord {
    let range = (Json(serde_json::json!(epoch)), Json(serde_json::json!({ "row": epoch + 1 })));
    PlanRecord {
        epoch: Epoch::new(epoch),
        clock: ProcessingTime::from_micros(epoch as i64 * 10),
        ranges: BTreeMap::from([("source".to_owned(), vec![range])]),
        ..PlanRecord::default()
    }
}

pub(super) fn commit(epoch: u64, workers: u32) -> CommitRecord {
    CommitRecord {
        epoch: Epoch::new(epoch),
        mode: Mode::MicroBatch,
        workers,
        offsets: BTreeMap::from([("source".to_owned(), vec![Json(serde_json::json!({ "row": epoch + 1 }))])]),
        ..CommitRecord::default()
    }
}

/// The state of an epoch, written by this many workers: changes, or all of it.
pub(super) fn write(
    checkpoint: &Checkpoint,
    epoch: u64,
    workers: usize,
    base: bool,
) -> Result<Vec<FileRef>, CheckpointError> {
    let mut files = vec![];
    for worker in 0..workers {
        let whole = state_at(Epoch::new(epoch)).into_iter().map(|((uid, slot, key), value)| {
            let uid = if uid == "count" { "count" } else { "join" };
            (uid, slot, Some(key), Some(value))
        });
        let steps = if base { whole.collect() } else { steps(epoch) };
        let about = About { epoch: Epoch::new(epoch), worker: worker as u32, base };
        files.extend(checkpoint.writer().write(about, &sections(worker, workers, steps))?);
    }
    Ok(files)
}

/// Runs the query until an epoch is committed: checks what is recovered, repeats what was planned, continues; compacts
/// when it is worth while. Says which epochs it was told are committed.
pub(super) fn run(
    storage: &Arc<dyn Storage>,
    settings: Settings,
    workers: usize,
    until: u64,
    told: &mut Vec<Epoch>,
) -> Result<Checkpoint, CheckpointError> {
    let (mut checkpoint, recovered) = Checkpoint::open(Arc::clone(storage), QUERY, settings)?;
    let mut next = 0;
    if let Some(Recovered { commit, plans }) = recovered {
        if let Some(commit) = commit {
            assert_eq!(
                commit.offsets["source"],
                [Json(serde_json::json!({ "row": commit.epoch.number() + 1 }))]
            );
            assert_eq!(load(&checkpoint, workers)?, state_at(commit.epoch), "at epoch {}", commit.epoch);
            next = commit.epoch.number() + 1;
        }
        for (n, planned) in (next..).zip(&plans) {
            assert!(planned.execution < checkpoint.execution());
            assert_eq!(*planned, PlanRecord { execution: planned.execution, ..plan(n) });
        }
    }
    if checkpoint.last().is_none() || checkpoint.last().unwrap().epoch.number() < until {
        checkpoint.plan(plan(next))?;
    }
    for epoch in next..=until {
        let files = write(&checkpoint, epoch, workers, epoch % 10 == 6)?;
        if let Some(compaction) = checkpoint.compaction(workers as u32) {
            let result = compaction.run();
            checkpoint.compacted(result);
        }
        let following = (epoch < until).then(|| plan(epoch + 1));
        checkpoint.commit(commit(epoch, workers as u32), files, following)?;
        told.push(Epoch::new(epoch));
    }
    Ok(checkpoint)
}

/// Opens the checkpoint and checks it: which epoch is the last one.
pub(super) fn check(storage: &Arc<dyn Storage>, workers: usize) -> Result<Option<Epoch>, CheckpointError> {
    let (checkpoint, recovered) = Checkpoint::open(Arc::clone(storage), QUERY, Settings::default())?;
    let Some(commit) = recovered.and_then(|r| r.commit) else { return Ok(None) };
    let state = load(&checkpoint, workers)?;
    assert_eq!(state, state_at(commit.epoch), "a wrong state at epoch {}", commit.epoch);
    Ok(Some(commit.epoch))
}
