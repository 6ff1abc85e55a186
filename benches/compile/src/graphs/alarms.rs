//! The highest value of each sensor, for a function that is called once per epoch.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tidemill::prelude::*;

use crate::check;
use crate::input::{self, Reading};

pub fn run(_scratch: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let graph = Graph::new("alarms");
    let highest = Arc::new(Mutex::new(BTreeMap::new()));
    let store = Arc::clone(&highest);
    graph
        .source(iterate(|| input::readings(100).into_iter()))
        .filter(|reading: &Reading| reading.celsius > 21.5)
        .map(|reading| (reading.sensor, (reading.celsius * 10.0) as i64))
        .key_by(|(sensor, _)| *sensor)
        .max(|(_, tenths)| *tenths)
        .update()
        .sink(for_each_epoch(move |rows: EpochRows<(u32, i64)>| {
            store.lock().map_err(|_| "the lock is poisoned")?.extend(rows.rows);
            Ok::<(), &str>(())
        }));
    graph.run(options.clone())?;

    let highest = highest.lock().map_err(|_| "the lock is poisoned")?;
    check(highest.clone().into_iter().collect(), vec![(0, 240), (1, 250), (2, 260), (3, 270)])
}
