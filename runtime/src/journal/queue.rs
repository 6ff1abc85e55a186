//! What the thread of a journal and the reader in the graph share: records that are durable and on their way.
//!
//! Not a channel of records: one lock a batch is less than one atomic operation a record, and the planner is told from
//! the same place how far one may read. The lock is never held while anything waits, is written or is called.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_operators::{SourceError, Waker, turn};

use crate::sim;

/// How many bytes of records, as the journal writes them, may wait for the graph.
const BYTES: usize = 8 << 20;

/// In a simulation: how often a task that waits for the thread polls.
const SETTLES_SOON: Duration = Duration::from_micros(50);

/// Wakes the thread of a journal.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn is_rung(&self) -> bool {
        *turn::lock(&self.rung)
    }
}

/// Records on their way from a journal into the graph.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Told whenever the thread has nothing more to do for now.
    settled: Condvar,
    bell: Arc<Bell>,
    capacity: usize,
}

pub(super) struct State<T> {
    records: VecDeque<T>,
    /// The number of the first of them.
    head: u64,
    /// The groups that they came in: the number behind each, and its bytes.
    groups: VecDeque<(u64, usize)>,
    bytes: usize,
    /// The source has ended behind them, and the end has the next number.
    ended: bool,
    failure: Option<Failure>,
    /// The source had nothing when it was last asked.
    idle: bool,
    /// The thread waits for room.
    blocked: bool,
    /// The reader has gone: what the thread reads is dropped.
    unwanted: bool,
    /// The thread has ended, and nothing writes into the journal.
    gone: bool,
    /// The reader has taken everything.
    waiting: bool,
    /// The reader is still at records before these.
    behind: bool,
    /// The query ends with the records available now.
    frozen: bool,
    waker: Option<Waker>,
    skipped: u64,
    rank: u64,
}

/// Why nothing more comes.
enum Failure {
    New(SourceError),
    /// Said already; this is what it said.
    Said(String),
}

/// What the reader finds.
#[derive(Debug)]
pub(super) enum Taken {
    /// Records, taken.
    Some,
    /// Nothing now; the waker will tell.
    Nothing,
    /// Nothing yet, but the thread is looking.
    Soon,
    /// Nothing any more.
    End,
}

impl<T> Queue<T> {
    /// A queue whose first record will have this number.
    pub(super) fn new(head: u64, capacity: usize, frozen: bool) -> Self {
        let state = State {
            records: VecDeque::new(),
            head,
            groups: VecDeque::new(),
            bytes: 0,
            ended: false,
            failure: None,
            idle: false,
            blocked: false,
            unwanted: false,
            gone: false,
            waiting: true,
            behind: false,
            frozen,
            waker: None,
            skipped: 0,
            rank: 0,
        };
        Queue {
            state: Mutex::new(state),
            settled: Condvar::new(),
            bell: Arc::default(),
            capacity: capacity.max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while holding the lock.
        turn::lock(&self.state)
    }

    // For the thread.

    /// Returns for how many records there is room; for none where those that wait have too many bytes.
    pub(super) fn room(&self) -> usize {
        let mut state = self.state();
        let room = state.room(self.capacity);
        state.blocked = room == 0;
        if state.blocked {
            self.settled.notify_all();
        }
        room
    }

    /// Passes on records that are durable, with their bytes, and perhaps the end.
    pub(super) fn push(&self, records: &mut Vec<T>, bytes: usize, ended: bool, skipped: u64, rank: u64) {
        let mut state = self.state();
        state.records.extend(records.drain(..));
        let behind = state.head + state.records.len() as u64;
        state.groups.push_back((behind, bytes));
        state.bytes += bytes;
        state.ended |= ended;
        state.skipped += skipped;
        state.rank = rank;
        state.idle = false;
        self.tell(state);
    }

    /// Hands an error over, behind all records.
    pub(super) fn fail(&self, error: SourceError) {
        let mut state = self.state();
        state.failure = Some(Failure::New(error));
        self.tell(state);
    }

    /// Notes that the source has nothing now.
    pub(super) fn set_idle(&self) {
        let mut state = self.state();
        state.idle = true;
        // Wakes a reader that waits for the end of a frozen source.
        if state.frozen { self.tell(state) } else { self.settled.notify_all() }
    }

    /// There will be no thread any more.
    pub(super) fn set_gone(&self) {
        let mut state = self.state();
        state.gone = true;
        self.tell(state);
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.state().unwanted
    }

    fn tell(&self, mut state: MutexGuard<'_, State<T>>) {
        self.settled.notify_all();
        let waker = if std::mem::replace(&mut state.waiting, false) { state.waker.clone() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until somebody rings, or that long.
    pub(super) fn wait(&self, most: Option<Duration>) {
        if sim::is_active() {
            let bell = Arc::clone(&self.bell);
            sim::wait("journal.wait", most, move || bell.is_rung());
        }
        let mut rung = turn::lock(&self.bell.rung);
        if !*rung && !sim::is_active() {
            rung = match most {
                None => self.bell.heard.wait(rung).unwrap_or_else(PoisonError::into_inner),
                Some(most) => {
                    self.bell.heard.wait_timeout(rung, most).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *rung = false;
    }

    /// Has the thread look again.
    pub(super) fn ring(&self) {
        *turn::lock(&self.bell.rung) = true;
        self.bell.heard.notify_one();
    }

    // For the source.

    pub(super) fn is_gone(&self) -> bool {
        self.state().gone
    }

    /// The number behind the last record, or behind the end, that may be read. An error once everything before it has
    /// been asked for.
    pub(super) fn end(&self, from: u64) -> Result<u64, SourceError> {
        let mut state = self.state();
        let end = state.end();
        match state.failure.take() {
            Some(failure) if from >= end => Err(state.say(failure)),
            failure => {
                state.failure = failure;
                Ok(end)
            }
        }
    }

    /// From here on only records that are available now count.
    pub(super) fn freeze(&self) {
        let mut state = self.state();
        state.frozen = true;
        // What it had before does not tell what is available now.
        state.idle = false;
        drop(state);
        self.ring();
    }

    /// Waits until the thread has taken what was there, or has no room for more.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        while !(state.idle
            || state.ended
            || state.gone
            || state.failure.is_some()
            || state.room(self.capacity) == 0)
        {
            if sim::is_active() {
                drop(state);
                sim::sleep(SETTLES_SOON);
                state = self.state();
                continue;
            }
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the reader has everything.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.state();
        state.records.is_empty() && !state.behind
    }

    // For the reader.

    /// Whom to wake; and, where nothing has been kept, which number the first record is to have.
    pub(super) fn open(&self, waker: Waker, first: Option<u64>) {
        let mut state = self.state();
        state.waker = Some(waker);
        if let Some(first) = first {
            let before = std::mem::replace(&mut state.head, first);
            state.groups.iter_mut().for_each(|(behind, _)| *behind = *behind - before + first);
        }
    }

    /// The number of the first record that is here.
    pub(super) fn head(&self) -> u64 {
        self.state().head
    }

    /// Goes forward to a record, if it is not behind the end.
    pub(super) fn skip_to(&self, record: u64) {
        let mut state = self.state();
        let count = usize::try_from(record.saturating_sub(state.head)).unwrap_or(usize::MAX);
        let count = count.min(state.records.len());
        state.records.drain(..count);
        state.head += count as u64;
        self.taken(state);
    }

    /// Takes at most `most` records.
    pub(super) fn take(&self, most: usize, out: &mut Vec<T>) -> Result<Taken, SourceError> {
        let mut state = self.state();
        state.behind = false;
        let count = most.min(state.records.len());
        if count > 0 {
            out.extend(state.records.drain(..count));
            state.head += count as u64;
            self.taken(state);
            return Ok(Taken::Some);
        }
        if let Some(failure) = state.failure.take() {
            return Err(state.say(failure));
        }
        Ok(match (state.ended, state.gone) {
            (true, _) => Taken::End,
            (false, true) => {
                return Err(SourceError::Setup(
                    "the thread of the journal has ended: restart the query from its checkpoint".to_owned(),
                ));
            }
            (false, false) if state.frozen && !state.idle => Taken::Soon,
            (false, false) => {
                state.waiting = true;
                Taken::Nothing
            }
        })
    }

    fn taken(&self, mut state: MutexGuard<'_, State<T>>) {
        state.waiting |= state.records.is_empty();
        while let Some((_, bytes)) = state.groups.front().copied().filter(|(behind, _)| *behind <= state.head)
        {
            state.groups.pop_front();
            state.bytes -= bytes;
        }
        let ring = std::mem::replace(&mut state.blocked, false);
        drop(state);
        if ring {
            self.ring();
        }
    }

    /// Has the thread end.
    pub(super) fn stop(&self) {
        self.state().unwanted = true;
        self.ring();
    }

    /// Notes that the reader is at records before these.
    pub(super) fn set_behind(&self) {
        self.state().behind = true;
    }

    pub(super) fn take_skipped(&self) -> u64 {
        std::mem::take(&mut self.state().skipped)
    }

    pub(super) fn rank(&self) -> u64 {
        self.state().rank
    }
}

impl<T> State<T> {
    fn room(&self, capacity: usize) -> usize {
        if self.bytes >= BYTES { 0 } else { capacity.saturating_sub(self.records.len()) }
    }

    fn end(&self) -> u64 {
        self.head + self.records.len() as u64 + u64::from(self.ended)
    }

    fn say(&mut self, failure: Failure) -> SourceError {
        let (error, said) = match failure {
            Failure::New(error) => {
                let said = error.to_string();
                (error, said)
            }
            Failure::Said(said) => (SourceError::Other(said.clone().into()), said),
        };
        self.failure = Some(Failure::Said(said));
        error
    }
}
