//! Directories of many files, which are watched.

use std::path::Path;
use std::time::{Duration, Instant};

use super::tests::{path, write};
use super::*;
use crate::Text;
use crate::source::testing::{Drive, cpu_time, warnings};

const INTERVAL: i64 = 100_000;

/// A directory with that many files of one line.
fn directory(files: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    (0..files).for_each(|n| write(dir.path(), &format!("old{n}.log"), 0, "old\n"));
    dir
}

/// A source whose directory is watched, in one partition, with all files read.
fn watched(dir: &tempfile::TempDir, change: impl Fn(TextFiles) -> TextFiles) -> Drive<TextFiles> {
    let pattern = dir.path().join("*.log").display().to_string();
    let mut drive = Drive::new(change(text_files(pattern)).partitions(1)).unwrap();
    while !drive.read().unwrap().concat().is_empty() {}
    drive
}

/// Reads at that look.
fn look(drive: &mut Drive<TextFiles>, look: i64) -> Vec<String> {
    drive.set_clock(look * INTERVAL);
    drive.read().unwrap().concat().into_iter().map(String::from).collect()
}

/// Looks, from that look on, until `wanted` has come; returns the last one.
fn look_until(drive: &mut Drive<TextFiles>, from: i64, wanted: &[&str]) -> i64 {
    let (mut rows, begun) = (Vec::new(), Instant::now());
    for at in from.. {
        assert!(begun.elapsed() < Duration::from_secs(30), "{rows:?}");
        rows.extend(look(drive, at));
        rows.sort();
        if rows == wanted {
            return at;
        }
        std::thread::yield_now();
    }
    unreachable!()
}

/// Puts a file there that appears whole.
fn put(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join("_written"), text).unwrap();
    std::fs::rename(dir.join("_written"), dir.join(name)).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn new_file_in_watched_directory_is_read_at_next_look() {
    for follow in [false, true] {
        let dir = directory(200);
        let mut drive = watched(&dir, |source| if follow { source.follow() } else { source });
        std::fs::write(dir.path().join("a.log"), "a\n").unwrap();
        put(dir.path(), ".b.log", "b\n");
        put(dir.path(), "c.txt", "c\n");
        assert_eq!(look(&mut drive, 1), ["a"], "follow: {follow}");
        std::fs::rename(dir.path().join(".b.log"), dir.path().join("b.log")).unwrap();
        std::fs::create_dir(dir.path().join("d.log")).unwrap();
        assert_eq!(look(&mut drive, 2), ["b"], "follow: {follow}");
        std::fs::rename(dir.path().join("a.log"), dir.path().join("e.log")).unwrap();
        // Under another name it is another file, unless it is followed.
        let renamed = look(&mut drive, 3);
        assert_eq!(renamed, if follow { vec![] } else { vec!["a"] });
        assert!(look(&mut drive, 4).is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn file_that_is_written_slowly_is_read_whole() {
    use std::io::Write;
    let dir = directory(200);
    let mut drive = watched(&dir, |source| source.poll_interval(Duration::from_secs(600)));
    let mut file = std::fs::File::create(dir.path().join("slow.log")).unwrap();
    for at in 1..4 {
        assert!(look(&mut drive, at * 10_000).is_empty());
        writeln!(file, "line {at}").unwrap();
    }
    drop(file);
    assert_eq!(look(&mut drive, 50_000), ["line 1", "line 2", "line 3"]);
}

#[cfg(target_os = "linux")]
#[test]
fn epoch_reads_files_that_appeared_before_its_plan() {
    let dir = directory(200);
    let source = text_files(path(&dir)).partitions(2);
    let mut drive = Drive::new(source).unwrap();
    assert_eq!(drive.epoch(None).unwrap().concat().len(), 200);
    for n in 0..20 {
        put(dir.path(), &format!("new{n}"), &format!("{n}\n"));
        assert_eq!(drive.epoch(None).unwrap().concat(), [Text::from(n.to_string())]);
    }
}

#[test]
fn more_new_files_than_a_look_examines_are_all_read() {
    let dir = directory(200);
    let mut drive = watched(&dir, |source| source.poll_interval(Duration::from_millis(1)));
    let names: Vec<String> = (1000..2000).map(|n| n.to_string()).collect();
    for name in &names {
        put(dir.path(), &format!("{name}.log"), &format!("{name}\n"));
    }
    look_until(&mut drive, 1, &names.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn files_of_directory_that_took_the_place_of_another_are_read() {
    let place = tempfile::tempdir().unwrap();
    let inner = place.path().join("in");
    std::fs::create_dir(&inner).unwrap();
    (0..200).for_each(|n| put(&inner, &n.to_string(), "old\n"));
    let source =
        text_files(inner.display().to_string()).partitions(1).poll_interval(Duration::from_millis(1));
    let mut drive = Drive::new(source).unwrap();
    while !drive.read().unwrap().concat().is_empty() {}
    std::fs::rename(&inner, place.path().join("out")).unwrap();
    assert!(look(&mut drive, 1).is_empty());
    std::fs::create_dir(&inner).unwrap();
    put(&inner, "a", "a\n");
    let at = look_until(&mut drive, 2, &["a"]);
    // It is watched in its turn; the one that has gone is not.
    put(&place.path().join("out"), "c", "c\n");
    put(&inner, "b", "b\n");
    let next = look_until(&mut drive, at + 1, &["b"]);
    assert!(next == at + 1 || !cfg!(target_os = "linux"), "{} looks", next - at);
}

#[test]
fn lines_behind_followed_file_that_was_closed_are_read() {
    let dir = directory(200);
    let interval = |source: TextFiles| source.follow().poll_interval(Duration::from_millis(1));
    let mut drive = watched(&dir, interval);
    for n in [3, 150] {
        use std::io::Write;
        let name = dir.path().join(format!("old{n}.log"));
        writeln!(std::fs::File::options().append(true).open(name).unwrap(), "more {n}").unwrap();
    }
    look_until(&mut drive, 1, &["more 150", "more 3"]);
}

/// A file system without reports, or a full table of them.
#[test]
fn directory_without_reports_is_listed_with_a_warning() {
    let dir = directory(200);
    let (drive, said) = warnings(|| {
        super::watch::DEAF.set(true);
        let mut drive = watched(&dir, |source| source.poll_interval(Duration::from_millis(1)));
        put(dir.path(), "a.log", "a\n");
        let at = look_until(&mut drive, 1, &["a"]);
        put(dir.path(), "b.log", "b\n");
        look_until(&mut drive, at + 1, &["b"]);
        super::watch::DEAF.set(false);
        drive
    });
    drop(drive);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["does not report new files", "directory is listed instead", "poll_interval"] {
        assert!(said[0].contains(part), "{said:?}");
    }
}

#[test]
fn looks_at_idle_directory_cost_less_than_listing_it() {
    let dir = directory(10_000);
    for follow in [false, true] {
        let mut drive = watched(&dir, |source| if follow { source.follow() } else { source });
        let begun = cpu_time();
        let listing = pattern::list(&path(&dir), &[]).unwrap();
        let once = cpu_time() - begun;
        assert_eq!(listing.files.len(), 10_000);
        let begun = cpu_time();
        for at in 1..=20 {
            assert!(look(&mut drive, at).is_empty());
        }
        let looks = cpu_time() - begun;
        println!("one listing {once:?}, twenty looks {looks:?}");
        assert!(looks < once * 2, "one listing {once:?}, twenty looks {looks:?}, follow: {follow}");
    }
}
