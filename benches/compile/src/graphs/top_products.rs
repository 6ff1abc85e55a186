//! The two products that were ordered most in each half minute: a window behind a window.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tidemill::Aggregate;
use tidemill::prelude::*;

use crate::{check, input};

#[derive(Clone)]
struct Top(usize);

impl Aggregate for Top {
    type In = WindowResult<u32, u64>;
    type Acc = BTreeSet<(u64, u32)>;
    type Out = Vec<(u64, u32)>;

    fn create(&self, row: &Self::In) -> Self::Acc {
        BTreeSet::from([(row.value, row.key)])
    }

    fn add(&self, top: &mut Self::Acc, row: &Self::In) {
        self.merge(top, self.create(row));
    }

    fn merge(&self, top: &mut Self::Acc, others: Self::Acc) {
        top.extend(others);
        while top.len() > self.0 {
            top.pop_first();
        }
    }

    fn finish(&self, top: &Self::Acc) -> Self::Out {
        top.iter().rev().copied().collect()
    }
}

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let half = Duration::from_secs(30);
    let graph = Graph::new("top products");
    let (sink, table) = memory_sink();
    graph
        .source(memory(input::orders(60)))
        .with_watermark(|order| order.at, Duration::ZERO)
        .key_by(|order| order.product)
        .window(tumbling(half))
        .count()
        .append()
        .window(tumbling(half))
        .aggregate(Top(2))
        .append()
        .map(|row| (row.window.start.as_micros() / 1_000_000, row.value))
        .sink(sink);
    graph.run(options.clone())?;
    check(table.snapshot(), vec![(0, vec![(12, 4), (12, 1)]), (30, vec![(12, 4), (12, 1)])])
}
