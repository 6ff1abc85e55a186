#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const A: u32 = 1 << 16;
const B: u32 = 2 << 16;

fn at(time: i64) -> EventTime {
    EventTime::from_micros(time)
}

fn clock(seconds: i64) -> ProcessingTime {
    ProcessingTime::from_micros(seconds * 1_000_000)
}

fn plain(origin: u32) -> PartitionSpec {
    PartitionSpec { origin, readers: vec![0], has_ranks: false }
}

fn spec(partitions: Vec<PartitionSpec>, idle_after: Option<u64>) -> DomainSpec {
    let idle_after = idle_after.map(Duration::from_secs);
    DomainSpec { sources: vec![NodeId(0), NodeId(1)], partitions, idle_after, ..DomainSpec::default() }
}

fn of(specs: Vec<DomainSpec>, workers: usize, born: Option<ProcessingTime>) -> Ledger {
    Ledger::new(specs, &[(NodeId(0), Some(1)), (NodeId(1), Some(1))], workers, born)
}

/// Two partitions in micro-batch.
fn batches(idle_after: Option<u64>) -> Ledger {
    of(vec![spec(vec![plain(A), plain(B)], idle_after)], 1, None)
}

/// Ends an epoch of the first domain whose clock is this many seconds.
fn end(ledger: &Ledger, epoch: u64, seconds: i64) -> EventTime {
    end_of(ledger, 0, epoch, seconds, epoch == 0).0
}

/// Ends an epoch of a domain, which all workers have entered.
fn end_of(
    ledger: &Ledger,
    domain: DomainId,
    epoch: u64,
    seconds: i64,
    begins_run: bool,
) -> (EventTime, bool) {
    for number in 0..ledger.domains.len() {
        (0..2).for_each(|worker| ledger.enter(number, worker, Epoch::new(epoch)));
    }
    ledger.end_of_batch(domain, Epoch::new(epoch), &|| (clock(seconds), begins_run)).unwrap()
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

/// Reports what worker 0 has observed, at this many seconds.
fn advance(ledger: &Ledger, seconds: i64, mut shown: Vec<(u32, Option<Position>, EventTime)>) -> Advanced {
    let observed = Observed {
        worker: 0,
        now: clock(seconds),
        shown: &mut shown,
        announcements: &mut Vec::<Arc<NoAnnouncement>>::new(),
        everything_came: false,
        has_arrived: &|_| true,
    };
    let advanced = ledger.advance(0, observed);
    ledger.check_invariant().unwrap();
    advanced
}

#[test]
fn silent_partition_holds_watermark_in_micro_batch() {
    let ledger = batches(None);
    ledger.shown(0, Epoch::new(0), A, at(50));
    ledger.shown(0, Epoch::new(0), B, at(70));
    assert_eq!(end(&ledger, 0, 0), at(50));
    ledger.shown(0, Epoch::new(1), B, at(90));
    assert_eq!(end(&ledger, 1, 1_000_000), at(50));
    ledger.shown(0, Epoch::new(2), A, at(80));
    assert_eq!(end(&ledger, 2, 1_000_001), at(80));
}

#[test]
fn partition_without_records_holds_watermark() {
    let ledger = batches(None);
    ledger.shown(0, Epoch::new(0), A, at(50));
    assert_eq!(end(&ledger, 0, 0), EventTime::MIN);
}

#[test]
fn partition_is_idle_by_clock_of_epochs() {
    let ledger = batches(Some(10));
    ledger.shown(0, Epoch::new(0), A, at(50));
    assert_eq!(end(&ledger, 0, 100), EventTime::MIN, "the other counts from its discovery");
    assert_eq!(ledger.changes_at(0), Some(clock(110)));
    ledger.shown(0, Epoch::new(1), A, at(60));
    assert_eq!(end(&ledger, 1, 109), EventTime::MIN);
    assert_eq!(ledger.changes_at(0), Some(clock(110)));
    assert_eq!(end(&ledger, 2, 110), at(60));
    ledger.shown(0, Epoch::new(3), B, at(20));
    ledger.shown(0, Epoch::new(3), A, at(70));
    assert_eq!(end(&ledger, 3, 111), at(60), "it holds again, and the watermark never decreases");
    assert_eq!(end(&ledger, 4, 121), at(70), "they fell silent together: the greater one counts");
    assert_eq!(ledger.changes_at(0), None);
}

#[test]
fn downtime_makes_no_partition_idle() {
    let mark =
        |origin, is_idle| PartitionMark { origin, rank: 0, shown: at(5), is_idle, seen: Some(clock(0)) };
    let start = [Some((at(5), vec![mark(A, false), mark(B, true)]))];
    let ledger = batches(Some(10)).resume(Epoch::new(7), &start);
    let end = |epoch, seconds, begins_run| end_of(&ledger, 0, epoch, seconds, begins_run);
    assert_eq!(end(7, 9, false), (at(5), false), "a replay decides as the first time");
    ledger.shown(0, Epoch::new(8), B, at(30));
    assert_eq!(end(8, 1_000, true), (at(5), false), "the other one was not idle, and had no reader");
    assert_eq!(end(9, 1_009, false), (at(5), false));
    assert_eq!(end(10, 1_010, false), (at(30), true));
}

#[test]
fn partition_that_was_idle_stays_so_after_restart() {
    let mark = PartitionMark { origin: B, rank: 0, shown: at(5), is_idle: true, seen: Some(clock(0)) };
    let ledger = batches(Some(10)).resume(Epoch::new(7), &[Some((at(5), vec![mark]))]);
    ledger.shown(0, Epoch::new(7), A, at(40));
    assert_eq!(end_of(&ledger, 0, 7, 2, true), (at(40), false));
}

#[test]
fn epoch_keeps_its_watermark_whatever_later_epochs_show() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 1, None);
    for epoch in 0..20 {
        ledger.shown(0, Epoch::new(epoch), A, at(epoch as i64 * 10));
    }
    for epoch in 0..20 {
        assert_eq!(end(&ledger, epoch, 0), at(epoch as i64 * 10));
    }
    assert_eq!(end(&ledger, 3, 0), at(30));
}

#[test]
fn ended_partition_does_not_hold_watermark() {
    let ledger = batches(None);
    ledger.shown(0, Epoch::new(0), A, at(5));
    ledger.shown(0, Epoch::new(0), B, at(9));
    // Read ahead: it ends in an epoch that is not closed yet.
    ledger.partition_ended(NodeId(0), A, Epoch::new(1));
    assert_eq!(end(&ledger, 0, 0), at(5));
    assert_eq!(end(&ledger, 1, 0), at(9));
    ledger.partition_ended(NodeId(1), B, Epoch::new(2));
    assert_eq!(end(&ledger, 2, 0), EventTime::MAX);
}

/// Two partitions of the first source, which gets a third one in the third epoch.
fn grows(partitions: Option<usize>, born: Option<ProcessingTime>) -> Ledger {
    let spec = DomainSpec {
        sources: vec![NodeId(0)],
        counted: vec![NodeId(0)],
        may_grow: partitions.is_none(),
        ..spec(vec![plain(A), plain(B)], Some(60))
    };
    let ledger = Ledger::new(vec![spec], &[(NodeId(0), partitions)], 1, born);
    if born.is_none() {
        assert_eq!(ledger.join(NodeId(0), &[A + 2], Epoch::new(2), None), [0]);
    }
    ledger
}

#[test]
fn partition_that_joins_leaves_earlier_epochs_alone() {
    let ledger = grows(Some(2), None);
    let show = |epoch: u64, shown: &[(u32, i64)]| {
        for (origin, time) in shown {
            ledger.shown(0, Epoch::new(epoch), *origin, at(*time));
        }
    };
    show(0, &[(A, 10), (B, 20)]);
    show(1, &[(A, 30), (B, 40)]);
    show(2, &[(A, 50), (B, 50)]);
    show(3, &[(A + 2, 45)]);
    assert_eq!([0, 1].map(|epoch| end(&ledger, epoch, epoch as i64)), [at(10), at(30)]);
    assert_eq!(
        [2, 3].map(|epoch| end(&ledger, epoch, epoch as i64)),
        [at(30), at(45)],
        "held, then released"
    );
    let known = [1, 2].map(|epoch| ledger.record(0, Epoch::new(epoch), false).1.len());
    assert_eq!(known, [2, 3]);
}

#[test]
fn partition_that_joins_counts_as_silent_from_its_epoch() {
    let ledger = grows(None, None);
    for (epoch, seconds) in [(0, 0), (1, 100), (2, 200), (3, 259), (4, 260)] {
        ledger.shown(0, Epoch::new(epoch), A, at(seconds));
        ledger.shown(0, Epoch::new(epoch), B, at(seconds));
        let held = if epoch == 3 { 100 } else { seconds };
        let wanted = if epoch == 2 { 100 } else { held };
        assert_eq!(end(&ledger, epoch, seconds), at(wanted), "{epoch}");
    }
}

#[test]
fn source_that_grows_ends_with_the_partitions_of_the_epoch() {
    let ended = |partitions| {
        let ledger = grows(partitions, None);
        ledger.shown(0, Epoch::new(0), A, at(10));
        ledger.partition_ended(NodeId(0), A, Epoch::new(1));
        ledger.partition_ended(NodeId(0), B, Epoch::new(1));
        [0, 1].map(|epoch| end(&ledger, epoch, 0))
    };
    assert_eq!(ended(Some(2)), [EventTime::MIN, EventTime::MAX]);
    assert_eq!(ended(None), [EventTime::MIN, at(10)], "it may get more");
}

#[test]
fn partition_that_joins_in_continuous_mode_holds_watermark() {
    let ledger = grows(None, Some(clock(0)));
    let shown = |time| vec![(A, None, at(time)), (B, None, at(time))];
    assert_eq!(advance(&ledger, 0, shown(10)).watermark, at(10));
    ledger.join(NodeId(0), &[A + 2], Epoch::new(2), Some(clock(5)));
    assert_eq!(advance(&ledger, 64, shown(20)).watermark, at(10));
    assert_eq!(advance(&ledger, 64, vec![(A + 2, None, at(15))]).watermark, at(15));
    assert_eq!(ledger.check_invariant(), Ok(()));
}

#[test]
fn replayed_end_counts_in_its_epoch_alone() {
    let ledger = batches(None);
    ledger.shown(0, Epoch::new(0), A, at(5));
    ledger.shown(0, Epoch::new(0), B, at(9));
    ledger.partition_had_ended(NodeId(0), A, Epoch::new(0));
    assert_eq!(end(&ledger, 0, 0), at(9));
    ledger.shown(0, Epoch::new(1), A, at(20));
    ledger.shown(0, Epoch::new(1), B, at(30));
    assert_eq!(end(&ledger, 1, 0), at(20), "the source of the other has more in this run");
    ledger.partition_had_ended(NodeId(0), A, Epoch::new(2));
    ledger.partition_ended(NodeId(1), B, Epoch::new(2));
    assert_eq!(end(&ledger, 2, 0), EventTime::MAX);
}

#[test]
fn replayed_end_of_a_slice_ends_its_sequence_with_the_others() {
    let sequence = PartitionSpec { origin: A, readers: vec![0, 1], has_ranks: true };
    let ledger = of(vec![spec(vec![sequence, plain(B)], None)], 1, None);
    ledger.shown(0, Epoch::new(0), A, at(5));
    ledger.shown(0, Epoch::new(0), B, at(9));
    ledger.partition_had_ended(NodeId(0), A, Epoch::new(0));
    assert_eq!(end(&ledger, 0, 0), at(5));
    ledger.partition_had_ended(NodeId(0), A, Epoch::new(1));
    ledger.partition_ended(NodeId(0), A, Epoch::new(1));
    assert_eq!(end(&ledger, 1, 0), at(9));
}

#[test]
fn idle_stream_does_not_hold_union() {
    let union = DomainSpec { members: vec![0, 1], ..DomainSpec::default() };
    let ledger = of(vec![spec(vec![plain(A)], Some(10)), spec(vec![plain(B)], Some(10)), union], 1, None);
    let end = |epoch, seconds| end_of(&ledger, 2, epoch, seconds, epoch == 0);
    ledger.shown(0, Epoch::new(0), A, at(50));
    assert_eq!(end(0, 0), (EventTime::MIN, false));
    ledger.shown(0, Epoch::new(1), A, at(60));
    assert_eq!(end(1, 10), (at(60), false), "the other never said anything, and counts from its start");
    ledger.shown(1, Epoch::new(2), B, at(20));
    ledger.shown(0, Epoch::new(2), A, at(70));
    assert_eq!(end(2, 11), (at(60), false));
    assert_eq!(end(3, 30), (at(70), true));
    assert_eq!(ledger.dependents(0), [2]);
}

#[test]
fn partition_is_idle_only_when_it_has_been_silent_long_enough() {
    let ledger = of(vec![spec(vec![plain(A), plain(B)], Some(10))], 1, Some(clock(0)));
    let advanced = advance(&ledger, 1, vec![(A, None, at(10))]);
    assert_eq!((advanced.watermark, advanced.look_again), (EventTime::MIN, Some(Duration::from_secs(9))));
    let advanced = advance(&ledger, 10, Vec::new());
    assert_eq!((advanced.watermark, advanced.moved), (at(10), true));
    assert!(advance(&ledger, 11, Vec::new()).fell_idle);
    assert!(ledger.is_idle(0));
    assert_eq!(advance(&ledger, 11, vec![(B, None, at(4))]).watermark, at(10));
    assert_eq!(advance(&ledger, 12, vec![(A, None, at(30))]).watermark, at(10), "it holds the others again");
}

#[test]
fn idle_stream_holds_union_until_its_rows_have_come() {
    let union = DomainSpec { members: vec![0], ..DomainSpec::default() };
    let ledger = of(vec![spec(vec![plain(A)], Some(10)), union], 1, Some(clock(0)));
    advance(&ledger, 1, vec![(A, None, at(10))]);
    assert!(advance(&ledger, 20, Vec::new()).fell_idle);
    for domain in [0, 1] {
        assert!(!ledger.is_idle_by(domain, at(9)), "rows sent under 9 are on their way");
        assert!(ledger.is_idle_by(domain, at(10)));
    }
    advance(&ledger, 21, vec![(A, None, at(30))]);
    assert!(!ledger.is_idle_by(0, at(30)), "it is not idle");
    // Both end: an operator that waits for their rows waits until the frontier has nothing left.
    ledger.partition_ended(NodeId(0), A, Epoch::new(0));
    ledger.partition_ended(NodeId(1), B, Epoch::new(0));
    assert_eq!(advance(&ledger, 22, Vec::new()).watermark, EventTime::MAX);
    assert!(ledger.is_idle(0) && !ledger.is_idle_by(0, at(30)) && ledger.is_idle_by(0, EventTime::MAX));
}

#[test]
fn partition_with_unseen_rows_is_not_idle() {
    let ledger = of(vec![spec(vec![plain(A), plain(B)], Some(10))], 2, Some(clock(0)));
    ledger.announce(0, B, (0, 1));
    assert!(!ledger.is_idle(0));
    assert_eq!(advance(&ledger, 100, vec![(A, None, at(90))]).watermark, EventTime::MIN);
    ledger.retire(0, B, (0, 1));
    assert_eq!(advance(&ledger, 100, vec![(A, None, at(95))]).watermark, at(95));
}

#[test]
fn ended_partition_holds_until_its_rows_have_been_observed() {
    let ledger = of(vec![spec(vec![plain(A), plain(B)], None)], 2, Some(clock(0)));
    ledger.announce(0, B, (0, 1));
    ledger.partition_ended(NodeId(1), B, Epoch::new(0));
    assert_eq!(advance(&ledger, 0, vec![(A, None, at(90))]).watermark, EventTime::MIN);
    ledger.retire(0, B, (0, 1));
    assert_eq!(advance(&ledger, 0, Vec::new()).watermark, at(90));
    ledger.partition_ended(NodeId(0), A, Epoch::new(0));
    assert_eq!(advance(&ledger, 0, Vec::new()).watermark, EventTime::MAX);
}

#[test]
fn rows_behind_an_unseen_batch_do_not_move_watermark() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 2, Some(clock(0)));
    [1, 2, 3].into_iter().for_each(|number| ledger.announce(0, A, (0, number)));
    assert_eq!(advance(&ledger, 0, vec![(A, Some((0, 2)), at(20))]).watermark, EventTime::MIN);
    assert!(!ledger.retire(0, A, (0, 2)));
    assert_eq!(advance(&ledger, 0, vec![(A, Some((0, 1)), at(10))]).watermark, EventTime::MIN);
    assert!(ledger.retire(0, A, (0, 1)));
    assert_eq!(advance(&ledger, 0, Vec::new()).watermark, at(20));
}

#[test]
fn slice_that_is_behind_holds_those_ahead() {
    let sequence = PartitionSpec { origin: A, readers: vec![0, 1], has_ranks: true };
    let ledger = of(vec![spec(vec![sequence], None)], 2, Some(clock(0)));
    // Reader 1 has not been opened. Reader 0 has read blocks 0 and 2.
    for (number, rank) in [(1, 0), (2, 2)] {
        ledger.announce(0, A, (rank, number));
        ledger.reach(0, A, 0, rank + 2);
        advance(&ledger, 0, vec![(A, Some((rank, number)), at(10 * (rank as i64 + 1)))]);
        ledger.retire(0, A, (rank, number));
    }
    assert_eq!(advance(&ledger, 0, Vec::new()).watermark, at(10));
    ledger.announce(0, A, (1, 3));
    assert!(!ledger.reach(0, A, 1, 3), "read, but not observed");
    assert_eq!(advance(&ledger, 0, vec![(A, Some((1, 3)), at(20))]).watermark, at(10));
    assert!(ledger.retire(0, A, (1, 3)));
    assert_eq!(advance(&ledger, 0, Vec::new()).watermark, at(30));
}

#[test]
fn interval_ends_with_least_watermark_of_a_leaving_worker() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 2, Some(clock(0)));
    ledger.leave(0, 0, Epoch::new(0), at(7), Marks::new());
    ledger.leave(0, 1, Epoch::new(0), at(5), Marks::new());
    assert_eq!(ledger.end_of_interval(0, Epoch::new(0)), (at(5), false));
}

#[test]
fn stream_that_ended_later_was_not_idle_in_the_epoch() {
    let derived = DomainSpec { members: vec![0], is_derived: true, ..DomainSpec::default() };
    let ledger = of(vec![spec(vec![plain(A)], None), derived], 1, Some(clock(0)));
    let leave = |domain: DomainId, epoch: u64, watermark: EventTime| {
        ledger.leave(domain, 0, Epoch::new(epoch), watermark, Marks::new());
        ledger.end_of_interval(domain, Epoch::new(epoch))
    };
    advance(&ledger, 0, vec![(A, None, at(50))]);
    assert_eq!(leave(0, 0, at(50)), (at(50), false));
    // Between the look at the watermark and the end of the epoch the stream ends.
    (0..2).for_each(|source| ledger.partition_ended(NodeId(source), A, Epoch::new(2)));
    assert_eq!(advance(&ledger, 1, vec![]).watermark, EventTime::MAX);
    assert_eq!(
        leave(0, 1, at(50)),
        (at(50), false),
        "rows of the next epoch may be older than another stream"
    );
    assert_eq!(leave(1, 1, at(20)), (at(20), false));
    assert_eq!(leave(0, 2, EventTime::MAX), (EventTime::MAX, true));
    assert_eq!(leave(1, 2, EventTime::MAX), (EventTime::MAX, true));
}

#[test]
fn silent_stream_was_idle_in_epochs_that_have_all_its_rows() {
    let derived = DomainSpec { members: vec![0], is_derived: true, ..DomainSpec::default() };
    let ledger = of(vec![spec(vec![plain(A)], Some(10)), derived], 1, Some(clock(0)));
    let leave = |domain: DomainId, epoch: u64, watermark: i64| {
        ledger.leave(domain, 0, Epoch::new(epoch), at(watermark), Marks::new());
        ledger.end_of_interval(domain, Epoch::new(epoch)).1
    };
    advance(&ledger, 0, vec![(A, None, at(50))]);
    assert!(advance(&ledger, 10, vec![]).fell_idle);
    assert!(!leave(0, 0, 40), "what has moved the watermark to 50 is of a later epoch");
    assert!(!leave(1, 0, 10));
    // The derived watermark stays behind, and does not hold others for ever.
    assert!(leave(0, 1, 50));
    assert!(leave(1, 1, 20));
}

#[test]
fn worker_that_has_left_its_last_epoch_keeps_its_watermark() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 2, Some(clock(0)));
    ledger.leave(0, 0, Epoch::new(3), EventTime::MAX, Marks::new());
    for epoch in 3..9 {
        ledger.leave(0, 1, Epoch::new(epoch), at(epoch as i64), Marks::new());
    }
    ledger.forget_before(Epoch::new(7));
    assert_eq!(ledger.end_of_interval(0, Epoch::new(7)).0, at(7));
    assert_eq!(ledger.end_of_interval(0, Epoch::new(20)).0, at(8));
}

#[test]
fn checkpoint_tells_slices_behind_an_unread_one_apart() {
    let sequence = || PartitionSpec { origin: A, readers: vec![0, 1], has_ranks: true };
    let ledger = of(vec![spec(vec![sequence()], None)], 2, Some(clock(0)));
    ledger.reach(0, A, 0, 4);
    ledger.reach(0, A, 1, 1);
    let marks = Marks::from([((A, 0), at(10)), ((A, 2), at(30))]);
    assert_eq!(ledger.leave(0, 0, Epoch::new(0), at(10), marks.clone()), marks);
    ledger.leave(0, 1, Epoch::new(0), at(10), Marks::new());
    let (watermark, marks) = ledger.record(0, Epoch::new(0), true);
    let resumed = of(vec![spec(vec![sequence()], None)], 2, Some(clock(0)))
        .resume(Epoch::new(1), &[Some((watermark, marks))]);
    resumed.reach(0, A, 0, 4);
    resumed.reach(0, A, 1, 1);
    assert_eq!(advance(&resumed, 0, Vec::new()).watermark, at(10), "block 1 is to be read");
    resumed.reach(0, A, 1, 3);
    assert_eq!(advance(&resumed, 0, Vec::new()).watermark, at(30));
}

#[test]
fn slices_read_ahead_count_in_epoch_that_reads_what_is_before() {
    let sequence = || PartitionSpec { origin: A, readers: vec![0, 1], has_ranks: true };
    let mark = |rank, shown| PartitionMark { origin: A, rank, shown: at(shown), is_idle: false, seen: None };
    let start = [Some((at(10), vec![mark(0, 10), mark(2, 30), mark(4, 50)]))];
    let ledger = of(vec![spec(vec![sequence()], None)], 1, None).resume(Epoch::new(1), &start);
    let close = |epoch| end_of(&ledger, 0, epoch, 0, false).0;
    // Both epochs have been read before the first is complete.
    for (epoch, rank) in [(1, 1), (2, 3), (3, 5)] {
        ledger.reach_by(Epoch::new(epoch), A, 0, 6);
        ledger.reach_by(Epoch::new(epoch), A, 1, rank);
    }
    assert_eq!(close(1), at(10), "block 1 is to be read");
    assert_eq!(close(2), at(30));
    let (watermark, marks) = ledger.record(0, Epoch::new(2), false);
    assert_eq!((watermark, marks.len()), (at(30), 2), "{marks:?}");
    assert_eq!(close(3), at(50));
}

#[test]
fn epoch_has_no_end_before_all_workers_are_in_it() {
    let union = DomainSpec { members: vec![0, 1], ..DomainSpec::default() };
    let ledger = of(vec![spec(vec![plain(A)], None), spec(vec![plain(B)], None), union], 2, None);
    let end = |domain, epoch| ledger.end_of_batch(domain, Epoch::new(epoch), &|| (clock(0), false));
    ledger.shown(0, Epoch::new(1), A, at(10));
    for domain in 0..2 {
        assert_eq!(end(domain, 0), Some((EventTime::MIN, false)));
        ledger.enter(domain, 0, Epoch::new(1));
        assert_eq!(end(domain, 1), None);
    }
    ledger.enter(0, 1, Epoch::new(2));
    assert_eq!(end(0, 1), Some((at(10), false)));
    assert_eq!(end(2, 1), None, "one of its inputs has no end yet");
    ledger.enter(1, 1, Epoch::new(1));
    assert_eq!(end(2, 1), Some((EventTime::MIN, false)));
}

#[test]
fn last_epoch_has_no_end_before_all_workers_have_finished() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 2, Some(clock(0)));
    let leaves = |worker, own| ledger.leaves(0, worker, Epoch::new(0), at(own), &|| clock(0));
    assert_eq!(leaves(0, 5), Some(at(5)), "an epoch that is not the last");
    ledger.finish(0, 0);
    assert_eq!((leaves(0, 5), leaves(1, 6)), (None, Some(at(6))));
    advance(&ledger, 0, vec![(A, None, at(70))]);
    ledger.finish(0, 1);
    assert_eq!((leaves(0, 5), leaves(1, 6)), (Some(at(70)), Some(at(70))), "it is the same for all");
    for source in 0..2 {
        ledger.partition_ended(NodeId(source), if source == 0 { A } else { B }, Epoch::new(0));
    }
    assert_eq!(leaves(1, 6), Some(EventTime::MAX));
}

#[test]
fn invariant_check_reports_watermark_beyond_unseen_rows() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 2, Some(clock(0)));
    ledger.announce(0, A, (0, 1));
    ledger.domain(0).unwrap().now = at(50);
    assert!(ledger.check_invariant().unwrap_err().contains("unseen rows"));
}

#[test]
fn worker_ahead_leaves_inputs_of_earlier_epochs_alone() {
    let derived = DomainSpec { members: vec![0], is_derived: true, ..DomainSpec::default() };
    let ledger = of(vec![spec(vec![plain(A)], None), derived], 2, None);
    let ask = |epoch: u64| ledger.end_of_inputs(1, Epoch::new(epoch), &|| (clock(0), false));
    for (epoch, time) in [(0, 10), (1, 20), (2, 30)] {
        ledger.shown(0, Epoch::new(epoch), A, at(time));
        (0..2).for_each(|worker| ledger.enter(0, worker, Epoch::new(epoch)));
        // One worker asks at once.
        assert_eq!(ask(epoch), Some(at(time)));
    }
    // The other one comes later.
    assert_eq!([0, 1, 2].map(ask), [10, 20, 30].map(|time| Some(at(time))));
    ledger.forget_before(Epoch::new(2));
    assert_eq!(ask(2), Some(at(30)));
}

#[test]
fn epoch_that_another_worker_left_is_not_the_last() {
    let ledger = of(vec![spec(vec![plain(A)], None)], 2, Some(clock(0)));
    let leaves = |worker: usize, epoch: u64| ledger.leaves(0, worker, Epoch::new(epoch), at(7), &|| clock(0));
    (0..2).for_each(|worker| ledger.enter(0, worker, Epoch::new(0)));
    // Epoch 0 is the last that has been called when the first worker has observed all.
    ledger.finish(0, 0);
    assert_eq!(leaves(0, 0), None);
    // Epoch 1 is called for another source before the other worker has left epoch 0.
    assert_eq!(leaves(1, 0), Some(at(7)));
    ledger.enter(0, 1, Epoch::new(1));
    assert_eq!(leaves(1, 1), None);
    assert_eq!(leaves(0, 0), Some(at(7)));
    ledger.enter(0, 0, Epoch::new(1));
    assert_eq!(leaves(1, 1), Some(at(7)));
}
