//! All kinds of state and both kinds of timers against a naive model, with snapshots and restarts between any two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{HashedKey, ListState, MapState, ReducingState, SharedState, States, Timer, Timers, ValueState};
use crate::{EventTime, Folded, KeyGroup, KeyGroups, ProcessingTime, SnapshotWriter, hash_key};

type Link = Vec<(KeyGroup, Vec<u8>)>;

/// A key whose hash others share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Id(u8);

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 4).hash(state);
    }
}

/// What an operator keeps on one worker.
struct Operator {
    value: ValueState<Id, u32>,
    total: ReducingState<Id, u32>,
    list: ListState<Id, u32>,
    map: MapState<Id, i64, u32>,
    shared: SharedState<String, u32>,
    timers: Timers<Id>,
}

impl Operator {
    fn new(ttl: Option<u64>, worker: usize, now: i64) -> Operator {
        let add = |sum: &mut u32, value| *sum += value;
        let mut operator = match ttl.map(Duration::from_micros) {
            None => Operator {
                value: ValueState::new(),
                total: ReducingState::new(add),
                list: ListState::new(),
                map: MapState::new(),
                shared: SharedState::new(),
                timers: Timers::new(),
            },
            Some(ttl) => Operator {
                value: ValueState::with_ttl(ttl),
                total: ReducingState::with_ttl(ttl, add),
                list: ListState::with_ttl(ttl),
                map: MapState::with_ttl(ttl),
                shared: SharedState::with_ttl(ttl),
                timers: Timers::new(),
            },
        };
        States::set_writer(|states| operator.state(states), worker == 0);
        operator.set_now(now);
        operator
    }

    fn state(&mut self, states: &mut States<'_>) {
        states.add("value", &mut self.value);
        states.add("total", &mut self.total);
        states.add("list", &mut self.list);
        states.add("map", &mut self.map);
        states.add("shared", &mut self.shared);
        states.add("timers", &mut self.timers);
    }

    fn track(mut self) -> Operator {
        States::track(|states| self.state(states));
        self
    }

    fn set_now(&mut self, now: i64) {
        States::set_now(|states| self.state(states), ProcessingTime::from_micros(now));
    }

    fn delta(&mut self) -> Link {
        let mut writer = SnapshotWriter::new();
        States::snapshot(|states| self.state(states), &mut writer, |_| None).unwrap();
        writer.into_groups().collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    Event,
    Processing,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Id, u32),
    Update(Id, u32),
    Upsert(Id, u32),
    Remove(Id),
    Add(Id, u32),
    RemoveTotal(Id),
    Push(Id, u32),
    Retain(Id, u32),
    Drain(Id),
    RemoveList(Id),
    Put(Id, i64, u32),
    UpdateEntry(Id, i64, u32),
    RemoveEntry(Id, i64),
    RetainRange(Id, Bound<i64>, Bound<i64>, u32),
    DrainRange(Id, Bound<i64>, Bound<i64>),
    Share(u8, u32),
    Unshare(u8),
    RetainShared(u32),
    Set(Clock, Id, i64),
    Delete(Clock, Id, i64),
    /// Timers that fire set others.
    Advance(Clock, i64),
    Expire,
    Snapshot,
    Restart {
        workers: usize,
        is_folded: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::*;
    let key = || (0..6u8).prop_map(Id);
    let number = || 0..9u32;
    let user = || -4..40i64;
    let bound = || {
        prop_oneof![
            Just(Bound::Unbounded),
            user().prop_map(Bound::Included),
            user().prop_map(Bound::Excluded)
        ]
    };
    let clock = || prop_oneof![Just(Clock::Event), Just(Clock::Processing)];
    let values = prop_oneof![
        3 => (key(), number()).prop_map(|(key, n)| Insert(key, n)),
        3 => (key(), number()).prop_map(|(key, n)| Update(key, n)),
        3 => (key(), number()).prop_map(|(key, n)| Upsert(key, n)),
        3 => key().prop_map(Remove),
        3 => (key(), number()).prop_map(|(key, n)| Add(key, n)),
        1 => key().prop_map(RemoveTotal),
    ];
    let lists = prop_oneof![
        9 => (key(), number()).prop_map(|(key, n)| Push(key, n)),
        2 => (key(), 1..4u32).prop_map(|(key, n)| Retain(key, n)),
        1 => key().prop_map(Drain),
        1 => key().prop_map(RemoveList),
    ];
    let maps = prop_oneof![
        8 => (key(), user(), number()).prop_map(|(key, user, n)| Put(key, user, n)),
        2 => (key(), user(), number()).prop_map(|(key, user, n)| UpdateEntry(key, user, n)),
        3 => (key(), user()).prop_map(|(key, user)| RemoveEntry(key, user)),
        1 => (key(), bound(), bound(), 1..4u32).prop_map(|(key, from, to, n)| RetainRange(key, from, to, n)),
        1 => (key(), bound(), bound()).prop_map(|(key, from, to)| DrainRange(key, from, to)),
        2 => (0..6u8, number()).prop_map(|(user, n)| Share(user, n)),
        1 => (0..6u8).prop_map(Unshare),
        1 => (1..4u32).prop_map(RetainShared),
    ];
    let timers = prop_oneof![
        6 => (clock(), key(), -5..60i64).prop_map(|(clock, key, time)| Set(clock, key, time)),
        2 => (clock(), key(), -5..60i64).prop_map(|(clock, key, time)| Delete(clock, key, time)),
        2 => (clock(), 0..9i64).prop_map(|(clock, by)| Advance(clock, by)),
    ];
    let all = prop_oneof![
        6 => values, 6 => lists, 6 => maps, 6 => timers,
        1 => Just(Expire),
        4 => Just(Snapshot),
        2 => (1..5usize, any::<bool>()).prop_map(|(workers, is_folded)| Restart { workers, is_folded }),
    ];
    proptest::collection::vec(all, 1..80)
}

/// The time of the last write, and the value.
type Written<V> = (i64, V);

/// The plain loops.
#[derive(Default)]
struct Model {
    ttl: Option<u64>,
    now: i64,
    watermark: i64,
    value: BTreeMap<Id, Written<u32>>,
    total: BTreeMap<Id, Written<u32>>,
    list: BTreeMap<Id, Vec<Written<u32>>>,
    map: BTreeMap<(Id, i64), Written<u32>>,
    shared: BTreeMap<String, Written<u32>>,
    event: BTreeSet<(i64, u64, Id)>,
    processing: BTreeSet<(i64, u64, Id)>,
}

impl Model {
    /// Forgets what has expired.
    fn expire(&mut self) {
        let Some(ttl) = self.ttl else { return };
        let now = self.now;
        let lives = |at: i64| now - at < ttl as i64;
        self.value.retain(|_, written| lives(written.0));
        self.total.retain(|_, written| lives(written.0));
        self.map.retain(|_, written| lives(written.0));
        self.shared.retain(|_, written| lives(written.0));
        self.list.values_mut().for_each(|list| list.retain(|written| lives(written.0)));
        self.list.retain(|_, list| !list.is_empty());
    }

    fn timers(&mut self, clock: Clock) -> &mut BTreeSet<(i64, u64, Id)> {
        match clock {
            Clock::Event => &mut self.event,
            Clock::Processing => &mut self.processing,
        }
    }

    /// Fires what has been reached, in order.
    fn fire(&mut self, clock: Clock, limit: i64) -> Vec<(i64, Id)> {
        let (mut fired, mut held) = (vec![], vec![]);
        let timers = self.timers(clock);
        while let Some(first) = timers.first().copied().filter(|first| first.0 <= limit) {
            let (time, hash, key) = first;
            timers.remove(&first);
            fired.push((time, key));
            match next_timer(time, key) {
                Some(next) if next > time => drop(timers.insert((next, hash, key))),
                Some(next) => held.push((next, hash, key)),
                None => {}
            }
        }
        timers.extend(held);
        fired
    }
}

/// What a timer sets when it fires: often a later one, at times an earlier one or, for a key that shares its hash with
/// no other, itself. (Of two keys with one hash and timers at one time, the one that sets itself might fire twice before
/// the other.)
fn next_timer(time: i64, key: Id) -> Option<i64> {
    match (time + i64::from(key.0)).rem_euclid(6) {
        0 | 1 => Some(time + 4),
        2 => Some(time - 3),
        3 if matches!(key.0, 2 | 3) => Some(time),
        _ => None,
    }
}

/// The operator on a number of workers, and what was written of it.
struct Held {
    workers: Vec<Operator>,
    chain: Vec<Link>,
}

impl Held {
    fn of(&mut self, key: Id) -> &mut Operator {
        let workers = self.workers.len();
        &mut self.workers[KeyGroups::default().of(hash_key(&key)).worker(workers)]
    }

    fn snapshot(&mut self) {
        let mut link = vec![];
        for operator in &mut self.workers {
            link.extend(operator.delta());
            assert!(operator.delta().is_empty(), "written twice");
            assert_eq!(States::unsaved(|states| operator.state(states)), 0);
        }
        self.chain.push(link);
    }

    fn parts(&self) -> BTreeMap<KeyGroup, Vec<&[u8]>> {
        let mut parts = BTreeMap::<_, Vec<&[u8]>>::new();
        self.chain.iter().flatten().for_each(|(group, bytes)| parts.entry(*group).or_default().push(bytes));
        parts
    }

    /// The entries that the chain comes to.
    fn entries(&self) -> BTreeSet<(KeyGroup, &[u8], &[u8], &[u8])> {
        let mut entries = BTreeSet::new();
        for (group, parts) in self.parts() {
            let folded = folded(&parts);
            entries.extend(folded.entries().map(|(slot, key, value)| (group, slot, key, value)));
        }
        entries
    }

    fn restart(&mut self, model: &Model, workers: usize, is_folded: bool) {
        let mut restored: Vec<Operator> =
            (0..workers).map(|worker| Operator::new(model.ttl, worker, model.now).track()).collect();
        for (group, parts) in self.parts() {
            let bytes: Vec<Vec<u8>> = match is_folded {
                true => vec![folded(&parts).write()],
                false => parts.iter().map(|part| part.to_vec()).collect(),
            };
            for (worker, operator) in restored.iter_mut().enumerate() {
                let is_owned = group.worker(workers) == worker;
                for bytes in bytes.iter().filter(|_| is_owned || group.number() == 0) {
                    States::restore(|states| operator.state(states), bytes, is_owned).unwrap();
                }
            }
        }
        for operator in &mut restored {
            assert!(operator.delta().is_empty(), "what was restored has been written");
        }
        self.workers = restored;
    }
}

fn folded<'a>(parts: &[&'a [u8]]) -> Folded<'a> {
    let mut folded = Folded::new();
    parts.iter().for_each(|bytes| folded.apply(bytes).unwrap());
    folded
}

fn apply(model: &mut Model, held: &mut Held, step: &Step) {
    let now = model.now;
    match step.clone() {
        Step::Insert(key, n) => {
            let old = held.of(key).value.insert(HashedKey::of(&key), n);
            assert_eq!(old, model.value.insert(key, (now, n)).map(|written| written.1));
        }
        Step::Update(key, n) => {
            let value = held.of(key).value.get_mut(HashedKey::of(&key));
            assert_eq!(value.as_deref(), model.value.get(&key).map(|written| &written.1));
            if let Some(value) = value {
                *value += n;
                let old = model.value[&key].1;
                model.value.insert(key, (now, old + n));
            }
        }
        Step::Upsert(key, n) => {
            *held.of(key).value.get_or_insert_with(HashedKey::of(&key), || 100) += n;
            let old = model.value.get(&key).map_or(100, |written| written.1);
            model.value.insert(key, (now, old + n));
        }
        Step::Remove(key) => {
            let old = held.of(key).value.remove(HashedKey::of(&key));
            assert_eq!(old, model.value.remove(&key).map(|written| written.1));
        }
        Step::Add(key, n) => {
            held.of(key).total.add(HashedKey::of(&key), n);
            let old = model.total.get(&key).map_or(0, |written| written.1);
            model.total.insert(key, (now, old + n));
        }
        Step::RemoveTotal(key) => {
            let old = held.of(key).total.remove(HashedKey::of(&key));
            assert_eq!(old, model.total.remove(&key).map(|written| written.1));
        }
        Step::Push(key, n) => {
            held.of(key).list.push(HashedKey::of(&key), n);
            model.list.entry(key).or_default().push((now, n));
        }
        Step::Retain(key, n) => {
            held.of(key).list.retain(HashedKey::of(&key), |value| value % n != 0);
            model.list.entry(key).or_default().retain(|written| written.1 % n != 0);
        }
        Step::Drain(key) => {
            let drained = held.of(key).list.drain(HashedKey::of(&key));
            let expected = model.list.remove(&key).unwrap_or_default();
            assert!(expected.into_iter().map(|written| written.1).eq(drained));
        }
        Step::RemoveList(key) => {
            held.of(key).list.remove(HashedKey::of(&key));
            model.list.remove(&key);
        }
        Step::Put(key, user, n) => {
            let old = held.of(key).map.insert(HashedKey::of(&key), user, n);
            assert_eq!(old, model.map.insert((key, user), (now, n)).map(|written| written.1));
        }
        Step::UpdateEntry(key, user, n) => {
            let value = held.of(key).map.get_mut(HashedKey::of(&key), &user);
            assert_eq!(value.as_deref(), model.map.get(&(key, user)).map(|written| &written.1));
            if let Some(value) = value {
                *value += n;
                let old = model.map[&(key, user)].1;
                model.map.insert((key, user), (now, old + n));
            }
        }
        Step::RemoveEntry(key, user) => {
            let old = held.of(key).map.remove(HashedKey::of(&key), &user);
            assert_eq!(old, model.map.remove(&(key, user)).map(|written| written.1));
        }
        Step::RetainRange(key, from, to, n) => {
            let keep = |value: &u32| !value.is_multiple_of(n);
            held.of(key).map.retain_range(HashedKey::of(&key), (from, to), |_, value| keep(value));
            model
                .map
                .retain(|(of, user), written| *of != key || !contains((from, to), *user) || keep(&written.1));
        }
        Step::DrainRange(key, from, to) => {
            let drained = held.of(key).map.drain_range(HashedKey::of(&key), (from, to));
            let is_in = |(of, user): &(Id, i64)| *of == key && contains((from, to), *user);
            let expected =
                model.map.iter().filter(|(at, _)| is_in(at)).map(|(at, written)| (at.1, written.1));
            assert!(expected.eq(drained));
            model.map.retain(|at, _| !is_in(at));
        }
        Step::Share(key, n) => {
            let old = model.shared.insert(key.to_string(), (now, n)).map(|written| written.1);
            held.workers.iter_mut().for_each(|w| assert_eq!(w.shared.insert(key.to_string(), n), old));
        }
        Step::Unshare(key) => {
            let old = model.shared.remove(&key.to_string()).map(|written| written.1);
            held.workers.iter_mut().for_each(|w| assert_eq!(w.shared.remove(&key.to_string()), old));
        }
        Step::RetainShared(n) => {
            model.shared.retain(|_, written| written.1 % n != 0);
            held.workers.iter_mut().for_each(|w| w.shared.retain_range(.., |_, value| value % n != 0));
        }
        Step::Set(clock, key, time) => {
            let timers = &mut held.of(key).timers;
            match clock {
                Clock::Event => timers.set_event(HashedKey::of(&key), EventTime::from_micros(time)),
                Clock::Processing => {
                    timers.set_processing(HashedKey::of(&key), ProcessingTime::from_micros(time))
                }
            }
            model.timers(clock).insert((time, hash_key(&key), key));
        }
        Step::Delete(clock, key, time) => {
            let timers = &mut held.of(key).timers;
            let was_set = match clock {
                Clock::Event => timers.delete_event(HashedKey::of(&key), EventTime::from_micros(time)),
                Clock::Processing => {
                    timers.delete_processing(HashedKey::of(&key), ProcessingTime::from_micros(time))
                }
            };
            assert_eq!(was_set, model.timers(clock).remove(&(time, hash_key(&key), key)));
        }
        Step::Advance(clock, by) => {
            let limit = match clock {
                Clock::Event => {
                    model.watermark += by;
                    model.watermark
                }
                Clock::Processing => {
                    model.now += by;
                    model.now
                }
            };
            let expected = model.fire(clock, limit);
            model.expire();
            let (now, workers) = (model.now, held.workers.len());
            for (number, worker) in held.workers.iter_mut().enumerate() {
                worker.set_now(now);
                let fired = fire(&mut worker.timers, clock, limit);
                let is_here = |key: &Id| KeyGroups::default().of(hash_key(key)).worker(workers) == number;
                let place = |(time, key): &(i64, Id)| (*time, hash_key(key));
                assert!(fired.is_sorted_by_key(place), "{fired:?}");
                // Keys of one hash fire in any order.
                let [mut fired, mut here] = [fired, expected.clone()];
                here.retain(|(_, key)| is_here(key));
                fired.sort_by_key(|timer| (place(timer), timer.1));
                assert_eq!(fired, here);
            }
        }
        Step::Expire => held.workers.iter_mut().for_each(|worker| worker.set_now(now)),
        Step::Snapshot => held.snapshot(),
        Step::Restart { workers, is_folded } => {
            held.snapshot();
            held.restart(model, workers, is_folded);
        }
    }
    model.list.retain(|_, list| !list.is_empty());
}

fn contains((from, to): (Bound<i64>, Bound<i64>), user: i64) -> bool {
    use std::ops::RangeBounds;
    (from, to).contains(&user)
}

fn fire(timers: &mut Timers<Id>, clock: Clock, limit: i64) -> Vec<(i64, Id)> {
    let mut fired = vec![];
    loop {
        let next = match clock {
            Clock::Event => timers
                .next_event(EventTime::from_micros(limit))
                .map(|(time, hash, key)| (time.as_micros(), hash, key)),
            Clock::Processing => timers
                .next_processing(ProcessingTime::from_micros(limit))
                .map(|(time, hash, key)| (time.as_micros(), hash, key)),
        };
        let Some((time, hash, key)) = next else { return fired };
        assert_eq!(hash, hash_key(&key));
        fired.push((time, key));
        let key = HashedKey { hash, key: &key };
        match (next_timer(time, *key.key), clock) {
            (Some(next), Clock::Event) => timers.set_event(key, EventTime::from_micros(next)),
            (Some(next), Clock::Processing) => timers.set_processing(key, ProcessingTime::from_micros(next)),
            (None, _) => {}
        }
    }
}

/// Everything that can be read.
fn compare(model: &Model, held: &mut Held, asks_for_timers: bool) {
    let (mut values, mut totals) = (BTreeMap::new(), BTreeMap::new());
    let (mut list, mut map) = (BTreeMap::<Id, Vec<u32>>::new(), BTreeMap::new());
    let mut timers = 0;
    for worker in &mut held.workers {
        values.extend(worker.value.iter().map(|(key, value)| (*key, *value)));
        totals.extend(worker.total.iter().map(|(key, value)| (*key, *value)));
        worker.list.iter().for_each(|(key, value)| list.entry(*key).or_default().push(*value));
        map.extend(worker.map.iter().map(|(key, user, value)| ((*key, *user), *value)));
        assert!(
            worker
                .shared
                .iter()
                .map(|(user, value)| (user, *value))
                .eq(model.shared.iter().map(|(user, written)| (user, written.1)))
        );
        assert_eq!(worker.value.len(), worker.value.iter().count());
        assert_eq!(worker.map.len(), worker.map.iter().count());
        timers += worker.timers.len();
    }
    assert!(values.iter().eq(model.value.iter().map(|(key, written)| (key, &written.1))));
    assert!(totals.iter().eq(model.total.iter().map(|(key, written)| (key, &written.1))));
    assert!(map.iter().eq(model.map.iter().map(|(key, written)| (key, &written.1))));
    let expected = model.list.iter().map(|(key, list)| (*key, list.iter().map(|w| w.1).collect::<Vec<_>>()));
    assert!(list.into_iter().eq(expected));
    assert_eq!(timers, model.event.len() + model.processing.len());
    for key in (0..6).map(Id) {
        let hashed = HashedKey::of(&key);
        let worker = held.of(key);
        assert_eq!(worker.value.get(hashed), values.get(&key));
        assert_eq!(worker.total.get(hashed), totals.get(&key));
        let here = worker.map.range(hashed, ..).map(|(user, value)| (*user, *value));
        assert!(here.eq(map.range((key, i64::MIN)..=(key, i64::MAX)).map(|(at, value)| (at.1, *value))));
        let of = |set: &BTreeSet<(i64, u64, Id)>| -> Vec<i64> {
            set.iter().filter(|timer| timer.2 == key).map(|timer| timer.0).collect()
        };
        let expected = of(&model.event).into_iter().map(|time| Timer::Event(EventTime::from_micros(time)));
        let processing = of(&model.processing)
            .into_iter()
            .map(|time| Timer::Processing(ProcessingTime::from_micros(time)));
        if asks_for_timers {
            assert!(worker.timers.of(hashed).eq(expected.chain(processing)));
        }
    }
    let earliest = held.workers.iter_mut().filter_map(|worker| worker.timers.earliest_processing()).min();
    assert_eq!(earliest.map(|time| time.as_micros()), model.processing.first().map(|timer| timer.0));
}

/// Runs the steps on the model, on an operator that nothing is written of, and on one that is written and restarted.
fn check(ttl: Option<u64>, steps: &[Step], asks_for_timers: bool) {
    let mut models = [(); 2].map(|()| Model { ttl, ..Model::default() });
    let mut plain = Held { workers: vec![Operator::new(ttl, 0, 0)], chain: vec![] };
    let mut moved = Held { workers: vec![Operator::new(ttl, 0, 0).track()], chain: vec![] };
    for step in steps.iter().chain([&Step::Snapshot]) {
        let [of_plain, of_moved] = &mut models;
        let persists = matches!(step, Step::Snapshot | Step::Restart { .. });
        if !persists {
            apply(of_plain, &mut plain, step);
            compare(of_plain, &mut plain, asks_for_timers);
        }
        apply(of_moved, &mut moved, step);
        compare(of_moved, &mut moved, asks_for_timers);
        if persists && ttl.is_none() {
            let full = Held { workers: vec![], chain: vec![plain.workers[0].delta()] };
            assert_eq!(moved.entries(), full.entries(), "{step:?}");
        }
    }
}

proptest! {
    #[test]
    fn state_by_name_agrees_with_model(steps in steps()) {
        check(None, &steps, true);
    }

    #[test]
    fn state_with_ttl_agrees_with_model(ttl in 1..25u64, steps in steps()) {
        check(Some(ttl), &steps, true);
    }
    /// Timers stay in lists as long as no step deletes one.
    #[test]
    fn timers_that_are_not_asked_for_agree_with_model(steps in steps(), deletes in 0..50usize) {
        let is_delete = |step: &Step| matches!(step, Step::Delete(..));
        let steps: Vec<Step> = steps
            .into_iter()
            .enumerate()
            .filter(|(at, step)| *at >= deletes || !is_delete(step))
            .map(|(_, step)| step)
            .collect();
        check(None, &steps, false);
    }
}
