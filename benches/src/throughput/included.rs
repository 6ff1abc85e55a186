//! Results that another process has measured: a line of JSON each.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{Answer, Bench, Job, Sizes};

/// A result of another process.
#[derive(Clone, Debug, Deserialize)]
pub struct Included {
    engine: String,
    job: String,
    workers: usize,
    /// Input records.
    records: u64,
    /// The engine's own time.
    seconds: f64,
    answer: Answer,
    /// Whether the answer is right, once it is known.
    #[serde(skip)]
    right: bool,
}

impl Included {
    /// Reads a file of results, and checks their answers. The text must be the one that [`Sizes::write_text`] writes.
    ///
    /// # Panics
    /// If the file cannot be read, or a line of it not be understood.
    #[must_use]
    pub fn read(path: &Path, sizes: Sizes) -> Vec<Included> {
        let text = fs::read_to_string(path).expect("the included results can be read");
        let mut bench = Bench::new(sizes, tidemill::Options::default());
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let mut result: Included = serde_json::from_str(line).expect("a line of results");
                let job: Job = result.job.parse().expect("a known job");
                if job != Job::WordCount {
                    bench.set_events(result.records);
                }
                result.right = result.answer == bench.expected(job);
                result
            })
            .collect()
    }

    /// Of each engine its fastest result for a job: its name, whether all its answers are right, and its millions of
    /// records a second.
    #[must_use]
    pub fn best(all: &[Included], job: Job, workers: usize) -> Vec<(String, bool, f64)> {
        let name = job.to_string();
        let mut best: Vec<(String, bool, f64)> = Vec::new();
        for of in all.iter().filter(|of| of.job == name && of.workers == workers) {
            let speed = of.records as f64 / of.seconds.max(1e-9) / 1e6;
            match best.iter_mut().find(|(engine, ..)| *engine == of.engine) {
                Some((_, right, known)) => {
                    *right &= of.right;
                    *known = known.max(speed);
                }
                None => best.push((of.engine.clone(), of.right, speed)),
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_included_answer_is_checked_against_its_own_size() {
        let sizes = Sizes { events: 5, mib: 1, words: 10, keys: 10 };
        let mut bench = Bench::new(Sizes { events: 1_000, ..sizes }, tidemill::Options::default());
        let Answer { rows, records, checksum } = bench.expected(Job::Session);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (engine, rows, seconds) in [("a", rows, 0.5), ("a", rows, 0.25), ("b", rows + 1, 1.0)] {
            writeln!(
                file,
                "{{\"engine\":\"{engine}\",\"job\":\"session\",\"workers\":2,\"records\":1000,\"seconds\":{seconds},\
                 \"answer\":{{\"rows\":{rows},\"records\":{records},\"checksum\":{checksum}}}}}"
            )
            .unwrap();
        }
        let all = Included::read(file.path(), sizes);
        let best = Included::best(&all, Job::Session, 2);
        assert_eq!(best, [("a".to_owned(), true, 0.004), ("b".to_owned(), false, 0.001)]);
        assert!(Included::best(&all, Job::Session, 1).is_empty());
    }
}
