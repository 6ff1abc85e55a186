//! Bad lines, and peers that send more than the query takes.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidemill_operators::Reader;

use super::memory::QUEUED;
use super::*;
use crate::source::testing::Drive;
use crate::{BadRecords, ParseLines};

fn listening(
    change: impl FnOnce(ListenerSource) -> ListenerSource,
) -> (Drive<ListenerSource>, std::net::SocketAddr) {
    let source = change(socket_listener("127.0.0.1:0").unwrap());
    let address = source.local_addr();
    (Drive::new(source).unwrap(), address)
}

fn skipping(source: ListenerSource) -> ListenerSource {
    source.max_line(40).on_bad_record(BadRecords::Skip)
}

/// Reads until `lines` lines have come and `count` have been skipped; a line may come after the count of a later one.
fn read_skipping(drive: &mut Drive<ListenerSource>, lines: usize, count: u64) -> Vec<String> {
    let (mut read, mut skipped, begun) = (Vec::new(), 0, Instant::now());
    while read.len() < lines || skipped < count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{skipped} of {count} are skipped, with {read:?}");
        read.extend(drive.read().unwrap().concat());
        skipped += drive.readers[0].take_skipped();
        std::thread::yield_now();
    }
    assert_eq!(skipped, count);
    read
}

#[test]
fn half_line_of_peer_that_died_fails_and_is_no_record() {
    let (mut drive, address) = listening(|source| source);
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"whole\n{\"half\":").unwrap();
    let place = format!("{}, byte 6", peer.local_addr().unwrap());
    drop(peer);
    let (mut lines, mut failed) = (Vec::new(), None);
    while failed.is_none() {
        failed = drive.readers[0].poll(None, 1, &mut lines).err();
        std::thread::yield_now();
    }
    assert_eq!(lines, ["whole"]);
    let error = failed.unwrap().to_string();
    for part in [&*place, "before the line did, after 8 bytes of it", "BadRecords::Skip"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn bad_lines_are_skipped_and_the_next_ones_count() {
    let (mut drive, address) = listening(skipping);
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"a\nba\xffd\nb\n").unwrap();
    peer.write_all(&[b'x'; 41]).unwrap();
    // Begins in one read and continues in others; then one that comes in one piece.
    assert_eq!(read_skipping(&mut drive, 2, 2), ["a", "b"]);
    peer.write_all(&[b'y'; 100_000]).unwrap();
    peer.write_all(format!("\nc\n{}\nd\n{}\r\nhalf", "z".repeat(41), "w".repeat(40)).as_bytes()).unwrap();
    drop(peer);
    assert_eq!(read_skipping(&mut drive, 3, 2), ["c", "d", &*"w".repeat(40)]);
}

#[test]
fn json_choice_for_bad_records_counts_for_half_lines() {
    let source = socket_listener("127.0.0.1:0").unwrap();
    let address = source.local_addr();
    let mut drive = Drive::new(source.json::<u64>().on_bad_record(BadRecords::Skip)).unwrap();
    TcpStream::connect(address).unwrap().write_all(b"1\n[\n2\n{").unwrap();
    let begun = Instant::now();
    let (mut rows, mut skipped) = (Vec::new(), 0);
    while rows.len() < 2 || skipped < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{skipped} skipped, with {rows:?}");
        rows.extend(drive.read().unwrap().concat());
        skipped += drive.readers[0].take_skipped();
    }
    assert_eq!((rows, skipped), (vec![1, 2], 2));
}

#[test]
fn greedy_peers_fill_no_more_than_the_pool_and_lose_nothing() {
    const PEERS: usize = 4;
    const LINES: usize = 24;
    let (mut drive, address) = listening(|source| source);
    let line = format!("{}\n", "g".repeat(1 << 20));
    let greedy: Vec<_> = (0..PEERS)
        .map(|_| {
            let (mut peer, line) = (TcpStream::connect(address).unwrap(), line.clone());
            std::thread::spawn(move || (0..LINES).for_each(|_| peer.write_all(line.as_bytes()).unwrap()))
        })
        .collect();
    let memory = Arc::clone(&drive.readers[0].connection.stopper.memory);
    let begun = Instant::now();
    let until = |is_true: &dyn Fn() -> bool| {
        while !is_true() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}, {}", memory.used(), memory.waiting());
            std::thread::yield_now();
        }
    };
    // The pool is full; one that has sent nothing goes before the others.
    until(&|| memory.waiting() == PEERS);
    let (full, _) = memory.used();
    assert!(full >= QUEUED - (2 << 20), "{full} bytes");
    let mut modest = TcpStream::connect(address).unwrap();
    modest.write_all(b"modest\n").unwrap();
    // Its line has arrived before any other is read.
    until(&|| memory.waiting() > PEERS || memory.used().0 > full);
    let (mut greedy_lines, mut before_modest, mut out) = (0, None, Vec::new());
    while greedy_lines < PEERS * LINES || before_modest.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{greedy_lines} lines");
        let (queued, long) = memory.used();
        assert!(queued <= QUEUED + (3 << 20) && long <= 8 << 20, "{queued} and {long} bytes");
        drive.readers[0].poll(None, 1024, &mut out).unwrap();
        let bytes: usize = out.iter().map(String::len).sum();
        assert!(bytes <= POLL_BYTES + (1 << 20), "{bytes} bytes at once");
        for line in out.drain(..) {
            match line.as_str() {
                "modest" => before_modest = Some(greedy_lines),
                line => greedy_lines += usize::from(line.len() == 1 << 20),
            }
        }
    }
    assert_eq!(greedy_lines, PEERS * LINES);
    assert!(before_modest.unwrap() < PEERS * LINES / 2, "{before_modest:?} greedy lines came first");
    greedy.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn planned_epochs_read_lines_that_are_longer_than_the_pool() {
    let (mut drive, address) = listening(|source| source.max_line(8 << 20));
    let sending = std::thread::spawn(move || {
        let mut peer = TcpStream::connect(address).unwrap();
        for _ in 0..3 {
            peer.write_all(b"short\n").unwrap();
            peer.write_all(&vec![b'l'; QUEUED + 1]).unwrap();
            peer.write_all(b"\n").unwrap();
        }
    });
    let (mut lengths, begun) = (Vec::new(), Instant::now());
    while lengths.len() < 6 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{lengths:?}");
        lengths.extend(drive.epoch(None).unwrap().concat().iter().map(String::len));
        std::thread::yield_now();
    }
    assert_eq!(lengths, [5, QUEUED + 1].repeat(3));
    sending.join().unwrap();
}

#[test]
fn stalled_long_line_is_given_up_once_others_wait() {
    // On a busy machine, bytes of the good peer may be on their way for longer than some milliseconds.
    let patience = Duration::from_secs(1);
    let (mut drive, address) =
        listening(|source| skipping(source.with_patience(patience)).max_line(14 << 20));
    let stalled: Vec<_> = (0..3)
        .map(|_| {
            let mut peer = TcpStream::connect(address).unwrap();
            peer.write_all(&vec![b's'; 3 << 19]).unwrap();
            peer
        })
        .collect();
    let mut good = TcpStream::connect(address).unwrap();
    let sending = std::thread::spawn(move || {
        good.write_all(&vec![b'g'; 4 << 20]).unwrap();
        good.write_all(b"\n").unwrap();
        good
    });
    let lines = drive.read_at_least(1).unwrap();
    assert_eq!((lines.len(), lines[0].len(), lines[0].starts_with('g')), (1, 4 << 20, true));
    assert!(drive.readers[0].take_skipped() >= 1);
    drop((sending.join().unwrap(), stalled));
}
