//! Damage to any file of a checkpoint is refused with a message that names this file.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidemill::checkpoint::{LocalDirectory, inspect};
use tidemill::connectors::{channel, json_lines_dir, text_files};
use tidemill::{Graph, Journal, Mode, Options, Run, RunError, Trigger};

use common::{MODES, end, options};

/// Counts the lines of files and of a journaled channel, which has `rows` now and ends.
fn run(place: &Path, rows: &[&str], way: Options) -> Result<(), RunError> {
    let graph = Graph::new("damaged");
    let (sender, input) = channel(16);
    for row in rows {
        sender.send((*row).to_owned()).unwrap();
    }
    drop(sender);
    let lines = graph.source(text_files(place.join("input").display().to_string())).uid("lines");
    let sent = graph.source(input.journaled()).uid("sent");
    let all = lines.map(|line| line.to_string()).boxed().union(sent);
    let counts = all.key_by(String::clone).count().update().uid("counts");
    counts.as_inserts().sink(json_lines_dir(place.join("output")).roll_every_epoch());
    let way = way.with_trigger(Trigger::AvailableNow).with_checkpoint(place.join("checkpoint"));
    end(graph.start(way)?, "damaged").map(drop)
}

fn way(mode: Mode) -> Options {
    options(mode, 1).with_max_records_per_epoch(2)
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All files below a directory.
fn files(below: &Path) -> Files {
    let mut found = Files::new();
    for entry in std::fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.insert(entry.clone(), std::fs::read(entry).unwrap());
        }
    }
    found
}

fn put_back(place: &Path, whole: &Files) {
    for path in files(place).keys().filter(|path| !whole.contains_key(*path)) {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in whole {
        std::fs::write(path, bytes).unwrap();
    }
}

/// What can be wrong with bytes: they are truncated, or one of them is another.
fn damages(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let cut = (0..bytes.len()).map(|at| (format!("cut at {at}"), bytes[..at].to_vec()));
    let flipped = (0..bytes.len()).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x20;
        (format!("byte {at}"), bytes)
    });
    cut.chain(flipped).collect()
}

#[test]
fn damage_to_any_file_names_that_file() {
    let mut wrong = Vec::new();
    let (mut refused, mut accepted) = (0, BTreeMap::<String, u32>::new());
    for mode in MODES {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        std::fs::create_dir(place.join("input")).unwrap();
        for (name, rows) in [("a", ["x", "y"]), ("b", ["x", "z"])] {
            std::fs::write(place.join("input").join(name), "to be\nor not\nto be\n").unwrap();
            run(place, &rows, way(mode)).unwrap();
        }
        let whole = files(place);
        let checkpoint = place.join("checkpoint");
        for (path, bytes) in
            whole.iter().filter(|(path, _)| path.starts_with(&checkpoint) && !path.ends_with("lock"))
        {
            let name = path.strip_prefix(&checkpoint).unwrap().display().to_string();
            // Each of the many cuts and flips of one frame is like the others.
            let step = 1 + bytes.len() / 8;
            let damages = damages(bytes).into_iter().step_by(step);
            let removed = std::iter::once(("removed".to_owned(), None));
            for (what, damaged) in damages.map(|(what, bytes)| (what, Some(bytes))).chain(removed) {
                match damaged {
                    Some(bytes) => std::fs::write(path, bytes).unwrap(),
                    None => std::fs::remove_file(path).unwrap(),
                }
                let verified = inspect::verify(&LocalDirectory::existing(&checkpoint).unwrap());
                let ended = run(place, &[], way(mode));
                let errors = [
                    verified.err().map(|error| error.to_string()),
                    ended.err().map(|error| error.to_string()),
                ];
                for (error, by) in errors.iter().zip(["verify", "run"]) {
                    match error {
                        Some(error) if error.contains(&name) => refused += 1,
                        Some(error) => wrong.push(format!("{mode} {by} {name} {what}: {error}")),
                        None => *accepted.entry(format!("{mode} {by} {name} {what}")).or_default() += 1,
                    }
                }
                put_back(place, &whole);
            }
        }
    }
    assert!(refused > 300, "{refused}");
    // Of a journal without files only the source knows that it must be there; this one keeps nothing in its log.
    let needless = |what: &String| {
        (what.contains("verify journal/") && what.ends_with(" removed"))
            || what.contains("sources/sent.log removed")
    };
    assert!(accepted.keys().all(needless), "{accepted:#?}");
    assert!(wrong.is_empty(), "{} of {refused} name another file:\n{}", wrong.len(), wrong.join("\n"));
}
