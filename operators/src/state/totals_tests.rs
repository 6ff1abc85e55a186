//! Running totals against plain loops, and against windows that are merged from their panes.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::reference::{Ids, Kind, Record, check_with, steps};
use super::{GroupState, Intake, PaneState, Windowing};
use crate::aggregate::{Average, Count, Sum};
use crate::{Aggregate, Data, EventTime, SlidingWindow, SnapshotWriter, Window, hash_key, sliding};

/// The numbers of the records. They can be retracted, but for some sets of them.
#[derive(Clone)]
pub(super) struct Retracted<O>(PhantomData<fn() -> O>);

impl<O> Retracted<O> {
    pub(super) fn new() -> Self {
        Retracted(PhantomData)
    }
}

impl<O: Data + Clone + FromIterator<u32>> Aggregate for Retracted<O> {
    type In = Record;
    type Acc = Ids;
    type Out = O;

    const RETRACTS: bool = true;

    fn create(&self, record: &Record) -> Ids {
        Ids::from([record.0])
    }

    fn add(&self, seen: &mut Ids, record: &Record) {
        assert!(seen.insert(record.0), "a record was added twice");
    }

    fn merge(&self, seen: &mut Ids, mut others: Ids) {
        assert!(seen.is_disjoint(&others), "a record was merged twice");
        seen.append(&mut others);
    }

    fn finish(&self, seen: &Ids) -> O {
        seen.iter().copied().collect()
    }

    fn can_retract(&self, seen: &Ids, among: u64) -> bool {
        assert!(among > 1);
        seen.iter().sum::<u32>() % 4 != 0
    }

    fn retract(&self, seen: &mut Ids, of: &Ids) {
        of.iter().for_each(|id| assert!(seen.remove(id), "retracted, and was not there"));
        assert!(!seen.is_empty(), "everything was retracted");
    }
}

/// An aggregate that declares not to be retractable, and how often accumulators were merged or retracted.
#[derive(Clone)]
struct Watched<A, const RETRACTS: bool> {
    aggregate: A,
    steps: Arc<AtomicUsize>,
}

impl<A: Aggregate, const RETRACTS: bool> Watched<A, RETRACTS> {
    fn new(aggregate: A) -> Self {
        Watched { aggregate, steps: Arc::default() }
    }
}

impl<A: Aggregate, const RETRACTS: bool> Aggregate for Watched<A, RETRACTS> {
    type In = A::In;
    type Acc = A::Acc;
    type Out = A::Out;

    const RETRACTS: bool = RETRACTS && A::RETRACTS;

    fn create(&self, value: &A::In) -> A::Acc {
        self.aggregate.create(value)
    }

    fn add(&self, acc: &mut A::Acc, value: &A::In) {
        self.aggregate.add(acc, value);
    }

    fn merge(&self, acc: &mut A::Acc, other: A::Acc) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.aggregate.merge(acc, other);
    }

    fn finish(&self, acc: &A::Acc) -> A::Out {
        self.aggregate.finish(acc)
    }

    fn can_retract(&self, acc: &A::Acc, among: u64) -> bool {
        self.aggregate.can_retract(acc, among)
    }

    fn retract(&self, acc: &mut A::Acc, of: &A::Acc) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.aggregate.retract(acc, of);
    }
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// Sizes and slides of windows with up to this many panes, or twice as many.
fn windows(panes: u64) -> impl Strategy<Value = (u64, u64)> {
    (1..5u64, 1..panes, 0..4u64).prop_map(|(slide, panes, rest)| (slide * panes + rest % slide, slide))
}

proptest! {
    #[test]
    fn windows_with_running_totals_agree_with_plain_loops(
        (size, slide) in windows(20),
        offset in 0..40u64,
        steps in steps(),
    ) {
        let window = sliding(micros(size), micros(slide)).offset(micros(offset));
        check_with(&Retracted::<Ids>::new(), &window, Kind::Aligned { size, slide, offset }, &steps);
    }

    #[test]
    fn running_totals_equal_merged_panes_to_the_last_bit(
        (size, slide) in windows(20),
        offset in 0..40u64,
        numbers in prop_oneof![Just(Numbers::Ends), Just(Numbers::Large), Just(Numbers::Small)],
        moves in proptest::collection::vec(moves(), 1..60),
    ) {
        let window = sliding(micros(size), micros(slide)).offset(micros(offset));
        let told = [told::<true>(&window, numbers, &moves), told::<false>(&window, numbers, &moves)];
        prop_assert_eq!(&told[0], &told[1]);
    }
}

#[derive(Clone, Copy, Debug)]
enum Numbers {
    /// Near the ends of the range, and none.
    Ends,
    /// Some that fit and some that do not.
    Large,
    Small,
}

impl Numbers {
    fn number(self, n: i8) -> i64 {
        let n = i64::from(n);
        match self {
            Numbers::Ends => {
                [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX][n.unsigned_abs() as usize % 7]
            }
            Numbers::Large => n << [45, 50, 56][n.unsigned_abs() as usize % 3],
            Numbers::Small => n,
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// Keys, times and numbers of records; aggregated elsewhere first, or not.
    Batch(bool, Vec<(u8, i64, i8)>),
    /// So far on.
    Watermark(i64),
    Restart,
}

fn moves() -> impl Strategy<Value = Move> {
    let record = (0..5u8, -40..40i64, any::<i8>());
    prop_oneof![
        6 => (any::<bool>(), proptest::collection::vec(record, 1..12)).prop_map(|(merged, records)| Move::Batch(merged, records)),
        4 => (0..12i64).prop_map(Move::Watermark),
        1 => (0..300i64).prop_map(Move::Watermark),
        1 => Just(Move::Restart),
    ]
}

type Sums = (u64, i64, u8, u64, u64);

/// A float of any size, or none.
fn float(n: i64) -> f64 {
    let few = [f64::NAN, f64::INFINITY, -0.0, 5e-324, f64::MAX, -f64::MAX, 0.1, 1e-300, 1e30, -1e30, 0.3];
    few[(n.unsigned_abs() % 97).min(10) as usize] * if n.unsigned_abs() % 97 < 10 { 1.0 } else { n as f64 }
}

/// What the windows say, with records around a watermark that advances; floats as bits.
fn told<const RETRACTS: bool>(
    window: &SlidingWindow,
    numbers: Numbers,
    moves: &[Move],
) -> Vec<(u8, Window, Sums)> {
    let sums = (
        Count::new(),
        Sum::of(|n: &i64| *n),
        Sum::of(|n: &i64| *n as u8 & 3),
        Average::of(|n: &i64| *n),
        Sum::of(|n: &i64| float(*n)),
    );
    let aggregate = Watched::<_, RETRACTS>::new(sums);
    fn empty<A: Aggregate<In = i64>>(window: &SlidingWindow, _: &A) -> PaneState<u8, A, ()> {
        window.state()
    }
    let mut state = empty(window, &aggregate);
    let mut watermark = EventTime::from_micros(-100);
    state.close(&aggregate, watermark, &mut |_, _, _| ());
    let mut told = vec![];
    for step in moves.iter().chain([&Move::Watermark(10_000)]) {
        match step {
            Move::Batch(merged, records) => {
                state.begin(if *merged { EventTime::MIN } else { watermark });
                for (key, away, n) in records {
                    let (hash, time, n) = (
                        hash_key(key),
                        EventTime::from_micros(watermark.as_micros() + away),
                        numbers.number(*n),
                    );
                    if !*merged {
                        state.offer(&aggregate, hash, key, time, n, watermark);
                    } else if !state.is_late(time, &n, watermark) {
                        let slot = state.slot(time, &n);
                        state.merge(&aggregate, hash, *key, slot, aggregate.create(&n));
                    }
                }
                state.end();
            }
            Move::Watermark(on) => {
                watermark = EventTime::from_micros(watermark.as_micros() + on);
                let from = told.len();
                state.close(&aggregate, watermark, &mut |key,
                                                         window,
                                                         (count, sum, small, average, floats): (
                    _,
                    _,
                    _,
                    f64,
                    f64,
                )| {
                    told.push((key, window, (count, sum, small, average.to_bits(), floats.to_bits())));
                });
                told[from..].sort_by_key(|row: &(u8, Window, Sums)| (row.1.end, row.0));
            }
            Move::Restart => {
                let mut writer = SnapshotWriter::new();
                state.snapshot(&aggregate, &mut writer).unwrap();
                state = empty(window, &aggregate);
                for (group, bytes) in writer.into_groups() {
                    state.restore(group, &bytes).unwrap();
                }
                state.close(&aggregate, watermark, &mut |_, _, _| panic!("this window had closed"));
            }
        }
    }
    assert!(state.is_empty());
    told
}

/// How many times accumulators are merged or retracted while a window of this many panes closes, all with the same keys.
fn steps_of_a_window(panes: u64, keys: u64) -> usize {
    let aggregate = Watched::<_, true>::new(Count::<()>::new());
    let mut state: PaneState<u64, _, ()> = sliding(micros(10 * panes), micros(10)).state();
    let mut rows = 0;
    for pane in 0..panes as i64 + 3 {
        for key in 0..keys {
            state.add(&aggregate, hash_key(&key), &key, EventTime::from_micros(10 * pane + 5), &());
        }
        aggregate.steps.store(0, Ordering::Relaxed);
        rows = 0;
        state.close(&aggregate, EventTime::from_micros(10 * pane + 10), &mut |_, _, count| {
            assert_eq!(count, panes.min(pane as u64 + 1));
            rows += 1;
        });
    }
    assert_eq!(rows, keys);
    aggregate.steps.load(Ordering::Relaxed)
}

#[test]
fn a_window_costs_what_comes_and_goes_however_many_panes_it_has() {
    assert_eq!(steps_of_a_window(8, 50), 2 * 50);
    assert_eq!(steps_of_a_window(60, 50), 2 * 50);
    assert_eq!(steps_of_a_window(2, 50), 50, "few panes are merged");
}

#[test]
fn a_key_leaves_with_its_last_pane_and_comes_back() {
    let mut state: PaneState<String, Count<()>, ()> = sliding(micros(50), micros(10)).state();
    let mut step = |records: &[(&str, i64)], watermark: i64| {
        for (key, time) in records {
            state.add(&Count::new(), hash_key(*key), *key, EventTime::from_micros(*time), &());
        }
        let mut told: Vec<(i64, String, u64)> = vec![];
        state.close(&Count::new(), EventTime::from_micros(watermark), &mut |key, window, count| {
            told.push((window.end.as_micros(), key, count));
        });
        told.sort();
        told
    };
    let rows = |rows: &[(i64, &str, u64)]| {
        rows.iter().map(|(end, key, count)| (*end, (*key).to_owned(), *count)).collect::<Vec<_>>()
    };
    assert_eq!(step(&[("a", 5)], 20), rows(&[(10, "a", 1), (20, "a", 1)]));
    // Both come after their pane was added.
    assert_eq!(step(&[("b", 3), ("a", 9)], 30), rows(&[(30, "a", 2), (30, "b", 1)]));
    assert_eq!(step(&[("b", 25)], 40), rows(&[(40, "a", 2), (40, "b", 2)]));
    assert_eq!(step(&[], 60), rows(&[(50, "a", 2), (50, "b", 2), (60, "b", 1)]));
    assert_eq!(step(&[("a", 65)], 80), rows(&[(70, "a", 1), (70, "b", 1), (80, "a", 1)]));
    assert_eq!(step(&[], 110), rows(&[(90, "a", 1), (100, "a", 1), (110, "a", 1)]));
    assert_eq!(step(&[], 1_000), []);
    assert_eq!(step(&[("a", 1_001)], 1_010), rows(&[(1_010, "a", 1)]));
}
