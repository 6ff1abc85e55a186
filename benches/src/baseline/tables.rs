//! The work of tables on differential dataflow, written by hand.
//!
//! Records replace the one of their id, which the program finds in a hash table of its own. An epoch is a batch. The worker steps
//! until the batch has been computed.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_dataflow::input::{Input, InputSession};
use differential_dataflow::operators::{CountTotal, ThresholdTotal};
use differential_dataflow::{Data, VecCollection};
use timely::dataflow::ProbeHandle;
use timely::dataflow::Scope;

use super::run;
use crate::harness::slots::histogram;
use crate::measure::cpu_time;
use crate::tables::{Digest, Outcome, Record, Schedule, Sizes, TOP, Work, region_of};

/// Which operators are used, where differential dataflow has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// Those for times that are totally ordered: `count_total`, `threshold_total`.
    Total,
    /// `reduce`.
    Reduce,
}

/// The newest record of each id.
type Newest = hashbrown::HashMap<u64, (u64, u64), foldhash::fast::FixedState>;
type Rows<'s, D> = VecCollection<'s, u64, D, isize>;

/// Runs the work with one worker.
#[must_use]
pub fn tables(schedule: &Arc<Schedule>, operators: Operators) -> Outcome {
    let begun = Instant::now();
    let schedule = Arc::clone(schedule);
    let logic = move |worker: &mut timely::worker::Worker| {
        let probe = ProbeHandle::new();
        let answer = Rc::new(Cell::new(0u64));
        let (mut records, mut others) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, records) = scope.new_collection::<Record, isize>();
            let others = dataflow(scope, records, &schedule, operators, Rc::clone(&answer), &probe);
            (input, others)
        });
        others.fill(schedule.sizes);
        let mut rows = Newest::default();
        let (mut load, mut latencies) = (Duration::ZERO, histogram());
        let (mut measuring, mut cpu) = (Instant::now(), Duration::ZERO);
        for round in 0..schedule.ends.len() {
            let sent = Instant::now();
            if round == 1 + schedule.sizes.warmup as usize {
                (measuring, cpu) = (sent, cpu_time().unwrap_or_default());
            }
            replace(&mut rows, schedule.batch(round), &mut records);
            records.advance_to(round as u64 + 1);
            records.flush();
            others.advance_to(round as u64 + 1);
            worker.step_while(|| probe.less_than(records.time()));
            if round == 0 {
                load = begun.elapsed();
            } else if round > schedule.sizes.warmup as usize {
                latencies.saturating_record(sent.elapsed().as_nanos() as u64);
            }
        }
        let elapsed = measuring.elapsed();
        let cpu = cpu_time().unwrap_or_default().saturating_sub(cpu);
        Outcome { elapsed, cpu, load, latencies, answer: answer.get() }
    };
    run(1, None, logic).into_iter().next().expect("there is one worker")
}

/// Passes on what changes.
fn replace(rows: &mut Newest, batch: &[Record], to: &mut InputSession<u64, Record, isize>) {
    for record in batch {
        if let Some((first, second)) = rows.insert(record.0, (record.1, record.2)) {
            to.update((record.0, first, second), -1);
        }
        to.update(*record, 1);
    }
}

fn dataflow<'s>(
    scope: Scope<'s, u64>,
    records: Rows<'s, Record>,
    schedule: &Schedule,
    operators: Operators,
    answer: Rc<Cell<u64>>,
    probe: &ProbeHandle<u64>,
) -> Others {
    let sizes = schedule.sizes;
    let mut others = Others { customers: InputSession::new(), names: InputSession::new() };
    let (customers, names) = (others.customers.to_collection(scope), others.names.to_collection(scope));
    match (schedule.work, operators) {
        (Work::Count, Operators::Total) => {
            let counts = records.map(|record| record.1).count_total();
            seen(counts.map(|(group, count)| (group, count as u64)), answer, probe);
        }
        (Work::Count, Operators::Reduce) => {
            let counts = records.map(|record| record.1).count();
            seen(counts.map(|(group, count)| (group, count as u64)), answer, probe);
        }
        (Work::Distinct, Operators::Total) => {
            seen(records.map(|record| record.1).distinct_total().map(|it| (it, ())), answer, probe);
        }
        (Work::Distinct, Operators::Reduce) => {
            seen(records.map(|record| record.1).distinct().map(|it| (it, ())), answer, probe);
        }
        (Work::Join, _) => {
            let joined = records
                .map(|(order, customer, amount)| (customer, (order, amount)))
                .join_map(customers, |customer, order, region| (*region, (*customer, *order)))
                .join_map(names, |region, (customer, (order, amount)), ()| {
                    (*order, (*amount, (*customer, *region)))
                });
            seen(joined, answer, probe);
        }
        (Work::Top(size), _) => {
            let groups = (sizes.rows / size).max(1);
            let top = records.map(move |(id, number, _)| (id % groups, (number, id)));
            // The greatest come last.
            let top = top.reduce(|_, rows, out| {
                out.extend(rows.iter().rev().take(TOP).rev().map(|(row, copies)| (**row, *copies)));
            });
            seen(top, answer, probe);
        }
        (Work::Sum, _) => seen(sums(records.map(|(_, customer, amount)| (customer, amount))), answer, probe),
        (Work::Deep, _) => {
            let by_customer = sums(records.map(|(_, customer, amount)| (customer, amount)));
            let by_region = by_customer.join_map(customers, |_, sum, region| (*region, *sum));
            seen(sums(by_region), answer, probe);
        }
    }
    others
}

/// The inputs that do not change, but could.
struct Others {
    customers: InputSession<u64, (u64, u64), isize>,
    names: InputSession<u64, (u64, ()), isize>,
}

impl Others {
    /// Not while the dataflow is built: timely would not count the messages.
    fn fill(&mut self, sizes: Sizes) {
        let regions = sizes.regions();
        (0..sizes.customers()).for_each(|it| self.customers.insert((it, region_of(it, regions))));
        (0..regions).for_each(|it| self.names.insert((it, ())));
    }

    fn advance_to(&mut self, time: u64) {
        self.customers.advance_to(time);
        self.customers.flush();
        self.names.advance_to(time);
        self.names.flush();
    }
}

/// Sums as part of the differences: an expert's choice, which keeps no rows.
fn sums<'s>(rows: Rows<'s, (u64, u64)>) -> Rows<'s, (u64, u64)> {
    let sums = rows.explode(|(key, amount)| Some((key, amount as isize))).count_total();
    sums.map(|(key, sum)| (key, sum as u64))
}

/// The results of a program: adds up their digests.
fn seen<D: Data + Digest>(rows: Rows<'_, D>, answer: Rc<Cell<u64>>, probe: &ProbeHandle<u64>) {
    let seen = rows.inspect(move |(row, _, diff)| {
        answer.set(answer.get().wrapping_add(row.digest().wrapping_mul(*diff as u64)));
    });
    seen.probe_with(probe);
}
