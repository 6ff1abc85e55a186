//! What learning comes to, by plain loops over all rows.

use serde::{Deserialize, Serialize};
use tidemill::learn::{LearnResult, Learner, Predict};

/// An example or a request. The number tells rows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: u8,
    pub(crate) time: i64,
    pub(crate) number: u32,
}

/// Models that depend on every example and on their order.
pub(crate) struct Chain;

/// The numbers that are refused.
pub(crate) fn fails(number: u32) -> bool {
    number % 7 == 3
}

pub(crate) fn chained(model: u64, number: u32) -> u64 {
    (model.rotate_left(7) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Learner for Chain {
    type Example = u32;
    type Model = u64;

    fn start(&self) -> u64 {
        1
    }

    fn learn(&self, model: &mut u64, number: &u32) -> LearnResult {
        if fails(*number) {
            return Err(format!("refuses {number}").into());
        }
        *model = chained(*model, *number);
        Ok(())
    }
}

impl Predict for Chain {
    type Features = u32;
    type Prediction = u64;

    fn features<'a>(&self, example: &'a u32) -> &'a u32 {
        example
    }

    fn predict(&self, model: &u64, number: &u32) -> LearnResult<u64> {
        if fails(*number) { Err(format!("refuses {number}").into()) } else { Ok(model ^ u64::from(*number)) }
    }
}

/// A number as a checkpoint has it: seven bits in each byte, the lowest first.
fn bytes(mut number: u32) -> Vec<u8> {
    let mut bytes = vec![];
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The order in which rows are learned.
pub(crate) fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| (row.time, bytes(row.number)));
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Emitted {
    /// The key, the version and the model.
    Model(u8, u64, u64),
    /// The event time, the row, the prediction and the version.
    Scored(i64, Row, u64, u64),
    FailedExample(Row),
    FailedRequest(Row),
    LateExample(Row),
    LateRequest(Row),
}

/// What is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scores {
    Nothing,
    Examples,
    Requests,
}

pub(crate) const ALL: [Scores; 3] = [Scores::Nothing, Scores::Examples, Scores::Requests];

/// The rows that have come in time.
pub(crate) struct Model {
    scores: Scores,
    examples: Vec<Row>,
    requests: Vec<Row>,
    watermark: i64,
}

impl Model {
    pub(crate) fn new(scores: Scores) -> Self {
        Model { scores, examples: vec![], requests: vec![], watermark: i64::MIN }
    }

    /// The version and the model of the examples of a key that come before something.
    fn model(&self, key: u8, is_before: impl Fn(&Row) -> bool) -> (u64, u64) {
        let mut rows = self.examples.clone();
        rows.retain(|row| row.key == key && !fails(row.number));
        sort(&mut rows);
        rows.iter()
            .take_while(|row| is_before(row))
            .fold((0, 1), |(version, model), row| (version + 1, chained(model, row.number)))
    }

    /// An epoch with these rows that ends with that watermark.
    pub(crate) fn epoch(&mut self, examples: &[Row], requests: &[Row], watermark: i64) -> Vec<Emitted> {
        let mut all = vec![];
        for row in examples {
            match row.time < self.watermark {
                true => all.push(Emitted::LateExample(*row)),
                false => self.examples.push(*row),
            }
        }
        let requests = if self.scores == Scores::Requests { requests } else { &[] };
        for row in requests {
            match row.time < self.watermark {
                true => all.push(Emitted::LateRequest(*row)),
                false => self.requests.push(*row),
            }
        }
        let before = std::mem::replace(&mut self.watermark, watermark);
        let passed = |row: &Row, watermark: i64| watermark == i64::MAX || row.time < watermark;
        let is_due = |row: &&Row| passed(row, watermark) && !passed(row, before);
        for key in 0..=u8::MAX {
            let due = self.examples.iter().filter(is_due);
            if due.clone().any(|row| row.key == key && !fails(row.number)) {
                let (version, model) = self.model(key, |row| passed(row, watermark));
                all.push(Emitted::Model(key, version, model));
            }
        }
        for row in self.examples.iter().filter(is_due) {
            if fails(row.number) {
                all.push(Emitted::FailedExample(*row));
            } else if self.scores == Scores::Examples {
                let at = |row: &Row| (row.time, bytes(row.number));
                let (version, model) = self.model(row.key, |other| at(other) < at(row));
                all.push(Emitted::Scored(row.time, *row, model ^ u64::from(row.number), version));
            }
        }
        for row in self.requests.iter().filter(is_due) {
            if fails(row.number) {
                all.push(Emitted::FailedRequest(*row));
                continue;
            }
            let (version, model) = self.model(row.key, |example| example.time < row.time);
            all.push(Emitted::Scored(row.time, *row, model ^ u64::from(row.number), version));
        }
        all
    }
}
