//! The reader in the graph: first what is only in the journal, then what comes.

use crate::sim::JoinHandle;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use tidemill_operators::{Data, Poll, Reader, SourceError};

use super::load::load;
use super::queue::{Queue, Taken};
use super::store::Store;

/// Reads a partition of a [`Journaled`](super::Journaled) source.
pub struct JournalReader<T> {
    queue: Arc<Queue<T>>,
    /// None where nothing is kept.
    store: Option<Arc<Store>>,
    name: String,
    /// The number of the next record.
    at: u64,
    /// Records that were read back, from `at` on.
    old: VecDeque<T>,
    /// Whether the source ended behind them.
    old_ended: bool,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl<T: Data> JournalReader<T> {
    pub(super) fn new(
        queue: Arc<Queue<T>>,
        store: Option<Arc<Store>>,
        name: String,
        from: u64,
    ) -> Result<Self, SourceError> {
        let at = queue.head();
        let (old, thread) = (VecDeque::new(), None);
        let mut reader =
            JournalReader { queue, store, name, at, old, old_ended: false, ended: false, thread };
        reader.go_to(from)?;
        Ok(reader)
    }

    /// Takes over the thread: it ends with the reader.
    pub(super) fn with_thread(mut self, thread: JoinHandle<()>) -> Self {
        self.thread = Some(thread);
        self
    }

    fn go_to(&mut self, to: u64) -> Result<(), SourceError> {
        if to == self.at {
            return Ok(());
        }
        let Some(store) = &self.store else {
            let (source_name, offset) = (self.name.clone(), to.to_string());
            return Err(SourceError::NotReplayable { source_name, offset });
        };
        let (first, end) = (store.first().unwrap_or(0), self.queue.end(0)?);
        if !(first..=end).contains(&to) {
            let (lacks, file) = match to < first {
                true => ("before", store.first_segment()),
                false => ("at the end of", store.last_segment()),
            };
            let reason = format!(
                "{} has the records from {first} to {end}, and the query resumes at {to}: records are missing {lacks} \
                 {file}, or it is the journal of another checkpoint. Put the files back as they were, or begin with a \
                 savepoint or a new checkpoint",
                store.describe()
            );
            return Err(SourceError::Setup(reason));
        }
        self.queue.skip_to(to);
        // Behind the end, if it is not in memory: then it has been reported.
        (self.at, self.old_ended, self.ended) = (to, false, to > self.queue.head());
        self.old.clear();
        Ok(())
    }

    /// Reads back what is only in the journal, if the next record is.
    fn look_back(&mut self) -> Result<(), SourceError> {
        let head = self.queue.head();
        if self.at < head
            && self.old.is_empty()
            && !self.old_ended
            && let Some(store) = &self.store
        {
            self.queue.set_behind();
            let loaded = load(store, self.at, head).map_err(|error| SourceError::Other(Box::new(error)))?;
            (self.old, self.old_ended) = (loaded.records, loaded.ended);
        }
        Ok(())
    }

    fn end(&mut self) -> Poll {
        self.at += 1;
        self.ended = true;
        Poll::End
    }
}

impl<T: Data> Reader for JournalReader<T> {
    type Item = T;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<T>) -> Result<Poll, SourceError> {
        if self.ended {
            return Ok(Poll::End);
        }
        let room = until.map_or(max, |until| {
            max.min(usize::try_from(until.saturating_sub(self.at)).unwrap_or(usize::MAX))
        });
        if room == 0 {
            return Ok(Poll::Idle);
        }
        self.look_back()?;
        if !self.old.is_empty() {
            let count = room.min(self.old.len());
            out.extend(self.old.drain(..count));
            self.at += count as u64;
            return Ok(Poll::Ready);
        }
        if self.old_ended {
            return Ok(self.end());
        }
        let before = out.len();
        let taken = self.queue.take(room, out)?;
        self.at += (out.len() - before) as u64;
        Ok(match taken {
            Taken::Some if out.len() - before == room => Poll::Ready,
            Taken::Some | Taken::Soon => Poll::Soon,
            Taken::Nothing => Poll::Idle,
            Taken::End => self.end(),
        })
    }

    fn offset(&self) -> u64 {
        self.at
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.go_to(*offset)
    }

    fn take_skipped(&mut self) -> u64 {
        self.queue.take_skipped()
    }

    fn rank(&self) -> u64 {
        self.queue.rank()
    }

    /// That of the source once everything received has been read; what is in the journal has no ranks.
    fn next_rank(&self) -> Option<u64> {
        Some(if self.old.is_empty() && self.queue.is_drained() { self.queue.rank() } else { 0 })
    }
}

impl<T> Drop for JournalReader<T> {
    fn drop(&mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take() {
            // What it had to say it has said.
            let _ = thread.join();
        }
    }
}

impl<T> fmt::Debug for JournalReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalReader")
            .field("name", &self.name)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
