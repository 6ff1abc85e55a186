//! That a snapshot holds what has changed and nothing else.

use std::time::Duration;

use super::{GroupState, RunningState, Stamp, Windowing};
use crate::aggregate::Count;
use crate::{
    Change, EventTime, KeyGroups, SnapshotReader, SnapshotWriter, decode, hash_key, session, sliding,
    tumbling,
};

const KEYS: u64 = 10_000;

fn add<S: GroupState<u64, Count<()>>>(state: &mut S, time: i64, keys: impl IntoIterator<Item = u64>) {
    state.begin(EventTime::MIN);
    for key in keys {
        let late = state.offer(
            &Count::new(),
            hash_key(&key),
            &key,
            EventTime::from_micros(time),
            (),
            EventTime::MIN,
        );
        assert!(late.is_none());
    }
    state.end();
}

fn close<S: GroupState<u64, Count<()>>>(state: &mut S, watermark: i64) -> usize {
    let mut closed = 0;
    state.changed(&Count::new(), &mut |_, _, _| ());
    state.close(&Count::new(), EventTime::from_micros(watermark), &mut |_, _, _| closed += 1);
    closed
}

/// The keys that were put, how many bytes there are, and how many changes are not puts.
fn written<S: GroupState<u64, Count<()>>>(state: &mut S) -> (Vec<u64>, usize, usize) {
    state.changed(&Count::new(), &mut |_, _, _| ());
    let mut writer = SnapshotWriter::new();
    state.snapshot(&Count::new(), &mut writer).unwrap();
    let (mut keys, mut bytes, mut others) = (vec![], 0, 0);
    for (_, changes) in writer.into_groups() {
        bytes += changes.len();
        for change in SnapshotReader::new(&changes) {
            match change.unwrap() {
                Change::Put { slot: [0], .. } => {}
                Change::Put { key, .. } => keys.push(decode(key).unwrap()),
                Change::Remove { .. } | Change::DropSlot { .. } => others += 1,
            }
        }
    }
    keys.sort_unstable();
    (keys, bytes, others)
}

fn three_of_many<S: GroupState<u64, Count<()>>>(mut state: S) {
    state.track();
    add(&mut state, 1, 0..KEYS);
    assert_eq!(written(&mut state).0.len(), KEYS as usize);
    assert_eq!(written(&mut state), (vec![], 0, 0), "nothing has changed");
    add(&mut state, 2, [17, 4_711, 9_999, 17]);
    let (keys, bytes, others) = written(&mut state);
    assert_eq!((keys, others), (vec![17, 4_711, 9_999], 0));
    assert!(bytes < 60, "{bytes} bytes");
    assert_eq!(state.len(), KEYS as usize);
}

#[test]
fn three_changed_keys_of_ten_thousand_write_three() {
    let (size, slide) = (Duration::from_micros(100), Duration::from_micros(10));
    three_of_many(RunningState::<_, _, ()>::new());
    three_of_many(RunningState::<_, _, Stamp>::new());
    three_of_many(tumbling(size).state::<_, _, ()>());
    three_of_many(tumbling(size).state::<_, _, Stamp>());
    three_of_many(sliding(size, slide).state::<_, _, ()>());
    three_of_many(sliding(size, slide).state::<_, _, Stamp>());
    three_of_many(session(size).state::<_, _, ()>());
    three_of_many(session(size).state::<_, _, Stamp>());
}

#[test]
fn grown_pane_is_written_whole() {
    let mut state = tumbling(Duration::from_micros(100)).state::<u64, Count<()>, ()>();
    state.record.large = 50;
    state.track();
    add(&mut state, 1, 0..3);
    assert_eq!(written(&mut state).0, [0, 1, 2]);
    add(&mut state, 2, 2..100);
    assert_eq!(written(&mut state).0, (0..100).collect::<Vec<_>>(), "with what had been written before");
    assert_eq!(state.panes[0].settled.len(), 0, "and nothing was set apart");
    assert_eq!(written(&mut state), (vec![], 0, 0), "nothing has changed");
    add(&mut state, 3, [7]);
    assert_eq!(written(&mut state).0.len(), 100, "once more, for what changes from then on");
    add(&mut state, 4, [7]);
    assert_eq!(written(&mut state).0, [7]);
    assert_eq!(close(&mut state, 100), 100);
}

/// A window of 10 with keys from 0 to 99, closed before or after a snapshot.
fn come_and_gone<S: GroupState<u64, Count<()>>>(mut state: S, drops: usize) {
    state.track();
    add(&mut state, 1, 0..100);
    assert!(close(&mut state, 50) >= 100);
    assert_eq!(written(&mut state), (vec![], 0, 0), "it came and went");
    add(&mut state, 51, 0..100);
    assert_eq!(written(&mut state).0.len(), 100);
    assert!(close(&mut state, 100) >= 100);
    let (keys, _, others) = written(&mut state);
    assert_eq!((keys, others), (vec![], drops), "it was written and went");
    assert_eq!(written(&mut state), (vec![], 0, 0));
    assert!(state.is_empty());
}

#[test]
fn window_between_two_snapshots_is_not_written() {
    let size = Duration::from_micros(10);
    let groups: std::collections::BTreeSet<_> =
        (0..100u64).map(|key| KeyGroups::default().of(hash_key(&key))).collect();
    come_and_gone(tumbling(size).state::<_, _, ()>(), groups.len());
    come_and_gone(tumbling(size).state::<_, _, Stamp>(), groups.len());
    come_and_gone(sliding(size, size / 2).state::<_, _, ()>(), groups.len());
    come_and_gone(sliding(size, size / 2).state::<_, _, Stamp>(), groups.len());
    come_and_gone(session(size).state::<_, _, ()>(), 100);
    come_and_gone(session(size).state::<_, _, Stamp>(), 100);
}

#[test]
fn a_key_that_has_come_again_since_its_session_closed_is_there() {
    let mut state = session(Duration::from_micros(10)).state::<u64, Count<()>, ()>();
    state.track();
    add(&mut state, 1, [7]);
    assert_eq!(written(&mut state).0, [7]);
    assert_eq!(close(&mut state, 50), 1);
    add(&mut state, 60, [7]);
    let (keys, _, removed) = written(&mut state);
    assert_eq!((keys, removed), (vec![7], 1));
}
