//! Models that learn from one source and score another, and examples that are scored before they are learned.

use tidemill::Summary;
use tidemill::learn::{LearnResult, Learner, Predict};
use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World};

use crate::graphs::{compare, timed};
use crate::input::{Event, partitions};

/// A model that depends on every value and on their order.
struct Chain;

impl Learner for Chain {
    type Example = i64;
    type Model = i64;

    fn start(&self) -> i64 {
        1
    }

    fn learn(&self, model: &mut i64, value: &i64) -> LearnResult {
        *model = chained(*model, *value);
        Ok(())
    }
}

impl Predict for Chain {
    type Features = i64;
    type Prediction = i64;

    fn features<'a>(&self, example: &'a i64) -> &'a i64 {
        example
    }

    fn predict(&self, model: &i64, value: &i64) -> LearnResult<i64> {
        Ok(model ^ value)
    }
}

fn chained(model: i64, value: i64) -> i64 {
    model.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(value)
}

/// An event with its prediction and version; a key with a version and its model.
type Score = (Event, i64, u64);
type Model = (u8, u64, i64);

pub(crate) struct Learning {
    plans_ahead: bool,
    sources: [SimSource<Event>; 2],
    scores: SimSink<Score>,
    tested: SimSink<Score>,
    models: SimSink<Model>,
    /// The scores of requests and of examples, all models, and the last one of each key.
    wanted: (Vec<Score>, Vec<Score>, Vec<Model>, Vec<Model>),
}

/// The order in which values of one time are learned: that of their bytes, seven bits each, the lowest first. Values are from 0 to 8,191.
fn tie(value: i64) -> (i64, i64) {
    let zigzag = value * 2;
    if zigzag < 128 { (zigzag, 0) } else { (zigzag % 128 + 128, zigzag / 128) }
}

impl Learning {
    pub(crate) fn new(world: &mut World) -> Learning {
        let input = [partitions(world, 60), partitions(world, 40)];
        let mut examples = input[0].concat();
        examples.sort_by_key(|event| (event.time, tie(event.value)));
        let (mut tested, mut models) = (vec![], vec![]);
        for event in &examples {
            let before = models.iter().rev().find(|model: &&Model| model.0 == event.key);
            let (version, model) = before.map_or((0, 1), |(_, version, model)| (*version, *model));
            tested.push((*event, model ^ event.value, version));
            models.push((event.key, version + 1, chained(model, event.value)));
        }
        let score = |event: &Event| {
            let before = examples.iter().zip(&models);
            let mut before = before.filter(|(one, _)| one.key == event.key && one.time < event.time);
            let (version, model) = before.next_back().map_or((0, 1), |(_, model)| (model.1, model.2));
            (*event, model ^ event.value, version)
        };
        let scores = input[1].concat().iter().map(score).collect();
        let is_last = |model: &&Model| models.iter().all(|other| other.0 != model.0 || other.1 <= model.1);
        let last = models.iter().filter(is_last).copied().collect();
        Learning {
            plans_ahead: world.choose(2) == 0,
            sources: input.map(|partitions| world.source(partitions)),
            scores: world.sink(),
            tested: world.sink(),
            models: world.sink(),
            wanted: (scores, tested, models, last),
        }
    }
}

impl Scenario for Learning {
    fn graph(&self) -> Graph {
        let graph = Graph::new("learn");
        let [examples, requests] = &self.sources;
        let examples = timed(graph.source(examples.clone()).uid("examples").boxed());
        let requests = timed(graph.source(requests.clone()).uid("requests").boxed());
        let learn = || examples.clone().key_by(|event| event.key).learn(Chain, |event| event.value);
        let (scored, models) = learn().score(requests.key_by(|event| event.key), |event| event.value);
        scored.map(|it| (it.row, it.prediction, it.version)).sink(self.scores.clone());
        models.as_inserts().map(|it| (it.key, it.version, it.model)).sink(self.models.clone());
        let (tested, _models) = learn().test_then_learn();
        tested.map(|it| (it.row, it.prediction, it.version)).sink(self.tested.clone());
        graph
    }

    fn options(&self, options: Options) -> Options {
        match self.plans_ahead {
            true => options.with_max_records_per_epoch(3).with_max_in_flight(8),
            false => options,
        }
    }

    fn check(&self, summary: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        if summary.is_some_and(|summary| summary.late_rows > 0) {
            return Err(Breach::new("in time", format!("rows in time are late: {summary:?}")));
        }
        let named = |name: &'static str| move |what: String| Breach::new(name, format!("{name}: {what}"));
        let (scores, tested, models, last) = &self.wanted;
        compare(&self.scores.shown(), scores, is_last).map_err(named("scores"))?;
        compare(&self.tested.shown(), tested, is_last).map_err(named("tested"))?;
        // Not every version is emitted, but the last one is, and each of them once.
        let shown = self.models.shown();
        compare(&shown, models, false).map_err(named("models"))?;
        if is_last && !last.iter().all(|model| shown.contains(model)) {
            return Err(Breach::new("models", format!("of the last models {last:?} some lack: {shown:?}")));
        }
        Ok(())
    }
}
