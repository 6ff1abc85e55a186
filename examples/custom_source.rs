//! A source and a sink of your own.
//!
//! ```sh
//! cargo run --example custom_source
//! ```
//!
//! Three thermometers, a partition each, report for a day: the first every minute, the second every two, the third
//! every three. The graph takes the hottest reading of each and every hour; the sink enters them into a logbook.
//!
//! - A [`Source`] describes: how many partitions, where they begin, how far one could read now. A [`Reader`] reads one
//!   partition and never waits. Because a reading is a function of its number, any range can be read again: the source
//!   is replayable.
//! - A [`Sink`] is given rows and then told that their epoch is safe. What it shows only then, it shows exactly once.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;
use tidemill::{
    PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Sink, SinkError, Source, SourceError, SourceInfo,
};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Serialize, Deserialize)]
struct Reading {
    at: EventTime,
    sensor: u32,
    /// In tenths of a degree.
    celsius: i64,
}

/// The reading that a sensor takes as its `number`th. It is warmest about two in the afternoon.
fn reading(sensor: u32, number: u64) -> Reading {
    let minute = number * every_minutes(sensor);
    let celsius =
        180 + i64::from(sensor) * 15 - (minute.abs_diff(14 * 60) / 8) as i64 + (minute * 7 % 11) as i64;
    Reading { at: EventTime::from_secs(1_772_323_200) + Duration::from_secs(60 * minute), sensor, celsius }
}

fn every_minutes(sensor: u32) -> u64 {
    u64::from(sensor) + 1
}

/// A day of readings.
struct Thermometers {
    sensors: u32,
}

impl Source for Thermometers {
    type Item = Reading;
    /// The number of the next reading.
    type Offset = u64;
    type Reader = Thermometer;

    fn describe(&self) -> String {
        format!("{} thermometers", self.sensors)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn is_replayable(&self) -> bool {
        true
    }

    /// Each thermometer is a partition, which begins with its first reading. What cannot be read is an error here.
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(self.sensors, |_| 0))
    }

    /// Where the next epoch may read to: as far as the limits allow. More than there are may be named: the
    /// reader knows where it ends.
    fn latest(&self, _sensor: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(from.saturating_add(limits.records()))
    }

    fn open(&self, sensor: u32, from: &u64, _context: ReaderContext) -> Result<Thermometer, SourceError> {
        Ok(Thermometer { sensor, next: *from, end: 24 * 60 / every_minutes(sensor) })
    }
}

/// Reads one thermometer.
struct Thermometer {
    sensor: u32,
    next: u64,
    end: u64,
}

impl Reader for Thermometer {
    type Item = Reading;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<Reading>) -> Result<Poll, SourceError> {
        // Up to the end of the epoch in micro-batch; in continuous mode there is none.
        let limit = until.map_or(self.end, |until| self.end.min(*until));
        let last = limit.min(self.next.saturating_add(max as u64));
        out.extend((self.next..last).map(|number| reading(self.sensor, number)));
        self.next = last.max(self.next);
        Ok(match self.next {
            next if next == self.end => Poll::End,
            next if next == limit => Poll::Idle,
            _ => Poll::Ready,
        })
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.next = *offset;
        Ok(())
    }
}

type Entry = WindowResult<u32, i64>;

/// A sink into a logbook. An epoch's rows are entered together, when it commits.
struct Logbook {
    /// What has been written and not yet committed: the next epoch may be on its way while one waits for its commit.
    pending: BTreeMap<Epoch, Vec<Entry>>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Sink<Entry> for Logbook {
    fn describe(&self) -> String {
        "logbook".to_owned()
    }

    fn write(&mut self, epoch: Epoch, rows: &mut Vec<Entry>) -> Result<(), SinkError> {
        self.pending.entry(epoch).or_default().append(rows);
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), SinkError> {
        if let Some(rows) = self.pending.remove(&epoch) {
            println!("    epoch {epoch}: {} hours entered", rows.len());
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.pending.clear();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let expected = hottest_by_plain_loop();
    for (name, mode) in [("micro-batch", Mode::MicroBatch), ("continuous", Mode::Continuous)] {
        println!("{name}:");
        let entries = Arc::new(Mutex::new(Vec::new()));
        let graph = Graph::new("thermometers");
        graph
            .source(Thermometers { sensors: 3 })
            // Without any delay: each thermometer reports in order, and the watermark is that of the slowest one.
            .with_watermark(|reading| reading.at, Duration::ZERO)
            .key_by(|reading| reading.sensor)
            .window(tumbling(HOUR))
            .max(|reading| reading.celsius)
            .append()
            .sink(Logbook { pending: BTreeMap::new(), entries: Arc::clone(&entries) });
        let summary = graph.run(Options::default().with_mode(mode).with_workers(2))?;

        let entries = std::mem::take(&mut *entries.lock().unwrap_or_else(PoisonError::into_inner));
        let hottest: BTreeMap<_, _> =
            entries.iter().map(|entry| ((entry.key, entry.window.start), entry.value)).collect();
        println!("    {} readings, {} of them late", summary.input_rows, summary.late_rows);
        if entries.len() != expected.len() || hottest != expected || summary.late_rows != 0 {
            return Err(format!("{name}: the logbook does not hold what was measured").into());
        }
    }

    println!("\nThe hottest hour of each thermometer:");
    for sensor in 0..3 {
        let hours = expected.iter().filter(|((of, _), _)| *of == sensor);
        if let Some(((_, start), celsius)) = hours.max_by_key(|(_, celsius)| **celsius) {
            println!("    {sensor}: {:.1} °C in the hour from {start}", *celsius as f64 / 10.0);
        }
    }
    Ok(())
}

fn hottest_by_plain_loop() -> BTreeMap<(u32, EventTime), i64> {
    let mut hottest = BTreeMap::new();
    for sensor in 0..3 {
        for number in 0..24 * 60 / every_minutes(sensor) {
            let Reading { at, celsius, .. } = reading(sensor, number);
            let hour = tumbling(HOUR).window_of(at).start;
            let max = hottest.entry((sensor, hour)).or_insert(celsius);
            *max = celsius.max(*max);
        }
    }
    hottest
}
