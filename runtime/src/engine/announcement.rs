//! What travels with a batch from its source to the operators that assign watermarks (continuous mode).
//!
//! A source announces a batch to the ledger before it sends it, and the announcement goes with the batch: through steps, which
//! pass it on to whatever they make of the batch, over exchanges, and into the buffer of an operator that is still in an
//! earlier epoch. When all copies are gone, all that became of the batch has been observed, or dropped by a filter.

use std::sync::Arc;

use crate::control::Control;
use crate::ledger::{Announced, DomainId, Position};

pub(crate) struct Announcement {
    control: Arc<Control>,
    domains: Arc<[DomainId]>,
    origin: u32,
    position: Position,
    /// The domain that knows already.
    retired: Option<DomainId>,
}

impl Announcement {
    /// Announces a batch of a partition, read from a slice of that rank.
    pub(crate) fn announce(
        control: &Arc<Control>,
        domains: &Arc<[DomainId]>,
        origin: u32,
        rank: u64,
    ) -> Arc<Announcement> {
        let position = (rank, control.next_announcement());
        for domain in domains.iter() {
            control.ledger.announce(*domain, origin, position);
        }
        let (control, domains) = (Arc::clone(control), Arc::clone(domains));
        Arc::new(Announcement { control, domains, origin, position, retired: None })
    }
}

impl Announced for Announcement {
    fn origin(&self) -> u32 {
        self.origin
    }

    fn position(&self) -> Position {
        self.position
    }

    fn retired(&mut self, domain: DomainId) {
        self.retired = Some(domain);
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        for domain in self.domains.iter().filter(|domain| self.retired != Some(**domain)) {
            if self.control.ledger.retire(*domain, self.origin, self.position) {
                self.control.wakers.wake_assigners(*domain, usize::MAX);
            }
        }
    }
}

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcement")
            .field("origin", &self.origin)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
