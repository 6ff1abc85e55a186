//! The grid of `latency --acceptance`: tables, pictures, and what was to be shown.

use std::path::PathBuf;

use serde::Deserialize;

use super::latency::LATENCY;
use super::results::Results;
use super::words::{self, in_order, verdict};
use crate::harness::grid::{Point, Verdict, cell, rates, ways};
use crate::harness::plot::{Panels, picture};
use crate::harness::result::{rate, time};
use crate::harness::witness::ALLOWED;

/// Continuous against the program written by hand, at one rate of the grid.
#[derive(Debug, Deserialize)]
struct Comparison {
    comparison: String,
    graph: String,
    workers: usize,
    rate: u64,
    p50: (f64, f64),
    p99: (f64, f64),
    p50_ratio: f64,
    p99_ratio: f64,
    limit: f64,
    p99_limit: f64,
    judged: bool,
    kept: bool,
    right: bool,
}

/// The points of the grid; none where the results are of before there was one.
fn points(results: &Results) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = if results.has(LATENCY) { results.lines(LATENCY)? } else { Vec::new() };
    if let Some(void) = points.iter().find(|point| !point.right) {
        let Point { point, way, .. } = void;
        return Err(format!("{LATENCY} of the results {}: {point}, {way} is void", results.name()));
    }
    // Of what was measured again the last counts.
    let all = std::mem::take(&mut points);
    for new in all {
        let same = |old: &Point| {
            (&old.point, &old.way, old.workers, old.rate) == (&new.point, &new.way, new.workers, new.rate)
        };
        match points.iter_mut().find(|old| same(old)) {
            Some(old) => *old = new,
            None => points.push(new),
        }
    }
    Ok(points)
}

/// Whether the results have a grid.
pub(super) fn is_in(results: &Results) -> bool {
    points(results).is_ok_and(|points| !points.is_empty())
}

/// The parts of the grid: graph, workers, points.
fn parts(points: &[Point]) -> Vec<(String, usize, Vec<Point>)> {
    in_order(points.iter().map(|point| (point.point.clone(), point.workers)))
        .into_iter()
        .map(|(graph, workers)| {
            let of = points.iter().filter(|point| point.point == graph && point.workers == workers);
            let of = of.cloned().collect();
            (graph, workers, of)
        })
        .collect()
}

fn file(graph: &str, workers: usize) -> String {
    format!("latency-{graph}-{workers}w.png")
}

/// Draws a picture of each graph and number of workers beside the results; returns where they are.
///
/// # Errors
/// If the results have no grid, or a file cannot be written.
pub fn draw(results: &Results) -> Result<Vec<PathBuf>, String> {
    let points = points(results)?;
    if points.is_empty() {
        return Err(format!("{LATENCY} of the results {} has no grid", results.name()));
    }
    let machine = results.machine(LATENCY)?;
    let mut paths = Vec::new();
    for (graph, workers, points) in parts(&points) {
        let path = results.path(&file(&graph, workers));
        let unit = if graph == "word-count" { "; an event is a word" } else { "" };
        let panels = Panels {
            title: format!("Latency: {}, {}", words::job(&graph), words::workers(&[workers])),
            subtitle: format!("from when an event was due until it is shown{unit}; {machine}"),
            points,
        };
        picture(&panels, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

fn image(results: &Results, graph: &str, workers: usize, root: &str) -> Result<String, String> {
    let file = file(graph, workers);
    let name = results.name();
    if !results.has(&file) {
        return Err(format!("the results {name} have no {file}; `report --draw {name}` draws it"));
    }
    let what = format!("{}, {}", words::job(graph), words::workers(&[workers]));
    Ok(format!("![Latency against the rate that is offered: {what}]({root}benches/results/{name}/{file})"))
}

fn table(graph: &str, workers: usize, points: &[Point]) -> String {
    let ways = ways(points);
    let mut head = vec![format!("{}, {}: p50 / p99", words::job(graph), words::workers(&[workers]))];
    head.extend(ways.iter().map(|way| (*way).to_owned()));
    let rows: Vec<Vec<String>> = rates(points)
        .into_iter()
        .map(|at| {
            let cells = ways.iter().map(|way| cell(points, way, at).replace('-', "\u{2013}"));
            [format!("{}/s", rate(at as f64))].into_iter().chain(cells).collect()
        })
        .collect();
    words::table(&head, &rows)
}

/// Where the points were measured, and how many of them were disturbed in spite of repeated rounds.
fn caption(results: &Results, points: &[Point], root: &str) -> Result<String, String> {
    let disturbed = points.iter().filter(|point| point.disturbed > ALLOWED).count();
    let said = match disturbed {
        0 => String::new(),
        _ => format!(
            " Something else took more than {:.0} % of a run at {disturbed} of {} points.",
            100.0 * ALLOWED,
            points.len()
        ),
    };
    Ok(format!("{}{said}", results.caption(&[LATENCY], root)?))
}

/// A picture and a table of each graph and number of workers.
pub(super) fn all(results: &Results, root: &str) -> Result<String, String> {
    let points = points(results)?;
    let mut text = Vec::new();
    for (graph, workers, points) in parts(&points) {
        text.push(image(results, &graph, workers, root)?);
        text.push(table(&graph, workers, &points));
    }
    text.push(caption(results, &points, root)?);
    Ok(text.join("\n\n"))
}

/// The pictures and tables of the keyed count.
pub(super) fn keyed_count(results: &Results, root: &str) -> Result<String, String> {
    const GRAPH: &str = "keyed-count";
    let points: Vec<Point> = points(results)?.into_iter().filter(|point| point.point == GRAPH).collect();
    let mut text = Vec::new();
    let mut tables = Vec::new();
    for (_, workers, points) in parts(&points) {
        text.push(image(results, GRAPH, workers, root)?);
        tables.push(table(GRAPH, workers, &points));
    }
    if tables.is_empty() {
        return Err(format!("{LATENCY} of the results {} has no {GRAPH}", results.name()));
    }
    text.extend(tables);
    text.push(caption(results, &points, root)?);
    Ok(text.join("\n\n"))
}

/// Rows of promises: continuous against the program written by hand, a row for each graph and number of workers, with
/// the rates that come closest to their limits or exceed them most; and what is promised of Tidemill by itself.
pub(super) fn promises(results: &Results) -> Result<Vec<Vec<String>>, String> {
    let mut comparisons: Vec<Comparison> = Vec::new();
    for new in results.lines::<Comparison>(LATENCY)? {
        if !new.right {
            return Err(format!("{LATENCY} of the results {}: {} is void", results.name(), new.comparison));
        }
        comparisons.retain(|old| old.comparison != new.comparison);
        comparisons.push(new);
    }
    comparisons.retain(|comparison| comparison.judged);
    let mut rows = Vec::new();
    for (graph, workers) in in_order(comparisons.iter().map(|found| (found.graph.clone(), found.workers))) {
        let of: Vec<&Comparison> =
            comparisons.iter().filter(|found| found.graph == graph && found.workers == workers).collect();
        let worst = |over: fn(&Comparison) -> f64, said: fn(&Comparison) -> (f64, (f64, f64))| {
            let worst = of.iter().max_by(|a, b| over(a).total_cmp(&over(b)));
            worst.map_or_else(String::new, |found| {
                let (ratio, (ours, by_hand)) = said(found);
                format!("{ratio:.2} at {}/s ({} over {})", rate(found.rate as f64), time(ours), time(by_hand))
            })
        };
        let p50 = worst(|found| found.p50_ratio / found.limit, |found| (found.p50_ratio, found.p50));
        let p99 = worst(|found| found.p99_ratio / found.p99_limit, |found| (found.p99_ratio, found.p99));
        let kept = of.iter().filter(|found| found.kept).count();
        let most = of.iter().map(|found| found.rate).max().unwrap_or(0);
        rows.push(vec![
            format!(
                "{graph}, continuous over timely by hand, {}, up to {}/s: worst p50, p99",
                words::workers(&[workers]),
                rate(most as f64)
            ),
            format!("{p50}, {p99}"),
            "at most 1.2 up to 100k/s, then 1.5, 2".to_owned(),
            if kept == of.len() {
                verdict(true).to_owned()
            } else {
                format!("{} at {} of {} rates", verdict(false), of.len() - kept, of.len())
            },
        ]);
    }
    let mut verdicts: Vec<(String, Vec<String>)> = Vec::new();
    for line in results.lines::<Verdict>(LATENCY)? {
        let key = format!("{} {}", line.claim.split(" (").next().unwrap_or_default(), line.workers);
        let row = vec![
            format!("{}, {}", line.claim, words::workers(&[line.workers])),
            words::figure(line.value),
            format!("at most {}", line.limit),
            verdict(line.kept).to_owned(),
        ];
        match verdicts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = row,
            None => verdicts.push((key, row)),
        }
    }
    rows.extend(verdicts.into_iter().map(|(_, row)| row));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    fn point(graph: &str, way: &str, workers: usize, rate: u64, p50: f64) -> String {
        format!(
            r#""point":"{graph}","way":"{way}","workers":{workers},"rate":{rate},"rounds":3,"p50":{p50},"p99":9.0,"p999":20.0,"generator_p99":1.0,"cpu_per_million":1.0,"disturbed":0.03,"keeps_up":{},"right":true"#,
            rate < 3_000
        )
    }

    #[test]
    fn a_grid_is_drawn_and_told_as_tables() {
        let lines = [
            point("keyed-count", "continuous", 1, 1_000, 3.0),
            point("keyed-count", "timely by hand", 1, 1_000, 2.0),
            point("keyed-count", "continuous", 1, 3_000, 4.0),
            point("keyed-count", "continuous", 1, 1_000, 5.0),
            point("map", "continuous", 2, 1_000, 3.0),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[(LATENCY, &lines)]);
        assert!(is_in(&results));
        assert!(all(&results, "").unwrap_err().ends_with("`report --draw 2026-03-01-here` draws it"));
        let files = draw(&results).unwrap();
        let names: Vec<String> =
            files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["latency-keyed-count-1w.png", "latency-map-2w.png"]);
        assert!(files.iter().all(|path| std::fs::read(path).unwrap().starts_with(b"\x89PNG")));
        let text = all(&results, "../").unwrap();
        let expected = "| keyed count, 1 worker: p50 / p99 | continuous | timely by hand |\n|---|---|---|\n\
                        | 1k/s | 5.0us / 9.0us | 2.0us / 9.0us |\n| 3k/s | (4.0us / 9.0us) | \u{2013} |\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("(../benches/results/2026-03-01-here/latency-map-2w.png)"), "{text}");
        assert!(text.ends_with("more than 2 % of a run at 4 of 4 points."), "{text}");
        let text = keyed_count(&results, "").unwrap();
        assert!(text.starts_with("![") && !text.contains("map"), "{text}");
    }

    #[test]
    fn the_rate_that_exceeds_its_limit_most_is_told_of_a_graph() {
        let line = |rate: u64, p50: f64, judged: bool| {
            let limit = if rate > 100_000 { 1.5 } else { 1.2 };
            format!(
                r#""comparison":"map, {rate}/s","graph":"map","workers":2,"rate":{rate},"p50":[{p50},1.0],"p99":[1.0,1.0],"p50_ratio":{p50},"p99_ratio":1.0,"limit":{limit},"p99_limit":{limit},"judged":{judged},"kept":{},"right":true"#,
                p50 <= limit
            )
        };
        let mut lines = vec![
            line(1_000, 1.4, true),
            line(300_000, 1.6, true),
            line(1_000_000, 9.0, false),
            line(3_000, 9.0, true),
        ];
        lines.push(line(3_000, 1.0, true));
        lines.push(
            r#""claim":"map, p50 (worst: 1k/s)","workers":2,"value":3.0,"limit":1.05,"kept":false"#
                .to_owned(),
        );
        lines.push(
            r#""claim":"map, p50 (worst: 3k/s)","workers":2,"value":1.0,"limit":1.05,"kept":true"#.to_owned(),
        );
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[(LATENCY, &lines)]);
        let rows = promises(&results).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows[0][0],
            "map, continuous over timely by hand, 2 workers, up to 300k/s: worst p50, p99"
        );
        assert!(rows[0][1].starts_with("1.40 at 1k/s (1.4us over 1.0us), 1.00 at"), "{rows:?}");
        assert_eq!(rows[0][3], "**missed** at 2 of 3 rates");
        assert_eq!(rows[1], ["map, p50 (worst: 3k/s), 2 workers", "1.00", "at most 1.05", "kept"]);
        assert!(!is_in(&results));
    }
}
