//! A fragment that uses timely directly: two inputs, a nested scope with a loop that exchanges, one output.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tidemill_operators::build::Events;
use tidemill_operators::testing::{nowhere, numbers};
use tidemill_operators::{
    Batch, EventStream, EventTime, Graph, Mode, OperatorError, RowKind, WindowResult, rows, tumbling,
};
use timely::container::NoopBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, ConnectLoop, Enter, Leave, LoopVariable};
use timely::order::Product;

use super::Time;
use super::edge_batch::EdgeBatch;
use super::fragment::{FragmentHost, Inside, Lower, Lowering};
use super::stateless::Edge;
use crate::Summary;
use crate::checkpoint::MemoryStorage;
use crate::error::RunError;
use crate::options::{Options, Restart};
use crate::query::{QueryHandle, Run};
use crate::testing::simulate::{Breach, Scenario, SimSink, SimSource, Simulation, World, simulate};
use crate::testing::{Collected, ScriptedSource, SimClock, TestDriver, collecting_sink};

const INSERTS: &[&[RowKind]] = &[&[RowKind::Insert], &[RowKind::Insert]];

const MODES: [Mode; 2] = [Mode::MicroBatch, Mode::Continuous];

/// Halves a number until it is 1 and counts the steps: each is a round of the loop, on the worker to which the number then
/// belongs.
#[derive(Clone, Default)]
struct Halving {
    /// Panics once, in the third round of this number.
    panics_at: Option<u64>,
    has_panicked: Arc<AtomicBool>,
    /// Refuses this number.
    refuses: Option<u64>,
    /// Sends all numbers to this worker instead, which first waits until the channel is closed.
    all_to: Option<(usize, Receiver<()>)>,
}

/// A number on its way to 1.
struct Walk {
    time: EventTime,
    side: u8,
    from: u64,
    at: u64,
    steps: u64,
}

/// What comes out: the input, the number and its steps.
type Row = (u8, u64, u64);

impl Walk {
    fn new(side: u8, (time, from): (EventTime, u64)) -> Walk {
        Walk { time, side, from, at: from, steps: 0 }
    }

    fn step(&mut self) {
        self.at /= 2;
        self.steps += 1;
    }
}

type Round = Product<Time, u64>;

impl Lower for Halving {
    fn lower<'scope>(&self, inside: Inside<'scope>) -> Vec<Edge<'scope>> {
        let (scope, host) = (inside.scope, inside.host.clone());
        let done = inside.scoped::<Round, _>("halving", |rounds| {
            let (handle, next) = rounds.loop_variable::<EdgeBatch>(1);
            let mut builder = OperatorBuilder::new("step".to_owned(), rounds);
            let mut inputs = Vec::new();
            for edge in &inside.inputs {
                inputs.push(builder.new_input(edge.clone().enter(rounds), Pipeline));
            }
            let mut again = builder.new_input(next, host.exchange());
            let (done, left) = builder.new_output::<EdgeBatch>();
            let (next, entered) = builder.new_output::<EdgeBatch>();
            let mut done = OutputBuilder::<Round, NoopBuilder<EdgeBatch>>::from(done);
            let mut next = OutputBuilder::<Round, NoopBuilder<EdgeBatch>>::from(next);
            let (this, peers, index) = (self.clone(), rounds.peers(), rounds.index());
            builder.build(move |capabilities| {
                drop(capabilities);
                move |_| {
                    let (mut done, mut next) = (done.activate(), next.activate());
                    let mut take = |side: Option<u8>, capability: &_, edge_batch: &mut EdgeBatch| {
                        let batch = host.receive(edge_batch);
                        let walks: Vec<Walk> = match side {
                            Some(side) => {
                                let rows = rows::<(EventTime, u64)>(batch).unwrap();
                                rows.into_iter().map(|row| Walk::new(side, row)).collect()
                            }
                            None => rows(batch).unwrap(),
                        };
                        if let Some((_, gate)) = this.all_to.as_ref().filter(|(worker, _)| *worker == index) {
                            let _ = gate.recv();
                        }
                        if walks.iter().any(|walk| this.refuses == Some(walk.from)) {
                            return host.fail(OperatorError::User("refused".into()));
                        }
                        let (arrived, dealt) = this.round(walks, peers);
                        if !arrived.is_empty() {
                            let mut arrived = EdgeBatch::new(Batch::from_vec(arrived));
                            done.session_with_builder(capability).give_container(&mut arrived);
                        }
                        for (worker, walks) in dealt {
                            let mut walks = EdgeBatch::new(Batch::from_vec(walks).for_worker(worker));
                            next.session_with_builder(capability).give_container(&mut walks);
                        }
                    };
                    for (side, input) in inputs.iter_mut().enumerate() {
                        input.for_each(|capability, batch| take(Some(side as u8), &capability, batch));
                    }
                    again.for_each(|capability, batch| take(None, &capability, batch));
                }
            });
            entered.connect_loop(handle);
            left.leave(scope)
        });
        vec![consolidated(scope, done, inside.host)]
    }
}

impl Halving {
    /// A round: the numbers that have come to 1, and the others by worker.
    fn round(&self, walks: Vec<Walk>, peers: usize) -> (Vec<Walk>, BTreeMap<usize, Vec<Walk>>) {
        let (mut arrived, mut dealt) = (Vec::new(), BTreeMap::<usize, Vec<Walk>>::new());
        for mut walk in walks {
            if self.panics_at == Some(walk.from)
                && walk.steps == 2
                && !self.has_panicked.swap(true, Ordering::Relaxed)
            {
                panic!("{} is too much", walk.from);
            }
            if walk.at == 1 {
                arrived.push(walk);
                continue;
            }
            walk.step();
            let worker = self.all_to.as_ref().map_or(walk.at as usize % peers, |(worker, _)| *worker);
            dealt.entry(worker).or_default().push(walk);
        }
        (arrived, dealt)
    }
}

/// Holds the rows of an epoch until all of them have come, and emits them in their order.
fn consolidated<'scope>(scope: Scope<'scope, Time>, edge: Edge<'scope>, host: FragmentHost) -> Edge<'scope> {
    let mut builder = OperatorBuilder::new("consolidate".to_owned(), scope);
    let mut input = builder.new_input(edge, Pipeline);
    let (output, edge) = builder.new_output::<EdgeBatch>();
    let mut output = OutputBuilder::<Time, NoopBuilder<EdgeBatch>>::from(output);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut epochs: BTreeMap<u64, (Capability<Time>, Vec<Walk>)> = BTreeMap::new();
        move |frontiers| {
            host.enter();
            input.for_each(|capability, edge_batch| {
                let time = *capability.stamp().elements().first().unwrap();
                assert_eq!(time.watermark, EventTime::MIN.as_micros());
                let of_epoch =
                    epochs.entry(time.epoch).or_insert_with(|| (capability.delayed(&time, 0), Vec::new()));
                of_epoch.1.extend(rows::<Walk>(host.receive(edge_batch)).unwrap());
            });
            let least = frontiers[0].frontier().iter().map(|time| time.epoch).min().unwrap_or(u64::MAX);
            while let Some(first) = epochs.first_entry().filter(|first| *first.key() < least) {
                let (capability, mut walks) = first.remove();
                walks.sort_by_key(|walk| (walk.time, walk.side, walk.from));
                let rows = walks.into_iter().map(|it| (it.time, (it.side, it.from, it.steps)));
                let mut batch = EdgeBatch::new(Batch::from_vec(rows.collect::<Vec<(EventTime, Row)>>()));
                output.activate().session_with_builder(&capability).give_container(&mut batch);
            }
            host.report_state(epochs.values().map(|(_, walks)| walks.len()).sum());
        }
    });
    edge
}

const EPOCHS: u64 = 30;

/// Two partitions of numbers from `from` on. The watermark follows them, the faster the greater `step` is.
fn script(from: u64, step: i64) -> ScriptedSource<u64> {
    let at = EventTime::from_secs;
    (0..2).fold(ScriptedSource::new(), |script, partition| {
        let script = (0..EPOCHS).fold(script, |script, epoch| {
            let first = from + partition * 1_000 + epoch * 5;
            let script = (0..epoch % 5)
                .fold(script, |script, n| script.row(at(epoch as i64 * step + n as i64), first + n));
            // One takes more rounds than the test driver waits for when nothing moves.
            let script = if epoch == 3 { script.row(at(epoch as i64 * step), u64::MAX) } else { script };
            script.watermark(at(epoch as i64 * step)).end_epoch()
        });
        if partition == 0 { script.end().next_partition() } else { script.end() }
    })
}

/// The rows of both inputs with their steps, as the fragment emits them.
fn by_fragment(graph: &Graph, halving: Halving) -> EventStream<Row> {
    let (left, right) = (script(1, 4).stream(graph), script(10_000, 3).stream(graph));
    let operator = graph.operator("halving").local(left).local(right);
    operator.fragment::<(Events<Row>,)>(INSERTS, Lowering::shared(halving))
}

/// The same without a fragment.
fn by_steps(graph: &Graph) -> EventStream<Row> {
    let left = script(1, 4).stream(graph).map(|n| (0, n));
    let steps = |(side, from)| {
        let mut walk = Walk::new(side, (EventTime::MIN, from));
        while walk.at != 1 {
            walk.step();
        }
        (side, from, walk.steps)
    };
    left.union(script(10_000, 3).stream(graph).map(|n| (1, n))).map(steps).boxed()
}

type Windows = Collected<WindowResult<u8, u64>>;

/// Collects rows, and how many there are of each side in windows of ten seconds.
fn collected(rows: EventStream<Row>) -> (Collected<Row>, Windows) {
    let ((sink, seen), (window_sink, windows)) = (collecting_sink(), collecting_sink());
    rows.clone().sink(sink);
    let sides = rows.key_by(|row| row.0).window(tumbling(Duration::from_secs(10)));
    sides.count().append().sink(window_sink);
    (seen, windows)
}

/// Ends a query; one that hangs fails the test.
#[track_caller]
fn end(query: QueryHandle) -> Result<Summary, RunError> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !query.is_finished() {
        assert!(Instant::now() < deadline, "the query hangs: {:#?}", query.progress());
        std::thread::sleep(Duration::from_micros(300));
    }
    query.wait()
}

fn options(mode: Mode, workers: usize) -> Options {
    Options::default().with_mode(mode).with_workers(workers).without_ctrl_c()
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

fn windows_of(windows: Vec<WindowResult<u8, u64>>) -> Vec<(u8, EventTime, u64)> {
    sorted(windows.into_iter().map(|it| (it.key, it.window.start, it.value)).collect())
}

#[test]
fn fragment_emits_each_epochs_rows_and_windows_in_that_epoch() {
    let expected = Graph::new("steps");
    let of_steps = collected(by_steps(&expected));
    TestDriver::new(&expected, Options::default(), &SimClock::new()).unwrap().run_to_end().unwrap();
    for (workers, queued) in [(1, 10_000), (2, 10_000), (4, 10_000), (4, 1)] {
        let graph = Graph::new("fragment");
        let of_fragment = collected(by_fragment(&graph, Halving::default()));
        let options = options(Mode::MicroBatch, workers).with_max_queued(queued);
        let summary = end(graph.start(options).unwrap()).unwrap();
        // The last one is that of the end.
        assert_eq!(summary.epochs, EPOCHS + 1);
        assert!(of_fragment.1.committed_epochs().is_sorted());
        for epoch in of_steps.0.committed_epochs() {
            assert_eq!(
                sorted(of_fragment.0.of_epoch(epoch)),
                sorted(of_steps.0.of_epoch(epoch)),
                "{epoch:?}"
            );
            let (found, windows) = (of_fragment.1.of_epoch(epoch), of_steps.1.of_epoch(epoch));
            assert_eq!(windows_of(found), windows_of(windows), "{epoch:?}, {workers} workers");
        }
    }
    assert!(of_steps.1.committed().len() > 20);
}

#[test]
fn source_far_ahead_of_fragment_changes_nothing() {
    let run = |ahead: usize| {
        let graph = Graph::new("fragment");
        let rows = collected(by_fragment(&graph, Halving::default()));
        let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
        driver.epochs_ahead(ahead).unwrap();
        driver.run_to_end().unwrap();
        let of_epoch = |epoch| (epoch, rows.0.of_epoch(epoch), windows_of(rows.1.of_epoch(epoch)));
        let epochs = rows.0.committed_epochs().into_iter().map(of_epoch);
        epochs.filter(|(_, rows, windows)| !rows.is_empty() || !windows.is_empty()).collect::<Vec<_>>()
    };
    let one_by_one = run(1);
    assert!(one_by_one.len() > 20);
    assert!(run(20) == one_by_one, "the results differ");
}

#[test]
fn fragment_in_continuous_mode_has_the_same_rows_and_windows() {
    let expected = Graph::new("steps");
    let of_steps = collected(by_steps(&expected));
    TestDriver::new(&expected, Options::default(), &SimClock::new()).unwrap().run_to_end().unwrap();
    for (workers, interval) in [(1, 1), (2, 1), (4, 1), (4, 60_000)] {
        let graph = Graph::new("fragment");
        let of_fragment = collected(by_fragment(&graph, Halving::default()));
        let options = options(Mode::Continuous, workers)
            .with_checkpoint_interval(Duration::from_millis(interval))
            .with_max_queued(1);
        end(graph.start(options).unwrap()).unwrap();
        assert_eq!(sorted(of_fragment.0.committed()), sorted(of_steps.0.committed()), "{workers} workers");
        assert_eq!(windows_of(of_fragment.1.committed()), windows_of(of_steps.1.committed()));
    }
}

#[test]
fn panic_inside_fragment_is_one_error_with_its_line() {
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("fragment");
            let halving = Halving { panics_at: Some(61), ..Halving::default() };
            let _ = collected(by_fragment(&graph, halving));
            let error = end(graph.start(options(mode, workers)).unwrap()).unwrap_err();
            let RunError::Panic { site, message, worker: Some(_) } = &error else { panic!("{error}") };
            assert_eq!((site.operator.as_str(), message.as_str()), ("halving", "61 is too much"));
            assert!(site.location.contains("engine/fragment_tests.rs:"), "{}", site.location);
        }
    }
}

#[test]
fn error_inside_fragment_names_its_line() {
    let graph = Graph::new("fragment");
    let halving = Halving { refuses: Some(61), ..Halving::default() };
    let _ = collected(by_fragment(&graph, halving));
    let error = end(graph.start(options(Mode::MicroBatch, 2)).unwrap()).unwrap_err();
    let RunError::Operator { site, error } = &error else { panic!("{error}") };
    assert!(site.location.contains("engine/fragment_tests.rs:") && error.to_string().contains("refused"));
}

#[test]
fn query_with_fragment_restarts_from_its_checkpoint() {
    let counts = |rows: EventStream<Row>, graph: &Graph, options, storage| {
        let (sink, seen) = collecting_sink();
        rows.key_by(|row| row.1 % 7).count().update().uid("counts").sink(sink);
        end(graph.start_in(storage, options).unwrap()).unwrap();
        seen.written().into_iter().collect::<BTreeMap<u64, u64>>()
    };
    let expected = {
        let graph = Graph::new("steps");
        counts(by_steps(&graph), &graph, options(Mode::MicroBatch, 1), Arc::new(MemoryStorage::new()))
    };
    assert_eq!(expected.len(), 7);
    for mode in MODES {
        for workers in [1, 2, 4] {
            let graph = Graph::new("fragment");
            // A number of the 13th epoch.
            let halving = Halving { panics_at: Some(61), ..Halving::default() };
            let has_panicked = Arc::clone(&halving.has_panicked);
            let restart = Restart::Times { times: 1, backoff: Duration::ZERO };
            let options = options(mode, workers)
                .with_restart(restart)
                .with_checkpoint_interval(Duration::from_millis(1))
                .with_allow_loss();
            let found = counts(by_fragment(&graph, halving), &graph, options, Arc::new(MemoryStorage::new()));
            assert_eq!(found, expected, "{mode}, {workers} workers");
            assert!(has_panicked.load(Ordering::Relaxed));
        }
    }
}

#[test]
fn rows_on_their_way_inside_fragment_pause_sources() {
    const ROWS: usize = 20_000;
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let graph = Graph::new("fragment");
    let numbers = numbers(&graph, ROWS as u64).inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let timed = numbers.map(|n| n + 1).with_watermark(|_| EventTime::from_micros(0), Duration::ZERO);
    let other = ScriptedSource::<u64>::new().end().stream(&graph);
    // The other worker, to which all rows go, waits until it is let.
    let (open, gate) = crossbeam_channel::bounded::<()>(0);
    let halving = Halving { all_to: Some((1, gate)), ..Halving::default() };
    let operator = graph.operator("halving").local(timed).local(other);
    let (sink, rows) = collecting_sink();
    operator.fragment::<(Events<Row>,)>(INSERTS, Lowering::shared(halving)).sink(sink);
    let query = graph.start(options(Mode::Continuous, 2).with_max_queued(50)).unwrap();
    let mut seen = (0, Instant::now());
    while seen.0 == 0 || seen.1.elapsed() < Duration::from_millis(100) {
        let now = read.load(Ordering::Relaxed);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!((1..ROWS).contains(&seen.0), "{}", seen.0);
    drop(open);
    end(query).unwrap();
    assert_eq!(rows.committed().len(), ROWS);
}

#[test]
fn progress_counts_rows_of_fragment() {
    let graph = Graph::new("fragment");
    by_fragment(&graph, Halving::default()).sink(nowhere());
    let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new()).unwrap();
    driver.run_to_end().unwrap();
    let progress = driver.progress();
    let of_fragment = progress.state_operators.iter().find(|it| it.operator_name == "halving").unwrap();
    // Two partitions of two sources, with 0 to 4 rows in an epoch, and one row more.
    let rows = 4 * ((EPOCHS / 5) * 10 + 1);
    assert_eq!((of_fragment.rows_in, of_fragment.rows_out, of_fragment.num_rows_total), (rows, rows, 0));
}

/// Numbers of two sources, counted by side and window behind a fragment: any order of the threads, crashes, restarts with other
/// workers and in the other mode.
struct Simulated {
    sources: [SimSource<u64>; 2],
    windows: SimSink<(u8, i64, u64)>,
    wanted: Vec<(u8, i64, u64)>,
}

impl Simulated {
    fn new(world: &mut World) -> Simulated {
        let mut wanted = BTreeMap::new();
        let mut source = |side: u8| {
            let partitions = (0..2).map(|_| (1..=world.rows(60)).collect::<Vec<u64>>()).collect::<Vec<_>>();
            for number in partitions.iter().flatten() {
                *wanted.entry((side, *number as i64 / 10 * 10)).or_default() += 1;
            }
            world.source(partitions)
        };
        let sources = [source(0), source(1)];
        let wanted = wanted.into_iter().map(|((side, start), count)| (side, start, count)).collect();
        Simulated { sources, windows: world.sink(), wanted }
    }
}

impl Scenario for Simulated {
    fn graph(&self) -> Graph {
        let graph = Graph::new("simulated");
        let timed = |side: usize| {
            let rows = graph.source(self.sources[side].clone()).uid(&format!("source-{side}"));
            rows.with_watermark(|number| EventTime::from_micros(*number as i64), Duration::ZERO).boxed()
        };
        let operator = graph.operator("halving").local(timed(0)).local(timed(1));
        let rows = operator.fragment::<(Events<Row>,)>(INSERTS, Lowering::shared(Halving::default()));
        let windows = rows.key_by(|row| row.0).window(tumbling(Duration::from_micros(10))).count().append();
        windows.map(|it| (it.key, it.window.start.as_micros(), it.value)).sink(self.windows.clone());
        graph
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        let (shown, wanted) = (sorted(self.windows.shown()), &self.wanted);
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in order are late: {summary:?}")));
        }
        let is_right =
            shown.windows(2).all(|two| two[0] != two[1]) && shown.iter().all(|it| wanted.contains(it));
        if !is_right || is_last && shown != *wanted {
            return Err(Breach::new("exactly once", format!("{shown:?} are shown, not {wanted:?}")));
        }
        Ok(())
    }
}

#[test]
fn simulated_fragment_is_exactly_once() {
    simulate(Simulation::new(0..16), Simulated::new).unwrap_or_else(|violation| panic!("{violation}"));
}

/// A fragment that is lowered to an output less than it has.
struct Short;

impl Lower for Short {
    fn lower<'scope>(&self, _: Inside<'scope>) -> Vec<Edge<'scope>> {
        Vec::new()
    }
}

#[test]
fn fragment_that_cannot_be_lowered_ends_the_query_with_its_line() {
    let refused = |lowering| {
        let graph = Graph::new("fragment");
        let rows = script(1, 4).stream(&graph);
        let rows = graph.operator("odd").local(rows).fragment::<(Events<u64>,)>(INSERTS, lowering);
        assert_eq!(graph.nodes().last().unwrap().row_kind(), RowKind::Insert);
        rows.sink(nowhere());
        end(graph.start(options(Mode::MicroBatch, 2)).unwrap()).unwrap_err().to_string()
    };
    let said = refused(Lowering::shared(Short));
    assert!(said.contains("`odd` at ") && said.contains("of 1 outputs, but `lower` returned 0"), "{said}");
    let said = refused(Arc::new(()));
    assert!(said.contains("`odd` at ") && said.contains("for another engine"), "{said}");
}
