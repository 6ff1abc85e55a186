//! A source that follows a script.

use std::sync::Arc;
use std::time::Duration;

use tidemill_operators::{
    Clock, EventStream, EventTime, Graph, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader,
    ReaderContext, Source, SourceError, SourceInfo,
};

/// A source with rows, event times, watermarks, pauses, failures and ends, in the order of a script.
///
/// A script is divided into portions by [`end_epoch`](Self::end_epoch): in micro-batch each portion is an epoch. In
/// continuous mode the portions are read one after the other without waiting; a [`pause`](Self::pause) holds the rest
/// back until the clock is [advanced](super::TestDriver::advance). A portion without rows is an idle epoch. Without
/// [`end`](Self::end) the source does not end at the end of the script: it has no more records, and windows stay open.
#[derive(Clone, Debug)]
pub struct ScriptedSource<T> {
    partitions: Vec<Vec<Step<T>>>,
}

#[derive(Clone, Debug)]
enum Step<T> {
    Row(EventTime, T),
    Watermark(EventTime),
    EndEpoch,
    Pause(Duration),
    Fail(String),
    End,
}

/// What the source yields; [`ScriptedSource::stream`] makes rows and watermarks of it.
type Item<T> = Result<(EventTime, T), EventTime>;

impl<T: Clone + Send + Sync + 'static> Default for ScriptedSource<T> {
    fn default() -> Self {
        ScriptedSource::new()
    }
}

impl<T: Clone + Send + Sync + 'static> ScriptedSource<T> {
    /// An empty script.
    pub fn new() -> Self {
        ScriptedSource { partitions: vec![Vec::new()] }
    }

    /// Adds a row with its event time.
    #[must_use]
    pub fn row(self, time: EventTime, row: T) -> Self {
        self.step(Step::Row(time, row))
    }

    /// Adds a watermark: no row with an earlier event time follows.
    #[must_use]
    pub fn watermark(self, watermark: EventTime) -> Self {
        self.step(Step::Watermark(watermark))
    }

    /// Ends a portion. Two calls in a row make an epoch without rows of this partition.
    #[must_use]
    pub fn end_epoch(self) -> Self {
        self.step(Step::EndEpoch)
    }

    /// Adds a pause, by the clock, in continuous mode. In micro-batch use an empty portion.
    #[must_use]
    pub fn pause(self, duration: Duration) -> Self {
        self.step(Step::Pause(duration))
    }

    /// Lets the source fail here.
    #[must_use]
    pub fn fail(self, reason: &str) -> Self {
        self.step(Step::Fail(reason.to_owned()))
    }

    /// Ends the partition here.
    #[must_use]
    pub fn end(self) -> Self {
        self.step(Step::End)
    }

    /// Begins the script of the next partition.
    #[must_use]
    pub fn next_partition(mut self) -> Self {
        self.partitions.push(Vec::new());
        self
    }

    fn step(mut self, step: Step<T>) -> Self {
        if let Some(script) = self.partitions.last_mut() {
            script.push(step);
        }
        self
    }

    /// Returns the rows as a stream with the event times and watermarks of the script.
    ///
    /// So it tests the part of a program behind `with_watermark`. To test the steps before it as well, such as a parser
    /// and the function that returns the event time, use the script as a source and ignore its times:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::prelude::*;
    /// use tidemill::testing::{ScriptedSource, SimClock, TestDriver, collecting_sink};
    ///
    /// // The program under test, from the lines on.
    /// fn counts(lines: Stream<String>) -> EventStream<u64> {
    ///     lines
    ///         .filter_map(|line| line.parse().ok())
    ///         .with_watermark(|seconds: &i64| EventTime::from_secs(*seconds), Duration::ZERO)
    ///         .window(tumbling(Duration::from_secs(10)))
    ///         .count()
    ///         .append()
    ///         .map(|result| result.value)
    ///         .boxed()
    /// }
    ///
    /// let any = EventTime::MIN;
    /// let script = ["1", "no number", "2", "11"].iter().fold(ScriptedSource::new(), |script, line| {
    ///     script.row(any, line.to_string())
    /// });
    /// let graph = Graph::new("parsed");
    /// let (sink, counted) = collecting_sink();
    /// let lines = graph.source(script.end_epoch()).filter_map(|item| item.ok().map(|(_, line)| line)).boxed();
    /// counts(lines).sink(sink);
    ///
    /// let mut driver = TestDriver::new(&graph, Options::default(), &SimClock::new())?;
    /// driver.epoch()?;
    /// assert_eq!(counted.committed(), [2], "the line that is 11 closes the first window");
    /// # Ok::<(), tidemill::RunError>(())
    /// ```
    #[track_caller]
    pub fn stream(self, graph: &Graph) -> EventStream<T> {
        graph
            .source(self)
            .with_punctuated_watermark(
                |item| item.as_ref().map_or_else(|watermark| *watermark, |(time, _)| *time),
                |item| item.as_ref().err().copied(),
            )
            .filter_map(|item: Item<T>| item.ok().map(|(_, row)| row))
            .boxed()
    }
}

impl<T: Clone + Send + Sync + 'static> Source for ScriptedSource<T> {
    type Item = Item<T>;
    type Offset = u64;
    type Reader = ScriptedReader<T>;

    fn describe(&self) -> String {
        "script".to_owned()
    }
    fn is_bounded(&self) -> bool {
        self.partitions.iter().all(|script| matches!(script.last(), Some(Step::End)))
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(self.partitions.len() as u32, |_| 0))
    }
    fn latest(&self, partition: u32, from: &u64, _limits: &PlanLimits) -> Result<u64, SourceError> {
        let script = self.partitions.get(partition as usize).map_or(&[][..], Vec::as_slice);
        let rest = script.iter().skip(*from as usize);
        let portion = rest.clone().take_while(|step| !matches!(step, Step::EndEpoch)).count();
        let boundary = usize::from(rest.count() > portion);
        Ok(*from + (portion + boundary) as u64)
    }
    fn open(
        &self,
        partition: u32,
        from: &u64,
        context: ReaderContext,
    ) -> Result<ScriptedReader<T>, SourceError> {
        let script = self.partitions.get(partition as usize).cloned().unwrap_or_default();
        Ok(ScriptedReader { script: script.into(), next: *from, clock: context.clock, paused: None })
    }
}

/// Reads one partition of a [`ScriptedSource`].
#[derive(Debug)]
pub struct ScriptedReader<T> {
    script: Arc<[Step<T>]>,
    next: u64,
    clock: Clock,
    paused: Option<ProcessingTime>,
}

impl<T: Clone + Send + Sync + 'static> Reader for ScriptedReader<T> {
    type Item = Item<T>;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<Item<T>>) -> Result<Poll, SourceError> {
        while out.len() < max && until.is_none_or(|until| self.next < *until) {
            let Some(step) = self.script.get(self.next as usize) else { return Ok(Poll::Idle) };
            match step {
                Step::Row(time, row) => out.push(Ok((*time, row.clone()))),
                Step::Watermark(watermark) => out.push(Err(*watermark)),
                Step::EndEpoch => {
                    self.next += 1;
                    return Ok(Poll::Ready);
                }
                Step::Pause(_) if until.is_some() => {}
                Step::Pause(duration) => {
                    let now = self.clock.now();
                    let over = *self.paused.get_or_insert(now + *duration);
                    if now < over {
                        return Ok(Poll::IdleUntil(over));
                    }
                    self.paused = None;
                }
                Step::Fail(reason) => return Err(SourceError::Other(reason.clone().into())),
                Step::End => return Ok(Poll::End),
            }
            self.next += 1;
        }
        Ok(Poll::Ready)
    }

    fn offset(&self) -> u64 {
        self.next
    }

    fn seek(&mut self, offset: &u64) -> Result<(), SourceError> {
        self.next = *offset;
        Ok(())
    }
}
