//! How long an event takes from the moment it was due to the sink, under an open load: without state, through a keyed
//! count, through a windowed one, and through a word count.
//!
//! What is offered, how the generator waits and how it is measured are the harness's, as for every other engine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a baseline fails loudly"
)]

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::dataflow::{Scope, StreamVec};

use super::process::Calendar;
use super::{route, run};
use crate::harness::answer::mapped;
use crate::harness::recorder::{Recorder, Row};
use crate::harness::run::{Setting, Shape};
use crate::harness::schedule::Wait;
use crate::harness::source::{Emitted, Event};
use crate::harness::words;

/// The most events that a source emits per activation, when it is behind.
const BATCH: usize = 8_192;

/// Builds containers of events.
type Events = CapacityContainerBuilder<Vec<Event>>;
/// Builds containers of counts: key, how many so far.
type Counts = CapacityContainerBuilder<Vec<(u64, u64)>>;
/// Builds containers of words: the word, how many so far or since the last.
type Words = CapacityContainerBuilder<Vec<(String, u64)>>;
/// Builds containers of counts of a window: key, window, how many so far.
type WindowCounts = CapacityContainerBuilder<Vec<(u64, u64, u64)>>;

/// Emits what is due, divided among the workers, and measures it. `idle_spin` is how long an idle worker looks for work
/// before it parks; longer than the gap between events, it never parks.
///
/// # Panics
/// If the graph says its windows only once.
#[must_use]
pub fn latency(setting: &Setting, workers: usize, idle_spin: Duration) -> Vec<Recorder> {
    let setting = setting.clone();
    run(workers, Some(idle_spin), move |worker| {
        let recorder = Rc::new(RefCell::new(setting.recorder()));
        let measured = Rc::clone(&recorder);
        let index = worker.index() as u64;
        worker.dataflow::<u64, _, _>(|scope| {
            let events = || generate::<Event>(scope, &setting, index);
            match setting.job.shape {
                Shape::Map => map(events(), measured),
                Shape::KeyedCount => count(events(), measured),
                // Microseconds, and stamps in nanoseconds.
                Shape::WindowedCount => windowed_count(events(), setting.job.window * 1_000, measured),
                Shape::Process => process(events(), setting.job.window as i64, measured),
                Shape::WordCount => word_count(generate::<String>(scope, &setting, index), measured),
                other => panic!("{other:?} is not written by hand"),
            }
        });
        while worker.step_or_park(None) {}
        let spare = setting.recorder();
        recorder.replace(spare)
    })
}

/// The source: what is due by the schedule, and asleep or awake by its rule.
fn generate<'scope, T: Emitted + Clone>(
    scope: Scope<'scope, u64>,
    setting: &Setting,
    partition: u64,
) -> StreamVec<'scope, u64, T> {
    let (schedule, mut lateness) = (Arc::clone(&setting.schedule), setting.lateness());
    let most = BATCH as u64 / schedule.load().line;
    source(scope, "Generate", |first, info| {
        let activator = scope.activator_for(info.address);
        let mut capability = Some(first);
        let mut at = schedule.walk(schedule.first(partition));
        move |output: &mut OutputBuilderSession<'_, u64, CapacityContainerBuilder<Vec<T>>>| {
            let Some(held) = capability.as_mut() else { return };
            let (end, now) = schedule.look();
            let first = at.index();
            let count = schedule.lines(first, end).min(most);
            let mut batch = Vec::with_capacity(count as usize);
            batch.extend((0..count).map(|_| T::next(&mut at, &schedule)));
            lateness.emitted(first, count, now);
            if !batch.is_empty() {
                output.session(held).give_container(&mut batch);
            }
            if at.index() >= schedule.total() {
                capability = None;
                return;
            }
            let due = schedule.due(at.index());
            if due > *held.time() {
                held.downgrade(&due);
            }
            match schedule.wait(at.index()) {
                Wait::Awake => activator.activate(),
                Wait::Asleep(time) => activator.activate_after(time),
            }
        }
    })
}

/// A map and a filter in one operator, which measures what it lets through.
fn map(events: StreamVec<'_, u64, Event>, recorder: Rc<RefCell<Recorder>>) {
    let through = events.unary::<Events, _, _, _>(Pipeline, "Map", |_, _| {
        move |input, output| {
            input.for_each(|capability, batch| {
                let mut rows = Vec::with_capacity(batch.len());
                rows.extend(batch.drain(..).filter_map(|(key, due)| Some((mapped(key)?, due))));
                output.session(&capability).give_container(&mut rows);
            });
        }
    });
    through.sink(Pipeline, "Measure", move |(input, _)| {
        let mut recorder = recorder.borrow_mut();
        input.for_each(|_, batch| {
            recorder.write(0, batch.drain(..).map(|(value, due)| Row::Passed(value, due)))
        });
    });
}

/// Counts by key, and measures every count.
fn count(events: StreamVec<'_, u64, Event>, recorder: Rc<RefCell<Recorder>>) {
    let exchange = Exchange::new(|event: &Event| route(event.0));
    let counts = events.unary::<Counts, _, _, _>(exchange, "Count", |_, _| {
        let mut table = hashbrown::HashMap::<u64, u64, FixedState>::default();
        move |input, output| {
            input.for_each(|capability, batch| {
                let mut rows = Vec::with_capacity(batch.len());
                rows.extend(batch.drain(..).map(|(key, _)| {
                    let count = table.entry(key).or_insert(0);
                    *count += 1;
                    (key, *count)
                }));
                output.session(&capability).give_container(&mut rows);
            });
        }
    });
    counts.sink(Pipeline, "Measure", move |(input, _)| {
        let mut recorder = recorder.borrow_mut();
        input.for_each(|_, batch| {
            recorder.write(0, batch.drain(..).map(|(key, count)| Row::Counted(key, 0, count)));
        });
    });
}

/// Counts by key and tumbling window, whose size is in nanoseconds, and measures every count. Drops a window once the
/// frontier has passed its end.
fn windowed_count(events: StreamVec<'_, u64, Event>, size: u64, recorder: Rc<RefCell<Recorder>>) {
    let exchange = Exchange::new(|event: &Event| route(event.0));
    let counts = events.unary_frontier::<WindowCounts, _, _, _>(exchange, "Count", |_, _| {
        // The newest window last: nearly every event is in it.
        let mut windows = Vec::<(u64, hashbrown::HashMap<u64, u64, FixedState>)>::new();
        move |(input, frontier), output| {
            input.for_each(|capability, batch| {
                let mut rows = Vec::with_capacity(batch.len());
                rows.extend(batch.drain(..).map(|(key, due)| {
                    let window = due / size;
                    let place = windows.iter().rposition(|(open, _)| *open <= window);
                    let place = match place {
                        Some(place) if windows[place].0 == window => place,
                        before => {
                            let place = before.map_or(0, |before| before + 1);
                            windows.insert(place, (window, hashbrown::HashMap::default()));
                            place
                        }
                    };
                    let count = windows[place].1.entry(key).or_insert(0);
                    *count += 1;
                    (key, window, *count)
                }));
                output.session(&capability).give_container(&mut rows);
            });
            let least = frontier.frontier().first().copied().unwrap_or(u64::MAX);
            if windows.first().is_some_and(|(window, _)| (window + 1) * size <= least) {
                windows.retain(|(window, _)| (window + 1) * size > least);
            }
        }
    });
    counts.sink(Pipeline, "Measure", move |(input, _)| {
        let mut recorder = recorder.borrow_mut();
        input.for_each(|_, batch| {
            recorder.write(0, batch.drain(..).map(|(key, window, count)| Row::Counted(key, window, count)));
        });
    });
}

/// Counts by key, and measures every count; a timer for each event fires `delay` microseconds later, and changes its key's
/// entry.
fn process(events: StreamVec<'_, u64, Event>, delay: i64, recorder: Rc<RefCell<Recorder>>) {
    let exchange = Exchange::new(|event: &Event| route(event.0));
    let counts = events.unary_frontier::<Counts, _, _, _>(exchange, "Process", |_, _| {
        // How many events of a key so far, and how many have a timer that is still to come.
        let mut table = hashbrown::HashMap::<u64, (u64, u64), FixedState>::default();
        let mut calendar = Calendar::default();
        move |(input, frontier), output| {
            input.for_each(|capability, batch| {
                let mut rows = Vec::with_capacity(batch.len());
                rows.extend(batch.drain(..).map(|(key, due)| {
                    let (count, pending) = table.entry(key).or_default();
                    (*count, *pending) = (*count + 1, *pending + 1);
                    calendar.set((due / 1_000) as i64 + delay, key);
                    (key, *count)
                }));
                output.session(&capability).give_container(&mut rows);
            });
            let watermark = frontier.frontier().first().map_or(i64::MAX, |time| (*time / 1_000) as i64);
            calendar.fire(watermark, |_, key| {
                if let Some((_, pending)) = table.get_mut(&key) {
                    *pending -= 1;
                }
            });
        }
    });
    counts.sink(Pipeline, "Measure", move |(input, _)| {
        let mut recorder = recorder.borrow_mut();
        input.for_each(|_, batch| {
            recorder.write(0, batch.drain(..).map(|(key, count)| Row::Counted(key, 0, count)));
        });
    });
}

/// Splits lines and counts their words: those of an activation's lines on the worker that reads them, then all of them on
/// the worker that owns the word. Measures every count.
fn word_count(lines: StreamVec<'_, u64, String>, recorder: Rc<RefCell<Recorder>>) {
    let parts = lines.unary::<Words, _, _, _>(Pipeline, "Split", |_, _| {
        let mut table = hashbrown::HashMap::<String, u64, FixedState>::with_hasher(FixedState::with_seed(1));
        move |input, output| {
            input.for_each(|capability, batch| {
                for line in batch.drain(..) {
                    for word in tidemill::connectors::words(&line) {
                        match table.get_mut(word) {
                            Some(count) => *count += 1,
                            None => {
                                table.insert(word.to_owned(), 1);
                            }
                        }
                    }
                }
                let mut rows = Vec::with_capacity(table.len());
                rows.extend(table.drain());
                output.session(&capability).give_container(&mut rows);
            });
        }
    });
    let hasher = FixedState::with_seed(2);
    let exchange = Exchange::new(move |part: &(String, u64)| hasher.hash_one(part.0.as_str()) >> 32);
    let counts = parts.unary::<Words, _, _, _>(exchange, "Add", |_, _| {
        let mut table = hashbrown::HashMap::<String, u64, FixedState>::with_hasher(FixedState::with_seed(3));
        move |input, output| {
            input.for_each(|capability, batch| {
                for (word, count) in batch.iter_mut() {
                    match table.get_mut(word) {
                        Some(total) => {
                            *total += *count;
                            *count = *total;
                        }
                        None => {
                            table.insert(word.clone(), *count);
                        }
                    }
                }
                output.session(&capability).give_container(batch);
            });
        }
    });
    counts.sink(Pipeline, "Measure", move |(input, _)| {
        let mut recorder = recorder.borrow_mut();
        input.for_each(|_, batch| {
            recorder
                .write(0, batch.drain(..).map(|(word, count)| Row::Counted(words::read(&word), 0, count)));
        });
    });
}
