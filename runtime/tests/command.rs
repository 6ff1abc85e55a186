//! The command `tidemill checkpoint`, as it is run from a shell.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use tidemill_operators::{EventTime, Graph};
use tidemill_runtime::testing::{ScriptedSource, collecting_sink};
use tidemill_runtime::{Options, Run};

/// A checkpoint of five epochs, 20 records each: of 50 keys, so that the third epoch adds keys and changes others.
fn checkpoint(directory: &Path) {
    let graph = Graph::new("counts");
    let script = (0..100i64).fold(ScriptedSource::new(), |script, n| {
        let script = script.row(EventTime::from_micros(n), n % 50);
        if n % 20 == 19 { script.end_epoch() } else { script }
    });
    let counts = script.end().stream(&graph).key_by(|n| *n).count().update().uid("counts");
    counts.sink(collecting_sink().0);
    let options =
        Options::default().with_workers(2).with_retain(8).with_checkpoint(directory).without_ctrl_c();
    graph.run(options).unwrap();
}

/// Whether it went well, and what was printed: the answer, or the error.
fn tidemill(tool: &str, directory: &Path, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    let output = command.args(["checkpoint", tool]).arg(directory).args(more).output().unwrap();
    let (said, other) = match output.status.success() {
        true => (output.stdout, output.stderr),
        false => (output.stderr, output.stdout),
    };
    assert!(other.is_empty(), "{}", String::from_utf8_lossy(&other));
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn json(tool: &str, directory: &Path, more: &[&str]) -> serde_json::Value {
    let (well, text) = tidemill(tool, directory, &[more, &["--json"]].concat());
    assert!(well, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_tool_says_what_is_in_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    checkpoint(place);

    let (well, text) = tidemill("list", place, &[]);
    let lines: Vec<_> = text.lines().collect();
    assert!(well && lines[0] == "query `counts`, execution 1, 128 key groups", "{text}");
    let epochs: Vec<_> = json("list", place, &[])["epochs"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 1 + epochs.len(), "{text}");
    let numbers: Vec<_> = epochs.iter().map(|epoch| epoch["epoch"].as_u64().unwrap()).collect();
    let last = *numbers.last().unwrap();
    assert_eq!(numbers, (0..=last).collect::<Vec<_>>());
    assert!(lines[epochs.len()].starts_with(&format!("epoch {last}: committed 20")), "{text}");

    let (well, text) = tidemill("show", place, &[]);
    assert!(well && text.contains("state counts (") && text.contains("): 50 entries, "), "{text}");
    let details = json("show", place, &["--epoch", "2"]);
    assert_eq!(details["epoch"], 2);
    assert_eq!(details["operators"]["counts"]["entries"], 50);

    let (well, text) = tidemill("diff", place, &["2", "3"]);
    assert!(well && text == "counts: 0 added, 20 changed, 0 removed\n", "{text}");
    assert_eq!(json("diff", place, &["1", "2"])["counts"]["added"], 10);

    let (well, text) = tidemill("verify", place, &[]);
    assert!(
        well && text.starts_with(&format!("{} epochs, ", epochs.len())) && text.ends_with("all intact\n"),
        "{text}"
    );
    assert_eq!(json("verify", place, &[])["epochs"].as_array().unwrap().len(), epochs.len());

    let (well, text) = tidemill("prune", place, &["--keep", "1"]);
    assert!(well && text.lines().filter(|line| line.starts_with("epoch ")).count() == 1, "{text}");
    assert_eq!(json("list", place, &[])["epochs"].as_array().unwrap().len(), 1);
    assert!(tidemill("verify", place, &[]).0);
    let (well, text) = tidemill("show", place, &["--epoch", "1"]);
    assert!(!well && text.contains("epoch 1 is not in") && text.contains(&format!("[{last}]")), "{text}");
    let (well, _) = tidemill("prune", place, &["--keep", "0"]);
    assert!(!well, "nothing would be left");
}

#[test]
fn damage_is_named_by_file_and_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    checkpoint(place);
    let state = std::fs::read_dir(place.join("state")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&state).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&state, &damaged).unwrap();
    let name = state.file_name().unwrap().to_str().unwrap().to_owned();
    let (well, text) = tidemill("verify", place, &[]);
    assert!(!well && text.contains(&name) && text.contains("is damaged at bytes "), "{text}");
    assert!(tidemill("list", place, &[]).0, "the log is whole");

    std::fs::remove_file(&state).unwrap();
    let (well, text) = tidemill("verify", place, &[]);
    assert!(!well && text.contains(&name) && text.contains("is missing"), "{text}");

    std::fs::write(&state, &whole).unwrap();
    assert!(tidemill("verify", place, &[]).0);
    std::fs::write(place.join("current"), "no checkpoint").unwrap();
    for tool in ["list", "show", "verify"] {
        let (well, text) = tidemill(tool, place, &[]);
        assert!(!well && text.contains("current is damaged at bytes 0.."), "{text}");
    }
}

#[test]
fn what_is_not_there_is_said_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere");
    for (tool, more) in [
        ("list", &[][..]),
        ("show", &[]),
        ("verify", &[]),
        ("diff", &["0", "1"]),
        ("prune", &["--keep", "1"]),
    ] {
        for place in [directory.path(), &nowhere] {
            let (well, text) = tidemill(tool, place, more);
            assert!(!well && text.contains(place.to_str().unwrap()), "{tool}: {text}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
