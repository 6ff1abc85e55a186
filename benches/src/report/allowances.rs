//! What can be allowed to the programs measured: another allocator, workers that stay on their cores.

use serde::Deserialize;
use serde_json::Value;

use super::results::Results;
use super::words::{self, in_order};
use crate::measure::median;

/// A program's cost, as `peers` and `nexmark` write it: each has its own name for what and who.
#[derive(Debug, Deserialize)]
struct Cost {
    job: Option<String>,
    query: Option<u32>,
    engine: Option<String>,
    runner: Option<String>,
    workers: usize,
    /// One figure, or the middle one, the slowest and the fastest.
    mega_per_second: Value,
    #[serde(alias = "cpu_seconds_per_mega")]
    cpu_seconds_per_million: f64,
    #[serde(default = "system")]
    allocator: String,
    #[serde(default)]
    pinned: bool,
    right: bool,
}

fn system() -> String {
    "system".to_owned()
}

impl Cost {
    fn what(&self) -> String {
        let query = self.query.map(|query| format!("Nexmark, query {query}"));
        self.job.as_deref().map(words::job).or(query).unwrap_or_default()
    }

    fn who(&self) -> &str {
        self.engine.as_deref().or(self.runner.as_deref()).unwrap_or_default()
    }

    fn speed(&self) -> Option<f64> {
        self.mega_per_second.as_f64().or_else(|| self.mega_per_second.get(0)?.as_f64())
    }
}

/// A row for each program that was measured both without and with: the medians over all lines of each.
fn table(
    results: &Results,
    file: &str,
    root: &str,
    names: [&str; 2],
    with: fn(&Cost) -> bool,
) -> Result<String, String> {
    let costs: Vec<Cost> = results.some_lines(file, "costs")?;
    if let Some(void) = costs.iter().find(|cost| !cost.right) {
        return Err(format!("{file} of the results {}: {} is void", results.name(), void.what()));
    }
    let mut rows = Vec::new();
    for (what, who, workers) in in_order(costs.iter().map(|cost| (cost.what(), cost.who(), cost.workers))) {
        let middle = |wanted: bool, of: fn(&Cost) -> Option<f64>| {
            let same = |cost: &&Cost| cost.what() == what && cost.who() == who && cost.workers == workers;
            let all: Vec<f64> =
                costs.iter().filter(same).filter(|cost| with(cost) == wanted).filter_map(of).collect();
            (!all.is_empty()).then(|| median(&all))
        };
        let (Some(without), Some(with)) = (middle(false, Cost::speed), middle(true, Cost::speed)) else {
            continue;
        };
        let cpu = |wanted| middle(wanted, |cost| Some(cost.cpu_seconds_per_million));
        let cpu = [cpu(false), cpu(true)].map(|seconds| seconds.unwrap_or_default());
        rows.push(vec![
            what.clone(),
            who.to_owned(),
            workers.to_string(),
            format!("{without:.2}"),
            format!("{with:.2}"),
            format!("{:.2}", with / without.max(1e-9)),
            cpu.map(|seconds| format!("{seconds:.4}")).join(" / "),
        ]);
    }
    if rows.is_empty() {
        return Err(format!(
            "{file} of the results {} has nothing that was measured both ways",
            results.name()
        ));
    }
    let [without, with] = names.map(|name| format!("{name}, M/s"));
    let head = ["job", "run by", "workers"].map(str::to_owned).into_iter();
    let head: Vec<String> = head.chain([without, with, "times".to_owned(), "CPU s/M".to_owned()]).collect();
    Ok(format!("{}\n\n{}", words::table(&head, &rows), results.caption(&[file], root)?))
}

/// mimalloc against the system's allocator.
pub(super) fn allocators(results: &Results, root: &str) -> Result<String, String> {
    table(results, "allocators.jsonl", root, ["system's", "mimalloc"], |cost| cost.allocator == "mimalloc")
}

/// Workers that stay on their cores against those that the system moves.
pub(super) fn pinning(results: &Results, root: &str) -> Result<String, String> {
    table(results, "pinning.jsonl", root, ["free", "pinned"], |cost| cost.pinned)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn a_row_is_what_was_measured_both_ways() {
        let cost = |speed: f64, allocator: &str| {
            format!(
                r#""job":"word-count","engine":"renoir","workers":1,"mega_per_second":{speed},"cpu_seconds_per_million":0.5,"right":true{allocator}"#
            )
        };
        let mimalloc = r#","allocator":"mimalloc""#;
        let lines = [
            cost(1.0, ""),
            cost(3.0, r#","allocator":"system""#),
            cost(4.0, mimalloc),
            format!(
                r#""query":2,"runner":"Renoir","workers":1,"mega_per_second":[5.0,1,2],"cpu_seconds_per_mega":1,"right":true{mimalloc}"#
            ),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[("allocators.jsonl", &lines), ("pinning.jsonl", &lines)]);
        let text = allocators(&results, "").unwrap();
        assert!(
            text.contains("|\n| word count | renoir | 1 | 2.00 | 4.00 | 2.00 | 0.5000 / 0.5000 |\n\nRaw"),
            "{text}"
        );
        assert!(pinning(&results, "").unwrap_err().ends_with("measured both ways"));
    }
}
