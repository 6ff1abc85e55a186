//! What a journaled source does as long as nothing breaks, and what it says when its source does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_operators::{
    Graph, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source, SourceError,
    SourceInfo, Waker,
};

use super::{Peer, Rig, Say, attach, attached, clock, limits, oldest};
use crate::checkpoint::{LocalDirectory, MemoryStorage, Storage};
use crate::journal::{Journal, refuse_loss};
use crate::testing::{Break, FaultyStorage};

#[test]
fn without_checkpoint_journal_passes_records_through() {
    let peer = Peer::default();
    let source = peer.clone().journaled();
    peer.rows(0..10);
    peer.say([Say::Skip, Say::End]);
    let mut rig = Rig::open(source, 0).unwrap();
    assert!(!rig.source.is_replayable());
    assert_eq!(rig.source.describe(), "journal of peer");
    assert_eq!(rig.read_to_end().unwrap(), (0..10).collect::<Vec<_>>());
    assert_eq!((rig.reader.offset(), rig.reader.take_skipped()), (11, 1));
    let error = rig.reader.seek(&3).unwrap_err().to_string();
    assert_eq!(error, "journal of peer cannot be read again from 3: it is not replayable");
}

#[test]
fn each_epoch_reads_up_to_the_durable_end_of_journal() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    peer.rows(0..10);
    let source = attached(peer.clone().journaled(), &storage);
    assert!(source.is_replayable());
    source.prepare(&PrepareContext::default()).unwrap();
    source.refresh(&limits()).unwrap();
    assert_eq!(source.latest(0, &0, &limits()).unwrap(), 10);
    assert_eq!(source.latest(0, &0, &PlanLimits::new(Some(4), ProcessingTime::from_micros(0))).unwrap(), 4);
    let mut rig = Rig::open(source, 0).unwrap();
    let mut rows = Vec::new();
    while rig.reader.offset() < 4 {
        assert_eq!(rig.reader.poll(Some(&4), 3, &mut rows).unwrap(), Poll::Ready);
    }
    assert_eq!(rows, [0, 1, 2, 3]);
    assert_eq!(rig.reader.poll(Some(&4), 3, &mut rows).unwrap(), Poll::Idle, "not beyond the limit");
    assert_eq!(rig.read().unwrap().0, [4, 5, 6, 7, 8, 9]);
}

#[test]
fn frozen_source_is_read_to_its_end_with_any_buffer() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let source = attached(peer.clone().journaled().with_buffer(4), &storage);
    source.freeze(ProcessingTime::from_micros(0)).unwrap();
    peer.rows(0..30);
    source.refresh(&limits()).unwrap();
    let mut rig = Rig::open(source, 0).unwrap();
    let mut rows = Vec::new();
    loop {
        // As `available-now` does: it stops at the first plan that finds nothing.
        rig.source.refresh(&limits()).unwrap();
        let end = rig.source.latest(0, &rig.reader.offset(), &limits()).unwrap();
        if end == rig.reader.offset() {
            break;
        }
        while rig.reader.offset() < end {
            rig.reader.poll(Some(&end), 3, &mut rows).unwrap();
        }
    }
    assert_eq!(rows, (0..30).collect::<Vec<_>>());

    peer.rows(30..40);
    rig.source.freeze(ProcessingTime::from_micros(0)).unwrap();
    // Continuous: idle only when everything is there.
    assert_eq!(rig.read().unwrap(), ((30..40).collect(), Poll::Idle));
}

#[test]
fn a_full_buffer_stops_receiving_until_the_graph_has_taken_some() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let source = attached(peer.clone().journaled().with_buffer(3), &storage);
    peer.rows(0..10);
    source.prepare(&PrepareContext::default()).unwrap();
    source.refresh(&limits()).unwrap();
    assert_eq!((source.latest(0, &0, &limits()).unwrap(), peer.left()), (3, 7));
    let mut rig = Rig::open(source, 0).unwrap();
    assert_eq!(rig.read_at_least(10).unwrap(), (0..10).collect::<Vec<_>>());
}

/// A hundred records of 1 MiB, as many at once as are asked for.
struct Large;

struct LargeReader(u64);

impl Source for Large {
    type Item = String;
    type Offset = u64;
    type Reader = LargeReader;

    fn describe(&self) -> String {
        "large".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }
    fn latest(&self, _partition: u32, from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        Ok(*from)
    }
    fn open(&self, _partition: u32, from: &u64, _: ReaderContext) -> Result<LargeReader, SourceError> {
        Ok(LargeReader(*from))
    }
}

impl Reader for LargeReader {
    type Item = String;
    type Offset = u64;

    fn poll(&mut self, _: Option<&u64>, max: usize, out: &mut Vec<String>) -> Result<Poll, SourceError> {
        // The first ones come alone, as those of a source that bounds a poll by bytes.
        let count = if self.0 < 2 { 1 } else { (max as u64).min(100 - self.0) };
        (0..count).for_each(|_| out.push("x".repeat(1 << 20)));
        self.0 += count;
        Ok(if self.0 == 100 { Poll::End } else { Poll::Ready })
    }
    fn offset(&self) -> u64 {
        self.0
    }
    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.0 = *offset;
        Ok(())
    }
}

#[test]
fn large_records_stop_receiving_by_their_bytes() {
    for storage in [None, Some(Arc::new(MemoryStorage::new()) as Arc<dyn Storage>)] {
        let source = Large.journaled();
        attach(source.journal().unwrap(), storage, "large", clock());
        source.prepare(&PrepareContext::default()).unwrap();
        source.refresh(&limits()).unwrap();
        let received = source.latest(0, &0, &limits()).unwrap();
        assert!((8..=10).contains(&received), "{received} MiB");
        let context = ReaderContext::new(Waker::new(|| {}), clock());
        let mut reader = source.open(0, &0, context).unwrap();
        let (mut rows, begun) = (Vec::new(), Instant::now());
        while reader.poll(None, 8, &mut rows).unwrap() != Poll::End {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} rows", rows.len());
            std::thread::yield_now();
        }
        assert_eq!(rows.len(), 100);
    }
}

#[test]
fn end_of_source_is_journaled_and_replayed() {
    let (peer, storage) = (Peer { repeats: true, ..Peer::default() }, MemoryStorage::new());
    peer.rows(0..3);
    peer.say([Say::End]);
    let again = || attached(peer.clone().journaled(), &storage);
    let mut rig = Rig::open(again(), 0).unwrap();
    assert_eq!(rig.read_to_end().unwrap(), [0, 1, 2]);
    assert_eq!((rig.reader.offset(), rig.source.latest(0, &0, &limits()).unwrap()), (4, 4));
    assert_eq!(rig.reader.poll(None, 1, &mut Vec::new()).unwrap(), Poll::End);
    rig.crash();

    let mut rig = Rig::open(again(), 1).unwrap();
    assert_eq!(rig.read_to_end().unwrap(), [1, 2], "an epoch that has seen the end sees it again");
    assert_eq!(rig.reader.offset(), 4);
    rig.crash();

    // That end was committed: this is another run, and it looks what the source has now.
    let mut rig = Rig::open(again(), 4).unwrap();
    assert!(rig.read_to_end().unwrap().is_empty());
    assert!(rig.reader.offset() > 4);
}

#[test]
fn a_reader_goes_to_any_record_that_is_there_and_on_from_it() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let mut rig = Rig::open(attached(peer.clone().journaled().with_segment_size(50), &storage), 0).unwrap();
    for n in 0..20 {
        peer.rows([n]);
        rig.read_at_least(1).unwrap();
    }
    for from in [7, 0, 19, 20, 3] {
        rig.reader.seek(&from).unwrap();
        assert_eq!(rig.reader.offset(), from);
        assert_eq!(rig.read().unwrap().0, (from..20).collect::<Vec<_>>());
    }
    rig.reader.seek(&18).unwrap();
    peer.rows([20, 21]);
    peer.say([Say::End]);
    assert_eq!(rig.read_to_end().unwrap(), [18, 19, 20, 21]);
    rig.reader.seek(&21).unwrap();
    assert_eq!(rig.read_to_end().unwrap(), [21]);
    rig.reader.seek(&23).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((rig.read_to_end().unwrap(), rig.reader.offset()), (vec![], 23));
    assert!(rig.reader.seek(&24).is_err());
}

#[test]
fn committed_records_are_removed_by_file_numbers_are_unique() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(LocalDirectory::open(directory.path()).unwrap());
    let peer = Peer::default();
    let source = || {
        let source = peer.clone().journaled().with_segment_size(100);
        attach(source.journal().unwrap(), Some(open()), "orders/in #2", clock());
        source
    };
    let mut rig = Rig::open(source(), 0).unwrap();
    for n in 0..40 {
        peer.rows([n]);
        rig.read_at_least(1).unwrap();
    }
    let files = || open().list("journal/").unwrap();
    assert!(files().len() > 5, "{:?}", files());
    assert_eq!(files().iter().filter(|name| **name == "journal/orders%2fin%20%232-0-0.log").count(), 1);
    rig.source.committed(0, &20).unwrap();
    let oldest = oldest(&rig.source).unwrap();
    assert!((10..=20).contains(&oldest), "{oldest}");
    rig.commit();
    assert_eq!(files().len(), 1, "{:?}", files());
    rig.crash();
    let mut rig = Rig::open(source(), 40).unwrap();
    peer.rows([40]);
    assert_eq!((rig.read_at_least(1).unwrap(), rig.reader.offset()), (vec![40], 41));
    let told = rig.reader.seek(&0).unwrap_err().to_string();
    assert!(told.contains("and the query resumes at 0"), "{told}");
}

#[test]
fn an_error_of_the_source_comes_behind_the_records_before_it() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let mut rig = Rig::open(attached(peer.clone().journaled(), &storage), 0).unwrap();
    peer.rows(0..3);
    peer.say([Say::Fail("peer closed the connection")]);
    assert_eq!(rig.read_just(3), [0, 1, 2]);
    assert_eq!(rig.error(), "peer closed the connection");
    assert_eq!(rig.error(), "peer closed the connection", "the next poll gets the same error");
    let asked = rig.source.latest(0, &3, &limits());
    assert!(asked.is_err(), "a planner that finds nothing is told as well");
    rig.crash();
    let mut rig = Rig::open(attached(Peer::default().journaled(), &storage), 0).unwrap();
    assert_eq!(rig.read_at_least(3).unwrap(), [0, 1, 2]);
}

#[test]
fn a_panic_of_the_source_is_an_error_and_keeps_what_came_before() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let source = attached(peer.clone().journaled(), &storage);
    peer.rows(0..2000);
    peer.say([Say::Panic]);
    let mut rig = Rig::open(source, 0).unwrap();
    assert_eq!(rig.read_just(1024), (0..1024).collect::<Vec<_>>());
    assert_eq!(rig.error(), "the reader of partition 0 panicked: it was too much");
}

#[test]
fn full_disk_is_error_with_file_and_advice() {
    let peer = Peer::default();
    let storage = FaultyStorage::new(MemoryStorage::new(), 2, Break::DiskFull);
    let mut rig = Rig::open(attached(peer.clone().journaled(), &storage), 0).unwrap();
    peer.rows(0..3);
    let error = rig.error();
    assert!(error.starts_with("cannot append to journal/in-0-0.log: "), "{error}");
    assert!(error.contains("the disk is full; make room"), "{error}");
}

#[test]
fn journal_thread_ends_with_reader_and_second_is_refused() {
    let (peer, storage) = (Peer::default(), MemoryStorage::new());
    let rig = Rig::open(attached(peer.clone().journaled(), &storage), 0).unwrap();
    peer.rows([1]);
    rig.wait();
    let context = tidemill_operators::ReaderContext::new(tidemill_operators::Waker::new(|| ()), clock());
    let error = rig.source.open(0, &0, context).err().unwrap().to_string();
    assert!(error.contains("has a reader already"), "{error}");
    assert!(Arc::strong_count(&peer.alive) > 2, "the source and its reader");
    let Rig { source, reader, .. } = rig;
    drop(reader);
    assert_eq!(Arc::strong_count(&peer.alive), 2, "only the source");

    // The graph is run again, in the same process.
    let mut rig = Rig::open(attached(source, &storage), 0).unwrap();
    peer.rows([2]);
    assert_eq!(rig.read_at_least(2).unwrap(), [1, 2]);
}

#[test]
fn unreplayable_source_is_refused_with_advice() {
    let graph = Graph::new("q");
    graph.source(Peer::default()).sink(tidemill_operators::testing::nowhere());
    let nodes = graph.nodes();
    let error = refuse_loss(&nodes, false).unwrap_err().to_string();
    assert!(error.contains("the records of `peer` cannot be read again"), "{error}");
    assert!(error.contains("behaviour.rs:") && error.contains(".journaled()"), "{error}");
    assert!(error.contains("--allow-loss"), "{error}");
    refuse_loss(&nodes, true).unwrap();

    let graph = Graph::new("q");
    graph.source(Peer::default().journaled()).sink(tidemill_operators::testing::nowhere());
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    super::super::attach_all(&graph.nodes(), Some(&storage), &clock());
    refuse_loss(&graph.nodes(), false).unwrap();
    super::super::attach_all(&graph.nodes(), None, &clock());
    assert!(refuse_loss(&graph.nodes(), false).is_err(), "there is nowhere to keep the journal");
}
