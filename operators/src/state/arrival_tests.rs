//! Aggregates in order: records of a partition stay in the order in which they arrived, through panes, sessions, partial
//! accumulators of several workers, and restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{GroupState, Intake, PartialState, Windowing};
use crate::aggregate::{Collect, Fold, InOrder};
use crate::{
    Aggregate, Context, Epoch, EventTime, Mode, ProcessingTime, SnapshotWriter, arrival, hash_key, session,
    sliding, tumbling,
};

/// A partition, and the number of the record in it.
type Record = (u32, u32);

const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Keys and times of consecutive records of a partition.
    Batch(u32, Vec<(u8, i64)>),
    /// Workers emit what they have aggregated.
    Flush,
    /// An epoch ends, with a watermark so far on and a snapshot. After a restart from it, one worker takes all records into the
    /// state itself, or three aggregate theirs first.
    Epoch(i64, Option<bool>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0..2u8, -12..30i64);
    let step = prop_oneof![
        8 => (0..6u32, proptest::collection::vec(record, 1..8)).prop_map(|(partition, records)| Step::Batch(partition, records)),
        2 => Just(Step::Flush),
        3 => (0..12i64, any::<Option<bool>>()).prop_map(|(on, restart)| Step::Epoch(on, restart)),
    ];
    proptest::collection::vec(step, 1..60)
}

fn fold() -> impl Aggregate<In = Record, Out = Vec<Record>> {
    InOrder::of(Fold::new(
        Vec::new(),
        |rows: &mut Vec<Record>, row: &Record| rows.push(*row),
        |rows, later| rows.extend(later),
    ))
}

/// Takes the steps; every result must have the records of each partition in order, and all records must be in one.
fn check<W: Windowing<Record>>(windowing: &W, windows: u64, steps: &[Step]) {
    let aggregate = (Collect::<Record>::new(), fold());
    fn empty<W: Windowing<Record>, A: Aggregate<In = Record>>(w: &W, _: &A) -> W::State<u8, A, ()> {
        w.state()
    }
    let mut state = empty(windowing, &aggregate);
    state.track();
    let mut chain: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
    fn partial<W: Windowing<Record>, A: Aggregate<In = Record>>(w: &W, _: &A) -> W::Partials<u8, A> {
        w.partials()
    }
    let mut partials = [0; WORKERS].map(|_| partial(windowing, &aggregate));
    let mut contexts = [0, 1, 2].map(|worker| Context::new(Mode::MicroBatch, worker, WORKERS));
    let (mut epoch, mut watermark, mut alone) = (Epoch::new(0), EventTime::from_micros(-20), false);
    let mut numbers = [0u32; 6];
    let (mut added, mut emitted) = (0u64, 0u64);
    let flush = |state: &mut W::State<u8, _, ()>,
                 partials: &mut [W::Partials<u8, _>; WORKERS],
                 contexts: &[Context; WORKERS]| {
        for partial in partials {
            let mut rows = Vec::new();
            partial.drain(&mut |hash, key, slot, acc| rows.push((hash, key, slot, acc)));
            arrival::enter(&contexts[0], None, state.is_one_place());
            state.begin(EventTime::MIN);
            for (hash, key, slot, acc) in rows {
                state.merge(&aggregate, hash, key, slot, acc);
            }
            state.end();
        }
    };
    for step in steps.iter().chain([&Step::Epoch(1_000, None)]) {
        match step {
            Step::Batch(partition, records) => {
                let worker = if alone { 0 } else { *partition as usize % WORKERS };
                let mut number = || {
                    numbers[*partition as usize] += 1;
                    (*partition, numbers[*partition as usize])
                };
                let times = records
                    .iter()
                    .map(|(key, away)| (*key, EventTime::from_micros(watermark.as_micros() + away)));
                let records: Vec<_> = times.map(|(key, time)| (key, time, number())).collect();
                if alone {
                    arrival::enter(&contexts[worker], Some(*partition), state.is_one_place());
                    state.begin(watermark);
                    for (key, time, record) in records {
                        let late = state.offer(&aggregate, hash_key(&key), &key, time, record, watermark);
                        added += u64::from(late.is_none());
                    }
                    state.end();
                } else {
                    let partial = &mut partials[worker];
                    arrival::enter(&contexts[worker], Some(*partition), partial.is_one_place());
                    partial.begin(watermark);
                    for (key, time, record) in records {
                        let late = partial.offer(&aggregate, hash_key(&key), &key, time, record, watermark);
                        added += u64::from(late.is_none());
                    }
                    partial.end();
                }
            }
            Step::Flush => flush(&mut state, &mut partials, &contexts),
            Step::Epoch(on, restart) => {
                flush(&mut state, &mut partials, &contexts);
                watermark = EventTime::from_micros(watermark.as_micros() + on);
                state.close(&aggregate, watermark, &mut |_, _, (collected, folded)| {
                    assert_eq!(collected, folded);
                    emitted += collected.len() as u64;
                    let mut last = [0; 6];
                    for (partition, number) in &collected {
                        let last = &mut last[*partition as usize];
                        assert!(
                            *number > *last,
                            "{number} of partition {partition} after {last}: {collected:?}"
                        );
                        *last = *number;
                    }
                });
                let mut writer = SnapshotWriter::new();
                state.snapshot(&aggregate, &mut writer).unwrap();
                for (group, bytes) in writer.into_groups() {
                    chain.entry(group).or_default().push(bytes);
                }
                if let Some(one) = restart {
                    alone = *one;
                    partials = [0; WORKERS].map(|_| partial(windowing, &aggregate));
                    state = empty(windowing, &aggregate);
                    state.track();
                    for (group, changes) in &chain {
                        changes.iter().for_each(|bytes| state.restore(*group, bytes).unwrap());
                    }
                    state.close(&aggregate, watermark, &mut |_, _, _| panic!("this window had closed"));
                }
                epoch = epoch.next();
                for context in &mut contexts {
                    context.enter(epoch, watermark, ProcessingTime::from_micros(0));
                }
            }
        }
    }
    assert!(state.is_empty());
    assert!(emitted >= added && emitted <= added * windows, "{emitted} of {added} records");
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

proptest! {
    #[test]
    fn sliding_windows_keep_the_order_of_arrival(
        (slide, panes) in (1..12u64, 1..6u64),
        rest in 0..4u64,
        steps in steps(),
    ) {
        check(&sliding(micros(slide * panes + rest % slide), micros(slide)), panes + 1, &steps);
    }

    #[test]
    fn tumbling_windows_keep_the_order_of_arrival(size in 1..30u64, steps in steps()) {
        check(&tumbling(micros(size)), 1, &steps);
    }

    #[test]
    fn sessions_keep_the_order_of_arrival(gap in 1..12u64, steps in steps()) {
        check(&session(micros(gap)), 1, &steps);
    }
}

/// How many accumulators of the inner aggregate a window's accumulator has, of records in order of time.
#[test]
fn records_in_order_of_time_make_one_run_for_a_pane() {
    let aggregate = fold();
    let window = sliding(micros(20), micros(10));
    fn empty<A: Aggregate<In = Record>>(w: &crate::SlidingWindow, _: &A) -> super::PaneState<u8, A, ()> {
        w.state()
    }
    let mut state = empty(&window, &aggregate);
    let context = Context::new(Mode::MicroBatch, 0, 1);
    for batch in 0..40i64 {
        arrival::enter(&context, Some(batch as u32 % 4), state.is_one_place());
        state.begin(EventTime::MIN);
        for n in 0..5 {
            let time = EventTime::from_micros(batch / 2 * 5 + n);
            state.offer(&aggregate, hash_key(&1u8), &1, time, (0, 0), EventTime::MIN);
        }
        state.end();
    }
    let mut writer = SnapshotWriter::new();
    state.snapshot(&aggregate, &mut writer).unwrap();
    let bytes: usize = writer.into_groups().map(|(_, bytes)| bytes.len()).sum();
    // Ten panes, each with the numbers of one run and twenty records of two bytes.
    assert!(bytes < 10 * (20 * 2 + 30), "{bytes} bytes");
}
