//! The window states against plain loops, over random records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{GroupState, Intake, PartialState, Stamp, Windowing};
use crate::aggregate::Fold;
use crate::{
    Aggregate, Change, EventTime, KeyGroups, SnapshotReader, SnapshotWriter, Window, hash_key, session,
    session_by, sliding, tumbling,
};

pub(crate) type Ids = BTreeSet<u32>;
pub(crate) type Row = (u8, Window, Ids);

/// A record: a number of its own, and for how many microseconds it keeps its session open.
pub(crate) type Record = (u32, u64);

fn ids() -> impl Aggregate<In = Record, Out = Ids> {
    let add = |seen: &mut Ids, record: &Record| assert!(seen.insert(record.0), "a record was added twice");
    let merge = |seen: &mut Ids, mut others: Ids| {
        assert!(seen.is_disjoint(&others), "a record was merged twice");
        seen.append(&mut others);
    };
    Fold::new(Ids::new(), add, merge)
}

/// The records of every open window, found by loops.
#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) open: Vec<Row>,
    changed: BTreeSet<(u8, Window)>,
    pub(crate) watermark: i64,
}

/// How the loops find windows: all aligned ones around an instant, sessions, or one that is for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Aligned { size: u64, slide: u64, offset: u64 },
    Session,
    Forever,
}

fn window(start: i128, end: i128) -> Window {
    let cut =
        |t: i128| EventTime::from_micros(i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX }));
    Window { start: cut(start), end: cut(end) }
}

impl Naive {
    pub(crate) fn new() -> Self {
        Naive { watermark: i64::MIN, ..Naive::default() }
    }

    /// Whether the record was in time.
    pub(crate) fn add(&mut self, kind: Kind, key: u8, time: i64, (id, gap): Record) -> bool {
        let time = i128::from(time);
        let mut windows = vec![];
        match kind {
            Kind::Aligned { size, slide, offset } => {
                let (size, slide) = (i128::from(size), i128::from(slide));
                for start in time - size + 1..=time {
                    if (start - i128::from(offset)).rem_euclid(slide) == 0 {
                        windows.push(window(start, start + size));
                    }
                }
            }
            Kind::Session => windows.push(window(time, time + i128::from(gap.max(1)))),
            Kind::Forever => windows.push(window(i64::MIN.into(), i64::MAX.into())),
        }
        windows.retain(|w| w.end.as_micros() > self.watermark);
        for window in &windows {
            let mut row = (key, *window, Ids::from([id]));
            let mut changed = *window;
            for other in std::mem::take(&mut self.open) {
                let meets = match kind {
                    Kind::Aligned { .. } | Kind::Forever => other.1 == row.1,
                    Kind::Session => other.1.start <= row.1.end && row.1.start <= other.1.end,
                };
                if other.0 == key && meets {
                    self.changed.remove(&(key, other.1));
                    changed.start = changed.start.min(other.1.start);
                    changed.end = changed.end.max(other.1.end);
                    row.2.extend(other.2);
                } else {
                    self.open.push(other);
                }
            }
            row.1 = changed;
            self.changed.insert((key, changed));
            self.open.push(row);
        }
        !windows.is_empty()
    }

    pub(crate) fn close(&mut self, watermark: i64) -> Vec<Row> {
        self.watermark = watermark;
        let (closed, open) =
            std::mem::take(&mut self.open).into_iter().partition(|r| r.1.end.as_micros() <= watermark);
        self.open = open;
        self.changed.retain(|(_, window)| window.end.as_micros() > watermark);
        closed
    }

    pub(crate) fn take_changed(&mut self) -> Vec<Row> {
        let changed = std::mem::take(&mut self.changed);
        self.open.iter().filter(|row| changed.contains(&(row.0, row.1))).cloned().collect()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Record {
        key: u8,
        time: i64,
        gap: u64,
    },
    /// Advances the watermark, having asked for the changes first.
    Watermark(i64),
    Changed,
    All,
    /// Emits what the workers have gathered.
    Flush,
    /// Snapshot and restore.
    Restart,
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let base =
        prop_oneof![4 => Just(0i64), 1 => Just(i64::MIN), 1 => Just(i64::MAX), 1 => Just(-1_000_000_007)];
    base.prop_flat_map(|base| {
        let time = move |range: std::ops::Range<i64>| (range, 0..20u8).prop_map(move |(d, far): (i64, u8)| match far {
            0 => base.saturating_add(d.saturating_mul(1_000_000_000_000)),
            _ => base.saturating_add(d),
        });
        let step = prop_oneof![
            12 => (0..4u8, time(-80..80), 0..12u64).prop_map(|(key, time, gap)| Step::Record { key, time, gap }),
            3 => time(-80..80).prop_map(Step::Watermark),
            2 => Just(Step::Changed),
            1 => Just(Step::All),
            1 => Just(Step::Flush),
            1 => Just(Step::Restart),
        ];
        proptest::collection::vec(step, 1..80)
    })
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// Gathers what a state emits.
fn rows(emit: impl FnOnce(&mut dyn FnMut(u8, Window, Ids))) -> Vec<Row> {
    let mut rows = vec![];
    emit(&mut |key, window, ids| rows.push((key, window, ids)));
    rows
}

fn check<W: Windowing<Record>>(windowing: &W, kind: Kind, steps: &[Step]) {
    check_with(&ids(), windowing, kind, steps);
}

/// Runs the steps on the loops, on one state, and on a state fed by three workers that aggregate first.
pub(super) fn check_with<W, A>(aggregate: &A, windowing: &W, kind: Kind, steps: &[Step])
where
    W: Windowing<Record>,
    A: Aggregate<In = Record, Out = Ids>,
{
    fn fresh<W: Windowing<Record>, A: Aggregate<In = Record>>(w: &W, _: &A) -> W::State<u8, A, Stamp> {
        w.state()
    }
    let mut naive = Naive::new();
    let mut states = [fresh(windowing, aggregate), fresh(windowing, aggregate)];
    let mut workers = [0; 3].map(|_| windowing.partials::<u8, A>());
    let mut said: [BTreeMap<(u8, Window), Ids>; 2] = Default::default();
    // At the end everything closes.
    let end = [Step::Watermark(i64::MAX)];
    for (id, step) in (0..).zip(steps.iter().chain(&end)) {
        if !matches!(step, Step::Record { .. }) {
            for worker in &mut workers {
                worker.drain(&mut |hash, key, slot, acc| {
                    let [_, merged] = &mut states;
                    merged.merge(aggregate, hash, key, slot, acc);
                });
                assert!(worker.is_empty());
            }
        }
        match *step {
            Step::Record { key, time, gap } => {
                let (record, hash, event_time) = ((id, gap), hash_key(&key), EventTime::from_micros(time));
                let watermark = EventTime::from_micros(naive.watermark);
                let in_time = naive.add(kind, key, time, record);
                let worker = &mut workers[id as usize % 3];
                assert_eq!(states[0].is_late(event_time, &record, watermark), !in_time, "late: {step:?}");
                assert_eq!(worker.is_late(event_time, &record, watermark), !in_time, "late: {step:?}");
                if in_time {
                    states[0].add(aggregate, hash, &key, event_time, &record);
                    worker.add(aggregate, hash, &key, event_time, &record);
                }
            }
            Step::Changed | Step::Watermark(_) => {
                let expected = sorted(naive.take_changed());
                for (state, said) in states.iter_mut().zip(&mut said) {
                    let changed = rows(|mut emit| state.changed(aggregate, &mut emit));
                    said.extend(changed.iter().cloned().map(|(key, window, ids)| ((key, window), ids)));
                    assert_eq!(sorted(changed), expected, "changed");
                    assert_eq!(rows(|mut emit| state.changed(aggregate, &mut emit)), [], "changed twice");
                }
                let Step::Watermark(watermark) = *step else { continue };
                let watermark = watermark.max(naive.watermark);
                let expected = sorted(naive.close(watermark));
                for (state, said) in states.iter_mut().zip(&mut said) {
                    let closes = state.closes(EventTime::from_micros(watermark));
                    let closed =
                        rows(|mut emit| state.close(aggregate, EventTime::from_micros(watermark), &mut emit));
                    assert!(closes || closed.is_empty(), "closes by {watermark}");
                    assert!(closed.is_sorted_by_key(|row| row.1.end), "closed out of order");
                    assert!(closed.iter().all(|row| said[&(row.0, row.1)] == row.2), "said otherwise before");
                    assert_eq!(sorted(closed), expected, "closed by {watermark}");
                }
            }
            Step::All => {
                for state in &states {
                    let all = rows(|mut emit| state.all(aggregate, &mut emit));
                    assert_eq!(sorted(all), sorted(naive.open.clone()), "all");
                }
            }
            Step::Flush => assert_eq!(states[0].len(), states[1].len()),
            Step::Restart => {
                naive.take_changed();
                for state in &mut states {
                    state.changed(aggregate, &mut |_, _, _| ());
                    let mut writer = SnapshotWriter::new();
                    state.snapshot(aggregate, &mut writer).unwrap();
                    let mut restored = fresh(windowing, aggregate);
                    for (group, bytes) in writer.into_groups().collect::<Vec<_>>().into_iter().rev() {
                        restored.restore(group, &bytes).unwrap();
                        if id % 2 == 0 {
                            // As after a drop or a removal of everything, and puts that replace.
                            restored.restore(group, &undone(&bytes, id % 4 == 0)).unwrap();
                            restored.restore(group, &bytes).unwrap();
                            restored.restore(group, &bytes).unwrap();
                        }
                    }
                    restored.close(aggregate, EventTime::from_micros(naive.watermark), &mut |_, _, _| {
                        panic!("closed by a watermark that had been applied")
                    });
                    assert_eq!(restored.len(), state.len());
                    *state = restored;
                }
                // What changed before the restart was emitted before it.
                for row in &naive.open {
                    said.iter_mut().for_each(|said| drop(said.insert((row.0, row.1), row.2.clone())));
                }
            }
        }
    }
    assert!(states.iter().all(Intake::is_empty), "something was left after the end of time");
}

/// Changes that undo the puts of others.
fn undone(bytes: &[u8], drop_slots: bool) -> Vec<u8> {
    let mut undone = SnapshotWriter::new();
    let mut reader = SnapshotReader::new(bytes);
    while let Some(Change::Put { slot, key, .. }) = reader.next_change().unwrap() {
        if drop_slots {
            undone.drop_slot(KeyGroups::default().of(0), &Raw(slot)).unwrap();
        } else {
            undone.remove(KeyGroups::default().of(0), &Raw(slot), &Raw(key)).unwrap();
        }
    }
    undone.into_groups().map(|(_, bytes)| bytes).next().unwrap_or_default()
}

/// Bytes that are written as they are.
struct Raw<'a>(&'a [u8]);

impl serde::Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for byte in self.0 {
            serde::ser::SerializeTuple::serialize_element(&mut tuple, byte)?;
        }
        serde::ser::SerializeTuple::end(tuple)
    }
}

fn span(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

proptest! {
    #[test]
    fn tumbling_windows_agree_with_plain_loops(size in 1..30u64, offset in 0..40u64, steps in steps()) {
        let kind = Kind::Aligned { size, slide: size, offset };
        check(&tumbling(span(size)).offset(span(offset)), kind, &steps);
    }

    #[test]
    fn sliding_windows_agree_with_plain_loops(
        (size, slide) in (1..30u64).prop_flat_map(|size| (Just(size), 1..=size)),
        offset in 0..40u64,
        steps in steps(),
    ) {
        check(&sliding(span(size), span(slide)).offset(span(offset)), Kind::Aligned { size, slide, offset }, &steps);
    }

    #[test]
    fn sessions_by_record_agree_with_plain_loops(steps in steps()) {
        check(&session_by(|record: &Record| span(record.1)), Kind::Session, &steps);
    }

    #[test]
    fn sessions_agree_with_plain_loops(fixed in 1..12u64, mut steps in steps()) {
        for step in &mut steps {
            if let Step::Record { gap, .. } = step {
                *gap = fixed;
            }
        }
        check(&session(span(fixed)), Kind::Session, &steps);
    }
}
