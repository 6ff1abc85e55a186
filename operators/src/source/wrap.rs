//! Sources around sources.

use crate::{
    JournalSlot, PlanLimits, PrepareContext, ProcessingTime, Reader, ReaderContext, Source, SourceError,
    SourceInfo,
};

/// A source that reads another one and changes what its readers yield, not where they stand.
///
/// It is a [`Source`] by that: all else goes to the source within, also what [`Source`] may learn to do one day. A source with
/// positions of its own implements [`Source`].
///
/// ```
/// use tidemill::{Reader, Source, SourceError, WrapSource};
///
/// /// Reads a source whose readers are seen first.
/// struct Seen<S>(S);
///
/// impl<S: Source> WrapSource for Seen<S> {
///     type Inner = S;
///     type Item = S::Item;
///     type Reader = S::Reader;
///
///     fn inner(&self) -> &S {
///         &self.0
///     }
///     fn inner_mut(&mut self) -> &mut S {
///         &mut self.0
///     }
///     fn wrap(&self, partition: u32, reader: S::Reader) -> Result<S::Reader, SourceError> {
///         println!("partition {partition} is read from {:?}", reader.offset());
///         Ok(reader)
///     }
/// }
///
/// fn is_source(_: impl Source) {}
/// fn seen(source: impl Source) {
///     is_source(Seen(source));
/// }
/// ```
pub trait WrapSource: Send + Sync + 'static {
    /// The source within.
    type Inner: Source;
    /// What the readers yield.
    type Item: Send + 'static;
    /// What reads one partition.
    type Reader: Reader<Item = Self::Item, Offset = <Self::Inner as Source>::Offset>;

    /// Returns the source within.
    fn inner(&self) -> &Self::Inner;

    /// Returns the source within, to be set up before a query starts.
    fn inner_mut(&mut self) -> &mut Self::Inner;

    /// Returns what the source is, for plans, progress and errors; by default that of the inner source.
    fn title(&self) -> String {
        self.inner().describe()
    }

    /// Called before the source within is [prepared](Source::prepare): refuses here what cannot work.
    fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Makes the reader of a partition of one of the source within.
    fn wrap(
        &self,
        partition: u32,
        reader: <Self::Inner as Source>::Reader,
    ) -> Result<Self::Reader, SourceError>;
}

#[diagnostic::do_not_recommend]
impl<W: WrapSource> Source for W {
    type Item = W::Item;
    type Offset = <W::Inner as Source>::Offset;
    type Reader = W::Reader;

    fn describe(&self) -> String {
        self.title()
    }
    fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<Self::Offset>, SourceError> {
        self.check()?;
        self.inner().prepare(context)
    }
    fn discover(&self, now: ProcessingTime) -> Result<SourceInfo<Self::Offset>, SourceError> {
        self.inner().discover(now)
    }
    fn is_bounded(&self) -> bool {
        self.inner().is_bounded()
    }
    fn is_replayable(&self) -> bool {
        self.inner().is_replayable()
    }
    fn may_move(&self) -> bool {
        self.inner().may_move()
    }
    fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
        self.inner().refresh(limits)
    }
    fn latest(
        &self,
        partition: u32,
        from: &Self::Offset,
        limits: &PlanLimits,
    ) -> Result<Self::Offset, SourceError> {
        self.inner().latest(partition, from, limits)
    }
    fn open(
        &self,
        partition: u32,
        from: &Self::Offset,
        context: ReaderContext,
    ) -> Result<Self::Reader, SourceError> {
        self.wrap(partition, self.inner().open(partition, from, context)?)
    }
    fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
        self.inner().freeze(now)
    }
    fn committed(&self, partition: u32, offset: &Self::Offset) -> Result<(), SourceError> {
        self.inner().committed(partition, offset)
    }
    fn journal(&self) -> Option<&JournalSlot> {
        self.inner().journal()
    }
    fn skip_bad_records(&mut self, skip: bool) {
        self.inner_mut().skip_bad_records(skip);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Cancellation, Clock, Poll, Waker};

    type Calls = Arc<Mutex<Vec<String>>>;

    /// Notes what it is asked.
    struct Asked(Calls);

    impl Asked {
        fn note(&self, call: &str) {
            self.0.lock().unwrap().push(call.to_owned());
        }
    }

    impl Source for Asked {
        type Item = u8;
        type Offset = u64;
        type Reader = Nothing;

        fn describe(&self) -> String {
            "asked".to_owned()
        }
        fn prepare(&self, context: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
            self.note(&format!("prepare {}", context.log.is_some()));
            Ok(SourceInfo::new(2, |_| 7).in_one_sequence())
        }
        fn discover(&self, now: ProcessingTime) -> Result<SourceInfo<u64>, SourceError> {
            self.note(&format!("discover {}", now.as_micros()));
            Ok(SourceInfo::new(3, |_| 7))
        }
        fn is_bounded(&self) -> bool {
            true
        }
        fn is_replayable(&self) -> bool {
            true
        }
        fn may_move(&self) -> bool {
            true
        }
        fn refresh(&self, limits: &PlanLimits) -> Result<(), SourceError> {
            self.note(&format!("refresh {:?}", limits.max_records));
            Ok(())
        }
        fn latest(&self, partition: u32, from: &u64, _: &PlanLimits) -> Result<u64, SourceError> {
            Ok(from + u64::from(partition))
        }
        fn open(&self, partition: u32, from: &u64, _: ReaderContext) -> Result<Nothing, SourceError> {
            self.note(&format!("open {partition} {from}"));
            Ok(Nothing)
        }
        fn freeze(&self, now: ProcessingTime) -> Result<(), SourceError> {
            self.note(&format!("freeze {}", now.as_micros()));
            Ok(())
        }
        fn committed(&self, partition: u32, offset: &u64) -> Result<(), SourceError> {
            self.note(&format!("committed {partition} {offset}"));
            Ok(())
        }
        fn skip_bad_records(&mut self, skip: bool) {
            self.note(&format!("skip {skip}"));
        }
    }

    struct Nothing;

    impl Reader for Nothing {
        type Item = u8;
        type Offset = u64;

        fn poll(&mut self, _: Option<&u64>, _: usize, _: &mut Vec<u8>) -> Result<Poll, SourceError> {
            Ok(Poll::End)
        }
        fn offset(&self) -> u64 {
            0
        }
        fn seek(&mut self, _: &u64) -> Result<(), SourceError> {
            Ok(())
        }
    }

    struct Wrapper(Asked, bool);

    impl WrapSource for Wrapper {
        type Inner = Asked;
        type Item = u8;
        type Reader = Nothing;

        fn inner(&self) -> &Asked {
            &self.0
        }
        fn inner_mut(&mut self) -> &mut Asked {
            &mut self.0
        }
        fn check(&self) -> Result<(), SourceError> {
            self.0.note("check");
            if self.1 { Ok(()) } else { Err(SourceError::Setup("refused".to_owned())) }
        }
        fn wrap(&self, partition: u32, reader: Nothing) -> Result<Nothing, SourceError> {
            self.0.note(&format!("wrap {partition}"));
            Ok(reader)
        }
    }

    #[test]
    fn wrapped_source_is_asked_everything() {
        let calls = Calls::default();
        let mut source = Wrapper(Asked(Arc::clone(&calls)), true);
        assert_eq!(
            (source.describe(), source.is_bounded(), source.is_replayable()),
            ("asked".into(), true, true)
        );
        assert!(source.may_move());
        source.skip_bad_records(true);
        let info = source.prepare(&PrepareContext::default()).unwrap();
        assert_eq!(info, SourceInfo::new(2, |_| 7).in_one_sequence());
        let limits = PlanLimits::new(Some(3), ProcessingTime::from_micros(0));
        assert_eq!(source.discover(ProcessingTime::from_micros(4)).unwrap().partitions(), 3);
        source.refresh(&limits).unwrap();
        assert_eq!(source.latest(1, &7, &limits).unwrap(), 8);
        let context = ReaderContext::new(Waker::new(|| {}), Clock::new(|| ProcessingTime::from_micros(0)));
        source.open(1, &7, context.with_cancellation(Cancellation::new())).unwrap();
        source.freeze(ProcessingTime::from_micros(5)).unwrap();
        source.committed(1, &8).unwrap();
        assert!(source.journal().is_none());
        let expected = [
            "skip true",
            "check",
            "prepare false",
            "discover 4",
            "refresh Some(3)",
            "open 1 7",
            "wrap 1",
            "freeze 5",
            "committed 1 8",
        ];
        assert_eq!(*calls.lock().unwrap(), expected);
    }

    #[test]
    fn refused_check_leaves_source_within_unasked() {
        let calls = Calls::default();
        let source = Wrapper(Asked(Arc::clone(&calls)), false);
        assert!(source.prepare(&PrepareContext::default()).is_err());
        assert_eq!(*calls.lock().unwrap(), ["check"]);
    }
}
