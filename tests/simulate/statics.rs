//! A stream joined with a static side that changes: each row comes once, those of one epoch with the same load, later ones with
//! the same or a later load, whatever restarts and replays there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Scenario, SimSink, SimSource, World, point};
use tidemill::{Epoch, Summary};

use crate::graphs::compare;
use crate::input::{Event, micros, partitions};

/// A source, a static side whose rows have the number of their load, and a signal.
pub(crate) struct Statics {
    is_broadcast: bool,
    by_signal: bool,
    source: SimSource<Event>,
    signals: SimSource<u8>,
    loads: Arc<AtomicU64>,
    results: SimSink<(i64, u64)>,
    wanted: Vec<i64>,
}

impl Statics {
    pub(crate) fn new(world: &mut World) -> Statics {
        let input = partitions(world, 120);
        let signals = world.rows(20);
        Statics {
            is_broadcast: world.choose(2) == 0,
            by_signal: world.choose(2) == 0,
            wanted: input.iter().flatten().map(|event| event.value).collect(),
            source: world.source(input),
            signals: world.source(vec![(0..signals as u8).collect()]),
            loads: Arc::default(),
            results: world.sink(),
        }
    }
}

impl Scenario for Statics {
    fn graph(&self) -> Graph {
        let graph = Graph::new("statics");
        let loads = Arc::clone(&self.loads);
        let load = move || {
            point("load");
            let load = loads.fetch_add(1, Ordering::Relaxed);
            point("loaded");
            Ok::<_, std::io::Error>((0..5u8).map(|key| (key, load)).collect())
        };
        let side = StaticSide::load(load, |row: &(u8, u64)| row.0);
        let side = match self.by_signal {
            true => side.refresh_on(graph.source(self.signals.clone()).uid("signals")),
            false => side.refresh_every(micros(3_000)),
        };
        let side = if self.is_broadcast { side.broadcast() } else { side };
        graph
            .source(self.source.clone())
            .uid("rows")
            .key_by(|event| event.key)
            .join_static(side)
            .left_outer()
            .map(|(_, event, row)| (event.value, row.map_or(u64::MAX, |row| row.1)))
            .sink(self.results.clone());
        graph
    }

    fn check(&self, _: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        let shown = self.results.shown_by_epoch();
        let values: Vec<i64> = shown.iter().map(|(_, row)| row.0).collect();
        compare(&values, &self.wanted, is_last).map_err(|what| Breach::new("exactly once", what))?;
        let mut of_epoch = BTreeMap::<Epoch, u64>::new();
        for (epoch, (_, load)) in shown {
            let known = *of_epoch.entry(epoch).or_insert(load);
            if known != load || load == u64::MAX {
                return Err(Breach::new(
                    "one load",
                    format!("{epoch:?} has rows of loads {known} and {load}"),
                ));
            }
        }
        match of_epoch.values().is_sorted() {
            true => Ok(()),
            false => Err(Breach::new("later loads", format!("by epoch: {of_epoch:?}"))),
        }
    }
}
