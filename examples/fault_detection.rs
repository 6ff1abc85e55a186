//! Sensors that fall silent or drift: alarms by timers.
//!
//! ```sh
//! cargo run --example fault_detection
//! ```
//!
//! Each sensor is to send a reading every ten seconds. One that sends nothing for a minute of event time is silent. One whose readings
//! move away from the first one, on average, drifts.
//!
//! - [`ProcessFunction`] keeps the readings of a sensor until their order is certain: a timer just after each takes those before it,
//!   in order of time, whatever order they came in.
//! - A second timer for each reading, a minute later, finds out whether another one has come since.
//! - The alarms are inserts with an event time. A window behind the function counts them by hour.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::EventStream;
use tidemill::operator::{Events, MapState, States, Timer, ValueState};
use tidemill::prelude::*;
use tidemill::process::{ProcessContext, ProcessFunction, ProcessResult};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: u32,
    at: EventTime,
    celsius: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Fault {
    /// No reading for a minute.
    Silent,
    /// The average has moved by more than [`DRIFT`].
    Drifts,
}

/// The sensor, what is wrong, and since when.
type Alarm = (u32, Fault, EventTime);

const MINUTE: Duration = Duration::from_secs(60);
/// A moment later: when the watermark has reached it, everything up to the moment itself has come.
const MOMENT: Duration = Duration::from_micros(1);
/// How far the average may be from the first reading.
const DRIFT: f64 = 2.0;

/// What is known of a sensor up to its last reading.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sensor {
    last: EventTime,
    first: f64,
    average: f64,
    drifts: bool,
}

impl Sensor {
    /// Takes the next reading; returns whether the sensor begins to drift with it.
    fn take(&mut self, at: EventTime, celsius: f64) -> bool {
        self.last = at;
        self.average += (celsius - self.average) / 16.0;
        let drifts = (self.average - self.first).abs() > DRIFT;
        drifts && !std::mem::replace(&mut self.drifts, drifts)
    }
}

struct FaultDetection {
    /// Readings that are not taken yet, in order of time.
    waiting: MapState<u32, EventTime, f64>,
    sensors: ValueState<u32, Sensor>,
}

impl FaultDetection {
    fn new() -> Self {
        FaultDetection { waiting: MapState::new(), sensors: ValueState::new() }
    }
}

impl ProcessFunction for FaultDetection {
    type Key = u32;
    type Row = Reading;
    type Outputs = (Events<Alarm>,);

    fn state(&mut self, states: &mut States<'_>) {
        states.add("waiting", &mut self.waiting);
        states.add("sensors", &mut self.sensors);
    }

    fn on_record(&mut self, reading: Reading, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        if cx.is_late() {
            cx.count_late();
            return Ok(());
        }
        self.waiting.insert(cx.key, reading.at, reading.celsius);
        cx.set_event_timer(reading.at + MOMENT);
        cx.set_event_timer(reading.at + MINUTE);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut ProcessContext<'_, Self>) -> ProcessResult {
        let now = cx.time();
        for (at, celsius) in self.waiting.drain_range(cx.key, ..now) {
            let new = || Sensor { last: at, first: celsius, average: celsius, drifts: false };
            if self.sensors.get_or_insert_with(cx.key, new).take(at, celsius) {
                cx.out.0.push(now, (*cx.key, Fault::Drifts, at));
            }
        }
        if let Some(sensor) = self.sensors.get(cx.key)
            && sensor.last + MINUTE == now
        {
            cx.out.0.push(now, (*cx.key, Fault::Silent, sensor.last));
        }
        Ok(())
    }
}

/// The part of the graph with the function.
fn detect(readings: EventStream<Reading>) -> EventStream<Alarm> {
    readings.key_by(|reading| reading.sensor).process(FaultDetection::new)
}

/// Three hours of 40 sensors, a few seconds out of order. Every seventh is silent for a while, every ninth drifts from an hour on.
fn readings() -> Vec<Reading> {
    let mut readings = Vec::new();
    for n in 0..3 * 360i64 {
        for sensor in 0..40u32 {
            let is_silent = sensor % 7 == 3 && (400..400 + 6 * i64::from(sensor)).contains(&n);
            if !is_silent {
                let second = n * 10 + i64::from(sensor * 5) % 7;
                let drift = if sensor % 9 == 4 { 0.01 * (n - 360).max(0) as f64 } else { 0.0 };
                let noise = ((n * 7 + i64::from(sensor)) % 10) as f64 / 10.0;
                readings.push(Reading {
                    sensor,
                    at: EventTime::from_secs(second),
                    celsius: 20.0 + noise + drift,
                });
            }
        }
    }
    // Out of order, but by no more than 60 readings.
    readings.chunks_mut(60).for_each(<[Reading]>::reverse);
    readings
}

/// What plain loops over the readings in order of time find.
fn expected() -> Vec<Alarm> {
    let mut readings = readings();
    readings.sort_by_key(|reading| (reading.sensor, reading.at));
    let mut alarms = Vec::new();
    for of_sensor in readings.chunk_by(|a, b| a.sensor == b.sensor) {
        let Some(&Reading { sensor, celsius: first, .. }) = of_sensor.first() else { continue };
        let mut state = Sensor { last: EventTime::MIN, first, average: first, drifts: false };
        for (reading, next) in of_sensor.iter().zip(of_sensor.iter().skip(1).map(Some).chain([None])) {
            if state.take(reading.at, reading.celsius) {
                alarms.push((sensor, Fault::Drifts, reading.at));
            }
            if next.is_none_or(|next| next.at >= reading.at + MINUTE) {
                alarms.push((sensor, Fault::Silent, reading.at));
            }
        }
    }
    alarms.sort();
    alarms
}

fn main() -> Result<(), Box<dyn Error>> {
    let expected = expected();
    for options in [Options::default(), Options::default().with_mode(Mode::Continuous)] {
        for workers in [1, 2, 4] {
            let graph = Graph::new("fault detection");
            let readings = graph
                .source(memory(readings()))
                .with_watermark(|reading: &Reading| reading.at, Duration::from_secs(30));
            let alarms = detect(readings.boxed());
            let ((sink, found), (hours_sink, hours)) = (memory_sink(), memory_sink());
            alarms.clone().sink(sink);
            let by_hour = alarms.window(tumbling(60 * MINUTE)).count().append();
            by_hour.map(|hour| hour.value).sink(hours_sink);
            let mode = options.mode;
            let summary =
                graph.run(options.clone().with_workers(workers).with_max_records_per_epoch(2_000))?;
            let mut found = found.snapshot();
            found.sort();
            let drifts = found.iter().filter(|alarm| alarm.1 == Fault::Drifts).count();
            println!("{mode}, {workers} workers: {} silences, {drifts} drifts", found.len() - drifts);
            assert_eq!(found, expected);
            assert_eq!(hours.snapshot().iter().sum::<u64>(), found.len() as u64);
            assert_eq!(summary.late_rows, 0);
        }
    }
    Ok(())
}
