//! Raw results of one series: a directory of files with a line of JSON for each result.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A directory of results.
#[derive(Clone, Debug)]
pub struct Results {
    name: String,
    directory: PathBuf,
}

/// Where a line comes from: the part of its provenance that a document says.
#[derive(Debug, Deserialize)]
struct Origin {
    date: String,
    revision: String,
    build: String,
    #[serde(default)]
    allocator: Option<String>,
    machine: Machine,
}

#[derive(Debug, Deserialize)]
struct Machine {
    cores: usize,
    cpu: String,
    memory: u64,
    rustc: String,
}

impl Results {
    /// The results of that name below `all`, which holds a directory for each machine and day.
    ///
    /// # Errors
    /// If there are none.
    pub fn named(all: &Path, name: &str) -> Result<Results, String> {
        let directory = all.join(name);
        let plain = Path::new(name).components().count() == 1 && !name.starts_with('.');
        if !plain || !directory.is_dir() {
            return Err(format!("there are no results `{name}` in {}", all.display()));
        }
        Ok(Results { name: name.to_owned(), directory })
    }

    /// The name of the latest results below `all`: names begin with the date.
    ///
    /// # Errors
    /// If the directory cannot be read or holds none.
    pub fn latest(all: &Path) -> Result<String, String> {
        let entries = fs::read_dir(all).map_err(|error| format!("{}: {error}", all.display()))?;
        let names = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        let latest = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).max();
        latest.ok_or_else(|| format!("{} holds no results", all.display()))
    }

    /// What the directory is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the directory has that file.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        self.directory.join(file).is_file()
    }

    /// Where a file of the directory is, or would be.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The machine on which a file was measured, in a few words.
    ///
    /// # Errors
    /// If the file is not there, or is empty or without provenance.
    pub fn machine(&self, file: &str) -> Result<String, String> {
        let origin: Option<Origin> = self.lines(file)?.into_iter().next();
        let Machine { cores, cpu, .. } =
            origin.ok_or_else(|| format!("{file} of the results {} has no provenance", self.name))?.machine;
        Ok(format!("{cores} cores, {cpu}"))
    }

    /// All lines of a file.
    fn values(&self, file: &str) -> Result<Vec<Value>, String> {
        let text = fs::read_to_string(self.directory.join(file))
            .map_err(|error| format!("{file} of the results {}: {error}", self.name))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(at, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|error| format!("{file}:{}, of {}: {error}", at + 1, self.name))
        };
        lines.map(read).collect()
    }

    /// The lines of a file that have all fields of `T`, in their order: a program writes lines of several kinds.
    ///
    /// # Errors
    /// If the file is not there, or is no file of such lines.
    pub fn lines<T: DeserializeOwned>(&self, file: &str) -> Result<Vec<T>, String> {
        Ok(self.values(file)?.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
    }

    /// The lines of `T` of which there must be some.
    ///
    /// # Errors
    /// As [`lines`](Results::lines), and if there is none.
    pub fn some_lines<T: DeserializeOwned>(&self, file: &str, what: &str) -> Result<Vec<T>, String> {
        let lines = self.lines(file)?;
        if lines.is_empty() {
            return Err(format!("{file} of the results {} has no {what}", self.name));
        }
        Ok(lines)
    }

    /// Where the figures of these files were measured, when, and of which source, as a sentence with a link to each.
    /// `root` leads from the document to the root of the repository.
    ///
    /// # Errors
    /// If a file is not there, or has a line without provenance.
    pub fn caption(&self, files: &[&str], root: &str) -> Result<String, String> {
        let (mut machines, mut days, mut sources, mut links) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), Vec::new());
        for file in files {
            for (at, value) in self.values(file)?.into_iter().enumerate() {
                let origin: Origin = serde_json::from_value(value)
                    .map_err(|error| format!("{file}:{}, of {}: {error}", at + 1, self.name))?;
                let Machine { cores, cpu, memory, rustc } = origin.machine;
                let rustc = rustc.split(' ').take(2).collect::<Vec<_>>().join(" ");
                machines.insert(format!("{cores} cores, {cpu}, {} GiB, {rustc}", memory.div_ceil(1 << 30)));
                days.insert(origin.date.split('T').next().unwrap_or_default().to_owned());
                let build = Some(origin.build).filter(|build| build != "release");
                let allocator = origin.allocator.filter(|name| name != "system");
                let unusual = build.into_iter().chain(allocator).map(|word| format!(" with {word}"));
                sources.insert(format!("`{}`{}", origin.revision, unusual.collect::<String>()));
            }
            links.push(format!("[{file}]({root}benches/results/{}/{file})", self.name));
        }
        let all = |set: BTreeSet<String>, between: &str| set.into_iter().collect::<Vec<_>>().join(between);
        Ok(format!(
            "Raw: {}. {}; {}; revision {}.",
            links.join(", "),
            all(machines, "; "),
            all(days, ", "),
            all(sources, ", ")
        ))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// What comes before the fields of a result.
    pub(in crate::report) const ORIGIN: &str = r#""program":"p","flags":[],"date":"2026-03-01T12:00:00Z","revision":"abc","build":"release","machine":{"cores":2,"cpu":"CPU","memory":1073741824,"system":"s","rustc":"rustc 1.95.0 (x)"}"#;

    /// Results `2026-03-01-here` with one file of lines that have a provenance and these fields.
    pub(in crate::report) fn results(files: &[(&str, &[&str])]) -> (TempDir, Results) {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("2026-03-01-here");
        fs::create_dir(&directory).unwrap();
        for (file, lines) in files {
            let text: String = lines.iter().map(|line| format!("{{{ORIGIN},{line}}}\n")).collect();
            fs::write(directory.join(file), text).unwrap();
        }
        let results = Results::named(place.path(), "2026-03-01-here").unwrap();
        (place, results)
    }

    #[derive(Debug, Deserialize)]
    struct Row {
        rows: u64,
    }

    #[test]
    fn lines_of_another_kind_are_passed_over() {
        let (_place, results) = results(&[("a.jsonl", &[r#""rows":1"#, r#""columns":2"#, r#""rows":3"#])]);
        let rows: Vec<Row> = results.lines("a.jsonl").unwrap();
        assert_eq!(rows.iter().map(|row| row.rows).collect::<Vec<_>>(), [1, 3]);
        assert!(
            results
                .lines::<Row>("b.jsonl")
                .unwrap_err()
                .starts_with("b.jsonl of the results 2026-03-01-here")
        );
    }

    #[test]
    fn a_line_that_is_cut_off_is_told_by_its_number() {
        let (place, results) = results(&[("a.jsonl", &[r#""rows":1"#])]);
        let path = place.path().join("2026-03-01-here/a.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{}", text.trim_end().trim_end_matches('}'))).unwrap();
        assert!(results.lines::<Row>("a.jsonl").err().unwrap().starts_with("a.jsonl:2"));
    }

    #[test]
    fn a_caption_says_machine_day_and_revision() {
        let (_place, results) =
            results(&[("a.jsonl", &[r#""rows":1"#, r#""allocator":"mimalloc","rows":1"#])]);
        assert_eq!(
            results.caption(&["a.jsonl"], "../").unwrap(),
            "Raw: [a.jsonl](../benches/results/2026-03-01-here/a.jsonl). 2 cores, CPU, 1 GiB, rustc 1.95.0; \
             2026-03-01; revision `abc`, `abc` with mimalloc."
        );
    }

    #[test]
    fn the_latest_results_have_the_greatest_name() {
        let (place, _) = results(&[]);
        fs::create_dir(place.path().join("2026-02-28-there")).unwrap();
        fs::write(place.path().join("README.md"), "").unwrap();
        assert_eq!(Results::latest(place.path()).unwrap(), "2026-03-01-here");
        assert!(Results::named(place.path(), "../x").is_err());
        assert!(Results::named(place.path(), "2026-03-02-here").is_err());
    }
}
