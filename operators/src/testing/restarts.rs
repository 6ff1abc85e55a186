//! Every aggregation with state against plain loops, with restarts on other numbers of workers.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{EpochInput, operator_of, source_of, three_phases};
use crate::aggregate::{Collect, Count, Fold, InOrder, Ranked, Sorted, Sum, TopN};
use crate::graph::Place;
use crate::state::Windowing;
use crate::state::reference::{Kind, Naive};
use crate::{
    Aggregate, EventTime, Graph, Mode, Operator, RowKind, Window, WindowResult, hash_key, session,
    session_by, sliding, tumbling,
};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Reading {
    id: u32,
    key: u8,
    time: i64,
    gap: u64,
}

/// The first and the last number: an aggregate as a user writes it.
#[derive(Clone)]
struct Ends;

impl Aggregate for Ends {
    type In = Reading;
    type Acc = (u32, u32);
    type Out = (u32, u32);

    fn create(&self, reading: &Reading) -> (u32, u32) {
        (reading.id, reading.id)
    }
    fn add(&self, ends: &mut (u32, u32), reading: &Reading) {
        self.merge(ends, (reading.id, reading.id));
    }
    fn merge(&self, ends: &mut (u32, u32), other: (u32, u32)) {
        *ends = (ends.0.min(other.0), ends.1.max(other.1));
    }
    fn finish(&self, ends: &(u32, u32)) -> (u32, u32) {
        *ends
    }
}

type Epochs = Vec<(Vec<Reading>, EventTime)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    let reading = (0..9u8, -60..60i64, 1..12u64);
    let epoch = (proptest::collection::vec(reading, 0..12), -70..80i64);
    proptest::collection::vec(epoch, 0..10).prop_map(|epochs| {
        let (mut ids, mut watermark) = (0.., i64::MIN);
        let epoch = |(readings, to): (Vec<(u8, i64, u64)>, i64)| {
            watermark = watermark.max(to);
            let reading = |((key, time, gap), id)| Reading { id, key, time, gap };
            (readings.into_iter().zip(&mut ids).map(reading).collect(), EventTime::from_micros(watermark))
        };
        epochs.into_iter().map(epoch).collect()
    })
}

/// A result: the key, the window, and the numbers of the readings in it, or what was made of them.
type Row<V> = (u8, Window, V);

/// What is expected of each epoch.
fn naive<V>(kind: Kind, output: RowKind, epochs: &Epochs, value: impl Fn(&[u32]) -> V) -> Vec<Vec<Row<V>>> {
    let mut naive = Naive::new();
    let epoch = |(readings, watermark): &(Vec<Reading>, EventTime)| {
        for Reading { id, key, time, gap } in readings {
            naive.add(kind, *key, *time, (*id, *gap));
        }
        let rows = match output {
            RowKind::Insert => naive.close(watermark.as_micros()),
            RowKind::Upsert if matches!(kind, Kind::Forever) => naive.take_changed(),
            RowKind::Upsert => {
                let changed = naive.take_changed();
                naive.close(watermark.as_micros());
                changed
            }
            RowKind::Snapshot => naive.open.clone(),
            RowKind::Changes => unreachable!("no aggregation emits changes"),
        };
        let row = |(key, window, ids): (u8, Window, BTreeSet<u32>)| {
            (key, window, value(&ids.into_iter().collect::<Vec<_>>()))
        };
        rows.into_iter().map(row).collect()
    };
    epochs.iter().map(epoch).collect()
}

/// Makes operators.
trait Instances: Fn(Place) -> Box<dyn Operator> + Clone + 'static {}
impl<F: Fn(Place) -> Box<dyn Operator> + Clone + 'static> Instances for F {}

/// A kind of aggregation.
trait Family {
    /// Its rows on the edge.
    type Row<V: Send + 'static>: Send + 'static;
    const OUTPUTS: &'static [RowKind];

    fn operator<A: Aggregate<In = Reading>>(&self, aggregate: A, output: RowKind) -> impl Instances;

    fn view<V: Send + 'static>(row: Self::Row<V>) -> Row<V>;
}

struct Windows<W>(W);

impl<W: Windowing<Reading>> Family for Windows<W> {
    type Row<V: Send + 'static> = (EventTime, WindowResult<u8, V>);
    const OUTPUTS: &'static [RowKind] = &[RowKind::Insert, RowKind::Upsert, RowKind::Snapshot];

    fn operator<A: Aggregate<In = Reading>>(&self, aggregate: A, output: RowKind) -> impl Instances {
        let aggregate = source_of(&Graph::new("windows"), Vec::<Reading>::new())
            .with_watermark(|reading| EventTime::from_micros(reading.time), Duration::ZERO)
            .key_by(|reading| reading.key)
            .window(self.0.clone())
            .aggregate(aggregate);
        operator_of(match output {
            RowKind::Insert => aggregate.append(),
            RowKind::Upsert => aggregate.update(),
            RowKind::Snapshot => aggregate.complete(),
            RowKind::Changes => unreachable!("no aggregation emits changes"),
        })
    }

    fn view<V: Send + 'static>((time, row): Self::Row<V>) -> Row<V> {
        assert_eq!(time, row.window.last_instant());
        (row.key, row.window, row.value)
    }
}

struct Running;

impl Family for Running {
    type Row<V: Send + 'static> = (u8, V);
    const OUTPUTS: &'static [RowKind] = &[RowKind::Upsert, RowKind::Snapshot];

    fn operator<A: Aggregate<In = Reading>>(&self, aggregate: A, output: RowKind) -> impl Instances {
        let keyed = source_of(&Graph::new("running"), Vec::<Reading>::new()).key_by(|reading| reading.key);
        let aggregate = keyed.aggregate(aggregate);
        operator_of(if output == RowKind::Upsert { aggregate.update() } else { aggregate.complete() })
    }

    fn view<V: Send + 'static>((key, value): Self::Row<V>) -> Row<V> {
        (key, Window { start: EventTime::MIN, end: EventTime::MAX }, value)
    }
}

/// What an aggregation is tried with.
struct Trial<'a, F> {
    family: F,
    kind: Kind,
    epochs: &'a Epochs,
}

impl<F: Family> Trial<'_, F> {
    /// All aggregates, in all output modes.
    fn run(&self) {
        // In order of arrival.
        let ids = |readings: Vec<Reading>| readings.iter().map(|reading| reading.id).collect::<Vec<_>>();
        let add = |ids: &mut Vec<u32>, reading: &Reading| ids.push(reading.id);
        let fold = InOrder::of(Fold::new(Vec::new(), add, |ids, later: Vec<u32>| ids.extend(later)));
        self.aggregate(&Count::new(), |ids| ids.len() as u64, |count| count);
        self.aggregate(&Sum::of(|reading: &Reading| reading.id), |ids| ids.iter().sum::<u32>(), |sum| sum);
        self.aggregate(&Collect::new(), <[u32]>::to_vec, ids);
        self.aggregate(&fold, <[u32]>::to_vec, |ids| ids);
        let rank = |reading: &Reading| reading.id % 3;
        let in_order = |ids: &[u32]| {
            let mut ids = ids.to_vec();
            ids.sort_by_key(|id| (Reverse(id % 3), *id));
            ids
        };
        let first = |ids: &[u32]| in_order(ids).into_iter().take(2).collect::<Vec<_>>();
        self.aggregate(&TopN::greatest(2, rank), first, ids);
        let by_rank = Sorted::of(move |reading: &Reading| Reverse(rank(reading)));
        self.aggregate(&by_rank, in_order, ids);
        let numbered = |ids: &[u32]| {
            let before = |id: &u32| ids.iter().filter(|other| *other % 3 > id % 3).count() as u64;
            in_order(ids).iter().map(|id| (1 + before(id), *id)).collect::<Vec<_>>()
        };
        let numbers =
            |rows: Vec<(u64, Reading)>| rows.into_iter().map(|(n, row)| (n, row.id)).collect::<Vec<_>>();
        self.aggregate(&Ranked::greatest(rank), numbered, numbers);
        self.aggregate(&Ends, |ids| (ids[0], ids[ids.len() - 1]), |ends| ends);
    }

    /// `value` says what comes of the numbers of the readings, `matters` what of a result is compared with it.
    fn aggregate<A: Aggregate<In = Reading>, V: Ord + Debug>(
        &self,
        aggregate: &A,
        value: impl Fn(&[u32]) -> V,
        matters: impl Fn(A::Out) -> V,
    ) {
        let modes = [Mode::MicroBatch, Mode::Continuous];
        for (mode, output) in
            modes.iter().flat_map(|mode| F::OUTPUTS.iter().map(move |output| (*mode, *output)))
        {
            let input = |(readings, watermark): &(Vec<Reading>, EventTime)| {
                let hash = |reading: &Reading| hash_key(&reading.key);
                EpochInput::until(*watermark).by_key(0, readings.clone(), hash)
            };
            let epochs: Vec<EpochInput> = self.epochs.iter().map(input).collect();
            let view = |row: F::Row<A::Out>| {
                let (key, window, out) = F::view(row);
                (key, window, matters(out))
            };
            let make = self.family.operator(aggregate.clone(), output);
            let expected = naive(self.kind, output, self.epochs, &value);
            three_phases(mode, &epochs, make, |it| it.take(0).into_iter().map(view).collect(), &expected);
        }
    }
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn running_aggregates_do_not_show_a_restart(epochs in epochs()) {
        Trial { family: Running, kind: Kind::Forever, epochs: &epochs }.run();
    }

    #[test]
    fn tumbling_windows_do_not_show_a_restart(size in 1..40u64, epochs in epochs()) {
        let kind = Kind::Aligned { size, slide: size, offset: 0 };
        Trial { family: Windows(tumbling(micros(size))), kind, epochs: &epochs }.run();
    }

    #[test]
    fn sliding_windows_do_not_show_a_restart(
        (size, slide) in (1..40u64).prop_flat_map(|size| (Just(size), 1..=size)),
        epochs in epochs(),
    ) {
        let kind = Kind::Aligned { size, slide, offset: 0 };
        Trial { family: Windows(sliding(micros(size), micros(slide))), kind, epochs: &epochs }.run();
    }

    #[test]
    fn sessions_do_not_show_a_restart(gap in 1..12u64, mut epochs in epochs()) {
        epochs.iter_mut().flat_map(|(readings, _)| readings).for_each(|reading| reading.gap = gap);
        Trial { family: Windows(session(micros(gap))), kind: Kind::Session, epochs: &epochs }.run();
    }

    #[test]
    fn sessions_by_record_do_not_show_a_restart(epochs in epochs()) {
        let by_record = session_by(|reading: &Reading| micros(reading.gap));
        Trial { family: Windows(by_record), kind: Kind::Session, epochs: &epochs }.run();
    }
}
