//! The jobs of the comparisons as one would write them by hand: directly on timely dataflow, or as a plain loop.
//!
//! They are meant to be hard to beat. Containers are sent whole, timestamps move once per activation, tables
//! are hashed with foldhash and reused, an operator keeps one capability. Every job returns what it counted, a
//! checksum that does not depend on order, and its own time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a baseline fails loudly"
)]

pub mod chain;
pub mod chain_dataflow;
pub mod distinct;
mod generate;
pub mod join;
pub mod latency;
pub mod process;
pub mod session;
pub mod sliding;
#[cfg(feature = "tables")]
pub mod tables;
pub mod top;
pub mod windowed_count;
pub mod word_count;

use std::collections::VecDeque;
use std::time::Duration;

use timely::container::{ContainerBuilder, LengthPreservingContainerBuilder, PushInto};
use timely::worker::Worker;
use timely::{Config, WorkerConfig};

/// Runs `logic` on each of `workers` timely workers until its dataflows are complete; the results come in worker order.
/// `idle_spin` is how long an idle worker looks for work before it parks (`None`: timely's own choice).
fn run<R, F>(workers: usize, idle_spin: Option<Duration>, logic: F) -> Vec<R>
where
    R: Send + 'static,
    F: Fn(&mut Worker) -> R + Send + Sync + 'static,
{
    let mut config = if workers <= 1 { Config::thread() } else { Config::process(workers) };
    if let Some(idle_spin) = idle_spin {
        config.worker = WorkerConfig::default().idle_spin(idle_spin);
    }
    let guards = timely::execute(config, logic).expect("the workers start");
    guards.join().into_iter().map(|result| result.expect("no worker panics")).collect()
}

/// Which worker a key belongs to. A bare multiplication, and its upper half: independent of the bits by which the
/// tables find a slot, so a worker's share of the keys does not crowd into a part of its table.
#[inline]
fn route(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

/// Builds containers of up to 4096 records: timely's own builder stops at 8 KiB, which makes an exchange send, count
/// and free a great many small ones.
struct Wide<R> {
    current: Vec<R>,
    ready: VecDeque<Vec<R>>,
    handed: Vec<R>,
}

impl<R> Wide<R> {
    /// The records of a full container.
    const CAPACITY: usize = 4096;
}

impl<R> Default for Wide<R> {
    fn default() -> Self {
        Self { current: Vec::new(), ready: VecDeque::new(), handed: Vec::new() }
    }
}

impl<R> PushInto<R> for Wide<R> {
    #[inline]
    fn push_into(&mut self, record: R) {
        if self.current.capacity() == 0 {
            self.current.reserve_exact(Self::CAPACITY);
        }
        self.current.push(record);
        if self.current.len() >= Self::CAPACITY {
            self.ready.push_back(std::mem::take(&mut self.current));
        }
    }
}

impl<R: 'static> ContainerBuilder for Wide<R> {
    type Container = Vec<R>;

    #[inline]
    fn extract(&mut self) -> Option<&mut Vec<R>> {
        self.handed = self.ready.pop_front()?;
        Some(&mut self.handed)
    }

    fn finish(&mut self) -> Option<&mut Vec<R>> {
        if !self.current.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.current));
        }
        self.extract()
    }
}

impl<R: 'static> LengthPreservingContainerBuilder for Wide<R> {}
