//! What a process function may ask and do while it is called.

use crate::named::{HashedKey, Timer, Timers};
use crate::{Context, Epoch, EventTime, Key, Mode, ProcessingTime};

/// The key that a process function is called for, its timers, and the outputs.
///
/// In signatures it has a shorter name: [`ProcessContext`](super::ProcessContext) and the like.
pub struct KeyContext<'a, K: Key, O> {
    /// The key with its hash: what states are asked with, as in `self.count.get(cx.key)`. It derefs to the key.
    pub key: HashedKey<'a, K>,
    /// The outputs: a tuple, as the function declares it.
    pub out: &'a mut O,
    time: EventTime,
    watermark: EventTime,
    timers: &'a mut Timers<K>,
    context: &'a mut Context,
}

impl<'a, K: Key, O> KeyContext<'a, K, O> {
    #[inline]
    pub(super) fn new(
        key: HashedKey<'a, K>,
        time: EventTime,
        watermark: EventTime,
        (out, timers, context): (&'a mut O, &'a mut Timers<K>, &'a mut Context),
    ) -> Self {
        KeyContext { key, out, time, watermark, timers, context }
    }

    /// Returns the event time of the row, or of the event-time timer; [`EventTime::MIN`] for a row of a stream without event
    /// time. For a timer of processing time it is the watermark.
    ///
    /// What is emitted with this time is not late behind the function, unless the row was.
    #[inline]
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// Returns the watermark: the event time before which nothing is expected any more, the least over all inputs. Inside a
    /// micro-batch epoch it stays at the value with which the epoch began.
    #[inline]
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Returns whether the row is older than the watermark. Process functions get late rows like all others; those that drop one
    /// [count](Self::count_late) it.
    #[inline]
    pub fn is_late(&self) -> bool {
        self.time < self.watermark
    }

    /// Counts the row as late, in the query's progress.
    pub fn count_late(&mut self) {
        self.context.count_late(1);
    }

    /// Returns the processing time: one reading of the clock per epoch in micro-batch, one per activation in continuous.
    #[inline]
    pub fn now(&self) -> ProcessingTime {
        self.context.now()
    }

    /// Returns the epoch that the call belongs to.
    pub fn epoch(&self) -> Epoch {
        self.context.epoch()
    }

    /// Returns the mode in which the graph runs.
    pub fn mode(&self) -> Mode {
        self.context.mode()
    }

    /// Sets a timer of the key, which fires once the watermark has reached `time`. A key has each timer once.
    #[inline]
    pub fn set_event_timer(&mut self, time: EventTime) {
        self.timers.set_event(self.key, time);
    }

    /// Sets a timer of the key, which fires once the clock has reached `time`. A key has each timer once.
    #[inline]
    pub fn set_processing_timer(&mut self, time: ProcessingTime) {
        self.timers.set_processing(self.key, time);
    }

    /// Deletes an event-time timer of the key; returns whether it was set.
    #[inline]
    pub fn delete_event_timer(&mut self, time: EventTime) -> bool {
        self.timers.delete_event(self.key, time)
    }

    /// Deletes a processing-time timer of the key; returns whether it was set.
    #[inline]
    pub fn delete_processing_timer(&mut self, time: ProcessingTime) -> bool {
        self.timers.delete_processing(self.key, time)
    }

    /// Deletes all timers of the key.
    pub fn delete_timers(&mut self) {
        let timers: Vec<Timer> = self.timers.of(self.key).collect();
        for timer in timers {
            match timer {
                Timer::Event(time) => self.timers.delete_event(self.key, time),
                Timer::Processing(time) => self.timers.delete_processing(self.key, time),
            };
        }
    }

    /// Iterates over the timers of the key: those of event time first, both in order.
    pub fn timers(&self) -> impl DoubleEndedIterator<Item = Timer> {
        self.timers.of(self.key)
    }
}

impl<K: Key, O> std::fmt::Debug for KeyContext<'_, K, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyContext")
            .field("time", &self.time)
            .field("watermark", &self.watermark)
            .finish_non_exhaustive()
    }
}

/// What a process function may do at the end of its input, where no key is meant.
pub struct CloseContext<'a, O> {
    /// The outputs: a tuple, as the function declares it.
    pub out: &'a mut O,
    now: ProcessingTime,
}

impl<'a, O> CloseContext<'a, O> {
    pub(super) fn new(out: &'a mut O, now: ProcessingTime) -> Self {
        CloseContext { out, now }
    }

    /// Returns the processing time.
    pub fn now(&self) -> ProcessingTime {
        self.now
    }
}

impl<O> std::fmt::Debug for CloseContext<'_, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloseContext").field("now", &self.now).finish_non_exhaustive()
    }
}
