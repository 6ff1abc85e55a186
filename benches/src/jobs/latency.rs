//! How long an event takes from the moment it was due to the sink; see [`baseline::latency`](crate::baseline::latency).
//!
//! The source is the baseline's: it emits what is due, with the stamps of the schedule however late it comes, asks to
//! be called again at once while the next event is near, and lets its worker sleep otherwise. The program is a plain
//! running count, whose output is `(key, count)`: the sink knows the schedule, so it knows when the event that made it
//! so was due, and those before it that the same row speaks of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use std::sync::{Mutex, PoisonError};
use tidemill::{
    Clock, Epoch, Graph, Options, PlanLimits, Poll, Reader, ReaderContext, Run, Sink, SinkError, Source,
    SourceError,
};

use crate::baseline::latency::{KEYS, Latency, due, histogram};
use crate::generator::{key, row_checksum};

/// A source whose next event is further away than this lets its worker park.
const PARK_BEYOND: Duration = Duration::from_micros(100);
/// The most events a source emits per activation, when it is behind.
const BATCH: usize = 1024;
/// How long before the first event the workers start.
const LEAD: Duration = Duration::from_millis(50);

/// Emits `rate * seconds` events at `rate` a second, divided among the workers, and measures each.
///
/// # Panics
/// If `rate` is 0 or the query fails.
#[must_use]
pub fn latency(rate: u64, seconds: f64, options: &Options) -> Latency {
    assert!(rate > 0, "a rate of 0 has no events");
    let total = (rate as f64 * seconds) as u64;
    let schedule = Arc::new(Schedule::new(rate, total, Instant::now() + LEAD, options.workers as u64));
    let parts: Arc<Mutex<Vec<Measured>>> = Arc::default();

    let graph = Graph::new("latency");
    let (for_sink, shared) = (Arc::clone(&schedule), Arc::clone(&parts));
    graph
        .source(OpenLoop(Arc::clone(&schedule)))
        .key_by(|key| *key)
        .count()
        .update()
        .sink_per_worker(move |_| Ok(Measure::new(&for_sink, &shared)));
    graph.run(options.clone()).expect("the query runs to its end");

    let elapsed = Instant::now().saturating_duration_since(schedule.origin);
    let mut answer = Latency { histogram: histogram(), count: 0, checksum: 0, elapsed };
    for part in parts.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        answer.histogram.add(part.histogram).expect("the histograms have the same bounds");
        answer.count += part.count;
        answer.checksum = answer.checksum.wrapping_add(part.checksum);
    }
    answer
}

/// Which events are due when.
#[derive(Debug)]
struct Schedule {
    rate: u64,
    total: u64,
    peers: u64,
    origin: Instant,
    /// The events by key, in order: those of key `k` are `events[starts[k]..starts[k + 1]]`.
    events: Vec<u32>,
    starts: Vec<usize>,
}

impl Schedule {
    fn new(rate: u64, total: u64, origin: Instant, peers: u64) -> Schedule {
        let mut starts = vec![0; KEYS as usize + 1];
        (0..total).for_each(|index| starts[key(index, KEYS) as usize + 1] += 1);
        for k in 1..starts.len() {
            starts[k] += starts[k - 1];
        }
        let mut next = starts.clone();
        let mut events = vec![0; total as usize];
        for index in 0..total {
            let slot = &mut next[key(index, KEYS) as usize];
            events[*slot] = u32::try_from(index).expect("fewer than 2^32 events");
            *slot += 1;
        }
        // Making the schedule must not eat up the lead.
        let origin = origin.max(Instant::now() + LEAD);
        Schedule { rate, total, peers, origin, events, starts }
    }

    /// Nanoseconds since the first event was due.
    fn now(&self) -> u64 {
        Instant::now().saturating_duration_since(self.origin).as_nanos() as u64
    }
}

/// The source of the scheduled events.
struct OpenLoop(Arc<Schedule>);

impl Source for OpenLoop {
    type Item = u64;
    type Offset = u64;
    type Reader = OpenLoopReader;

    fn describe(&self) -> String {
        format!("open loop {}/s", self.0.rate)
    }

    fn partitions(&self) -> u32 {
        self.0.peers as u32
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn start(&self, partition: u32) -> Result<u64, SourceError> {
        Ok(u64::from(partition))
    }

    fn latest(&self, partition: u32, from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        let present = self.0.now();
        let mut upto = (*from).max(u64::from(partition));
        while upto < self.0.total && due(upto, self.0.rate) <= present {
            upto += self.0.peers;
        }
        // One beyond the end, so that the reader is asked and says that it has ended.
        Ok(if upto >= self.0.total { upto + self.0.peers } else { upto })
    }

    fn open(
        &self,
        _partition: u32,
        from: &u64,
        context: ReaderContext,
    ) -> Result<OpenLoopReader, SourceError> {
        Ok(OpenLoopReader { schedule: Arc::clone(&self.0), next: *from, clock: context.clock })
    }
}

/// Emits one partition's share.
struct OpenLoopReader {
    schedule: Arc<Schedule>,
    next: u64,
    clock: Clock,
}

impl Reader for OpenLoopReader {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        let schedule = &*self.schedule;
        if Instant::now() >= schedule.origin {
            let present = schedule.now();
            let end = schedule.total.min(until.copied().unwrap_or(u64::MAX));
            while self.next < end && out.len() < max.min(BATCH) && due(self.next, schedule.rate) <= present {
                out.push(key(self.next, KEYS));
                self.next += schedule.peers;
            }
        }
        if self.next >= schedule.total {
            return Ok(Poll::End);
        }
        if until.is_some_and(|until| self.next >= *until) {
            return Ok(Poll::Idle);
        }
        let at = schedule.origin + Duration::from_nanos(due(self.next, schedule.rate));
        let wait = at.saturating_duration_since(Instant::now());
        Ok(if wait > PARK_BEYOND { Poll::IdleUntil(self.clock.now() + wait) } else { Poll::Ready })
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.next = *offset;
        Ok(())
    }
}

/// What one instance of the sink has measured.
struct Measured {
    histogram: Histogram<u64>,
    count: u64,
    checksum: u64,
}

/// The sink: measures every event that a row speaks of.
struct Measure {
    schedule: Arc<Schedule>,
    /// How many events of each key have been measured. A key's rows come to one instance.
    seen: Vec<u64>,
    own: Measured,
    all: Arc<Mutex<Vec<Measured>>>,
    immediate: bool,
    waiting: Vec<(u64, u64)>,
}

impl Measure {
    fn new(schedule: &Arc<Schedule>, all: &Arc<Mutex<Vec<Measured>>>) -> Measure {
        Measure {
            schedule: Arc::clone(schedule),
            seen: vec![0; KEYS as usize],
            own: Measured { histogram: histogram(), count: 0, checksum: 0 },
            all: Arc::clone(all),
            immediate: true,
            waiting: Vec::new(),
        }
    }

    fn measure(&mut self, key: u64, count: u64) {
        let present = self.schedule.now();
        let first = self.schedule.starts[key as usize];
        let seen = &mut self.seen[key as usize];
        while *seen < count {
            let event = u64::from(self.schedule.events[first + *seen as usize]);
            *seen += 1;
            let late = present.saturating_sub(due(event, self.schedule.rate));
            self.own.histogram.saturating_record(late.max(1));
            self.own.count += 1;
            self.own.checksum = self.own.checksum.wrapping_add(row_checksum(key, 0, *seen));
        }
    }
}

impl Sink<(u64, u64)> for Measure {
    fn open(&mut self, context: &tidemill::SinkContext) -> Result<(), SinkError> {
        self.immediate = context.immediate;
        Ok(())
    }

    fn write(&mut self, _epoch: Epoch, rows: &mut Vec<(u64, u64)>) -> Result<(), SinkError> {
        if self.immediate {
            rows.drain(..).for_each(|(key, count)| self.measure(key, count));
        } else {
            self.waiting.append(rows);
        }
        Ok(())
    }

    // One epoch is committed after the other, and what is committed late is measured late.
    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        for (key, count) in std::mem::take(&mut self.waiting) {
            self.measure(key, count);
        }
        Ok(())
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        let own = Measured { histogram: histogram(), count: 0, checksum: 0 };
        let own = std::mem::replace(&mut self.own, own);
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::latency::expected_checksum;
    use tidemill::Mode;

    #[test]
    fn every_event_is_counted_once() {
        for mode in [Mode::MicroBatch, Mode::Continuous] {
            for workers in [1, 2] {
                for rate in [1_000, 50_000] {
                    let options = Options::default().with_mode(mode).with_workers(workers);
                    let answer = latency(rate, 0.2, &options);
                    assert_eq!(answer.count, rate / 5, "{mode:?} {workers} {rate}");
                    assert_eq!(answer.checksum, expected_checksum(rate / 5));
                    assert!(answer.elapsed >= Duration::from_nanos(due(rate / 5 - 1, rate)));
                }
            }
        }
    }
}
