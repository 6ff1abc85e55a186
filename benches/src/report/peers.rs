//! Against other engines: the comparisons of `peers`, and the steps against a loop.

use serde::Deserialize;

use super::results::Results;
use super::words::{self, beside, geometric_mean, in_order};

const FILE: &str = "peers.jsonl";
/// The steps against a loop have a file of their own: it is another question, asked with one worker.
const LOOP: &str = "loop.jsonl";

/// Tidemill against one peer.
#[derive(Clone, Debug, Deserialize)]
struct Ratio {
    job: String,
    mode: String,
    peer: String,
    workers: usize,
    times: f64,
    target: f64,
}

impl Ratio {
    fn key(&self) -> (&str, &str, &str, usize) {
        (&self.job, &self.mode, &self.peer, self.workers)
    }
}

/// All of a peer: here only for what was wanted.
#[derive(Debug, Deserialize)]
struct Mean {
    peer: String,
    geometric_mean: f64,
    target: f64,
}

/// The comparisons of a file; of one that was run again the last.
fn ratios(results: &Results, file: &str) -> Result<Vec<Ratio>, String> {
    let mut last: Vec<Ratio> = Vec::new();
    for ratio in results.some_lines::<Ratio>(file, "comparisons")? {
        match last.iter_mut().find(|known| known.key() == ratio.key()) {
            Some(known) => *known = ratio,
            None => last.push(ratio),
        }
    }
    Ok(last)
}

/// A row a job, a column a peer and mode.
fn by_job(ratios: &[Ratio]) -> String {
    let jobs = in_order(ratios.iter().map(|ratio| &ratio.job));
    let columns = in_order(ratios.iter().map(|ratio| (&ratio.peer, &ratio.mode)));
    let workers = in_order(ratios.iter().map(|ratio| ratio.workers));
    let mut columns: Vec<_> = columns;
    columns.sort_by_key(|(peer, mode)| (*peer != "timely", *peer, *mode != "micro-batch"));
    let head: Vec<String> = std::iter::once(format!("job, {}", words::workers(&workers)))
        .chain(columns.iter().map(|(peer, mode)| format!("{}, {mode}", words::peer(peer))))
        .collect();
    let cell = |job: &str, peer: &str, mode: &str| {
        beside(workers.iter().map(|workers| {
            ratios.iter().find(|ratio| ratio.key() == (job, mode, peer, *workers)).map(|ratio| ratio.times)
        }))
    };
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|job| {
            std::iter::once(words::job(job))
                .chain(columns.iter().map(|(peer, mode)| cell(job, peer, mode)))
                .collect()
        })
        .collect();
    words::table(&head, &rows)
}

/// What was reached against a peer over all its comparisons, and what was wanted.
struct Total {
    peer: String,
    comparisons: usize,
    mean: f64,
    least: f64,
    most: f64,
    missed: usize,
    /// Wanted on each, and of the mean.
    each: f64,
    wanted: Option<f64>,
}

fn totals(results: &Results, file: &str, ratios: &[Ratio]) -> Result<Vec<Total>, String> {
    let means: Vec<Mean> = results.lines(file)?;
    let total = |peer: &String| {
        let of: Vec<&Ratio> = ratios.iter().filter(|ratio| ratio.peer == *peer).collect();
        let times: Vec<f64> = of.iter().map(|ratio| ratio.times).collect();
        let mean = means.iter().rev().find(|mean| mean.peer == *peer && mean.geometric_mean > 0.0);
        Some(Total {
            peer: words::peer(peer),
            comparisons: of.len(),
            mean: geometric_mean(&times)?,
            least: times.iter().copied().fold(f64::INFINITY, f64::min),
            most: times.iter().copied().fold(0.0, f64::max),
            missed: of.iter().filter(|ratio| ratio.times < ratio.target).count(),
            each: of.first()?.target,
            wanted: mean.map(|mean| mean.target),
        })
    };
    Ok(in_order(ratios.iter().map(|ratio| &ratio.peer)).into_iter().filter_map(total).collect())
}

/// The comparisons with other engines: a loop is none.
fn with_engines(results: &Results) -> Result<Vec<Ratio>, String> {
    let mut ratios = ratios(results, FILE)?;
    ratios.retain(|ratio| ratio.peer != "loop");
    Ok(ratios)
}

/// Against every peer, job by job.
pub(super) fn table(results: &Results, root: &str) -> Result<String, String> {
    let ratios = with_engines(results)?;
    let mut means = Vec::new();
    for Total { peer, comparisons, mean, least, most, missed, each, wanted } in
        totals(results, FILE, &ratios)?
    {
        let wanted = wanted.map(|wanted| format!(", wanted {wanted:.2}")).unwrap_or_default();
        means.push(format!(
            "- {peer}: geometric mean **{mean:.2}**{wanted}; {least:.2} to {most:.2}; {missed} of {comparisons} below the \
             {each:.2} that is wanted on each."
        ));
    }
    Ok(format!("{}\n\n{}\n\n{}", by_job(&ratios), means.join("\n"), results.caption(&[FILE], root)?))
}

/// The stateless steps against a loop from vector to vector.
pub(super) fn steps(results: &Results, root: &str) -> Result<String, String> {
    let mut ratios = ratios(results, LOOP)?;
    ratios.retain(|ratio| ratio.peer == "loop");
    let wanted = ratios.first().map(|ratio| ratio.target);
    Ok(format!(
        "{}\n\nWanted: {}. {}",
        by_job(&ratios),
        words::times(wanted),
        results.caption(&[LOOP], root)?
    ))
}

/// A line a peer, and one for Nexmark if it was measured.
pub(super) fn summary(results: &Results, root: &str) -> Result<String, String> {
    let ratios = with_engines(results)?;
    let mut lines = Vec::new();
    for Total { peer, comparisons, mean, least, most, .. } in totals(results, FILE, &ratios)? {
        let peer = if peer == "timely" { "programs written by hand on timely".to_owned() } else { peer };
        lines.push(format!(
            "- {mean:.2} times as fast as {peer}: the geometric mean of {comparisons} comparisons, which range from {least:.2} \
             to {most:.2}"
        ));
    }
    let mut files = vec![FILE];
    if results.has(super::nexmark::FILE) {
        lines.extend(super::nexmark::summary(results)?.map(|line| format!("- {line}")));
        files.push(super::nexmark::FILE);
    }
    Ok(format!("{}\n\n{}", lines.join("\n"), results.caption(&files, root)?))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    fn ratio(job: &str, mode: &str, peer: &str, workers: usize, times: f64) -> String {
        format!(
            r#""job":"{job}","mode":"{mode}","peer":"{peer}","workers":{workers},"times":{times},"target":0.95,"kept":true"#
        )
    }

    #[test]
    fn table_has_last_of_each_comparison_and_their_mean() {
        let lines = [
            ratio("windowed-1000", "micro-batch", "timely", 1, 9.0),
            ratio("windowed-1000", "micro-batch", "renoir", 1, 3.0),
            ratio("windowed-1000", "micro-batch", "loop", 1, 7.0),
            ratio("windowed-1000", "micro-batch", "timely", 1, 0.5),
            ratio("windowed-1000", "micro-batch", "timely", 2, 2.0),
            r#""peer":"timely","comparisons":2,"geometric_mean":1.0,"least":0.5,"target":1.0,"kept":true"#
                .to_owned(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_place, results) = results(&[(FILE, &lines)]);
        let text = table(&results, "../").unwrap();
        assert!(text.starts_with(
            "| job, 1 / 2 workers | timely, micro-batch | Renoir, micro-batch |\n|---|---|---|\n\
             | windowed count, 1,000 keys | 0.50 / 2.00 | 3.00 / – |\n\n\
             - timely: geometric mean **1.00**, wanted 1.00; 0.50 to 2.00; 1 of 2 below the 0.95 that is wanted on each.\n"
        ));
        let text = summary(&results, "").unwrap();
        assert!(text.starts_with(
            "- 1.00 times as fast as programs written by hand on timely: the geometric mean of 2"
        ));
    }

    #[test]
    fn steps_are_compared_with_a_loop_only() {
        let lines = [
            ratio("chain-16", "continuous", "loop", 1, 0.8),
            ratio("chain-16", "continuous", "timely", 1, 1.0),
        ];
        let (_place, results) = results(&[(LOOP, &[&lines[0], &lines[1]])]);
        let text = steps(&results, "").unwrap();
        assert!(text.starts_with(
            "| job, 1 worker | loop, continuous |\n|---|---|\n| eight steps, 16 bytes | 0.80 |\n"
        ));
        assert!(table(&results, "").is_err());
    }
}
