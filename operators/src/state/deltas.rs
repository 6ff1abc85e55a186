//! Snapshots of changes: a chain of them is worth as much as a snapshot of everything, and no longer than it need be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::reference::{Kind, Naive, Record, Row};
use super::totals_tests::Retracted;
use super::{GroupState, PaneState, RunningState, Stamp, Windowing};
use crate::aggregate::Fold;
use crate::{
    Aggregate, EventTime, Folded, KeyGroup, KeyGroups, SlidingWindow, SnapshotWriter, Window, hash_key,
    session, session_by, sliding, tumbling, without_dropped,
};

/// The numbers of the records, in the order in which they were added.
fn in_order() -> impl Aggregate<In = Record, Out = Vec<u32>> {
    Fold::new(
        Vec::new(),
        |ids: &mut Vec<u32>, record: &Record| ids.push(record.0),
        |ids, others| ids.extend(others),
    )
}

/// What a result is about, as a window.
trait About: Copy {
    fn window(self) -> Window;
}

impl About for Window {
    fn window(self) -> Window {
        self
    }
}

impl About for () {
    fn window(self) -> Window {
        Window { start: EventTime::MIN, end: EventTime::MAX }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Output {
    Append,
    Update,
    Complete,
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys, times and gaps of records; aggregated elsewhere first, or not.
    Batch {
        merged: bool,
        records: Vec<(u8, i64, u64)>,
    },
    Watermark(i64),
    /// The results of the output mode.
    Results,
    Snapshot,
    /// Takes a snapshot and resumes with this many workers: from the chain of deltas, from the folded chain, or from the chain
    /// without dropped slots.
    Restart {
        workers: usize,
        chain: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0..6u8, -60..60i64, 0..12u64);
    let step = prop_oneof![
        8 => (any::<bool>(), proptest::collection::vec(record, 1..6))
            .prop_map(|(merged, records)| Step::Batch { merged, records }),
        3 => (-70..80i64).prop_map(Step::Watermark),
        2 => Just(Step::Results),
        4 => Just(Step::Snapshot),
        2 => (1..4usize, 0..3u8).prop_map(|(workers, chain)| Step::Restart { workers, chain }),
    ];
    proptest::collection::vec(step, 1..50)
}

type Link = Vec<(KeyGroup, Vec<u8>)>;
type Parts<'a> = BTreeMap<KeyGroup, Vec<&'a [u8]>>;

/// One state, held by a number of workers, and what was written of it.
struct Held<S> {
    workers: Vec<S>,
    groups: KeyGroups,
    chain: Vec<Link>,
}

type Told = Vec<(u8, Window, Vec<u32>)>;

impl<S> Held<S> {
    fn new<A: Aggregate>(make: &impl Fn() -> S, groups: KeyGroups) -> Self
    where
        S: GroupState<u8, A>,
    {
        let mut state = make();
        state.track();
        Held { workers: vec![state], groups, chain: vec![] }
    }

    fn of(&mut self, hash: u64) -> &mut S {
        let workers = self.workers.len();
        &mut self.workers[self.groups.of(hash).worker(workers)]
    }

    fn each(&mut self, mut emit: impl FnMut(&mut S, &mut Told)) -> Told {
        let mut told = vec![];
        self.workers.iter_mut().for_each(|state| emit(state, &mut told));
        told.sort();
        told
    }

    /// Adds a link to the chain. What has changed and was not told is written again and again until it is.
    fn snapshot<A: Aggregate>(&mut self, aggregate: &A, untold: bool)
    where
        S: GroupState<u8, A>,
    {
        let mut link = vec![];
        for state in &mut self.workers {
            link.extend(delta(state, aggregate, self.groups));
            assert!(untold || delta(state, aggregate, self.groups).is_empty(), "written twice");
        }
        self.chain.push(link);
    }

    /// The chain of each group.
    fn parts(&self) -> Parts<'_> {
        by_group(self.chain.iter().flatten())
    }

    fn restart<A: Aggregate>(
        &mut self,
        make: &impl Fn() -> S,
        aggregate: &A,
        to: (usize, u8),
        closed: EventTime,
    ) where
        S: GroupState<u8, A>,
    {
        let (workers, chain) = to;
        let mut restored: Vec<S> = (0..workers).map(|_| make()).collect();
        restored.iter_mut().for_each(S::track);
        for (group, parts) in self.parts() {
            let state = &mut restored[group.worker(workers)];
            match chain {
                0 => parts.iter().for_each(|bytes| state.restore(group, bytes).unwrap()),
                1 => state.restore(group, &folded(&parts).write()).unwrap(),
                _ => without_dropped(&parts)
                    .unwrap()
                    .iter()
                    .for_each(|bytes| state.restore(group, bytes).unwrap()),
            }
        }
        for state in &mut restored {
            state.close(aggregate, closed, &mut |_, _, _| {
                panic!("closed by a watermark that had been applied")
            });
            assert!(delta(state, aggregate, self.groups).is_empty(), "what was restored has been written");
        }
        self.workers = restored;
    }
}

fn delta<A: Aggregate, S: GroupState<u8, A>>(state: &mut S, aggregate: &A, groups: KeyGroups) -> Link {
    let mut writer = SnapshotWriter::new().with_key_groups(groups);
    state.snapshot(aggregate, &mut writer).unwrap();
    writer.into_groups().collect()
}

fn folded<'a>(parts: &[&'a [u8]]) -> Folded<'a> {
    let mut folded = Folded::new();
    parts.iter().for_each(|bytes| folded.apply(bytes).unwrap());
    folded
}

fn by_group<'a>(changes: impl IntoIterator<Item = &'a (KeyGroup, Vec<u8>)>) -> Parts<'a> {
    let mut parts = Parts::new();
    changes.into_iter().for_each(|(group, bytes)| parts.entry(*group).or_default().push(bytes));
    parts
}

/// What chains come to, without watermarks.
fn entries(parts: Parts<'_>) -> BTreeSet<(KeyGroup, &[u8], &[u8], &[u8])> {
    let mut entries = BTreeSet::new();
    for (group, parts) in parts {
        let folded = folded(&parts);
        let of_panes = folded.entries().filter(|(slot, _, _)| *slot != [0]);
        entries.extend(of_panes.map(|(slot, key, value)| (group, slot, key, value)));
    }
    entries
}

fn as_sets(told: &Told) -> Vec<Row> {
    let row = |(key, window, ids): &(u8, Window, Vec<u32>)| {
        let set: BTreeSet<u32> = ids.iter().copied().collect();
        assert_eq!(set.len(), ids.len(), "a record is in there twice");
        (*key, *window, set)
    };
    let mut rows: Vec<Row> = told.iter().map(row).collect();
    rows.sort();
    rows
}

fn results<A, S>(state: &mut S, aggregate: &A, output: Output, told: &mut Told)
where
    A: Aggregate<Out = Vec<u32>>,
    S: GroupState<u8, A, Scope: About>,
{
    let mut emit = |key, place: S::Scope, ids| told.push((key, place.window(), ids));
    match output {
        Output::Append => {}
        Output::Update => state.changed(aggregate, &mut emit),
        Output::Complete => state.all(aggregate, &mut emit),
    }
}

/// The steps on the loops; on a state that nothing is written of; on one that is written again and again; and on one
/// that is restored from what was written.
fn check<A, S>(aggregate: &A, make: impl Fn() -> S, kind: Kind, output: Output, steps: &[Step])
where
    A: Aggregate<In = Record, Out = Vec<u32>>,
    S: GroupState<u8, A, Scope: About>,
{
    let mut naive = Naive::new();
    // Fewer, as many, and more than the default.
    let groups = KeyGroups::new([1, 8, 128, 1_024][steps.len() % 4]).unwrap();
    let mut plain = Held { workers: vec![make()], groups, chain: vec![] };
    let mut written = Held::new(&make, groups);
    let mut moved = Held::new(&make, groups);
    let mut id = 0;
    let end = if output == Output::Complete { Step::Results } else { Step::Watermark(i64::MAX) };
    for step in steps.iter().chain([&Step::Snapshot, &end, &Step::Snapshot]) {
        let watermark = EventTime::from_micros(naive.watermark);
        match step {
            Step::Batch { merged, records } => {
                let mut records: Vec<_> =
                    records.iter().map(|r| (r.0, EventTime::from_micros(r.1), (0, r.2))).collect();
                records.retain_mut(|(key, time, record)| {
                    record.0 = id;
                    id += 1;
                    naive.add(kind, *key, time.as_micros(), *record)
                });
                for held in [&mut plain, &mut written, &mut moved] {
                    held.workers
                        .iter_mut()
                        .for_each(|state| state.begin(if *merged { EventTime::MIN } else { watermark }));
                    for (key, time, record) in &records {
                        let hash = hash_key(key);
                        let state = held.of(hash);
                        if *merged {
                            let slot = state.slot(*time, record);
                            state.merge(aggregate, hash, *key, slot, aggregate.create(record));
                        } else {
                            assert_eq!(
                                state.offer(aggregate, hash, key, *time, *record, watermark),
                                None,
                                "late"
                            );
                        }
                    }
                    held.workers.iter_mut().for_each(S::end);
                }
            }
            Step::Watermark(_) | Step::Results => {
                let told = [&mut plain, &mut written, &mut moved]
                    .map(|held| held.each(|state, told| results(state, aggregate, output, told)));
                let expected = match output {
                    Output::Append => vec![],
                    Output::Update => naive.take_changed(),
                    Output::Complete => naive.open.clone(),
                };
                agree(&told, expected);
                let Step::Watermark(to) = step else { continue };
                if output == Output::Complete {
                    continue;
                }
                let to = naive.watermark.max(*to);
                if output == Output::Update {
                    [&mut plain, &mut written, &mut moved].into_iter().for_each(|held| {
                        held.workers
                            .iter_mut()
                            .for_each(|state| state.forget(aggregate, EventTime::from_micros(to)));
                    });
                    if !matches!(kind, Kind::Forever) {
                        naive.close(to);
                    }
                    continue;
                }
                let told = [&mut plain, &mut written, &mut moved].map(|held| {
                    held.each(|state, told| {
                        let mut emit = |key, place: S::Scope, ids| told.push((key, place.window(), ids));
                        state.close(aggregate, EventTime::from_micros(to), &mut emit);
                    })
                });
                let expected = if matches!(kind, Kind::Forever) { vec![] } else { naive.close(to) };
                agree(&told, expected);
            }
            Step::Snapshot | Step::Restart { .. } => {
                if let Step::Restart { .. } = step {
                    // A restored state has nothing to tell: it is told before.
                    let told = [&mut plain, &mut written, &mut moved]
                        .map(|held| held.each(|state, told| results(state, aggregate, Output::Update, told)));
                    assert_eq!(told[0], told[2], "changed");
                    naive.take_changed();
                }
                let untold = output == Output::Update && matches!(step, Step::Snapshot);
                let full = delta(&mut plain.workers[0], aggregate, groups);
                for held in [&mut written, &mut moved] {
                    held.snapshot(aggregate, untold);
                    assert_eq!(entries(held.parts()), entries(by_group(&full)), "{step:?}");
                }
                if let Step::Restart { workers, chain } = step {
                    moved.restart(
                        &make,
                        aggregate,
                        (*workers, *chain),
                        EventTime::from_micros(naive.watermark),
                    );
                }
            }
        }
        let rows = plain.workers[0].len();
        for held in [&written, &moved] {
            assert_eq!(held.workers.iter().map(S::len).sum::<usize>(), rows, "after {step:?}");
        }
    }
}

fn agree(told: &[Told; 3], mut expected: Vec<Row>) {
    let [plain, written, moved] = told;
    expected.sort();
    assert_eq!(as_sets(plain), expected, "without snapshots");
    assert_eq!(written, plain, "with snapshots");
    assert_eq!(moved, plain, "restored");
}

fn check_windows<W: Windowing<Record>>(windowing: &W, kind: Kind, steps: &[Step]) {
    check_windows_of(&in_order(), windowing, kind, steps);
}

/// All output modes of windows.
fn check_windows_of<W, A>(aggregate: &A, windowing: &W, kind: Kind, steps: &[Step])
where
    W: Windowing<Record>,
    A: Aggregate<In = Record, Out = Vec<u32>>,
{
    fn plain<W: Windowing<Record>, A: Aggregate<In = Record>>(w: &W, _: &A) -> W::State<u8, A, ()> {
        w.state()
    }
    fn stamped<W: Windowing<Record>, A: Aggregate<In = Record>>(w: &W, _: &A) -> W::State<u8, A, Stamp> {
        w.state()
    }
    check(aggregate, || plain(windowing, aggregate), kind, Output::Append, steps);
    check(aggregate, || stamped(windowing, aggregate), kind, Output::Update, steps);
    check(aggregate, || plain(windowing, aggregate), kind, Output::Complete, steps);
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

proptest! {
    #[test]
    fn a_chain_of_tumbling_windows_goes_on_as_the_windows_do(size in 1..30u64, steps in steps()) {
        check_windows(&tumbling(micros(size)), Kind::Aligned { size, slide: size, offset: 0 }, &steps);
    }

    #[test]
    fn a_chain_of_sliding_windows_goes_on_as_the_windows_do(
        (size, slide) in (1..30u64).prop_flat_map(|size| (Just(size), 1..=size)),
        steps in steps(),
    ) {
        check_windows(&sliding(micros(size), micros(slide)), Kind::Aligned { size, slide, offset: 0 }, &steps);
    }

    #[test]
    fn sliding_windows_with_running_totals_resume_from_chain(
        (slide, panes) in (1..4u64, 1..14u64),
        rest in 0..4u64,
        steps in steps(),
    ) {
        let size = slide * panes + rest % slide;
        let kind = Kind::Aligned { size, slide, offset: 0 };
        check_windows_of(&Retracted::<Vec<u32>>::new(), &sliding(micros(size), micros(slide)), kind, &steps);
    }

    #[test]
    fn windows_with_whole_panes_resume_from_chain(
        (size, slide) in (1..30u64).prop_flat_map(|size| (Just(size), 1..=size)),
        steps in steps(),
    ) {
        fn large<A: Aggregate<In = Record>>(w: &SlidingWindow, _: &A) -> PaneState<u8, A, ()> {
            let mut state = w.state();
            state.record.large = 2;
            state
        }
        let (aggregate, window) = (in_order(), sliding(micros(size), micros(slide)));
        let kind = Kind::Aligned { size, slide, offset: 0 };
        check(&aggregate, || large(&window, &aggregate), kind, Output::Append, &steps);
        check(&aggregate, || large(&window, &aggregate), kind, Output::Complete, &steps);
    }

    #[test]
    fn a_chain_of_sessions_by_record_goes_on_as_the_sessions_do(steps in steps()) {
        check_windows(&session_by(|record: &Record| micros(record.1)), Kind::Session, &steps);
    }

    #[test]
    fn a_chain_of_sessions_goes_on_as_the_sessions_do(fixed in 1..12u64, mut steps in steps()) {
        for step in &mut steps {
            if let Step::Batch { records, .. } = step {
                records.iter_mut().for_each(|record| record.2 = fixed);
            }
        }
        check_windows(&session(micros(fixed)), Kind::Session, &steps);
    }

    #[test]
    fn a_chain_of_running_aggregates_goes_on_as_they_do(steps in steps()) {
        fn plain<A: Aggregate>(_: &A) -> RunningState<u8, A, ()> {
            RunningState::new()
        }
        fn stamped<A: Aggregate>(_: &A) -> RunningState<u8, A, Stamp> {
            RunningState::new()
        }
        let aggregate = in_order();
        // A running aggregate is not late, whatever the watermark: there is none.
        let steps: Vec<Step> = steps.into_iter().filter(|step| !matches!(step, Step::Watermark(_))).collect();
        check(&aggregate, || stamped(&aggregate), Kind::Forever, Output::Update, &steps);
        check(&aggregate, || plain(&aggregate), Kind::Forever, Output::Complete, &steps);
    }
}
