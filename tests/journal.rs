//! Sources that cannot be read again, with a journal: through the whole graph, and over the death of a process.

use std::sync::Arc;
use std::time::Duration;

use tidemill::prelude::*;
use tidemill::{Clock, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source, Waker};
use tidemill_runtime::checkpoint::LocalDirectory;
use tidemill_runtime::journal::{JournalReader, attach};

#[test]
fn journaled_channel_delivers_all_rows_in_both_modes() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let (sender, source) = channel(16);
        let sending = std::thread::spawn(move || (0..20_000u64).for_each(|n| sender.send(n).unwrap()));
        let graph = Graph::new("sum");
        let (sink, table) = memory_sink();
        graph.source(source.journaled().with_buffer(1000)).map(|n| n * 2).sink(sink);
        let summary = graph.run(Options::default().with_mode(mode).with_workers(2)).unwrap();
        sending.join().unwrap();
        assert_eq!(summary.input_rows, 20_000, "{mode:?}");
        assert_eq!(table.snapshot(), (0..20_000).map(|n| n * 2).collect::<Vec<_>>(), "{mode:?}");
    }
}

#[test]
fn available_now_reads_what_was_sent_before_and_stops() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let (sender, source) = channel(64);
        (0..50u64).for_each(|n| sender.send(n).unwrap());
        let graph = Graph::new("now");
        let (sink, table) = memory_sink();
        graph.source(source.journaled().with_buffer(8)).sink(sink);
        graph.run(Options::default().with_mode(mode).with_trigger(Trigger::AvailableNow)).unwrap();
        assert_eq!(table.snapshot(), (0..50).collect::<Vec<_>>(), "{mode:?}");
    }
}

#[test]
fn a_source_that_panics_ends_the_query_with_an_error() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let graph = Graph::new("broken");
        let source = iterate(|| (0..10u64).inspect(|n| assert!(*n < 5, "the sixth is too many")));
        graph.source(source.journaled()).sink(discard().0);
        let error = graph.run(Options::default().with_mode(mode)).unwrap_err().to_string();
        assert!(error.contains("the reader of partition 0 panicked: the sixth is too many"), "{error}");
        assert!(error.contains("tests/journal.rs:"), "{error}");
    }
}

/// What is in a journal on disk from `from` on, and what comes then.
fn read(
    source: &impl Source<Item = String, Offset = u64, Reader = JournalReader<String>>,
    from: u64,
    count: usize,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (ring, woken) = std::sync::mpsc::sync_channel(1);
    let waker = Waker::new(move || {
        let _ = ring.try_send(());
    });
    let clock = Clock::new(|| ProcessingTime::from_micros(0));
    source.prepare(&PrepareContext::default())?;
    let mut reader = source.open(0, &from, ReaderContext::new(waker, clock))?;
    let mut lines = Vec::new();
    while lines.len() < count {
        if reader.poll(None, 1000, &mut lines)? == Poll::Idle && lines.len() < count {
            woken.recv_timeout(Duration::from_secs(20))?;
        }
    }
    assert_eq!(reader.offset(), from + count as u64);
    Ok(lines)
}

#[test]
fn journaled_rows_survive_into_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let storage = || Arc::new(LocalDirectory::open(directory.path()).unwrap());
    let attached = |slot: Option<&tidemill::JournalSlot>| {
        attach(slot.unwrap(), Some(storage()), "lines", Clock::new(|| ProcessingTime::from_micros(0)));
    };
    let (sender, source) = channel::<String>(8);
    let source = source.journaled();
    attached(source.journal());
    for line in ["one", "two", "three"] {
        sender.send(line.to_owned()).unwrap();
    }
    assert_eq!(read(&source, 0, 3).unwrap(), ["one", "two", "three"]);
    drop((sender, source));

    // Another process, and another kind of source under the same uid.
    let listener = socket_listener("127.0.0.1:0").unwrap();
    let address = listener.local_addr();
    let source = listener.journaled();
    attached(source.journal());
    let mut peer = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut peer, b"four\nfive\n").unwrap();
    assert_eq!(read(&source, 1, 4).unwrap(), ["two", "three", "four", "five"]);
    attached(source.journal());
    assert_eq!(
        source.prepare(&PrepareContext::default()).unwrap().start(0),
        Some(&0),
        "nothing was committed"
    );
    assert_eq!(read(&source, 3, 2).unwrap(), ["four", "five"]);
}

/// The end was written once more by every look at a source that had ended before its reader was opened; the next run then
/// took such an end for its own, and read nothing.
#[test]
fn ended_source_ends_once_and_next_run_reads_new_rows() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let storage = Arc::new(tidemill::checkpoint::MemoryStorage::new());
        let sent: [&[u64]; 6] = [&[1], &[2], &[], &[], &[3], &[4, 5]];
        for numbers in sent {
            let (sender, source) = channel(16);
            numbers.iter().for_each(|number| sender.send(*number).unwrap());
            drop(sender);
            let graph = Graph::new("numbers");
            let (sink, table) = memory_sink();
            graph.source(source.journaled()).sink(sink);
            let options = Options::default().with_mode(mode).without_ctrl_c();
            graph.start_in(storage.clone(), options).unwrap().wait().unwrap();
            assert_eq!(table.snapshot(), numbers, "{mode:?}");
        }
    }
}

#[test]
fn bad_journaled_line_is_skipped_after_restart() {
    for mode in [Mode::MicroBatch, Mode::Continuous] {
        let storage = Arc::new(tidemill::checkpoint::MemoryStorage::new());
        let query = |lines: &[&str], bad: BadRecords| {
            let (sender, source) = channel(16);
            lines.iter().for_each(|line| sender.send((*line).to_owned()).unwrap());
            drop(sender);
            let graph = Graph::new("numbers");
            let (sink, table) = memory_sink();
            graph.source(source.journaled().json::<u64>().on_bad_record(bad)).sink(sink);
            let options = Options::default().with_mode(mode).without_ctrl_c();
            (graph.start_in(storage.clone(), options).unwrap().wait(), table.snapshot())
        };
        let error = query(&["1", "two", "3"], BadRecords::Fail).0.unwrap_err().to_string();
        assert!(error.contains("expected ident at column 2, in the line two"), "{error}");
        let (summary, rows) = query(&["4"], BadRecords::Skip);
        assert_eq!(summary.unwrap().skipped_rows, 1, "{mode:?}");
        // The end of what the first run received is in the journal too; and an epoch may have ended before the bad line.
        assert!(rows == [1, 3] || rows == [3], "{mode:?}: {rows:?}");
        assert_eq!(query(&["4"], BadRecords::Skip).1, [4], "{mode:?}");
    }
}
