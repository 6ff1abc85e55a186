//! The command line of checkpoints: what is in one, whether it is whole, what has changed in it.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tidemill_operators::{Epoch, EventTime};
use tidemill_runtime::checkpoint::{CheckpointError, LocalDirectory, Storage};
use tidemill_runtime::inspect;

/// Tools for Tidemill queries.
#[derive(Parser)]
#[command(name = "tidemill", version)]
struct Cli {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// Looks at checkpoints.
    #[command(subcommand)]
    Checkpoint(Command),
}

#[derive(Args)]
struct CheckpointArgs {
    /// The directory of the checkpoint.
    directory: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// The epochs that can be restored.
    List {
        #[command(flatten)]
        checkpoint: CheckpointArgs,
    },
    /// An epoch: offsets, watermarks, state by operator; or the state and the timers of one key.
    Show {
        #[command(flatten)]
        checkpoint: CheckpointArgs,
        /// The epoch; the last one, if none is given.
        #[arg(long)]
        epoch: Option<u64>,
        /// The uid of the operator whose key is shown.
        #[arg(long, requires = "key")]
        operator: Option<String>,
        /// The key, as JSON; text needs no quotes.
        #[arg(long, requires = "operator", allow_hyphen_values = true)]
        key: Option<String>,
    },
    /// Reads everything, and names the first bytes that are not as they were written.
    Verify {
        #[command(flatten)]
        checkpoint: CheckpointArgs,
    },
    /// How many entries of each operator differ between two epochs.
    Diff {
        #[command(flatten)]
        checkpoint: CheckpointArgs,
        /// The earlier epoch.
        earlier: u64,
        /// The later epoch.
        later: u64,
    },
    /// Forgets all epochs but the last ones. The query must not be running.
    Prune {
        #[command(flatten)]
        checkpoint: CheckpointArgs,
        /// How many epochs to keep, at least one.
        #[arg(long)]
        keep: NonZeroUsize,
    },
}

fn main() -> ExitCode {
    let Tool::Checkpoint(command) = Cli::parse().tool;
    match run(command) {
        Ok(text) => {
            // Its reader, such as `head`, may close the pipe before the end.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<String, CheckpointError> {
    let open = |checkpoint: &CheckpointArgs| LocalDirectory::existing(&checkpoint.directory);
    match command {
        Command::List { checkpoint } => said(&checkpoint, &inspect::list(&open(&checkpoint)?)?, overview),
        Command::Show { checkpoint, epoch, operator: Some(operator), key: Some(key) } => {
            let state = inspect::of_key(&open(&checkpoint)?, epoch.map(Epoch::new), &operator, &key)?;
            said(&checkpoint, &state, ToString::to_string)
        }
        Command::Show { checkpoint, epoch, .. } => {
            said(&checkpoint, &inspect::show(&open(&checkpoint)?, epoch.map(Epoch::new))?, epoch_text)
        }
        Command::Verify { checkpoint } => {
            said(&checkpoint, &inspect::verify(&open(&checkpoint)?)?, |verified| {
                let (epochs, files, bytes) = (verified.epochs.len(), verified.files, verified.bytes);
                let logs = match verified.logs {
                    0 => String::new(),
                    logs => format!(", {logs} logs of sources"),
                };
                format!("{epochs} epochs, {files} files of state, {bytes} bytes{logs}: all intact")
            })
        }
        Command::Diff { checkpoint, earlier, later } => {
            let differences = inspect::diff(&open(&checkpoint)?, Epoch::new(earlier), Epoch::new(later))?;
            said(&checkpoint, &differences, |differences| {
                let row = |(uid, d): (&String, &inspect::OperatorDifference)| {
                    format!("{uid}: {} added, {} changed, {} removed", d.added, d.changed, d.removed)
                };
                differences.iter().map(row).collect::<Vec<_>>().join("\n")
            })
        }
        Command::Prune { checkpoint, keep } => {
            let storage: Arc<dyn Storage> = Arc::new(open(&checkpoint)?);
            said(&checkpoint, &inspect::prune(&storage, keep.get())?, overview)
        }
    }
}

fn said<T: Serialize>(
    checkpoint: &CheckpointArgs,
    what: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<String, CheckpointError> {
    if checkpoint.json {
        return serde_json::to_string_pretty(what)
            .map_err(|error| CheckpointError::Io { what: "cannot print".to_owned(), error: error.into() });
    }
    Ok(text(what))
}

fn overview(overview: &inspect::Overview) -> String {
    let mut lines = vec![format!(
        "query `{}`, execution {}, {} key groups",
        overview.query, overview.execution, overview.key_groups
    )];
    lines.extend(overview.epochs.iter().map(epoch_line));
    lines.extend(overview.planned.iter().map(|epoch| format!("epoch {epoch}: planned")));
    lines.join("\n")
}

fn epoch_line(epoch: &inspect::EpochOverview) -> String {
    // Processing times print as event times do: both are microseconds since 1970.
    let at = EventTime::from_micros(epoch.committed_at.as_micros());
    let inspect::EpochOverview { epoch, mode, workers, files, bytes, execution, .. } = epoch;
    format!(
        "epoch {epoch}: committed {at} by execution {execution}, {mode}, {workers} workers, {bytes} bytes in {files} files"
    )
}

fn epoch_text(details: &inspect::EpochDetails) -> String {
    let mut lines = vec![epoch_line(&details.overview), format!("fingerprint {}", details.fingerprint)];
    for (uid, offsets) in &details.offsets {
        lines.extend(
            offsets.iter().enumerate().map(|(n, offset)| format!("source {uid}, partition {n}: {offset}")),
        );
    }
    lines.extend(details.watermarks.iter().map(|(uid, watermark)| format!("watermark {uid}: {watermark}")));
    for (uid, operator) in &details.operators {
        let inspect::OperatorDetails { label, location, entries, bytes, rows, .. } = operator;
        let holds = match bytes {
            0 if *rows > 0 => format!("{rows} entries in states with names"),
            _ => format!("{entries} entries, {bytes} bytes"),
        };
        lines.push(format!("state {uid} ({label}, {location}): {holds}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn key_needs_its_operator_and_may_be_negative() {
        let show = |rest: &[&str]| {
            let all = ["tidemill", "checkpoint", "show", "here"].iter().chain(rest);
            Cli::try_parse_from(all).map(|cli| cli.tool)
        };
        assert!(show(&["--key", "7"]).is_err() && show(&["--operator", "it"]).is_err());
        let Ok(Tool::Checkpoint(Command::Show { operator, key, .. })) =
            show(&["--operator", "it", "--key", "-7"])
        else {
            panic!("it is refused");
        };
        assert_eq!((operator.as_deref(), key.as_deref()), (Some("it"), Some("-7")));
    }

    #[test]
    fn a_directory_without_a_checkpoint_is_said_to_be_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        for tool in ["list", "show", "verify"] {
            let Tool::Checkpoint(command) = Cli::parse_from(["tidemill", "checkpoint", tool, &path]).tool;
            let error = run(command).unwrap_err().to_string();
            assert!(error.ends_with("there is no checkpoint here"), "{error}");
        }
    }
}
