//! The counters of the keys that most rows have, by node and worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidemill_operators::graph::NodeId;
use tidemill_operators::top_keys::{KeySampler, KeySketch};
use tidemill_operators::turn::lock;

/// The counters of an operator instance: its worker counts, and the driver reads.
pub(crate) type Sketch = Arc<Mutex<KeySketch>>;

/// The counters of all nodes with state, if the run counts keys.
pub(crate) struct TopKeys {
    counts: bool,
    sketches: Mutex<BTreeMap<NodeId, Vec<Sketch>>>,
}

impl TopKeys {
    pub(super) fn new(counts: bool) -> TopKeys {
        TopKeys { counts, sketches: Mutex::default() }
    }

    /// Returns what an instance counts with.
    pub(crate) fn sampler(&self, node: NodeId, worker: usize) -> KeySampler {
        if !self.counts {
            return KeySampler::default();
        }
        let sketch = Sketch::default();
        lock(&self.sketches).entry(node).or_default().push(Arc::clone(&sketch));
        KeySampler::new(sketch, worker as u64 + 1)
    }

    /// Returns the counters of a node, of all its instances in this process.
    pub(crate) fn of(&self, node: NodeId) -> Vec<Sketch> {
        lock(&self.sketches).get(&node).cloned().unwrap_or_default()
    }
}
