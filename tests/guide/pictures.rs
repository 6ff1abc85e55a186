//! The pictures of the guide. That of watermarks is drawn from a run of the graph that it explains.
//!
//! `TIDEMILL_DRAW=1 cargo test --test guide pictures` draws them again.

use std::time::Duration;

use tidemill::prelude::*;
use tidemill::testing::{SimClock, TestDriver, collecting_sink};

use crate::root;
use crate::svg::{BLUE, GREEN, GREY, INK, PALE_BLUE, PALE_GREEN, PALE_GREY, RED, Svg};

fn is_up_to_date(name: &str, drawn: &str) {
    let path = root().join("docs/guide/src/pictures").join(name);
    if std::env::var_os("TIDEMILL_DRAW").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, drawn).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == drawn, "{name} is out of date: run `TIDEMILL_DRAW=1 cargo test --test guide pictures`");
}

/// Seconds of event time, in the order of arrival.
const RECORDS: [i64; 9] = [3, 8, 12, 7, 17, 11, 6, 23, 27];
const DELAY: i64 = 5;
const WINDOW: i64 = 10;

/// What the engine makes of each record: the watermark after it, the windows that it closes, and whether it is late.
struct Arrival {
    second: i64,
    watermark: i64,
    closed: Vec<i64>,
    is_late: bool,
}

fn arrivals() -> Vec<Arrival> {
    let seconds = |n: i64| Duration::from_secs(n.unsigned_abs());
    let graph = Graph::new("picture");
    let (counts, late) = graph
        // One more, so that the source does not end, and close all windows, with the last that is drawn.
        .source(memory(RECORDS.into_iter().chain([99])))
        .with_watermark(|second| EventTime::from_secs(*second), seconds(DELAY))
        .window(tumbling(seconds(WINDOW)))
        .count()
        .append_with_late();
    let ((sink, closed), (late_sink, late_records)) = (collecting_sink(), collecting_sink());
    counts.map(|row| row.window.start.as_micros() / 1_000_000).sink(sink);
    late.sink(late_sink);
    let options = Options::default().with_max_records_per_epoch(1);
    let mut driver = TestDriver::new(&graph, options, &SimClock::new()).unwrap();
    let (mut windows_before, mut late_before) = (0, 0);
    let mut arrivals = Vec::new();
    for second in RECORDS {
        let progress = driver.epoch().unwrap().unwrap();
        let watermark = progress.watermark.unwrap().as_micros() / 1_000_000;
        let (windows, late) = (closed.committed(), late_records.committed().len());
        let closed = windows[windows_before..].to_vec();
        arrivals.push(Arrival { second, watermark, closed, is_late: late > late_before });
        (windows_before, late_before) = (windows.len(), late);
    }
    arrivals
}

#[test]
fn picture_of_watermarks_shows_what_the_engine_does() {
    let arrivals = arrivals();
    let (left, top, row, scale) = (120, 64, 36, 20);
    let bottom = top + row * arrivals.len() as i32 + 24;
    let x = |second: i64| left + second as i32 * scale;
    let y = |index: usize| top + row * index as i32 + row / 2;
    let mut svg = Svg::new(960, bottom + 76);
    for start in (0..30).step_by(10) {
        svg.rect(
            (x(start), top),
            (10 * scale, bottom - top),
            if start == 10 { "#f5f7fa" } else { "#ffffff" },
            PALE_GREY,
        );
        svg.text((x(start + 5), top - 30), "middle", INK, &format!("window {start}–{}", start + WINDOW));
    }
    // Below the record that closes it, a window is grey.
    for (index, arrival) in arrivals.iter().enumerate() {
        for start in &arrival.closed {
            let from = y(index);
            svg.rect((x(*start), from), (10 * scale, bottom - from), PALE_GREY, GREY);
            svg.text((x(*start) + 8, bottom - 10), "start", GREY, "closed");
        }
    }
    for second in (0..=30).step_by(5) {
        svg.text((x(second), bottom + 20), "middle", GREY, &second.to_string());
        svg.line((x(second), bottom), (x(second), bottom + 5), GREY, 1);
    }
    svg.text((x(15), bottom + 40), "middle", INK, "event time in seconds");
    svg.text((left - 14, top - 30), "end", INK, "arrival");
    // The watermark, a stair that goes down with arrivals and right with event time.
    let at = |watermark: i64| x(watermark.max(0));
    let mut corner = (x(0), top);
    for (index, arrival) in arrivals.iter().enumerate() {
        let next = (at(arrival.watermark), y(index));
        svg.line(corner, (corner.0, next.1), BLUE, 3);
        svg.line((corner.0, next.1), next, BLUE, 3);
        corner = next;
    }
    svg.line(corner, (corner.0, bottom), BLUE, 3);
    svg.text((corner.0 + 8, bottom - 10), "start", BLUE, "watermark");
    for (index, arrival) in arrivals.iter().enumerate() {
        let (colour, place) = (if arrival.is_late { RED } else { INK }, (x(arrival.second), y(index)));
        svg.dot(place, colour);
        svg.text((left - 14, place.1 + 5), "end", colour, &format!("record at {}", arrival.second));
        let note = match (arrival.is_late, arrival.closed.first()) {
            (true, _) => "late: its window has closed".to_owned(),
            (false, Some(start)) => format!("closes {start}–{}", start + WINDOW),
            _ if index > 0 && arrival.second < arrivals[index - 1].watermark => {
                "behind the watermark, not late".to_owned()
            }
            _ => continue,
        };
        svg.text((x(30) + 14, place.1 + 5), "start", colour, &note);
    }
    svg.text(
        (x(15), bottom + 64),
        "middle",
        GREY,
        "delay 5 s: the watermark is the latest event time minus 5 s",
    );
    let late: Vec<_> =
        arrivals.iter().filter(|arrival| arrival.is_late).map(|arrival| arrival.second).collect();
    assert_eq!(late, [6]);
    is_up_to_date("watermark.svg", &svg.finish());
}

#[test]
fn picture_of_the_exchange_is_up_to_date() {
    let mut svg = Svg::new(900, 300);
    for (worker, top) in [(0, 46), (1, 186)] {
        svg.text((20, top - 16), "start", INK, &format!("worker {worker}"));
        svg.rect((10, top - 8), (880, 84), "#ffffff", PALE_GREY);
        svg.labelled((20, top), (120, 68), PALE_BLUE, &["source", &format!("partition {worker}")]);
        svg.arrow((140, top + 34), (180, top + 34), INK);
        svg.labelled((180, top), (130, 68), PALE_BLUE, &["steps", "map, filter"]);
        svg.arrow((310, top + 34), (350, top + 34), INK);
        svg.labelled((350, top), (140, 68), PALE_BLUE, &["pre-aggregate", "own records"]);
        svg.labelled((600, top), (140, 68), PALE_GREEN, &["merge", ["keys a, c", "keys b, d"][worker]]);
        svg.arrow((740, top + 34), (780, top + 34), INK);
        svg.labelled((780, top), (100, 68), PALE_GREEN, &["emit"]);
    }
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (y, end) = (80 + 140 * from, 80 + 140 * to + if from == to { 0 } else { 18 * (from - to) });
        svg.arrow((490, y), (600, end), if from == to { INK } else { BLUE });
    }
    svg.text((545, 24), "middle", BLUE, "exchange by key");
    svg.text((545, 290), "middle", GREY, "one partial result per key and worker");
    is_up_to_date("two-phase-exchange.svg", &svg.finish());
}

#[test]
fn picture_of_commits_is_up_to_date() {
    let mut svg = Svg::new(900, 346);
    let lanes = [("driver", 30), ("checkpoint", 100), ("workers", 170), ("sinks", 240)];
    for (lane, top) in lanes {
        svg.rect((110, top), (780, 58), if lane == "checkpoint" { "#f5f7fa" } else { "#ffffff" }, PALE_GREY);
        svg.text((100, top + 34), "end", INK, lane);
    }
    let epoch = |svg: &mut Svg, left: i32, name: &str, fill: &str, mark: &str| {
        svg.labelled((left, 36), (80, 46), fill, &[&format!("plan {name}")]);
        svg.labelled((left + 72, 106), (78, 46), fill, &["log plan"]);
        svg.labelled((left + 130, 176), (130, 46), fill, &[&format!("process {name}")]);
        svg.labelled((left + 250, 246), (70, 46), fill, &["prepare"]);
        svg.labelled((left + 320, 106), (90, 46), fill, &["commit", "record"]);
        svg.labelled((left + 480, 246), (70, 46), fill, &["publish"]);
        svg.arrow((left + 70, 76), (left + 84, 106), mark);
        svg.arrow((left + 150, 140), (left + 168, 176), mark);
        svg.arrow((left + 246, 222), (left + 268, 246), mark);
        svg.arrow((left + 300, 246), (left + 345, 152), mark);
        svg.arrow((left + 395, 152), (left + 500, 246), mark);
    };
    epoch(&mut svg, 120, "N", PALE_BLUE, BLUE);
    epoch(&mut svg, 275, "N+1", PALE_GREEN, GREEN);
    svg.arrow((110, 314), (890, 314), GREY);
    svg.text((120, 334), "start", GREY, "time: the next epoch is planned and read while one is committed");
    is_up_to_date("epoch-commit.svg", &svg.finish());
}
