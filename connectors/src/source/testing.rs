//! Drives a source as the engine would: in epochs that are planned, or simply reading.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;
use tidemill_operators::{
    Clock, PlanLimits, Poll, PrepareContext, ProcessingTime, Reader, ReaderContext, Source, SourceError,
    SourceLog, Waker,
};

/// A source with its readers, one worker and a clock that the test sets.
pub(crate) struct Drive<S: Source> {
    pub(crate) source: S,
    pub(crate) readers: Vec<S::Reader>,
    pub(crate) polls: Vec<Poll>,
    clock: Arc<AtomicI64>,
    woken: Receiver<()>,
    context: ReaderContext,
}

/// Through JSON and back, as a checkpoint does.
fn kept<O: tidemill_operators::Offset>(offset: &O) -> O {
    serde_json::from_value(serde_json::to_value(offset).unwrap()).unwrap()
}

/// Where the partitions of a source begin.
pub(crate) fn starts<S: Source>(
    source: &S,
    log: Option<Arc<dyn SourceLog>>,
) -> Result<Vec<S::Offset>, SourceError> {
    let info = source.prepare(&PrepareContext::new(log))?;
    Ok((0..info.partitions()).map(|partition| info.start(partition).unwrap().clone()).collect())
}

impl<S: Source> Drive<S> {
    pub(crate) fn new(source: S) -> Result<Self, SourceError> {
        let starts = starts(&source, None)?;
        Self::resume(source, &starts)
    }

    pub(crate) fn resume(source: S, offsets: &[S::Offset]) -> Result<Self, SourceError> {
        let clock = Arc::new(AtomicI64::new(0));
        let (ring, woken) = crossbeam_channel::unbounded();
        let waker = Waker::new(move || {
            let _ = ring.send(());
        });
        let now = Arc::clone(&clock);
        let context = ReaderContext::new(
            waker,
            Clock::new(move || ProcessingTime::from_micros(now.load(Ordering::SeqCst))),
        );
        let mut drive = Drive { source, readers: Vec::new(), polls: Vec::new(), clock, woken, context };
        drive.open(offsets)?;
        Ok(drive)
    }

    fn open(&mut self, offsets: &[S::Offset]) -> Result<(), SourceError> {
        self.readers.clear();
        for (partition, offset) in (0..).zip(offsets) {
            self.readers.push(self.source.open(partition, &kept(offset), self.context.clone())?);
        }
        self.polls = vec![Poll::Ready; self.readers.len()];
        Ok(())
    }

    pub(crate) fn offsets(&self) -> Vec<S::Offset> {
        self.readers.iter().map(Reader::offset).collect()
    }

    /// Opens all partitions again where they stand.
    pub(crate) fn reopen(&mut self) -> Result<(), SourceError> {
        let offsets = self.offsets();
        self.open(&offsets)
    }

    pub(crate) fn set_clock(&self, micros: i64) {
        self.clock.store(micros, Ordering::SeqCst);
    }

    /// Plans an epoch and reads it: the records of every partition.
    pub(crate) fn epoch(&mut self, max_records: Option<u64>) -> Result<Vec<Vec<S::Item>>, SourceError> {
        let limits = PlanLimits::new(max_records, self.context.clock.now());
        self.source.refresh(&limits)?;
        let mut until = Vec::new();
        for (partition, reader) in (0..).zip(&self.readers) {
            until.push(kept(&self.source.latest(partition, &kept(&reader.offset()), &limits)?));
        }
        self.epoch_until(&until)
    }

    /// Reads up to these offsets, as a replay does.
    pub(crate) fn epoch_until(&mut self, until: &[S::Offset]) -> Result<Vec<Vec<S::Item>>, SourceError> {
        let mut rows = Vec::new();
        for ((reader, until), last) in self.readers.iter_mut().zip(until).zip(&mut self.polls) {
            let mut out = Vec::new();
            let mut polls = 0;
            while reader.offset() != *until && *last != Poll::End {
                *last = reader.poll(Some(until), 3, &mut out)?;
                polls += 1;
                assert!(polls < 1_000_000, "{:?} never reaches {until:?}", reader.offset());
            }
            rows.push(out);
        }
        Ok(rows)
    }

    /// Reads all there is, as continuous mode does.
    pub(crate) fn read(&mut self) -> Result<Vec<Vec<S::Item>>, SourceError> {
        let mut rows = Vec::new();
        for (reader, last) in self.readers.iter_mut().zip(&mut self.polls) {
            let mut out = Vec::new();
            loop {
                *last = reader.poll(None, 3, &mut out)?;
                if !matches!(*last, Poll::Ready | Poll::Soon) {
                    break;
                }
            }
            rows.push(out);
        }
        Ok(rows)
    }

    /// Reads, waiting for the waker in between, until `count` records have come from the only partition or it ends.
    pub(crate) fn read_at_least(&mut self, count: usize) -> Result<Vec<S::Item>, SourceError> {
        let mut rows = Vec::new();
        loop {
            rows.extend(self.read()?.into_iter().flatten());
            if rows.len() >= count || self.ended() {
                return Ok(rows);
            }
            self.wait();
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.polls.iter().all(|&poll| poll == Poll::End)
    }

    /// Waits until the worker has been woken.
    pub(crate) fn wait(&self) {
        self.woken.recv_timeout(Duration::from_secs(20)).expect("the waker is called");
    }
}

/// Returns the time that this thread has had of a core: what other programs take does not count.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Returns a time that passes: here that of a thread is not known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_time() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

/// Returns the warnings that are logged while `run` runs, on this thread.
pub(crate) fn warnings<R>(run: impl FnOnce() -> R) -> (R, Vec<String>) {
    let said = Arc::default();
    let result = tracing::subscriber::with_default(Listener(Arc::clone(&said)), run);
    let said = std::mem::take(&mut *said.lock().unwrap());
    (result, said)
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            let _ = write!(text, "{field}: {value:?} ");
        });
        self.0.lock().unwrap().push(text);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
