//! Bills that are corrected by late readings: allowed lateness, into a table with the newest value of each row.
//!
//! ```sh
//! cargo run --example late_corrections
//! ```
//!
//! Electricity meters report their consumption by radio. A meter without a connection keeps its readings and sends them hours later.
//! The bill of an hour is not to wait for that. So:
//!
//! - the watermark has a delay of a minute, and a window fires *on time* a minute after its end;
//! - `allowed_lateness` keeps the window for three more hours. A late reading fires it again, as *late*, with a higher revision;
//! - the rows are upserts: the sink replaces the row of the meter and hour;
//! - outages are sessions: minutes without power less than five minutes apart. A late reading may connect two outages that have been
//!   reported. Then both are retracted by rows without a value, and one longer outage replaces them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::prelude::*;
use tidemill::{FiringKind, WindowFiring};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Reading {
    meter: u32,
    at: EventTime,
    watt_hours: u64,
}

/// By meter, start and end, the newest value; how many firings were late, and how many retracted.
#[derive(Default)]
struct Table {
    rows: BTreeMap<(u32, EventTime, EventTime), u64>,
    late: usize,
    retracted: usize,
}

impl Table {
    fn upsert(&mut self, firing: WindowFiring<u32, u64>) {
        let row = (firing.key, firing.window.start, firing.window.end);
        self.late += usize::from(firing.kind == FiringKind::Late);
        match firing.value {
            Some(value) => drop(self.rows.insert(row, value)),
            None => {
                self.retracted += 1;
                self.rows.remove(&row);
            }
        }
    }
}

/// A sink that keeps the newest value of each row, as a table of a database would, and a view of it.
fn table() -> (impl tidemill::Sink<WindowFiring<u32, u64>>, Arc<Mutex<Table>>) {
    let table = Arc::new(Mutex::new(Table::default()));
    let view = Arc::clone(&table);
    let upsert = move |firing| table.lock().unwrap_or_else(PoisonError::into_inner).upsert(firing);
    (for_each(upsert), view)
}

/// A day of five meters, a reading per minute, some of them zero. Meter 3 is without a connection now and then: its readings come up
/// to two hours late.
fn readings() -> Vec<Reading> {
    let mut readings = Vec::new();
    let mut kept = Vec::new();
    for minute in 0..24 * 60i64 {
        for meter in 0..5u32 {
            let scrambled =
                (minute as u64 * 31 + u64::from(meter) * 7).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let watt_hours = if scrambled.is_multiple_of(19) { 0 } else { scrambled % 50 };
            let reading = Reading { meter, at: EventTime::from_secs(60 * minute), watt_hours };
            match meter == 3 && minute % 200 < 110 {
                true => kept.push(reading),
                false => readings.push(reading),
            }
        }
        if minute % 200 >= 110 {
            readings.append(&mut kept);
        }
    }
    readings.append(&mut kept);
    readings
}

type Firings = EventStream<WindowFiring<u32, u64>>;

/// The consumption per meter and hour, and the outages with their minutes.
fn bills(readings: EventStream<Reading>) -> (Firings, Firings) {
    let consumed = readings
        .clone()
        .key_by(|reading| reading.meter)
        .window(tumbling(HOUR))
        .allowed_lateness(3 * HOUR)
        .sum(|reading| reading.watt_hours)
        .firings();
    let outages = readings
        .filter(|reading| reading.watt_hours == 0)
        .key_by(|reading| reading.meter)
        .window(session(5 * MINUTE))
        .allowed_lateness(3 * HOUR)
        .count()
        .firings();
    (consumed, outages)
}

type Rows = BTreeMap<(u32, EventTime, EventTime), u64>;

/// The same by plain loops over all readings.
fn expected() -> (Rows, Rows) {
    let (mut consumed, mut outages) = (Rows::new(), Rows::new());
    let mut sorted = readings();
    sorted.sort_by_key(|reading| (reading.meter, reading.at));
    let mut open: Option<(u32, EventTime, EventTime, u64)> = None;
    for Reading { meter, at, watt_hours } in sorted {
        let start = EventTime::from_secs(at.as_secs().div_euclid(3_600) * 3_600);
        *consumed.entry((meter, start, start + HOUR)).or_default() += watt_hours;
        if watt_hours > 0 {
            continue;
        }
        open = match open {
            Some((of, start, end, minutes)) if of == meter && at <= end => {
                Some((of, start, at + 5 * MINUTE, minutes + 1))
            }
            before => {
                outages.extend(before.map(|(of, start, end, minutes)| ((of, start, end), minutes)));
                Some((meter, at, at + 5 * MINUTE, 1))
            }
        };
    }
    outages.extend(open.map(|(of, start, end, minutes)| ((of, start, end), minutes)));
    (consumed, outages)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (expected_bills, expected_outages) = expected();
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        for workers in [1, 2] {
            let graph = Graph::new("late_corrections");
            let readings =
                graph.source(memory(readings())).with_watermark(|reading: &Reading| reading.at, MINUTE);
            let (consumed, outages) = bills(readings.boxed());
            let ((bill_sink, bills), (outage_sink, outages_found)) = (table(), table());
            consumed.sink(bill_sink);
            outages.sink(outage_sink);
            let options = Options::default().with_mode(mode).with_workers(workers);
            let summary = graph.run(options.with_max_records_per_epoch(100))?;

            let bills = bills.lock().unwrap_or_else(PoisonError::into_inner);
            let outages = outages_found.lock().unwrap_or_else(PoisonError::into_inner);
            println!(
                "{mode}, {workers} workers: {} bills, corrected {} times; {} outages, {} retracted",
                bills.rows.len(),
                bills.late,
                outages.rows.len(),
                outages.retracted
            );
            assert_eq!(bills.rows, expected_bills);
            assert_eq!(outages.rows, expected_outages);
            assert_eq!(summary.late_rows, 0, "no reading comes after the allowed lateness");
            // In continuous mode the readings may all have come before the first window fires.
            if mode == Mode::MicroBatch {
                assert!(bills.late > 0 && outages.retracted > 0);
            }
        }
    }
    Ok(())
}
