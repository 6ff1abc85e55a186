//! The source of files, driven as the engine drives it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill_operators::{Poll, ProcessingTime, Reader, Source, SourceError};

use super::*;
use crate::Text;
use crate::source::testing::{Drive, starts};

/// Writes a file as one that is `age` seconds younger than the oldest.
pub(super) fn write(dir: &Path, name: &str, age: u64, text: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + age);
    std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

fn append(dir: &Path, name: &str, text: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).open(dir.join(name)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub(super) fn path(dir: &tempfile::TempDir) -> String {
    dir.path().display().to_string()
}

fn strings(rows: Vec<Vec<Text>>) -> Vec<Vec<String>> {
    rows.into_iter().map(|rows| rows.into_iter().map(String::from).collect()).collect()
}

fn all(rows: Vec<Vec<Text>>) -> Vec<String> {
    strings(rows).concat()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) item: String,
}

pub(super) fn order(id: u64, item: &str) -> Order {
    Order { id, item: item.to_owned() }
}

#[test]
fn a_partition_that_has_ended_does_not_say_that_the_others_have() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        write(dir.path(), name, 0, "1\n2\n3\n4\n5\n");
    }
    let limits = tidemill_operators::PlanLimits::new(Some(3), ProcessingTime::from_micros(0));
    let source = || text_files(path(&dir)).partitions(3).bounded();
    let first = source();
    let mut from: Vec<FileOffset> = starts(&first, None).unwrap();
    let mut rows = 0;
    for epoch in 0..7 {
        // In each epoch another run, which learns from the positions how far the last one was.
        let again = source();
        let look = || -> Vec<FileOffset> {
            (0..)
                .zip(&from)
                .map(|(partition, from)| again.latest(partition, from, &limits).unwrap())
                .collect()
        };
        look();
        again.refresh(&limits).unwrap();
        let until = look();
        let mut drive = Drive::resume(again, &from).unwrap();
        let count = drive.epoch_until(&until).unwrap().concat().len();
        assert!(count <= 3, "epoch {epoch} has {count}");
        rows += count;
        from = until;
    }
    assert_eq!(rows, 20);
}

#[test]
fn a_file_that_appears_later_is_read_after_the_ones_before_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "b", 1, "1\n2\n");
    write(dir.path(), "a", 2, "3");
    let mut drive = Drive::new(text_files(path(&dir)).partitions(1)).unwrap();
    assert_eq!(all(drive.epoch(None).unwrap()), ["1", "2", "3"]);
    write(dir.path(), "c", 0, "4\r\n\r\n5\r\n");
    assert_eq!(all(drive.epoch(None).unwrap()), ["4", "", "5"]);
    assert_eq!(all(drive.epoch(None).unwrap()), Vec::<String>::new());
}

#[test]
fn continuous_mode_looks_for_new_files_at_intervals() {
    let dir = tempfile::tempdir().unwrap();
    let mut drive = Drive::new(text_files(path(&dir)).partitions(1)).unwrap();
    assert!(all(drive.read().unwrap()).is_empty());
    assert_eq!(drive.polls, [Poll::IdleUntil(ProcessingTime::from_micros(100_000))]);
    write(dir.path(), "a", 0, "1\n");
    assert!(all(drive.read().unwrap()).is_empty());
    drive.set_clock(100_000);
    assert_eq!(all(drive.read().unwrap()), ["1"]);
    assert_eq!(drive.polls, [Poll::IdleUntil(ProcessingTime::from_micros(200_000))]);
}

#[test]
fn a_bounded_source_reads_what_is_there_at_the_start_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, "\u{FEFF}1\n2\n");
    for continuous in [true, false] {
        let mut drive = Drive::new(text_files(path(&dir)).bounded()).unwrap();
        write(dir.path(), "late", 0, "never\n");
        let rows = if continuous { drive.read() } else { drive.epoch(None) };
        assert_eq!(all(rows.unwrap()), ["1", "2"]);
        assert!(drive.ended());
        std::fs::remove_file(dir.path().join("late")).unwrap();
    }
}

#[test]
fn an_epoch_keeps_to_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..3 {
        write(dir.path(), &format!("{file}"), file, "aa\nbb\ncc\n");
    }
    let source = || text_files(path(&dir)).partitions(2).block_size(4);
    let mut drive = Drive::new(source().max_files_per_epoch(1)).unwrap();
    for _ in 0..3 {
        assert_eq!(all(drive.epoch(None).unwrap()).len(), 3);
    }
    // Blocks of 4, 4 and 1 bytes, in which 2, 1 and 0 lines begin.
    let mut drive = Drive::new(source().max_bytes_per_epoch(1)).unwrap();
    let epochs: Vec<_> = (0..4).map(|_| all(drive.epoch(None).unwrap()).len()).collect();
    assert_eq!(epochs, [2, 1, 0, 2]);
    let mut drive = Drive::new(source()).unwrap();
    let epochs: Vec<_> = (0..6).map(|_| all(drive.epoch(Some(2)).unwrap()).len()).collect();
    assert_eq!(epochs, [2, 2, 2, 2, 1, 0]);
}

#[test]
fn restart_resumes_at_checkpoint_and_replay_reads_same() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, (0..50).map(|n| format!("{n}\n")).collect::<String>());
    let source = || text_files(path(&dir)).partitions(3).block_size(10);
    let mut drive = Drive::new(source()).unwrap();
    let mut seen = all(drive.epoch(Some(7)).unwrap());
    let begin = drive.offsets();
    let epoch = drive.epoch(Some(11)).unwrap();
    let until = drive.offsets();
    let mut again = Drive::resume(source(), &begin).unwrap();
    assert_eq!(again.epoch_until(&until).unwrap(), epoch);
    seen.extend(all(epoch));
    assert_eq!(seen.len(), 18);
    for max in [Some(9), None, None] {
        seen.extend(all(again.epoch(max).unwrap()));
    }
    let mut numbers: Vec<u32> = seen.iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_limit_that_was_planned_for_files_that_are_gone_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, "1\n");
    let mut drive = Drive::new(text_files(path(&dir)).partitions(1)).unwrap();
    let begin = drive.offsets();
    drive.epoch(None).unwrap();
    std::fs::remove_file(dir.path().join("a")).unwrap();
    let mut again = Drive::resume(text_files(path(&dir)).partitions(1), &begin).unwrap();
    let error = again.epoch_until(&drive.offsets()).unwrap_err();
    assert!(error.to_string().contains("no longer at"), "{error}");
}

#[test]
fn a_followed_file_gives_its_lines_as_they_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "log", 0, "1\n2");
    let mut drive = Drive::new(text_files(path(&dir)).partitions(1).follow()).unwrap();
    assert_eq!(all(drive.read().unwrap()), ["1"]);
    append(dir.path(), "log", "2\n3\n4");
    assert_eq!(all(drive.epoch(None).unwrap()), ["22", "3"]);
    assert!(all(drive.epoch(None).unwrap()).is_empty());
    // The next file of the partition ends this one, terminated or not.
    write(dir.path(), "log2", 9, "5\n");
    assert!(all(drive.epoch(None).unwrap()).is_empty());
    drive.set_clock(5_000_000);
    assert_eq!(all(drive.epoch(None).unwrap()), ["4", "5"]);
    append(dir.path(), "log2", "6\n");
    drive.reopen().unwrap();
    assert_eq!(all(drive.read().unwrap()), ["6"]);
    write(dir.path(), "log3", 10, "7\n");
    drive.set_clock(6_000_000);
    assert_eq!(all(drive.read().unwrap()), ["7"]);
}

#[test]
fn what_is_missing_or_makes_no_sense_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for pattern in ["nowhere", "nowhere/*.txt"] {
        let error = Drive::new(text_files(dir.path().join(pattern).display().to_string())).err().unwrap();
        assert!(matches!(&error, SourceError::Setup(text) if text.contains("nowhere")), "{error}");
    }
    for pattern in ["*/a.txt", "day-?/*"] {
        let error = Drive::new(text_files(dir.path().join(pattern).display().to_string())).err().unwrap();
        assert!(error.to_string().contains("only in the last part of a path"), "{error}");
    }
    assert!(starts(&text_files(path(&dir)).bounded().follow(), None).is_err());
    assert!(starts(&csv_files::<Order>(path(&dir)).follow(), None).is_err());
}

#[test]
fn bytes_that_are_no_utf8_fail_with_file_and_byte() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, b"good\nba\xff\n");
    let mut drive = Drive::new(text_files(path(&dir)).partitions(1).block_size(5)).unwrap();
    let error = drive.read().unwrap_err();
    let said = "/a, byte 7: the file is not UTF-8; `.lossy()` on the source replaces such bytes";
    assert!(error.to_string().ends_with(said), "{error}");
}

const ORDERS: &str = "{\"id\":1,\"item\":\"ax\"}\n\n{\"id\":2}\r\n{\"id\":3,\"item\":\"öl\"}\nnot json";

#[test]
fn bad_json_line_fails_with_place_or_is_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, ORDERS);
    for block in [1, 7, 1000] {
        let source = || json_lines::<Order>(path(&dir)).partitions(1).bounded().block_size(block);
        let error = Drive::new(source()).unwrap().read().unwrap_err();
        assert!(error.to_string().contains("/a, line 3: missing field `item`"), "{error}");
        let mut drive = Drive::new(source().on_bad_record(BadRecords::Skip)).unwrap();
        assert_eq!(drive.epoch(None).unwrap(), [vec![order(1, "ax"), order(3, "öl")]]);
        assert_eq!(drive.readers[0].take_skipped(), 2);
        assert!(drive.ended());
    }
}

#[test]
fn bad_records_can_be_routed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, ORDERS);
    let mut drive =
        Drive::new(json_lines::<Order>(path(&dir)).partitions(1).bounded().with_bad_records()).unwrap();
    let bad: Vec<_> = drive.read().unwrap().concat_results();
    assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(bad[0].text, "{\"id\":2}");
    assert_eq!(bad[1].text, "not json");
}

#[test]
fn bad_records_are_told_by_file_and_line_however_files_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut expected, mut texts) = (Vec::new(), [String::from("\u{FEFF}"), String::new()]);
    for (file, text) in texts.iter_mut().enumerate() {
        for line in 1..60u64 {
            let is_bad = (line + file as u64).is_multiple_of(7);
            text.push_str(&if is_bad { format!("bad ö{line}\r\n") } else { format!("{line}\n") });
            if is_bad {
                expected.push((format!("{file}"), line, format!("bad ö{line}")));
            }
        }
        write(dir.path(), &file.to_string(), file as u64, text);
    }
    let told = |bad: Vec<BadRecord>| {
        let name = |file: String| file.rsplit('/').next().unwrap().to_owned();
        let mut told: Vec<_> = bad.into_iter().map(|bad| (name(bad.file), bad.line, bad.text)).collect();
        told.sort();
        told
    };
    for (block, partitions) in [(5, 1), (16, 3), (1000, 2)] {
        let routed = json_lines::<u64>(path(&dir)).partitions(partitions).bounded().block_size(block);
        let bad = Drive::new(routed.with_bad_records()).unwrap().read().unwrap().concat_results();
        assert_eq!(told(bad), expected, "{block}");
        let lines = text_files(path(&dir)).partitions(partitions).bounded().block_size(block);
        let lines = Drive::new(lines).unwrap().read().unwrap().concat();
        let bad = lines.iter().filter(|line| line.parse::<u64>().is_err());
        assert_eq!(told(bad.map(|line| BadRecord::of(line, "no number")).collect()), expected, "{block}");
    }
    let lines = Drive::new(text_files(path(&dir)).bounded()).unwrap().read().unwrap().concat();
    assert!(BadRecord::of(&lines[3], "odd").to_string().ends_with("/0, line 4: odd"));
    std::fs::remove_file(dir.path().join("0")).unwrap();
    assert!(BadRecord::of(&lines[2], "odd").to_string().ends_with("/0: odd"));
    assert_eq!(BadRecord::of(&Text::from("x"), "odd").to_string(), "odd");
}

/// The errors among results.
trait Errors<E> {
    fn concat_results(self) -> Vec<E>;
}

impl<T, E> Errors<E> for Vec<Vec<Result<T, E>>> {
    fn concat_results(self) -> Vec<E> {
        self.into_iter().flatten().filter_map(Result::err).collect()
    }
}

#[test]
fn csv_rows_go_by_their_header_and_may_hold_line_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\u{FEFF}item,id\r\n\"a\r\n,\"\"x\",1\r\nb,2\r\n\r\nc,3";
    let orders = [order(1, "a\r\n,\"x"), order(2, "b"), order(3, "c")];
    write(dir.path(), "a", 0, text);
    for block in [1, 8, 1000] {
        let source = || csv_files::<Order>(path(&dir)).partitions(1).bounded().block_size(block);
        assert_eq!(Drive::new(source()).unwrap().read().unwrap().concat(), orders);
        // One record an epoch, and a new reader for each.
        let mut drive = Drive::new(source()).unwrap();
        for expected in &orders {
            assert_eq!(drive.epoch(Some(1)).unwrap()[0].iter().collect::<Vec<_>>(), [expected], "{block}");
            drive.reopen().unwrap();
        }
    }
    let mut drive =
        Drive::new(csv_files::<(String, String)>(path(&dir)).partitions(1).no_header().delimiter(b';'));
    assert!(drive.as_mut().unwrap().read().is_err());
}

#[test]
fn csv_errors_name_column_and_text_or_column_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let said = |text: &str| {
        write(dir.path(), "a", 0, text);
        let source = csv_files::<Order>(path(&dir)).bounded();
        Drive::new(source).unwrap().read().unwrap_err().to_string()
    };
    let error = said("id,item\n1,a\nmany,b\n");
    assert!(error.contains("line 3: field 1 (`id`): invalid digit found in string: `many`"), "{error}");
    assert!(error.contains("BadRecords::Skip"), "{error}");
    let error = said(&format!("id,item\n{},b\n", "x\t".repeat(500)));
    assert!(error.contains("`x\\tx\\t") && error.contains("…`") && error.len() < 400, "{error}");
    // Each row of the file would be skipped.
    let error = said("id,name\n1,a\n");
    assert!(error.contains("the header has no column `item`, it has `id`, `name`"), "{error}");
    assert!(!error.contains("BadRecords::Skip"), "{error}");
}

#[test]
fn csv_quote_behind_byte_order_mark_opens_field() {
    let dir = tempfile::tempdir().unwrap();
    type Row = (String, u64);
    for (mark, header) in [("", ""), ("\u{FEFF}", ""), ("\u{FEFF}", "\"a\nb\",\"c\"\r\n")] {
        write(dir.path(), "a", 0, format!("{mark}{header}\"two\nlines\",1\n\nx,2\n"));
        for block in [1, 2, 4, 9, 1000] {
            let source = || csv_files::<Row>(path(&dir)).partitions(1).bounded().block_size(block);
            let source = || if header.is_empty() { source().no_header() } else { source() };
            let expected = [("two\nlines".to_owned(), 1), ("x".to_owned(), 2)];
            assert_eq!(Drive::new(source()).unwrap().read().unwrap().concat(), expected, "{mark:?} {block}");
            let mut drive = Drive::new(source()).unwrap();
            for row in &expected {
                assert_eq!(
                    drive.epoch(Some(1)).unwrap().concat(),
                    std::slice::from_ref(row),
                    "{mark:?} {block}"
                );
                drive.reopen().unwrap();
            }
        }
    }
}

#[test]
fn a_bad_csv_row_is_told_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, "id,item\r\n1,\"a\nb\"\r\nx,b\r\n3\r\n4,d\r\n");
    for block in [1, 1000] {
        let source = || csv_files::<Order>(path(&dir)).partitions(1).bounded().block_size(block);
        let error = Drive::new(source()).unwrap().read().unwrap_err();
        assert!(error.to_string().contains("/a, line 4: field 1 (`id`): invalid digit"), "{error}");
        let bad = Drive::new(source().with_bad_records()).unwrap().read().unwrap().concat_results();
        let told: Vec<_> = bad.iter().map(|bad| (bad.line, bad.text.as_str(), bad.reason.as_str())).collect();
        assert_eq!(told[0].0, 4);
        assert_eq!(told[1], (5, "3", "1 fields, where the header has 2"));
    }
}

#[test]
fn blocks_of_text_are_whole_lines_and_leave_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, "one\r\ntwo\nthree");
    let mut drive = Drive::new(text_blocks(path(&dir)).partitions(1).bounded().block_size(5)).unwrap();
    assert_eq!(all(drive.epoch(None).unwrap()), ["one\r\n", "two\nthree"]);
    assert!(drive.ended());
}

proptest! {
    #[test]
    fn however_files_are_cut_every_line_comes_once_and_in_order(
        texts in prop::collection::vec("[aö\r\n]{0,30}", 1..4),
        block in 1u64..12,
        partitions in 1u32..5,
        max in prop::option::of(1u64..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for (file, text) in texts.iter().enumerate() {
            // Numbered lines, so that the order can be seen.
            let text: String = text.split_inclusive('\n').enumerate().map(|(n, l)| format!("{file}{n:02}{l}")).collect();
            expected.extend(text.lines().map(str::to_owned));
            write(dir.path(), &file.to_string(), file as u64, text);
        }
        let source = || text_files(path(&dir)).partitions(partitions).block_size(block).bounded();
        let continuous = strings(Drive::new(source()).unwrap().read().unwrap());
        let mut drive = Drive::new(source()).unwrap();
        let mut epochs = vec![Vec::new(); partitions as usize];
        for _ in 0..200 {
            let epoch = strings(drive.epoch(max).unwrap());
            let count: usize = epoch.iter().map(Vec::len).sum();
            prop_assert!(max.is_none_or(|max| count as u64 <= max));
            epochs.iter_mut().zip(epoch).for_each(|(all, new)| all.extend(new));
            if drive.ended() {
                break;
            }
            drive.reopen().unwrap();
        }
        prop_assert_eq!(&continuous, &epochs);
        for lines in &continuous {
            prop_assert!(lines.is_sorted());
        }
        let mut found = continuous.concat();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn slices_that_are_read_by_rank_come_in_the_order_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    // Long lines leave blocks in which none begins.
    let lines: Vec<String> = (0..60).map(|n| format!("{n}{}", "x".repeat(n % 7 * 4))).collect();
    write(dir.path(), "a", 0, lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    for (partitions, pulls) in [(2, false), (3, false), (2, true), (3, true)] {
        let source = text_files(path(&dir)).partitions(partitions).bounded().block_size(5);
        let mut drive = Drive::new(source).unwrap();
        let mut readers: Vec<_> = drive.readers.drain(..).map(|reader| (reader, false)).collect();
        let mut found = Vec::new();
        // As a worker does: of the slices that have something, one at a time, the first in order.
        while readers.iter().any(|(_, ended)| !ended) {
            readers.sort_by_key(|(reader, _)| reader.rank());
            for (reader, ended) in readers.iter_mut().filter(|(_, ended)| !ended) {
                let before = found.len();
                let poll = if pulls {
                    reader.pull(None, 1_000, |line| found.push(line)).unwrap()
                } else {
                    reader.poll(None, 1_000, &mut found).unwrap()
                };
                *ended = poll == Poll::End;
                if poll == Poll::Ready || found.len() > before {
                    break;
                }
            }
        }
        let found: Vec<&str> = found.iter().map(|line| &**line).collect();
        assert_eq!(found, lines, "{partitions} partitions, {pulls}");
    }
}
