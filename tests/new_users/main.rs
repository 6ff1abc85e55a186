//! Mistakes of new users, and the message that each gets: from the compiler (`compile/`) or when the graph is run (`run.rs`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod run;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the newest library of that name beside this test: cargo has just built it for this test, or found it fresh.
fn library(name: &str) -> PathBuf {
    let prefix = format!("lib{name}-");
    let own = std::env::current_exe().unwrap();
    let found = own.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(&prefix) && file.ends_with(".rlib")
    });
    found
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("cargo builds the library before")
}

/// Compiles a program without linking it. Returns whether it compiles, and what the compiler writes, with single spaces.
fn compile(program: &Path, out: &Path) -> (bool, String) {
    let facade = library("tidemill");
    let done = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--emit",
            "metadata",
            "--color",
            "never",
            "--diagnostic-width",
            "200",
        ])
        .arg("--out-dir")
        .arg(out)
        .arg("--extern")
        .arg(format!("tidemill={}", facade.display()))
        .arg("-L")
        .arg(format!("dependency={}", facade.parent().unwrap().display()))
        .arg(program)
        .current_dir(out)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stderr);
    (done.status.success(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Each program begins with `//~ ` lines: sentences that the compiler must write. One without any compiles without a warning.
#[test]
fn message_of_compiler_names_the_fix() {
    let mut programs: Vec<_> = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/new_users/compile")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    programs.sort();
    assert!(programs.len() > 15, "{} programs", programs.len());
    let mut failures = Vec::new();
    for program in &programs {
        let out = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(program).unwrap();
        let wanted: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//~ ")).collect();
        let warns = wanted.first().is_some_and(|first| first.starts_with("warning:"));
        let (compiles, said) = compile(program, out.path());
        let missing: Vec<_> = wanted.iter().filter(|wanted| !said.contains(**wanted)).collect();
        if compiles != (wanted.is_empty() || warns)
            || !missing.is_empty()
            || (wanted.is_empty() && !said.is_empty())
        {
            failures.push(format!("{}\n  not said: {missing:#?}\n  said: {said}\n", program.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
