//! The Nexmark suite: events a second over Renoir's, and by themselves.

use serde::Deserialize;

use super::results::Results;
use super::words::{self, beside, geometric_mean, in_order};

pub(super) const FILE: &str = "nexmark.jsonl";

/// The runs of one runner on one query.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    query: u32,
    title: String,
    runner: String,
    workers: usize,
    /// The middle run, the slowest, the fastest.
    mega_per_second: [f64; 3],
    over_renoir: Option<f64>,
    target: Option<f64>,
    right: bool,
}

impl Line {
    fn key(&self) -> (u32, &str, usize) {
        (self.query, &self.runner, self.workers)
    }

    fn speed(&self) -> f64 {
        let [middle, ..] = self.mega_per_second;
        middle
    }
}

/// The lines of the file; of one that was run again the last.
fn lines(results: &Results) -> Result<Vec<Line>, String> {
    let mut last: Vec<Line> = Vec::new();
    for line in results.some_lines::<Line>(FILE, "queries")? {
        if !line.right {
            return Err(format!("{FILE} of the results {}: query {} is void", results.name(), line.query));
        }
        match last.iter_mut().find(|known| known.key() == line.key()) {
            Some(known) => *known = line,
            None => last.push(line),
        }
    }
    last.sort_by_key(|line| line.query);
    Ok(last)
}

const MODES: [&str; 2] = ["micro-batch", "continuous"];

/// A row a query.
pub(super) fn table(results: &Results, root: &str) -> Result<String, String> {
    let lines = lines(results)?;
    let workers = in_order(lines.iter().map(|line| line.workers));
    let find = |key: (u32, &str, usize)| lines.iter().find(|line| line.key() == key);
    let mut head = vec!["query".to_owned()];
    head.extend(workers.iter().map(|number| format!("over Renoir, {}", words::workers(&[*number]))));
    head.push("wanted".to_owned());
    head.extend(workers.iter().map(|number| format!("M/s, {}", words::workers(&[*number]))));
    let mut rows = Vec::new();
    for (query, title) in in_order(lines.iter().map(|line| (line.query, &line.title))) {
        let beside_modes = |number: usize, of: &dyn Fn(&Line) -> Option<f64>| {
            beside(MODES.map(|mode| find((query, mode, number)).and_then(of)))
        };
        let mut row = vec![format!("{query}, {title}")];
        row.extend(workers.iter().map(|number| beside_modes(*number, &|line| line.over_renoir)));
        row.push(words::times(lines.iter().filter(|line| line.query == query).find_map(|line| line.target)));
        row.extend(workers.iter().map(|number| beside_modes(*number, &|line| Some(line.speed()))));
        rows.push(row);
    }
    let alone: Vec<Option<f64>> =
        workers.iter().map(|number| find((0, "plain loop", *number)).map(Line::speed)).collect();
    let alone = if alone.iter().any(Option::is_some) {
        format!(
            "A loop without an engine, which copies the events and frees them: {} M/s with {}.\n\n",
            beside(alone),
            words::workers(&workers).replace("worker", "thread")
        )
    } else {
        String::new()
    };
    Ok(format!("{}\n\n{alone}{}", words::table(&head, &rows), results.caption(&[FILE], root)?))
}

/// All queries in a line; none if Renoir took no part.
pub(super) fn summary(results: &Results) -> Result<Option<String>, String> {
    let lines = lines(results)?;
    let over: Vec<f64> = lines.iter().filter_map(|line| line.over_renoir).collect();
    let queries = in_order(lines.iter().filter(|line| line.over_renoir.is_some()).map(|line| line.query));
    let numbers: Vec<String> = queries.iter().map(u32::to_string).collect();
    Ok(geometric_mean(&over).map(|mean| {
        format!(
            "{mean:.2} times as fast as Renoir on the Nexmark queries {} (geometric mean)",
            numbers.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    fn line(query: u32, runner: &str, speed: f64, over: &str, right: bool) -> String {
        format!(
            r#""query":{query},"title":"bids","runner":"{runner}","workers":1,"mega_per_second":[{speed},1,9],"over_renoir":{over},"target":{over},"right":{right}"#
        )
    }

    #[test]
    fn a_row_is_a_query_in_both_modes() {
        let lines = [
            line(5, "micro-batch", 3.0, "1.5", true),
            line(0, "micro-batch", 6.0, "0.5", true),
            line(0, "continuous", 7.0, "0.75", true),
            line(0, "plain loop", 8.0, "null", true),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[(FILE, &lines)]);
        let text = table(&results, "").unwrap();
        assert!(text.contains(
            "| 0, bids | 0.50 / 0.75 | 0.50 | 6.00 / 7.00 |\n| 5, bids | 1.50 / – | 1.50 | 3.00 / – |"
        ));
        assert!(text.contains("frees them: 8.00 M/s with 1 thread."));
        let summary = summary(&results).unwrap().unwrap();
        assert!(summary.starts_with("0.83 times as fast as Renoir on the Nexmark queries 0, 5"), "{summary}");
    }

    #[test]
    fn a_wrong_answer_has_no_figures() {
        let (_place, results) = results(&[(FILE, &[&line(2, "micro-batch", 3.0, "1.5", false)])]);
        assert!(table(&results, "").unwrap_err().ends_with("query 2 is void"));
    }
}
