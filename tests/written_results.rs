//! A sink that takes all results of an operator with state is written to by that operator. It must make no difference: results,
//! epochs, late records, errors and recovery are those of a sink that is an operator of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::connectors::{MemorySource, channel, discard, for_each};
use tidemill::{
    Epoch, EventTime, Graph, Mode, Options, Run, RunError, Sink, SinkError, Stream, WindowResult, tumbling,
};

use common::{MODES, end, options, run, run_well, wait_until};

const RECORDS: i64 = 6_000;
const KEYS: i64 = 17;

/// What all instances of a sink are handed, by epoch.
type Seen<T> = Arc<Mutex<BTreeMap<Epoch, Vec<T>>>>;

/// Keeps what it is handed; notices what a sink must never see.
struct Keeper<T> {
    seen: Seen<T>,
    epoch: Epoch,
    prepared: Option<Epoch>,
    committed: Option<Epoch>,
}

impl<T> Keeper<T> {
    fn new(seen: &Seen<T>) -> Keeper<T> {
        Keeper { seen: Arc::clone(seen), epoch: Epoch::new(0), prepared: None, committed: None }
    }
}

impl<T: Send + 'static> Sink<T> for Keeper<T> {
    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        assert!(epoch >= self.epoch, "epochs come in order");
        assert!(self.prepared.is_none_or(|prepared| epoch > prepared), "nothing comes after it is prepared");
        self.epoch = epoch;
        self.seen.lock().unwrap().entry(epoch).or_default().append(rows);
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<tidemill::Prepared, SinkError> {
        assert_eq!(
            epoch.number(),
            self.prepared.map_or(0, |before| before.number() + 1),
            "every epoch is prepared, in order"
        );
        self.prepared = Some(epoch);
        Ok(tidemill::Prepared::nothing())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        assert!(self.prepared >= Some(epoch) && self.committed < Some(epoch));
        self.committed = Some(epoch);
        Ok(())
    }

    fn close(&mut self) -> Result<(), SinkError> {
        assert_eq!(self.prepared, self.committed, "all that was prepared is committed");
        Ok(())
    }
}

fn rows<T: Clone>(seen: &Seen<T>) -> Vec<T> {
    seen.lock().unwrap().values().flatten().cloned().collect()
}

/// Two partitions, of which the second is a third of the first: workers do not come to the end of an epoch together.
fn numbers(graph: &Graph) -> Stream<i64> {
    let cut = RECORDS * 3 / 4;
    graph.source(MemorySource::partitioned([(0..cut).collect(), (cut..RECORDS).collect()])).boxed()
}

fn ways() -> Vec<Options> {
    common::ways(&[usize::MAX], 501)
}

#[test]
fn running_counts_reach_the_sink_as_through_an_edge() {
    for way in ways() {
        let graph = Graph::new("counts");
        let [direct, stepped, shared, edge]: [Seen<(i64, u64)>; 4] = Default::default();
        let counts = || numbers(&graph).key_by(|n| n % KEYS).count().update();
        let (a, b, c, d) = (direct.clone(), stepped.clone(), shared.clone(), edge.clone());
        counts().sink_per_worker(move |_| Ok(Keeper::new(&a)));
        counts()
            .filter(|(key, _)| key % 2 == 0)
            .map(|(key, count)| (key + 100, count))
            .sink_per_worker(move |_| Ok(Keeper::new(&b)));
        counts().sink(Keeper::new(&c));
        let twice = counts();
        twice.clone().sink_per_worker(move |_| Ok(Keeper::new(&d)));
        twice.sink_per_worker(|_| Ok(discard().0));
        let summary = run_well(&graph, way.clone());

        let last = |seen: &Seen<(i64, u64)>| -> BTreeMap<i64, u64> { rows(seen).into_iter().collect() };
        let totals: BTreeMap<i64, u64> =
            (0..KEYS).map(|key| (key, (0..RECORDS).filter(|n| n % KEYS == key).count() as u64)).collect();
        let even = totals.iter().filter(|(key, _)| *key % 2 == 0).map(|(key, count)| (key + 100, *count));
        assert_eq!(last(&direct), totals, "{way:?}");
        assert_eq!(last(&stepped), even.collect(), "{way:?}");
        assert_eq!(last(&shared), totals, "{way:?}");
        assert_eq!(last(&edge), totals, "{way:?}");
        let written: usize = [&direct, &stepped, &shared, &edge].iter().map(|seen| rows(seen).len()).sum();
        assert_eq!(summary.output_rows, (written + rows(&edge).len()) as u64, "{way:?}");
        if way.mode == Mode::MicroBatch {
            let by_epoch = |seen: &Seen<(i64, u64)>| -> Vec<(Epoch, Vec<(i64, u64)>)> {
                let seen = seen.lock().unwrap();
                seen.iter().map(|(epoch, rows)| (*epoch, common::sorted(rows.clone()))).collect()
            };
            assert_eq!(by_epoch(&direct), by_epoch(&edge), "{way:?}");
            assert_eq!(by_epoch(&shared), by_epoch(&edge), "{way:?}");
        }
    }
}

#[test]
fn windows_and_what_came_too_late_for_them_reach_their_sinks() {
    // The hundredth record is long past.
    let time = |n: &i64| EventTime::from_micros(if *n % 100 == 99 { 0 } else { *n });
    let size = Duration::from_micros(50);
    // One partition, so that what is late does not depend on who reads faster.
    let source =
        |graph: &Graph| graph.source(MemorySource::partitioned([(0..RECORDS).collect::<Vec<i64>>()])).boxed();
    for mode in MODES {
        let mut all = Vec::new();
        for (workers, direct) in [(1, true), (1, false), (2, true), (2, false), (4, true)] {
            let graph = Graph::new("windows");
            let (closed, late): (Seen<WindowResult<i64, u64>>, Seen<i64>) = Default::default();
            let windows = source(&graph).with_watermark(time, Duration::ZERO).key_by(|n| n % 3);
            let (main, side) = windows.window(tumbling(size)).count().append_with_late();
            let (a, b) = (closed.clone(), late.clone());
            main.clone().sink_per_worker(move |_| Ok(Keeper::new(&a)));
            side.clone().sink_per_worker(move |_| Ok(Keeper::new(&b)));
            if !direct {
                main.sink_per_worker(|_| Ok(discard().0));
                side.sink_per_worker(|_| Ok(discard().0));
            } else {
                drop((main, side));
            }
            // Epochs of fewer records than the watermark needs to pass a window.
            let way = options(mode, workers).with_max_records_per_epoch(70);
            let summary = run_well(&graph, way);
            assert_eq!(rows(&late).len() as u64, summary.late_rows);
            let mut closed: Vec<_> =
                rows(&closed).iter().map(|row| (row.window.start, row.key, row.value)).collect();
            closed.sort_unstable();
            let counted: u64 = closed.iter().map(|(.., count)| count).sum();
            assert_eq!(counted + summary.late_rows, RECORDS as u64);
            if mode == Mode::MicroBatch {
                all.push((closed, common::sorted(rows(&late))));
            }
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn what_fails_is_named() {
    for mode in MODES {
        for workers in [1, 2] {
            let graph = Graph::new("sink");
            let line = line!() + 1;
            numbers(&graph).key_by(|n| n % KEYS).count().update().sink_per_worker(|_| Ok(Fussy));
            let error = run(&graph, options(mode, workers)).unwrap_err();
            let RunError::Panic { site, message, .. } = error else { panic!("not a panic: {error}") };
            assert_eq!((site.operator.as_str(), message.as_str()), ("sink", "enough"));
            assert!(site.location.ends_with(&format!("written_results.rs:{line}")), "{site}");

            let graph = Graph::new("aggregate");
            let fold = numbers(&graph).key_by(|n| n % KEYS).reduce(|a, b| {
                assert!(b != RECORDS - 1, "too large");
                a + b
            });
            fold.update().name("careful").sink_per_worker(|_| Ok(discard().0));
            let error = run(&graph, options(mode, workers)).unwrap_err();
            let RunError::Panic { site, message, .. } = error else { panic!("not a panic: {error}") };
            assert_eq!((site.operator.as_str(), message.as_str()), ("key_by → careful", "too large"));

            let graph = Graph::new("refuses");
            numbers(&graph).key_by(|n| n % KEYS).count().update().sink_per_worker(|_| Ok(Refuses));
            let error = run(&graph, options(mode, workers)).unwrap_err();
            assert!(matches!(&error, RunError::Sink { site, .. } if site.operator == "sink"), "{error}");
        }
    }
}

/// Panics when a count is high.
struct Fussy;

impl Sink<(i64, u64)> for Fussy {
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<(i64, u64)>) -> Result<(), SinkError> {
        assert!(rows.iter().all(|(_, count)| *count < 100), "enough");
        Ok(())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Does not let anything be prepared.
struct Refuses;

impl Sink<(i64, u64)> for Refuses {
    fn write(&mut self, _epoch: Epoch, _rows: &mut Vec<(i64, u64)>) -> Result<(), SinkError> {
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<tidemill::Prepared, SinkError> {
        Err(SinkError::Other(Box::new(std::io::Error::other("no room"))))
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        panic!("it was not prepared")
    }
}

#[test]
fn a_count_that_changes_alone_is_written_at_once() {
    for workers in [1, 2] {
        let graph = Graph::new("alone");
        let (sender, source) = channel(64);
        let seen: Arc<Mutex<Vec<(i64, u64)>>> = Arc::default();
        let rows = Arc::clone(&seen);
        graph.source(source).key_by(|n: &i64| n % 2).count().update().sink_per_worker(move |_| {
            let rows = Arc::clone(&rows);
            Ok(for_each(move |row| rows.lock().unwrap().push(row)))
        });
        // No epoch ends before the query does.
        let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_secs(3_600));
        let handle = Run::start(&graph, way).unwrap();
        for n in 1..=5 {
            sender.send(n).unwrap();
            wait_until(&handle, "the count", |_| seen.lock().unwrap().len() == n as usize);
        }
        drop(sender);
        end(handle, "the source ends").unwrap();
        assert_eq!(*seen.lock().unwrap(), [(1, 1), (0, 1), (1, 2), (0, 2), (1, 3)]);
    }
}
