//! Timers of either form.

use super::*;
use crate::{SnapshotReader, hash_key};

/// Timers in lists, and timers in a table.
fn forms() -> [Timers<u32>; 2] {
    let (listed, mut keyed) = (Timers::new(), Timers::new());
    keyed.in_table();
    [listed, keyed]
}

fn is_listed(timers: &Timers<u32>) -> bool {
    timers.listed.is_some()
}

fn fire(timers: &mut Timers<u32>, watermark: i64) -> Vec<(i64, u32)> {
    let mut fired = vec![];
    while let Some((time, _, key)) = timers.next_event(EventTime::from_micros(watermark)) {
        fired.push((time.as_micros(), key));
    }
    fired
}

fn set(timers: &mut Timers<u32>, key: u32, time: i64) {
    timers.set_event(HashedKey::of(&key), EventTime::from_micros(time));
}

#[test]
fn timer_that_is_set_twice_fires_once() {
    for mut timers in forms() {
        (0..3).for_each(|_| set(&mut timers, 7, 5));
        assert_eq!((timers.len(), fire(&mut timers, 5)), (1, vec![(5, 7)]));
        assert!(timers.is_empty() && fire(&mut timers, 9).is_empty());
    }
}

#[test]
fn timer_at_or_before_watermark_fires_at_next_advance() {
    for mut timers in forms() {
        assert!(fire(&mut timers, 10).is_empty());
        [10, 3, 11].into_iter().for_each(|time| set(&mut timers, 1, time));
        assert_eq!(fire(&mut timers, 10), [(3, 1), (10, 1)]);
        assert_eq!(fire(&mut timers, 11), [(11, 1)]);
    }
}

#[test]
fn timers_at_one_time_fire_by_hash() {
    for mut timers in forms() {
        (0..100).for_each(|key| set(&mut timers, key, i64::from(key) % 2));
        let fired = fire(&mut timers, 1);
        assert!(fired.is_sorted_by_key(|(time, key)| (*time, hash_key(key))) && fired.len() == 100);
    }
}

#[test]
fn periodic_timer_fires_for_each_period_of_an_advance() {
    for mut timers in forms() {
        set(&mut timers, 1, 10);
        set(&mut timers, 2, 25);
        let mut fired = vec![];
        while let Some((time, hash, key)) = timers.next_event(EventTime::from_micros(40)) {
            fired.push((time.as_micros(), key));
            if key == 1 {
                timers
                    .set_event(HashedKey { hash, key: &key }, EventTime::from_micros(time.as_micros() + 10));
            }
        }
        assert_eq!(fired, [(10, 1), (20, 1), (25, 2), (30, 1), (40, 1)]);
        assert_eq!(
            timers.of(HashedKey::of(&1)).collect::<Vec<_>>(),
            [Timer::Event(EventTime::from_micros(50))]
        );
    }
}

#[test]
fn timer_set_behind_the_one_that_fires_waits_for_next_advance() {
    for mut timers in forms() {
        set(&mut timers, 1, 10);
        let mut fired = vec![];
        while let Some((time, hash, key)) = timers.next_event(EventTime::from_micros(20)) {
            fired.push(time.as_micros());
            let key = HashedKey { hash, key: &key };
            timers.set_event(key, time);
            timers.set_event(key, EventTime::from_micros(4));
        }
        assert_eq!((fired, fire(&mut timers, 20)), (vec![10], vec![(4, 1), (10, 1)]));
    }
}

#[test]
fn timer_deleted_and_set_again_fires_once_in_an_advance() {
    for mut timers in forms() {
        for _ in 0..3 {
            set(&mut timers, 1, 10);
            assert!(timers.delete_event(HashedKey::of(&1), EventTime::from_micros(10)));
        }
        set(&mut timers, 1, 10);
        let mut fired = 0;
        while let Some((time, hash, key)) = timers.next_event(EventTime::from_micros(20)) {
            fired += 1;
            timers.set_event(HashedKey { hash, key: &key }, time);
        }
        assert_eq!((fired, timers.len(), fire(&mut timers, 20)), (1, 1, vec![(10, 1)]));
    }
}

#[test]
fn periodic_timers_end_while_closing_and_are_counted() {
    for mut timers in forms() {
        set(&mut timers, 1, 10);
        set(&mut timers, 2, i64::MAX);
        timers.closing(true);
        while let Some((time, hash, key)) = timers.next_event(EventTime::MAX) {
            let key = HashedKey { hash, key: &key };
            timers.set_event(key, EventTime::from_micros(time.as_micros().saturating_add(10)));
            timers.set_processing(key, ProcessingTime::from_micros(1));
        }
        assert_eq!((timers.take_dropped(), timers.take_dropped(), timers.len()), (4, 0, 0));
        timers.closing(false);
        set(&mut timers, 1, 10);
        assert_eq!((timers.len(), timers.take_dropped()), (1, 0));
    }
}

#[test]
fn pending_processing_timers_can_be_dropped_alone() {
    let mut timers = Timers::new();
    for key in 0..5u32 {
        timers.set_processing(HashedKey::of(&key), ProcessingTime::from_micros(i64::from(key)));
        set(&mut timers, key, 1);
    }
    timers.delete_processing(HashedKey::of(&3), ProcessingTime::from_micros(3));
    timers.drop_processing();
    assert_eq!((timers.take_dropped(), timers.len()), (4, 5));
    assert_eq!(
        (timers.earliest_processing(), timers.next_processing(ProcessingTime::from_micros(99))),
        (None, None)
    );
    assert_eq!(fire(&mut timers, 1).len(), 5);
}

#[test]
fn earliest_processing_timer_is_one_that_is_set() {
    let mut timers = Timers::<u32>::new();
    let key = HashedKey::of(&1);
    [30, 10, 20].into_iter().for_each(|time| timers.set_processing(key, ProcessingTime::from_micros(time)));
    assert_eq!(timers.earliest_processing(), Some(ProcessingTime::from_micros(10)));
    assert!(timers.delete_processing(key, ProcessingTime::from_micros(10)));
    assert!(!timers.delete_processing(key, ProcessingTime::from_micros(10)));
    assert_eq!(timers.earliest_processing(), Some(ProcessingTime::from_micros(20)));
}

#[test]
fn timers_that_move_on_with_each_record_take_no_memory() {
    let mut timers = Timers::<u32>::new();
    for time in 0..50_000i64 {
        let key = time as u32 % 10;
        let key = HashedKey::of(&key);
        timers.delete_event(key, EventTime::from_micros(time + 1_000_000 - 10));
        timers.set_event(key, EventTime::from_micros(time + 1_000_000));
        timers.delete_processing(key, ProcessingTime::from_micros(time + 1_000_000 - 10));
        timers.set_processing(key, ProcessingTime::from_micros(time + 1_000_000));
    }
    assert_eq!(timers.len(), 20);
    assert!(timers.keyed.indexed() < 3_000);
    assert_eq!(fire(&mut timers, i64::MAX).len(), 10);
}

#[test]
fn timer_held_back_stays_so_while_many_are_deleted() {
    let mut timers = Timers::<u32>::new();
    set(&mut timers, 1, 10);
    let (time, hash, key) = timers.next_event(EventTime::from_micros(20)).unwrap();
    timers.set_event(HashedKey { hash, key: &key }, time);
    for later in 100..10_000 {
        set(&mut timers, 2, later);
        timers.delete_event(HashedKey::of(&2), EventTime::from_micros(later));
    }
    assert_eq!(timers.next_event(EventTime::from_micros(20)), None);
    assert_eq!(fire(&mut timers, 20), [(10, 1)]);
}

fn snapshot(timers: &mut Timers<u32>) -> Vec<Vec<u8>> {
    let mut writer = SnapshotWriter::new();
    Store::snapshot(timers, "timers", &mut writer).unwrap();
    writer.into_groups().map(|(_, bytes)| bytes).collect()
}

fn changes(written: &[Vec<u8>]) -> usize {
    let mut readers: Vec<_> = written.iter().map(|bytes| SnapshotReader::new(bytes)).collect();
    let each = readers.iter_mut();
    each.map(|reader| std::iter::from_fn(|| reader.next_change().unwrap()).count()).sum()
}

fn restored(chain: &[Vec<u8>]) -> Timers<u32> {
    let mut timers = Timers::new();
    Store::track(&mut timers);
    for bytes in chain {
        let mut reader = SnapshotReader::new(bytes);
        while let Some(change) = reader.next_change().unwrap() {
            Store::restore(&mut timers, change).unwrap();
        }
    }
    timers
}

#[test]
fn timers_are_listed_until_a_key_is_asked_for() {
    let mut timers = Timers::new();
    (0..100).for_each(|key| set(&mut timers, key, i64::from(key)));
    assert!(fire(&mut timers, 9).len() == 10 && is_listed(&timers));
    let of_key: Vec<_> = timers.of(HashedKey::of(&10)).collect();
    assert_eq!(of_key, [Timer::Event(EventTime::from_micros(10))]);
    assert_eq!(timers.next_event(EventTime::from_micros(10)).map(|timer| timer.2), Some(10));
    assert!(!is_listed(&timers));
    assert_eq!(fire(&mut timers, 99), (11..100).map(|key| (i64::from(key), key)).collect::<Vec<_>>());
}

#[test]
fn timer_deleted_while_others_fire_does_not_fire() {
    for mut timers in forms() {
        (0..1_000).for_each(|key| set(&mut timers, key, i64::from(key)));
        let mut fired = vec![];
        while let Some((time, hash, key)) = timers.next_event(EventTime::from_micros(500)) {
            fired.push((time.as_micros(), key));
            if key == 3 {
                timers.set_event(HashedKey { hash, key: &key }, time);
                set(&mut timers, 7, 4);
                assert!(timers.delete_event(HashedKey::of(&5), EventTime::from_micros(5)));
                assert!(timers.delete_event(HashedKey::of(&900), EventTime::from_micros(900)));
            }
        }
        assert!(fired.is_sorted_by_key(|timer| timer.0));
        fired.sort_unstable();
        let mut expected: Vec<_> =
            (0..=500).filter(|key| *key != 5).map(|key| (i64::from(key), key)).collect();
        expected.insert(5, (4, 7));
        assert_eq!(fired, expected);
        assert_eq!(fire(&mut timers, 500), [(3, 3)]);
        assert_eq!(timers.len(), 498);
    }
}

#[test]
fn timers_set_many_times_move_to_a_table() {
    let mut timers = Timers::new();
    for row in 0..100_000u32 {
        set(&mut timers, row % 50, 1_000);
    }
    assert!(!is_listed(&timers));
    assert_eq!((timers.len(), fire(&mut timers, 1_000).len()), (50, 50));

    let mut timers = Timers::new();
    for row in 0..100_000u32 {
        set(&mut timers, row % 75_000, 1_000);
    }
    assert!(is_listed(&timers));
    assert_eq!((timers.len(), fire(&mut timers, 1_000).len()), (75_000, 75_000));
}

#[test]
fn snapshots_of_listed_timers_hold_what_is_set() {
    let mut timers = Timers::new();
    Store::track(&mut timers);
    (0..1_000).for_each(|key| set(&mut timers, key, i64::from(key) / 10));
    timers.set_processing(HashedKey::of(&1), ProcessingTime::from_micros(3));
    assert_eq!(fire(&mut timers, 9).len(), 100);
    let mut chain = snapshot(&mut timers);
    assert_eq!(changes(&chain), 901);

    // A copy of a saved timer, one that has fired and is set again, one that a snapshot never holds.
    set(&mut timers, 500, 50);
    assert_eq!(fire(&mut timers, 19).len(), 100);
    set(&mut timers, 150, 15);
    set(&mut timers, 1, 20);
    assert_eq!(fire(&mut timers, 20).len(), 12);
    let second = snapshot(&mut timers);
    // 110 are gone.
    assert_eq!(changes(&second), 111);
    chain.extend(second);
    assert_eq!(changes(&snapshot(&mut timers)), 0);
    assert_eq!(fire(&mut timers, 50).len(), 300);
    chain.extend(snapshot(&mut timers));
    assert!(is_listed(&timers));

    let mut back = restored(&chain);
    assert_eq!((back.len(), changes(&snapshot(&mut back))), (491, 0));
    assert_eq!(back.next_processing(ProcessingTime::from_micros(3)).map(|timer| timer.2), Some(1));
    assert!(is_listed(&back));
    assert_eq!(fire(&mut back, i64::MAX), fire(&mut timers, i64::MAX));
    assert_eq!(changes(&snapshot(&mut back)), 491);
}

#[test]
fn list_of_changes_is_short_where_timers_fire_at_once() {
    let mut timers = Timers::new();
    Store::track(&mut timers);
    for time in 0..50_000 {
        set(&mut timers, 1, time);
        fire(&mut timers, time);
    }
    assert!(Store::unsaved(&timers) < 3_000);
    assert_eq!(changes(&snapshot(&mut timers)), 0);
}
