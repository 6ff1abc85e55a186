//! What is refused of options, before anything runs.

use std::time::Duration;

use tidemill_operators::top_keys::COUNTERS;
use tidemill_operators::{KeyGroups, Mode};

use super::{MAX_AHEAD, Options, RETAIN, Restart, Trigger};
use crate::error::RunError;
use crate::pinning;

/// What a worker must be able to hold: less would go to the disk row by row.
const LEAST_STATE_MEMORY: u64 = 64 << 10;

impl Options {
    pub(crate) fn check(&self) -> Result<(), RunError> {
        let refuse = |option, problem: &str| Err(RunError::Options { option, problem: problem.to_owned() });
        if self.workers == 0 {
            return refuse("--workers", "must be at least 1 (got 0)");
        }
        if let Some(groups) = self.key_groups.filter(|groups| KeyGroups::new(*groups).is_none()) {
            let problem = format!("must be a power of two, at most {} (got {groups})", KeyGroups::MOST);
            return Err(RunError::Options { option: "--key-groups", problem });
        }
        self.check_async_threads()?;
        self.check_backpressure()?;
        if self.pin {
            pinning::check()?;
        }
        if self.max_in_flight == 0 {
            return refuse("--max-in-flight", "must be at least 1 (got 0)");
        }
        if self.max_queued == 0 {
            return refuse("--max-queued", "must be at least 1: workers exchange records through this queue");
        }
        if self.max_records_per_epoch == Some(0) {
            return refuse(
                "--max-records-per-epoch",
                "must be at least 1 (got 0); leave it out for no limit",
            );
        }
        if self.checkpoint_interval.is_zero() {
            return refuse("--checkpoint-interval", "must be greater than zero (got 0s)");
        }
        if self.state_memory.is_some_and(|bytes| bytes / (self.workers as u64) < LEAST_STATE_MEMORY) {
            return refuse(
                "--state-memory",
                "each worker needs at least 64KiB; give more, or use fewer workers",
            );
        }
        if self.spill_dir.is_some() && self.state_memory.is_none() {
            return refuse("--spill-dir", "needs --state-memory: without a limit no rows are spilled");
        }
        if matches!(self.trigger, Trigger::Every(d) if d < Duration::from_micros(1)) {
            return refuse("--trigger", "an interval must be at least 1us; `asap` starts each epoch at once");
        }
        if let (Mode::Continuous, Trigger::Every(interval)) = (self.mode, self.trigger) {
            return Err(RunError::Options {
                option: "--trigger",
                problem: format!(
                    "an interval is for micro-batch, and in continuous mode no record waits for one. Leave it out; to \
                     commit at this interval, use --checkpoint-interval {interval:?}; to process records at this \
                     interval, use --mode micro-batch"
                ),
            });
        }
        if self.top_keys > COUNTERS {
            let problem =
                format!("must be at most {COUNTERS}, the keys that are counted (got {})", self.top_keys);
            return Err(RunError::Options { option: "--top-keys", problem });
        }
        if self.retain == 0 {
            return refuse("--retain", "must be at least 1 (got 0): the last epoch is needed to resume");
        }
        if self.table_epochs == 0 {
            return refuse(
                "--table-epochs",
                "must be at least 1 (got 0): reads see the last committed epoch",
            );
        }
        if self.from_savepoint.is_some() && self.checkpoint.is_none() {
            return refuse(
                "--from-savepoint",
                "needs --checkpoint DIR: the directory into which the savepoint is copied",
            );
        }
        Ok(())
    }

    /// Refuses more workers than key groups: some would hold no key.
    pub(crate) fn check_workers(&self, groups: KeyGroups) -> Result<(), RunError> {
        if self.workers <= usize::from(groups.count()) {
            return Ok(());
        }
        let problem = format!(
            "{} workers need at least as many key groups, and there are {groups}: use at most {groups} workers, or \
             --key-groups {} with a new checkpoint (an existing one keeps its number)",
            self.workers,
            self.workers.next_power_of_two()
        );
        Err(RunError::Options { option: "--workers", problem })
    }

    /// Refuses another number of key groups than the checkpoint has, and more workers.
    pub(crate) fn check_recorded(&self, recorded: KeyGroups) -> Result<(), RunError> {
        match self.key_groups {
            Some(asked) if asked != recorded.count() => Err(RunError::Options {
                option: "--key-groups",
                problem: format!(
                    "the checkpoint was created with {recorded} key groups, and its state cannot be divided into \
                     {asked}: leave the option out to resume with {recorded}, or use a new checkpoint for {asked}"
                ),
            }),
            _ => self.check_workers(recorded),
        }
    }

    /// Refuses what means nothing in a query without a checkpoint, as far as it can be told from what is so anyway.
    pub(crate) fn check_without_checkpoint(&self) -> Result<(), RunError> {
        let useless = [
            (self.restart != Restart::Never, "--restart", "there is nothing to resume from"),
            (self.retain != RETAIN, "--retain", "no epochs are kept"),
            (!self.drop_state.is_empty(), "--drop-state", "there is no state of an earlier run to drop"),
            (self.take_over, "--take-over", "an output belongs to no query"),
            (self.allow_loss, "--allow-loss", "each run starts from the beginning, whatever its sources"),
        ];
        match useless.iter().find(|(given, ..)| *given) {
            None => Ok(()),
            Some((_, option, why)) => {
                Err(RunError::Options { option, problem: format!("needs --checkpoint: without one {why}") })
            }
        }
    }

    /// What was asked for and has no effect in the mode, in words.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        let records = self.mode == Mode::Continuous && self.max_records_per_epoch.is_some();
        let records =
            records.then_some("--max-records-per-epoch is for micro-batch: here epochs end by time");
        let ahead = self.mode == Mode::MicroBatch && self.max_ahead != MAX_AHEAD;
        let ahead = ahead.then_some(
            "--max-ahead is for continuous mode: here each epoch reads equally many records of each partition",
        );
        records.into_iter().chain(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_state_memory_is_refused() {
        let options = Options::default().with_workers(2).with_state_memory(100_000);
        assert!(options.check().unwrap_err().to_string().starts_with("--state-memory: "));
    }

    #[test]
    fn a_limit_for_the_other_mode_is_told() {
        let options = Options::default().with_max_records_per_epoch(10);
        assert_eq!(options.without_effect().count(), 0);
        assert_eq!(options.with_mode(Mode::Continuous).without_effect().count(), 1);
        let options = Options::default().with_max_ahead(10);
        assert_eq!(options.without_effect().count(), 1);
        assert_eq!(options.with_mode(Mode::Continuous).without_effect().count(), 0);
    }

    #[test]
    fn interval_in_continuous_mode_is_refused_with_advice() {
        let every = Options::default().with_trigger(Trigger::Every(Duration::from_millis(250)));
        every.check().unwrap();
        let refused = every.with_mode(Mode::Continuous).check().unwrap_err().to_string();
        for words in ["--trigger: ", "--checkpoint-interval 250ms", "--mode micro-batch"] {
            assert!(refused.contains(words), "{refused}");
        }
        // These end a run in either mode, and `asap` is what continuous mode does.
        for trigger in [Trigger::Asap, Trigger::AvailableNow, Trigger::Once] {
            Options::default().with_trigger(trigger).with_mode(Mode::Continuous).check().unwrap();
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn command_line_with_continuous_and_interval_is_refused() {
        use clap::Parser;

        #[derive(Parser)]
        struct Arguments {
            #[command(flatten)]
            options: Options,
        }

        let refused = |arguments: &[&str]| {
            let parsed =
                Arguments::try_parse_from([&["program", "--mode", "continuous"], arguments].concat());
            parsed.unwrap().options.check().is_err()
        };
        assert!(refused(&["--trigger", "250ms"]));
        for arguments in [&[][..], &["--trigger", "asap"], &["--trigger", "0"], &["--trigger", "once"]] {
            assert!(!refused(arguments), "{arguments:?}");
        }
    }
}
