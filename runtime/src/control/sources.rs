//! What decides whether sources read: rows in flight, pauses, idle sources.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crossbeam_utils::CachePadded;
use tidemill_operators::Epoch;
use tidemill_operators::graph::NodeId;
use tidemill_operators::turn::lock;

use super::Schedule;
use crate::flow::Flow;

/// The status of all sources, and the rows between them and the workers.
pub(crate) struct Sources {
    /// How many rows a source may read at once, and how many may be queued for a worker.
    pub(crate) flow: Flow,
    /// How many rows a source must have at once to lend its reader to the chain behind it.
    pub(crate) lend_from: usize,
    /// Rows on their way to each worker.
    queued: Vec<CachePadded<AtomicI64>>,
    /// Rows that are buffered on each worker until their epoch begins.
    buffered: Vec<CachePadded<AtomicI64>>,
    /// Rows of the current epoch that an operator on each worker takes only once it holds fewer others.
    held_back: Vec<CachePadded<AtomicI64>>,
    /// Above how many of these sources pause, and of those that are buffered: an epoch does not end before operators that hold rows
    /// have worked on them, which takes longer than the time of a worker's steps.
    max_held_back: i64,
    /// Whether a source waits for these to become fewer.
    paused: AtomicBool,
    /// Continuous: whether a source has nothing to read at the moment, by source and worker.
    idle: Mutex<BTreeMap<(NodeId, usize), bool>>,
    /// Whether the driver has been told of new input and has not looked yet.
    data_available: AtomicBool,
}

impl Sources {
    pub(super) fn new(flow: Flow, lend_from: usize, max_held_back: usize, workers: usize) -> Sources {
        let counters = || (0..workers).map(|_| CachePadded::new(AtomicI64::new(0))).collect();
        Sources {
            flow,
            lend_from,
            queued: counters(),
            buffered: counters(),
            held_back: counters(),
            max_held_back: max_held_back as i64,
            paused: AtomicBool::new(false),
            idle: Mutex::default(),
            data_available: AtomicBool::new(false),
        }
    }

    /// Counts rows that one worker sends to another.
    pub(crate) fn sent(&self, from: usize, to: usize, rows: usize) {
        if let Some(queued) = self.queued.get(to) {
            queued.fetch_add(rows as i64, Ordering::SeqCst);
            self.flow.sent(from, to, rows);
        }
    }

    /// Counts rows that have reached a worker; returns whether paused sources are to be woken.
    pub(super) fn received(&self, worker: usize, rows: usize) -> bool {
        let Some(queued) = self.queued.get(worker) else { return false };
        let left = queued.fetch_sub(rows as i64, Ordering::SeqCst) - rows as i64;
        self.flow.received(worker, rows);
        // A source sets `paused` before it checks the queues again: either it sees these rows gone, or this sees `paused`.
        self.paused.load(Ordering::SeqCst) && left <= self.flow.bound(worker) / 2 && self.resume()
    }

    /// Counts rows that a worker buffers until their epoch begins, or (negative) has taken out; returns whether paused
    /// sources are to be woken.
    pub(super) fn buffered(&self, worker: usize, rows: i64) -> bool {
        let Some(buffered) = self.buffered.get(worker) else { return false };
        buffered.fetch_add(rows, Ordering::AcqRel);
        rows < 0 && self.resume()
    }

    /// Counts rows that a worker holds back until an operator takes more, or (negative) has passed to it; returns whether paused
    /// sources are to be woken.
    pub(super) fn held_back(&self, worker: usize, rows: i64) -> bool {
        let Some(held_back) = self.held_back.get(worker) else { return false };
        let left = held_back.fetch_add(rows, Ordering::SeqCst) + rows;
        if rows > 0 {
            self.flow.hold_back();
        }
        rows < 0 && self.paused.load(Ordering::SeqCst) && left <= self.max_held_back && self.resume()
    }

    fn resume(&self) -> bool {
        self.paused.swap(false, Ordering::AcqRel)
    }

    /// Returns whether a source must wait before it reads more.
    ///
    /// Too many rows are on their way to a worker or held back there, or, for a source that is ahead of the oldest open epoch, too many are
    /// buffered until their epoch begins. (A source in the oldest epoch never waits for the latter: all others wait for it.)
    pub(crate) fn must_pause(&self, epoch: Epoch, schedule: &Schedule) -> bool {
        let over = |counters: &[CachePadded<AtomicI64>], most: i64| {
            let mut counters = counters.iter().enumerate();
            counters.any(|(worker, rows)| rows.load(Ordering::SeqCst) > self.flow.bound(worker).min(most))
        };
        let held_back = || self.held_back.iter().any(|rows| rows.load(Ordering::SeqCst) > self.max_held_back);
        let is_ahead = epoch.number() > schedule.committed();
        let must = || {
            over(&self.queued, i64::MAX)
                || held_back()
                || (is_ahead && over(&self.buffered, self.max_held_back))
        };
        if !must() {
            return false;
        }
        self.paused.store(true, Ordering::SeqCst);
        // Look again: what was in the way may have gone before the note was written. The note stays: another source may
        // have left it too, and at worst a source is woken for nothing.
        must()
    }

    /// Continuous: notes whether a source is idle; returns whether it has become idle.
    pub(super) fn set_idle(&self, source: NodeId, worker: usize, idle: bool) -> bool {
        lock(&self.idle).insert((source, worker), idle) != Some(idle) && idle
    }

    /// Continuous: returns whether that many instances of sources have all reported that they are idle.
    pub(crate) fn all_idle(&self, instances: usize) -> bool {
        let idle = lock(&self.idle);
        idle.len() == instances && idle.values().all(|idle| *idle)
    }

    /// Notes new input; returns whether the driver is to be told.
    pub(super) fn note_data(&self) -> bool {
        !self.data_available.swap(true, Ordering::AcqRel)
    }

    /// The driver looks for new input.
    pub(crate) fn clear_data_available(&self) {
        self.data_available.store(false, Ordering::Release);
    }
}
