//! How results are written in documents: names for people, tables, verdicts.

use std::fmt::Write as _;

/// A job's name for people: `windowed count, 1,000 keys` for `windowed-1000`.
pub(super) fn job(name: &str) -> String {
    let number = |text: &str| text.parse().map_or_else(|_| text.to_owned(), thousands);
    match name.rsplit_once('-') {
        Some(("windowed", "count")) => "windowed count".to_owned(),
        Some(("windowed", keys)) => format!("windowed count, {} keys", number(keys)),
        Some(("sliding", panes)) => format!("sliding, {} panes", number(panes)),
        Some(("chain", bytes)) => format!("eight steps, {} bytes", number(bytes)),
        _ if name == "session" => "sessions".to_owned(),
        _ => name.replace('-', " "),
    }
}

/// A peer's name for people: `Renoir` for `renoir`.
pub(super) fn peer(name: &str) -> String {
    if matches!(name, "timely" | "loop") {
        return name.to_owned();
    }
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `1,000,000`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A quotient, or a dash where there is none.
pub(super) fn times(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

/// A figure with three digits or all before the point.
pub(super) fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { thousands(value.round() as u64) }
}

/// Figures of one thing with several numbers of workers, or in several modes.
pub(super) fn beside(values: impl IntoIterator<Item = Option<f64>>) -> String {
    values.into_iter().map(times).collect::<Vec<_>>().join(" / ")
}

/// `1 / 2 workers`.
pub(super) fn workers(numbers: &[usize]) -> String {
    let all: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let what = if numbers == [1] { "worker" } else { "workers" };
    format!("{} {what}", all.join(" / "))
}

/// Whether a promise was kept; what was not is seen at a glance.
pub(super) fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "**missed**" }
}

/// A table, without a line break at its end.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut text = line(head);
    // Writing to a string does not fail.
    let _ = write!(text, "\n|{}", "---|".repeat(head.len()));
    for row in rows {
        let _ = write!(text, "\n{}", line(row));
    }
    text
}

/// The geometric mean; none of nothing.
pub(super) fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (logarithms / values.len() as f64).exp())
}

/// The different values in the order in which they first come.
pub(super) fn in_order<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_for_people() {
        assert_eq!(job("windowed-1000000"), "windowed count, 1,000,000 keys");
        assert_eq!(job("windowed-count"), "windowed count");
        assert_eq!(
            ["word-count", "session", "chain-16"].map(job),
            ["word count", "sessions", "eight steps, 16 bytes"]
        );
        assert_eq!(["renoir", "timely"].map(peer), ["Renoir", "timely"]);
        assert_eq!(
            ["1", "100", "1000", "12345"].map(|n| thousands(n.parse().unwrap())),
            ["1", "100", "1,000", "12,345"]
        );
        assert_eq!([0.5, 99.994, 43_790.78].map(figure), ["0.50", "99.99", "43,791"]);
        assert_eq!([workers(&[1]), workers(&[1, 2])], ["1 worker", "1 / 2 workers"]);
    }

    #[test]
    fn a_mean_of_quotients_is_geometric() {
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn a_table_has_a_line_a_row() {
        let row = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(table(&row("a b"), &[row("1 2")]), "| a | b |\n|---|---|\n| 1 | 2 |");
        assert_eq!(beside([Some(1.0), None]), "1.00 / –");
    }
}
