//! What travels with a batch from its source to the operators that assign watermarks (continuous mode).
//!
//! A source announces a batch to the ledger before it sends it, and the ticket goes with the batch: through steps, which
//! pass it on to whatever they make of the batch, over exchanges, and into the buffer of an operator that is still in an
//! earlier epoch. When all copies are gone, all that became of the batch has been observed, or dropped by a filter.

use std::sync::Arc;

use crate::control::Control;
use crate::ledger::{Announced, DomainId, Place};

pub(crate) struct Ticket {
    control: Arc<Control>,
    domains: Arc<[DomainId]>,
    origin: u32,
    place: Place,
    /// The domain that knows already.
    retired: Option<DomainId>,
}

impl Ticket {
    /// Announces a batch of a partition, read from a slice of that rank.
    pub(crate) fn announce(
        control: &Arc<Control>,
        domains: &Arc<[DomainId]>,
        origin: u32,
        rank: u64,
    ) -> Arc<Ticket> {
        let place = (rank, control.next_announcement());
        for domain in domains.iter() {
            control.ledger.announce(*domain, origin, place);
        }
        let (control, domains) = (Arc::clone(control), Arc::clone(domains));
        Arc::new(Ticket { control, domains, origin, place, retired: None })
    }
}

impl Announced for Ticket {
    fn origin(&self) -> u32 {
        self.origin
    }

    fn place(&self) -> Place {
        self.place
    }

    fn retired(&mut self, domain: DomainId) {
        self.retired = Some(domain);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        for domain in self.domains.iter().filter(|domain| self.retired != Some(**domain)) {
            if self.control.ledger.retire(*domain, self.origin, self.place) {
                self.control.wakers.wake_assigners(*domain, usize::MAX);
            }
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("origin", &self.origin)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
