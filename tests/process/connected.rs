//! Functions over two streams.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidemill::operator::{Dealt, Events, ListState, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{CoContext, CoProcessFunction, ProcessResult};
use tidemill::testing::{EpochInput, Harness, operator_of, three_phases};

use super::common::{MODES, assert_same, run_well, ways};
use super::function::{Row, at};

/// An answer belongs to its question if it comes by this time, in event time.
const DEADLINE: Duration = Duration::from_micros(50);

/// A question with the least of its answers in time; none if there are none.
type Answered = (u32, Option<u32>);

/// Left: questions. Right: answers. The key is the number of the question.
struct Answers {
    asked: ValueState<u32, EventTime>,
    answers: ListState<u32, (EventTime, u32)>,
}

impl Answers {
    fn new() -> Self {
        Answers { asked: ValueState::new(), answers: ListState::new() }
    }
}

impl CoProcessFunction for Answers {
    type Key = u32;
    type Left = Row;
    type Right = (u32, Row);
    type Outputs = (Events<Answered>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("asked", &mut self.asked);
        states.add("answers", &mut self.answers);
    }

    fn on_left(&mut self, _: Row, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        self.asked.insert(cx.key, cx.time());
        cx.set_event_timer(cx.time() + DEADLINE);
        Ok(())
    }

    fn on_right(&mut self, (_, answer): (u32, Row), cx: &mut CoContext<'_, Self>) -> ProcessResult {
        self.answers.push(cx.key, (cx.time(), answer.number));
        // Evicts it in time if no question has come.
        cx.set_event_timer(cx.time() + DEADLINE);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut CoContext<'_, Self>) -> ProcessResult {
        let due = cx.time();
        match self.asked.get(cx.key).copied() {
            Some(asked) if asked + DEADLINE == due => {
                let in_time = self.answers.get(cx.key).filter(|(time, _)| (asked..due).contains(time));
                let best = in_time.map(|(_, number)| *number).min();
                cx.out.0.push(due, (*cx.key, best));
                self.asked.remove(cx.key);
                self.answers.remove(cx.key);
            }
            Some(_) => {}
            None => self.answers.retain(cx.key, |(time, _)| *time + DEADLINE > due),
        }
        Ok(())
    }
}

/// What plain loops find: questions by number and time, answers as question, time and number.
fn answered(questions: &[Row], answers: &[(u32, Row)]) -> Vec<Answered> {
    let in_time = |question: &Row| {
        let end = question.time + DEADLINE.as_micros() as i64;
        let mine = answers
            .iter()
            .filter(|(to, it)| *to == question.number && (question.time..end).contains(&it.time));
        mine.map(|(_, answer)| answer.number).min()
    };
    questions.iter().map(|question| (question.number, in_time(question))).collect()
}

/// Questions, and answers that come up to 80 later or 10 sooner.
fn rows(count: u32) -> (Vec<Row>, Vec<(u32, Row)>) {
    let question = |n: u32| Row { key: 0, time: i64::from(n) * 7 - 900 + i64::from(n * 31 % 60), number: n };
    let questions: Vec<Row> = (0..count).map(question).collect();
    let answer = |n: u32| {
        let to = questions[(n * 17 % count) as usize];
        (to.number, Row { key: 1, time: to.time - 10 + i64::from(n * 13 % 90), number: n })
    };
    let mut answers: Vec<(u32, Row)> = (0..count * 2).filter(|n| n % 3 != 1).map(answer).collect();
    // In order, but for some neighbours.
    answers.sort_by_key(|answer| answer.1.time);
    answers.chunks_mut(4).for_each(<[_]>::reverse);
    (questions, answers)
}

#[test]
fn questions_find_their_answers_in_all_ways() {
    let (questions, answers) = rows(300);
    let wanted = answered(&questions, &answers);
    let with_answer = wanted.iter().filter(|it| it.1.is_some()).count();
    assert!(with_answer > 100 && wanted.len() - with_answer > 30, "{with_answer}");
    for (options, empty) in
        ways(&[0, usize::MAX], 40).into_iter().zip([false, false, true].into_iter().cycle())
    {
        let graph = Graph::new("answers");
        let (sink, table) = memory_sink();
        let delay = Duration::from_micros(100);
        let left = graph.source(memory(questions.clone())).with_watermark(at, delay);
        let given = if empty { vec![] } else { answers.clone() };
        let right = graph.source(memory(given)).with_watermark(|answer: &(u32, Row)| at(&answer.1), delay);
        left.key_by(|question| question.number)
            .connect(right.key_by(|answer| answer.0))
            .process(Answers::new)
            .sink(sink);
        let what = format!("{options:?}");
        run_well(&graph, options);
        let wanted = if empty { answered(&questions, &[]) } else { wanted.clone() };
        assert_same(&table.snapshot(), &wanted, &what);
    }
}

/// An epoch: times of questions, questions and times of answers, each ahead of the watermark; and how far it advances.
type Step = (Vec<i64>, Vec<(u32, i64)>, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let questions = proptest::collection::vec(0..80i64, 0..4);
    let answers = proptest::collection::vec((0..24u32, 0..120i64), 0..6);
    let advance = prop_oneof![Just(0i64), 0..60i64];
    proptest::collection::vec((questions, answers, advance), 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn questions_by_epoch_agree_with_loops(steps in steps()) {
        check(&steps);
    }
}

fn check(steps: &[Step]) {
    let (mut watermark, mut number) = (-100, 0..);
    let (mut asked, mut given) = (vec![], vec![]);
    let mut inputs = vec![];
    for (questions, answers, advance) in steps {
        let mut row = |time: &i64| Row { key: 0, time: watermark + time, number: number.next().unwrap() };
        let questions: Vec<Row> = questions.iter().map(&mut row).collect();
        let answers: Vec<(u32, Row)> = answers.iter().map(|(to, time)| (*to, row(time))).collect();
        asked.extend(questions.clone());
        given.extend(answers.clone());
        watermark += advance;
        inputs.push((questions, answers, watermark));
    }
    inputs.push((vec![], vec![], i64::MAX));
    let all: BTreeMap<u32, Option<u32>> = answered(&asked, &given).into_iter().collect();
    let (mut epochs, mut expected) = (vec![EpochInput::until(EventTime::from_micros(-100))], vec![vec![]]);
    let mut before = -100;
    for (questions, answers, watermark) in inputs {
        let due = |it: &&Row| (before + 1..=watermark).contains(&(it.time + DEADLINE.as_micros() as i64));
        expected
            .push(asked.iter().filter(due).map(|it| (it.number, all[&it.number])).collect::<Vec<Answered>>());
        before = watermark;
        let left = questions.into_iter().map(|it| Dealt::new(it.number, at(&it), it)).collect();
        let right = answers.into_iter().map(|it| Dealt::new(it.0, at(&it.1), it)).collect();
        epochs.push(EpochInput::until(EventTime::from_micros(watermark)).keyed(0, left).keyed(1, right));
    }
    for mode in MODES {
        let graph = Graph::new("answers");
        let left = graph.source(memory(Vec::<Row>::new())).with_watermark(at, Duration::ZERO);
        let right = graph.source(memory(Vec::<(u32, Row)>::new()));
        let right = right.with_watermark(|answer: &(u32, Row)| at(&answer.1), Duration::ZERO);
        let connected = left.key_by(|it| it.number).connect(right.key_by(|it| it.0));
        let make = operator_of(connected.process(Answers::new));
        let emitted = |it: &mut Harness<_>| {
            it.take::<(EventTime, Answered)>(0).into_iter().map(|(_, row)| row).collect()
        };
        three_phases(mode, &epochs, make, emitted, &expected);
    }
}
