//! Peers that misbehave take neither the query nor the other peers with them.
//!
//! The peers are in a process of their own, so that the memory of this one is that of the query.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidemill::connectors::{BadRecords, channel_sink, socket_listener};
use tidemill::{Graph, Journal, Mode, Options, Run};

use common::{MODES, alone, end, options, wait_until};

const PEERS: usize = 500;

/// For how long the peers run: `TIDEMILL_PEERS_SECONDS`, or 2. With 60 or more, both modes run with and without a journal.
fn seconds() -> u64 {
    std::env::var("TIDEMILL_PEERS_SECONDS").map_or(2, |seconds| seconds.parse().unwrap())
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A process of peers: ended when this is dropped.
struct Peers(Child);

impl Peers {
    /// Starts peers that do what `act` says; returns when all have connected once.
    fn start(act: &str, count: usize, address: SocketAddr) -> Peers {
        // The limits of this process are not meant for the peers; and they are not to take the time of the query.
        let mut child = Command::new("sh")
            .args([
                "-c",
                r#"ulimit -Sn "$(ulimit -Hn)"; exec nice -n 10 "$0" peers --ignored --exact --nocapture"#,
            ])
            .arg(std::env::current_exe().unwrap())
            .env("TIDEMILL_PEERS", format!("{act} {count} {address}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("all have connected")), "the peers have ended");
        Peers(child)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
#[ignore = "the other tests run it as a process of its own"]
fn peers() {
    let Ok(what) = std::env::var("TIDEMILL_PEERS") else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let (act, count, address): (_, usize, SocketAddr) =
        (words[0], words[1].parse().unwrap(), words[2].parse().unwrap());
    let first: Vec<_> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (n, stream) in first.into_iter().enumerate() {
        let act = if act == "abuse" { n % 5 } else { 4 };
        let peer = std::thread::Builder::new().stack_size(128 * 1024);
        peer.spawn(move || misbehave(act, stream, address)).unwrap();
    }
    println!("\nall have connected");
    loop {
        std::thread::park();
    }
}

/// Does one of the five things that peers do wrong, until this process is killed.
fn misbehave(act: usize, mut stream: TcpStream, address: SocketAddr) {
    let garbage: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    loop {
        let sent = match act {
            0 => stream.write_all(&garbage),
            1 => (0..10 << 8)
                .try_for_each(|_| stream.write_all(&[b'x'; 4096]))
                .and_then(|()| stream.write_all(b"\n")),
            2 => stream.write_all(b"y"),
            3 => stream.write_all(b"whole\nhalf"),
            _ => Ok(()),
        };
        if act == 2 || act == 4 {
            std::thread::sleep(Duration::from_secs(1));
        }
        if act == 3 {
            // A reset, not an end.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        if sent.is_err() || act == 3 {
            drop(stream);
            let Ok(again) = TcpStream::connect(address) else { return };
            stream = again;
        }
    }
}

/// One good peer among many that are not: all of its rows arrive, in order, and memory stays bounded.
fn survives(way: Options, journaled: bool) {
    let source = socket_listener("127.0.0.1:0").unwrap();
    let source = source.on_bad_record(BadRecords::Skip);
    let address = source.local_addr();
    let (sink, rows) = crossbeam_channel::unbounded();
    let graph = Graph::new("abused");
    if journaled {
        let lines = graph.source(source.journaled());
        lines.filter(|line| line.starts_with("good ")).sink(channel_sink(sink));
    } else {
        graph.source(source).filter(|line| line.starts_with("good ")).sink(channel_sink(sink));
    }
    let query = graph.start(way).unwrap();
    let mut good = TcpStream::connect(address).unwrap();
    good.write_all(b"good first\n").unwrap();
    assert_eq!(rows.recv_timeout(common::PATIENCE).unwrap(), "good first");
    let before = resident();
    let peers = Peers::start("abuse", PEERS, address);
    let (begun, mut most, mut sent, mut read) = (Instant::now(), before, 0u64, 0u64);
    while begun.elapsed() < Duration::from_secs(seconds()) {
        for _ in 0..20 {
            writeln!(good, "good {sent}").unwrap();
            sent += 1;
        }
        while let Ok(row) = rows.recv_timeout(Duration::from_millis(10)) {
            assert_eq!(row, format!("good {read}"));
            read += 1;
        }
        most = most.max(resident());
        assert!(!query.is_finished(), "{:?}", query.progress());
    }
    while read < sent {
        let row = rows.recv_timeout(common::PATIENCE).unwrap_or_else(|_| panic!("{read} of {sent} rows"));
        assert_eq!(row, format!("good {read}"));
        read += 1;
    }
    most = most.max(resident());
    drop(peers);
    let grown = (most - before) >> 20;
    println!("{sent} rows of the good peer; memory has grown by at most {grown} MiB");
    assert!(grown < 64, "{grown} MiB more than the {} MiB before", before >> 20);
    query.stop();
    end(query, "abused").unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn abusive_peers_leave_good_peer_and_memory_alone() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    survives(options(Mode::MicroBatch, 1).with_checkpoint(directory.path()), true);
    survives(options(Mode::Continuous, 1), false);
    if seconds() >= 60 {
        let directory = tempfile::tempdir().unwrap();
        survives(options(Mode::Continuous, 1).with_checkpoint(directory.path()), true);
        survives(options(Mode::MicroBatch, 1), false);
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "ci/hostile.sh runs it with few file descriptors"]
fn listener_without_descriptors_goes_on() {
    let _alone = alone();
    let limit: u64 = std::env::var("TIDEMILL_DESCRIPTORS").unwrap().parse().unwrap();
    assert!(limit <= 64);
    for mode in MODES {
        let directory = tempfile::tempdir().unwrap();
        let source = socket_listener("127.0.0.1:0").unwrap();
        let address = source.local_addr();
        let (sink, rows) = crossbeam_channel::unbounded();
        let graph = Graph::new("crowded");
        graph.source(source.journaled()).sink(channel_sink(sink));
        let way = options(mode, 1).with_checkpoint(directory.path());
        let query = graph.start(way.with_checkpoint_interval(Duration::from_millis(20))).unwrap();
        let mut good = TcpStream::connect(address).unwrap();
        let exchange = |good: &mut TcpStream, row: &str| {
            writeln!(good, "{row}").unwrap();
            assert_eq!(rows.recv_timeout(common::PATIENCE).unwrap(), row, "{:?}", query.progress());
            let epoch = query.progress().epoch;
            wait_until(&query, "a commit", |query| {
                query.progress().epoch > epoch || mode == Mode::MicroBatch
            });
        };
        exchange(&mut good, "first");
        let peers = Peers::start("idle", 120, address);
        for n in 0..50 {
            exchange(&mut good, &n.to_string());
        }
        drop(peers);
        // Those that could not be accepted before are accepted now.
        let mut late = TcpStream::connect(address).unwrap();
        exchange(&mut late, "late");
        query.stop();
        end(query, "crowded").unwrap();
    }
}
