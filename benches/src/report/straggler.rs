//! How long a bounded job takes with a slow worker, against the time that is ideal for the speed that is left.

use serde::Deserialize;

use super::results::Results;
use super::words;

pub(super) const FILE: &str = "straggler.jsonl";

/// A job with and without busy threads beside a worker, in seconds.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    mib: u64,
    partitions: u32,
    busy: usize,
    share: f64,
    free: f64,
    ideal: f64,
    moving: f64,
    staying: f64,
    right: bool,
}

/// A row for each number of partitions and busy threads; of one that was measured again the last.
pub(super) fn table(results: &Results, root: &str) -> Result<String, String> {
    let mut lines: Vec<Line> = Vec::new();
    for line in results.some_lines::<Line>(FILE, "jobs")? {
        if !line.right {
            return Err(format!("{FILE} of the results {}: an answer is wrong", results.name()));
        }
        let is_same = |known: &&mut Line| {
            (known.partitions, known.busy, known.mib) == (line.partitions, line.busy, line.mib)
        };
        match lines.iter_mut().find(is_same) {
            Some(known) => *known = line,
            None => lines.push(line),
        }
    }
    let head = [
        "partitions",
        "busy threads",
        "worker 1 has",
        "without them",
        "ideal beside them",
        "partitions move",
        "over ideal",
        "partitions stay",
        "over ideal",
    ];
    let row = |line: &Line| {
        let seconds = |seconds: f64| format!("{seconds:.2} s");
        let over = |seconds: f64| format!("{:.2}", seconds / line.ideal);
        vec![
            line.partitions.to_string(),
            line.busy.to_string(),
            format!("{:.0} % of a core", line.share * 100.0),
            seconds(line.free),
            seconds(line.ideal),
            seconds(line.moving),
            over(line.moving),
            seconds(line.staying),
            over(line.staying),
        ]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let sizes = words::in_order(lines.iter().map(|line| line.mib));
    let sizes: Vec<String> = sizes.into_iter().map(|mib| format!("{mib} MiB of text.")).collect();
    let table = words::table(&head.map(str::to_owned), &rows);
    Ok(format!("{table}\n\n{} {}", sizes.join(" "), results.caption(&[FILE], root)?))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    fn line(moving: f64, right: bool) -> String {
        format!(
            r#""mib":256,"partitions":32,"busy":2,"share":0.334,"free":2.0,"ideal":3.0,"moving":{moving},"staying":6.0,"right":{right}"#
        )
    }

    #[test]
    fn row_is_last_result_over_ideal_time() {
        let (_place, results) = results(&[(FILE, &[&line(9.0, true), &line(3.3, true)])]);
        let text = table(&results, "").unwrap();
        let row = "| 32 | 2 | 33 % of a core | 2.00 s | 3.00 s | 3.30 s | 1.10 | 6.00 s | 2.00 |";
        assert!(text.contains(row) && text.contains("\n\n256 MiB of text. Raw: "), "{text}");
        assert!(!text.contains("9.00"), "{text}");
    }

    #[test]
    fn wrong_answer_has_no_figures() {
        let (_place, results) = results(&[(FILE, &[&line(3.0, false)])]);
        assert!(table(&results, "").unwrap_err().ends_with("an answer is wrong"));
    }
}
