//! What a lossy source of files makes of bytes that are not UTF-8.

use proptest::prelude::*;
use tidemill_operators::{PlanLimits, ProcessingTime, Reader, Source};

use super::tests::{Order, order, path, write};
use super::*;
use crate::Text;
use crate::source::testing::{Drive, starts};

/// Characters of several lengths, and what is none, up to the beginning of one that is cut off.
const PARTS: [&[u8]; 9] =
    [b"a", b"\r", b"\n", b"\n", "ö".as_bytes(), b"\xFF", b"\xE2\x82", b"\xF0\x9F\x98", b"\xC3"];

/// The lines of a file by the book: where each begins, and what it says.
fn naive(bytes: &[u8]) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        lines.push((at, String::from_utf8_lossy(text).into_owned()));
        at += line.len() as u64;
    }
    lines
}

fn placed(lines: &[Text]) -> Vec<(u64, String)> {
    let mut placed: Vec<_> =
        lines.iter().map(|line| (line.place().unwrap().1, line.as_str().to_owned())).collect();
    placed.sort();
    placed
}

proptest! {
    #[test]
    fn lossy_lines_are_alike_however_blocks_are_cut(
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..40),
        block in 1u64..12,
        partitions in 1u32..4,
        max in prop::option::of(1u64..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let bytes = parts.concat();
        write(dir.path(), "a", 0, &bytes);
        let expected = naive(&bytes);
        let source = || text_files(path(&dir)).lossy().partitions(partitions).block_size(block).bounded();
        let read = Drive::new(source()).unwrap().read().unwrap().concat();
        prop_assert_eq!(&placed(&read), &expected);
        // A new reader for each epoch, which knows nothing but the position.
        let mut drive = Drive::new(source()).unwrap();
        let mut read = Vec::new();
        for _ in 0..200 {
            let begin = drive.offsets();
            let epoch = drive.epoch(max).unwrap();
            let mut again = Drive::resume(source(), &begin).unwrap();
            prop_assert_eq!(&again.epoch_until(&drive.offsets()).unwrap(), &epoch);
            read.extend(epoch.concat());
            if drive.ended() {
                break;
            }
            drive.reopen().unwrap();
        }
        prop_assert_eq!(&placed(&read), &expected);
        // Where a call takes a single line, positions lie within pieces.
        let source = source().partitions(1);
        let begin = starts(&source, None).unwrap();
        let look = PlanLimits::new(None, ProcessingTime::from_micros(0));
        source.refresh(&look).unwrap();
        let mut drive = Drive::resume(source, &begin).unwrap();
        let mut read = Vec::new();
        for _ in 0..200 {
            let before = drive.readers[0].offset();
            let mut line = Vec::new();
            drive.readers[0].poll(None, 1, &mut line).unwrap();
            let after = drive.readers[0].offset();
            drive.readers[0].seek(&before).unwrap();
            let mut again = Vec::new();
            drive.readers[0].poll(None, 1, &mut again).unwrap();
            prop_assert_eq!(&again, &line);
            drive.readers[0].seek(&after).unwrap();
            read.extend(line);
        }
        prop_assert_eq!(&placed(&read), &expected);
    }
}

#[test]
fn query_that_failed_for_bad_bytes_resumes_when_lossy() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, b"good\nba\xFF\nlast\n");
    let source = || text_files(path(&dir)).partitions(1).block_size(5);
    let mut drive = Drive::new(source()).unwrap();
    assert_eq!(drive.epoch(Some(1)).unwrap().concat(), ["good"]);
    let stands = drive.offsets();
    assert!(drive.epoch(None).is_err());
    let mut again = Drive::resume(source().lossy(), &stands).unwrap();
    assert_eq!(again.epoch(None).unwrap().concat(), ["ba\u{FFFD}", "last"]);
}

#[test]
fn blocks_and_followed_files_can_be_lossy_too() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", 0, b"\xEF\xBB\xBFone\r\n\xFFtwo\n\xE2\x82");
    let blocks = text_blocks(path(&dir)).lossy().partitions(1).bounded().block_size(8);
    let blocks = Drive::new(blocks).unwrap().read().unwrap().concat();
    assert_eq!(blocks, ["one\r\n", "\u{FFFD}two\n\u{FFFD}"]);
    assert_eq!(blocks[1].slice(3..6).place().unwrap().1, 9);

    let mut drive = Drive::new(text_files(path(&dir)).lossy().partitions(1).follow()).unwrap();
    assert_eq!(drive.read().unwrap().concat(), ["one", "\u{FFFD}two"]);
    drive.reopen().unwrap();
    // The end of the euro sign that had begun.
    std::fs::write(dir.path().join("a"), b"\xEF\xBB\xBFone\r\n\xFFtwo\n\xE2\x82\xAC\n").unwrap();
    assert_eq!(drive.read().unwrap().concat(), ["€"]);
}

#[test]
fn lossy_records_are_located_by_bytes_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "a",
        0,
        b"{\"id\":1,\"item\":\"\xFF\xFF\"}\nbad \xE9\n{\"id\":2,\"item\":\"b\"}\n\xFF\n",
    );
    for block in [1, 9, 1000] {
        let source = || json_lines::<Order>(path(&dir)).lossy().partitions(1).bounded().block_size(block);
        let rows = Drive::new(source().with_bad_records()).unwrap().read().unwrap().concat();
        let (good, bad): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_ok);
        let good: Vec<_> = good.into_iter().flatten().collect();
        assert_eq!(good, [order(1, "\u{FFFD}\u{FFFD}"), order(2, "b")]);
        let bad: Vec<_> = bad.into_iter().filter_map(Result::err).map(|bad| (bad.line, bad.text)).collect();
        assert_eq!(bad, [(2, "bad \u{FFFD}".to_owned()), (4, "\u{FFFD}".to_owned())]);
    }
    let csv = tempfile::tempdir().unwrap();
    write(csv.path(), "a", 0, b"id,item,caf\xE9\r\n1,\"\xFF\n\xFF\",x\r\nno,\xFF,\xFF\r\n2,\xFF,y\r\n");
    for block in [1, 1000] {
        let source = || csv_files::<(u64, String, String)>(path(&csv)).lossy().partitions(1).bounded();
        let mut drive = Drive::new(source().block_size(block).on_bad_record(BadRecords::Skip)).unwrap();
        let mut rows = Vec::new();
        for _ in 0..10 {
            rows.extend(drive.epoch(Some(1)).unwrap().concat());
            if drive.ended() {
                break;
            }
            drive.reopen().unwrap();
        }
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[0].1, "\u{FFFD}\n\u{FFFD}");
        let rows =
            Drive::new(source().block_size(block).with_bad_records()).unwrap().read().unwrap().concat();
        let bad: Vec<_> = rows.into_iter().filter_map(Result::err).map(|bad| bad.line).collect();
        assert_eq!(bad, [4]);
    }
}
