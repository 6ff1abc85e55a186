//! Plans epochs (micro-batch): how far each partition is read, and which partitions there are.

use std::collections::BTreeMap;

use tidemill_operators::graph::NodeId;
use tidemill_operators::{ErasedOffset, PlanLimits, ProcessingTime};

use super::flight::Flight;
use super::{Driver, source_error};
use crate::control::EpochPlan;
use crate::error::RunError;
use crate::options::Trigger;
use crate::user_code::code_of;

impl Driver {
    /// Has the sources look for new partitions whose time has come; returns whether one has found any.
    pub(super) fn discover(&mut self, now: ProcessingTime) -> Result<bool, RunError> {
        let mut found = false;
        for planned in &mut self.sources {
            found |= code_of(planned.node, || planned.discover(now))
                .map_err(|error| source_error(&self.layout, planned.node, error))?;
        }
        Ok(found)
    }

    /// Plans an epoch if there is something to read; returns when it was done.
    pub(super) fn plan(
        &mut self,
        now: ProcessingTime,
        wanted: bool,
    ) -> Result<Option<ProcessingTime>, RunError> {
        let whole = self.options.trigger == Trigger::Once;
        let enough = if whole { PlanLimits::ENOUGH } else { self.pace.enough() };
        let limits = PlanLimits::new(self.max_records(), now).with_enough(enough).whole(whole);
        if let Some(plan) =
            self.coordinator.as_mut().and_then(|coordinator| coordinator.planned(self.next, &self.layout))
        {
            return self.repeat(plan, now, &limits).map(Some);
        }
        if std::mem::take(&mut self.loads_first) {
            let nothing = self.sources.iter_mut().map(|planned| {
                planned.take_in_all();
                (planned.node, planned.from.clone())
            });
            let nothing = nothing.collect();
            let planned = self.plan_to(nothing, now)?;
            self.has_loaded_only = true;
            return Ok(Some(planned));
        }
        self.discover(now)?;
        let mut ends = BTreeMap::new();
        let (mut news, mut asks) = (wanted || (self.options.trigger == Trigger::Once), false);
        for planned in &mut self.sources {
            news |= planned.take_in_all();
            let limits = planned.limits(&limits);
            let source_ends = code_of(planned.node, || planned.latest(&limits))
                .map_err(|error| source_error(&self.layout, planned.node, error))?;
            news |= source_ends != planned.from;
            ends.insert(planned.node, source_ends);
        }
        for planned in self.sources.iter_mut().filter(|planned| !news && planned.may_be_at_end()) {
            planned.asked_for_end = Some(planned.from.clone());
            asks = true;
        }
        if !news && !asks {
            return Ok(None);
        }
        let planned = self.plan_to(ends, now)?;
        self.has_loaded_only = false;
        Ok(Some(planned))
    }

    /// Plans an epoch that reads up to these positions.
    fn plan_to(
        &mut self,
        ends: BTreeMap<NodeId, Vec<ErasedOffset>>,
        now: ProcessingTime,
    ) -> Result<ProcessingTime, RunError> {
        let begins_run = !std::mem::replace(&mut self.has_planned, true);
        let ended = self.sources.iter().map(|planned| (planned.node, planned.ended_partitions()));
        let ended = ended.filter(|(_, partitions)| !partitions.is_empty()).collect();
        let plan = EpochPlan { epoch: self.next, now, ends, begins_run, ended };
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.plan(&plan, &self.sources, &self.layout, &self.control)?;
        }
        Ok(self.publish(plan, now))
    }

    /// Repeats an epoch that the last run planned, with the partitions that took part in it.
    fn repeat(
        &mut self,
        mut plan: EpochPlan,
        now: ProcessingTime,
        limits: &PlanLimits,
    ) -> Result<ProcessingTime, RunError> {
        for planned in &mut self.sources {
            let known = code_of(planned.node, || planned.source.refresh(limits));
            known.map_err(|error| source_error(&self.layout, planned.node, error))?;
            let ends = plan.ends.entry(planned.node).or_default();
            planned.take_in(ends.len());
            // A source that is new since then takes no part yet.
            ends.extend(planned.from.iter().skip(ends.len()).cloned());
            // The source learns how far the plan goes: what it offers next is beyond that, whatever the limits are now.
            planned.learn(ends, limits, &self.layout)?;
        }
        Ok(self.publish(plan, now))
    }

    /// Has an epoch read; returns when it was planned.
    fn publish(&mut self, plan: EpochPlan, now: ProcessingTime) -> ProcessingTime {
        for planned in &mut self.sources {
            planned.join(plan.epoch, &self.control);
            if let Some(ends) = plan.ends.get(&planned.node) {
                planned.from.clone_from(ends);
            }
        }
        let mut flight = Flight::new(now);
        let done = self.control.clock.now();
        flight.planned = done;
        flight.enough = self.pace.enough();
        if self.last_commit > self.due {
            flight.behind = now.since(self.due);
        }
        self.flights.insert(plan.epoch, flight);
        self.read = false;
        self.next = self.control.after(plan.epoch);
        self.planned = Some(plan.epoch);
        self.set_due(now);
        self.control.publish(plan);
        done
    }
}
