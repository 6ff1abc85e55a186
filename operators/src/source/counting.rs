//! A reader for tests: counts up, in rows that own memory, and has no way of its own to be pulled.

use super::{Poll, Reader, SourceError};
use crate::ProcessingTime;

pub(crate) struct Counting {
    pub(crate) at: u64,
    pub(crate) end: u64,
    /// What it says at its end, instead of that it has ended.
    pub(crate) waits: Option<ProcessingTime>,
}

impl Counting {
    pub(crate) fn to(end: u64) -> Self {
        Counting { at: 0, end, waits: None }
    }
}

impl Reader for Counting {
    type Item = Box<u64>;
    type Offset = u64;

    fn poll(
        &mut self,
        until: Option<&u64>,
        max: usize,
        out: &mut Vec<Box<u64>>,
    ) -> Result<Poll, SourceError> {
        let end = self.end.min(until.copied().unwrap_or(u64::MAX));
        let read = (end - self.at).min(max as u64);
        out.extend((self.at..self.at + read).map(Box::new));
        self.at += read;
        Ok(match self.waits {
            _ if read > 0 => Poll::Ready,
            _ if self.at < self.end => Poll::Idle,
            Some(time) => Poll::IdleUntil(time),
            None => Poll::End,
        })
    }

    fn offset(&self) -> u64 {
        self.at
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.at = *offset;
        Ok(())
    }
}
