//! Latency against throughput: what was to be shown, the curve, and its picture.

use serde::Deserialize;

use super::grid;
use super::results::Results;
use super::words::{self, in_order, verdict};
use crate::harness::result::{rate, time};

const SWEEP: &str = "sweep.jsonl";
pub(super) const LATENCY: &str = "latency.jsonl";
const PICTURE: &str = "curve-1w.png";

/// What `sweep` says about a promise.
#[derive(Debug, Deserialize)]
struct Verdict {
    claim: String,
    workers: usize,
    value: f64,
    limit: f64,
    kept: bool,
}

impl Verdict {
    /// A promise is a least or a greatest value; which, the verdict shows.
    fn wanted(&self) -> String {
        let least = self.kept == (self.value >= self.limit);
        format!("{} {}", if least { "at least" } else { "below" }, self.limit)
    }
}

/// What `latency --compare` found.
#[derive(Debug, Deserialize)]
struct Comparison {
    comparison: String,
    p50: (f64, f64),
    p99: (f64, f64),
    p50_ratio: f64,
    p99_ratio: f64,
    limit: f64,
    /// That of p99, where it is another.
    p99_limit: Option<f64>,
    /// The graph, if it is part of a grid.
    graph: Option<String>,
    /// Absent in older results, which judge all.
    judged: Option<bool>,
    kept: bool,
    right: bool,
}

/// What `latency --acceptance` says about everybody asleep between events.
#[derive(Debug, Deserialize)]
struct Asleep {
    claim: String,
    p99: f64,
    limit: f64,
    kept: bool,
}

/// A run at some rate.
#[derive(Debug, Deserialize)]
struct Run {
    mode: String,
    durable: bool,
    workers: usize,
    rate: u64,
    record: Percentiles,
    right: bool,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

/// The greatest rate that was kept up.
#[derive(Debug, Deserialize)]
struct Found {
    kept_up: Option<u64>,
    mode: String,
    workers: usize,
    /// Only such a line has trials.
    #[serde(rename = "trials")]
    _trials: Vec<serde_json::Value>,
}

/// A table of promises.
pub(super) fn acceptance(results: &Results, root: &str) -> Result<String, String> {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    // Of one that was run again the last counts. A claim may end with figures of its own, in brackets.
    let mut put = |key: &str, row: Vec<String>| {
        let key = key.split(" (").next().unwrap_or(key).to_owned();
        match rows.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = row,
            None => rows.push((key, row)),
        }
    };
    for line in results.some_lines::<Verdict>(SWEEP, "verdicts")? {
        let claim = format!("{}, {}", line.claim, words::workers(&[line.workers]));
        let row =
            vec![claim.clone(), words::figure(line.value), line.wanted(), verdict(line.kept).to_owned()];
        put(&format!("{} {}", line.workers, line.claim), row);
    }
    for line in results.some_lines::<Comparison>(LATENCY, "comparisons")? {
        if line.graph.is_some() {
            continue;
        }
        if !line.right {
            return Err(format!("{LATENCY} of the results {}: {} is void", results.name(), line.comparison));
        }
        let pair = |(ours, by_hand): (f64, f64)| format!("{} over {}", time(ours), time(by_hand));
        let row = vec![
            format!("{}, over timely by hand: p50, p99", line.comparison),
            format!("{:.2} ({}), {:.2} ({})", line.p50_ratio, pair(line.p50), line.p99_ratio, pair(line.p99)),
            match line.p99_limit.filter(|p99| *p99 != line.limit) {
                Some(p99) => format!("at most {}, {p99}", line.limit),
                None => format!("at most {}", line.limit),
            },
            verdict(line.kept).to_owned(),
        ];
        if line.judged != Some(false) {
            put(&line.comparison, row);
        }
    }
    for (at, row) in grid::promises(results)?.into_iter().enumerate() {
        put(&format!("grid {at}"), row);
    }
    for line in results.lines::<Asleep>(LATENCY)? {
        let row = vec![
            format!("{}: p99", line.claim),
            time(line.p99),
            format!("below {}", time(line.limit)),
            verdict(line.kept).to_owned(),
        ];
        put(&line.claim, row);
    }
    let head = ["", "measured", "wanted", ""].map(str::to_owned);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(format!("{}\n\n{}", words::table(&head, &rows), results.caption(&[SWEEP, LATENCY], root)?))
}

/// The grid, if there is one; otherwise a row for each way to run: the greatest rate that was kept up, and percentiles at rates that several ways have.
pub(super) fn curve(results: &Results, root: &str) -> Result<String, String> {
    if grid::is_in(results) {
        return grid::all(results, root);
    }
    let found: Vec<Found> = results.some_lines(SWEEP, "greatest rates")?;
    let runs: Vec<Run> = results.some_lines(SWEEP, "runs")?;
    if runs.iter().any(|run| !run.right) {
        return Err(format!("{SWEEP} of the results {} has a run that is void", results.name()));
    }
    let runs: Vec<Run> = runs.into_iter().filter(|run| !run.durable && run.rate > 0).collect();
    let mut rates = in_order(runs.iter().map(|run| run.rate));
    rates.retain(|rate| {
        // Rates that were asked for are round; what the halving came by is not.
        rate % 10_u64.pow(rate.ilog10().saturating_sub(1)) == 0
            && in_order(runs.iter().filter(|run| run.rate == *rate).map(|run| (&run.mode, run.workers))).len()
                > 1
    });
    rates.sort_unstable();
    let mut head = vec!["p50 / p99".to_owned(), "kept up".to_owned()];
    head.extend(rates.iter().map(|offered| format!("at {}/s", rate(*offered as f64))));
    let mut rows = Vec::new();
    for (mode, workers) in in_order(found.iter().map(|found| (&found.mode, found.workers))) {
        let last = found.iter().rev().find(|found| found.mode == *mode && found.workers == workers);
        let most = last.and_then(|found| found.kept_up).map(|most| format!("{}/s", rate(most as f64)));
        let mut row =
            vec![format!("{mode}, {}", words::workers(&[workers])), most.unwrap_or_else(|| "–".to_owned())];
        row.extend(rates.iter().map(|offered| {
            let of = |run: &&Run| run.mode == *mode && run.workers == workers && run.rate == *offered;
            runs.iter().rev().find(of).map_or_else(
                || "–".to_owned(),
                |run| format!("{} / {}", time(run.record.p50), time(run.record.p99)),
            )
        }));
        rows.push(row);
    }
    Ok(format!("{}\n\n{}", words::table(&head, &rows), results.caption(&[SWEEP], root)?))
}

/// The pictures of the grid, if there is one; otherwise that of the curve.
pub(super) fn picture(results: &Results, root: &str) -> Result<String, String> {
    if grid::is_in(results) {
        return grid::keyed_count(results, root);
    }
    if !results.has(PICTURE) {
        return Err(format!("the results {} have no {PICTURE}", results.name()));
    }
    let name = results.name();
    Ok(format!(
        "![Latency against the rate that is offered, in both modes]({root}benches/results/{name}/{PICTURE})\n\n{}",
        results.caption(&[SWEEP], root)?
    ))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn promises_say_what_was_wanted_and_whether_it_was_kept() {
        let sweep = [
            r#""claim":"a over b","workers":1,"value":0.9,"limit":0.8,"kept":true"#,
            r#""claim":"median in ms","workers":1,"value":6.0,"limit":5.0,"kept":false"#,
            r#""claim":"median in ms","workers":1,"value":4.0,"limit":5.0,"kept":true"#,
        ];
        let latency = [
            r#""comparison":"map, 1k/s","rate":1000,"p50":[2.0,1.0],"p99":[20.0,10.0],"p50_ratio":2.0,"p99_ratio":1.5,"limit":1.2,"kept":false,"right":true"#,
            r#""comparison":"map, 1M/s","rate":1000000,"p50":[1.4,1.0],"p99":[19.0,10.0],"p50_ratio":1.4,"p99_ratio":1.9,"limit":1.5,"p99_limit":2.0,"judged":true,"kept":true,"right":true"#,
            r#""comparison":"map, 9M/s","rate":9000000,"p50":[9.0,1.0],"p99":[9.0,1.0],"p50_ratio":9.0,"p99_ratio":9.0,"limit":1.5,"p99_limit":2.0,"judged":false,"kept":false,"right":true"#,
            r#""claim":"map, asleep","p99":221.0,"limit":1000.0,"kept":true"#,
        ];
        let (_place, results) = results(&[(SWEEP, &sweep), (LATENCY, &latency)]);
        let text = acceptance(&results, "").unwrap();
        assert!(text.contains("| a over b, 1 worker | 0.90 | at least 0.8 | kept |\n"));
        assert!(
            text.contains("| median in ms, 1 worker | 4.00 | below 5 | kept |\n") && !text.contains("6.00")
        );
        assert!(
            text.contains("| 2.00 (2.0us over 1.0us), 1.50 (20us over 10us) | at most 1.2 | **missed** |")
        );
        assert!(text.contains("| at most 1.5, 2 | kept |") && !text.contains("map, 9M/s"), "{text}");
        assert!(text.contains("| map, asleep: p99 | 221us | below 1.00ms | kept |"), "{text}");
    }

    #[test]
    fn the_curve_has_rates_that_several_ways_were_measured_at() {
        let run = |mode: &str, rate: u64, p50: f64| {
            format!(
                r#""mode":"{mode}","durable":false,"workers":1,"rate":{rate},"record":{{"p50":{p50},"p99":9.0}},"right":true"#
            )
        };
        let lines = [
            run("continuous", 1_000, 3.0),
            run("continuous", 5_555, 3.0),
            run("micro-batch 1s", 5_555, 3.0),
            run("micro-batch 1s", 1_000, 5e5),
            r#""kept_up":2000000,"mode":"continuous","workers":1,"trials":[]"#.to_owned(),
            r#""kept_up":null,"mode":"micro-batch 1s","workers":1,"trials":[]"#.to_owned(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[(SWEEP, &lines)]);
        let text = curve(&results, "").unwrap();
        assert!(text.starts_with(
            "| p50 / p99 | kept up | at 1k/s |\n|---|---|---|\n| continuous, 1 worker | 2M/s | 3.0us / 9.0us |\n\
             | micro-batch 1s, 1 worker | – | 500ms / 9.0us |\n"
        ));
        assert!(picture(&results, "").is_err());
    }
}
