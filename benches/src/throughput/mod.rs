//! The throughput jobs as one list: what each is called, how large it is, what its right answer is, and how to run it on
//! each engine.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark fails loudly")]

mod cost;
mod included;
mod reference;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tidemill::{Mode, Options};

use crate::baseline::chain::{Chain, Large, Medium, Small, Style};
use crate::baseline::distinct::Distinct;
use crate::baseline::join::{IntervalJoin, Joined};
use crate::baseline::process::Process;
use crate::baseline::session::Sessions;
use crate::baseline::sliding::Sliding;
use crate::baseline::top::{Top, Tops};
use crate::baseline::windowed_count::{Windowed, WindowedCount};
use crate::baseline::word_count::WordCount;
use crate::text::zipf_file;
use crate::{baseline, jobs};

pub use cost::{Cost, Figures, measured, progress};
pub use included::Included;

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// The words of a text.
    WordCount,
    /// Events per key in tumbling windows, of this many keys.
    Windowed(u64),
    /// Events per key in windows of this many panes.
    Sliding(u64),
    /// Events per key and session.
    Session,
    /// A process function with a value and a timer per record, of this many keys. Not among [all](Job::ALL): it is compared with
    /// timely only.
    Process(u64),
    /// Pairs of two streams by key and event time, of this many keys. Compared with timely only, as well.
    Join(u64),
    /// Rows without those whose id has been there; nine tenths of the ids differ. Compared with timely only, as well.
    Distinct,
    /// The ten greatest words by key and tumbling window, of this many keys. Compared with timely only, as well.
    Top(u64),
    /// Eight stateless steps over records of this many bytes.
    Chain(usize),
}

impl Job {
    /// All of them.
    pub const ALL: [Job; 10] = [
        Job::WordCount,
        Job::Windowed(1_000),
        Job::Windowed(1_000_000),
        Job::Sliding(2),
        Job::Sliding(12),
        Job::Sliding(60),
        Job::Session,
        Job::Chain(16),
        Job::Chain(64),
        Job::Chain(200),
    ];

    /// Whether its rows go to the worker that owns their key.
    #[must_use]
    pub const fn is_keyed(self) -> bool {
        !matches!(self, Job::Chain(_))
    }

    /// Whether there is a program for it on that engine.
    #[must_use]
    pub const fn runs_on(self, engine: Engine) -> bool {
        match engine {
            Engine::Tidemill(_) | Engine::Timely | Engine::TimelyUpdating => true,
            Engine::Loop => !self.is_keyed(),
            #[cfg(feature = "peers")]
            Engine::Renoir => !matches!(self, Job::Process(_) | Job::Join(_) | Job::Distinct | Job::Top(_)),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::WordCount => f.pad("word-count"),
            Job::Windowed(keys) => f.pad(&format!("windowed-{keys}")),
            Job::Sliding(panes) => f.pad(&format!("sliding-{panes}")),
            Job::Session => f.pad("session"),
            Job::Process(keys) => f.pad(&format!("process-{keys}")),
            Job::Join(keys) => f.pad(&format!("join-{keys}")),
            Job::Distinct => f.pad("distinct"),
            Job::Top(keys) => f.pad(&format!("top-{keys}")),
            Job::Chain(bytes) => f.pad(&format!("chain-{bytes}")),
        }
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Job, String> {
        let (kind, number) = match text.rsplit_once('-') {
            Some((kind, number)) => (kind, number.parse::<u64>().ok()),
            None => (text, None),
        };
        match (kind, number) {
            ("word", None) if text == "word-count" => Ok(Job::WordCount),
            ("session", None) => Ok(Job::Session),
            ("distinct", None) => Ok(Job::Distinct),
            ("windowed", Some(keys @ 1..)) => Ok(Job::Windowed(keys)),
            ("process", Some(keys @ 1..)) => Ok(Job::Process(keys)),
            ("sliding", Some(panes @ 1..)) => Ok(Job::Sliding(panes)),
            ("join", Some(keys @ 1..)) => Ok(Job::Join(keys)),
            ("top", Some(keys @ 1..)) => Ok(Job::Top(keys)),
            ("chain", Some(bytes @ (16 | 64 | 200))) => Ok(Job::Chain(bytes as usize)),
            _ => Err(format!(
                "`{text}` is no job: word-count, windowed-KEYS, sliding-PANES, session, process-KEYS, join-KEYS, distinct, top-KEYS, \
                 chain-16,
                 chain-64, chain-200"
            )),
        }
    }
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Tidemill, in this mode.
    Tidemill(Mode),
    /// A program written by hand on timely dataflow.
    Timely,
    /// The same, which also says new totals while it counts words: what a running query does.
    TimelyUpdating,
    /// No engine: a loop from vector to vector, on one thread. For the stateless steps only.
    Loop,
    /// A program on Renoir.
    #[cfg(feature = "peers")]
    Renoir,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Engine::Tidemill(Mode::MicroBatch) => "micro-batch",
            Engine::Tidemill(Mode::Continuous) => "continuous",
            Engine::Timely => "timely",
            Engine::TimelyUpdating => "timely, updating",
            Engine::Loop => "loop",
            #[cfg(feature = "peers")]
            Engine::Renoir => "renoir",
        })
    }
}

/// What came out of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Rows: words, keys in windows, sessions, records that came through.
    pub rows: u64,
    /// Input records that they speak of; for the stateless steps simply the records that went in.
    pub records: u64,
    /// A sum over the rows that knows no order.
    pub checksum: u64,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What came out.
    pub answer: Answer,
    /// How long it took: starting the workers, reading, computing, ending them.
    pub elapsed: Duration,
}

/// How large the jobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Events of the windowed jobs, and records of the chain.
    pub events: u64,
    /// MiB of text.
    pub mib: u64,
    /// Different words.
    pub words: usize,
    /// Keys of the sliding windows and sessions.
    pub keys: u64,
}

impl Sizes {
    /// Writes the text of the word count.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_text(&self, path: &Path) -> io::Result<()> {
        zipf_file(path, self.mib << 20, self.words, TEXT_SEED).map(drop)
    }
}

/// Reads the name of a mode.
///
/// # Errors
/// If it is none.
pub fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "micro-batch" => Ok(Mode::MicroBatch),
        "continuous" => Ok(Mode::Continuous),
        other => Err(format!("`{other}` is neither `micro-batch` nor `continuous`")),
    }
}

/// The jobs with their input and their right answers, made when first asked for.
#[derive(Debug)]
pub struct Bench {
    sizes: Sizes,
    /// How many times as many windows as usual the events fill.
    times: u64,
    options: Options,
    text: Option<NamedTempFile>,
    /// By job, events and times.
    answers: HashMap<(Job, u64, u64), Answer>,
}

impl Bench {
    /// Jobs of that size. The options are Tidemill's; mode and workers are set for each run.
    #[must_use]
    pub fn new(sizes: Sizes, options: Options) -> Bench {
        Bench { sizes, times: 1, options, text: None, answers: HashMap::new() }
    }

    /// Jobs of another number of events, with the same text.
    pub fn set_events(&mut self, events: u64) {
        (self.sizes.events, self.times) = (events, 1);
    }

    /// Jobs of this many times the events, in as many times the windows: each window has what it had.
    pub fn set_longer(&mut self, times: u64) {
        self.sizes.events = self.sizes.events / self.times * times;
        self.times = times;
    }

    fn windowed(&self, keys: u64, workers: usize) -> WindowedCount {
        let job = WindowedCount::new(self.sizes.events, keys, workers);
        WindowedCount { windows: job.windows * self.times, ..job }
    }

    fn sliding(&self, panes: u64, workers: usize) -> Sliding {
        let Sliding { count, panes } = Sliding::new(self.sizes.events, self.sizes.keys, panes, workers);
        Sliding { count: WindowedCount { windows: count.windows * self.times, ..count }, panes }
    }

    /// The right answer.
    ///
    /// # Panics
    /// If the text cannot be written or read.
    pub fn expected(&mut self, job: Job) -> Answer {
        let Sizes { events, keys, .. } = self.sizes;
        if let Some(known) = self.answers.get(&(job, events, self.times)) {
            return *known;
        }
        let answer = match job {
            Job::WordCount => reference::word_count(self.text()),
            Job::Windowed(keys) => reference::windowed_count(self.windowed(keys, 1)),
            Job::Sliding(panes) => reference::sliding(self.sliding(panes, 1)),
            Job::Session => reference::sessions(Sessions::new(events, keys, 1)),
            Job::Process(keys) => reference::process(Process::new(events, keys, 1)),
            Job::Join(keys) => reference::interval_join(IntervalJoin::new(events, keys, 1)),
            Job::Distinct => reference::distinct(Distinct::new(events, 1)),
            Job::Top(keys) => reference::top(Top::new(events, keys, 1)),
            Job::Chain(16) => reference::chain::<Small>(events),
            Job::Chain(64) => reference::chain::<Medium>(events),
            Job::Chain(_) => reference::chain::<Large>(events),
        };
        self.answers.insert((job, events, self.times), answer);
        answer
    }

    /// How many records go in: words, events.
    pub fn records(&mut self, job: Job) -> u64 {
        if job == Job::WordCount { self.expected(job).records } else { self.sizes.events }
    }

    /// Runs a job.
    ///
    /// # Panics
    /// If the engine fails, or the job does not [run on](Job::runs_on) it.
    pub fn run(&mut self, job: Job, engine: Engine, workers: usize) -> Outcome {
        let sizes = self.sizes;
        let Sizes { events, keys, .. } = sizes;
        if job == Job::WordCount {
            self.text();
        }
        let text = self.text.as_ref().map_or(Path::new(""), NamedTempFile::path);
        match engine {
            Engine::Tidemill(mode) => {
                let options = self.options.clone().with_mode(mode).with_workers(workers);
                match job {
                    Job::WordCount => jobs::word_count::word_count(text, &options).into(),
                    Job::Windowed(keys) => {
                        jobs::windowed_count::windowed_count(self.windowed(keys, workers), &options).into()
                    }
                    Job::Sliding(panes) => {
                        jobs::sliding::sliding(self.sliding(panes, workers), &options).into()
                    }
                    Job::Session => {
                        jobs::session::sessions(Sessions::new(events, keys, workers), &options).into()
                    }
                    Job::Process(keys) => {
                        jobs::process::process(Process::new(events, keys, workers), &options).into()
                    }
                    Job::Join(keys) => {
                        let job = IntervalJoin::new(events, keys, workers);
                        Outcome::of_join(jobs::join::interval_join(job, &options), events)
                    }
                    Job::Distinct => {
                        let job = Distinct::new(events, workers);
                        Outcome::of_passed(jobs::distinct::distinct(job, &options), events)
                    }
                    Job::Top(keys) => {
                        Outcome::of_top(jobs::top::top(Top::new(events, keys, workers), &options), events)
                    }
                    Job::Chain(16) => {
                        Outcome::of_chain(jobs::chain::chain::<Small>(events, workers, &options), events)
                    }
                    Job::Chain(64) => {
                        Outcome::of_chain(jobs::chain::chain::<Medium>(events, workers, &options), events)
                    }
                    Job::Chain(_) => {
                        Outcome::of_chain(jobs::chain::chain::<Large>(events, workers, &options), events)
                    }
                }
            }
            Engine::Timely | Engine::TimelyUpdating => match job {
                Job::WordCount => {
                    let updates = (engine == Engine::TimelyUpdating).then_some(UPDATES);
                    baseline::word_count::word_count(text, workers, updates).into()
                }
                Job::Windowed(keys) => {
                    baseline::windowed_count::windowed_count(self.windowed(keys, workers)).into()
                }
                Job::Sliding(panes) => baseline::sliding::sliding(self.sliding(panes, workers)).into(),
                Job::Session => baseline::session::sessions(Sessions::new(events, keys, workers)).into(),
                Job::Process(keys) => baseline::process::process(Process::new(events, keys, workers)).into(),
                Job::Join(keys) => {
                    let job = IntervalJoin::new(events, keys, workers);
                    Outcome::of_join(baseline::join::interval_join(job), events)
                }
                Job::Distinct => {
                    let job = Distinct::new(events, workers);
                    Outcome::of_passed(baseline::distinct::distinct(job), events)
                }
                Job::Top(keys) => {
                    Outcome::of_top(baseline::top::top(Top::new(events, keys, workers)), events)
                }
                Job::Chain(16) => {
                    Outcome::of_chain(baseline::chain_dataflow::chain::<Small>(events, workers), events)
                }
                Job::Chain(64) => {
                    Outcome::of_chain(baseline::chain_dataflow::chain::<Medium>(events, workers), events)
                }
                Job::Chain(_) => {
                    Outcome::of_chain(baseline::chain_dataflow::chain::<Large>(events, workers), events)
                }
            },
            Engine::Loop => {
                let run = match job {
                    Job::Chain(16) => baseline::chain::chain::<Small>,
                    Job::Chain(64) => baseline::chain::chain::<Medium>,
                    Job::Chain(_) => baseline::chain::chain::<Large>,
                    _ => panic!("{job} has no plain loop"),
                };
                Outcome::of_chain(run(events, LOOP_BATCH, Style::Fused), events)
            }
            #[cfg(feature = "peers")]
            Engine::Renoir => match job {
                Job::WordCount => crate::renoir::word_count::word_count(text, workers).into(),
                Job::Windowed(keys) => {
                    crate::renoir::windowed_count::windowed_count(self.windowed(keys, workers)).into()
                }
                Job::Sliding(panes) => crate::renoir::sliding::sliding(self.sliding(panes, workers)).into(),
                Job::Session => crate::renoir::session::sessions(Sessions::new(events, keys, workers)).into(),
                Job::Process(_) | Job::Join(_) | Job::Distinct | Job::Top(_) => {
                    panic!("{job} has no program on Renoir")
                }
                Job::Chain(16) => {
                    Outcome::of_chain(crate::renoir::chain::chain::<Small>(events, workers), events)
                }
                Job::Chain(64) => {
                    Outcome::of_chain(crate::renoir::chain::chain::<Medium>(events, workers), events)
                }
                Job::Chain(_) => {
                    Outcome::of_chain(crate::renoir::chain::chain::<Large>(events, workers), events)
                }
            },
        }
    }

    /// The text, written when first asked for.
    fn text(&mut self) -> &Path {
        let sizes = self.sizes;
        self.text
            .get_or_insert_with(|| {
                let file = NamedTempFile::new().expect("a temporary file");
                sizes.write_text(file.path()).expect("the text is written");
                file
            })
            .path()
    }
}

/// How often a program by hand says new totals while it counts words; Tidemill in continuous mode does as often.
const UPDATES: Duration = Duration::from_millis(20);

/// Records in a batch of the plain loop.
const LOOP_BATCH: usize = 1024;

/// The seed of the text.
pub const TEXT_SEED: u64 = 42;

impl Outcome {
    fn of_chain(chain: Chain, records: u64) -> Outcome {
        let answer = Answer { rows: chain.count, records, checksum: chain.checksum };
        Outcome { answer, elapsed: chain.elapsed }
    }

    /// Rows of `records` have passed.
    fn of_passed(passed: Windowed, records: u64) -> Outcome {
        let answer = Answer { rows: passed.rows, records, checksum: passed.checksum };
        Outcome { answer, elapsed: passed.elapsed }
    }

    fn of_top(tops: Tops, records: u64) -> Outcome {
        let answer = Answer { rows: tops.rows, records, checksum: tops.checksum };
        Outcome { answer, elapsed: tops.elapsed }
    }

    fn of_join(joined: Joined, records: u64) -> Outcome {
        let answer = Answer { rows: joined.pairs, records, checksum: joined.checksum };
        Outcome { answer, elapsed: joined.elapsed }
    }
}

impl From<Windowed> for Outcome {
    fn from(of: Windowed) -> Outcome {
        Outcome { elapsed: of.elapsed, answer: of.into() }
    }
}

impl From<WordCount> for Outcome {
    fn from(of: WordCount) -> Outcome {
        let answer = Answer { rows: of.counts.len() as u64, records: of.words(), checksum: of.checksum() };
        Outcome { answer, elapsed: of.elapsed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines() -> Vec<Engine> {
        vec![
            Engine::Tidemill(Mode::MicroBatch),
            Engine::Tidemill(Mode::Continuous),
            Engine::Timely,
            Engine::TimelyUpdating,
            #[cfg(feature = "peers")]
            Engine::Renoir,
        ]
    }

    #[test]
    fn every_engine_gives_the_right_answer_to_every_job() {
        for (events, keys) in [(1, 1), (777, 5), (60_001, 100)] {
            let mut bench = Bench::new(Sizes { events, mib: 1, words: 500, keys }, Options::default());
            for job in Job::ALL.into_iter().chain([
                Job::Process(keys),
                Job::Join(keys),
                Job::Distinct,
                Job::Top(keys),
            ]) {
                let job = if let Job::Windowed(1_000_000) = job { Job::Windowed(20_000) } else { job };
                let expected = bench.expected(job);
                assert!(expected.rows > 0 || events == 1);
                for engine in engines().into_iter().filter(|engine| job.runs_on(*engine)) {
                    for workers in [1, 2] {
                        let outcome = bench.run(job, engine, workers);
                        assert_eq!(
                            outcome.answer, expected,
                            "{job} {engine} {workers} workers {events} events"
                        );
                    }
                }
                if !job.is_keyed() {
                    assert_eq!(
                        bench.run(job, Engine::Loop, 1).answer,
                        expected,
                        "{job} loop {events} events"
                    );
                }
            }
        }
    }

    #[test]
    fn a_job_is_read_as_it_is_written() {
        for job in Job::ALL.into_iter().chain([Job::Process(7), Job::Distinct, Job::Top(3)]) {
            assert_eq!(job.to_string().parse(), Ok(job));
        }
        assert!("chain-17".parse::<Job>().is_err());
        assert!("windowed".parse::<Job>().is_err());
    }

    #[test]
    fn sessions_and_windows_by_hand() {
        // Events at 0, 1, 2 … with one key: the windows of two panes of one event overlap by one.
        let count = WindowedCount { windows: 4, ..WindowedCount::new(4, 1, 1) };
        let answer = reference::sliding(Sliding { count, panes: 2 });
        assert_eq!((answer.rows, answer.records), (5, 8));
        assert_eq!(reference::sessions(Sessions::new(4, 1, 1)).rows, 1);
    }
}
