//! What every result carries: where it was measured, when, of which source, and by which command line.
//!
//! A number without these cannot be compared with another. [`JsonLines`] puts them into every line, so that a line is
//! still a result when it has been cut out of its file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use jiff::{Timestamp, Unit};
use serde::Serialize;

use crate::allocator;
use crate::measure::{Machine, machine};

/// Where a result comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The name of the program that measured.
    pub program: String,
    /// Its command line without that name, as it was given.
    pub flags: Vec<String>,
    /// When it began, in UTC to the second: `2026-03-01T12:00:00Z`.
    pub date: String,
    /// The commit of the source, with `-dirty` after it if files differed from it; `unknown` outside a checkout.
    pub revision: String,
    /// `release` or `debug`.
    pub build: String,
    /// `system`, or `mimalloc`.
    pub allocator: String,
    /// What it ran on.
    pub machine: Machine,
}

impl Provenance {
    /// Of this process. The revision is that of the source directory at present: with `cargo run` that is what was built.
    #[must_use]
    pub fn of_this_run() -> Provenance {
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let program = Path::new(&program).file_stem().map(|name| name.to_string_lossy().into_owned());
        let date = Timestamp::now();
        Provenance {
            program: program.unwrap_or_default(),
            flags: arguments.collect(),
            date: date.round(Unit::Second).unwrap_or(date).to_string(),
            revision: revision(Path::new(env!("CARGO_MANIFEST_DIR"))),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            allocator: allocator::NAME.to_owned(),
            machine: machine(),
        }
    }

    /// One line of JSON, without its end: an object with the fields of the provenance and those of `result`, which must
    /// be a struct or a map whose fields have other names.
    ///
    /// # Errors
    /// If `result` has no form in JSON, or none with named fields.
    pub fn line(&self, result: &impl Serialize) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a, R> {
            #[serde(flatten)]
            provenance: &'a Provenance,
            #[serde(flatten)]
            result: &'a R,
        }
        serde_json::to_string(&Line { provenance: self, result })
    }

    /// The first line of a report for people: program, revision, date and machine.
    #[must_use]
    pub fn headline(&self) -> String {
        let Machine { cores, cpu, memory, system, rustc } = &self.machine;
        // What is as usual is not said.
        let allocator = if self.allocator == "system" { "" } else { ", mimalloc" };
        format!(
            "{} {} ({}{allocator}), {}; {cores} cores, {cpu}, {} GiB, {system}, {rustc}",
            self.program,
            self.revision,
            self.build,
            self.date,
            memory.div_ceil(1 << 30),
        )
    }
}

/// The commit checked out in `directory`, in twelve digits.
fn revision(directory: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    // Files that git does not know are not what was built from.
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|files| !files.is_empty());
    if dirty { format!("{commit}-dirty") } else { commit }
}

/// A file of results, one line of JSON each; or none, if none was asked for.
#[derive(Debug)]
pub struct JsonLines {
    provenance: Provenance,
    file: Option<File>,
}

impl JsonLines {
    /// Opens `path`, if there is one, to append to it.
    ///
    /// # Errors
    /// If the file cannot be opened or made.
    pub fn append(path: Option<&Path>) -> io::Result<JsonLines> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        Ok(JsonLines { provenance: Provenance::of_this_run(), file: path.map(open).transpose()? })
    }

    /// What each line carries.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Writes a result. It is in the file when this returns, so a run that is cut short has what it measured before.
    ///
    /// # Errors
    /// If the result has no form in JSON (see [`Provenance::line`]) or the file cannot be written.
    pub fn write(&mut self, result: &impl Serialize) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = self.provenance.line(result)?;
        line.push('\n');
        file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Count {
        rows: u64,
    }

    #[test]
    fn a_line_holds_the_provenance_and_the_result_side_by_side() {
        let provenance = Provenance::of_this_run();
        let line = provenance.line(&Count { rows: 3 }).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["rows"], 3);
        assert_eq!(value["date"].as_str().unwrap().len(), "2026-03-01T12:00:00Z".len());
        assert!(value["machine"]["cores"].as_u64().unwrap() >= 1);
        assert_eq!(value["flags"].as_array().unwrap().len(), std::env::args().count() - 1);
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_result_without_named_fields_is_refused() {
        assert!(Provenance::of_this_run().line(&3).is_err());
    }

    #[test]
    fn results_are_appended_to_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.jsonl");
        for rows in 0..2 {
            JsonLines::append(Some(&path)).unwrap().write(&Count { rows }).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().zip(["\"rows\":0", "\"rows\":1"]).all(|(line, rows)| line.contains(rows)));
        assert!(JsonLines::append(None).unwrap().write(&Count { rows: 1 }).is_ok());
    }

    #[test]
    fn a_directory_outside_a_checkout_has_no_revision() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(revision(directory.path()), "unknown");
    }

    #[test]
    fn a_changed_file_makes_the_revision_dirty() {
        let directory = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
            let status = Command::new("git")
                .arg("-C")
                .arg(directory.path())
                .args(who)
                .args(arguments)
                .output()
                .unwrap();
            assert!(status.status.success(), "{status:?}");
        };
        let file = directory.path().join("file");
        std::fs::write(&file, "1").unwrap();
        git(&["init"]);
        git(&["add", "file"]);
        git(&["commit", "-m", "first"]);
        let clean = revision(directory.path());
        assert_eq!(clean.len(), 12);
        std::fs::write(&file, "2").unwrap();
        assert_eq!(revision(directory.path()), format!("{clean}-dirty"));
    }
}
