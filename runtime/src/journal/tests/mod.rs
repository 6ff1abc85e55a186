//! Journals, driven as the engine drives a source; and a source to be journaled that does what the test says.

mod behaviour;
mod crash;
mod damage;
mod durable;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;
use tidemill_operators::{
    Clock, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source, SourceError,
    SourceInfo, Waker,
};

use super::{JournalReader, Journaled, attach};
use crate::checkpoint::Storage;

#[derive(Clone, Debug)]
pub(super) enum Say {
    Row(u64),
    Skip,
    Fail(&'static str),
    Panic,
    End,
}

#[derive(Default)]
struct Script {
    /// What has not been read, or not been acknowledged where that matters; and the offset of the first of it.
    steps: VecDeque<Say>,
    first: u64,
    acknowledged: u64,
    waker: Option<Waker>,
}

/// The other side of a connection: it sends each record once, or until it is acknowledged.
#[derive(Clone, Default)]
pub(super) struct Peer {
    script: Arc<Mutex<Script>>,
    /// Whether it says again what has not been acknowledged.
    pub(super) repeats: bool,
    /// As many as there are readers, and one.
    pub(super) alive: Arc<()>,
}

impl Peer {
    pub(super) fn say(&self, steps: impl IntoIterator<Item = Say>) {
        let mut script = self.script.lock().unwrap();
        script.steps.extend(steps);
        let waker = script.waker.clone();
        drop(script);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn rows(&self, rows: impl IntoIterator<Item = u64>) {
        self.say(rows.into_iter().map(Say::Row));
    }

    /// What has not been read.
    pub(super) fn left(&self) -> usize {
        self.script.lock().unwrap().steps.len()
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.script.lock().unwrap().acknowledged
    }
}

impl Source for Peer {
    type Item = u64;
    type Offset = u64;
    type Reader = PeerReader;

    fn describe(&self) -> String {
        "peer".to_owned()
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(1, |_| 0))
    }
    fn latest(&self, _partition: u32, _from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        panic!("a journal knows by itself how far one may read")
    }
    fn open(&self, _partition: u32, from: &u64, context: ReaderContext) -> Result<PeerReader, SourceError> {
        self.script.lock().unwrap().waker = Some(context.waker);
        Ok(PeerReader { peer: self.clone(), at: *from, skipped: 0 })
    }
    fn committed(&self, _partition: u32, offset: &u64) -> Result<(), SourceError> {
        let mut script = self.script.lock().unwrap();
        script.acknowledged = *offset;
        while self.repeats && script.first < *offset {
            script.steps.pop_front();
            script.first += 1;
        }
        Ok(())
    }
}

pub(super) struct PeerReader {
    peer: Peer,
    at: u64,
    skipped: u64,
}

impl Reader for PeerReader {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, _until: Option<&u64>, max: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        let before = out.len();
        let mut script = self.peer.script.lock().unwrap();
        while out.len() - before < max {
            let step = if self.peer.repeats {
                script.steps.get((self.at - script.first) as usize).cloned()
            } else {
                script.steps.pop_front()
            };
            let Some(step) = step else { return Ok(Poll::Idle) };
            self.at += 1;
            match step {
                Say::Row(row) => out.push(row),
                Say::Skip => self.skipped += 1,
                Say::Fail(why) => return Err(SourceError::Other(why.into())),
                Say::Panic => {
                    drop(script);
                    panic!("it was too much");
                }
                Say::End => {
                    self.at -= 1;
                    if !self.peer.repeats {
                        script.steps.push_front(Say::End);
                    }
                    return Ok(Poll::End);
                }
            }
        }
        Ok(Poll::Ready)
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, _offset: &u64) -> Result<(), SourceError> {
        panic!("a connection cannot seek")
    }
    fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

/// A journaled source and its reader.
pub(super) struct Rig {
    pub(super) source: Journaled<Peer>,
    pub(super) reader: JournalReader<u64>,
    woken: Receiver<()>,
}

pub(super) fn clock() -> Clock {
    Clock::new(|| ProcessingTime::from_micros(0))
}

pub(super) fn attached(
    source: Journaled<Peer>,
    storage: &(impl Storage + Clone + 'static),
) -> Journaled<Peer> {
    attach(source.journal().unwrap(), Some(Arc::new(storage.clone())), "in", clock());
    source
}

pub(super) fn limits() -> PlanLimits {
    PlanLimits::new(None, ProcessingTime::from_micros(0))
}

/// Where the journal begins.
pub(super) fn oldest(source: &Journaled<Peer>) -> Result<u64, SourceError> {
    let info = source.prepare(&PrepareContext::default())?;
    Ok(*info.start(0).unwrap())
}

impl Rig {
    pub(super) fn open(source: Journaled<Peer>, from: u64) -> Result<Rig, SourceError> {
        let (ring, woken) = crossbeam_channel::unbounded();
        let waker = Waker::new(move || {
            let _ = ring.send(());
        });
        source.prepare(&PrepareContext::default())?;
        let reader = source.open(0, &from, ReaderContext::new(waker, clock()))?;
        Ok(Rig { source, reader, woken })
    }

    /// What there is now.
    pub(super) fn read(&mut self) -> Result<(Vec<u64>, Poll), SourceError> {
        let mut rows = Vec::new();
        loop {
            let poll = self.reader.poll(None, 3, &mut rows)?;
            if !matches!(poll, Poll::Ready | Poll::Soon) {
                return Ok((rows, poll));
            }
        }
    }

    /// That many records, or those before the end.
    pub(super) fn read_at_least(&mut self, count: usize) -> Result<Vec<u64>, SourceError> {
        let mut rows = Vec::new();
        loop {
            let (more, poll) = self.read()?;
            rows.extend(more);
            if rows.len() >= count || poll == Poll::End {
                return Ok(rows);
            }
            self.wait();
        }
    }

    /// This many records and not one more.
    pub(super) fn read_just(&mut self, count: usize) -> Vec<u64> {
        let mut rows = Vec::new();
        while rows.len() < count {
            match self.reader.poll(None, count - rows.len(), &mut rows).unwrap() {
                Poll::Ready | Poll::Soon => {}
                Poll::Idle => self.wait(),
                poll => panic!("{poll:?} after {rows:?}"),
            }
        }
        rows
    }

    /// All of it.
    pub(super) fn read_to_end(&mut self) -> Result<Vec<u64>, SourceError> {
        self.read_at_least(usize::MAX)
    }

    pub(super) fn error(&mut self) -> String {
        self.read_to_end().unwrap_err().to_string()
    }

    pub(super) fn wait(&self) {
        self.woken.recv_timeout(Duration::from_secs(20)).expect("the waker is called");
    }

    pub(super) fn commit(&self) -> u64 {
        let offset = self.reader.offset();
        self.source.committed(0, &offset).unwrap();
        offset
    }

    /// The process dies: whatever was in memory is gone.
    pub(super) fn crash(self) {}
}
