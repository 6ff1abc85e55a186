//! Bounds the bytes of lines that a source holds in memory, over all its peers.
//!
//! Two pools. `queued` has the complete lines that wait for the worker. A thread that finds it full waits its turn: the
//! peer that has sent the least, with what it asks for, goes first (self-clocked fair queueing), so a peer with many or
//! long lines does not delay one with few and short ones. `long` has the lines that are longer than a read buffer and
//! whose ends have not come yet. The oldest of them may exceed the limit, so that one line always progresses, up to the
//! longest line that the source allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use crate::lock;

/// The bytes of complete lines that may wait for the worker; one longer line may wait alone.
pub(super) const QUEUED: usize = 4 << 20;
/// The bytes of unfinished long lines; the oldest may exceed them.
const LONG: usize = 4 << 20;

/// What the peers of a source share.
pub(super) struct Memory {
    queued: Pool,
    long: Pool,
    /// Bad lines that were left out and not yet reported.
    skipped: AtomicU64,
}

impl Memory {
    pub(super) fn new() -> Arc<Memory> {
        Arc::new(Memory { queued: Pool::new(QUEUED), long: Pool::new(LONG), skipped: AtomicU64::new(0) })
    }

    pub(super) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::Relaxed)
    }

    /// The bytes of complete lines, and of unfinished long ones.
    #[cfg(test)]
    pub(super) fn used(&self) -> (usize, usize) {
        (lock(&self.queued.state).used, lock(&self.long.state).used)
    }

    /// How many threads wait for room.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        [&self.queued, &self.long].iter().map(|pool| lock(&pool.state).waiting.len()).sum()
    }

    /// Has all who wait give up.
    pub(super) fn close(&self) {
        self.queued.close();
        self.long.close();
    }

    /// Waits for room for complete lines of a peer. `None` once the source is closed.
    pub(super) fn queue(self: &Arc<Self>, share: &mut Share, bytes: usize) -> Option<Charge> {
        let key = self.queued.turn_of(share, bytes);
        let granted = self.queued.acquire(key, bytes, |pool| pool.used == 0);
        granted.then(|| Charge { memory: Arc::clone(self), bytes })
    }

    /// Begins a long line, which has no bytes yet.
    pub(super) fn long_line(self: &Arc<Self>) -> LongLine {
        LongLine { memory: Arc::clone(self), key: self.long.enter(), bytes: 0 }
    }
}

/// A peer's virtual time: its bytes, and those that it would have sent had it not been silent.
#[derive(Default)]
pub(super) struct Share {
    next: u64,
}

/// Room for complete lines, given back when it is dropped.
pub(super) struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.queued.release(self.bytes, None);
    }
}

/// Room for an unfinished line, given back when it is dropped.
pub(super) struct LongLine {
    memory: Arc<Memory>,
    key: Key,
    bytes: usize,
}

impl LongLine {
    /// Waits for room, so that the line has that many bytes. `false` once the source is closed.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let (key, more) = (self.key, bytes.saturating_sub(self.bytes));
        let granted = self.memory.long.acquire(key, more, |pool| pool.inside.first() == Some(&key));
        self.bytes += if granted { more } else { 0 };
        granted
    }

    /// Whether other long lines wait for room.
    pub(super) fn is_in_the_way(&self) -> bool {
        !lock(&self.memory.long.state).waiting.is_empty()
    }
}

impl Drop for LongLine {
    fn drop(&mut self) {
        self.memory.long.release(self.bytes, Some(self.key));
    }
}

/// The order of those that wait, the least first.
type Key = (u64, u64);

struct Pool {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: usize,
    /// The virtual time of fair queueing: the bytes of a peer that always has something to send.
    time: u64,
    numbers: u64,
    waiting: BTreeMap<Key, Thread>,
    /// The long lines.
    inside: BTreeSet<Key>,
    closed: bool,
}

impl State {
    fn wake_first(&self) {
        if let Some((_, thread)) = self.waiting.first_key_value() {
            thread.unpark();
        }
    }
}

impl Pool {
    fn new(limit: usize) -> Pool {
        Pool { limit, state: Mutex::default() }
    }

    fn turn_of(&self, share: &mut Share, bytes: usize) -> Key {
        let mut state = lock(&self.state);
        share.next = share.next.max(state.time).saturating_add(bytes as u64);
        state.numbers += 1;
        (share.next, state.numbers)
    }

    fn enter(&self) -> Key {
        let mut state = lock(&self.state);
        state.numbers += 1;
        let key = (state.numbers, 0);
        state.inside.insert(key);
        key
    }

    /// Waits until all with a smaller key have been granted, and there is room or the request may exceed it.
    fn acquire(&self, key: Key, bytes: usize, may_exceed: impl Fn(&State) -> bool) -> bool {
        loop {
            let mut state = lock(&self.state);
            if state.closed {
                state.waiting.remove(&key);
                return false;
            }
            let is_first = state.waiting.first_key_value().is_none_or(|(first, _)| *first >= key);
            if is_first && (state.used.saturating_add(bytes) <= self.limit || may_exceed(&state)) {
                state.waiting.remove(&key);
                state.used += bytes;
                state.time = state.time.max(key.0);
                state.wake_first();
                return true;
            }
            state.waiting.entry(key).or_insert_with(thread::current);
            drop(state);
            thread::park();
        }
    }

    fn release(&self, bytes: usize, leaves: Option<Key>) {
        let mut state = lock(&self.state);
        state.used -= bytes;
        if let Some(key) = leaves {
            state.inside.remove(&key);
        }
        state.wake_first();
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.waiting.values().for_each(Thread::unpark);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn eventually(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn queue_full_of_greedy_peer_grants_small_peer_first() {
        let memory = Memory::new();
        let mut greedy = Share::default();
        let charges: Vec<_> = (0..8).map(|_| memory.queue(&mut greedy, QUEUED / 8).unwrap()).collect();
        let (granted, order) = crossbeam_channel::unbounded();
        let ask = |name: &'static str, mut share: Share, bytes: usize| {
            let (memory, granted) = (Arc::clone(&memory), granted.clone());
            thread::spawn(move || {
                let charge = memory.queue(&mut share, bytes);
                granted.send(name).unwrap();
                charge
            })
        };
        let waiting = |count| eventually("wait", || lock(&memory.queued.state).waiting.len() == count);
        let first = ask("greedy", greedy, QUEUED / 8);
        waiting(1);
        let second = ask("small", Share::default(), 100);
        waiting(2);
        assert!(order.is_empty());
        drop(charges);
        drop((first.join().unwrap(), second.join().unwrap()));
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["small", "greedy"]);
        assert_eq!(lock(&memory.queued.state).used, 0);
        assert!(memory.queue(&mut Share::default(), 3 * QUEUED).is_some(), "a longer line waits alone");
    }

    #[test]
    fn oldest_long_line_exceeds_the_limit_and_others_wait() {
        let memory = Memory::new();
        let (mut old, mut young) = (memory.long_line(), memory.long_line());
        assert!(old.grow(1000) && young.grow(LONG - 1000));
        assert!(!old.is_in_the_way());
        let waits = thread::spawn(move || {
            assert!(young.grow(LONG));
            young
        });
        eventually("wait", || old.is_in_the_way());
        assert!(old.grow(2 * LONG), "the oldest");
        drop(old);
        // Now it is the oldest itself.
        drop(waits.join().unwrap());
        assert_eq!(lock(&memory.long.state).used, 0);
        assert!(lock(&memory.long.state).inside.is_empty());
    }

    #[test]
    fn closed_memory_releases_all_who_wait() {
        let memory = Memory::new();
        let all = memory.queue(&mut Share::default(), QUEUED).unwrap();
        let waits: Vec<_> = (0..3)
            .map(|_| Arc::clone(&memory))
            .map(|memory| thread::spawn(move || memory.queue(&mut Share::default(), 1).is_none()))
            .collect();
        eventually("wait", || lock(&memory.queued.state).waiting.len() == 3);
        memory.close();
        assert!(waits.into_iter().all(|thread| thread.join().unwrap()));
        drop(all);
    }
}
