//! The keys that most rows of an operator have, for the progress and the log.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill_operators::ProcessingTime;
use tidemill_operators::graph::{Node, NodeId};
use tidemill_operators::top_keys::{CountedKey, KeySketch};
use tidemill_operators::turn::lock;

use crate::control::{Control, Sketch};
use crate::error::Site;
use crate::progress::TopKey;

/// A key with a larger share of an operator's rows is hot, in percent.
const HOT: u64 = 25;
/// Of fewer rows no key is hot.
const FEWEST: u64 = 1_000;
/// After this many rows the counts are halved, those of all workers at once: a share is one of the rows of all.
const WINDOW: u64 = 1 << 23;
/// A hot key of an operator is not named sooner after another one.
const QUIET: Duration = Duration::from_secs(60);

/// The keys of an operator.
#[derive(Debug, Default)]
struct Found {
    /// How many rows had been counted.
    rows: u64,
    keys: Vec<TopKey>,
    /// The hot key that was named last, by its hash, and when.
    named: Option<(u64, ProcessingTime)>,
}

/// The keys of all operators with state.
#[derive(Debug)]
pub(super) struct HotKeys {
    /// How many of an operator.
    most: usize,
    found: BTreeMap<NodeId, Found>,
}

impl HotKeys {
    pub(super) fn new(most: usize) -> HotKeys {
        HotKeys { most, found: BTreeMap::new() }
    }

    /// Returns the keys of most rows of an operator, and logs a hot one.
    pub(super) fn of(
        &mut self,
        node: &Node,
        query: &str,
        control: &Control,
        now: ProcessingTime,
    ) -> Vec<TopKey> {
        if self.most == 0 {
            return Vec::new();
        }
        let found = self.found.entry(node.id).or_default();
        if let Some(hot) = found.look(&control.reports.top_keys.of(node.id), self.most, now) {
            tracing::warn!(
                query, operator = %Site::of(node), key = %hot.key, percent = hot.percent,
                "a hot key: {} % of the rows of {} have the key {}, and one worker processes all rows of a key; aggregate them first, or add a \
                 field to the key that divides them",
                hot.percent, Site::of(node), hot.key
            );
        }
        found.keys.clone()
    }
}

impl Found {
    /// Merges what the workers have counted, if there is more; returns the key of most rows if it is hot and has not been named.
    fn look(&mut self, sketches: &[Sketch], most: usize, now: ProcessingTime) -> Option<TopKey> {
        let mut locked: Vec<_> = sketches.iter().map(|sketch| lock(sketch)).collect();
        let rows: u64 = locked.iter().map(|sketch| sketch.rows()).sum();
        if rows == self.rows {
            return None;
        }
        self.rows = rows;
        let counted = KeySketch::merged(locked.iter().map(|sketch| &**sketch));
        if rows >= WINDOW {
            locked.iter_mut().for_each(|sketch| sketch.halve());
            self.rows = locked.iter().map(|sketch| sketch.rows()).sum();
        }
        drop(locked);
        let percent = |counted: &CountedKey| (counted.rows * 100 / rows) as u8;
        let shown = counted.iter().take(most).filter(|counted| percent(counted) > 0);
        self.keys = shown.map(|it| TopKey { key: it.key.to_string(), percent: percent(it) }).collect();
        let first = counted.first()?;
        let is_hot = rows >= FEWEST && first.rows * 100 > rows * HOT;
        let is_named = self.named.is_some_and(|(named, at)| named == first.hash || now.since(at) < QUIET);
        if !is_hot || is_named {
            return None;
        }
        self.named = Some((first.hash, now));
        self.keys.first().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidemill_operators::hash_key;
    use tidemill_operators::top_keys::KeySampler;

    use super::*;

    struct Workers {
        sketches: Vec<Sketch>,
        samplers: Vec<KeySampler>,
        found: Found,
    }

    impl Workers {
        fn new(number: u64) -> Workers {
            let sketches: Vec<Sketch> = (0..number).map(|_| Sketch::default()).collect();
            let sampler = |(sketch, seed): (&Sketch, u64)| KeySampler::new(Arc::clone(sketch), seed);
            let samplers = sketches.iter().zip(1..).map(sampler).collect();
            Workers { sketches, samplers, found: Found::default() }
        }

        fn note(&mut self, worker: usize, key: &str, rows: usize) {
            let hash = hash_key(key);
            self.samplers[worker].note_all(&vec![key; rows], |key| (hash, key));
        }

        /// The key that is named.
        fn look(&mut self, second: i64) -> Option<TopKey> {
            self.found.look(&self.sketches, 2, ProcessingTime::from_secs(second))
        }

        /// The keys that are shown.
        fn keys(&self) -> Vec<(&str, u8)> {
            self.found.keys.iter().map(|it| (&*it.key, it.percent)).collect()
        }
    }

    fn key(key: &str, percent: u8) -> TopKey {
        TopKey { key: format!("\"{key}\""), percent }
    }

    #[test]
    fn hot_key_is_named_once_and_another_a_minute_later() {
        // No more of a worker than are all in the sample.
        let mut workers = Workers::new(4);
        workers.note(0, "tide", 500);
        assert_eq!(workers.look(0), None, "too few rows");
        workers.note(1, "mill", 500);
        (0..1_000).for_each(|n| workers.note(2, &n.to_string(), 1));
        assert_eq!(workers.look(1), None, "no more than a quarter");
        assert_eq!(workers.keys(), [("\"mill\"", 25), ("\"tide\"", 25)]);
        workers.note(0, "tide", 100);
        assert_eq!(workers.look(2), Some(key("tide", 28)));
        workers.note(0, "tide", 100);
        assert_eq!(workers.look(90), None, "named already");
        workers.note(1, "mill", 300);
        assert_eq!(workers.look(91), Some(key("mill", 32)));
        workers.note(0, "tide", 300);
        assert_eq!(workers.look(92), None, "soon after the other");
        workers.note(3, "tide", 1);
        assert_eq!(workers.look(152), Some(key("tide", 35)));
    }

    #[test]
    fn rare_keys_are_not_shown() {
        let mut workers = Workers::new(1);
        workers.note(0, "tide", 2);
        (0..48).for_each(|n| workers.note(0, &n.to_string(), 1));
        workers.look(0);
        assert_eq!(workers.keys(), [("\"tide\"", 4), ("\"0\"", 2)]);
        (0..1_000).for_each(|n| workers.note(0, &n.to_string(), 1));
        workers.look(1);
        assert_eq!(workers.keys(), []);
    }

    #[test]
    fn key_that_becomes_hot_late_is_found() {
        const PORTIONS: usize = 16;
        let portion = WINDOW as usize / PORTIONS;
        let mut workers = Workers::new(2);
        let keys: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        for _ in 0..PORTIONS {
            keys.iter().enumerate().for_each(|(n, key)| workers.note(n % 2, key, portion / keys.len() + 1));
            workers.look(0);
        }
        assert_eq!(workers.keys(), []);
        for _ in 0..PORTIONS {
            // All rows of the key are on one worker, and the counts of both are halved together.
            workers.note(1, "tide", portion);
            workers.look(1);
        }
        let [("\"tide\"", percent)] = workers.keys()[..] else { panic!("{:?}", workers.keys()) };
        assert!((70..80).contains(&percent), "{percent}");
    }
}
