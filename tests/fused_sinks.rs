//! The steps before a sink run in the sink's own loop where their results would not leave the worker. It must make no difference:
//! results, epochs, plans, identities and errors are those of steps that are an operator of their own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::connectors::{
    MemorySource, channel, discard, for_each, iterate_partitions, memory_sink, try_for_each,
};
use tidemill::{
    Chain, Epoch, EventTime, Graph, Mode, Options, RunError, Sink, SinkError, Stream, Untimed, tumbling,
};

use common::{MODES, assert_same, end, options, run, run_well, sorted, wait_until};

const RECORDS: i64 = 20_000;

fn ways() -> Vec<Options> {
    common::ways(&[usize::MAX, 0], 3_001)
}

/// Wide enough to be read by the chain behind the source.
type Wide = (i64, [u64; 4]);

/// Three partitions, of which the first has half of the records: so workers do not come to the end of an epoch together.
fn wide(graph: &Graph) -> Stream<i64, impl Chain<Out = i64, Time = Untimed> + use<>> {
    let half = RECORDS / 2;
    let part = move |partition: u32| match partition {
        0 => (0..half).step_by(1),
        other => (half + i64::from(other) - 1..RECORDS).step_by(2),
    };
    let source = iterate_partitions(3, move |partition| part(partition).map(|n| (n, [0; 4])));
    graph.source(source).map(|(n, _): Wide| n)
}

/// The same, too narrow for that.
fn narrow(graph: &Graph) -> Stream<i64, impl Chain<Out = i64, Time = Untimed> + use<>> {
    let source = MemorySource::partitioned([(0..RECORDS / 3).collect(), (RECORDS / 3..RECORDS).collect()]);
    graph.source(source).map(|n: i64| n)
}

/// What all instances of a sink are handed, and in what pieces.
#[derive(Clone, Default)]
struct Seen {
    pieces: Arc<Mutex<Vec<(Epoch, Vec<String>)>>>,
    commits: Arc<Mutex<BTreeSet<Epoch>>>,
}

impl Seen {
    fn rows(&self) -> Vec<String> {
        self.pieces.lock().unwrap().iter().flat_map(|(_, rows)| rows.clone()).collect()
    }

    fn largest(&self) -> usize {
        self.pieces.lock().unwrap().iter().map(|(_, rows)| rows.len()).max().unwrap_or(0)
    }
}

/// Keeps what it is handed, with the memory that it is in.
struct Keeper {
    seen: Seen,
    epoch: Epoch,
    one_by_one: bool,
}

impl Keeper {
    fn new(seen: &Seen) -> Keeper {
        Keeper { seen: seen.clone(), epoch: Epoch::new(0), one_by_one: false }
    }

    fn one_by_one(seen: &Seen) -> Keeper {
        Keeper { one_by_one: true, ..Keeper::new(seen) }
    }
}

impl Sink<String> for Keeper {
    fn write(&mut self, epoch: Epoch, rows: &mut Vec<String>) -> Result<(), SinkError> {
        assert!(!rows.is_empty(), "a sink is not called for nothing");
        assert!(epoch >= self.epoch, "epochs come in order");
        self.epoch = epoch;
        self.seen.pieces.lock().unwrap().push((epoch, std::mem::take(rows)));
        Ok(())
    }

    const ONE_BY_ONE: bool = true;

    fn one_by_one(&self) -> bool {
        self.one_by_one
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<tidemill::Prepared, SinkError> {
        assert!(epoch >= self.epoch, "all of an epoch is written before it is prepared");
        self.epoch = epoch.next();
        Ok(tidemill::Prepared::nothing())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        self.seen.commits.lock().unwrap().insert(epoch);
        Ok(())
    }
}

#[test]
fn steps_before_a_sink_give_the_same_rows() {
    let kept = |n: &i64| n % 7 != 3;
    let several = |n: i64| (0..n % 3).map(move |i| n * 10 + i);
    let expected: Vec<String> = (0..RECORDS).filter(kept).flat_map(several).map(|n| n.to_string()).collect();
    for way in ways() {
        let graph = Graph::new("steps");
        let seen: [Seen; 6] = Default::default();
        let sinks = seen.clone();
        let rest = |n: i64| n.to_string();
        let per_worker = |seen: &Seen| {
            let seen = seen.clone();
            move |_| Ok(Keeper::new(&seen))
        };
        wide(&graph).filter(kept).flat_map(several).map(rest).sink_per_worker(per_worker(&sinks[0]));
        wide(&graph).filter(kept).flat_map(several).map(rest).sink(Keeper::new(&sinks[1]));
        narrow(&graph).filter(kept).flat_map(several).map(rest).sink_per_worker(per_worker(&sinks[2]));
        narrow(&graph).filter(kept).flat_map(several).map(rest).sink(Keeper::new(&sinks[3]));
        wide(&graph).filter(kept).flat_map(several).map(rest).sink(Keeper::one_by_one(&sinks[4]));
        narrow(&graph).filter(kept).flat_map(several).map(rest).sink(Keeper::one_by_one(&sinks[5]));
        let summary = run_well(&graph, way.clone());
        for seen in &seen {
            assert_same(&seen.rows(), &expected, format!("{way:?}"));
        }
        assert_eq!(summary.input_rows, 6 * RECORDS as u64, "{way:?}");
        assert_eq!(summary.output_rows, 6 * expected.len() as u64, "{way:?}");
    }
}

#[test]
fn sink_that_keeps_memory_gets_half_a_batch_at_a_time() {
    for mode in MODES {
        let graph = Graph::new("pieces");
        let seen = Seen::default();
        wide(&graph).flat_map(|n| [n.to_string(), "more".to_owned()]).sink(Keeper::new(&seen));
        // One epoch at a time: rows that come before their epoch are kept as whole batches.
        run_well(&graph, options(mode, 1).with_pulls_from(0).with_max_in_flight(1));
        assert_eq!(seen.rows().len(), 2 * RECORDS as usize);
        // A worker whose core others use takes fewer rows at once.
        assert!((2..=65_536 / size_of::<String>()).contains(&seen.largest()), "{}", seen.largest());
    }
}

#[test]
fn a_sink_that_would_have_rows_one_by_one_is_handed_them_so() {
    for mode in MODES {
        for feeds in [usize::MAX, 0] {
            let graph = Graph::new("one by one");
            let seen = Seen::default();
            wide(&graph).flat_map(|n| [n.to_string(), "more".to_owned()]).sink(Keeper::one_by_one(&seen));
            // Rows of an epoch that comes too early are stashed in batches.
            run_well(&graph, options(mode, 1).with_pulls_from(feeds).with_max_in_flight(1));
            assert_eq!((seen.rows().len(), seen.largest()), (2 * RECORDS as usize, 1));
        }
    }
}

#[test]
fn an_epoch_has_the_same_rows() {
    let epochs = |feeds: usize, workers: usize, boxed: bool, one_by_one: bool| {
        let graph = Graph::new("epochs");
        let seen = Seen::default();
        let sinks = seen.clone();
        let sinks = move |_| Ok(Keeper { one_by_one, ..Keeper::new(&sinks) });
        let steps = wide(&graph).filter(|n| n % 2 == 0).map(|n| n.to_string());
        if boxed {
            steps.boxed().sink_per_worker(sinks)
        } else {
            steps.sink_per_worker(sinks)
        }
        let way = options(Mode::MicroBatch, workers).with_max_records_per_epoch(999).with_pulls_from(feeds);
        run_well(&graph, way);
        let mut epochs: BTreeMap<Epoch, Vec<String>> = BTreeMap::new();
        for (epoch, rows) in std::mem::take(&mut *seen.pieces.lock().unwrap()) {
            epochs.entry(epoch).or_default().extend(rows);
        }
        assert!(epochs.keys().all(|epoch| seen.commits.lock().unwrap().contains(epoch)));
        epochs.into_values().map(sorted).collect::<Vec<_>>()
    };
    let expected = epochs(usize::MAX, 1, true, false);
    assert!(expected.len() > 10);
    for workers in [1, 2, 4] {
        for feeds in [usize::MAX, 64, 0] {
            for one_by_one in [false, true] {
                let found = epochs(feeds, workers, false, one_by_one);
                assert_eq!(found, expected, "{workers} workers, feeds from {feeds}, {one_by_one}");
            }
        }
    }
}

#[test]
fn epochs_end_when_all_rows_are_filtered() {
    for way in ways() {
        let graph = Graph::new("nothing");
        let seen = Seen::default();
        let sinks = seen.clone();
        let none = |_: &i64| false;
        wide(&graph).filter(none).map(|n| n.to_string()).sink_per_worker(move |_| Ok(Keeper::new(&sinks)));
        narrow(&graph).filter(none).map(|n| n.to_string()).sink(Keeper::new(&seen));
        let summary = run_well(&graph, way.clone());
        assert_eq!((summary.input_rows, summary.output_rows), (2 * RECORDS as u64, 0), "{way:?}");
        assert_eq!(seen.rows(), Vec::<String>::new());
        assert!(!seen.commits.lock().unwrap().is_empty(), "{way:?}");
    }
}

#[test]
fn rows_with_an_event_time_lose_it_on_the_way_into_a_sink() {
    let expected: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    let windows: Vec<String> = (0..RECORDS / 10).map(|n| format!("{}: 10", n * 10)).collect();
    for way in ways() {
        let graph = Graph::new("timed");
        let seen: [Seen; 3] = Default::default();
        let [records, steps, bare] = seen.clone();
        // The least delay that makes no record late: these records are not in order.
        let timed = || {
            wide(&graph).with_watermark(|n| EventTime::from_micros(*n), Duration::from_micros(RECORDS as u64))
        };
        let text = |n: i64| n.to_string();
        timed().map(text).sink_per_worker(move |_| Ok(Keeper::new(&records)));
        let counts = || timed().key_by(|_| ()).window(tumbling(Duration::from_micros(10))).count().append();
        counts()
            .map(|row| format!("{}: {}", row.window.start.as_micros(), row.value))
            .sink_per_worker(move |_| Ok(Keeper::new(&steps)));
        counts()
            .map(|row| format!("{}: {}", row.window.start.as_micros(), row.value))
            .boxed()
            .sink_per_worker(move |_| Ok(Keeper::new(&bare)));
        let summary = run_well(&graph, way.clone());
        assert_eq!(summary.late_rows, 0, "{way:?}");
        for (seen, expected) in seen.iter().zip([&expected, &windows, &windows]) {
            assert_same(&seen.rows(), expected, format!("{way:?}"));
        }
    }
}

#[test]
fn a_panic_is_the_steps_or_the_sinks() {
    let careful = |n: i64| {
        assert!(n != 17_003, "too many");
        n
    };
    for mode in MODES {
        for workers in [1, 2] {
            for feeds in [usize::MAX, 0] {
                for (single, one_by_one) in [(true, false), (false, false), (true, true), (false, true)] {
                    let way = options(mode, workers).with_pulls_from(feeds);
                    let site = |graph: &Graph| match run(graph, way.clone()).unwrap_err() {
                        RunError::Panic { site, message, .. } => {
                            assert_eq!(message, "too many");
                            (site.operator, site.location)
                        }
                        other => panic!("not a panic: {other}"),
                    };
                    let source =
                        || iterate_partitions(2, |p| (0..RECORDS).map(move |n| (n + i64::from(p), [0; 4])));
                    let graph = Graph::new("step");
                    let line = line!() + 1;
                    let steps = graph.source(source()).map(|(n, _): Wide| n).map(careful).name("careful");
                    if single {
                        steps.sink(Fussy { one_by_one, refused: -1 })
                    } else {
                        steps.sink_per_worker(move |_| Ok(Fussy { one_by_one, refused: -1 }))
                    }
                    let (operator, location) = site(&graph);
                    assert_eq!(operator, "map → careful");
                    assert!(location.ends_with(&format!("fused_sinks.rs:{line}")), "{location}");

                    let graph = Graph::new("sink");
                    let steps = graph.source(source()).map(|(n, _): Wide| n);
                    let line = line!() + 2;
                    if single {
                        steps.sink(Fussy { one_by_one, refused: 17_003 })
                    } else {
                        steps.sink_per_worker(move |_| Ok(Fussy { one_by_one, refused: 17_003 }))
                    }
                    let (operator, location) = site(&graph);
                    assert_eq!(operator, "sink");
                    let line = if single { line } else { line + 2 };
                    assert!(location.ends_with(&format!("fused_sinks.rs:{line}")), "{location}");
                }
            }
        }
    }
}

/// Panics at a row.
struct Fussy {
    one_by_one: bool,
    refused: i64,
}

impl Sink<i64> for Fussy {
    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<i64>) -> Result<(), SinkError> {
        assert!(!rows.contains(&self.refused), "too many");
        Ok(())
    }

    const ONE_BY_ONE: bool = true;

    fn one_by_one(&self) -> bool {
        self.one_by_one
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn failing_sink_in_chain_is_named_and_gets_no_more_rows() {
    for workers in [1, 2] {
        for feeds in [usize::MAX, 0] {
            let graph = Graph::new("refuses");
            let taken: Arc<Mutex<Vec<i64>>> = Arc::default();
            let rows = Arc::clone(&taken);
            let line = line!() + 2;
            let steps = graph.source(iterate_partitions(1, |_| (0..RECORDS).map(|n| (n, [0; 4]))));
            steps.map(|(n, _): Wide| n).filter(|n| n % 2 == 0).sink_per_worker(move |_| {
                let rows = Arc::clone(&rows);
                Ok(try_for_each(move |n| {
                    if n == 9_000 {
                        return Err(std::io::Error::other("enough"));
                    }
                    rows.lock().unwrap().push(n);
                    Ok(())
                }))
            });
            let error = run(&graph, options(Mode::Continuous, workers).with_pulls_from(feeds)).unwrap_err();
            let RunError::Sink { site, error: SinkError::Other(inner) } = &error else { panic!("{error}") };
            assert_eq!((site.operator.as_str(), inner.to_string().as_str()), ("sink", "enough"));
            assert!(site.location.ends_with(&format!("fused_sinks.rs:{line}")), "{site}");
            assert_eq!(*taken.lock().unwrap(), (0..9_000).step_by(2).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_record_that_comes_alone_is_written_at_once() {
    for workers in [1, 2] {
        let graph = Graph::new("alone");
        let (sender, source) = channel(64);
        let seen: Arc<Mutex<Vec<i64>>> = Arc::default();
        let rows = Arc::clone(&seen);
        graph.source(source).map(|n: i64| n + 1).filter(|n| *n > 0).sink_per_worker(move |_| {
            let rows = Arc::clone(&rows);
            Ok(for_each(move |n| rows.lock().unwrap().push(n)))
        });
        // No epoch ends before the query does.
        let way = options(Mode::Continuous, workers).with_checkpoint_interval(Duration::from_secs(3_600));
        let handle = tidemill::Run::start(&graph, way).unwrap();
        for n in 1..=5 {
            sender.send(n).unwrap();
            wait_until(&handle, "the row", |_| seen.lock().unwrap().len() == n as usize);
        }
        drop(sender);
        end(handle, "the source ends").unwrap();
        assert_eq!(*seen.lock().unwrap(), [2, 3, 4, 5, 6]);
    }
}

#[test]
fn plans_and_identities_are_those_of_an_operator_and_a_sink() {
    let graph = Graph::new("plan");
    let first = line!() + 1;
    let steps = graph.source(MemorySource::partitioned([vec![1_i64]])).map(|n| n + 1).filter(|n| *n > 0);
    let last = line!() + 1;
    steps.name("positive").sink_per_worker(|_| Ok(discard().0));
    let plan = graph.explain();
    let text = plan.to_string();
    for part in [
        "#1 map → positive\n".to_owned(),
        format!("step map at tests/fused_sinks.rs:{first}"),
        format!("step positive at tests/fused_sinks.rs:{first}"),
        format!("at tests/fused_sinks.rs:{last}   uid source/chain/sink"),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
    assert!(plan.mermaid().contains("n1 -->|local| n2"), "{}", plan.mermaid());
    assert!(plan.dot().contains("n1 -> n2 [label=\"local\"]"), "{}", plan.dot());
    assert_eq!(plan.json()["nodes"][1]["steps"][1]["name"], "positive");
    assert_eq!(graph.validate(), Ok(()));
}

#[test]
fn a_graph_is_run_again_with_another_number_of_workers() {
    let graph = Graph::new("again");
    let (sink, table) = memory_sink();
    narrow(&graph).map(|n| n * 2).sink(sink);
    for workers in [1, 3, 1] {
        run_well(&graph, options(Mode::MicroBatch, workers));
        assert!(sorted(table.snapshot()).windows(2).all(|pair| pair[1] - pair[0] <= 2));
        assert!(table.snapshot().len() >= RECORDS as usize);
    }
}
