//! The scheduled events as a source of Tidemill's.

use std::marker::PhantomData;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tidemill::{
    Clock, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Source, SourceError, SourceInfo, Waker,
};

use super::lateness::Lateness;
use super::run::Setting;
use super::schedule::{Schedule, Wait, Walk};
use super::words;

/// An event: its key, and when it was due, in nanoseconds after the beginning.
pub type Event = (u64, u64);

/// What a generator emits: one line of the schedule's events.
pub trait Emitted: Send + Sized + 'static {
    /// The next line of a partition.
    fn next(at: &mut Walk, schedule: &Schedule) -> Self;
}

/// Of a schedule whose lines are single events.
impl Emitted for Event {
    #[inline]
    fn next(at: &mut Walk, schedule: &Schedule) -> Event {
        at.step(schedule)
    }
}

/// A line of text: a word for each event, which spells its key.
impl Emitted for String {
    #[inline]
    fn next(at: &mut Walk, schedule: &Schedule) -> String {
        let events = schedule.load().line;
        let mut line = String::with_capacity(8 * events as usize);
        for _ in 0..events {
            words::spell(at.step(schedule).0, &mut line);
            line.push(' ');
        }
        line
    }
}

/// How many events of a closed load a partition gives to an epoch: as many as the sources that hold everything from
/// the beginning.
const EPOCH_EVENTS: u64 = 1_000_000;

/// A source of what is due by a [`Schedule`].
///
/// It can be read again: an event is a function of its number.
#[derive(Debug)]
pub struct OpenLoop<T> {
    setting: Setting,
    schedule: Arc<Schedule>,
    alarm: Alarm,
    emitted: PhantomData<fn() -> T>,
}

impl<T> OpenLoop<T> {
    /// The source of the events of a run.
    #[must_use]
    pub fn new(setting: &Setting) -> OpenLoop<T> {
        let (setting, schedule) = (setting.clone(), Arc::clone(&setting.schedule));
        OpenLoop { setting, schedule, alarm: Alarm::default(), emitted: PhantomData }
    }
}

/// Tells the engine that the next event is due, when it has asked for one and there was none: as a socket would, which
/// does not wait for the next poll. Only micro-batch polls so.
#[derive(Debug, Default)]
struct Alarm {
    wakers: Arc<Mutex<Vec<Waker>>>,
    thread: OnceLock<Sender<Instant>>,
}

impl Alarm {
    fn add(&self, waker: Waker) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    fn set(&self, at: Instant) {
        let thread = self.thread.get_or_init(|| {
            let (sender, requests) = channel::<Instant>();
            let wakers = Arc::clone(&self.wakers);
            // It ends with the source, which holds the other end.
            std::thread::spawn(move || {
                let mut last = None;
                while let Ok(at) = requests.recv() {
                    if last.replace(at) != Some(at) {
                        std::thread::sleep(at.saturating_duration_since(Instant::now()));
                        wakers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Waker::wake);
                    }
                }
            });
            sender
        });
        // The thread lives as long as this.
        let _ = thread.send(at);
    }
}

impl<T: Emitted> Source for OpenLoop<T> {
    type Item = T;
    type Offset = u64;
    type Reader = OpenLoopReader<T>;

    fn describe(&self) -> String {
        format!("open loop {}/s", self.schedule.load().rate)
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn is_replayable(&self) -> bool {
        true
    }

    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        let first = |partition| self.schedule.first(u64::from(partition));
        Ok(SourceInfo::new(self.schedule.partitions() as u32, first))
    }

    fn latest(&self, partition: u32, from: &u64, limits: &PlanLimits) -> Result<u64, SourceError> {
        let (first, step) = (self.schedule.first(u64::from(partition)), self.schedule.step());
        let available = self.schedule.available();
        // The partition's first event that may not be read yet.
        let mut upto = first + self.schedule.lines(first, available) * step;
        if available >= self.schedule.total() {
            // One line beyond the end, so that the reader is asked and says that it has ended.
            upto += step;
        }
        if upto <= *from && available < self.schedule.total() {
            // Before the beginning nothing but what fills the state is due.
            let at = self.schedule.origin() + Duration::from_nanos(self.schedule.due(available));
            self.alarm.set(at);
        }
        let load = self.schedule.load();
        let most = limits.max_records.or(load.closed.then_some(EPOCH_EVENTS / load.line));
        Ok(upto.min(from.saturating_add(most.unwrap_or(u64::MAX / step).saturating_mul(step))).max(*from))
    }

    fn open(
        &self,
        _partition: u32,
        from: &u64,
        context: ReaderContext,
    ) -> Result<OpenLoopReader<T>, SourceError> {
        self.alarm.add(context.waker);
        Ok(OpenLoopReader {
            schedule: Arc::clone(&self.schedule),
            at: self.schedule.walk(*from),
            clock: context.clock,
            lateness: self.setting.lateness(),
            emitted: PhantomData,
        })
    }
}

/// Reads one partition of an [`OpenLoop`].
#[derive(Debug)]
pub struct OpenLoopReader<T> {
    schedule: Arc<Schedule>,
    at: Walk,
    clock: Clock,
    lateness: Lateness,
    emitted: PhantomData<fn() -> T>,
}

impl<T: Emitted> Reader for OpenLoopReader<T> {
    type Item = T;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<T>) -> Result<Poll, SourceError> {
        let schedule = &*self.schedule;
        // What was planned was due when it was planned.
        let (end, now) = match until {
            None => schedule.look(),
            Some(until) => (*until, schedule.elapsed()),
        };
        let end = end.min(schedule.total());
        let first = self.at.index();
        let count = schedule.lines(first, end).min(max as u64);
        out.extend((0..count).map(|_| T::next(&mut self.at, schedule)));
        self.lateness.emitted(first, count, now);
        let next = self.at.index();
        if next >= schedule.total() {
            return Ok(Poll::End);
        }
        if until.is_some_and(|until| next >= *until) {
            return Ok(Poll::Idle);
        }
        Ok(match schedule.wait(next) {
            Wait::Awake if count == max as u64 => Poll::Ready,
            Wait::Awake => Poll::Soon,
            Wait::Asleep(time) => Poll::IdleUntil(self.clock.now() + time),
        })
    }

    fn offset(&self) -> u64 {
        self.at.index()
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.at = self.schedule.walk(*offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidemill::ProcessingTime;

    use super::*;
    use crate::harness::run::{Job, Shape};
    use crate::harness::schedule::{Load, Pace};

    fn context() -> ReaderContext {
        ReaderContext::new(Waker::new(|| ()), Clock::new(|| ProcessingTime::from_micros(0)))
    }

    /// A source whose events have been due for a minute, or begin in a minute.
    fn source(load: Load, partitions: usize, late: bool) -> OpenLoop<Event> {
        let minute = Duration::from_secs(60);
        let now = Instant::now();
        let origin = if late { now.checked_sub(minute).unwrap() } else { now + minute };
        let job = Job { shape: Shape::KeyedCount, window: 0, sink_takes: Duration::ZERO };
        OpenLoop::new(&Setting::of(job, Arc::new(Schedule::beginning_at(load, partitions, origin))))
    }

    #[test]
    fn a_late_generator_emits_at_once_and_with_the_old_stamps() {
        let source = source(Load { events: 10, ..Load::open(10, 1.0) }, 1, true);
        let (mut reader, mut out) = (source.open(0, &0, context()).unwrap(), Vec::new());
        assert_eq!(reader.poll(None, 4, &mut out).unwrap(), Poll::Ready);
        assert_eq!(reader.poll(None, 100, &mut out).unwrap(), Poll::End);
        let stamps: Vec<u64> = out.iter().map(|(_, due)| due / 100_000_000).collect();
        assert_eq!(stamps, (0..10).collect::<Vec<u64>>());
    }

    #[test]
    fn what_is_not_due_is_not_emitted_unless_nobody_waits() {
        let load = Load { events: 10, pace: Pace::Sleep, ..Load::open(10, 1.0) };
        let limits = PlanLimits::new(None, ProcessingTime::from_micros(0));
        let early = source(load, 1, false);
        let (mut reader, mut out) = (early.open(0, &0, context()).unwrap(), Vec::new());
        assert!(matches!(reader.poll(None, 4, &mut out).unwrap(), Poll::IdleUntil(_)));
        assert_eq!((out.len(), early.latest(0, &0, &limits).unwrap()), (0, 0));

        let closed = source(Load { closed: true, ..load }, 1, false);
        let mut reader = closed.open(0, &0, context()).unwrap();
        assert_eq!(reader.poll(None, 100, &mut out).unwrap(), Poll::End);
        assert_eq!(out.len(), 10);
    }

    #[test]
    fn epoch_ends_as_planned_and_last_at_end_of_input() {
        let late = source(Load { events: 11, ..Load::open(10, 1.0) }, 2, true);
        let limits = PlanLimits::new(Some(2), ProcessingTime::from_micros(0));
        let info = late.prepare(&PrepareContext::default()).unwrap();
        for (partition, events) in [(0, 6_usize), (1, 5)] {
            let mut reader = late.open(partition, info.start(partition).unwrap(), context()).unwrap();
            let mut all = Vec::new();
            let mut epochs = 0;
            loop {
                let until = late.latest(partition, &reader.offset(), &limits).unwrap();
                let mut out = Vec::new();
                let poll = reader.poll(Some(&until), 100, &mut out).unwrap();
                epochs += 1;
                all.append(&mut out);
                if poll == Poll::End {
                    break;
                }
                assert_eq!((poll, reader.offset()), (Poll::Idle, until));
            }
            assert_eq!((all.len(), epochs), (events, events.div_ceil(2)), "{partition}");
        }
    }
}
