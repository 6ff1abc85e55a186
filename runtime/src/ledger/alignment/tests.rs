#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};

use tidemill_operators::Epoch;
use tidemill_operators::graph::NodeId;

use super::*;
use crate::ledger::{Announced, DomainSpec, Observed, PartitionSpec, Position};

const A: u32 = 1 << 16;
const B: u32 = 2 << 16;
const C: u32 = 3 << 16;

/// How many rows all readers together may be ahead.
const MOST: usize = 300;

fn at(time: i64) -> EventTime {
    EventTime::from_micros(time)
}

fn clock(millis: u64) -> ProcessingTime {
    ProcessingTime::from_micros(millis as i64 * 1_000)
}

fn spec(origins: &[u32], readers: u32, idle_after: Option<Duration>) -> DomainSpec {
    let partition =
        |origin: &u32| PartitionSpec { origin: *origin, readers: (0..readers).collect(), has_ranks: false };
    let partitions = origins.iter().map(partition).collect();
    DomainSpec { sources: vec![NodeId(0)], partitions, idle_after, aligned: Some(0), ..DomainSpec::default() }
}

fn ledger(specs: Vec<DomainSpec>) -> Ledger {
    Ledger::new(specs, &[(NodeId(0), Some(9))], 1, Some(clock(0))).aligned(MOST)
}

/// Nothing is announced here.
enum NoAnnouncement {}

impl Announced for NoAnnouncement {
    fn origin(&self) -> u32 {
        match *self {}
    }
    fn position(&self) -> Position {
        match *self {}
    }
    fn retired(&mut self, _: DomainId) {
        match *self {}
    }
}

/// Rows of a partition justify a watermark. Returns the watermark of the domain, and whether waiting readers are woken.
fn show(ledger: &Ledger, domain: DomainId, origin: u32, time: i64, now: ProcessingTime) -> (EventTime, bool) {
    let observed = Observed {
        worker: 0,
        now,
        shown: &mut vec![(origin, None, at(time))],
        announcements: &mut Vec::<Arc<NoAnnouncement>>::new(),
        everything_came: false,
        has_arrived: &|_| true,
    };
    let advanced = ledger.advance(domain, observed);
    ledger.check_invariant().unwrap();
    (advanced.watermark, advanced.wakes_sources)
}

/// A reader of a partition whose rows are one microsecond apart, and which has a backlog.
struct Reader<'a> {
    ledger: &'a Ledger,
    domain: DomainId,
    origin: u32,
    lead: Lead,
    time: i64,
}

impl<'a> Reader<'a> {
    fn of(ledger: &'a Ledger, domain: DomainId, origin: u32) -> Self {
        Reader { ledger, domain, origin, lead: ledger.lead(origin, 0), time: 0 }
    }

    /// Reads rows, which are observed at once. Returns whether waiting readers are woken.
    fn read(&mut self, rows: usize) -> bool {
        self.time += rows as i64;
        self.lead.took(rows, true);
        show(self.ledger, self.domain, self.origin, self.time, clock(0)).1
    }

    fn waits(&mut self) -> bool {
        self.look(0) != Pause::Reads
    }

    fn look(&mut self, millis: u64) -> Pause {
        self.lead.look(|| clock(millis))
    }
}

#[test]
fn reader_waits_when_its_share_is_ahead_of_watermark() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, mut slow) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    fast.read(1);
    slow.read(1);
    for _ in 0..15 {
        assert!(!fast.waits());
        fast.read(10);
    }
    assert!(!fast.waits(), "no more than its share: half of {MOST}");
    fast.read(1);
    assert!(fast.waits());
    assert!(!slow.waits());
    assert!(slow.read(10), "the fast one is woken");
    assert!(!slow.read(10), "once");
    assert!(!fast.waits());
    fast.read(1_000);
    assert!(fast.waits());
    slow.read(800);
    assert!(fast.waits());
    slow.read(400);
    assert!(!fast.waits());
}

#[test]
fn reader_never_waits_where_it_holds_watermark() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut first, mut second) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    let (mut both, mut steps) = (0, 0);
    let mut random = 1_u64;
    for _ in 0..10_000 {
        let waits = [first.waits(), second.waits()];
        assert_ne!(waits, [true, true]);
        both += usize::from(waits == [false, false]);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (reader, waits) =
            if random >> 63 == 0 { (&mut first, waits[0]) } else { (&mut second, waits[1]) };
        if !waits {
            reader.read(50);
            steps += 1;
        }
        assert!(first.time.abs_diff(second.time) <= 150 + 50, "{} {}", first.time, second.time);
    }
    assert!(both > 1_000 && steps > 5_000 && steps < 10_000, "{both} {steps}");
}

#[test]
fn reader_does_not_wait_for_partition_without_backlog() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, mut silent) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    fast.read(1_000);
    assert!(fast.waits(), "the other one has not looked yet");
    assert!(silent.lead.took(0, false), "the fast one is woken");
    assert!(!fast.waits());
    silent.lead.took(1, true);
    assert!(fast.waits());
}

#[test]
fn reader_without_backlog_does_not_wait() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, _slow) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    fast.read(1_000);
    assert!(fast.waits());
    fast.lead.took(0, false);
    assert!(!fast.waits());
}

#[test]
fn reader_does_not_wait_for_ended_partition() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, mut ended) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    fast.read(1_000);
    assert!(fast.waits());
    ended.lead.took(0, false);
    ledger.partition_ended(NodeId(0), B, Epoch::new(0));
    assert_eq!(show(&ledger, 0, A, fast.time, clock(0)).0, at(1_000));
    assert!(!fast.waits());
    fast.read(1_000);
    assert!(!fast.waits());
}

#[test]
fn reader_reads_on_when_watermark_does_not_move() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, mut slow) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    fast.read(1_000);
    assert_eq!(fast.look(10), Pause::Waits(PATIENCE));
    assert_eq!(fast.look(60), Pause::Waits(PATIENCE - Duration::from_millis(50)));
    assert_eq!(fast.look(210), Pause::Reads);
    fast.read(1_000);
    assert_eq!(fast.look(5_000), Pause::Reads, "until it moves");
    slow.read(1);
    assert_eq!(fast.look(5_001), Pause::Waits(PATIENCE));
}

#[test]
fn domains_that_meet_are_aligned() {
    let others = DomainSpec { aligned: None, ..spec(&[C], 1, None) };
    let ledger = ledger(vec![spec(&[A], 1, None), spec(&[B], 1, None), others]);
    let (mut left, mut right) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 1, B));
    let mut other = Reader::of(&ledger, 2, C);
    right.read(1);
    left.read(1_000);
    other.read(1_000);
    assert!(left.waits());
    assert!(!right.waits());
    assert!(!other.waits());
    right.read(1_000);
    assert!(!left.waits());
}

#[test]
fn partition_of_two_groups_waits_if_ahead_in_both() {
    let second = DomainSpec { aligned: Some(1), ..spec(&[A, C], 1, None) };
    let ledger = ledger(vec![spec(&[A, B], 1, None), second]);
    let mut both = Reader::of(&ledger, 0, A);
    let (mut first, mut second) = (Reader::of(&ledger, 0, B), Reader::of(&ledger, 1, C));
    let shown = |reader: &mut Reader<'_>, rows| {
        reader.read(rows);
        show(&ledger, 1, A, reader.time, clock(0));
    };
    shown(&mut both, 1_000);
    assert!(both.waits());
    first.read(1_000);
    assert!(!both.waits());
    shown(&mut both, 1_000);
    assert!(both.waits());
    second.read(2_000);
    assert!(!both.waits());
}

#[test]
fn readers_of_a_partition_have_shares() {
    let ledger = ledger(vec![spec(&[A, B], 3, None)]);
    let (mut fast, mut slow) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    slow.read(1);
    fast.read(1);
    assert!(!fast.waits());
    fast.read(MOST / 6);
    assert!(!fast.waits());
    fast.read(1);
    assert!(fast.waits());
    // The partition has a backlog as long as one of its readers has.
    slow.lead.took(0, false);
    assert!(fast.waits());
    for _ in 0..2 {
        ledger.lead(B, 0).took(0, false);
    }
    assert!(!fast.waits());
}

#[test]
fn share_counts_rows_that_are_not_observed_yet() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, mut slow) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    slow.read(1);
    fast.read(100);
    assert!(!fast.waits());
    // On their way.
    fast.lead.took(100, true);
    assert!(fast.waits());
}

#[test]
fn waiting_partition_is_not_idle() {
    let idle_after = Duration::from_millis(100);
    let ledger = ledger(vec![spec(&[A, B], 1, Some(idle_after))]);
    let (mut fast, mut slow) = (Reader::of(&ledger, 0, A), Reader::of(&ledger, 0, B));
    slow.read(1);
    fast.read(1_000);
    assert_eq!(fast.look(0), Pause::Waits(PATIENCE));
    ledger.set_waiting(A, true, clock(0));
    // It is waited for, since its next row is as old as this.
    assert_eq!(show(&ledger, 0, B, 5_000, clock(150)).0, at(1_000));
    assert_eq!(fast.look(150), Pause::Reads);
    ledger.set_waiting(A, false, clock(190));
    assert_eq!(show(&ledger, 0, B, 6_000, clock(280)).0, at(1_000), "it has been silent for 90 ms");
    assert_eq!(show(&ledger, 0, B, 7_000, clock(290)).0, at(7_000));
}

#[test]
fn waits_are_noted_before_the_last_look() {
    let ledger = ledger(vec![spec(&[A, B], 1, None)]);
    let (mut fast, slow) = (Reader::of(&ledger, 0, A), RefCell::new(Reader::of(&ledger, 0, B)));
    let woken = Cell::new(false);
    fast.read(1_000);
    // The clock is the last thing that it looks at: what happens from here on wakes it.
    let pause = fast.lead.look(|| {
        woken.set(slow.borrow_mut().read(1_000));
        clock(0)
    });
    assert_ne!(pause, Pause::Reads);
    assert!(woken.get());
}

#[test]
fn nothing_waits_where_it_is_switched_off() {
    let specs = vec![spec(&[A, B], 1, None)];
    let ledger = Ledger::new(specs, &[(NodeId(0), Some(2))], 1, Some(clock(0))).aligned(0);
    let mut fast = Reader::of(&ledger, 0, A);
    fast.read(1_000_000);
    assert!(!fast.waits());
}

#[test]
fn worker_waits_for_earlier_slices_of_sequence() {
    let mut one = spec(&[A], 4, None);
    one.partitions.iter_mut().for_each(|partition| partition.has_ranks = true);
    let ledger = Ledger::new(vec![one], &[(NodeId(0), Some(4))], 2, Some(clock(0))).aligned(MOST);
    let (mut first, mut second) = (ledger.lead(A, 0), ledger.lead(A, 1));
    let look = |lead: &mut Lead| lead.look(|| clock(0)) != Pause::Reads;
    first.reach(0);
    second.reach(1);
    for rank in 1..6 {
        assert!(!look(&mut second));
        second.took(30, true);
        second.reach(rank * 2 + 1);
    }
    assert!(!look(&mut second));
    second.took(1, true);
    assert!(look(&mut second));
    assert!(!look(&mut first));
    assert!(!first.reach(0));
    assert!(first.reach(2), "the second one is woken");
    assert!(look(&mut second), "it has read more than its share after rank 1");
    first.reach(4);
    assert!(!look(&mut second));
    first.reach(u64::MAX);
    assert!(!look(&mut second));
}
