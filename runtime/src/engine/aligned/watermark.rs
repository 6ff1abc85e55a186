//! The watermark of an operator that is aligned by epoch: which one holds now, with which an epoch is left, which one is derived.

use tidemill_operators::{Epoch, EventTime, Mode};
use timely::progress::frontier::MutableAntichain;

use super::{AlignedOperator, Frontiers, OutputDomain};
use crate::engine::Time;
use crate::ledger::{DomainId, Marks, behind, joined};

impl AlignedOperator {
    /// Continuous: applies the watermark that holds now in the operator's epoch.
    pub(super) fn move_watermark(&mut self, frontiers: &Frontiers) {
        let ends = self.has_come(frontiers);
        let watermark = match &mut self.assigner {
            Some(assigner) => {
                let (watermark, look_again) = assigner.watermark(!self.buffer.is_empty(), ends);
                if let Some(delay) = look_again {
                    self.alarm.after(self.hosted.control.clock.now(), delay);
                }
                Some(watermark)
            }
            None => self.watermark_of_inputs(frontiers),
        };
        if let Some(watermark) = watermark {
            self.apply(watermark);
        }
    }

    /// The watermark of the inputs that have event time. That of one input: the least of records that can still come or
    /// are buffered here, in this epoch or (from a worker that is ahead) in a later one; or, for an input that has brought
    /// all of this epoch, the watermark with which it ended there.
    fn watermark_of_inputs(&self, frontiers: &Frontiers) -> Option<EventTime> {
        let ledger = &self.hosted.control.ledger;
        let of_input = |(domain, frontier): (&Option<DomainId>, &MutableAntichain<Time>)| {
            let domain = (*domain)?;
            let frontier = frontier.frontier();
            let waiting = self.buffer.watermarks().chain(self.held_back.watermarks());
            match frontier.iter().any(|t| t.epoch <= self.epoch.number()) {
                true => {
                    let least = frontier
                        .iter()
                        .map(|t| t.watermark)
                        .chain(waiting)
                        .min()
                        .map(EventTime::from_micros)?;
                    // Rows that were observed before the stream fell idle may still be on their way from another worker:
                    // they hold the frontier below the stream's watermark.
                    let is_idle =
                        self.joins.is_some() && self.buffer.is_empty() && ledger.is_idle_by(domain, least);
                    Some((least, is_idle))
                }
                // Until it is known how the epoch ended there, the watermark stays. Rows that are held back count as not come yet.
                false => {
                    let (ended, is_idle) =
                        self.ends.ended(domain, self.epoch).unwrap_or((self.watermark, false));
                    let held_back = self.held_back.watermarks().map(EventTime::from_micros).min();
                    Some((held_back.map_or(ended, |least| least.min(ended)), is_idle))
                }
            }
        };
        let inputs = self.domains.iter().zip(frontiers).filter_map(of_input);
        match self.joins {
            Some(own) => Some(behind(joined(inputs), own.behind)),
            None => inputs.map(|(watermark, _)| watermark).min(),
        }
    }

    /// Notes with which watermark the worker leaves the epoch (continuous); asks for an epoch when time will have changed
    /// it (micro-batch).
    pub(super) fn leave_watermark(&mut self, epoch: Epoch) {
        let control = &self.hosted.control;
        match (&mut self.assigner, control.mode) {
            (Some(assigner), Mode::MicroBatch) => {
                if let Some(at) = control.ledger.changes_at(assigner.domain) {
                    control.still_requests_epoch_at(at);
                }
            }
            (Some(assigner), Mode::Continuous) => assigner.leave(epoch, self.watermark),
            (None, mode) => match self.joins {
                Some(OutputDomain { domain, is_derived: true, .. }) => {
                    let inputs = Marks::from([((0, 0), self.watermark)]);
                    control.ledger.leave(domain, self.hosted.worker(), epoch, self.derived, inputs);
                }
                Some(joins) if mode == Mode::Continuous => {
                    let worker = self.hosted.worker();
                    control.ledger.leave(joins.domain, worker, epoch, self.watermark, Marks::new());
                }
                _ => {}
            },
        }
    }

    /// Asks the operator for the watermark of its outputs, if it derives one. It does not go back.
    pub(super) fn derive(&mut self) {
        let reported = self.hosted.context.output_watermark().unwrap_or(EventTime::MIN);
        // What has not ended may end later; what has, ends for those below too.
        let derived = if self.watermark == EventTime::MAX { EventTime::MAX } else { reported };
        self.derived = self.derived.max(derived.min(self.watermark));
    }
}
