//! The runs of panes: which records of a partition came between which, where windows are put together from panes.

use std::collections::BTreeMap;

use crate::EventTime;
use crate::arrival::{self, Run};

/// Beyond this many panes or partitions all are forgotten, which merely begins more runs than necessary.
const MOST: usize = 8_192;

/// The run of each pane, and the pane that each partition was in last.
#[derive(Default)]
pub(super) struct PaneRuns {
    runs: BTreeMap<EventTime, Run>,
    last: BTreeMap<Option<u32>, EventTime>,
    /// Where the last record went: its partition, pane and run.
    at: Option<(Option<u32>, EventTime, Run)>,
}

impl PaneRuns {
    /// A record goes to the pane that begins at `pane`.
    #[inline]
    pub(super) fn enter(&mut self, pane: EventTime) {
        let origin = arrival::origin();
        match self.at {
            Some((of, at, run)) if of == origin && at == pane && arrival::run() == Some(run) => {}
            _ => self.turn(origin, pane),
        }
    }

    /// A partition comes to a pane from another, or another partition's batch begins.
    fn turn(&mut self, origin: Option<u32>, pane: EventTime) {
        if self.runs.len() > MOST || self.last.len() > MOST {
            *self = PaneRuns::default();
        }
        let before = self.last.insert(origin, pane);
        let mine = self.runs.get(&pane).copied();
        // All that the partition has shown so far is in this run, or in earlier ones.
        let latest = before.filter(|before| *before != pane).map(|before| self.runs.get(&before).copied());
        let run = match (mine, latest) {
            (Some(mine), None) => mine,
            (Some(mine), Some(Some(latest))) if mine > latest => mine,
            _ => arrival::begin(),
        };
        self.runs.insert(pane, run);
        self.at = Some((origin, pane, run));
        arrival::set_run(run);
    }

    /// Guesses, before its first record, whether the batch continues in that pane.
    pub(super) fn continues(&mut self, pane: EventTime) -> bool {
        let origin = arrival::origin();
        // What was aggregated elsewhere has runs already.
        if origin.is_none() {
            return true;
        }
        let continues = self.last.get(&origin) == Some(&pane);
        if continues {
            self.enter(pane);
        }
        continues
    }
}
