//! A decision on each loan within ten seconds: three streams joined before a deadline.
//!
//! ```sh
//! cargo run --release --example fast_loan
//! ```
//!
//! For each application a credit bureau is asked for a score, and another service for a check against fraud. Their answers come on
//! streams of their own, in any order, and some never. An application is approved or declined if both answers have come within ten
//! seconds of event time, and goes to a clerk otherwise. Each has exactly one decision.
//!
//! - Two left outer joins, one behind the other: an application without an answer is emitted when the watermark proves that
//!   none can come in time.
//! - A window behind them counts decisions. No row is late for it.
//! - The result is the same in both modes, with any number of workers.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
struct Application {
    id: u64,
    euros: u64,
    at: EventTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Score {
    application: u64,
    points: u32,
    at: EventTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Check {
    application: u64,
    is_suspicious: bool,
    at: EventTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Decision {
    Approved,
    Declined,
    ToClerk,
}

const DEADLINE: Duration = Duration::from_secs(10);
const APPLICATIONS: u64 = 10_000;

/// A number that looks random, below `end`.
fn random(seed: u64, end: u64) -> u64 {
    (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % end
}

/// An application every 200 ms.
fn applications() -> Vec<Application> {
    let at = |id: u64| EventTime::from_millis(200 * id as i64);
    (0..APPLICATIONS).map(|id| Application { id, euros: 500 + random(id, 20_000), at: at(id) }).collect()
}

/// The answers of a service: after 0 to 10.5 seconds, and for one in twenty applications none. In order of time.
fn answers<T>(service: u64, answer: impl Fn(u64, EventTime) -> T, at: impl Fn(&T) -> EventTime) -> Vec<T> {
    let mut answers: Vec<T> = applications()
        .iter()
        .filter(|application| random(application.id * 3 + service, 20) > 0)
        .map(|application| {
            let millis = random(application.id * 7 + service, 10_500);
            answer(application.id, application.at + Duration::from_millis(millis))
        })
        .collect();
    answers.sort_by_key(at);
    answers
}

fn scores() -> Vec<Score> {
    let score = |application, at| Score { application, points: 300 + random(application, 550) as u32, at };
    answers(1, score, |score| score.at)
}

fn checks() -> Vec<Check> {
    let check = |application, at| Check { application, is_suspicious: random(application + 5, 30) == 0, at };
    answers(2, check, |check| check.at)
}

/// An answer that comes after the deadline is none.
fn decide(application: &Application, score: Option<&Score>, check: Option<&Check>) -> Decision {
    let deadline = application.at + DEADLINE;
    let score = score.filter(|score| score.at <= deadline);
    let check = check.filter(|check| check.at <= deadline);
    match (score, check) {
        (_, Some(check)) if check.is_suspicious => Decision::Declined,
        (Some(score), Some(_)) if u64::from(score.points) * 40 >= application.euros => Decision::Approved,
        (Some(_), Some(_)) => Decision::Declined,
        _ => Decision::ToClerk,
    }
}

/// Each decision by application, and how many of each kind there are by minute of the last answer.
type Decided = (BTreeMap<u64, Decision>, BTreeMap<Decision, u64>);

fn decisions(options: Options) -> Result<Decided, RunError> {
    let graph = Graph::new("fast loan");
    let second = Duration::from_secs(1);
    let applications = graph.source(memory(applications())).with_watermark(|it| it.at, second);
    let scores = graph.source(memory(scores())).with_watermark(|it| it.at, second);
    let checks = graph.source(memory(checks())).with_watermark(|it| it.at, second);
    let decided = applications
        .key_by(|application| application.id)
        .join(scores.key_by(|score| score.application))
        .within(Bounds::after(Duration::ZERO..=DEADLINE))
        .left_outer()
        // Such a row has the time of the score, which may be up to the deadline behind the application.
        .key_by(|(id, _, _)| *id)
        .join(checks.key_by(|check| check.application))
        .within(Bounds::between(DEADLINE, DEADLINE))
        .left_outer()
        .map(|(id, (_, application, score), check)| {
            (id, decide(&application, score.as_ref(), check.as_ref()))
        })
        .boxed();
    let ((sink, table), (minute_sink, minutes)) = (memory_sink(), memory_sink());
    decided
        .clone()
        .key_by(|(_, decision)| *decision)
        .window(tumbling(Duration::from_secs(60)))
        .count()
        .append()
        .map(|row| (row.key, row.value))
        .sink(minute_sink);
    decided.sink(sink);
    let summary = graph.run(options)?;
    assert_eq!(summary.late_rows, 0);
    let rows = table.snapshot();
    assert_eq!(rows.len() as u64, APPLICATIONS, "one decision each");
    let mut counts = BTreeMap::new();
    for (decision, count) in minutes.snapshot() {
        *counts.entry(decision).or_default() += count;
    }
    Ok((rows.into_iter().collect(), counts))
}

/// The same by a loop.
fn expected() -> Decided {
    let scores: BTreeMap<u64, Score> = scores().into_iter().map(|it| (it.application, it)).collect();
    let checks: BTreeMap<u64, Check> = checks().into_iter().map(|it| (it.application, it)).collect();
    let mut decided = Decided::default();
    for application in applications() {
        let id = application.id;
        let decision = decide(&application, scores.get(&id), checks.get(&id));
        decided.0.insert(id, decision);
        *decided.1.entry(decision).or_default() += 1;
    }
    decided
}

fn main() -> Result<(), Box<dyn Error>> {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let decided = decisions(Options::default().with_mode(mode).with_workers(2))?;
        println!("{mode}: {:?}", decided.1);
        assert_eq!(decided, expected());
    }
    Ok(())
}
