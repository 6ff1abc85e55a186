//! What operators with bounded state keep over a simulated day.

use serde::Deserialize;

use super::results::Results;
use super::words::{self, thousands};

pub(super) const FILE: &str = "eviction.jsonl";

/// What an operator has kept: during the warm-up, and afterwards.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    operator: String,
    keys: u64,
    rows_per_minute: u64,
    hours: u64,
    state_rows: [u64; 2],
    /// In bytes.
    rss: [u64; 2],
    results: u64,
    is_flat: bool,
}

/// A row an operator; of one that was run again the last.
pub(super) fn table(results: &Results, root: &str) -> Result<String, String> {
    let mut lines: Vec<Line> = Vec::new();
    for line in results.some_lines::<Line>(FILE, "operators")? {
        if !line.is_flat {
            return Err(format!("{FILE} of the results {}: {} still grows", results.name(), line.operator));
        }
        match lines.iter_mut().find(|known| known.operator == line.operator) {
            Some(known) => *known = line,
            None => lines.push(line),
        }
    }
    let head = [
        "operator",
        "state rows, hours 1 and 2",
        "state rows, later",
        "RSS, hours 1 and 2, MiB",
        "RSS, later, MiB",
        "rows emitted",
    ];
    let row = |line: &Line| {
        let [warm, most] = line.state_rows.map(thousands);
        let [warm_rss, most_rss] = line.rss.map(|bytes| (bytes >> 20).to_string());
        vec![line.operator.clone(), warm, most, warm_rss, most_rss, thousands(line.results)]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let settings = words::in_order(lines.iter().map(|line| (line.keys, line.rows_per_minute, line.hours)));
    let settings: Vec<String> = settings
        .into_iter()
        .map(|(keys, rows, hours)| {
            format!("{} keys, {} rows a minute, {hours} hours.", thousands(keys), thousands(rows))
        })
        .collect();
    let table = words::table(&head.map(str::to_owned), &rows);
    Ok(format!("{table}\n\n{} {}", settings.join(" "), results.caption(&[FILE], root)?))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    fn line(operator: &str, rows: u64, is_flat: bool) -> String {
        format!(
            r#""operator":"{operator}","keys":100000,"rows_per_minute":10000,"hours":24,"state_rows":[{rows},71000],"rss":[10485760,11534336],"results":5000,"is_flat":{is_flat}"#
        )
    }

    #[test]
    fn row_is_last_result_of_operator() {
        let lines = [line("interval, inner", 1, true), line("as of", 2, true), line("as of", 70_000, true)];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[(FILE, &lines)]);
        let text = table(&results, "").unwrap();
        assert!(text.contains("| as of | 70,000 | 71,000 | 10 | 11 | 5,000 |\n\n100,000 keys, 10,000 rows a minute, 24 hours. Raw: "), "{text}");
    }

    #[test]
    fn operator_that_grows_has_no_figures() {
        let (_place, results) = results(&[(FILE, &[&line("as of", 1, false)])]);
        assert!(table(&results, "").unwrap_err().ends_with("as of still grows"));
    }
}
