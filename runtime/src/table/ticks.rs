//! The way into the region: assigns ticks to changes.
//!
//! What an input emits at (epoch, least watermark) gets the tick that is open. In micro-batch each epoch has one. In continuous mode
//! a tick ends when something is in it and the region has computed the one before, so a single change is passed on at once, and
//! changes that come meanwhile share the next tick. If many come at once, the tick stays open for one more activation, as more may
//! follow: large ticks cost less for each change. All workers have the same tick: the one that ends it wakes the others.
//!
//! The operator is disconnected from its inputs, and holds the open tick: so ticks are not among the times of the dataflow outside.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_operators::graph::Node;
use tidemill_operators::table::{InputChange, InputLoad};
use tidemill_operators::{Mode, OperatorError, Waker, rows, turn};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

use super::handle::{TableKey, TableRow};
use super::rows::{Update, Updates, edge_batch};
use super::time::Tick;
use crate::engine::{EdgeBatch, FragmentHost};
use crate::error::RunError;

/// From this number of changes in an activation on, more are expected.
const MANY: usize = 512;
/// The number of changes that are enough for a tick.
const ENOUGH: usize = 16_384;

/// The tick that all workers of a run have.
#[derive(Default)]
struct TickClock {
    now: AtomicU64,
    /// Wakes each way into the region, on all workers.
    wakers: Mutex<Vec<Waker>>,
}

impl TickClock {
    fn now(&self) -> Tick {
        Tick::of_number(self.now.load(Ordering::Acquire))
    }

    fn register(&self, waker: Waker) -> usize {
        let mut wakers = turn::lock(&self.wakers);
        wakers.push(waker);
        wakers.len() - 1
    }

    /// Begins a tick; `by` knows of it.
    fn begin(&self, tick: Tick, by: usize) {
        if self.now.fetch_max(tick.number(), Ordering::AcqRel) < tick.number() {
            let wakers = turn::lock(&self.wakers);
            wakers.iter().enumerate().filter(|(of, _)| *of != by).for_each(|(_, waker)| waker.wake());
        }
    }
}

/// What the ways in and out of the region share on a worker.
#[derive(Clone)]
pub(super) struct Ticks {
    clock: Arc<TickClock>,
    /// Whether an epoch has more than one tick.
    is_ticking: bool,
    /// The first epoch of the run.
    first: u64,
    /// For each way out, the tick before which all has left; `None` once all has.
    exits: Rc<RefCell<Vec<Option<Tick>>>>,
    /// Activates the ways in.
    entries: Rc<RefCell<Vec<Activator>>>,
}

impl Ticks {
    pub(super) fn new(host: &FragmentHost) -> Result<Ticks, RunError> {
        let clock =
            host.shared().ok_or_else(|| RunError::Engine("there are two kinds of parts".to_owned()))?;
        Ok(Ticks {
            clock,
            is_ticking: host.mode() == Mode::Continuous,
            first: host.first_epoch().number(),
            exits: Rc::default(),
            entries: Rc::default(),
        })
    }

    /// Adds a way out; returns its number.
    pub(super) fn add_exit(&self) -> usize {
        let mut exits = self.exits.borrow_mut();
        exits.push(Some(Tick::default()));
        exits.len() - 1
    }

    /// Notes that all before a tick has left by a way out.
    pub(super) fn has_left(&self, exit: usize, before: Option<Tick>) {
        if let Some(slot) = self.exits.borrow_mut().get_mut(exit) {
            *slot = before;
        }
        if self.is_ticking {
            self.entries.borrow().iter().for_each(Activator::activate);
        }
    }

    /// Whether all before a tick has been computed.
    fn has_computed(&self, before: Tick) -> bool {
        self.exits.borrow().iter().flatten().all(|left| *left >= before)
    }
}

/// Builds the way in of an input, from its changes and from what it had at the beginning of the run.
pub(super) fn entry<'i, K: TableKey, V: TableRow>(
    changes: Updates<'i>,
    loads: Updates<'i>,
    host: &FragmentHost,
    ticks: &Ticks,
    node: &Node,
) -> Updates<'i> {
    let scope = changes.scope();
    let mut builder = OperatorBuilder::new(node.label(), scope);
    let mut changes = builder.new_input_connection(changes, Pipeline, []);
    let mut loads = builder.new_input_connection(loads, Pipeline, []);
    let (output, updates) = builder.new_output_connection::<EdgeBatch, _>([]);
    let mut output = OutputBuilder::<Tick, NoopBuilder<EdgeBatch>>::from(output);
    let address = builder.operator_info().address;
    ticks.entries.borrow_mut().push(scope.activator_for(Rc::clone(&address)));
    let again = scope.activator_for(Rc::clone(&address));
    let number = ticks.clock.register(host.waker(scope, &address));
    let (host, ticks) = (host.clone(), ticks.clone());
    builder.build(move |mut capabilities| {
        let mut held = capabilities.pop();
        let mut open = Open { ticks, number, has_loaded: false, latest: None, changes: 0 };
        move |frontiers| {
            host.enter();
            let Some(capability) = &mut held else { return };
            let mut output = output.activate();
            let mut send = |capability: &Capability<Tick>, tick, updates: Vec<Update<K, V>>| {
                if !updates.is_empty() {
                    let capability = capability.delayed(&tick);
                    output.session_with_builder(&capability).give_container(&mut edge_batch(updates));
                }
            };
            loads.for_each(|_, edge_batch| {
                let tick = Tick::load(open.ticks.first);
                match rows::<InputLoad<K, V>>(host.receive(edge_batch)) {
                    Ok(loads) => {
                        open.has_loaded |= loads.last().is_some_and(Option::is_none);
                        let loads = loads.into_iter().flatten();
                        send(
                            capability,
                            tick,
                            loads.map(|(key, row, diff)| ((key, row), tick, diff)).collect(),
                        );
                    }
                    Err(error) => host.fail(error),
                }
            });
            let before = open.changes;
            changes.for_each(|stamp, edge_batch| {
                let Some(epoch) = stamp.least().map(|least| least.epoch()) else { return };
                let tick = open.tick_of(epoch, *capability.time());
                let changes: Result<Vec<InputChange<K, V>>, OperatorError> = rows(host.receive(edge_batch));
                match changes {
                    Ok(changes) => {
                        open.changes += changes.len();
                        let changes = changes.into_iter();
                        send(
                            capability,
                            tick,
                            changes.map(|(key, row, diff)| ((key, row), tick, diff)).collect(),
                        );
                    }
                    Err(error) => host.fail(error),
                }
            });
            let more_may_follow = open.changes - before >= MANY && open.changes < ENOUGH;
            if more_may_follow {
                again.activate();
            }
            match open.next(*capability.time(), frontiers, more_may_follow) {
                Some(next) if next > *capability.time() => {
                    capability.downgrade(&next);
                    open.changes = 0;
                }
                Some(_) => {}
                None => held = None,
            }
        }
    });
    updates
}

/// The tick that a way in holds open.
struct Open {
    ticks: Ticks,
    /// Its number among the ways in of all workers.
    number: usize,
    /// Whether all has come that the input had at the beginning of the run.
    has_loaded: bool,
    /// The tick of the latest changes.
    latest: Option<Tick>,
    /// How many changes are in the open tick.
    changes: usize,
}

impl Open {
    /// The tick of changes of an epoch.
    fn tick_of(&mut self, epoch: u64, open: Tick) -> Tick {
        let first = Tick::first(epoch);
        let tick = if open.epoch() == epoch { open.max(first) } else { first };
        self.latest = self.latest.max(Some(tick));
        tick
    }

    /// The tick that is to be held after the open one; `None` once nothing can come.
    fn next(
        &mut self,
        open: Tick,
        frontiers: &[MutableAntichain<Tick>],
        more_may_follow: bool,
    ) -> Option<Tick> {
        let least = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min()?;
        let mut open = open;
        if least.epoch() > open.epoch() {
            open = self.first_of(least.epoch());
        } else if open.is_load() {
            open = self.first_of(open.epoch());
        }
        if !self.ticks.is_ticking || open.is_load() {
            return Some(open);
        }
        let shared = self.ticks.clock.now();
        // Another worker may be in a later epoch, of which this one has not seen all.
        if shared > open && shared.epoch() == open.epoch() {
            open = shared;
        }
        if self.latest >= Some(open)
            && !more_may_follow
            && self.ticks.has_computed(open)
            && let Some(next) = open.next()
        {
            open = next;
            self.ticks.clock.begin(next, self.number);
        }
        Some(open)
    }

    /// The first tick of an epoch, which in the first epoch of the run is that of what inputs have restored.
    fn first_of(&self, epoch: u64) -> Tick {
        if epoch < self.ticks.first {
            return Tick::default();
        }
        if epoch == self.ticks.first && !self.has_loaded { Tick::load(epoch) } else { Tick::first(epoch) }
    }
}
