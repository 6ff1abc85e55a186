//! Lines that are longer than blocks, and than they may be.

use std::time::Duration;

use serde::Deserialize;
use tidemill_operators::{Reader, SourceError};

use super::tests::{path, write};
use super::*;
use crate::source::testing::{Drive, cpu_time, starts};

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Row {
    a: String,
}

/// Reads in both ways, with positions in between; returns the rows, and how many were skipped.
fn both<F: Format>(source: impl Fn() -> FileSource<F>) -> (Vec<F::Item>, u64)
where
    F::Item: std::fmt::Debug + PartialEq,
{
    let mut drive = Drive::new(source().bounded()).unwrap();
    let whole = drive.read().unwrap().concat_rows();
    let skipped =
        |drive: &mut Drive<FileSource<F>>| drive.readers.iter_mut().map(Reader::take_skipped).sum::<u64>();
    let all = skipped(&mut drive);
    let mut drive = Drive::new(source().bounded()).unwrap();
    let (mut rows, mut by_epochs) = (Vec::new(), 0);
    loop {
        rows.extend(drive.epoch(Some(2)).unwrap().concat_rows());
        by_epochs += skipped(&mut drive);
        if drive.ended() {
            break;
        }
        drive.reopen().unwrap();
    }
    // Partitions read beside each other.
    let sorted = |rows: &[F::Item]| {
        let mut rows: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
        rows.sort();
        rows
    };
    assert_eq!((sorted(&rows), by_epochs), (sorted(&whole), all));
    (whole, all)
}

trait Rows<T> {
    fn concat_rows(self) -> Vec<T>;
}

impl<T> Rows<T> for Vec<Vec<T>> {
    fn concat_rows(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn line_longer_than_allowed_is_skipped_however_files_are_cut() {
    for long in [11, 12, 25, 26, 27, 40, 300] {
        let dir = tempfile::tempdir().unwrap();
        let (x, y) = ("ö".repeat(long / 2) + &"x".repeat(long % 2), "y".repeat(10));
        write(dir.path(), "a", 0, format!("{x}\nb\n{y}\r\n{x}\r\nc\n{x}"));
        for block in [1, 4, 7, 64, 1000] {
            let source = || {
                let source = text_files(path(&dir)).partitions(2).block_size(block).max_line(10);
                source.on_bad_record(BadRecords::Skip)
            };
            let (mut lines, skipped) = both(source);
            lines.sort();
            assert_eq!(
                (lines, skipped),
                (vec!["b".into(), "c".into(), y.as_str().into()], 3),
                "{long}, {block}"
            );
        }
    }
}

#[test]
fn line_longer_than_allowed_fails_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    for long in [11, 400] {
        write(dir.path(), "a", 0, format!("b\nc\n{}\n", "x".repeat(long)));
        let failed = |error: Option<SourceError>| {
            let error = error.unwrap().to_string();
            assert!(error.contains("/a, line 3: the line is longer than 10 bytes"), "{error}");
        };
        failed(Drive::new(text_files(path(&dir)).max_line(10).block_size(16)).unwrap().read().err());
        failed(Drive::new(text_files(path(&dir)).max_line(10).follow()).unwrap().read().err());
        let rows = csv_files::<Row>(path(&dir)).no_header().max_line(10).block_size(16);
        failed(Drive::new(rows).unwrap().read().err());
    }
}

#[test]
fn long_json_line_and_csv_row_are_rows_of_their_own() {
    for long in [40, 5000] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", 0, format!("\"b\"\n\"{}\"\n\"c\"\n", "x".repeat(long)));
        let source = || json_lines::<String>(path(&dir)).with_bad_records().max_line(30).block_size(64);
        let (rows, _) = both(source);
        let bad: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
        assert_eq!((rows.len(), bad.len(), bad[0].line), (3, 1, 2));
        assert!(bad[0].reason.contains("longer than 30 bytes") && bad[0].text.len() < 50, "{bad:?}");

        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", 0, format!("a\nb\n\"{}\n\"\nc\n", "x,\n".repeat(long / 3)));
        let source = || {
            let source = csv_files::<Row>(path(&dir)).max_line(30).block_size(64);
            source.on_bad_record(BadRecords::Skip)
        };
        let (rows, skipped) = both(source);
        let rows: Vec<_> = rows.iter().map(|row| row.a.as_str()).collect();
        assert_eq!((rows, skipped), (vec!["b", "c"], 1), "{long}");
    }
}

#[test]
fn followed_line_longer_than_allowed_is_skipped_once_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let source = text_files(path(&dir)).follow().partitions(1).block_size(64).max_line(10);
    write(dir.path(), "a", 0, format!("b\n{}", "x".repeat(500)));
    let mut drive = Drive::new(source.on_bad_record(BadRecords::Skip)).unwrap();
    assert_eq!(drive.read().unwrap().concat(), ["b"]);
    write(dir.path(), "a", 0, format!("b\n{}\nc\n", "x".repeat(900)));
    drive.set_clock(1_000_000);
    assert_eq!(drive.read().unwrap().concat(), ["c"]);
    assert_eq!(drive.readers[0].take_skipped(), 1);
}

/// The time for a line is that of its bytes, not of their square.
#[test]
fn long_line_takes_time_in_proportion_to_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let time = |mib: usize, max_records: Option<u64>| {
        write(dir.path(), "a", 0, vec![b'x'; mib << 20]);
        let begun = cpu_time();
        let mut drive = Drive::new(text_files(path(&dir)).bounded()).unwrap();
        let rows = match max_records {
            None => drive.read().unwrap(),
            most => drive.epoch(most).unwrap(),
        };
        assert_eq!(rows.concat().iter().map(|line| line.len()).collect::<Vec<_>>(), [mib << 20]);
        cpu_time() - begun
    };
    for max_records in [None, Some(5)] {
        let (short, long) = (time(8, max_records), time(64, max_records));
        println!("{short:?} {long:?}");
        let most = (short * 24).max(Duration::from_millis(500));
        assert!(long < most, "8 MiB: {short:?}, 64 MiB: {long:?}");
    }
}

#[test]
fn excluded_names_are_not_read_and_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "app.log", 0, "a\n");
    write(dir.path(), "app.log.1.gz", 0, b"\x1f\x8b\xff\n");
    write(dir.path(), "app.log.2.zst", 0, b"\xff\n");
    let pattern = dir.path().join("app.log*").display().to_string();
    for follow in [false, true] {
        let source = text_files(&*pattern).exclude("*.gz").exclude("*.zst");
        let mut drive = Drive::new(if follow { source.follow() } else { source }).unwrap();
        assert_eq!(drive.read().unwrap().concat(), ["a"]);
        drive.set_clock(1_000_000);
        write(dir.path(), "app.log.3.gz", 5, b"\xff\n");
        assert!(drive.read().unwrap().concat().is_empty());
    }
    let error = starts(&text_files(&*pattern).exclude("old/*.gz"), None).unwrap_err().to_string();
    assert!(error.contains("cannot exclude `old/*.gz`"), "{error}");
    let error = starts(&text_blocks(&*pattern).max_line(7), None).unwrap_err().to_string();
    assert!(error.contains("has no `max_line`"), "{error}");
}
