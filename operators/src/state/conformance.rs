//! The rules that Spark's windows follow, as tests; and that size and distance change nothing.

use std::time::Duration;

use super::{GroupState, Intake, PaneState, SessionState, Windowing};
use crate::aggregate::Count;
use crate::assigners::SessionWindow;
use crate::{EventTime, Key, hash_key, session, session_by, sliding, tumbling};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The counts of all windows when all have closed, as `(start, end, count)` in microseconds.
fn counts<V: 'static, W: Windowing<V>>(windowing: &W, records: Vec<(i64, V)>) -> Vec<(i64, i64, u64)> {
    let mut state = windowing.state::<u64, Count<V>, ()>();
    for (time, value) in &records {
        state.add(&Count::new(), hash_key(&0u64), &0, EventTime::from_micros(*time), value);
    }
    let mut closed = vec![];
    state.close(&Count::new(), EventTime::MAX, &mut |_, window, count| {
        closed.push((window.start.as_micros(), window.end.as_micros(), count));
    });
    closed
}

fn at<const N: usize>(times: [i64; N]) -> Vec<(i64, ())> {
    times.map(|time| (time, ())).to_vec()
}

#[test]
fn windows_of_12_minutes_every_5_from_minute_2_hold_12_05_twice() {
    let minute = 60_000_000;
    let windows = sliding(secs(720), secs(300)).offset(secs(120));
    let expected = [(717, 729), (722, 734)].map(|(start, end)| (start * minute, end * minute, 1));
    assert_eq!(counts(&windows, at([725 * minute])), expected);
}

#[test]
fn a_second_before_1970_is_in_the_ten_seconds_before_1970() {
    let windows = sliding(secs(10), secs(10));
    assert_eq!(counts(&windows, at([-1_000_000])), [(-10_000_000, 0, 1)]);
}

#[test]
fn record_at_window_end_belongs_to_next_window() {
    let windows = tumbling(Duration::from_micros(10));
    assert_eq!(counts(&windows, at([9, 10])), [(0, 10, 1), (10, 20, 1)]);
    assert_eq!(windows.window_of(EventTime::from_micros(9)).last_instant(), EventTime::from_micros(9));
}

#[test]
fn records_at_gap_join_and_a_microsecond_more_split_session() {
    let sessions = session(Duration::from_micros(10));
    assert_eq!(counts(&sessions, at([0, 10])), [(0, 20, 2)]);
    assert_eq!(counts(&sessions, at([0, 11])), [(0, 10, 1), (11, 21, 1)]);
}

#[test]
fn a_record_between_two_sessions_makes_them_one() {
    let sessions = session(Duration::from_micros(10));
    assert_eq!(counts(&sessions, at([0, 20, 10])), [(0, 30, 3)]);
}

#[test]
fn a_session_ends_where_the_longest_gap_of_its_records_does() {
    let sessions = session_by(|gap: &u64| Duration::from_micros(*gap));
    assert_eq!(counts(&sessions, vec![(0, 10), (1, 1), (9, 1)]), [(0, 10, 3)]);
}

/// Spark drops such a record; here no record is lost.
#[test]
fn a_record_without_a_gap_is_a_session_of_a_microsecond() {
    let sessions = session_by(|gap: &u64| Duration::from_micros(*gap));
    assert_eq!(counts(&sessions, vec![(5, 0)]), [(5, 6, 1)]);
}

#[test]
fn a_session_that_grows_for_long_keeps_one_timer() {
    let mut state: SessionState<u64, Count<()>, (), SessionWindow> =
        session(Duration::from_micros(10)).state();
    for time in 0..10_000 {
        state.add(&Count::new(), hash_key(&0u64), &0, EventTime::from_micros(time), &());
        state.close(&Count::new(), EventTime::from_micros(time - 5), &mut |_, _, _| {
            panic!("the session is still open")
        });
        assert!(state.timers() <= 1);
    }
    assert_eq!(state.len(), 1);
}

#[test]
fn a_key_has_one_timer_however_many_sessions() {
    let mut state: SessionState<u64, Count<()>, (), SessionWindow> =
        session(Duration::from_micros(10)).state();
    for number in 0..1_000 {
        state.add(&Count::new(), hash_key(&0u64), &0, EventTime::from_micros(number * 20), &());
    }
    assert_eq!((state.len(), state.timers()), (1_000, 1));
    for number in 0..1_000 {
        let mut closed = vec![];
        state.close(&Count::new(), EventTime::from_micros(number * 20 + 9), &mut |_, window, _| {
            closed.push(window)
        });
        assert!(closed.is_empty());
        state.close(&Count::new(), EventTime::from_micros(number * 20 + 10), &mut |_, window, _| {
            closed.push(window)
        });
        assert_eq!(closed.iter().map(|window| window.start.as_micros()).collect::<Vec<_>>(), [number * 20]);
        assert!(state.timers() <= 1);
    }
    assert_eq!((state.len(), state.timers()), (0, 0));
}

#[test]
fn sessions_close_in_order_of_their_ends() {
    let mut state: SessionState<u64, Count<()>, (), SessionWindow> =
        session(Duration::from_micros(10)).state();
    for number in (0..1_000).rev() {
        let key = number % 7;
        state.add(&Count::new(), hash_key(&key), &key, EventTime::from_micros(3 * number.cast_signed()), &());
    }
    let mut ends = vec![];
    for watermark in [10, 11, 500, 2_000, i64::MAX] {
        state.close(&Count::new(), EventTime::from_micros(watermark), &mut |_, window, _| {
            assert!(window.end.as_micros() <= watermark);
            ends.push(window.end.as_micros());
        });
        assert_eq!(ends.len(), (0..1_000).filter(|number| 3 * number + 10 <= watermark).count());
    }
    assert!(ends.is_sorted());
    assert_eq!((state.len(), state.timers()), (0, 0));
}

/// Closes sessions of many keys in steps, and gives those of each step as `(end, hash, start, count)`.
fn closed_in_steps<K: Key + ToOwned<Owned = K>>(
    key: impl Fn(u64) -> K,
    times: &[(u64, i64)],
    step: i64,
) -> Vec<Vec<(i64, u64, i64, u64)>> {
    let mut state: SessionState<K, Count<()>, (), SessionWindow> =
        session(Duration::from_micros(100)).state();
    let mut steps = vec![];
    let mut close = |state: &mut SessionState<K, Count<()>, (), SessionWindow>, watermark| {
        let mut closed = vec![];
        state.close(&Count::new(), EventTime::from_micros(watermark), &mut |key, window, count| {
            closed.push((window.end.as_micros(), hash_key(&key), window.start.as_micros(), count));
        });
        assert!(state.timers() <= state.len());
        steps.push(closed);
    };
    let mut watermark = 0;
    for (number, time) in times {
        if *time > watermark + step {
            watermark = *time - 1;
            close(&mut state, watermark);
        }
        let key = key(*number);
        state.add(&Count::new(), hash_key(&key), &key, EventTime::from_micros(*time), &());
    }
    close(&mut state, i64::MAX);
    assert_eq!((state.len(), state.timers()), (0, 0));
    steps
}

#[test]
fn many_sessions_close_in_order_with_few_or_most_keys_due() {
    let times: Vec<(u64, i64)> = (0..40_000).map(|n: i64| (hash_key(&n) % 700, n / 5)).collect();
    let mut expected = vec![];
    for key in 0..700 {
        let mut of_key: Vec<i64> =
            times.iter().filter(|(number, _)| *number == key).map(|(_, time)| *time).collect();
        of_key.sort_unstable();
        for session in of_key.chunk_by(|before, after| after - before <= 100) {
            let (first, last) = (session.first().unwrap(), session.last().unwrap());
            expected.push((last + 100, *first, session.len() as u64));
        }
    }
    expected.sort_unstable();
    for step in [1, 7, 60, 400, 3_000] {
        let plain = closed_in_steps(|number| number, &times, step);
        let owned = closed_in_steps(|number| number.to_string(), &times, step);
        for steps in [plain, owned] {
            assert!(steps.iter().flatten().is_sorted());
            let mut all: Vec<_> =
                steps.iter().flatten().map(|(end, _, start, count)| (*end, *start, *count)).collect();
            all.sort_unstable();
            assert!(all == expected, "with steps of {step}");
            assert!(step == 1 || steps.iter().any(|closed| closed.len() > 30));
        }
    }
}

#[test]
fn windows_without_records_cost_nothing_however_many() {
    let ends = at([i64::MIN, -3, 5, i64::MAX]);
    assert_eq!(counts(&tumbling(Duration::from_micros(1)), ends.clone()).len(), 4);
    assert_eq!(counts(&sliding(Duration::from_micros(3), Duration::from_micros(2)), ends.clone()).len(), 5);
    assert_eq!(counts(&session(Duration::from_micros(1)), ends).len(), 4);
}

#[test]
fn a_window_of_very_many_keys_closes_with_all_of_them() {
    const KEYS: u64 = 200_000;
    let mut state: PaneState<u64, Count<()>, ()> = tumbling(secs(1)).state();
    for round in 0..2 {
        for key in 0..KEYS {
            state.add(&Count::new(), hash_key(&key), &key, EventTime::from_micros(round), &());
        }
    }
    assert_eq!(state.len(), KEYS as usize);
    let (mut rows, mut records) = (0, 0);
    state.close(&Count::new(), EventTime::from_micros(1_000_000), &mut |_, _, count| {
        rows += 1;
        records += count;
    });
    assert_eq!((rows, records), (KEYS, 2 * KEYS));
    assert!(state.is_empty());
}
