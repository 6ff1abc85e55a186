//! One run: a graph, a load, an engine; and everything that was measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tidemill::connectors::Words;
use tidemill::{
    Epoch, EventTime, Graph, Idle, Options, Prepared, Run, Sink, SinkContext, SinkError, Stream,
    WindowResult, tumbling,
};

use super::answer::{Answer, Question, expected, mapped};
use super::burst::Recovery;
use super::epochs::Mark;
use super::lateness::{Lateness, Latenesses, alone_for};
use super::recorder::{Recorded, Recorder, Row, join};
use super::schedule::{Load, Schedule};
use super::slots::Slots;
use super::source::{Event, OpenLoop};
use super::windows::Window;
use super::witness::{Disturbance, Witness};
use super::words;
use crate::jobs::process::Running;
use crate::measure::{cpu_time, peak_rss, reset_peak_rss};

/// Words in a line.
const LINE: u64 = 8;
/// How often it is looked how many events wait.
const LOOK: Duration = Duration::from_millis(50);

/// Which graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Stateless: a map and a filter, which lets seven of eight keys through.
    Map,
    /// The running count of each key, said when it has changed.
    KeyedCount,
    /// The count of each key in tumbling windows, said when it has changed.
    WindowedCount,
    /// The same, said once, when the window closes.
    WindowedCountOnce,
    /// The running count of each key, in a process function that also sets a timer for each event; the timer fires a window
    /// later and changes the state of its key.
    Process,
    /// Lines of eight words, split and counted by word; the count of each word, said when it has changed. An event is
    /// a word, and the words of a line are due together.
    WordCount,
}

/// A graph with its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The graph.
    pub shape: Shape,
    /// The size of its windows, in microseconds.
    pub window: u64,
    /// How long each call of the sink takes beside measuring, on Tidemill.
    pub sink_takes: Duration,
}

impl Job {
    /// What is asked of it: where nothing is measured event by event, the last counts are enough.
    #[must_use]
    pub fn question(&self, load: &Load) -> Question {
        match self.shape {
            Shape::Map => Question::Mapped,
            Shape::KeyedCount | Shape::WindowedCount | Shape::Process | Shape::WordCount => {
                match load.closed {
                    true => Question::Totals(self.windows()),
                    false => Question::Counts(self.windows()),
                }
            }
            Shape::WindowedCountOnce => Question::Totals(self.windows()),
        }
    }

    fn windows(&self) -> Option<u64> {
        matches!(self.shape, Shape::WindowedCount | Shape::WindowedCountOnce).then_some(self.window)
    }
}

/// How many events were waiting at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Nanoseconds after the beginning.
    pub at: u64,
    /// Events that were due and not shown.
    pub events: u64,
}

/// Everything that a run has shown.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From due to shown.
    pub record: Slots,
    /// The same by worker.
    pub by_worker: Vec<Slots>,
    /// From due to durable (or committed, where there is no checkpoint). Empty for an engine that commits nothing.
    pub commit: Slots,
    /// From due to emitted by the generator.
    pub generator: Slots,
    /// What else took the machine's cores.
    pub disturbance: Disturbance,
    /// Windows that were closed by an event.
    pub windows: Vec<Window>,
    /// Epochs by when they were committed.
    pub epochs: Vec<Mark>,
    /// How long a burst took, if there was one.
    pub recovery: Option<Recovery>,
    /// What came out.
    pub answer: Answer,
    /// What should have.
    pub expected: Answer,
    /// How many events waited, every 50 ms.
    pub backlog: Vec<Backlog>,
    /// From when the first event was due until the query had ended.
    pub elapsed: Duration,
    /// CPU time of the process, everything included.
    pub cpu: Duration,
    /// The largest resident set, in bytes, with the harness's own tables.
    pub peak_rss: u64,
}

impl Measured {
    /// Whether the answer is right. If not, the numbers are void.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.answer == self.expected
    }

    /// CPU seconds for a million events.
    #[must_use]
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() / (self.expected.events.max(1) as f64 / 1e6)
    }

    /// Events a second from beginning to end.
    #[must_use]
    pub fn throughput(&self, load: &Load) -> f64 {
        load.events as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What is told while a run is under way: how many of its events are due by now, of how many.
pub type Watch<'a> = &'a mut dyn FnMut(u64, u64);

/// What both engines need.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The schedule.
    pub schedule: Arc<Schedule>,
    /// The graph.
    pub job: Job,
    shown: Arc<AtomicU64>,
    generators: Latenesses,
}

impl Setting {
    fn new(job: Job, load: &Load, partitions: usize) -> Setting {
        let mut load = *load;
        // There is no state to be filled, or not event by event.
        load.prefill &= !matches!(job.shape, Shape::Map | Shape::WordCount);
        load.line = if job.shape == Shape::WordCount { LINE } else { 1 };
        // The clock of an open load runs from here on: nothing may come between this and the start.
        Setting::of(job, Arc::new(Schedule::begin(load, partitions)))
    }

    /// A run of a schedule.
    #[must_use]
    pub fn of(job: Job, schedule: Arc<Schedule>) -> Setting {
        Setting { schedule, job, shown: Arc::default(), generators: Latenesses::default() }
    }

    /// The record of a generator of the run.
    #[must_use]
    pub fn lateness(&self) -> Lateness {
        Lateness::new(Arc::clone(&self.schedule), self.generators.clone())
    }

    /// A recorder for one of the workers.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.schedule), self.job.windows(), Arc::clone(&self.shown))
    }

    /// How many events have to be shown of the first `events`.
    fn to_show(&self, events: u64) -> u64 {
        match self.job.shape {
            Shape::Map => {
                let keys = self.schedule.load().keys;
                let through = (0..keys.min(10_000)).filter(|key| mapped(*key).is_some()).count() as u64;
                events * through / keys.clamp(1, 10_000)
            }
            _ => events,
        }
    }
}

/// Runs on Tidemill.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn on_tidemill(job: Job, load: &Load, options: &Options, watch: Watch<'_>) -> Measured {
    let workers = options.workers;
    measured(job, load, workers, watch, |setting, during| {
        let recorders: Arc<Mutex<Vec<Recorder>>> = Arc::default();
        let graph = graph(setting, &recorders);
        let query = graph.start(options.clone()).expect("the query starts");
        let (ended, _) = watched(move || query.wait().expect("the query runs to its end"), during);
        (std::mem::take(&mut *recorders.lock().unwrap_or_else(PoisonError::into_inner)), ended)
    })
}

/// Runs as a program written by hand on timely dataflow, if there is one for the graph.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn on_timely(job: Job, load: &Load, workers: usize, idle: Idle, watch: Watch<'_>) -> Measured {
    let idle_spin = match idle {
        Idle::Park => Duration::ZERO,
        Idle::Spin(time) => time,
    };
    measured(job, load, workers, watch, |setting, during| {
        let own = setting.clone();
        let (ended, recorders) =
            watched(move || crate::baseline::latency::latency(&own, workers, idle_spin), during);
        (recorders, ended)
    })
}

/// Runs as a program on Renoir, if there is one for the graph.
///
/// # Panics
/// If there is none.
#[cfg(feature = "peers")]
#[must_use]
pub fn on_renoir(job: Job, load: &Load, workers: usize, watch: Watch<'_>) -> Measured {
    measured(job, load, workers, watch, |setting, during| {
        let own = setting.clone();
        let (ended, recorders) = watched(move || crate::renoir::latency::latency(&own, workers), during);
        (recorders, ended)
    })
}

/// Events a second that the generators of a graph reach by themselves.
#[must_use]
pub fn generator_alone(job: Job, load: &Load, workers: usize) -> f64 {
    alone_for(&Setting::new(job, load, workers))
}

/// Waits for something on a thread of its own, which tells when it ended however seldom it is looked at meanwhile.
fn watched<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
    look: &mut dyn FnMut(),
) -> (Instant, R) {
    let running = std::thread::spawn(move || {
        let result = work();
        (Instant::now(), result)
    });
    while !running.is_finished() {
        look();
    }
    running.join().expect("no worker panics")
}

/// Whether there is a program written by hand for a graph.
#[must_use]
pub fn is_by_hand(shape: Shape) -> bool {
    shape != Shape::WindowedCountOnce
}

fn measured(
    job: Job,
    load: &Load,
    workers: usize,
    watch: Watch<'_>,
    run: impl FnOnce(&Setting, &mut dyn FnMut()) -> (Vec<Recorder>, Instant),
) -> Measured {
    reset_peak_rss();
    let before = cpu_time().unwrap_or_default();
    let setting = Setting::new(job, load, workers);
    let schedule = &*setting.schedule;
    let mut witness = Witness::begin();
    let started = Instant::now();
    let mut backlog = Vec::new();
    let (recorders, ended) = run(&setting, &mut || {
        std::thread::sleep(LOOK);
        witness.look();
        let shown = setting.shown.load(Ordering::Relaxed);
        let Some(now) = schedule.now() else { return };
        let due = schedule.due_before(now + 1);
        if !load.closed {
            if job.shape != Shape::WindowedCountOnce {
                backlog.push(Backlog { at: now, events: setting.to_show(due).saturating_sub(shown) });
            }
            watch(due, schedule.total());
        } else {
            watch(shown, schedule.total());
        }
    });
    let disturbance = witness.finish();
    let cpu = cpu_time().unwrap_or_default().saturating_sub(before);
    let peak_rss = peak_rss().unwrap_or_default();
    let Recorded { record, by_worker, commit, windows, epochs, answer, burst } = join(recorders);
    // What is offered at once is offered from the start.
    let origin = if load.closed { started } else { schedule.origin() };
    Measured {
        record,
        by_worker,
        commit,
        generator: setting.generators.total(schedule.duration()),
        disturbance,
        windows,
        epochs,
        recovery: burst.map(|burst| burst.recovery()),
        answer,
        expected: expected(schedule, job.question(load)),
        backlog,
        elapsed: ended.saturating_duration_since(origin),
        cpu,
        peak_rss,
    }
}

fn graph(setting: &Setting, recorders: &Arc<Mutex<Vec<Recorder>>>) -> Graph {
    let graph = Graph::new("latency");
    let events = || graph.source(OpenLoop::<Event>::new(setting));
    let size = setting.job.window;
    let windowed = |events: Stream<Event, _>| {
        events
            .with_watermark(|event| EventTime::from_micros((event.1 / 1_000) as i64), Duration::ZERO)
            .key_by(|event| event.0)
            .window(tumbling(Duration::from_micros(size)))
            .count()
    };
    let window = move |row: &WindowResult<u64, u64>| row.window.start.as_micros() as u64 / size;
    match setting.job.shape {
        Shape::Map => events()
            .map(|(key, due)| (mapped(key), due))
            .filter(|(value, _)| value.is_some())
            .sink_per_worker(sinks(setting, recorders, |(value, due): (Option<u64>, u64)| {
                Row::Passed(value.unwrap_or_default(), due)
            })),
        Shape::KeyedCount => events().key_by(|event| event.0).count().update().sink_per_worker(sinks(
            setting,
            recorders,
            |(key, count)| Row::Counted(key, 0, count),
        )),
        Shape::WindowedCount => windowed(events()).update().sink_per_worker(sinks(
            setting,
            recorders,
            move |row: WindowResult<u64, u64>| Row::Counted(row.key, window(&row), row.value),
        )),
        Shape::WindowedCountOnce => windowed(events()).append().sink_per_worker(sinks(
            setting,
            recorders,
            move |row: WindowResult<u64, u64>| Row::Closed(row.key, window(&row), row.value),
        )),
        Shape::Process => events()
            .with_watermark(|event| EventTime::from_micros((event.1 / 1_000) as i64), Duration::ZERO)
            .key_by(|event| event.0)
            .process(move || Running::new(Duration::from_micros(size)))
            .sink_per_worker(sinks(setting, recorders, |(key, count)| Row::Counted(key, 0, count))),
        Shape::WordCount => {
            graph.source(OpenLoop::<String>::new(setting)).keys_by(words_of).count().update().sink_per_worker(
                sinks(setting, recorders, |(word, count): (String, u64)| {
                    Row::Counted(words::read(&word), 0, count)
                }),
            )
        }
    }
    graph
}

#[expect(clippy::ptr_arg, reason = "`keys_by` passes a reference to the record")]
fn words_of(line: &String) -> Words<'_> {
    tidemill::connectors::words(line)
}

/// Makes a sink for each worker.
fn sinks<T, F: Fn(T) -> Row + Clone>(
    setting: &Setting,
    all: &Arc<Mutex<Vec<Recorder>>>,
    row: F,
) -> impl Fn(usize) -> Result<Measure<F>, SinkError> + use<T, F> {
    let (setting, all) = (setting.clone(), Arc::clone(all));
    move |_| {
        let (recorder, takes) = (Some(setting.recorder()), setting.job.sink_takes);
        Ok(Measure { recorder, takes, row: row.clone(), all: Arc::clone(&all) })
    }
}

/// The sink: hands every row to its recorder, which the run collects when the query is over.
struct Measure<F> {
    recorder: Option<Recorder>,
    takes: Duration,
    row: F,
    all: Arc<Mutex<Vec<Recorder>>>,
}

impl<T: Send + 'static, F: Fn(T) -> Row + Send + 'static> Sink<T> for Measure<F> {
    fn open(&mut self, context: &SinkContext) -> Result<(), SinkError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.show_at_once(context.immediate);
        }
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<T>) -> Result<(), SinkError> {
        if !self.takes.is_zero() {
            // As one that waits for a disk or another machine; its rows are shown when the call is over.
            std::thread::sleep(self.takes);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.write(epoch.number(), rows.drain(..).map(&self.row));
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.prepare(epoch.number());
        }
        Ok(Prepared::nothing())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.commit(epoch.number());
        }
        Ok(())
    }
}

impl<F> Drop for Measure<F> {
    fn drop(&mut self) {
        let recorder = self.recorder.take();
        self.all.lock().unwrap_or_else(PoisonError::into_inner).extend(recorder);
    }
}

#[cfg(test)]
mod tests {
    use tidemill::Mode;

    use super::*;

    fn job(shape: Shape) -> Job {
        Job { shape, window: 50_000, sink_takes: Duration::ZERO }
    }

    fn line(shape: Shape) -> u64 {
        if shape == Shape::WordCount { LINE } else { 1 }
    }

    #[test]
    fn every_graph_gives_the_right_answer_in_both_modes() {
        let all = [Shape::Map, Shape::KeyedCount, Shape::WindowedCount, Shape::WindowedCountOnce];
        for shape in all.into_iter().chain([Shape::Process, Shape::WordCount]) {
            for mode in [Mode::MicroBatch, Mode::Continuous] {
                for (workers, rate, closed) in [(1, 1_000, false), (2, 50_000, false), (2, 400_000, true)] {
                    let load = Load { keys: 70, closed, prefill: rate > 1_000, ..Load::open(rate, 0.25) };
                    let options = Options::default().with_mode(mode).with_workers(workers);
                    let measured = on_tidemill(job(shape), &load, &options, &mut |_, _| ());
                    assert_eq!(measured.answer, measured.expected, "{shape:?} {mode:?} {workers} {rate}");
                    let recorded = measured.record.total(Duration::ZERO).len();
                    let of_events = !closed && shape != Shape::WindowedCountOnce;
                    let has_prefill = load.prefill && !matches!(shape, Shape::Map | Shape::WordCount);
                    let prefilled = if has_prefill { 70 } else { 0 };
                    let events = if of_events { measured.expected.events - prefilled } else { 0 };
                    assert_eq!(recorded, events, "{shape:?} {mode:?} {workers} {rate}");
                    assert_eq!(measured.commit.total(Duration::ZERO).len(), events);
                    let emitted = measured.generator.total(Duration::ZERO).len();
                    assert_eq!(
                        emitted,
                        if closed { 0 } else { load.events & !(line(shape) - 1) },
                        "{shape:?}"
                    );
                    assert_eq!(measured.windows.len(), if shape == Shape::WindowedCountOnce { 4 } else { 0 });
                    // The last line begins eight words before the end.
                    let last = if shape == Shape::WordCount { 239 } else { 249 };
                    assert!(closed || measured.elapsed >= Duration::from_millis(last));
                }
            }
        }
    }

    #[test]
    fn a_burst_is_measured_in_both_modes() {
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            for shape in [Shape::KeyedCount, Shape::WordCount] {
                let mut load = Load { keys: 70, burst: 20_000, ..Load::open(1_000, 0.5) };
                load.events += load.burst;
                let options = Options::default().with_mode(mode).with_workers(2);
                let measured = on_tidemill(job(shape), &load, &options, &mut |_, _| ());
                assert_eq!(measured.answer, measured.expected, "{shape:?} {mode:?}");
                let recovery = measured.recovery.unwrap();
                assert!(recovery.drained > 0.0 && recovery.drained < 60_000.0, "{recovery:?}");
            }
        }
    }

    #[test]
    fn what_a_call_of_the_sink_takes_is_in_the_latencies() {
        let slow = Job { sink_takes: Duration::from_millis(3), ..job(Shape::KeyedCount) };
        let options = Options::default().with_mode(Mode::Continuous);
        let measured = on_tidemill(slow, &Load::open(100, 0.2), &options, &mut |_, _| ());
        assert!(measured.is_right() && measured.record.total(Duration::ZERO).min() >= 2_990_000);
    }

    #[test]
    fn the_program_written_by_hand_answers_the_same() {
        let all = [Shape::Map, Shape::KeyedCount, Shape::WindowedCount, Shape::Process, Shape::WordCount];
        for shape in all {
            for (workers, rate, idle) in
                [(1, 1_000, Idle::Park), (2, 50_000, Idle::Spin(Duration::from_micros(10)))]
            {
                let load = Load { keys: 70, prefill: true, ..Load::open(rate, 0.25) };
                let measured = on_timely(job(shape), &load, workers, idle, &mut |_, _| ());
                assert_eq!(measured.answer, measured.expected, "{shape:?} {workers} {rate}");
                assert!(!measured.record.total(Duration::ZERO).is_empty());
                let emitted = measured.generator.total(Duration::ZERO).len();
                assert_eq!(emitted, load.events & !(line(shape) - 1), "{shape:?}");
            }
        }
    }

    #[test]
    fn what_is_watched_is_looked_at_while_it_runs() {
        let (tell, told) = std::sync::mpsc::channel();
        let mut looks = 0;
        let work = move || told.iter().take(3).sum::<i32>();
        let (_, sum) = watched(work, &mut || {
            looks += 1;
            // Who has been told three times is no longer there.
            let _ = tell.send(looks);
        });
        assert_eq!(sum, 1 + 2 + 3);
        assert!(looks >= 3);
    }

    #[test]
    fn watched_call_ends_at_its_end_not_at_the_look() {
        thread_local! {
            static OVER: std::cell::RefCell<Option<std::sync::mpsc::Sender<()>>> = const { std::cell::RefCell::new(None) };
        }
        let ((begin, begun), (over, is_over)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let work = move || {
            begun.recv().unwrap();
            // Dropped by the end of the thread, and so after all that the thread has to say.
            OVER.set(Some(over));
        };
        let (mut begin, mut looked) = (Some(begin), None);
        let (ended, ()) = watched(work, &mut || {
            // A look that takes longer than the work.
            if let Some(begin) = begin.take() {
                begin.send(()).unwrap();
                assert!(is_over.recv().is_err());
                looked = Some(Instant::now());
            }
        });
        assert!(ended <= looked.unwrap());
    }

    #[test]
    #[should_panic(expected = "no worker panics")]
    fn a_panic_of_what_is_watched_is_not_kept_quiet() {
        watched(|| panic!("a worker"), &mut || ());
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let load = Load { keys: 70, ..Load::open(1_000, 0.1) };
        let mut measured = on_tidemill(job(Shape::KeyedCount), &load, &Options::default(), &mut |_, _| ());
        assert!(measured.is_right());
        measured.answer.checksum ^= 1;
        assert!(!measured.is_right());
    }
}
