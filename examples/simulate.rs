//! A graph with a sink of your own, simulated: several workers, crashes, full disks, restarts in any order.
//!
//! ```sh
//! cargo run --release --example simulate
//! ```
//!
//! The sink adds payments to the balances of a bank that is elsewhere. There are two of it. The first adds whatever it is
//! given: right in every run that ends in order, and wrong after a crash at one moment, when the transaction is safe in
//! the bank, and the checkpoint does not know yet. A test that kills the query hits that moment seldom, and cannot do it again.
//! The simulation finds a seed, makes it smaller and says how to replay it. The second sink notes the epoch in the same
//! transaction, and passes all seeds.
//!
//! In a crate of your own, each of the two calls of [`simulate`] would be a `#[test]`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill::prelude::*;
use tidemill::testing::simulate::{Breach, Life, Scenario, SimSource, Simulation, World, point, simulate};
use tidemill::{Prepared, Sink, SinkError, Summary};

/// The customer, and what is paid.
type Payment = (u8, f64);

/// What outlives the process of the query: an ordinary value, since the simulated process only pretends to die.
#[derive(Default)]
struct Bank {
    balances: BTreeMap<u8, f64>,
    /// The epochs that have been booked.
    booked: BTreeSet<Epoch>,
}

/// Books payments, an epoch in a transaction.
struct Booking {
    bank: Arc<Mutex<Bank>>,
    life: Life,
    notes_epochs: bool,
    pending: BTreeMap<Epoch, Vec<Payment>>,
}

impl Booking {
    fn transaction(&self, epoch: Epoch, payments: &[Payment]) -> Result<(), SinkError> {
        // Other threads may run here, and the process may die.
        point("before the transaction");
        if !self.life.is_alive() {
            return Err(SinkError::Closed("the bank".to_owned()));
        }
        let mut bank = lock(&self.bank);
        if !self.notes_epochs || bank.booked.insert(epoch) {
            for (customer, amount) in payments {
                *bank.balances.entry(*customer).or_default() += amount;
            }
        }
        drop(bank);
        point("after the transaction");
        Ok(())
    }
}

impl Sink<Payment> for Booking {
    fn write(&mut self, epoch: Epoch, payments: &mut Vec<Payment>) -> Result<(), SinkError> {
        self.pending.entry(epoch).or_default().append(payments);
        Ok(())
    }

    // Before the checkpoint records the epoch. After a crash it is given again unless it has been recorded.
    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared, SinkError> {
        let payments = self.pending.remove(&epoch).unwrap_or_default();
        self.transaction(epoch, &payments)?;
        Ok(Prepared::nothing())
    }

    fn commit(&mut self, _epoch: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The graph, its input, and what must come of it.
struct Payments {
    payments: SimSource<Payment>,
    wanted: BTreeMap<u8, f64>,
    bank: Arc<Mutex<Bank>>,
    life: Life,
    notes_epochs: bool,
}

impl Payments {
    /// What the seed decides of the input is asked of the world.
    fn new(world: &mut World, notes_epochs: bool) -> Payments {
        let mut wanted = BTreeMap::new();
        let mut partition = |world: &mut World| -> Vec<Payment> {
            let payments = (0..world.rows(30)).map(|n| (world.choose(3) as u8, 1.0 + n as f64)).collect();
            for (customer, amount) in &payments as &Vec<Payment> {
                *wanted.entry(*customer).or_default() += amount;
            }
            payments
        };
        let partitions = vec![partition(world), partition(world)];
        let (payments, life) = (world.source(partitions), world.life());
        Payments { payments, wanted, bank: Arc::default(), life, notes_epochs }
    }
}

impl Scenario for Payments {
    fn graph(&self) -> Graph {
        let graph = Graph::new("payments");
        let payments = graph.source(self.payments.clone()).uid("payments");
        payments.filter(|(_, amount)| *amount > 0.0).sink(Booking {
            bank: Arc::clone(&self.bank),
            life: self.life.clone(),
            notes_epochs: self.notes_epochs,
            pending: BTreeMap::new(),
        });
        graph
    }

    fn check(&self, _: Option<&Summary>, is_last: bool) -> Result<(), Breach> {
        let (balances, wanted) = (&lock(&self.bank).balances, &self.wanted);
        // Between two runs some payments may lack. None may be there twice, ever.
        for (customer, balance) in balances {
            if *balance > wanted.get(customer).copied().unwrap_or_default() {
                let what = format!("customer {customer} has {balance}: {balances:?} instead of {wanted:?}");
                return Err(Breach::new("no payment twice", what));
            }
        }
        if is_last && balances != wanted {
            return Err(Breach::new("all payments", format!("{balances:?} instead of {wanted:?}")));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // An epoch that is given again has the same rows in micro-batch only.
    let seeds = || Simulation::new(0..300).with_mode(Mode::MicroBatch);

    let found = simulate(seeds(), |world| Payments::new(world, false));
    let violation = found.err().ok_or("no seed finds the payments that are booked twice")?;
    println!("the sink that does not note epochs:\n{violation}\n");
    if violation.invariant != "no payment twice" {
        return Err("the simulation has found something else".into());
    }

    let report = simulate(seeds(), |world| Payments::new(world, true))?;
    println!(
        "the sink that does: {} seeds, {} runs, {} crashes, {} faults: every payment is booked once",
        report.seeds, report.runs, report.crashes, report.faults
    );
    if report.crashes == 0 || report.faults == 0 {
        return Err("these seeds show nothing".into());
    }
    Ok(())
}

fn lock(bank: &Mutex<Bank>) -> MutexGuard<'_, Bank> {
    bank.lock().unwrap_or_else(PoisonError::into_inner)
}
