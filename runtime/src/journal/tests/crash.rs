//! Dies at every change of the storage, and looks what the next run makes of it.

use super::{Peer, Rig, Say, attached, oldest};
use crate::checkpoint::MemoryStorage;
use crate::journal::Journal;
use crate::testing::{Break, FaultyStorage};
use tidemill_operators::{Reader, SourceError};

const ROUNDS: u64 = 24;
const ALL: u64 = ROUNDS * 3;

/// What the graph of a dead run has seen, and what of it was committed.
#[derive(Default)]
struct Seen {
    rows: Vec<(u64, u64)>,
    committed: Option<u64>,
}

/// Three records at a time, a commit every few rounds, small segments.
fn run(peer: &Peer, storage: &FaultyStorage, seen: &mut Seen) -> Result<(), SourceError> {
    let source = attached(peer.clone().journaled().with_segment_size(60), storage);
    let from = oldest(&source)?;
    let mut rig = Rig::open(source, from)?;
    for round in 0..ROUNDS {
        peer.rows((0..3).map(|n| round * 3 + n));
        let first = rig.reader.offset();
        seen.rows.extend((first..).zip(rig.read_at_least(3)?));
        if round % 4 == 2 {
            seen.committed = Some(rig.reader.offset());
            rig.commit();
        }
    }
    rig.crash();
    Ok(())
}

/// The next run: everything from the last commit on, to the end, with its numbers; and once more the same.
fn run_again(peer: &Peer, memory: &MemoryStorage, seen: &Seen) -> Vec<(u64, u64)> {
    let replay = |storage: &MemoryStorage| {
        let source = attached(peer.clone().journaled().with_segment_size(60), storage);
        let from = seen.committed.unwrap_or_else(|| oldest(&source).unwrap());
        let mut rig = Rig::open(source, from).unwrap();
        let rows: Vec<_> = (from..).zip(rig.read_to_end().unwrap()).collect();
        assert_eq!(rig.reader.offset(), from + rows.len() as u64 + 1, "the end has a number");
        rig.crash();
        rows
    };
    let first = replay(memory);
    assert_eq!(replay(&MemoryStorage::from_files(memory.files())), first, "one replay is as the other");
    first
}

fn crash_everywhere(repeats: bool, how: Break) {
    for at in 1.. {
        let peer = Peer { repeats, ..Peer::default() };
        let memory = MemoryStorage::new();
        let storage = FaultyStorage::new(memory.clone(), at, how);
        let mut seen = Seen::default();
        let result = run(&peer, &storage, &mut seen);
        if !storage.is_broken() {
            result.unwrap();
            assert!(at > 20, "{at} changes are too few to prove anything");
            return;
        }
        let acknowledged = peer.acknowledged();
        // A sender that repeats has kept what was not acknowledged; any other sends something new.
        let rest = if repeats { acknowledged + peer.left() as u64..ALL } else { 1000..1010 };
        peer.rows(rest);
        peer.say([Say::End]);
        let replayed = run_again(&peer, &memory, &seen);

        let committed = seen.committed.unwrap_or(0);
        for (number, value) in seen.rows.iter().filter(|(number, _)| *number >= committed) {
            assert!(
                replayed.contains(&(*number, *value)),
                "{how:?} at {at}: record {number} = {value} was seen"
            );
        }
        let mut values: Vec<u64> =
            seen.rows.iter().filter(|(number, _)| *number < committed).map(|(_, value)| *value).collect();
        values.extend(replayed.iter().map(|(_, value)| *value));
        assert!(
            values.is_sorted_by(|a, b| a < b),
            "{how:?} at {at}: none twice, none out of order: {values:?}"
        );
        assert!((0..acknowledged).all(|value| values.contains(&value)), "{how:?} at {at}: {values:?}");
        if repeats {
            assert_eq!(values, (0..ALL).collect::<Vec<_>>(), "{how:?} at {at}");
        }
    }
}

#[test]
fn seen_rows_replay_after_crash_before_change() {
    crash_everywhere(false, Break::CrashBefore);
    crash_everywhere(true, Break::CrashBefore);
}

#[test]
fn seen_rows_replay_after_crash_within_change() {
    crash_everywhere(false, Break::CrashWithin);
    crash_everywhere(true, Break::CrashWithin);
}

#[test]
fn seen_rows_replay_after_crash_after_change() {
    crash_everywhere(false, Break::CrashAfter);
    crash_everywhere(true, Break::CrashAfter);
}

#[test]
fn what_the_graph_has_seen_comes_again_when_the_disk_was_full() {
    crash_everywhere(false, Break::DiskFull);
    crash_everywhere(true, Break::DiskFull);
}
