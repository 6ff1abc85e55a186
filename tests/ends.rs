//! A source of one's own that has ended ends its query, also when that is started again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use tidemill::checkpoint::MemoryStorage;
use tidemill::connectors::{channel, discard, memory_sink, rate};
use tidemill::{
    EventTime, Graph, Journal, Mode, Options, PlanLimits, Poll, PrepareContext, Reader, ReaderContext, Run,
    Source, SourceError, SourceInfo, Trigger, tumbling,
};

use common::{MODES, end, options, wait_until};

const ROWS: u64 = 35;

/// Two partitions of 35 numbers each, ten an epoch. `latest` does not go beyond the end.
#[derive(Clone, Copy)]
struct Ends {
    /// Whether the end is reported with the last numbers, or by the next poll.
    at_once: bool,
}

struct EndsReader {
    at: u64,
    at_once: bool,
}

impl Source for Ends {
    type Item = u64;
    type Offset = u64;
    type Reader = EndsReader;

    fn describe(&self) -> String {
        "ends".to_owned()
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn is_replayable(&self) -> bool {
        true
    }
    fn prepare(&self, _: &PrepareContext) -> Result<SourceInfo<u64>, SourceError> {
        Ok(SourceInfo::new(2, |_| 0))
    }
    fn latest(&self, _: u32, from: &u64, _: &PlanLimits) -> Result<u64, SourceError> {
        Ok((from + 10).min(ROWS))
    }
    fn open(&self, _: u32, from: &u64, _: ReaderContext) -> Result<EndsReader, SourceError> {
        Ok(EndsReader { at: *from, at_once: self.at_once })
    }
}

impl Reader for EndsReader {
    type Item = u64;
    type Offset = u64;

    fn poll(&mut self, until: Option<&u64>, max: usize, out: &mut Vec<u64>) -> Result<Poll, SourceError> {
        let was_at_end = self.at == ROWS;
        let until = until.map_or(ROWS, |until| *until).min(self.at + max as u64);
        out.extend(self.at..until);
        self.at = until;
        if was_at_end || self.at_once && self.at == ROWS { Ok(Poll::End) } else { Ok(Poll::Ready) }
    }
    fn offset(&self) -> u64 {
        self.at
    }
    fn seek(&mut self, to: &u64) -> Result<(), SourceError> {
        self.at = *to;
        Ok(())
    }
}

fn ways() -> Vec<Options> {
    let mut ways = Vec::new();
    for mode in MODES {
        for workers in [1, 2] {
            let way = options(mode, workers).with_checkpoint_interval(Duration::from_millis(10));
            ways.push(way.clone());
            ways.push(way.clone().with_trigger(Trigger::AvailableNow));
            if mode == Mode::MicroBatch {
                ways.push(way.with_trigger(Trigger::Every(Duration::from_millis(5))));
            }
        }
    }
    ways
}

#[test]
fn ended_bounded_source_ends_first_run_and_restart() {
    for way in ways() {
        for (at_once, journaled) in [(true, false), (false, false), (true, true), (false, true)] {
            let what = format!("{at_once} {journaled} {way:?}");
            let storage = Arc::new(MemoryStorage::new());
            let (sink, rows) = memory_sink();
            let graph = Graph::new("ends");
            if journaled {
                graph.source(Ends { at_once }.journaled()).sink(sink);
            } else {
                graph.source(Ends { at_once }).sink(sink);
            }
            for run in 0..3 {
                let query = graph.start_in(storage.clone(), way.clone()).unwrap();
                let summary = end(query, &format!("run {run}: {what}")).unwrap();
                assert_eq!(summary.input_rows, if run == 0 { 2 * ROWS } else { 0 }, "run {run}: {what}");
            }
            assert_eq!(rows.snapshot().len() as u64, 2 * ROWS, "{what}");
        }
    }
}

#[test]
fn source_that_ended_before_restart_does_not_hold_union() {
    for way in ways().into_iter().filter(|way| way.trigger == Trigger::Asap) {
        let what = format!("{way:?}");
        let storage = Arc::new(MemoryStorage::new());
        for run in 1..3u64 {
            let (sender, source) = channel::<u64>(64);
            let graph = Graph::new("union");
            let (sink, windows) = memory_sink();
            let ended = graph.source(Ends { at_once: false }).uid("ended");
            ended
                .union(graph.source(source).uid("live"))
                .with_watermark(|n| EventTime::from_micros(*n as i64), Duration::ZERO)
                .window(tumbling(Duration::from_micros(10)))
                .count()
                .append()
                .sink(sink);
            let query = graph.start_in(storage.clone(), way.clone().with_allow_loss()).unwrap();
            // The live side continues at the same event time: the window before it closes.
            let window = run as i64 * 1_000 - 500;
            sender.send(window as u64).unwrap();
            wait_until(&query, &what, |_| {
                let _ = sender.try_send(run * 1_000);
                windows.snapshot().iter().any(|closed| closed.window.start.as_micros() == window)
            });
            query.stop();
            end(query, &what).unwrap();
        }
    }
}

#[test]
fn end_offset_has_every_partition_from_the_beginning() {
    let index = |offsets: &std::collections::BTreeMap<u32, serde_json::Value>| -> Vec<u64> {
        offsets.values().map(|at| at["index"].as_u64().unwrap()).collect()
    };
    for mode in MODES {
        for workers in [1, 2, 3] {
            // Partitions that end in epochs of their own. Not simulated: progress is looked at from outside while a run starts.
            for round in 0..20 {
                let graph = Graph::new("ends");
                graph.source(rate(100_000).partitions(3).rows(1_000)).sink(discard().0);
                let way = options(mode, workers).with_checkpoint_interval(Duration::from_millis(1));
                let query = graph.start(way).unwrap();
                let at_start = query.progress();
                let summary = end(query, "ends").unwrap();
                for (progress, most) in [(&at_start, 1_000), (&summary.last, 1_000)] {
                    let offsets = index(&progress.sources[0].end_offset);
                    assert_eq!(offsets.len(), 3, "{mode}, {workers} workers, round {round}: {offsets:?}");
                    assert!(offsets.iter().sum::<u64>() <= most, "{offsets:?}");
                }
                let offsets = index(&summary.last.sources[0].end_offset);
                assert_eq!(offsets.iter().sum::<u64>(), 1_000, "{mode}, {workers} workers: {offsets:?}");
            }
        }
    }
}
